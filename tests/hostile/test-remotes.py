#!/usr/bin/env python3
"""The backend nbd and remotes that die, vanish, stall, change and lie.

Verifiers work all the while; every byte they read is checked, and at the end every
byte of the remote's disk, below it.
"""

import contextlib
import os
import pathlib
import select
import shutil
import signal
import struct
import tempfile
import unittest

import hostile
from hostile import Peak, Server, wait_until
from nbdwire import Cmd, Err
from remote import Liar, Remote, Wire, option_reply, pause, simple, structured
from verifier import Verifier

BLOCKS = 600
QUICK = ("retry-pause=20", "retry-pause-max=100")


class RemoteCase(unittest.TestCase):

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="nbdr-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.socket = self.directory / "remote"
        self.disk = self.directory / "disk"
        with self.disk.open("wb") as file:
            file.truncate(2 * BLOCKS * 4096)

    def flush(self, client):
        self.assertTrue(client.call(Cmd.FLUSH).ok)

    def verify(self, proxy, tolerate=()):
        return [Verifier(proxy.connect, seed, BLOCKS, first=seed * BLOCKS, tolerate=tolerate)
                for seed in range(2)]

    def check(self, verifiers, go_on=0):
        for verifier in verifiers:
            if go_on:
                verifier.go_on(go_on)
        for verifier in verifiers:
            verifier.stop()
            self.assertEqual(verifier.reconnects, 0, "a client saw the break")
            verifier.check_file(self.disk)


class Faults(RemoteCase):
    """What is acknowledged stays; clients see a delay, and flushes that tell of losses."""

    def test_a_remote_that_is_killed_and_started_again(self):
        for workers, words in (("1", ()), ("2", ()), ("2", ("connections=4",)),
                               ("1", ("shared=false",))):
            with contextlib.ExitStack() as stack:
                remote = stack.enter_context(Remote(self.socket, "file", self.disk))
                proxy = stack.enter_context(Server("nbd", f"socket={self.socket}", *QUICK, *words,
                                                   options=["-t", workers]))
                verifiers = [v.start() for v in self.verify(proxy, {Err.EIO})]
                for _ in range(5):
                    for verifier in verifiers:
                        verifier.go_on(150)
                    remote.kill()
                    pause(0.2)
                    remote.start()
                self.check(verifiers, 150)
                with self.disk.open("r+b") as file:
                    file.truncate(0)
                    file.truncate(2 * BLOCKS * 4096)

    def test_long_answers_while_the_way_to_the_remote_breaks(self):
        """Long enough not to be copied: over TCP, where it is cut, and over a Unix socket."""
        with Remote(self.socket, "file", self.disk) as remote, Wire(self.socket) as wire:
            for where, hurt in ((("hostname=127.0.0.1", f"port={wire.port}"), wire.cut),
                                ((f"socket={self.socket}",), remote.kill)):
                with Server("nbd", *where, *QUICK) as proxy:
                    verifier = Verifier(proxy.connect, 3, 40, size=96 * 1024,
                                        tolerate={Err.EIO}).start()
                    for _ in range(5):
                        verifier.go_on(60)
                        hurt()
                        pause(0.1)
                        wire.heal()
                        if not remote.process:
                            remote.start()
                    self.check([verifier], 60)
                with self.disk.open("r+b") as file:
                    file.truncate(0)
                    file.truncate(2 * BLOCKS * 4096)

    def test_a_network_that_is_cut_for_five_seconds(self):
        with Remote(self.socket, "file", self.disk), Wire(self.socket) as wire, \
                Server("nbd", "hostname=127.0.0.1", f"port={wire.port}", *QUICK) as proxy:
            verifiers = [v.start() for v in self.verify(proxy, {Err.EIO})]
            for verifier in verifiers:
                verifier.go_on(200)
            wire.cut()
            pause(5)
            wire.heal()
            self.check(verifiers, 200)

    def test_a_remote_that_says_nothing_any_more(self):
        with Remote(self.socket, "file", self.disk), Wire(self.socket) as wire, \
                Server("nbd", "hostname=127.0.0.1", f"port={wire.port}", "timeout=1",
                       *QUICK) as proxy:
            verifiers = [v.start() for v in self.verify(proxy, {Err.EIO})]
            for verifier in verifiers:
                verifier.go_on(200)
            wire.flows.clear()
            before = wire.connections
            wait_until(lambda: wire.connections > before, "the connection to be given up")
            # What is stuck in the old connection is lost with it.
            wire.cut()
            wire.flows.set()
            wire.heal()
            self.check(verifiers, 200)

    def test_a_remote_that_is_slow_is_not_given_up(self):
        with Remote(self.socket, "--filter=delay", "file", self.disk, "rdelay=1500ms"), \
                Server("nbd", f"socket={self.socket}", "timeout=4") as proxy, \
                proxy.connect() as client:
            client.negotiate()
            self.assertEqual(client.read(0, 4096), bytes(4096))
            self.assertNotIn("lost", proxy.stderr())

    def test_garbage_on_the_wire(self):
        with Remote(self.socket, "file", self.disk), Wire(self.socket) as wire, \
                Server("nbd", "hostname=127.0.0.1", f"port={wire.port}", *QUICK) as proxy:
            # Data has no checksum: only writes, whose answers are headers alone.
            with proxy.connect() as client:
                client.negotiate()
                for number in range(20):
                    wire.garble = 8 if number % 4 == 0 else 0
                    client.write(number * 4096, bytes([number]) * 4096)
                wire.garble = 0
                for number in range(20):
                    self.assertEqual(client.read(number * 4096, 4096), bytes([number]) * 4096)
                self.assertEqual(client.call(Cmd.FLUSH).error, Err.EIO)
                self.flush(client)
            self.assertGreater(wire.connections, 4)

    def test_errors_are_passed_on(self):
        with Remote(self.socket, "--filter=error", "file", self.disk, "error-rate=100%", "error-pread=ENOSPC",
                    "error-pwrite=EPERM"), \
                Server("nbd", f"socket={self.socket}") as proxy, proxy.connect() as client:
            client.negotiate()
            self.assertEqual(client.call(Cmd.READ, 0, 512).error, Err.ENOSPC)
            self.assertEqual(client.call(Cmd.WRITE, 0, payload=bytes(512)).error, Err.EPERM)

    def test_a_flush_tells_of_what_may_be_lost_and_the_next_does_not(self):
        with Remote(self.socket, "memory", "1M") as remote, \
                Server("nbd", f"socket={self.socket}", *QUICK) as proxy, \
                proxy.connect() as client, proxy.connect() as other:
            client.negotiate()
            other.negotiate()
            client.write(0, b"x" * 512)
            self.flush(client)
            remote.kill()
            remote.start()
            self.flush(client)      # covers nothing that was lost
            client.write(0, b"y" * 512)
            remote.kill()
            remote.start()
            for each in (client, other):
                self.assertEqual(each.call(Cmd.FLUSH).error, Err.EIO)
                self.flush(each)
            with proxy.connect() as newcomer:
                newcomer.negotiate()
                self.flush(newcomer)
            self.assertIn("1 writes were answered but not flushed", proxy.stderr())

    def test_a_remote_that_comes_back_as_less_is_not_used(self):
        smaller = self.directory / "smaller"
        smaller.write_bytes(bytes(4096))
        lesser = (("file", smaller), ("-r", "file", self.disk),
                  ("--filter=mask", "file", self.disk, "mask=flush,fua"))
        words = ("smaller than it was", "read-only now", "can do less")
        with Remote(self.socket, "file", self.disk) as remote, \
                Server("nbd", f"socket={self.socket}", *QUICK) as proxy, \
                proxy.connect() as client:
            client.negotiate()
            for less, word in zip(lesser, words):
                client.write(0, word.encode().ljust(512))
                self.flush(client)
                remote.kill()
                remote.start(*less)
                reply = client.submit(Cmd.READ, 0, 512)
                self.assertFalse(select.select([client.sock], [], [], 0.3)[0],
                                 "a lesser remote was used")
                remote.kill()
                remote.start("file", self.disk)
                client.finish(reply)
                self.assertEqual(reply.data, word.encode().ljust(512))

    def test_requests_fail_when_the_time_is_over_and_work_when_it_is_back(self):
        with Remote(self.socket, "file", self.disk) as remote, \
                Server("nbd", f"socket={self.socket}", "retry=1", *QUICK) as proxy, \
                proxy.connect() as client:
            client.negotiate()
            client.read(0, 512)
            remote.kill()
            for _ in range(3):
                self.assertEqual(client.call(Cmd.READ, 0, 512).error, Err.EIO)
            remote.start()
            self.assertEqual(client.read(0, 512), bytes(512))

    def test_a_program_that_dies_is_started_again(self):
        program = hostile.harness.server_command()[0]
        with Server("nbd", f"command={program}", "arg=--single", "arg=file", f"arg={self.disk}",
                    *QUICK) as proxy, proxy.connect() as client:
            client.negotiate()
            client.write(0, b"x" * 4096)
            self.flush(client)
            child = pathlib.Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children")
            for _ in range(3):
                pids = [int(pid) for task in child.parents[1].iterdir()
                        for pid in (task / "children").read_text().split()]
                self.assertEqual(len(pids), 1)
                os.kill(pids[0], signal.SIGKILL)
                self.assertEqual(client.read(0, 4096), b"x" * 4096)

    def test_the_server_ends_though_its_remote_is_gone(self):
        with Remote(self.socket, "file", self.disk) as remote:
            with Server("nbd", f"socket={self.socket}") as proxy:
                with proxy.connect() as client:
                    client.negotiate()
                    client.write(0, bytes(512))
                    self.flush(client)
                    remote.kill()


class Greed(RemoteCase):

    def test_clients_that_do_not_fetch_their_answers_hold_up_nobody(self):
        """Answers lie in windows that are larger than they; a slow client holds little."""
        with Remote(self.socket, "memory", "8M"), \
                Server("nbd", f"socket={self.socket}", options=["-t", "1"]) as proxy, \
                contextlib.ExitStack() as stack:
            good = stack.enter_context(proxy.connect())
            good.negotiate()
            for at in range(0, 8 << 20, 1 << 20):
                good.write(at, bytes([at >> 20]) * (1 << 20))
            for number in range(48):
                greedy = stack.enter_context(proxy.connect())
                greedy.negotiate()
                size = (4096, 32768)[number % 2]
                for each in range(60):
                    greedy.submit(Cmd.READ, (number * 60 + each) * size % (4 << 20), size)
                at = number % 8 << 20
                self.assertEqual(good.read(at, 1 << 20), bytes([at >> 20]) * (1 << 20))
            for number in range(200):
                good.write(7 << 20, bytes([number]) * 4096)
                self.assertEqual(good.read(7 << 20, 4096), bytes([number]) * 4096)
            self.assertLess(Peak(proxy).kib(), hostile.bound_kib(1, 49, 49 * 60))


class Lies(RemoteCase):
    """A remote that breaks the protocol gets nobody into trouble but itself."""

    def proxied(self, answer, *words, **more):
        """A client of a proxy of a Liar, whose requests soon fail."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        liar = stack.enter_context(Liar(self.socket, answer, **more))
        proxy = stack.enter_context(Server("nbd", f"socket={self.socket}", *QUICK, *words))
        client = stack.enter_context(proxy.connect())
        client.negotiate()
        self.addCleanup(lambda: self.assertIsNone(proxy.process.poll(), proxy.stderr()))
        return liar, proxy, client

    def assert_fails(self, lie, honest=None):
        """A read that is answered by LIE(cookie, offset, length) fails, not more."""
        def answer(liar, sock, command, flags, cookie, offset, length, payload):
            if command == 0 and offset == 4096:
                sock.sendall(lie(cookie, offset, length))
            else:
                liar.well(sock, command, cookie, offset, length)

        with contextlib.ExitStack() as stack:
            stack.enter_context(Liar(self.socket, answer))
            proxy = stack.enter_context(Server("nbd", f"socket={self.socket}", *QUICK))
            client = stack.enter_context(proxy.connect())
            client.negotiate()
            self.assertEqual(client.call(Cmd.READ, 4096, 4096).error, Err.EIO)
            self.assertEqual(client.read(0, 4096), bytes(4096))
            self.assertLess(Peak(proxy).kib(), 200 * 1024)

    def test_replies_that_do_not_fit_the_request(self):
        lies = {
            "another cookie": lambda c, o, n: simple(c ^ 1),
            "a huge cookie": lambda c, o, n: structured(0, c ^ (1 << 63)),
            "no data": lambda c, o, n: structured(0, c),
            "a simple reply": lambda c, o, n: simple(c),
            "data before": lambda c, o, n: structured(1, c, struct.pack(">Q", o - 1) + bytes(n)),
            "data behind": lambda c, o, n: structured(1, c, struct.pack(">Q", o + 1) + bytes(n)),
            "too much data": lambda c, o, n: structured(1, c, struct.pack(">Q", o) +
                                                        bytes(n + 1)),
            "too little data": lambda c, o, n: structured(1, c, struct.pack(">Q", o) +
                                                          bytes(n - 1)),
            "endless data": lambda c, o, n: struct.pack(">IHHQIQ", 0x668e33ef, 1, 1, c,
                                                        0xffffffff, o),
            "the same twice": lambda c, o, n: b"".join(
                structured(1, c, struct.pack(">Q", o + n // 2) + bytes(n // 2), last)
                for last in (False, True)),
            "overlapping holes": lambda c, o, n: structured(
                2, c, struct.pack(">QI", o, n // 2), False) + structured(
                    2, c, struct.pack(">QI", o + n // 4, n // 2)),
            "a huge hole": lambda c, o, n: structured(2, c, struct.pack(">QI", o, 0xffffffff)),
            "a hole of nothing": lambda c, o, n: structured(2, c, struct.pack(">QI", o, 0)),
            "a map": lambda c, o, n: structured(5, c, struct.pack(">III", 1, n, 0)),
            "an unknown chunk": lambda c, o, n: structured(77, c),
            "an error without one": lambda c, o, n: structured(0x8001, c,
                                                               struct.pack(">IH", 0, 0)),
            "a long error": lambda c, o, n: structured(0x8001, c, struct.pack(">IH", 5, 60000) +
                                                       bytes(60000)),
            "noise": lambda c, o, n: bytes(range(256)) * 4,
        }
        for name, lie in lies.items():
            with self.subTest(name):
                self.assert_fails(lie)

    def test_chunks_in_any_order_are_put_together(self):
        def answer(liar, sock, command, flags, cookie, offset, length, payload):
            if command:
                liar.well(sock, command, cookie, offset, length)
                return
            parts = [(at, min(100, length - at)) for at in range(0, length, 100)]
            for at, size in reversed(parts):
                if at % 300 == 0:
                    data = structured(2, cookie, struct.pack(">QI", offset + at, size), False)
                else:
                    data = structured(1, cookie, struct.pack(">Q", offset + at) +
                                      bytes([at // 100 % 256]) * size, False)
                sock.sendall(data)
            sock.sendall(structured(0, cookie))

        _, _, client = self.proxied(answer)
        for length in (1, 99, 100, 101, 4096, 65536):
            expected = b"".join((b"\0" if at % 300 == 0 else bytes([at // 100 % 256])) *
                                min(100, length - at) for at in range(0, length, 100))
            self.assertEqual(client.read(512, length), expected)

    def test_an_answer_before_the_write_has_arrived(self):
        """The request ends, and its memory is not used again, when it has been sent."""
        def answer(liar, sock, command, flags, cookie, offset, length, payload):
            sock.sendall(simple(cookie))

        _, _, client = self.proxied(answer)
        client.write(0, bytes(512 * 1024))

    def test_answers_that_nobody_asked_for(self):
        def answer(liar, sock, command, flags, cookie, offset, length, payload):
            liar.well(sock, command, cookie, offset, length)
            if liar.connections == 1:
                liar.well(sock, command, cookie, offset, length)

        liar, _, client = self.proxied(answer)
        for number in range(5):
            self.assertEqual(client.read(number * 512, 512), bytes(512))
        self.assertEqual(liar.connections, 2)

    def test_answers_that_break_off_are_asked_for_again(self):
        """Nothing of the first half of an answer is left when the whole comes."""
        def answer(liar, sock, command, flags, cookie, offset, length, payload):
            half = length // 2
            if liar.connections == 1 and command == 0:
                sock.sendall(structured(1, cookie, struct.pack(">Q", offset) + b"x" * half, False))
                return True
            if liar.connections == 2 and command == 0:
                # In the middle of a chunk, the second half first.
                sock.sendall(structured(1, cookie, struct.pack(">Q", offset + half) +
                                        b"y" * half, False)[:-5])
                return True
            if liar.connections == 3 and command == 7:
                sock.sendall(structured(5, cookie, struct.pack(">IIIII", 1, 512, 0, 512, 3))[:-9])
                return True
            if command == 0:
                sock.sendall(structured(1, cookie, struct.pack(">Q", offset) + b"z" * length))
            else:
                liar.well(sock, command, cookie, offset, length)

        liar, proxy, client = self.proxied(answer)
        for length in (1024, 262144):
            liar.connections = 0 if length > 1024 else liar.connections
            client.read(0, length)
            self.assertEqual(client.read(0, length), b"z" * length)
        liar.connections = 2
        with proxy.connect() as mapped:
            mapped.negotiate(mode=hostile.Mode.STRUCTURED, contexts=[b"base:allocation"])
            self.assertEqual([tuple(e) for e in mapped.block_status(0, 4096)], [(4096, 3)])

    def test_maps_that_make_no_sense(self):
        lies = {
            "no extent": struct.pack(">I", 1),
            "another context": struct.pack(">III", 2, 4096, 0),
            "an empty extent": struct.pack(">IIIII", 1, 0, 0, 4096, 0),
            "half an extent": struct.pack(">II", 1, 4096),
        }
        for name, data in lies.items():
            with self.subTest(name):
                def answer(liar, sock, command, flags, cookie, offset, length, payload,
                           lie=data):
                    if command == 7:
                        sock.sendall(structured(5, cookie, lie))
                    else:
                        liar.well(sock, command, cookie, offset, length)

                with Liar(self.socket, answer), \
                        Server("nbd", f"socket={self.socket}", *QUICK) as proxy, \
                        proxy.connect() as client:
                    client.negotiate(mode=hostile.Mode.STRUCTURED,
                                     contexts=[b"base:allocation"])
                    self.assertEqual(client.call(Cmd.BLOCK_STATUS, 0, 4096).error, Err.EIO)
                    self.assertEqual(client.read(0, 512), bytes(512))

    def test_a_map_longer_than_what_was_asked(self):
        def answer(liar, sock, command, flags, cookie, offset, length, payload):
            if command == 7:
                extents = struct.pack(">II", 512, 0) + struct.pack(">II", 512, 3)
                sock.sendall(structured(5, cookie, struct.pack(">I", 1) + extents * 100000 +
                                        struct.pack(">II", 0xffffffff, 0)))
            else:
                liar.well(sock, command, cookie, offset, length)

        _, proxy, client = self.proxied(answer)
        with proxy.connect() as mapped:
            mapped.negotiate(mode=hostile.Mode.STRUCTURED, contexts=[b"base:allocation"])
            self.assertTrue(mapped.call(Cmd.BLOCK_STATUS, 0, 4096).ok)
        self.assertEqual(client.read(0, 512), bytes(512))

    def test_negotiations_that_lead_nowhere(self):
        def say(data):
            def negotiate(sock):
                sock.sendall(data)
                return not sock.recv(1 << 16)
            return negotiate

        greeting = b"NBDMAGICIHAVEOPT\0\3"
        lies = {
            "no server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "another answer": greeting + option_reply(99, 1),
            "a long answer": greeting + struct.pack(">QIII", 0x3e889045565a9, 11, 1, 1 << 31),
            "a short one": greeting + b"\0" * 10,
            "silence": b"",
        }
        for name, data in lies.items():
            with self.subTest(name), \
                    Liar(self.socket, None, negotiate=say(data)), \
                    self.assertRaises(hostile.harness.ServerError):
                Server("nbd", f"socket={self.socket}", "connect-timeout=1").start()


if __name__ == "__main__":
    hostile.harness.main()
