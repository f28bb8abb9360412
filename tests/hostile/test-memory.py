#!/usr/bin/env python3
"""Clients that want memory: announced, held, or all there is.

The server stays below what docs/operations.md says it takes, and when the system
has no more for it, it goes on with what it has.
"""

import resource
import select
import unittest

import hostile
from hostile import (GIB, KIB, MIB, Disconnected, Mode, Peak, Server, Steady, bound_kib, figure,
                     has_settled, scaled, timed, wait_until)
from nbdwire import PAYLOAD_LIMIT, CFlag, Cmd, Err, Opt, Rep, info_data, request_bytes

WORKERS = 2


class Announced(unittest.TestCase):
    """Lengths of 4 GiB that nothing follows, or something for ever."""

    def test_options_of_4_gib(self):
        """Of each kind, many at once, with some data: no memory is reserved for them."""
        with Server("memory", "64M", options=("-t", str(WORKERS))) as server, \
                Steady(server, 2) as steady:
            before, crowd = server.resident_kib(), []
            for number in range(hostile.descriptors(scaled(300))):
                client = server.connect().begin()
                crowd.append(client)
                option = (*Opt, 99)[number % (len(Opt) + 1)]
                client.send_option(option, length=0xFFFFFFFF - number % 2)
                try:
                    client.send(bytes(256 * KIB))
                except Disconnected:
                    pass
            steady.go_on(10)
            figure(f"memory for {len(crowd)} options of 4 GiB", server.resident_kib() - before,
                   "KiB")
            if not server.is_sanitized():
                self.assertLess(Peak(server).kib(), bound_kib(WORKERS, len(crowd)))
            # They still stand there, but what came was not kept, nor was room for it.
            wait_until(lambda: has_settled(server, before, WORKERS * 24 * KIB +
                                           len(crowd) * hostile.CONNECTION_KIB), "their memory")
            figure("after a moment", server.resident_kib() - before, "KiB")
            for client in crowd:
                client.close()

    def test_requests_of_4_gib(self):
        """Requests, too: the connection ends, or is told."""
        with Server("memory", "64M", options=("-t", str(WORKERS))) as server, \
                Steady(server, 2) as steady:
            before = server.resident_kib()
            for number in range(scaled(300)):
                mode = list(Mode)[number % 3]
                with server.connect() as client:
                    client.negotiate(mode=mode)
                    command = (Cmd.WRITE, Cmd.READ, Cmd.BLOCK_STATUS)[number // 3 % 3]
                    flags = CFlag.PAYLOAD_LEN if mode is Mode.EXTENDED else 0
                    try:
                        client.send(request_bytes(mode, command, 0, 0xFFFFFFFF, flags) +
                                    bytes(1000))
                    except Disconnected:
                        pass
            steady.go_on(10)
            if not server.is_sanitized():
                self.assertLess(server.resident_kib() - before, WORKERS * 32 * KIB)


class Taken(unittest.TestCase):
    """Data of 32 MiB at a time, from many."""

    def test_writes_of_32_mib_from_many_at_once(self):
        """64 clients, 2 GiB at once: all is written and right, within the bound."""
        clients, disk = 64, 64 * MIB
        path = hostile.harness.scratch(self) / "disk"
        with path.open("wb") as file:
            file.truncate(disk)
        with Server("file", path, options=("-t", str(WORKERS))) as server, \
                Steady(server, 2, base=0) as steady:
            begin = 32 * MIB
            writers = [server.connect().negotiate() for _ in range(clients)]
            payload = bytes(range(256)) * (PAYLOAD_LIMIT // 256)
            with timed(f"{scaled(1) * clients} writes of 32 MiB in"):
                for _ in range(scaled(1)):
                    self.write_all(writers, request_bytes(Mode.SIMPLE, Cmd.WRITE, begin,
                                                          PAYLOAD_LIMIT) + payload)
            self.assertTrue(writers[0].read(begin, PAYLOAD_LIMIT) == payload, "data differ")
            figure("peak memory", Peak(server).kib(), "KiB")
            if not server.is_sanitized():
                self.assertLess(Peak(server).kib(), bound_kib(WORKERS, clients, clients * 256))
            steady.go_on(5)
            with timed("memory given back in"):
                wait_until(lambda: has_settled(server, 0, 160 * KIB), "memory")
            for client in writers:
                client.close()

    def write_all(self, writers, said):
        """All send at once, a piece each in turn as the server takes it."""
        waiting = {client.sock.fileno(): [client, memoryview(said)] for client in writers}
        poll = select.poll()
        for descriptor in waiting:
            poll.register(descriptor, select.POLLOUT)
        while waiting:
            ready = poll.poll(hostile.harness.PATIENCE * 1000)
            self.assertTrue(ready, "the server takes nothing from anybody")
            for descriptor, _ in ready:
                client, rest = waiting[descriptor]
                rest = rest[client.sock.send(rest[:256 * KIB]):]
                waiting[descriptor][1] = rest
                if not rest:
                    poll.unregister(descriptor)
                    del waiting[descriptor]
        for client in writers:
            self.assertEqual((0x67446698, 0, 0), client.unpack("IIQ"))


class Exhausted(unittest.TestCase):
    """The system gives the server no more memory."""

    def limited(self, server, kind):
        """From now on the server has what it has, and gets no more."""
        resource.prlimit(server.pid, kind, (MIB, -1))

    def unlimited(self, server, kind):
        resource.prlimit(server.pid, kind, (-1, -1))

    def exhaust(self, kind, *backend):
        """Clients who are in work on; a crowd is served or turned away; then all is well."""
        hostile.descriptors(10000)
        server = Server(*backend, options=("-t", str(WORKERS))).start()
        self.addCleanup(server.stop)
        if server.is_sanitized():
            self.skipTest("a sanitizer cannot work without memory")
        with Steady(server, 4) as steady:
            self.limited(server, kind)
            crowd, served, wanted = [], 0, scaled(100)
            while len(crowd) - served < wanted:
                self.assertLess(len(crowd), 9000, "there is memory for everybody")
                client = server.connect()
                crowd.append(client)
                try:
                    client.begin().agree(list(Mode)[len(crowd) % 2])
                    client.option(Opt.LIST)
                    served += client.answer(Opt.GO, info_data("")) == Rep.ACK
                except Disconnected:
                    pass
                if len(crowd) % 20 == 0:
                    steady.go_on(1)
            figure(f"clients served until {wanted} were turned away for want of memory", served)
            steady.go_on(20)
            for client in crowd:
                client.close()
            self.unlimited(server, kind)
            with timed("recovered in"):
                fresh = server.connect().negotiate()
                self.assertEqual(512, len(fresh.read(0, 512)))
            fresh.disconnect()
            steady.go_on(5)

    # RLIMIT_AS would not do: the C library has set address space aside for each thread.
    def test_with_a_file(self):
        path = hostile.harness.scratch(self) / "disk"
        path.write_bytes(bytes(MIB))
        self.exhaust(resource.RLIMIT_DATA, "file", path)

    def test_with_a_disk_in_memory(self):
        self.exhaust(resource.RLIMIT_DATA, "memory", "64M")

    def test_a_disk_in_memory_that_cannot_grow(self):
        """Writes fail, one by one, in words; what was written before stays."""
        server = Server("memory", "8G", options=("-t", "1")).start()
        self.addCleanup(server.stop)
        if server.is_sanitized():
            self.skipTest("a sanitizer cannot work without memory")
        client = server.connect().negotiate(mode=Mode.STRUCTURED)
        client.write(0, b"\x42" * MIB)
        self.limited(server, resource.RLIMIT_AS)
        errors = set()
        written = []
        for number in range(1, 64):
            offset = number * 128 * MIB
            reply = client.call(Cmd.WRITE, offset, payload=bytes([number]) * MIB)
            errors.add(reply.error)
            if reply.ok:
                written.append((number, offset))
        figure("writes that found memory, of 63", len(written))
        self.assertLessEqual(errors, {Err.OK, Err.ENOSPC, Err.EIO})
        self.assertEqual(b"\x42" * MIB, client.read(0, MIB))
        for number, offset in written:
            self.assertEqual(bytes([number]) * MIB, client.read(offset, MIB))
        self.unlimited(server, resource.RLIMIT_AS)
        client.write(GIB, b"\x43" * MIB)
        client.disconnect()


if __name__ == "__main__":
    hostile.harness.main()
