#!/usr/bin/env python3
"""Random streams of requests, checked against a model of the disk.

Clients with disjoint parts of one disk send batches of random requests, cut into
random pieces, and read the replies when they please.  Requests of a batch never
touch what one of them writes, so the model knows what each reply has to say.
Besides, clients vanish at random moments, hold memory that others want, come and
go in crowds, and the server is ended in the middle of writes.

The environment chooses:

    NBD_STRESS_SEED     what is random (printed with every failure)
    NBD_STRESS_SECONDS  how long all random streams together may take (default 6)
"""

import bisect
import os
import random
import select
import socket
import struct
import tempfile
import threading
import time
import unittest

import harness
from harness import Server, scratch, wait_until
from nbdwire import (ALLOCATION, ZERO, CFlag, Client, Cmd, Disconnected, Err, Info, Mode,
                     Opt, TFlag, info_data, option_bytes, request_bytes)

KIB, MIB = 1 << 10, 1 << 20
SEED = int(os.environ.get("NBD_STRESS_SEED", time.time_ns() & 0xFFFFFFFF))
SECONDS = float(os.environ.get("NBD_STRESS_SECONDS", 6))
LARGEST = 32 * MIB
PART = 40 * MIB         # of the disk, for each client
CLIENTS = 3


class Stuttering(Client):
    """A client that keeps what it says until `flush`, and then cuts it up."""

    outbox = None

    def send(self, data):
        if self.outbox is None:
            super().send(data)
        else:
            self.outbox.append(bytes(data))

    def hold(self):
        self.outbox = []

    def flush(self, rng):
        """Send what is held: at once, in pieces, or (the beginning) byte by byte."""
        data, self.outbox = b"".join(self.outbox), None
        how = rng.choice(("whole", "pieces", "headers", "bytes"))
        at = 0
        while how != "whole" and at < len(data) and at < 64 * KIB:
            step = {"pieces": rng.randint(1, 9000), "headers": rng.randint(1, 40),
                    "bytes": 1}[how]
            super().send(data[at:at + step])
            at += step
            if how != "pieces" and at > 3000:
                break
        super().send(data[at:])


class Ranges:
    """Disjoint intervals."""

    def __init__(self):
        self.starts, self.ends = [], []

    def meets(self, start, end):
        index = bisect.bisect_right(self.starts, start)
        return (index > 0 and self.ends[index - 1] > start or
                index < len(self.starts) and self.starts[index] < end)

    def add(self, start, end):
        """Note an interval; one that meets others swallows them."""
        low = bisect.bisect_left(self.ends, start)
        high = bisect.bisect_right(self.starts, end)
        if low < high:
            start = min(start, self.starts[low])
            end = max(end, self.ends[high - 1])
        self.starts[low:high] = [start]
        self.ends[low:high] = [end]


class Writer:
    """One client, its part of the disk, and what has to be there."""

    def __init__(self, rng, client, base, align):
        self.rng, self.client = rng, client
        self.base, self.align = base, align
        self.model = bytearray(client.read(base, PART // 2) +
                               client.read(base + PART // 2, PART - PART // 2))
        self.noise = rng.randbytes(MIB)
        self.requests = []

    def _range(self):
        """Somewhere, of any size from a byte to the largest there is."""
        rng, align = self.rng, self.align
        largest = rng.choice((512, 4 * KIB, 64 * KIB, MIB, MIB, 4 * MIB, LARGEST))
        length = max(1, int(largest ** rng.random()))
        if rng.random() < 0.3:
            length = min(largest, (length + 4095) // 4096 * 4096)
        length = min(LARGEST, (length + align - 1) // align * align)
        offset = rng.randrange(0, PART - length + 1) // align * align
        if rng.random() < 0.3:
            offset = offset // 4096 * 4096
        return offset, length

    def _data(self, length):
        start = self.rng.randrange(MIB // 2)
        piece = self.noise[start:start + min(length, MIB // 2)]
        return (piece * (length // len(piece) + 1))[:length]

    def _flags(self, *possible):
        flags = 0
        for flag in possible:
            if self.rng.random() < 0.2:
                flags |= flag
        return flags

    def submit_batch(self, most):
        """Send a batch; `settle` says what has to come of it."""
        export = self.client.export.flags
        self.client.hold()
        self.requests, read, written, volume = [], Ranges(), Ranges(), 0
        for _ in range(self.rng.randint(1, most)):
            offset, length = self._range()
            command = self.rng.choice(
                (Cmd.READ, Cmd.READ, Cmd.READ, Cmd.WRITE, Cmd.WRITE, Cmd.WRITE_ZEROES, Cmd.TRIM,
                 Cmd.FLUSH, Cmd.CACHE, Cmd.BLOCK_STATUS, None))
            end = offset + length
            writes = command in (Cmd.WRITE, Cmd.WRITE_ZEROES, Cmd.TRIM)
            if written.meets(offset, end) or writes and read.meets(offset, end):
                continue
            if command in (Cmd.READ, Cmd.WRITE):
                volume += length
            if volume > 2 * LARGEST:
                break
            if writes:
                written.add(offset, end)
            else:
                read.add(offset, end)
            self._submit(command, offset, length, export)
        self.client.flush(self.rng)

    def _submit(self, command, offset, length, export):
        client, where, payload, flags = self.client, self.base + offset, None, 0
        if command == Cmd.FLUSH:
            where = length = 0
        elif command == Cmd.READ and export & TFlag.SEND_DF:
            flags = self._flags(CFlag.DF)
        elif command == Cmd.BLOCK_STATUS:
            if not client.contexts:
                return
            flags = self._flags(CFlag.REQ_ONE)
        elif command == Cmd.WRITE:
            payload, flags = self._data(length), self._flags(CFlag.FUA)
        elif command == Cmd.WRITE_ZEROES:
            if not export & TFlag.SEND_WRITE_ZEROES:
                return
            flags = self._flags(CFlag.FUA, CFlag.NO_HOLE)
            if export & TFlag.SEND_FAST_ZERO:
                flags |= self._flags(CFlag.FAST_ZERO)
        elif command == Cmd.TRIM and not export & TFlag.SEND_TRIM:
            return
        elif command is None:
            self._submit_nonsense(offset, length)
            return
        reply = client.submit(command, where, length, flags, payload)
        self.requests.append((reply, offset, payload, (Err.OK,)))

    def _submit_nonsense(self, offset, length):
        """Something that has to be refused, or is of no size, and changes nothing."""
        client, size = self.client, self.client.export.size
        length = min(length, 100 * KIB) // self.align * self.align or self.align
        kind = self.rng.randrange(4)
        if kind == 0:
            reply, errors = client.submit(77, self.base, 0), (Err.EINVAL,)
        elif kind == 1:
            reply = client.submit(Cmd.WRITE, size - length // 2, payload=self._data(length))
            errors = Err.ENOSPC, Err.EINVAL
        elif kind == 2:
            reply = client.submit(Cmd.READ, self.base + offset, length, 0x8000)
            errors = (Err.EINVAL,)
        else:
            command = self.rng.choice((Cmd.READ, Cmd.WRITE))
            reply = client.submit(command, self.base, 0,
                                  payload=b"" if command == Cmd.WRITE else None)
            errors = Err.OK, Err.EINVAL
        self.requests.append((reply, None, None, errors))

    def settle(self):
        """Take all replies and hold them against the model, and that against the disk."""
        if self.rng.random() < 0.2:
            time.sleep(0.02)
        self.client.finish()
        for reply, offset, payload, errors in self.requests:
            refused_quickly = reply.flags & CFlag.FAST_ZERO and reply.error is Err.ENOTSUP
            if not refused_quickly and reply.error not in errors:
                raise AssertionError(f"{reply.command!r} {reply.offset}+{reply.length} flags "
                                     f"{reply.flags:#x}: {reply.error!r} {reply.texts}")
            if offset is not None and reply.ok:
                self._account(reply, offset, payload)
        self.requests = []

    def _account(self, reply, offset, payload):
        place = slice(offset, offset + reply.length)
        if reply.command == Cmd.READ:
            self._same(reply.data, place)
        elif reply.command == Cmd.WRITE:
            self.model[place] = payload
        elif reply.command == Cmd.WRITE_ZEROES:
            self.model[place] = bytes(reply.length)
        elif reply.command == Cmd.TRIM:
            # What is there now is anybody's guess, but it has to stay.
            self.model[place] = self.client.read(reply.offset, reply.length)
        elif reply.command == Cmd.BLOCK_STATUS:
            extents, = reply.extents.values()
            for length, status in extents:
                piece = slice(offset, min(offset + length, place.stop))
                if status & ZERO:
                    self._same(bytes(piece.stop - piece.start), piece)
                offset = piece.stop

    def _same(self, data, place):
        if data == self.model[place]:
            return
        first = next(index for index, (is_, was) in enumerate(zip(data, self.model[place]))
                     if is_ != was)
        raise AssertionError(f"the disk differs from what was written at {self.base:#x} + "
                             f"{place.start + first:#x}, in a range of {len(data)} bytes from "
                             f"{place.start:#x}")

    def check_everything(self):
        for offset in range(0, PART, LARGEST):
            length = min(LARGEST, PART - offset)
            self._same(self.client.read(self.base + offset, length),
                       slice(offset, offset + length))


class StressCase(unittest.TestCase):
    """Tests that start their own servers and leave no socket behind."""

    def connect(self, server):
        client = server.connect()
        self.addCleanup(client.close)
        return client


class Streams(StressCase):
    """Random requests of well-behaved clients: every byte is right."""

    def stream(self, *backend, aware=False, seconds=SECONDS / 8):
        name = f"{self.id()} with NBD_STRESS_SEED={SEED}"
        rng = random.Random(f"{SEED} {backend[0]} {self.id().split('.')[-1]}")
        with self.subTest(name), Server(*backend, options=("-t", "2")) as server:
            writers = [self.writer(server, rng, number, aware) for number in range(CLIENTS)]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                most = rng.choice((1, 5, 40, 300))
                active = rng.sample(writers, rng.randint(1, CLIENTS))
                for writer in active:
                    writer.submit_batch(most)
                rng.shuffle(active)
                for writer in active:
                    writer.settle()
            for writer in writers:
                writer.check_everything()
                writer.client.disconnect()

    def writer(self, server, rng, number, aware):
        mode = Mode((number + rng.randrange(3)) % 3)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(server.socket))
        client = Stuttering(sock)
        self.addCleanup(client.close)
        client.negotiate("", mode, () if mode is Mode.SIMPLE else (ALLOCATION,),
                         (Info.BLOCK_SIZE,) if aware else ())
        align = client.export.block_size[0] if aware else 1
        return Writer(rng, client, number * PART, align)

    def file(self, parent=None):
        directory = tempfile.TemporaryDirectory(prefix="nbdc-stress-", dir=parent)
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "disk")
        with open(path, "wb") as disk:
            disk.truncate(CLIENTS * PART)
        return path

    def direct_file(self):
        directory = harness.direct_directory()
        if directory is None:
            self.skipTest("no file system here knows O_DIRECT")
        return self.file(directory)

    def test_memory(self):
        self.stream("memory", CLIENTS * PART)

    def test_cached_file(self):
        self.stream("file", self.file())

    def test_direct_file(self):
        self.stream("file", self.direct_file(), "cache=none", aware=True)

    def test_direct_file_for_clients_that_know_no_blocks(self):
        self.stream("file", self.direct_file(), "cache=none", seconds=SECONDS / 4)

    def test_split(self):
        parts = [self.file() for _ in range(2)]
        for part in parts:
            os.truncate(part, CLIENTS * PART // 2)
        self.stream("split", *parts)


class Vanishing(StressCase):
    """Clients that leave at any moment, in any manner."""

    def talk(self, rng, mode):
        """What a client might say, up to a random point."""
        said = struct.pack(">I", 3)
        if mode is Mode.STRUCTURED:
            said += option_bytes(Opt.STRUCTURED_REPLY)
        elif mode is Mode.EXTENDED:
            said += option_bytes(Opt.EXTENDED_HEADERS)
        said += option_bytes(Opt.GO, info_data(""))
        for number in range(rng.randint(0, 40)):
            length = int((4 * MIB) ** rng.random())
            offset = rng.randrange(64 * MIB - length)
            if rng.random() < 0.3:
                length = min(length, 300 * KIB)
                flags = CFlag.PAYLOAD_LEN if mode is Mode.EXTENDED else 0
                said += request_bytes(mode, Cmd.WRITE, offset, length, flags, number)
                said += bytes(length)
            else:
                command = rng.choice((Cmd.READ, Cmd.READ, Cmd.FLUSH, Cmd.TRIM, 99))
                said += request_bytes(mode, command, offset, length, 0, number)
        if rng.random() < 0.2:
            said += rng.randbytes(rng.randint(4, 100))
        return said[:rng.randint(0, len(said))] if rng.random() < 0.5 else said

    def leave(self, rng, sock):
        how = rng.randrange(4)
        if how == 0:
            try:
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1 << 16)
            except OSError:
                pass
        elif how == 1:
            try:
                sock.recv(rng.randint(1, 100000))
            except OSError:
                pass
        elif how == 2 and sock.family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def vanish(self, server, count):
        rng = random.Random(f"{SEED} {self.id()}")
        bystander = self.connect(server).negotiate()
        bystander.write(0, b"bystander")
        before, leaving = server.descriptors(), []
        for _ in range(count):
            if server.port:
                sock = socket.create_connection(("127.0.0.1", server.port))
            else:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(server.socket))
            sock.setblocking(False)
            try:
                sock.send(self.talk(rng, rng.choice(list(Mode))))
            except OSError:
                pass
            leaving.append(sock)
            if len(leaving) > 60:
                self.leave(rng, leaving.pop(rng.randrange(len(leaving))))
        for sock in leaving:
            self.leave(rng, sock)
        wait_until(lambda: server.descriptors() <= before,
                   f"descriptors to be closed, NBD_STRESS_SEED={SEED}")
        self.assertEqual(9, len(bystander.read(0, 9)))
        bystander.disconnect()

    def test_on_a_unix_socket(self):
        with Server("memory", "64M", options=("-t", "2")) as server:
            self.vanish(server, 500)

    def test_on_tcp(self):
        server = Server.start_on_tcp("memory", "64M", options=("-t", "2"))
        self.addCleanup(server.stop)
        self.vanish(server, 500)

    def test_from_a_file(self):
        disk = scratch(self) / "disk"
        disk.write_bytes(os.urandom(8 * MIB))
        os.truncate(disk, 64 * MIB)
        with Server("file", disk, options=("-t", "2")) as server:
            self.vanish(server, 300)

    def test_garbage_while_a_long_read_is_being_sent(self):
        """The closing chunk waits behind pieces of which one is being sent."""
        with Server("memory", "64M", options=("-t", "1")) as server:
            bystander = self.connect(server).negotiate()
            bystander.write(0, b"x" * (4 * MIB))
            for mode in Mode:
                client = self.connect(server).negotiate(mode=mode)
                client.send(request_bytes(mode, Cmd.READ, 0, 4 * MIB))
                select.select([client.sock], [], [])
                time.sleep(0.05)
                client.send(b"garbage!" * 8)
                time.sleep(0.05)
                client.close()
            self.assertEqual(b"x" * 9, bystander.read(0, 9))

    def test_a_write_that_breaks_off_changes_only_what_was_sent(self):
        """What did not come stays as it was; what came is there or is not, byte by byte."""
        rng = random.Random(SEED)
        with Server("memory", "4M") as server:
            other = self.connect(server).negotiate()
            before = rng.randbytes(4 * MIB)
            other.write(0, before)
            descriptors = server.descriptors()
            for number in range(9):
                length = rng.randint(1, (64 * KIB, 3 * MIB)[number % 3 > 0])
                offset, sent = rng.randrange(4 * MIB - length), rng.randrange(length)
                payload = rng.randbytes(sent)
                client = self.connect(server).negotiate(mode=list(Mode)[number % len(Mode)])
                client.send(request_bytes(client.mode, Cmd.WRITE, offset, length) + payload)
                client.close()
                wait_until(lambda: server.descriptors() <= descriptors, "a closed connection")
                after = other.read(0, 4 * MIB)
                end = offset + sent
                seed = f"NBD_STRESS_SEED={SEED}"
                self.assertTrue(before[:offset] == after[:offset], seed)
                self.assertTrue(before[end:] == after[end:], seed)
                self.assertTrue(all(is_now in (was, said) for was, said, is_now in
                                    zip(before[offset:end], payload, after[offset:end])), seed)
                before = after

    def test_half_closed_with_requests_pending(self):
        """Who says no more is still answered: everything that was asked, to the end."""
        disk = scratch(self) / "disk"
        disk.write_bytes(os.urandom(4 * MIB))
        with Server("file", disk) as server:
            for mode in Mode:
                client = self.connect(server).negotiate(mode=mode)
                data = client.read(0, 2 * MIB)
                replies = [client.submit(Cmd.READ, 0, 2 * MIB) for _ in range(30)]
                client.sock.shutdown(socket.SHUT_WR)
                client.finish()
                self.assertEqual(b"", client.until_closed())
                self.assertTrue(all(reply.ok and reply.data == data for reply in replies))


class Greedy(StressCase):
    """Clients that want everything and give nothing."""

    def test_options_without_end_and_no_answer_read(self):
        """What is not taken is not received either: memory stays small."""
        with Server("memory", "1M", options=("-t", "1")) as server:
            greedy = self.connect(server).begin()
            greedy.sock.settimeout(0.5)
            said = 0
            try:
                while said < 64 * MIB:
                    said += greedy.sock.send(option_bytes(0x77, b"") * 4000)
            except TimeoutError:
                pass
            self.assertLess(said, 64 * MIB)
            if not server.is_sanitized():
                self.assertLess(server.resident_kib(), 64 * KIB)
            other = self.connect(server).negotiate()
            self.assertEqual(512, len(other.read(0, 512)))
            other.disconnect()
            greedy.close()

    def test_replies_not_read_and_payloads_not_sent_hold_nobody_up(self):
        with Server("memory", "64M", options=("-t", "1")) as server:
            other = self.connect(server).negotiate()
            greedy = []
            for number in range(60):
                client = self.connect(server).negotiate()
                greedy.append(client)
                if number % 2:
                    client.send(request_bytes(client.mode, Cmd.WRITE, 0, LARGEST) + b"x" * 100)
                else:
                    client.send(request_bytes(client.mode, Cmd.READ, 0, LARGEST) * 3)
            for _ in range(20):
                self.assertEqual(4096, len(other.read(0, 4096)))
                other.write(0, b"y" * 4096)
            other.disconnect()
            for client in greedy:
                client.close()

    def test_as_many_requests_as_there_can_be(self):
        """More than are taken at a time, all at once, from several sides."""
        with Server("memory", "8M", options=("-t", "1")) as server:
            clients = [self.connect(server).negotiate() for _ in range(3)]
            headers = request_bytes(Mode.SIMPLE, Cmd.READ, 0, 512, 0, 1)
            for _ in range(3):
                for client in clients:
                    client.send(headers * 2000)
                for client in clients:
                    client.receive(2000 * (16 + 512))
            for client in clients:
                client.disconnect()


class ComingAndGoing(StressCase):
    """Exports that are opened by their first client and closed after their last."""

    def test_crowds_of_short_visits(self):
        """Many want an export that is just being closed: it opens again, or stays."""
        directory = scratch(self)
        for name in ("a", "b"):
            (directory / name).write_bytes(bytes(MIB))
        failures = []

        def visit(server, name, until):
            try:
                while time.monotonic() < until:
                    with server.connect() as client:
                        client.negotiate(name).write(0, b"x" * 512)
            except Exception as error:
                failures.append(error)

        with Server("file", f"dir={directory}", options=("-t", "2")) as server:
            until = time.monotonic() + min(2, SECONDS / 3)
            threads = [threading.Thread(target=visit, args=(server, "ab"[number % 8 == 0], until))
                       for number in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual([], failures)


class Ending(StressCase):
    """SIGTERM in the middle of everything."""

    def end_in_the_middle(self, rng, disk, *options):
        size, block = 16 * MIB, 64 * KIB
        os.truncate(disk, 0)
        os.truncate(disk, size)
        with Server("file", disk, *options) as server:
            clients = [self.connect(server).negotiate(mode=mode) for mode in Mode]
            written, pending = {}, []
            stop = rng.randrange(len(range(0, size, block)))
            for number, offset in enumerate(range(0, size, block)):
                client = clients[number % len(clients)]
                data = rng.randbytes(8) * (block // 8)
                try:
                    pending.append((offset, data, client.submit(Cmd.WRITE, offset, payload=data)))
                    if number == stop:
                        server.terminate()
                except Disconnected:
                    continue
            for client in clients:
                try:
                    client.finish()
                except Disconnected:
                    pass
            server.check_exit()
            for offset, data, reply in pending:
                if reply.done:
                    self.assertIn(reply.error, (Err.OK, Err.ESHUTDOWN))
                if reply.ok:
                    written[offset] = data
        with open(disk, "rb") as file:
            for offset, data in written.items():
                file.seek(offset)
                self.assertEqual(data, file.read(block), f"at {offset}, NBD_STRESS_SEED={SEED}")
        return len(written)

    def test_what_was_acknowledged_is_there(self):
        rng = random.Random(f"{SEED} ending")
        disk = scratch(self) / "disk"
        disk.touch()
        self.assertTrue(any([self.end_in_the_middle(rng, disk) for _ in range(6)]))

    def test_while_clients_connect(self):
        """Whoever comes at the last moment is turned away, and the server ends."""
        for _ in range(5):
            with Server("memory", "1M", options=("-t", "2")) as server:
                over = threading.Event()

                def knock():
                    while not over.is_set():
                        with socket.socket(socket.AF_UNIX) as sock:
                            sock.connect_ex(str(server.socket))

                threads = [threading.Thread(target=knock) for _ in range(4)]
                for thread in threads:
                    thread.start()
                time.sleep(0.02)
                server.terminate()
                try:
                    server.check_exit()
                finally:
                    over.set()
                    for thread in threads:
                        thread.join()


if __name__ == "__main__":
    print(f"NBD_STRESS_SEED={SEED}")
    harness.main()
