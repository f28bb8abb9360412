#!/usr/bin/env python3
"""Conformance of the transmission phase, as far as all commands share it.

Test names start with the requirement's id, X1 to X15, as listed in
docs/protocol.md.
"""

import contextlib
import itertools
import os
import random
import resource
import struct
import unittest

import harness
from harness import Server, ServerCase, pattern
from nbdwire import (ALLOCATION, CFlag, Chunk, Cmd, Disconnected, Err, Mode, TFlag,
                     request_bytes)

MIB = 1 << 20
MODES = (Mode.SIMPLE, Mode.STRUCTURED)

# What each command allows besides FUA, which is allowed everywhere.
VALID_FLAGS = {
    Cmd.READ: CFlag.DF,
    Cmd.WRITE: 0,
    Cmd.FLUSH: 0,
    Cmd.TRIM: 0,
    Cmd.CACHE: 0,
    Cmd.WRITE_ZEROES: CFlag.NO_HOLE | CFlag.FAST_ZERO,
    Cmd.BLOCK_STATUS: CFlag.REQ_ONE,
}

# What exposes a command that is not part of the baseline.
EXPOSED_BY = {
    Cmd.FLUSH: TFlag.SEND_FLUSH,
    Cmd.TRIM: TFlag.SEND_TRIM,
    Cmd.WRITE_ZEROES: TFlag.SEND_WRITE_ZEROES,
}


def send(client, command, flags=0, offset=0, length=4096):
    """Submit any command with a range that suits it."""
    if command == Cmd.WRITE:
        return client.submit(command, offset, flags=flags, payload=b"\xEE" * length)
    if command == Cmd.FLUSH:
        return client.submit(command, flags=flags)
    return client.submit(command, offset, length, flags)


# Backends and options that make exports of every kind.
KINDS = (("memory", ()), ("null", ()), ("pattern", ()), ("full", ()),
         ("memory", ("-r",)), ("null", ("-r",)))


class EveryBackend(unittest.TestCase):
    """Transmission flags of exports of every kind."""

    @classmethod
    def setUpClass(cls):
        cls.kinds = [kind for kind in KINDS
                     if harness.can_serve(kind[0], "1M", options=kind[1])]

    @contextlib.contextmanager
    def client_of(self, backend, options, mode):
        """A client in transmission with a server of its own."""
        with self.subTest(backend, options=options, mode=mode), \
                Server(backend, "1M", options=options) as server, server.connect() as client:
            yield client.negotiate(mode=mode)

    def test_X01_flags_mean_what_they_say(self):
        """HAS_FLAGS is set, unknown bits are not, and what is offered works."""
        for (backend, options), mode in itertools.product(self.kinds, MODES):
            with self.client_of(backend, options, mode) as client:
                flags = client.export.flags
                self.assertTrue(flags & TFlag.HAS_FLAGS)
                self.assertEqual(0, flags & ~TFlag(0x1FFF))
                self.assertFalse(flags & TFlag.BLOCK_STATUS_PAYLOAD)
                good = (Err.OK, Err.ENOSPC) if backend == "full" else (Err.OK,)
                for command, bit in EXPOSED_BY.items():
                    if flags & bit:
                        self.assertIn(client.finish(send(client, command)).error, good)
                if flags & TFlag.SEND_FUA and not flags & TFlag.READ_ONLY:
                    reply = client.finish(send(client, Cmd.WRITE, CFlag.FUA))
                    self.assertIn(reply.error, good)
                client.disconnect()

    def test_X01_what_the_backends_can_do_is_offered(self):
        """Memory and files offer the features on which other tests rely."""
        disk = harness.scratch(self) / "disk"
        disk.write_bytes(bytes(MIB))
        everything = (TFlag.SEND_FLUSH | TFlag.SEND_FUA | TFlag.SEND_TRIM | TFlag.SEND_DF |
                      TFlag.SEND_WRITE_ZEROES | TFlag.SEND_CACHE | TFlag.CAN_MULTI_CONN)
        for backend, expected in ((("memory", "1M"), everything | TFlag.SEND_FAST_ZERO),
                                  (("file", disk), everything)):
            with self.subTest(backend[0]), Server(*backend) as server, \
                    server.connect() as client:
                flags = client.negotiate(mode=Mode.STRUCTURED).export.flags
                self.assertEqual(TFlag(0), expected & ~flags, "not offered")
                client.disconnect()

    def test_X01_what_is_not_offered_is_refused(self):
        """A command whose flag is missing is an error, and sync is kept."""
        for (backend, options), mode in itertools.product(self.kinds, MODES):
            with self.client_of(backend, options, mode) as client:
                for command, bit in EXPOSED_BY.items():
                    if not client.export.flags & bit:
                        reply = client.finish(send(client, command))
                        self.assertIn(reply.error, (Err.OK, Err.EINVAL)
                                      if command == Cmd.FLUSH else (Err.EPERM, Err.EINVAL))
                self.assertEqual(512, len(client.read(0, 512)))
                client.disconnect()

    def test_X01_df_is_offered_only_with_structured_replies(self):
        """SEND_DF without structured replies would offer what cannot be had."""
        for (backend, options), mode in itertools.product(self.kinds, MODES):
            with self.client_of(backend, options, mode) as client:
                if client.export.flags & TFlag.SEND_DF:
                    self.assertIs(Mode.STRUCTURED, mode)
                    self.assertEqual(4096, len(client.read(0, 4096, CFlag.DF)))
                client.disconnect()

    def test_X03_fast_zero_comes_with_write_zeroes(self):
        """SEND_FAST_ZERO alone would make no sense."""
        for backend, options in self.kinds:
            with self.client_of(backend, options, Mode.STRUCTURED) as client:
                if client.export.flags & TFlag.SEND_FAST_ZERO:
                    self.assertTrue(client.export.flags & TFlag.SEND_WRITE_ZEROES)
                client.disconnect()


class Memory(ServerCase):
    """Requests and replies on a writable export."""

    def full_client(self, mode=Mode.STRUCTURED):
        """A client that negotiated all there is in this mode."""
        return self.client(mode, contexts=[ALLOCATION] if mode else ())

    def test_X02_connections_share_one_state(self):
        """With CAN_MULTI_CONN, FLUSH and FUA on one connection count on all."""
        writer, flusher, reader = self.client(), self.client(Mode.STRUCTURED), self.client()
        self.need(writer, TFlag.CAN_MULTI_CONN)
        for flags in (0, CFlag.FUA):
            for step in range(16):
                data = pattern(8192, seed=step + flags)
                writer.write(step * 8192, data, flags)
                if not flags:
                    self.assert_ok(flusher.call(Cmd.FLUSH))
                self.assertEqual(data, reader.read(step * 8192, 8192))
                self.assertEqual(data, flusher.read(step * 8192, 8192))

    def test_X04_cookies_come_back_as_they_were(self):
        """Any 64 bits are a good cookie, also one used before."""
        for mode in MODES:
            client = self.client(mode)
            for cookie in (0, 1, (1 << 64) - 1, 0x2560951367446698, 0x0A0D000A0D00FFFE, 1, 1):
                self.assert_ok(client.call(Cmd.READ, 0, 512, cookie=cookie))
                self.assert_ok(client.call(Cmd.WRITE, 0, payload=bytes(512), cookie=cookie))

    def test_X04_many_requests_in_flight(self):
        """128 requests at once are each answered once, with their own data."""
        chance = random.Random(4)
        for mode in MODES:
            client = self.client(mode)
            content = pattern(MIB, seed=4)
            client.write(0, content)
            for _ in range(8):
                reads = []
                for _ in range(128):
                    length = chance.choice((1, 7, 512, 4096, 9000, 65536))
                    offset = chance.randrange(MIB - length)
                    reads.append(client.submit(Cmd.READ, offset, length,
                                               cookie=chance.getrandbits(64)))
                client.finish()
                for read in reads:
                    self.assert_ok(read)
                    self.assertTrue(read.data == content[read.offset:read.offset + read.length])
            client.disconnect()

    def test_X05_reads_are_always_structured_once_agreed(self):
        """Not even an early refusal of a READ comes as a simple reply."""
        client = self.full_client()
        for offset, length, flags in ((0, 512, 0), (0, 512, CFlag.NO_HOLE), (0, 512, 1 << 15),
                                      (MIB, 512, 0), ((1 << 64) - 1, 512, 0), (0, MIB + 1, 0)):
            with self.subTest(offset=offset, length=length, flags=flags):
                self.assertFalse(client.call(Cmd.READ, offset, length, flags).simple)
        self.assert_serving(client)

    def test_X05_errors_are_chunks_with_text(self):
        """Errors of all commands tell a human what was wrong."""
        client = self.full_client()
        for command in VALID_FLAGS:
            with self.subTest(command):
                reply = client.finish(send(client, command, flags=1 << 14))
                self.assert_error(reply, Err.EINVAL)
                self.assertFalse(reply.simple)
                self.assertTrue(any(reply.texts), "an error without a text")

    def test_X06_done_comes_last_and_once(self):
        """Replies of every shape end with DONE and leave nothing behind."""
        client = self.full_client()
        client.write(65536, pattern(4096))
        client.write(131072, pattern(512))
        for command in VALID_FLAGS:
            if not command == Cmd.WRITE:
                client.finish(send(client, command, offset=0, length=262144))
        for flags in (0, CFlag.DF):
            self.assert_ok(client.call(Cmd.READ, 0, MIB, flags))
        self.assert_error(client.call(Cmd.READ, 0, MIB + 1), Err.EINVAL)
        client.disconnect()

    def test_X07_error_chunks_are_well_formed(self):
        """Error chunks have an error, a legal text, and one kind per reply."""
        client = self.full_client()
        for command in VALID_FLAGS:
            if command == Cmd.FLUSH:
                continue
            for offset, length in ((MIB - 512, 1024), (MIB, 1), ((1 << 63), 4096)):
                with self.subTest(command, offset=offset):
                    reply = client.finish(send(client, command, 0, offset, length))
                    self.assert_error(reply, Err.EINVAL, Err.ENOSPC)
                    self.assertTrue(reply.simple or {Chunk.ERROR, Chunk.ERROR_OFFSET}
                                    & set(reply.types))
        client.disconnect()

    def test_X08_unknown_commands_are_einval(self):
        """Commands nobody defined are refused; they carry no payload."""
        for mode in MODES:
            client = self.client(mode)
            for command in (9, 10, 63, 255, 256, 0x7FFF, 0xFFFF):
                for length in (0, 1, 4096, 0xFFFFFFFF):
                    with self.subTest(mode=mode, command=command, length=length):
                        self.assert_error(client.call(command, 0, length), Err.EINVAL)
            self.assert_serving(client)

    def test_X08_flags_that_do_not_apply_are_einval(self):
        """Unknown flags and other commands' flags are refused, payload drained."""
        for mode in MODES:
            client = self.full_client(mode)
            before = client.read(0, 4096)
            for command, valid in VALID_FLAGS.items():
                if mode is Mode.SIMPLE:
                    valid &= ~CFlag.DF
                for bit in range(1, 16):
                    if 1 << bit & valid:
                        continue
                    with self.subTest(command, mode=mode, bit=bit):
                        reply = client.finish(send(client, command, 1 << bit))
                        self.assert_error(reply, Err.EINVAL)
            self.assertEqual(before, client.read(0, 4096), "a refused request had effect")
            client.disconnect()

    def test_X08_fua_is_accepted_on_every_command(self):
        """Once FUA is offered no command is refused for carrying it."""
        client = self.full_client()
        self.need(client, TFlag.SEND_FUA)
        for command in VALID_FLAGS:
            with self.subTest(command):
                self.assert_ok(client.finish(send(client, command, CFlag.FUA)))
        self.assert_serving(client)

    def test_X10_past_the_end(self):
        """Writing past the end is ENOSPC, everything else EINVAL; nothing happens."""
        expected = {Cmd.WRITE: Err.ENOSPC, Cmd.WRITE_ZEROES: Err.ENOSPC}
        for mode in MODES:
            client = self.full_client(mode)
            client.write(MIB - 4096, b"\x33" * 4096)
            commands = set(VALID_FLAGS) - {Cmd.FLUSH} - (
                {Cmd.BLOCK_STATUS} if mode is Mode.SIMPLE else set())
            for command in commands:
                for offset, length in ((MIB - 4096, 4097), (MIB - 1, 2), (MIB, 1), (MIB, 4096),
                                       (2 * MIB, 512), (1 << 32, 512), (1 << 63, 512),
                                       ((1 << 63) - 512, 1024), ((1 << 64) - 512, 512),
                                       ((1 << 64) - 512, 1024), ((1 << 64) - 1, 1)):
                    with self.subTest(command, mode=mode, offset=offset, length=length):
                        reply = client.finish(send(client, command, 0, offset, length))
                        self.assert_error(reply, expected.get(command, Err.EINVAL))
            self.assertEqual(b"\x33" * 4096, client.read(MIB - 4096, 4096))

    def test_X10_lengths_that_overflow(self):
        """Offset plus length beyond 64 bits is as far past the end as it gets."""
        client = self.full_client()
        for command in (Cmd.READ, Cmd.TRIM, Cmd.WRITE_ZEROES, Cmd.CACHE, Cmd.BLOCK_STATUS):
            for offset in ((1 << 64) - 0xFFFFFFFF, (1 << 64) - 512, 512, (1 << 32) + 512):
                with self.subTest(command, offset=offset):
                    reply = client.finish(send(client, command, 0, offset, 0xFFFFFFFF))
                    self.assert_error(reply, Err.EINVAL, Err.ENOSPC, Err.EOVERFLOW)
        self.assert_serving(client)

    def test_X12_zero_length_requests_keep_the_connection(self):
        """The answer to an empty request is unspecified, but there is one."""
        for mode in MODES:
            client = self.full_client(mode)
            for command in VALID_FLAGS:
                for offset in (0, 512, MIB, MIB + 1):
                    with self.subTest(command, mode=mode, offset=offset):
                        self.assertTrue(
                            client.finish(send(client, command, 0, offset, 0)).done)
            client.disconnect()

    def test_X14_disc_lets_outstanding_requests_finish(self):
        """Everything asked before DISC is answered, DISC itself is not."""
        for mode in MODES:
            client = self.client(mode)
            data = pattern(64 * 8192, seed=14)
            replies = [client.submit(Cmd.WRITE, index * 8192,
                                     payload=data[index * 8192:(index + 1) * 8192])
                       for index in range(64)]
            replies += [client.submit(Cmd.READ, MIB // 2, 8192) for _ in range(64)]
            client.disconnect()
            for reply in replies:
                self.assert_ok(reply)
            self.assertTrue(self.client().read(0, len(data)) == data, "data differ")

    def test_X14_nothing_counts_after_disc(self):
        """DISC ends the connection; what follows it is not a request any more."""
        for trailer in (b"", b"garbage", request_bytes(Mode.SIMPLE, Cmd.READ, 0, 512)):
            client = self.client()
            client.send(request_bytes(Mode.SIMPLE, Cmd.DISC) + trailer)
            self.assert_dropped(client)

    def test_X15_a_failed_read_carries_no_payload(self):
        """After the simple reply that tells the error comes the next reply."""
        client = self.client()
        replies = []
        for _ in range(32):
            replies.append(client.submit(Cmd.READ, MIB, 4096))
            replies.append(client.submit(Cmd.READ, 0, 512))
        client.finish()
        for bad, good in zip(replies[::2], replies[1::2]):
            self.assert_error(bad, Err.EINVAL)
            self.assert_ok(good)
        client.disconnect()


class ReadOnly(ServerCase):
    """An export that must not be written."""

    options = ("-r",)

    def test_X09_writing_is_not_permitted(self):
        """Every command that would write is EPERM, its payload drained."""
        for mode in MODES:
            client = self.client(mode)
            self.assertTrue(client.export.flags & TFlag.READ_ONLY)
            for command in (Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES):
                for flags in (0, CFlag.FUA) if client.export.flags & TFlag.SEND_FUA else (0,):
                    with self.subTest(command, mode=mode, flags=flags):
                        reply = client.finish(send(client, command, flags))
                        self.assert_error(reply, Err.EPERM)
                        self.assert_serving(client)
            self.assertEqual(bytes(MIB), client.read(0, MIB))

    def test_X09_large_payloads_are_drained_too(self):
        """A refused WRITE of many MiB is read off the connection."""
        client = self.client()
        reply = client.call(Cmd.WRITE, 0, payload=bytes(MIB))
        self.assert_error(reply, Err.EPERM)
        replies = [client.submit(Cmd.WRITE, 0, payload=b"\x11" * 65536) for _ in range(64)]
        client.finish()
        for reply in replies:
            self.assert_error(reply, Err.EPERM)
        self.assert_serving(client)

    def test_X09_reading_is(self):
        """READ, CACHE and BLOCK_STATUS do not write."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION])
        self.assertEqual(bytes(4096), client.read(0, 4096))
        self.assert_ok(client.call(Cmd.BLOCK_STATUS, 0, 4096))
        if client.export.flags & TFlag.SEND_CACHE:
            self.assert_ok(client.call(Cmd.CACHE, 0, 4096))


class FullDisk(ServerCase):
    """A backend that has no space at all."""

    backend = ("full", "1M")

    def test_X11_no_space_is_enospc(self):
        """Every write fails with ENOSPC, nothing else, and reads go on."""
        for mode in MODES:
            client = self.client(mode)
            for command in (Cmd.WRITE, Cmd.WRITE_ZEROES):
                reply = client.finish(send(client, command))
                self.assert_error(reply, Err.ENOSPC)
                self.assert_serving(client)


class RegularFile(ServerCase):
    """A file that can be looked at, and damaged, behind the server's back."""

    @classmethod
    def prepare(cls):
        cls.disk = cls.workdir / "disk"
        cls.content = pattern(MIB, seed=15)
        cls.disk.write_bytes(cls.content)
        cls.backend = ("file", cls.disk)

    def setUp(self):
        with self.disk.open("r+b") as disk:
            disk.write(self.content)

    def test_X02_flush_on_one_connection_covers_the_others(self):
        """What others wrote and were told is on storage when FLUSH is answered."""
        writers, flusher = [self.client(), self.client(Mode.STRUCTURED)], self.client()
        self.need(flusher, TFlag.CAN_MULTI_CONN)
        for index in range(32):
            writers[index % 2].write(index * 32768, pattern(32768, seed=index))
        self.assert_ok(flusher.call(Cmd.FLUSH))
        pages = harness.unwritten_pages(self.disk)
        for index in range(32):
            self.assertEqual(pattern(32768, seed=index), flusher.read(index * 32768, 32768))
        if pages is None:
            self.skipTest("the kernel does not tell which pages are unwritten")
        self.assertEqual(0, pages, "pages not written back after FLUSH")

    def test_X15_an_error_in_the_middle_of_a_simple_read(self):
        """A file that shrank: an error without payload, or the end at once."""
        ranges = ((MIB * 3 // 4, 65536), (MIB // 2 - 4096, 65536))
        clients = [self.client() for _ in ranges]
        os.truncate(self.disk, MIB // 2)
        for client, (offset, length) in zip(clients, ranges):
            reply = client.submit(Cmd.READ, offset, length)
            try:
                client.finish(reply)
                self.assert_serving(client)
            except Disconnected:
                pass
            self.assert_unharmed()


class OwnServer(unittest.TestCase):
    """Tests that end or limit the server."""

    def serve(self, *backend):
        server = Server(*backend)
        server.start()
        self.addCleanup(server.kill)
        return server

    def connect(self, server, mode=Mode.SIMPLE):
        client = server.connect()
        self.addCleanup(client.close)
        return client.negotiate(mode=mode)

    def test_X11_a_file_size_limit_is_enospc(self):
        """EFBIG from the system is ENOSPC on the wire, and kills nobody."""
        if harness.server_command()[0].endswith("through-nbd"):
            self.skipTest("the file belongs to another process")
        disk = harness.scratch(self) / "disk"
        with disk.open("wb") as file:
            file.truncate(4 * MIB)
        server = self.serve("file", disk)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
        for mode in MODES:
            client = self.connect(server, mode)
            reply = client.call(Cmd.WRITE, 2 * MIB, payload=b"\x44" * 4096)
            self.assertEqual(Err.ENOSPC, reply.error)
            client.write(0, b"\x44" * 4096)
            client.disconnect()
        server.stop()

    def test_X13_shutdown_finishes_what_is_in_flight(self):
        """After SIGTERM each request is served, or ESHUTDOWN, or cut off;
        what was acknowledged is in the file; then the connection ends."""
        for mode in MODES:
            with self.subTest(mode):
                disk = harness.scratch(self) / "disk"
                disk.write_bytes(bytes(128 * 8192))
                server = self.serve("file", disk)
                client = self.connect(server, mode)
                idle = self.connect(server, mode)
                replies = [client.submit(Cmd.WRITE, index * 8192,
                                         payload=pattern(8192, seed=index))
                           for index in range(128)]
                server.terminate()
                try:
                    client.finish()
                    client.until_closed()
                except Disconnected:
                    pass
                self.assertEqual(b"", idle.until_closed())
                server.check_exit()
                for index, reply in enumerate(replies):
                    self.assertIn(reply.error, (Err.OK, Err.ESHUTDOWN))
                    if reply.ok:
                        stored = disk.read_bytes()[index * 8192:(index + 1) * 8192]
                        self.assertEqual(pattern(8192, seed=index), stored)

    def test_X13_shutdown_does_not_wait_for_half_a_request(self):
        """A client in the middle of sending does not keep the server alive."""
        server = self.serve("memory", "1M")
        client = self.connect(server)
        client.send(request_bytes(Mode.SIMPLE, Cmd.WRITE, 0, 4096) + bytes(100))
        server.terminate()
        rest = client.until_closed()
        self.assertIn(len(rest), (0, 16))
        if rest:
            self.assertEqual(Err.ESHUTDOWN, struct.unpack(">II", rest[:8])[1])
        server.check_exit()


if __name__ == "__main__":
    harness.main()
