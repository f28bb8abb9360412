#!/usr/bin/env python3
"""Faults under load: the server dies, disks fill, fail and stall, while clients write.

Verifiers (verifier.py) work all the while and come back when they have lost the
server; at the end every byte is compared with what was acknowledged, through the
server and below it.  What needs root is skipped without, and what this kernel has
not is skipped with a word on what that is.
"""

import contextlib
import os
import pathlib
import select
import signal
import time
import unittest

import hostile
from faults import BLOCKS, FaultCase, Renamed, run
from hostile import KIB, MIB, Steady, figure, scaled, timed, wait_until
from nbdwire import CFlag, Cmd, Err, Opt, Rep, info_data
from verifier import Verifier, content

MODULES = os.environ.get("NBDRING_TEST_MODULES")


class Death(FaultCase):
    """The server ends, in one way or the other, and begins again."""

    def restart(self, server):
        (server.directory / "pid").unlink(missing_ok=True)
        server.start()

    def kill_again_and_again(self, *parameters):
        path = self.file(64 * MIB)
        server = self.serve("file", path, *parameters)
        verifiers = self.verifiers(server)
        times = scaled(5)
        for _ in range(times):
            for verifier in verifiers:
                verifier.go_on(200)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            for verifier in verifiers:
                verifier.check_file(path)   # the verifier may be asking, not changing, now
            for verifier in verifiers:
                verifier.server_began = time.monotonic()
            self.restart(server)
        for verifier in verifiers:
            verifier.go_on(200)
            verifier.stop()
        recovery = [seconds for verifier in verifiers for seconds in verifier.recovery]
        figure("times killed", times)
        figure("longest time from the start to the next answer", max(recovery), "s")
        self.assertGreaterEqual(len(recovery), times)
        self.check_all(server, verifiers, path)

    def test_killed_under_load(self):
        """kill -9 and restart: clients come back and find all that was acknowledged."""
        self.kill_again_and_again()

    def test_killed_under_load_past_the_cache(self):
        """The same with O_DIRECT."""
        self.kill_again_and_again("cache=none")

    def test_ended_under_load(self):
        """SIGTERM: exit status 0, and all that was acknowledged is in the file."""
        for parameters in ((), ("cache=none",)):
            with self.subTest(parameters):
                path = self.file(64 * MIB)
                server = self.serve("file", path, *parameters)
                verifiers = self.verifiers(server, tolerate=(Err.ESHUTDOWN,))
                for verifier in verifiers:
                    verifier.go_on(300)
                    verifier.gone_for_good = True
                server.terminate()
                with timed("ended in"):
                    server.check_exit()
                for verifier in verifiers:
                    verifier.stop()
                    verifier.check_file(path)
                figure("writes acknowledged", sum(v.acknowledged for v in verifiers))


class Canary(FaultCase):
    """The verifier would notice."""

    def test_a_changed_byte_is_found(self):
        """One byte, an old version, or another block's content: each is found."""
        path = self.file(16 * MIB)
        server = self.serve("file", path)
        verifier = Verifier(server.connect, 1, BLOCKS).start()
        self.addCleanup(self.abandon, [verifier])
        verifier.go_on(3000)
        verifier.stop()
        verifier.check_file(path)
        written = [index for index in range(BLOCKS) if verifier.least[index] > 1]
        for index, data in ((written[0], b"\0"),
                            (written[1], content(written[1], verifier.least[written[1]] - 1, 4096)),
                            (written[2], content(written[3], verifier.least[written[3]], 4096))):
            with open(path, "r+b") as file:
                file.seek(index * 4096 + 100 * (len(data) == 1))
                right = file.read(len(data))
                file.seek(-len(data), os.SEEK_CUR)
                file.write(data if data != right else b"\1")
                file.flush()
                with self.assertRaises(AssertionError):
                    verifier.check_file(path)
                with server.connect() as client, self.assertRaises(AssertionError):
                    verifier.check_client(client.negotiate())
                file.seek(-len(data), os.SEEK_CUR)
                file.write(right)
        verifier.check_file(path)
        server.stop()


class BadDisk(FaultCase):
    """The disk below does not do what it should."""

    def test_file_system_full(self):
        """ENOSPC for what finds no room; all else is right; room that comes is used."""
        place = self.small_ext4(16 * MIB)
        filler, path = place / "filler", place / "disk"
        filler.write_bytes(os.urandom(7 * MIB))
        with path.open("wb") as file:
            file.truncate(64 * MIB)
        server = self.serve("file", path)
        verifiers = self.verifiers(server, tolerate=(Err.ENOSPC,))
        wait_until(lambda: any(v.failure or v.errors for v in verifiers), "the disk to be full")
        for verifier in verifiers:
            verifier.go_on(100)
        filler.unlink()
        for verifier in verifiers:
            verifier.go_on(1000)
            verifier.stop()
        figure("requests that found no room", sum(v.errors[Err.ENOSPC] for v in verifiers))
        for verifier in verifiers:
            verifier.tolerate = set()
            verifier.start().go_on(1000)
            verifier.stop()
        self.check_all(server, verifiers, path)

    def test_reads_fail_where_a_device_has_lost_its_end(self):
        """A block device whose second half is gone: EIO there, in words; the rest is right."""
        image = self.file(16 * MIB)
        device = self.loop_device(image)
        server = self.serve("file", device, "cache=none")
        low, high = (Verifier(server.connect, number, BLOCKS, number * 2048, tolerate=(Err.EIO,))
                     for number in range(2))
        self.addCleanup(self.abandon, [low, high])
        for verifier in (low, high):
            verifier.start().go_on(1000)
        high.stop()
        os.truncate(image, 8 * MIB)
        with server.connect() as client:
            client.negotiate(mode=hostile.Mode.STRUCTURED)
            for offset in range(8 * MIB, 10 * MIB, 64 * KIB):
                self.assertEqual(Err.EIO, client.call(Cmd.READ, offset, 4 * KIB).error)
            reply = client.call(Cmd.READ, 8 * MIB - 64 * KIB, 128 * KIB)
            self.assertEqual(Err.EIO, reply.error)
        low.go_on(500)
        low.stop()
        self.assertEqual(0, low.errors.total(), low.errors)
        # Writing makes the device whole again.
        high.least = [0] * BLOCKS
        high.start().go_on(3000)
        high.stop()
        figure("requests that failed", high.errors.total())
        self.assertLess(server.stderr().count("\n"), 500)
        server.stop()
        low.check_file(image)
        self.check_acknowledged(high, image)

    def check_acknowledged(self, verifier, path):
        """Every block that was written since."""
        indexes = [index for index in range(BLOCKS) if verifier.least[index]]
        self.assertTrue(indexes)
        with open(path, "rb") as file:
            for index in indexes:
                file.seek((verifier.first + index) * verifier.size)
                verifier.check(index, file.read(verifier.size))

    def test_writes_fail_where_a_device_is_full(self):
        """A compressing device at its limit: EIO for what it does not take, no harm else."""
        control, device = self.zram(64 * MIB, 4 * MIB)
        server = self.serve("file", device, "cache=none")
        verifiers = self.verifiers(server, tolerate=(Err.EIO, Err.ENOSPC))
        wait_until(lambda: any(v.failure or v.errors.total() > 300 for v in verifiers),
                   "the device to be full")
        (control / "mem_limit").write_text("0")
        for verifier in verifiers:
            verifier.go_on(1000)
            verifier.stop()
        figure("requests that failed", sum(v.errors.total() for v in verifiers))
        self.assertLess(server.stderr().count("\n"), 500)
        self.check_all(server, verifiers)

    def test_device_mapper_errors(self):
        """A table with a stretch that fails: EIO there, and the rest is right."""
        self.need_root("make a mapped device")
        name = f"nbdring-{os.getpid()}"
        device = self.loop_device(self.file(16 * MIB))
        table = f"0 16384 linear {device} 0\n16384 8192 error\n24576 8192 linear {device} 24576\n"
        try:
            run("dmsetup", "create", name, "--table", table)
        except OSError as error:
            self.skipTest(f"this kernel has no device-mapper: {error}")
        self.addCleanup(run, "dmsetup", "remove", "--retry", name)
        server = self.serve("file", f"/dev/mapper/{name}", "cache=none")
        good = Verifier(server.connect, 1, BLOCKS).start()
        bad = Verifier(server.connect, 2, BLOCKS, 2048, tolerate=(Err.EIO,)).start()
        self.addCleanup(self.abandon, [good, bad])
        good.go_on(1000)
        good.stop()
        bad.stop()
        self.assertEqual(0, bad.acknowledged)
        self.assertTrue(bad.errors)
        with server.connect() as client:
            good.check_client(client.negotiate())
        server.stop()

    def test_file_truncated_behind_the_server(self):
        """A file that is cut in half by somebody else: errors there, and the rest is right."""
        path = self.file(16 * MIB)
        server = self.serve("file", path)
        low, high = (Verifier(server.connect, number, BLOCKS, number * 2048)
                     for number in range(2))
        self.addCleanup(self.abandon, [low, high])
        for verifier in (low, high):
            verifier.start().go_on(1000)
        high.stop()
        with server.connect() as client:
            client.negotiate(mode=hostile.Mode.STRUCTURED)
            os.truncate(path, 8 * MIB)
            for offset in range(8 * MIB, 10 * MIB, 64 * KIB):
                self.assertEqual(Err.EIO, client.call(Cmd.READ, offset, 4 * KIB).error)
            self.assertEqual(Err.EIO, client.call(Cmd.READ, 8 * MIB - 64 * KIB, 128 * KIB).error)
        # Who comes now is told the size of now.
        high.tolerate = {Err.EINVAL, Err.ENOSPC}
        high.start()
        wait_until(lambda: high.failure or high.errors.total() > 1000, "refusals")
        low.go_on(500)
        high.stop()
        figure("requests that failed", high.errors.total())
        os.truncate(path, 16 * MIB)
        high.tolerate, high.least = set(), [0] * BLOCKS
        high.start().go_on(1000)
        for verifier in (low, high):
            verifier.stop()
        self.assertLess(server.stderr().count("\n"), 500)
        self.check_all(server, [low, high], path)


def free_bytes(place):
    """Of a file system, for anybody."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


class Cached(FaultCase):
    """The filter cache, which may lose only what was not flushed."""

    CACHE = ("cache-max-size=1M", "cache-on-read=true")

    def work(self, server, path, before=None, tolerate=()):
        """Verifiers for a while, and then every byte, also below."""
        verifiers = self.verifiers(server, tolerate=tolerate)
        for verifier in verifiers:
            verifier.go_on(500)
        if before:
            before(verifiers)
        for verifier in verifiers:
            verifier.go_on(500)
            verifier.stop()
        self.check_all(server, verifiers, path)

    def test_more_is_written_than_fits(self):
        """Blocks are thrown out and written back all the time, with each policy and mode."""
        for mode in (("cache-policy=lru",), ("cache-policy=arc", "cache-dirty-max=10"),
                     ("cache-policy=s3-fifo", "cache-min-block-size=16k"),
                     ("cache=writethrough",), (f"cache-dir={self.directory}",)):
            with self.subTest(mode):
                path = self.file(64 * MIB)
                self.work(self.serve("--filter=cache", "file", path, *self.CACHE, *mode), path)

    def test_killed_with_a_file_of_its_own(self):
        """kill -9: each block that was flushed, or written with FUA, is below."""
        path, kept = self.file(64 * MIB), self.directory / "kept"
        for _ in range(scaled(3)):
            server = self.serve("--filter=cache", "file", path, *self.CACHE, f"cache-file={kept}")
            with server.connect() as client:
                client.negotiate()
                for index in range(64):
                    client.call(Cmd.WRITE, index * 8192, payload=content(index, 1, 8192))
                self.assertEqual(0, client.call(Cmd.FLUSH).error)
                for index in range(64):
                    client.submit(Cmd.WRITE, index * 8192, payload=content(index, 2, 8192))
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
            with path.open("rb") as file:
                for index in range(64):
                    found = file.read(8192)
                    for at in (0, 4096):    # a block of the cache is written at once
                        self.assertIn(found[at:at + 4096],
                                      [content(index, version, 8192)[at:at + 4096]
                                       for version in (1, 2)])

    def test_the_store_has_no_room(self):
        """ENOSPC in the store is nobody's business but the cache's."""
        place = self.small_ext4(8 * MIB)
        (place / "filler").write_bytes(os.urandom(5 * MIB))
        path = self.file(64 * MIB)
        server = self.serve("--filter=cache", "file", path, "cache-max-size=16M",
                            "cache-on-read=true", f"cache-dir={place}")

        def room_for_others(_):
            """There is none for a moment; then the cache makes do with less."""
            wait_until(lambda: "does not grow" in server.stderr(), "the store to be full")
            wait_until(lambda: free_bytes(place) > 64 * KIB, "the cache to give room back")

        self.work(server, path, room_for_others)

    def test_a_slow_disk_that_fails_now_and_then(self):
        """Writes that fail below reach the next flush; what was written is kept."""
        path, switch = self.file(64 * MIB), self.directory / "fail"
        server = self.serve("--filter=cache", "--filter=error", "--filter=delay", "file", path,
                            "cache-max-size=32M", "cache-dirty-max=90", "cache-dirty-age=1",
                            "error-pwrite-rate=20%", f"error-file={switch}", "wdelay=2ms")

        def fail_for_a_while(verifiers):
            switch.touch()
            for verifier in verifiers:
                verifier.go_on(500)
            switch.unlink()

        self.work(server, path, fail_for_a_while, tolerate=(Err.EIO,))


class Stalls(FaultCase):
    """The disk takes its time."""

    @contextlib.contextmanager
    def frozen(self, place):
        """Nothing can be written to the file system meanwhile."""
        run("fsfreeze", "--freeze", place)
        try:
            yield
        finally:
            run("fsfreeze", "--unfreeze", place)

    def exports_to_stall(self, count=8):
        """So many files of a file system of their own, in the folder of the exports: the
        place of that file system, the folder, and their names."""
        place = self.small_ext4(64 * MIB)
        served = self.directory / "served"
        served.mkdir()
        names = [f"stalled{number}" for number in range(count)]
        for name in names:
            self.file(4 * MIB, f"mounted/{name}")
            self.file(0, f"served/{name}")
            run("mount", "--bind", place / name, served / name)
            self.addCleanup(run, "umount", "--lazy", served / name)
        return place, served, names

    def test_disks_that_stall(self):
        """Writes to some exports wait as long as their disk does; another goes on,
        flushes included, though the same worker serves it."""
        place, served, names = self.exports_to_stall()
        self.file(32 * MIB, "served/other")
        server = self.serve("file", f"dir={served}", options=("-t", "1"))
        stalled = [Verifier(lambda name=name: Renamed(server.connect(), name), number, BLOCKS)
                   for number, name in enumerate(names)]
        self.addCleanup(self.abandon, stalled)
        seconds = 3 * hostile.SCALE
        with Steady(server, 4, name="other", flush=True) as steady:
            for verifier in stalled:
                verifier.start().go_on(100)
            with self.frozen(place):
                rounds, begin = steady.rounds, time.monotonic()
                # Until all that may be under way waits for the disk.
                before, now = -1, 0
                while before != now:
                    before = now
                    time.sleep(0.3)
                    now = sum(verifier.acknowledged for verifier in stalled)
                steady.go_on(20)
                while time.monotonic() - begin < seconds:
                    steady.go_on(1)
                figure(f"seconds that {len(names)} disks stalled", time.monotonic() - begin)
                figure("rounds of 4 clients of another", steady.rounds - rounds)
                figure("threads", len(os.listdir(f"/proc/{server.pid}/task")))
                self.assertEqual(now, sum(verifier.acknowledged for verifier in stalled))
            with timed("the stalled requests answered in"):
                for verifier in stalled:
                    verifier.go_on(100)
        for name, verifier in zip(names, stalled):
            verifier.stop()
            self.assertEqual(0, verifier.errors.total())
            self.assertEqual(0, verifier.reconnects)
            verifier.check_file(place / name)
        server.stop()

    @staticmethod
    def settled(server):
        """Nothing has been begun any more for a while: how many threads wait for a disk."""
        def waiting():
            count = 0
            for stat in pathlib.Path(f"/proc/{server.pid}/task").glob("*/stat"):
                with contextlib.suppress(OSError):
                    count += stat.read_text().rpartition(")")[2].split()[0] == "D"
            return count
        looks = [-1]
        def unchanged():
            looks.append(waiting())
            return len(looks) > 8 and len(set(looks[-8:])) == 1
        wait_until(unchanged, "all that can be begun to be begun")
        return looks[-1]

    def test_files_behind_those_that_stall(self):
        """The kernel has 64 queues for the buffered writes of a worker, by a hash of the
        file: 96 files are written to, with FUA and without, zeroed and trimmed while 8
        stall, though some of them share a queue with one of those."""
        place, served, stalled = self.exports_to_stall()
        names = [f"other{number}" for number in range(96)]
        for name in names:
            (served / name).write_bytes(b"." * (128 * KIB))
        server = self.serve("file", f"dir={served}", options=("-t", "1"))
        waiting = [server.connect().negotiate(name) for name in stalled]
        others = [server.connect().negotiate(name) for name in names]
        with self.frozen(place):
            late = [client.submit(Cmd.WRITE, 4 * KIB * number, payload=b"late" * KIB)
                    for number in range(4) for client in waiting]
            figure("threads that wait for 8 stalled files", self.settled(server))
            for length in (4 * KIB, 40 * KIB):
                with timed(f"{len(names)} others answered in"):
                    replies = [reply for client in others for reply in (
                        client.submit(Cmd.WRITE, 0, payload=b"1" * length),
                        client.submit(Cmd.WRITE, 40 * KIB, flags=CFlag.FUA, payload=b"2" * length),
                        client.submit(Cmd.WRITE_ZEROES, 80 * KIB, 8 * KIB, flags=CFlag.NO_HOLE),
                        client.submit(Cmd.TRIM, 96 * KIB, 32 * KIB))]
                    for client in others:
                        client.finish()
                self.assertEqual({0}, {reply.error for reply in replies})
            self.assertFalse([reply for reply in late if reply.done])
            self.assertFalse(select.select([client.sock for client in waiting], [], [], 0)[0])
        for client in waiting:
            client.finish()
        self.assertEqual({0}, {reply.error for reply in late})
        for client in (*waiting, *others):
            client.disconnect()
        server.stop()
        for name in names:
            with self.subTest(name):
                self.assertEqual(b"1" * 40 * KIB + b"2" * 40 * KIB + bytes(8 * KIB) +
                                 b"." * 8 * KIB + bytes(32 * KIB), (served / name).read_bytes())
        for name in stalled:
            self.assertTrue((place / name).read_bytes().startswith(b"late" * 4 * KIB))

    @unittest.skipUnless(MODULES, "NBDRING_TEST_MODULES does not say where the modules are")
    def test_more_opens_that_block_than_there_are_threads(self):
        """40 disks that do not open: who is in works on; when they open, nobody is lost."""
        gate, names = self.directory / "gate", [f"disk{number}" for number in range(40)]
        served = self.directory / "served"
        served.mkdir()
        for name in ("first", *names):
            (served / name).write_bytes(name.encode().ljust(512, b"."))
        os.truncate(served / "first", 8 * MIB)
        server = self.serve("file", f"dir={served}", f"gate={gate}",
                            options=(f"--filter={MODULES}/stall.so",))
        with Steady(server, 2, name="first") as steady:
            gate.touch()
            waiting = []
            for number in range(scaled(120)):
                client = server.connect().begin()
                waiting.append((client, names[number % len(names)]))
                client.send_option(Opt.GO, info_data(waiting[-1][1]))
            steady.go_on(50)
            threads = len(os.listdir(f"/proc/{server.pid}/task"))
            figure(f"threads with {len(waiting)} clients waiting for 40 disks", threads)
            self.assertLess(threads, 30)
            gate.unlink()
            with timed("all served in"):
                for client, name in waiting:
                    while not (reply := client.option_reply()).is_final:
                        pass
                    self.assertEqual(Rep.ACK, reply.type, reply.data)
                    data = client.read(0, 512)
                    self.assertEqual(name.encode(), data.rstrip(b"."))
                    client.disconnect()
            steady.go_on(10)
        server.stop()


if __name__ == "__main__":
    hostile.harness.main()
