#!/usr/bin/env python3
"""Conformance of each command: READ to BLOCK_STATUS.

Test names start with the requirement's id, C1 to C15, as listed in
docs/protocol.md.
"""

import os
import unittest

import harness
from harness import Server, ServerCase, pattern
from nbdwire import ALLOCATION, HOLE, NO_SIZE_LIMIT, ZERO, CFlag, Cmd, Err, Info, Mode, TFlag

KIB = 1 << 10
MIB = 1 << 20

# Where the sparse test image has data: (offset, length), all else is a hole.
ISLANDS = ((0, 4 * KIB), (64 * KIB, 64 * KIB), (200 * KIB, 4 * KIB), (512 * KIB, 256 * KIB),
           (1020 * KIB, 4 * KIB))


def sparse_image(size=MIB, islands=ISLANDS):
    """The bytes of the sparse test image."""
    image = bytearray(size)
    for offset, length in islands:
        image[offset:offset + length] = pattern(length, seed=offset)
    return bytes(image)


class SparseCases:
    """Reading and asking about an export with data and holes.

    Mixed into one class per backend; the image is in place when a test starts.
    """

    image = sparse_image()

    def status_client(self, infos=()):
        return self.client(Mode.STRUCTURED, contexts=[ALLOCATION], infos=infos)

    def test_C01_sparse_reads_are_complete(self):
        """Chunks of any kind add up to what is stored, at any range."""
        client = self.client(Mode.STRUCTURED)
        for offset, length in ((0, MIB), (1, MIB - 1), (4095, 2), (4096, 4096), (60 * KIB, 77777),
                               (3 * KIB, 600 * KIB), (MIB - 5000, 5000), (100, 1)):
            with self.subTest(offset=offset, length=length):
                data = client.read(offset, length)
                self.assertTrue(data == self.image[offset:offset + length], "data differ")

    def test_C01_chunks_of_aligned_reads_are_multiples_of_512(self):
        """An aligned READ of aligned data is not cut at odd places."""
        client = self.client(Mode.STRUCTURED)
        for offset, length in ((0, MIB), (512, MIB - 512), (64 * KIB, 512 * KIB)):
            for start, size, _ in client.call(Cmd.READ, offset, length).content:
                self.assertEqual((0, 0), (start % 512, size % 512))

    def test_C01_simple_reads_fill_holes_with_zeroes(self):
        """Without structured replies the zeroes come as bytes."""
        client = self.client()
        self.assertTrue(client.read(0, MIB) == self.image, "data differ")

    def test_C03_unfragmented_reads_of_64_kib_work(self):
        """DF up to 64 KiB: one chunk at most (the client checks), data and holes."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_DF)
        for offset in (0, 512, 60 * KIB, 64 * KIB, 100 * KIB, 190 * KIB, 300 * KIB, MIB - 64 * KIB):
            reply = client.call(Cmd.READ, offset, 64 * KIB, CFlag.DF)
            self.assert_ok(reply)
            self.assertTrue(reply.data == self.image[offset:offset + 64 * KIB], "data differ")

    def test_C03_unfragmented_reads_of_more(self):
        """DF beyond 64 KiB: one chunk, or EOVERFLOW and no content."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_DF)
        for length in (64 * KIB + 1, 512 * KIB, MIB):
            reply = client.call(Cmd.READ, 0, length, CFlag.DF)
            if reply.ok:
                self.assertTrue(reply.data == self.image[:length], "data differ")
            else:
                self.assert_error(reply, Err.EOVERFLOW)
            self.assert_serving(client)

    def test_C11_status_of_the_whole_export(self):
        """Extents, asked for piece by piece, describe every byte, and rightly."""
        client = self.status_client()
        for step in (MIB, 100 * KIB, 4 * KIB):
            offset = 0
            while offset < MIB:
                length = min(step, MIB - offset)
                covered = offset
                for size, status in client.block_status(offset, length):
                    end = min(covered + size, MIB)
                    if status & ZERO:
                        self.assertFalse(any(self.image[covered:end]),
                                         f"data at {covered}+{size} reported as zeroes")
                    covered = end
                self.assertGreater(covered, offset)
                offset = covered if step == MIB else offset + length

    def test_C12_req_one_gives_one_short_extent(self):
        """REQ_ONE: exactly one extent, within the request (the client checks)."""
        client = self.status_client()
        for offset, length in ((0, MIB), (0, 512), (4096, MIB - 4096), (65536, 65536), (1, 3),
                               (MIB - 1, 1)):
            self.assertEqual(1, len(client.block_status(offset, length, CFlag.REQ_ONE)))

    def test_C13_extents_are_aligned_and_merged(self):
        """Neighbours differ in status, lengths suit the minimum block size."""
        client = self.status_client([Info.BLOCK_SIZE])
        minimum = client.export.block_size[0] if client.export.block_size else 1
        for offset in (0, 64 * KIB, 512 * KIB):
            extents = client.block_status(offset, MIB - offset)
            for (_, status), (_, following) in zip(extents, extents[1:]):
                self.assertNotEqual(status, following, f"neighbours not merged: {extents}")
            self.assertFalse([size for size, _ in extents if size % minimum], f"{extents}")

    def test_C14_holes_are_found(self):
        """What was never written is at least once reported as a hole of zeroes."""
        extents = self.status_client().block_status(0, MIB)
        self.assertIn(HOLE | ZERO, [status for _, status in extents])


class SparseMemory(SparseCases, ServerCase):
    """The sparse image in memory."""

    def setUp(self):
        client = self.client()
        self.assert_ok(client.call(Cmd.TRIM, 0, MIB))
        self.assert_ok(client.call(Cmd.WRITE_ZEROES, 0, MIB))
        for offset, length in ISLANDS:
            client.write(offset, self.image[offset:offset + length])
        client.disconnect()


class SparseFile(SparseCases, ServerCase):
    """The sparse image in a file."""

    options_of_file = ()

    @classmethod
    def prepare(cls):
        cls.disk = cls.workdir / "disk"
        with cls.disk.open("wb") as disk:
            disk.truncate(MIB)
            for offset, length in ISLANDS:
                disk.seek(offset)
                disk.write(cls.image[offset:offset + length])
        cls.backend = ("file", cls.disk, *cls.options_of_file)


class SparseDirectFile(SparseFile):
    """The sparse image in a file opened with O_DIRECT."""

    options_of_file = ("cache=none",)

    @classmethod
    def workdir_parent(cls):
        directory = harness.direct_directory()
        if directory is None:
            raise unittest.SkipTest("no file system with O_DIRECT")
        return directory


class Memory(ServerCase):
    """Commands on an export in memory."""

    backend = ("memory", "1G")

    def test_C04_reads_beyond_the_maximum(self):
        """A READ longer than the maximum payload is split, or refused; never cut off."""
        client = self.client(Mode.STRUCTURED, infos=[Info.BLOCK_SIZE])
        maximum = client.export.block_size[2] if client.export.block_size else NO_SIZE_LIMIT
        client.write(40 * MIB, b"\x66" * 4096)
        for length in (33 * MIB, 64 * MIB + 4096, 300 * MIB):
            reply = client.call(Cmd.READ, 20 * MIB, length)
            self.assertIn(reply.error, (Err.OK, Err.EOVERFLOW, Err.EINVAL))
            if reply.ok:
                self.assertEqual(b"\x66" * 4096, reply.data[20 * MIB:20 * MIB + 4096])
                self.assertLessEqual(reply.largest, maximum + 8)
            self.assert_serving(client)

    def test_C04_simple_reads_beyond_the_maximum(self):
        """The same without structured replies: all of it or an error."""
        client = self.client()
        client.write(40 * MIB, b"\x66" * 4096)
        reply = client.call(Cmd.READ, 20 * MIB, 33 * MIB)
        self.assertIn(reply.error, (Err.OK, Err.EOVERFLOW, Err.EINVAL))
        if reply.ok:
            self.assertEqual(b"\x66" * 4096, reply.data[20 * MIB:20 * MIB + 4096])
        self.assert_serving(client)

    def test_C06_flush_with_reserved_fields(self):
        """FLUSH with an offset or a length is served or refused, in sync."""
        client = self.client()
        self.need(client, TFlag.SEND_FLUSH)
        self.assert_ok(client.call(Cmd.FLUSH))
        for offset, length in ((512, 0), (0, 512), ((1 << 64) - 1, 0xFFFFFFFF)):
            reply = client.call(Cmd.FLUSH, offset, length)
            self.assertIn(reply.error, (Err.OK, Err.EINVAL))
        self.assert_serving(client)

    def test_C07_trim_touches_only_its_range(self):
        """TRIM succeeds, and what lies outside of its range stays."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_TRIM)
        data = pattern(256 * KIB, seed=7)
        for offset, length in ((64 * KIB, 64 * KIB), (64 * KIB + 1, 64 * KIB), (4095, 2),
                               (100 * KIB + 13, 5), (0, 200 * KIB + 511)):
            with self.subTest(offset=offset, length=length):
                client.write(0, data)
                self.assert_ok(client.call(Cmd.TRIM, offset, length))
                now = client.read(0, len(data))
                self.assertTrue(now[:offset] == data[:offset], "bytes before changed")
                self.assertTrue(now[offset + length:] == data[offset + length:],
                                "bytes behind changed")
                again = client.read(offset, length)
                self.assertTrue(now[offset:offset + length] == again, "contents are unstable")

    def test_C08_write_zeroes_reads_back_as_zeroes(self):
        """Zeroes where asked for and nowhere else, with every legal flag."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_WRITE_ZEROES)
        data = pattern(256 * KIB, seed=8)
        for flags in (0, CFlag.NO_HOLE, CFlag.FUA, CFlag.NO_HOLE | CFlag.FUA):
            for offset, length in ((0, 256 * KIB), (64 * KIB, 64 * KIB), (4097, 100 * KIB),
                                   (5, 1), (32767, 2)):
                with self.subTest(flags=flags, offset=offset, length=length):
                    client.write(0, data)
                    self.assert_ok(client.call(Cmd.WRITE_ZEROES, offset, length, flags))
                    expected = data[:offset] + bytes(length) + data[offset + length:]
                    self.assertTrue(client.read(0, len(data)) == expected, "data differ")

    def test_C08_write_zeroes_over_a_long_range(self):
        """A long WRITE_ZEROES reaches the end of its range."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_WRITE_ZEROES)
        marks = range(0, 1024 * MIB, 15 * MIB + 4096)
        for flags in (0, CFlag.NO_HOLE):
            for mark in marks:
                client.write(mark, b"\xAA" * 512)
            # NO_HOLE means real memory, so ask for less of it.
            length = 1024 * MIB if not flags else 100 * MIB
            self.assert_ok(client.call(Cmd.WRITE_ZEROES, 0, length, flags))
            for mark in marks:
                expected = bytes(512) if mark < length else b"\xAA" * 512
                self.assertEqual(expected, client.read(mark, 512), f"at {mark}")
        self.assert_ok(client.call(Cmd.TRIM, 0, 1024 * MIB))

    def test_C09_fast_zero_zeroes_or_leaves_alone(self):
        """FAST_ZERO: zeroes, or ENOTSUP and nothing changed, whatever the length."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_FAST_ZERO)
        data = pattern(128 * KIB, seed=9)
        for flags in (0, CFlag.NO_HOLE, CFlag.FUA):
            for offset, length in ((0, 128 * KIB), (1, 9), (4096, 4096), (0, 1024 * MIB)):
                with self.subTest(flags=flags, offset=offset, length=length):
                    client.write(0, data)
                    reply = client.call(Cmd.WRITE_ZEROES, offset, length,
                                        flags | CFlag.FAST_ZERO)
                    self.assertIn(reply.error, (Err.OK, Err.ENOTSUP))
                    end = min(offset + length, len(data))
                    expected = data if not reply.ok else (
                        data[:offset] + bytes(end - offset) + data[end:])
                    self.assertTrue(client.read(0, len(data)) == expected, "data differ")

    def test_C10_cache_changes_nothing(self):
        """CACHE may do nothing, may fail, but never alters what is read later."""
        client = self.client(Mode.STRUCTURED)
        data = pattern(64 * KIB, seed=10)
        client.write(0, data)
        for offset, length in ((0, 64 * KIB), (1, 3), (0, 1024 * MIB), (1024 * MIB - 1, 1)):
            reply = client.call(Cmd.CACHE, offset, length)
            self.assertTrue(reply.done)
            self.assertTrue(client.read(0, len(data)) == data, "data differ")
            client.write(0, data)

    def test_C10_cache_rejects_unknown_flags(self):
        """No flag but FUA means anything to CACHE."""
        client = self.client(Mode.STRUCTURED)
        for bit in range(1, 16):
            self.assert_error(client.call(Cmd.CACHE, 0, 4096, 1 << bit), Err.EINVAL)
        self.assert_error(client.call(Cmd.CACHE, 1024 * MIB, 4096), Err.EINVAL)
        self.assert_serving(client)

    def test_C11_many_extents(self):
        """A checkered export is described rightly, however many extents it takes."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION])
        self.assert_ok(client.call(Cmd.WRITE_ZEROES, 0, 1024 * MIB))
        step, count = 128 * KIB, 300
        for index in range(count):
            client.submit(Cmd.WRITE, index * step, payload=b"\xBB" * (step // 2))
        client.finish()
        offset = 0
        while offset < count * step:
            extents = client.block_status(offset, count * step - offset)
            for size, status in extents:
                for index in range(offset // step, min((offset + size) // step + 1, count)):
                    inside = max(offset, index * step), min(offset + size,
                                                            index * step + step // 2)
                    self.assertFalse(status & ZERO and inside[0] < inside[1],
                                     f"data reported as zeroes in {offset}+{size}")
                offset += size
        self.assert_ok(client.call(Cmd.TRIM, 0, 1024 * MIB))


class FastZeroNotOffered(ServerCase):
    """An export without the fast zero feature."""

    options = ("-r",)

    def test_C09_fast_zero_not_offered_is_refused(self):
        """Without the flag advertised FAST_ZERO is an error other than ENOTSUP."""
        client = self.client(Mode.STRUCTURED)
        self.assertFalse(client.export.flags & TFlag.SEND_FAST_ZERO)
        reply = client.call(Cmd.WRITE_ZEROES, 0, 4096, CFlag.FAST_ZERO)
        self.assert_error(reply, Err.EINVAL, Err.EPERM)
        self.assert_serving(client)


class FullDisk(ServerCase):
    """A backend that has no space at all."""

    backend = ("full", "1M")

    def test_C14_what_cannot_be_written_is_reported_as_hole(self):
        """A region without HOLE must not fail with ENOSPC, so here all is HOLE."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION])
        for _, status in client.block_status(0, MIB):
            self.assertTrue(status & HOLE)


class RegularFile(ServerCase):
    """A file that can be looked at, and damaged, behind the server's back."""

    @classmethod
    def prepare(cls):
        cls.disk = cls.workdir / "disk"
        cls.content = pattern(MIB, seed=5)
        cls.disk.write_bytes(cls.content)
        cls.backend = ("file", cls.disk)

    def setUp(self):
        with self.disk.open("r+b") as disk:
            disk.write(self.content)
            disk.flush()
            os.fsync(disk.fileno())

    def assert_written_back(self):
        """Nothing of the file waits in the page cache only."""
        pages = harness.unwritten_pages(self.disk)
        if pages is None:
            self.skipTest("the kernel does not tell which pages are unwritten")
        self.assertEqual(0, pages, "pages not written back")

    def changed(self, start, data):
        return self.content[:start] + data + self.content[start + len(data):]

    def test_C05_fua_write_is_on_storage_when_answered(self):
        """The reply to a WRITE with FUA comes after the data are on storage."""
        client = self.client()
        self.need(client, TFlag.SEND_FUA)
        for offset, length in ((0, 4096), (65536, 256 * KIB), (MIB - 100, 100)):
            client.write(offset, b"\x12" * length, CFlag.FUA)
            self.assert_written_back()
            self.assertTrue(self.disk.read_bytes()[offset:offset + length] == b"\x12" * length)

    def test_C05_fua_zeroes_and_trim_are_on_storage_when_answered(self):
        """WRITE_ZEROES and TRIM with FUA are as durable as WRITE."""
        client = self.client()
        self.need(client, TFlag.SEND_FUA)
        self.assert_ok(client.call(Cmd.WRITE_ZEROES, 1000, 100000, CFlag.FUA))
        self.assert_written_back()
        self.assertTrue(self.disk.read_bytes() == self.changed(1000, bytes(100000)))
        self.assert_ok(client.call(Cmd.TRIM, 300000, 100000, CFlag.FUA))
        self.assert_written_back()

    def test_C06_flush_covers_all_that_was_answered(self):
        """After FLUSH no answered WRITE, WRITE_ZEROES or TRIM is pending."""
        client = self.client(Mode.STRUCTURED)
        self.need(client, TFlag.SEND_FLUSH)
        for index in range(64):
            client.submit(Cmd.WRITE, index * 8192, payload=b"\x34" * 8192)
        client.submit(Cmd.WRITE_ZEROES, 600 * KIB, 50 * KIB + 3, CFlag.NO_HOLE)
        client.submit(Cmd.TRIM, 700 * KIB, 50 * KIB + 3)
        client.finish()
        self.assert_ok(client.call(Cmd.FLUSH))
        self.assert_written_back()
        self.assertTrue(self.disk.read_bytes()[:512 * KIB] == b"\x34" * (512 * KIB))

    def test_C08_no_hole_stays_provisioned(self):
        """WRITE_ZEROES with NO_HOLE frees nothing, and fills holes."""
        client = self.client()
        self.need(client, TFlag.SEND_WRITE_ZEROES)
        self.assert_ok(client.call(Cmd.TRIM, 0, MIB // 2))
        self.assert_ok(client.call(Cmd.WRITE_ZEROES, 0, MIB, CFlag.NO_HOLE))
        self.assert_ok(client.call(Cmd.FLUSH))
        self.assertEqual(bytes(MIB), self.disk.read_bytes())
        self.assertGreaterEqual(self.disk.stat().st_blocks * 512, MIB)

    def test_C02_an_error_in_the_middle_of_a_structured_read(self):
        """A file that shrank: content and then an error chunk, in sync throughout."""
        ranges = ((MIB // 2 - 8192, 65536), (MIB * 3 // 4, 4096), (0, MIB))
        clients = [self.client(Mode.STRUCTURED) for _ in ranges]
        os.truncate(self.disk, MIB // 2)
        for client, (offset, length) in zip(clients, ranges):
            for flags in (0, CFlag.DF):
                with self.subTest(flags=flags, offset=offset):
                    self.assertTrue(client.call(Cmd.READ, offset, length, flags).done)
                    self.assert_serving(client)
            client.disconnect()

    def test_C15_status_of_what_cannot_be_asked(self):
        """A file that shrank: an error, or extents; in sync either way."""
        client = self.client(Mode.STRUCTURED, contexts=[ALLOCATION])
        os.truncate(self.disk, MIB // 2)
        for offset, length in ((MIB * 3 // 4, 4096), (MIB // 2 - 4096, 8192), (0, MIB)):
            for flags in (0, CFlag.REQ_ONE):
                self.assertTrue(client.call(Cmd.BLOCK_STATUS, offset, length, flags).done)
        self.assert_serving(client)


class ReadingBackends(unittest.TestCase):
    """Backends that make up their data."""

    def test_C01_made_up_data_are_the_same_in_any_request(self):
        """Big, small, split and unfragmented reads agree on what is there."""
        for backend in ("null", "pattern", "full"):
            with self.subTest(backend), Server(backend, "1M") as server, \
                    server.connect() as simple, server.connect() as client:
                simple.negotiate()
                client.negotiate(mode=Mode.STRUCTURED)
                whole = simple.read(0, MIB)
                self.assertTrue(client.read(0, MIB) == whole)
                for offset, length in ((0, 1), (7, 9), (511, 1026), (65530, 131072), (MIB - 3, 3)):
                    self.assertEqual(whole[offset:offset + length], client.read(offset, length))
                    self.assertEqual(whole[offset:offset + length], simple.read(offset, length))
                for each in (simple, client):
                    each.disconnect()

    def test_C11_status_of_made_up_data(self):
        """Extents of every backend are legal, and zero extents read as zeroes."""
        for backend in ("null", "pattern", "full"):
            with self.subTest(backend), Server(backend, "1M") as server, \
                    server.connect() as client:
                client.negotiate(mode=Mode.STRUCTURED, contexts=[ALLOCATION])
                offset = 0
                for size, status in client.block_status(0, MIB):
                    if status & ZERO:
                        self.assertFalse(any(client.read(offset, min(size, MIB - offset))))
                    offset += size
                client.disconnect()


if __name__ == "__main__":
    harness.main()
