#!/usr/bin/env python3
"""The filter cow under load: servers that are killed, disks that fill and fail, bases that
fail and change their size, and many clients of one base.

Verifiers work all the while; every byte they read is checked, at the end every byte of the
disk, and the base is never written to.
"""

import contextlib
import hashlib
import os
import signal

import hostile
from faults import FaultCase, Renamed, run
from hostile import KIB, MIB, figure, scaled, wait_until
from nbdwire import ALLOCATION, Cmd, Err
from verifier import Verifier, content

BLOCKS = 300        # of each verifier
COUNT = 3           # verifiers
SIZE = 16 * MIB
BLOCK = 4096        # of a verifier: a part of a block of the overlay


class Overlay(FaultCase):
    """A base whose every block has version 1, and what stays as it was."""

    def setUp(self):
        super().setUp()
        self.base = self.directory / "base"
        with self.base.open("wb") as file:
            for block in range(SIZE // BLOCK):
                file.write(content(block, 1, BLOCK))
        self.before = self.hash_of_base()
        self.overlay = self.directory / "overlay"

    def hash_of_base(self):
        return hashlib.sha256(self.base.read_bytes()).digest()

    def over(self, *parameters, filters=()):
        return self.serve("--filter=cow", *(f"--filter={name}" for name in filters),
                          "file", self.base, *parameters)

    def verifier(self, connect, number, first, **how):
        verifier = Verifier(connect, number, BLOCKS, first, **how)
        verifier.least, verifier.latest, verifier.flushed = ([1] * BLOCKS for _ in range(3))
        return verifier

    def at_work(self, server, **how):
        found = [self.verifier(server.connect, number, number * BLOCKS, **how).start()
                 for number in range(COUNT)]
        self.addCleanup(self.abandon, found)
        return found

    def check_disk(self, server, verifiers):
        with server.connect() as client:
            client.negotiate()
            for verifier in verifiers:
                verifier.check_client(client)
            client.disconnect()

    def check_base(self):
        self.assertEqual(self.before, self.hash_of_base(), "the base was written to")

    def check_all(self, server, verifiers, path=None):
        super().check_all(server, verifiers)
        self.check_base()

    def check_again(self, verifiers, *parameters):
        """The overlay in its file, by another server that only reads."""
        server = self.serve("-r", "--filter=cow", "file", self.base, *parameters)
        self.check_all(server, verifiers)


class Kept(Overlay):
    """An overlay with a file of its own."""

    def test_killed_again_and_again(self):
        """kill -9: all that was flushed, or written with FUA, is there, and can be gone on with."""
        parameters = f"cow-file={self.overlay}", "cow-block-size=16k"
        server = self.over(*parameters)
        verifiers = self.at_work(server)
        for _ in range(scaled(4)):
            for verifier in verifiers:
                verifier.go_on(200)
                verifier.gone_for_good = True
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            for verifier in verifiers:
                verifier.stop()
                verifier.gone_for_good = False
                verifier.forget_unflushed()
            (server.directory / "pid").unlink()
            server.start()
            self.assertIn("not closed in order", server.stderr())
            self.check_disk(server, verifiers)
            for verifier in verifiers:
                verifier.start()
        for verifier in verifiers:
            verifier.go_on(200)
            verifier.stop()
        figure("blocks that had been flushed", sum(v.flushed[i] > 1 for v in verifiers
                                                   for i in range(BLOCKS)))
        self.check_all(server, verifiers)
        self.check_again(verifiers, f"cow-file={self.overlay}")

    def test_its_disk_is_full(self):
        """ENOSPC for what finds no room, nothing lost, and room that comes is used."""
        place = self.small_ext4(16 * MIB)
        filler = place / "filler"
        filler.write_bytes(os.urandom(11 * MIB))
        parameters = (f"cow-file={place / 'overlay'}",)
        server = self.over(*parameters)
        verifiers = self.at_work(server, tolerate=(Err.ENOSPC,))
        wait_until(lambda: any(v.failure or v.errors.total() > 50 for v in verifiers),
                   "the disk to be full")
        with server.connect() as client:
            client.negotiate()
            self.assertEqual(0, client.call(Cmd.FLUSH).error, "a flush in spite of that")
            client.disconnect()
        filler.unlink()
        for verifier in verifiers:
            verifier.go_on(500)
            verifier.stop()
            verifier.tolerate = set()
            verifier.start().go_on(500)
            verifier.stop()
        figure("requests that found no room", sum(v.errors[Err.ENOSPC] for v in verifiers))
        self.check_all(server, verifiers)
        self.check_again(verifiers, *parameters)

    def test_its_disk_fails(self):
        """EIO of the overlay's disk: a flush says so, the later ones too; what was flushed is
        there when the disk is whole again."""
        control, device = self.zram(64 * MIB, 3 * MIB)
        place = self.mounted_ext4(device)
        parameters = (f"cow-file={place / 'overlay'}", "cow-block-size=4k")
        server = self.over(*parameters)
        failed = (Err.EIO, Err.ENOSPC, Err.EPERM)
        verifiers = self.at_work(server, tolerate=failed)
        wait_until(lambda: any(v.failure or v.errors for v in verifiers), "the disk to fail")
        (control / "mem_limit").write_text("0")
        for verifier in verifiers:
            verifier.stop()
        with server.connect() as client:
            client.negotiate()
            for _ in range(3):
                self.assertIn(client.call(Cmd.FLUSH).error, failed, "a flush that failed once")
            for verifier in verifiers:      # in memory it may be right still
                verifier.check_client(client)
        figure("requests that failed", sum(v.errors.total() for v in verifiers))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        run("umount", place)
        run("mount", "-t", "ext4", device, place)
        for verifier in verifiers:
            verifier.forget_unflushed()
        figure("blocks that had been flushed", sum(v.flushed[i] > 1 for v in verifiers
                                                   for i in range(BLOCKS)))
        (server.directory / "pid").unlink()
        server.start()
        self.check_all(server, verifiers)


class Base(Overlay):
    """What is below does not do what it should."""

    def test_it_fails_now_and_then(self):
        """EIO of the base: requests that need it fail and change nothing."""
        switch = self.directory / "fail"
        switch.touch()
        server = self.over("cow-block-size=16k", "error-pread-rate=50%", f"error-file={switch}",
                           filters=["error"])
        verifiers = self.at_work(server, tolerate=(Err.EIO,))
        wait_until(lambda: any(v.failure or v.errors.total() > 10 for v in verifiers), "errors")
        switch.unlink()
        for verifier in verifiers:
            verifier.go_on(500)
            verifier.stop()
        figure("requests that failed", sum(v.errors.total() for v in verifiers))
        self.check_all(server, verifiers)

    def test_it_changes_its_size(self):
        """A base that grows or is cut: the disk keeps its size, what is in the overlay is there,
        and what was in the base only is an error, in words, until it is back."""
        server = self.over("cow-block-size=4k")
        verifiers = self.at_work(server)
        for verifier in verifiers:
            verifier.go_on(300)
            verifier.stop()
        behind = SIZE - 64 * KIB
        with server.connect() as client:
            client.negotiate()
            client.call(Cmd.WRITE, behind, payload=content(7, 7, BLOCK))
        whole = self.base.read_bytes()
        for size in (2 * SIZE, SIZE // 2):
            os.truncate(self.base, size)
            with server.connect() as client:    # which makes the server look at it again
                client.negotiate(mode=hostile.Mode.STRUCTURED)
                self.assertEqual(SIZE, client.export.size)
                self.assertEqual(content(7, 7, BLOCK), client.read(behind, BLOCK))
                for verifier in verifiers:      # all of them in the first half
                    verifier.check_client(client)
                for offset in range(SIZE // 2, SIZE // 2 + MIB, 64 * KIB):
                    reply = client.call(Cmd.READ, offset, BLOCK)
                    self.assertEqual(Err.EIO if size < SIZE else 0, reply.error, reply.texts)
                # A block that is written whole does not need the base.
                self.assertEqual(0, client.call(Cmd.WRITE, SIZE - BLOCK,
                                                payload=content(8, 8, BLOCK)).error)
                self.assertEqual(content(8, 8, BLOCK), client.read(SIZE - BLOCK, BLOCK))
        self.base.write_bytes(whole)
        with server.connect() as client:
            client.negotiate()
            self.assertEqual(content(SIZE // 2 // BLOCK, 1, BLOCK), client.read(SIZE // 2, BLOCK))
        for verifier in verifiers:
            verifier.start().go_on(300)
            verifier.stop()
        self.check_all(server, verifiers)


class Crowd(Overlay):
    """Many clients, on several workers, each with the disk that is its own."""

    def test_clients_of_one_overlay(self):
        """Blocks next to each other, in one block of the overlay, written by several clients."""
        for parameters in ((), ("cow-on-read=true",), (f"cow-file={self.overlay}",)):
            with self.subTest(parameters):
                server = self.over(*parameters)
                found = [self.verifier(server.connect, number, number, step=COUNT)
                         for number in range(COUNT)]
                self.work(found)
                self.check_all(server, found)

    def test_exports_over_one_base(self):
        """Several exports, and two clients of each."""
        names = [f"disk{number}" for number in range(COUNT)]
        folder = self.directory / "served"
        folder.mkdir()
        for name in names:
            (folder / name).hardlink_to(self.base)
        server = self.serve("--filter=cow", "file", f"dir={folder}")
        found = [self.verifier(lambda name=name: Renamed(server.connect(), name), number + 10 * half,
                               half * BLOCKS)
                 for number, name in enumerate(names) for half in range(2)]
        with contextlib.ExitStack() as stack:   # with its last client an overlay is gone
            for verifier in found:
                stack.enter_context(verifier.connect()).negotiate()
            self.work(found)
            for verifier in found:
                with verifier.connect() as client:
                    verifier.check_client(client.negotiate())
                    client.disconnect()
        server.stop()
        self.check_base()

    def test_overlays_of_their_own(self):
        """With cow-private, what a client writes it alone sees, and only while it is there."""
        server = self.over("cow-private=true", "cow-store=memory")
        found = [self.verifier(server.connect, number, 0) for number in range(2 * COUNT)]
        self.work(found)
        with server.connect() as client:
            client.negotiate()
            for block in range(BLOCKS):
                self.assertEqual(content(block, 1, BLOCK), client.read(block * BLOCK, BLOCK))
            client.disconnect()
        server.stop()
        self.check_base()

    def test_every_cache_at_once(self):
        """cow below readahead and cacheextents, on all workers, and below cache, on one; clients
        that work, and others that ask for the map meanwhile."""
        for filters, parameters in ((("cacheextents", "readahead"), ()),
                                    (("cacheextents", "readahead", "cache"),
                                     ("cache-max-size=1M", "cache-on-read=true"))):
            with self.subTest(filters):
                server = self.over_all(filters, *parameters)
                found = self.at_work(server)
                self.ask_for_the_map(server)
                self.work(found)
                self.check_all(server, found)

    def over_all(self, filters, *parameters):
        return self.serve(*(f"--filter={name}" for name in filters), "--filter=cow",
                          "file", self.base, "cow-on-read=true", *parameters)

    @staticmethod
    def ask_for_the_map(server):
        """All of it is data, whoever asks."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(4)]
            for client in clients:
                client.negotiate(mode=hostile.Mode.STRUCTURED, contexts=[ALLOCATION])
            for offset in range(0, SIZE, 64 * KIB):
                for client in clients:
                    for _, status in client.block_status(offset, 64 * KIB):
                        assert status == 0, (offset, status)
            for client in clients:
                client.disconnect()

    def work(self, verifiers):
        self.addCleanup(self.abandon, verifiers)
        for verifier in verifiers:
            if not verifier.thread:
                verifier.start()
        for verifier in verifiers:
            verifier.go_on(300)
        for verifier in verifiers:
            verifier.stop()


if __name__ == "__main__":
    hostile.harness.main()
