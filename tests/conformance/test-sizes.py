#!/usr/bin/env python3
"""Conformance of sizes: block sizes, payload limits, requests out of bounds.

Test names start with the requirement's id, S1 to S10, as listed in
docs/protocol.md.
"""

import unittest

import harness
from harness import Server, ServerCase, pattern
from nbdwire import (ALLOCATION, NO_SIZE_LIMIT, PAYLOAD_LIMIT, Cmd, Err, Info, Mode, Opt, Rep,
                     info_data)

MIB = 1 << 20

# A request that is not a multiple of any block size beyond 1, per command.
LENGTH_COMMANDS = (Cmd.READ, Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES, Cmd.CACHE, Cmd.BLOCK_STATUS)


def send_any(client, command, offset, length, flags=0):
    """Submit any command by offset and length; a WRITE gets a payload."""
    payload = b"\xEE" * length if command == Cmd.WRITE else None
    return client.submit(command, offset, length, flags, payload)


class EveryBackend(unittest.TestCase):
    """What is true of the sizes any backend advertises."""

    def test_S01_advertised_sizes_obey_the_rules(self):
        """Powers of two in order, and a maximum that is usable."""
        for size in ("0", "1", "511", "4096", "1M", "1000001", "100G"):
            for backend in ("memory", "null", "pattern", "full"):
                with self.subTest(f"{backend} {size}"), Server(backend, size) as server, \
                        server.connect() as client:
                    check_sizes(self, client.begin().info("", [Info.BLOCK_SIZE]))

    def test_S02_no_sizes_advertised_means_the_defaults(self):
        """Whoever does not advertise sizes serves single bytes."""
        for backend in ("memory", "null", "pattern", "full"):
            with self.subTest(backend), Server(backend, "1M") as server, \
                    server.connect() as client:
                client.negotiate(infos=[Info.BLOCK_SIZE])
                minimum = client.export.block_size[0] if client.export.block_size else 1
                self.assertEqual(minimum, len(client.read(minimum, minimum)))


def check_sizes(test, export):
    """Assert rule S1 on what an export advertises, if it does."""
    if export.block_size is None:
        return
    minimum, preferred, maximum = export.block_size
    for name, value in (("minimum", minimum), ("preferred", preferred)):
        test.assertEqual(1, value.bit_count(), f"{name} {value} is no power of two")
    test.assertLessEqual(minimum, 1 << 16)
    test.assertGreaterEqual(preferred, max(minimum, 512))
    if maximum != NO_SIZE_LIMIT:
        test.assertEqual(0, maximum % minimum)
        test.assertGreaterEqual(maximum, min(preferred, export.size))
        test.assertGreaterEqual(maximum, min(MIB, export.size))


class SmallExport(ServerCase):
    """Large requests to a small export: errors, never a disconnect."""

    def test_S03_defaults_hold_for_who_did_not_ask(self):
        """Single bytes at odd offsets work, by GO and by EXPORT_NAME."""
        for enter in ("go", "export_name"):
            with self.subTest(enter):
                client = self.haggler()
                getattr(client, enter)("")
                client.write(12345, b"odd")
                self.assertEqual(b"\0odd\0", client.read(12344, 5))

    def test_S03_a_full_payload_is_accepted_by_a_small_export(self):
        """32 MiB of payload to 1 MiB of export: an error, and all in sync."""
        client = self.client()
        reply = client.call(Cmd.WRITE, 0, payload=bytes(PAYLOAD_LIMIT))
        self.assert_error(reply, Err.ENOSPC, Err.EINVAL)
        self.assert_serving(client)
        self.assert_error(client.call(Cmd.READ, 0, PAYLOAD_LIMIT), Err.EINVAL)
        self.assert_serving(client)

    def test_S06_past_the_end_is_an_error_without_damage(self):
        """One byte too far fails whole: nothing is written, all stays in sync."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION])
        client.write(MIB - 512, b"\x55" * 512)
        for command in LENGTH_COMMANDS:
            for offset, length in ((MIB - 512, 513), (MIB, 512), (MIB - 1, 2), (MIB + 512, 512)):
                with self.subTest(command, offset=offset, length=length):
                    reply = client.finish(send_any(client, command, offset, length))
                    self.assert_error(reply, Err.EINVAL, Err.ENOSPC)
                    self.assertEqual(b"\x55" * 512, client.read(MIB - 512, 512))


class LargeExport(ServerCase):
    """Requests up to and beyond the maximum payload."""

    backend = ("memory", "8G")

    def test_S03_32_mib_in_one_request(self):
        """Without sizes asked for, 32 MiB can be written and read at once."""
        data = pattern(4096) * (PAYLOAD_LIMIT // 4096)
        for mode in (Mode.SIMPLE, Mode.STRUCTURED):
            with self.subTest(mode):
                client = self.client(mode)
                client.write(4096, data)
                self.assertTrue(client.read(4096, PAYLOAD_LIMIT) == data, "data differ")

    def test_S08_32_mib_is_no_attack_whatever_is_advertised(self):
        """A payload of 32 MiB is served or refused, with sizes negotiated too."""
        client = self.client(Mode.STRUCTURED, infos=[Info.BLOCK_SIZE])
        maximum = client.export.block_size[2] if client.export.block_size else PAYLOAD_LIMIT
        for _ in range(3):
            reply = client.call(Cmd.WRITE, 0, payload=bytes(PAYLOAD_LIMIT))
            if maximum >= PAYLOAD_LIMIT:
                self.assert_ok(reply)
            else:
                self.assertIn(reply.error, (Err.OK, Err.EINVAL))
            self.assert_serving(client)

    def test_S09_effects_may_be_longer_than_any_payload(self):
        """TRIM, WRITE_ZEROES, CACHE and BLOCK_STATUS of nearly 4 GiB at once."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION], infos=[Info.BLOCK_SIZE])
        length = (1 << 32) - 4096
        for command in (Cmd.BLOCK_STATUS, Cmd.CACHE, Cmd.TRIM, Cmd.WRITE_ZEROES):
            with self.subTest(command):
                client.write(MIB, b"\x77" * 4096)
                client.write(length, b"\x88" * 8192)
                reply = client.call(command, 0, length)
                self.assertIn(reply.error, (Err.OK, Err.EINVAL, Err.EOVERFLOW))
                self.assert_serving(client)
                kept = client.read(length, 4096)
                self.assertEqual(b"\x88" * 4096, kept, "bytes beyond the request changed")
                if command == Cmd.WRITE_ZEROES and reply.ok:
                    self.assertEqual(bytes(4096), client.read(MIB, 4096))
                    self.assertEqual(bytes(4096), client.read(length - 4096, 4096))

    def test_S10_chunks_stay_within_the_maximum(self):
        """No reply chunk carries more than the maximum payload and its own header."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION], infos=[Info.BLOCK_SIZE])
        maximum = client.export.block_size[2] if client.export.block_size else PAYLOAD_LIMIT
        client.write(0, b"\x99" * (4 * MIB))
        longest = min(maximum, PAYLOAD_LIMIT)
        for length in (4 * MIB, longest - longest % 65536):
            reply = client.call(Cmd.READ, 0, length)
            self.assert_ok(reply)
            self.assertLessEqual(reply.largest, maximum + 8)
        for _ in range(2):
            reply = client.call(Cmd.BLOCK_STATUS, 0, 1 << 31)
            self.assert_ok(reply)
            self.assertLessEqual(reply.largest, maximum + 8)


class DirectCase(ServerCase):
    """A file opened with O_DIRECT: the server has a minimum block size."""

    size = 0

    @classmethod
    def workdir_parent(cls):
        directory = harness.direct_directory()
        if directory is None:
            raise unittest.SkipTest("no file system with O_DIRECT")
        return directory

    @classmethod
    def prepare(cls):
        cls.disk = cls.workdir / "disk"
        cls.content = pattern(cls.size)
        cls.disk.write_bytes(cls.content)
        cls.backend = ("file", cls.disk, "cache=none")

    def setUp(self):
        with self.disk.open("r+b") as disk:
            disk.write(self.content)

    def asking(self, mode=Mode.STRUCTURED):
        """A client that asked for the sizes, and the minimum it was told."""
        client = self.client(mode, contexts=[ALLOCATION] if mode else (), infos=[Info.BLOCK_SIZE])
        return client, client.export.block_size[0] if client.export.block_size else 1


class DirectFile(DirectCase):
    """An O_DIRECT file of a round size."""

    size = 1 * MIB

    def test_S01_advertised_sizes_obey_the_rules(self):
        """Powers of two in order, and a maximum that is usable."""
        check_sizes(self, self.haggler().info("", [Info.BLOCK_SIZE]))

    def test_S02_a_minimum_is_advertised_if_it_is_enforced(self):
        """What is advertised is what holds: the minimum itself always works."""
        client, minimum = self.asking()
        for offset in (0, minimum, 3 * minimum):
            data = client.read(offset, minimum)
            self.assertEqual(self.content[offset:offset + minimum], data)

    def test_S04_clients_that_did_not_ask_are_served(self):
        """Unaligned reads and writes of a client that knows no sizes are right."""
        for enter in ("go", "export_name"):
            with self.subTest(enter):
                expected = bytearray(self.disk.read_bytes())
                client = self.haggler()
                getattr(client, enter)("")
                for offset, length in ((0, 1), (1, 1), (511, 2), (1000, 5000), (4095, 4098),
                                       (self.size - 3, 3)):
                    data = bytes([length & 0xFF or 1]) * length
                    client.write(offset, data)
                    expected[offset:offset + length] = data
                    self.assertEqual(data, client.read(offset, length))
                self.assertTrue(client.read(0, self.size) == expected, "neighbours changed")
                self.assert_ok(client.call(Cmd.FLUSH))
                self.assertTrue(self.disk.read_bytes() == expected, "the file differs")

    def test_S04_unaligned_effects_hit_just_their_range(self):
        """Unaligned WRITE_ZEROES zeroes its bytes only; TRIM spares the rest."""
        client = self.client()
        for command in (Cmd.WRITE_ZEROES, Cmd.TRIM):
            offset, length = 8192 + 7, 10001
            self.assert_ok(client.call(command, offset, length))
            self.assertEqual(self.content[8192:offset], client.read(8192, 7))
            self.assertEqual(self.content[offset + length:32768],
                             client.read(offset + length, 32768 - offset - length))
            if command == Cmd.WRITE_ZEROES:
                self.assertEqual(bytes(length), client.read(offset, length))

    def test_S04_overlapping_unaligned_writes_lose_nothing(self):
        """Many small writes in flight to the same blocks all take effect."""
        clients = [self.client(), self.client()]
        for start in range(0, 2048, 128):
            for index in range(128):
                offset = 65536 + start + index
                clients[index % 2].submit(Cmd.WRITE, offset, payload=bytes([offset % 251]))
            for client in clients:
                client.finish()
        expected = bytes(offset % 251 for offset in range(65536, 65536 + 2048))
        self.assertEqual(expected, clients[0].read(65536, 2048))
        self.assertEqual(self.content[:65536], clients[1].read(0, 65536))

    def test_S05_whoever_asked_is_not_told_to_ask(self):
        """ERR_BLOCK_SIZE_REQD never comes if BLOCK_SIZE was requested."""
        for infos in ([Info.BLOCK_SIZE], [Info.NAME, Info.BLOCK_SIZE]):
            client = self.haggler()
            for option in (Opt.INFO, Opt.GO):
                self.assertEqual(Rep.ACK, client.answer(option, info_data("", infos)))

    def test_S05_whoever_did_not_ask_is_told_the_sizes_first(self):
        """If ERR_BLOCK_SIZE_REQD is used at all, the sizes precede it."""
        for option in (Opt.INFO, Opt.GO):
            *infos, last = self.haggler().option(option, info_data(""))
            self.assertIn(last.type, (Rep.ACK, Rep.ERR_BLOCK_SIZE_REQD))
            if last.type == Rep.ERR_BLOCK_SIZE_REQD:
                self.assertIn(Info.BLOCK_SIZE, [reply.info()[0] for reply in infos])

    def test_S06_unaligned_is_einval_for_who_asked(self):
        """A client bound to a minimum gets EINVAL below it, and nothing changes."""
        client, minimum = self.asking()
        if minimum == 1:
            self.skipTest("the server has no minimum block size")
        bad = ((1, minimum), (0, minimum - 1), (0, 1), (minimum // 2, minimum),
               (minimum, minimum + 1), (minimum - 1, minimum + 1))
        for command in LENGTH_COMMANDS:
            for offset, length in bad:
                with self.subTest(command, offset=offset, length=length):
                    self.assert_error(client.finish(send_any(client, command, offset, length)),
                                      Err.EINVAL)
                    self.assert_serving(client)
        self.assertTrue(client.read(0, self.size) == self.content, "a refused request had effect")

    def test_S06_past_the_end_is_an_error_without_damage(self):
        """Aligned, but beyond the end: an error, nothing written, nothing grown."""
        client, _ = self.asking()
        for command in LENGTH_COMMANDS:
            for offset, length in ((self.size - 65536, 131072), (self.size, 65536),
                                   (1 << 62, 65536)):
                with self.subTest(command, offset=offset):
                    self.assert_error(client.finish(send_any(client, command, offset, length)),
                                      Err.EINVAL, Err.ENOSPC)
                    self.assert_serving(client)
        self.assertTrue(self.disk.read_bytes() == self.content, "the file changed")

    def test_S06_payload_that_does_not_start_aligned_in_the_stream(self):
        """Aligned writes of every size in a row land where they should."""
        client, minimum = self.asking(Mode.SIMPLE)
        expected = bytearray(self.content)
        offset = 0
        for blocks in (1, 2, 1, 3, 7, 1, 16, 5, 1):
            length = blocks * max(minimum, 512)
            data = pattern(length, seed=offset + 1)
            client.submit(Cmd.WRITE, offset, payload=data)
            expected[offset:offset + length] = data
            offset += length
        client.finish()
        self.assertTrue(client.read(0, self.size) == expected, "data differ")


class OddFile(DirectCase):
    """An O_DIRECT file whose size is no multiple of any block size."""

    size = 64 * 1024 + 100

    def test_S07_the_whole_size_is_reachable(self):
        """What the advertised size promises can be read and written to its end."""
        expected = self.content
        client = self.client()
        size = client.export.size
        self.assertTrue(client.read(0, size) == expected[:size], "data differ")
        client.write(size - 1, b"!")
        self.assertEqual(expected[size - 10:size - 1] + b"!", client.read(size - 10, 10))
        self.assert_error(client.call(Cmd.WRITE, size, payload=b"?"), Err.ENOSPC)
        self.assertEqual(self.size, self.disk.stat().st_size)

    def test_S07_size_is_a_multiple_of_the_minimum_or_unaligned_works(self):
        """Who asked for sizes can reach every aligned block, and the tail if it counts."""
        client, minimum = self.asking()
        whole = client.export.size // minimum * minimum
        self.assertTrue(client.read(0, whole) == self.content[:whole], "data differ")
        if client.export.size != whole:
            self.assert_error(client.call(Cmd.READ, whole, minimum), Err.EINVAL)
        self.assert_serving(client)

    def test_S06_past_the_end_is_an_error_without_damage(self):
        """Beyond the end: an error, nothing written, nothing grown."""
        client = self.client()
        for command in (Cmd.READ, Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES):
            with self.subTest(command):
                self.assert_error(
                    client.finish(send_any(client, command, client.export.size - 1, 2)),
                    Err.EINVAL, Err.ENOSPC)
        self.assertTrue(self.disk.read_bytes() == self.content, "the file changed")


if __name__ == "__main__":
    harness.main()
