#!/usr/bin/env python3
"""The backend mirror: legs that die and come back, and servers that are killed.

Verifiers work all the while; every byte they read is checked, and at the end every byte
of every leg.
"""

import contextlib
import json
import pathlib
import shutil
import signal
import struct
import tempfile
import unittest

import hostile
from hostile import MIB, Server, wait_until
from nbdwire import Err
from remote import Remote, pause
from verifier import Verifier

BLOCKS = 1500
SIZE = 2 * BLOCKS * 4096            # of a leg; one half for each verifier
REGION = 65536
BLOCK, BITS = 512, 4032             # of the bitmap's file
LEG = "nbd socket={} retry=0 retry-pause=20 retry-pause-max=100 connect-timeout=2"


def named_regions(path):
    """What the file of a bitmap says may differ."""
    data = path.read_bytes()
    size, region = struct.unpack_from("<QQ", data, 8)
    for number in range((size + region - 1) // region):
        at = BLOCK * (1 + number // BITS) + number % BITS // 8
        if data[at] >> number % 8 & 1:
            yield number


class MirrorCase(unittest.TestCase):

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="nbdr-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.legs = [self.directory / f"leg{number}" for number in range(3)]
        for leg in self.legs:
            with leg.open("wb") as file:
                file.truncate(SIZE)
        self.bitmap = self.directory / "bitmap"
        self.status_file = self.directory / "status"

    def mirror(self, *legs, **parameters):
        parameters = {"bitmap": self.bitmap, "status": self.status_file, "region": REGION,
                      "probe": 1, "quiet": 1, "assume-same": "true"} | parameters
        return Server("mirror", *(f"leg={leg}" for leg in legs),
                      *(f"{name.replace('_', '-')}={value}"
                        for name, value in parameters.items()), options=["-t", "2"])

    def verify(self, server, tolerate=()):
        return [Verifier(server.connect, seed, BLOCKS, first=seed * BLOCKS, tolerate=tolerate)
                for seed in range(2)]

    def status(self):
        return json.loads(self.status_file.read_text())

    def wait_for_states(self, *states):
        wait_until(lambda: [leg["state"] for leg in self.status()["legs"]] == list(states),
                   f"legs to be {states}")

    def wait_until_same(self):
        wait_until(lambda: all(leg["state"] == "in" and leg["stale"] == 0
                               for leg in self.status()["legs"]), "legs to be the same")

    def check_legs(self, verifiers, legs):
        first = legs[0].read_bytes()
        for leg in legs:
            self.assertTrue(leg.read_bytes() == first, f"{leg} differs from the first")
            for verifier in verifiers:
                verifier.check_file(leg)


class Legs(MirrorCase):

    def test_a_leg_that_is_killed_and_started_again(self):
        """Clients notice nothing; what the leg has missed it gets."""
        socket = self.directory / "remote"
        with Remote(socket, "file", self.legs[1]) as remote, \
                self.mirror(f"file {self.legs[0]}", LEG.format(socket)) as server:
            verifiers = [verifier.start() for verifier in self.verify(server)]
            for _ in range(3):
                for verifier in verifiers:
                    verifier.go_on(300)
                remote.kill()
                for verifier in verifiers:
                    verifier.go_on(300)
                self.wait_for_states("in", "out")
                remote.start()
                for verifier in verifiers:
                    verifier.go_on(300)
                self.wait_for_states("in", "in")
            for verifier in verifiers:
                verifier.stop()
                self.assertEqual(verifier.reconnects, 0)
                self.assertFalse(verifier.errors)
            with server.connect() as client:
                client.negotiate()
                self.wait_until_same()
        self.check_legs(verifiers, self.legs[:2])

    def test_first_leg_is_killed_with_three(self):
        """Also the one that is copied from otherwise."""
        socket = self.directory / "remote"
        with Remote(socket, "file", self.legs[0]) as remote, \
                self.mirror(LEG.format(socket), f"file {self.legs[1]}",
                            f"file {self.legs[2]}", min_legs=2) as server:
            verifiers = [verifier.start() for verifier in self.verify(server)]
            for verifier in verifiers:
                verifier.go_on(300)
            remote.kill()
            for verifier in verifiers:
                verifier.go_on(500)
            self.wait_for_states("out", "in", "in")
            remote.start()
            self.wait_for_states("in", "in", "in")
            for verifier in verifiers:
                verifier.go_on(300)
                verifier.stop()
                self.assertFalse(verifier.errors)
            with server.connect() as client:
                client.negotiate()
                self.wait_until_same()
        self.check_legs(verifiers, self.legs)

    def test_a_leg_that_appears_after_the_start(self):
        """The mirror starts without it; when it comes it gets what it has missed."""
        socket = self.directory / "remote"
        remote = Remote(socket, "file", self.legs[1])
        self.addCleanup(remote.kill)
        for turn in range(2):
            with self.mirror(f"file {self.legs[0]}", LEG.format(socket)) as server:
                self.assertIn("the mirror starts without it", server.stderr())
                verifiers = [verifier.start() for verifier in self.verify(server)]
                for verifier in verifiers:
                    verifier.go_on(100)
                self.wait_for_states("in", "absent")
                remote.start()
                for verifier in verifiers:
                    verifier.go_on(300)
                self.wait_for_states("in", "in")
                for verifier in verifiers:
                    verifier.go_on(100)
                    verifier.stop()
                    self.assertEqual(verifier.reconnects, 0)
                    self.assertFalse(verifier.errors)
                with server.connect() as client:
                    client.negotiate()
                    self.wait_until_same()
            remote.kill()
            self.check_legs(verifiers, self.legs[:2])
            if turn == 0:
                # Zeroes are what verifiers begin with.
                for leg in self.legs[:2]:
                    leg.write_bytes(bytes(SIZE))

    def test_all_legs_are_killed(self):
        """Clients get EIO, and nothing that was acknowledged is lost."""
        sockets = [self.directory / f"remote{number}" for number in range(2)]
        with contextlib.ExitStack() as stack:
            remotes = [stack.enter_context(Remote(socket, "file", leg))
                       for socket, leg in zip(sockets, self.legs)]
            server = stack.enter_context(self.mirror(*map(LEG.format, sockets)))
            verifiers = [verifier.start() for verifier in self.verify(server, {Err.EIO})]
            for first, second in ((0, 1), (1, 0)):
                for verifier in verifiers:
                    verifier.go_on(300)
                remotes[first].kill()
                for verifier in verifiers:
                    verifier.go_on(200)
                self.wait_for_states(*(("out", "in") if first == 0 else ("in", "out")))
                before = sum(verifier.errors[Err.EIO] for verifier in verifiers)
                remotes[second].kill()
                wait_until(lambda before=before: before < sum(
                    verifier.errors[Err.EIO] for verifier in verifiers), "errors")
                # The one that was out first knows nothing of what came later.
                remotes[first].start()
                pause(1.5)
                remotes[second].start()
                for verifier in verifiers:
                    verifier.go_on(300)
                self.wait_for_states("in", "in")
            for verifier in verifiers:
                verifier.stop()
                self.assertEqual(verifier.reconnects, 0)
            with server.connect() as client:
                client.negotiate()
                self.wait_until_same()
                for verifier in verifiers:
                    verifier.check_client(client)
        self.check_legs(verifiers, self.legs[:2])

    def test_too_few_legs(self):
        """With fewer than min-legs, writes fail and reads do not."""
        socket = self.directory / "remote"
        with Remote(socket, "file", self.legs[1]) as remote, \
                self.mirror(f"file {self.legs[0]}", LEG.format(socket), min_legs=2) as server, \
                server.connect() as client:
            client.negotiate()
            client.write(0, b"x" * 4096)
            remote.kill()
            for _ in range(3):
                reply = client.call(hostile.Cmd.WRITE, 4096, payload=b"y" * 4096)
                self.assertEqual(reply.error, Err.EIO)
                self.assertEqual(client.read(0, 4096), b"x" * 4096)
            self.wait_for_states("in", "out")
            remote.start()
            self.wait_for_states("in", "in")
            client.write(4096, b"z" * 4096)
            client.disconnect()
        self.assertEqual(self.legs[0].read_bytes(), self.legs[1].read_bytes())

    def other_legs(self, command):
        """A mirror of a file and of another server, which COMMAND starts."""
        if not shutil.which(command[0]):
            self.skipTest(f"there is no {command[0]}")
        words = " ".join(f"arg={word}" for word in command[1:])
        with self.mirror(f"file {self.legs[0]}", f"nbd command={command[0]} {words}",
                         f"memory {SIZE}") as server:
            verifiers = [verifier.start() for verifier in self.verify(server)]
            for verifier in verifiers:
                verifier.go_on(500)
                verifier.stop()
            with server.connect() as client:
                client.negotiate()
                scrub = self.status()["scrub"]["completed"]
                self.assertEqual(scrub, 0)
        return verifiers

    def test_legs_of_nbdkit(self):
        verifiers = self.other_legs(["nbdkit", "-s", "file", str(self.legs[1])])
        self.check_legs(verifiers, self.legs[:2])

    def test_leg_of_qemu_nbd(self):
        program = shutil.which("qemu-nbd")
        if not program:
            self.skipTest("there is no qemu-nbd")
        socket = self.directory / "qemu"
        process = hostile.harness.subprocess.Popen(
            [program, "-t", "-f", "raw", "-e", "8", "-k", str(socket), str(self.legs[1])])
        try:
            wait_until(lambda: hostile.harness.listens(socket), "qemu-nbd")
            with self.mirror(f"file {self.legs[0]}", LEG.format(socket)) as server:
                verifiers = [verifier.start() for verifier in self.verify(server)]
                for verifier in verifiers:
                    verifier.go_on(500)
                    verifier.stop()
        finally:
            process.terminate()
            process.wait()
        self.check_legs(verifiers, self.legs[:2])


class Crashes(MirrorCase):

    def killed(self, server):
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()

    def differing_regions(self):
        data = [leg.read_bytes() for leg in self.legs[:2]]
        return {at // REGION for at in range(0, len(data[0]), REGION)
                if data[0][at:at + REGION] != data[1][at:at + REGION]}

    def test_killed_while_writing(self):
        """What differs then is what the bitmap names, and it is made the same."""
        size = 2 * 16384 * 4096
        for leg in self.legs:
            with leg.open("r+b") as file:
                file.truncate(size)
        legs = [f"--filter=delay file {self.legs[0]} wdelay=2ms", f"file {self.legs[1]}"]
        server = self.mirror(*legs)
        server.start()
        self.addCleanup(server.kill)
        verifiers = [Verifier(server.connect, seed, 16384, first=seed * 16384).start()
                     for seed in range(2)]
        differed = 0
        for _ in range(6):
            for verifier in verifiers:
                verifier.go_on(60)
            self.killed(server)
            differing, named = self.differing_regions(), set(named_regions(self.bitmap))
            differed += len(differing)
            self.assertLessEqual(differing, named)
            self.assertLess(len(named), size // REGION)
            server.start()
        self.assertGreater(differed, 0, "nothing was ever under way: this tests nothing")
        for verifier in verifiers:
            verifier.go_on(100)
            verifier.stop()
        with server.connect() as client:
            client.negotiate()
            self.wait_until_same()
            for verifier in verifiers:
                verifier.check_client(client)
        server.stop()
        self.check_legs(verifiers, self.legs[:2])
        self.scrub(legs)

    def scrub(self, legs):
        """Finds nothing."""
        with self.mirror(*legs, scrub="start") as server, server.connect() as client:
            client.negotiate()
            client.read(0, 4096)
            wait_until(lambda: self.status()["scrub"]["completed"], "a scrub")
            self.assertEqual(self.status()["scrub"]["differences"], 0)

    def test_killed_while_a_leg_is_out(self):
        """The one that is out is not believed when the server starts again."""
        socket = self.directory / "remote"
        with Remote(socket, "file", self.legs[0]) as remote:
            legs = [LEG.format(socket), f"file {self.legs[1]}"]
            server = self.mirror(*legs)
            server.start()
            self.addCleanup(server.kill)
            verifiers = [verifier.start() for verifier in self.verify(server)]
            for verifier in verifiers:
                verifier.go_on(200)
            remote.kill()
            for verifier in verifiers:
                verifier.go_on(200)
            self.killed(server)
            remote.start()
            server.start()
            for verifier in verifiers:
                verifier.go_on(200)
                verifier.stop()
            with server.connect() as client:
                client.negotiate()
                self.wait_until_same()
            server.stop()
        self.check_legs(verifiers, self.legs[:2])

    def test_nothing_is_copied_after_a_clean_end(self):
        legs = [f"file {leg}" for leg in self.legs[:2]]
        with self.mirror(*legs) as server:
            verifier = Verifier(server.connect, 1, BLOCKS).start()
            verifier.go_on(300)
            verifier.stop()
        self.assertEqual(set(named_regions(self.bitmap)), set())

    def test_one_per_cent_of_a_large_disk(self):
        """No more is moved than what was dirty."""
        size, regions = 100 << 30, 1024
        for leg in self.legs[:2]:
            with leg.open("r+b") as file:
                file.truncate(size)
        socket = self.directory / "remote"
        with Remote(socket, "file", self.legs[1]) as remote, \
                self.mirror(f"file {self.legs[0]}", LEG.format(socket), region=MIB) as server, \
                server.connect() as client:
            client.negotiate()
            remote.kill()
            for number in range(regions):
                client.write(number * 100 * MIB, b"dirty" * 100)
            self.wait_for_states("in", "out")
            remote.start()
            self.wait_for_states("in", "in")
            self.wait_until_same()
            moved = self.status()["copied_bytes"]
            hostile.figure("dirty", regions * MIB / size * 100, "%")
            hostile.figure("moved", moved / size * 100, "%")
            self.assertTrue(size * 0.01 <= moved <= size * 0.012)
            client.disconnect()


if __name__ == "__main__":
    hostile.harness.main()
