#!/usr/bin/env python3
"""Garbage, truncation, lies about lengths, and clients that vanish.

Whatever arrives on one connection, the server serves the others on, keeps
neither memory nor descriptors, and does not fill the log.
"""

import random
import socket
import struct
import unittest

import harness
from harness import Server, ServerCase, pattern, wait_until
from nbdwire import (ALLOCATION, FIXED_NEWSTYLE, IHAVEOPT, NO_ZEROES, OPTION_REPLY_MAGIC,
                     PAYLOAD_LIMIT, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, CFlag, Client, Cmd,
                     Disconnected, Err, Mode, Opt, Rep, info_data, meta_data, option_bytes,
                     request_bytes, status_payload)

MIB = 1 << 20
IN_FLIGHT = 128

# What other protocols open a connection with.
STRANGERS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    bytes.fromhex("1603010200010001fc0303") + bytes(range(200)),
    b"\0" * 4096,
    b"\xff" * 4096,
)


def session(mode):
    """Everything a client says in one short session, as it goes over the wire."""
    said = struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES)
    if mode is Mode.STRUCTURED:
        said += option_bytes(Opt.STRUCTURED_REPLY)
    if mode is Mode.EXTENDED:
        said += option_bytes(Opt.EXTENDED_HEADERS)
    if mode is not Mode.SIMPLE:
        said += option_bytes(Opt.SET_META_CONTEXT, meta_data("", [ALLOCATION]))
    said += option_bytes(Opt.INFO, info_data("", [1, 3]))
    said += option_bytes(Opt.GO, info_data("", [3]))
    payload_flag = CFlag.PAYLOAD_LEN if mode is Mode.EXTENDED else 0
    said += request_bytes(mode, Cmd.READ, 0, 4096, 0, 1)
    said += request_bytes(mode, Cmd.WRITE, 64, 32, payload_flag, 2) + b"\x5A" * 32
    said += request_bytes(mode, Cmd.BLOCK_STATUS, 0, 4096, 0, 3)
    if mode is Mode.EXTENDED:
        said += request_bytes(mode, Cmd.BLOCK_STATUS, 0, 12, payload_flag, 4)
        said += status_payload(4096, [1])
    said += request_bytes(mode, Cmd.FLUSH, cookie=5)
    return said + request_bytes(mode, Cmd.DISC)


class ByteByByte(Client):
    """A client whose every byte comes alone."""

    def send(self, data):
        for index in range(len(data)):
            super().send(data[index:index + 1])


class BadInput(ServerCase):
    """One bad client at a time, and a bystander that must not notice."""

    def assert_dropped_whatever_was_said(self, client):
        client.until_closed()
        client.close()
        self.assert_unharmed()

    def send_what_is_taken(self, client, data):
        """Send data to a server that may hang up meanwhile."""
        try:
            client.send(data)
        except Disconnected:
            pass

    def test_strangers_are_dropped(self):
        """Another protocol's first words end the connection."""
        for words in STRANGERS:
            with self.subTest(words[:8]):
                client = self.connect()
                self.send_what_is_taken(client, words)
                self.assert_dropped_whatever_was_said(client)

    def test_garbage_instead_of_an_option(self):
        """What does not start with the option magic ends the connection."""
        chance = random.Random(1)
        good = option_bytes(Opt.LIST)
        reserved = (REQUEST_MAGIC << 32, OPTION_REPLY_MAGIC, IHAVEOPT ^ 1, IHAVEOPT ^ 1 << 63, 0)
        for start in [struct.pack(">Q", magic) for magic in reserved] + [good[4:], good[1:]]:
            with self.subTest(start):
                client = self.haggler()
                self.send_what_is_taken(client, start + chance.randbytes(1000))
                self.assert_dropped_whatever_was_said(client)

    def test_garbage_instead_of_a_request(self):
        """What does not start with the request magic ends the connection."""
        chance = random.Random(2)
        reserved = (0x12560953, 0x96744668, 0x25609514, SIMPLE_REPLY_MAGIC, 0,
                    0x13956025, REQUEST_MAGIC ^ 1, 0xFFFFFFFF)
        for mode in self.modes():
            for magic in reserved:
                with self.subTest(mode, magic=hex(magic)):
                    client = self.client(mode)
                    self.send_what_is_taken(client,
                                            struct.pack(">I", magic) + chance.randbytes(1000))
                    self.assert_dropped(client)

    def modes(self):
        """The modes this server knows."""
        client = self.haggler()
        extended = client.answer(Opt.EXTENDED_HEADERS) == Rep.ACK
        return tuple(Mode) if extended else (Mode.SIMPLE, Mode.STRUCTURED)

    def test_truncation_at_every_byte(self):
        """A session cut off anywhere ends, whether cut by closing or by silence."""
        for mode in Mode:
            said = session(mode)
            for end in range(len(said)):
                try:
                    with self.server.connect() as vanishing:
                        vanishing.send(said[:end])
                    with self.server.connect() as silent:
                        silent.send(said[:end])
                        silent.sock.shutdown(socket.SHUT_WR)
                        silent.until_closed()
                except (AssertionError, OSError) as error:
                    self.fail(f"{mode.name} session cut after {end} bytes: {error}")
            self.assert_unharmed()

    def test_every_byte_alone(self):
        """A session that trickles in is served like any other."""
        for mode in self.modes():
            with self.subTest(mode):
                client = ByteByByte.unix(self.server.socket)
                self.addCleanup(client.close)
                client.negotiate("", mode, [ALLOCATION] if mode else ())
                data = pattern(700, seed=mode)
                client.write(4000, data)
                self.assertEqual(data, client.read(4000, 700))
                if mode:
                    self.assertTrue(client.block_status(0, 8192))
                client.disconnect()

    def test_options_of_4_gib_announced(self):
        """A length of 4 GiB reserves no memory; the server hangs up or skips."""
        before = self.server.resident_kib()
        for option in [*Opt, 12, 0xFFFFFFFF]:
            for length in (0x7FFFFFFF, 0xFFFFFFFF):
                with self.subTest(option, length=length):
                    client = self.haggler()
                    client.send_option(option, length=length)
                    self.send_what_is_taken(client, bytes(1 << 18))
                    client.close()
        self.assert_unharmed()
        self.assertLess(self.server.resident_kib() - before, 64 << 10)

    def test_options_of_1_mib(self):
        """An option far beyond any use is skipped with an error, or ends it."""
        for option in (Opt.LIST, Opt.GO, Opt.SET_META_CONTEXT, Opt.STARTTLS, 99):
            with self.subTest(option):
                client = self.haggler()
                try:
                    self.assertGreater(client.answer(option, bytes(MIB)), Rep.META_CONTEXT)
                    self.assert_haggling(client)
                except Disconnected:
                    self.assert_unharmed()

    def test_oversize_writes(self):
        """More than 32 MiB of payload: an error in sync, or the end."""
        for length in (PAYLOAD_LIMIT + 1, PAYLOAD_LIMIT * 2 + 512):
            for mode in self.modes():
                with self.subTest(mode, length=length):
                    client = self.client(mode)
                    try:
                        reply = client.call(Cmd.WRITE, 0, payload=bytes(length))
                        self.assertIn(reply.error, (Err.EINVAL, Err.ENOSPC))
                        self.assert_serving(client)
                    except Disconnected:
                        self.assert_unharmed()

    def test_oversize_writes_announced(self):
        """A write of 4 GiB that never comes costs no memory."""
        before = self.server.resident_kib()
        clients = []
        for _ in range(16):
            clients.append(self.client())
            self.send_what_is_taken(clients[-1],
                                    request_bytes(Mode.SIMPLE, Cmd.WRITE, 0, 0xFFFFFFFF))
            self.send_what_is_taken(clients[-1], bytes(1 << 16))
        self.assert_unharmed()
        self.assertLess(self.server.resident_kib() - before, 64 << 10)
        for client in clients:
            client.close()

    def test_random_requests(self):
        """Requests of random kind, flags and range are each answered once, legally."""
        chance = random.Random(3)
        edges = (0, 1, 511, 512, 4096, 65536, MIB - 512, MIB - 1, MIB, MIB + 1, 1 << 31,
                 (1 << 32) - 512, (1 << 32) - 1)
        far = edges + (1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 512, (1 << 64) - 1)
        commands = (Cmd.READ, Cmd.WRITE, Cmd.FLUSH, Cmd.TRIM, Cmd.CACHE, Cmd.WRITE_ZEROES,
                    Cmd.BLOCK_STATUS, 9, 0xFFFF)
        for mode in self.modes():
            client = self.client(mode, contexts=[ALLOCATION] if mode else ())
            replies = []
            for _ in range(3000):
                command = chance.choice(commands)
                flags = chance.choice((0, 0, 0, 1 << chance.randrange(5), chance.getrandbits(16)))
                flags &= ~CFlag.PAYLOAD_LEN
                length = chance.choice(far if mode is Mode.EXTENDED else edges)
                payload = bytes(min(length, 70000)) if command == Cmd.WRITE else None
                replies.append(client.submit(command, chance.choice(far), length, flags, payload))
                if len(client.pending) >= IN_FLIGHT:
                    client.finish(replies[-IN_FLIGHT // 2])
            client.disconnect()
            self.assertTrue(all(reply.done for reply in replies))
        self.assert_unharmed()

    def test_many_silent_connections(self):
        """Connections on which nothing is said disturb nobody."""
        clients = [self.connect() for _ in range(200)]
        for client in clients[:100]:
            client.begin()
        self.assert_unharmed()
        for client in clients[100:]:
            client.negotiate()
            self.assert_serving(client)
        for client in clients:
            client.close()
        self.assert_unharmed()


class Vanishing(unittest.TestCase):
    """A client that goes away with 128 requests in flight, 1,000 times in a row."""

    WARM_UP = 100
    TIMES = 1000
    # Two workers, each of which may keep some free memory for the next burst.
    OPTIONS = ("-t", "2")
    KEPT_KIB = 2 * (16 << 10)
    READ_LENGTH = 16384
    WRITE_LENGTH = 4096

    def leave_reads(self, server, number):
        """Ask for 2 MiB and leave without taking any of it."""
        client = server.connect().negotiate(mode=(Mode.SIMPLE, Mode.STRUCTURED)[number % 2])
        client.send(b"".join(
            request_bytes(client.mode, Cmd.READ, index * self.READ_LENGTH, self.READ_LENGTH,
                          cookie=index) for index in range(IN_FLIGHT)))
        client.close()

    def leave_writes(self, server, number):
        """Send half a MiB in requests and leave, each second time within the last one."""
        client = server.connect().negotiate(mode=(Mode.SIMPLE, Mode.STRUCTURED)[number % 2])
        stream = b"".join(
            request_bytes(client.mode, Cmd.WRITE, index * self.WRITE_LENGTH, self.WRITE_LENGTH,
                          cookie=index) + bytes(self.WRITE_LENGTH) for index in range(IN_FLIGHT))
        client.send(stream if number % 4 < 2 else stream[:-self.WRITE_LENGTH // 2])
        client.close()

    def torment(self, server, leave):
        """Let clients leave; then compare the server with what it was before."""
        bystander = server.connect()
        self.addCleanup(bystander.close)
        bystander.negotiate(mode=Mode.STRUCTURED)
        lines = server.stderr().count("\n")
        data = pattern(4096)
        bystander.write(8 * MIB, data)
        descriptors = server.descriptors()
        memory = 0
        for number in range(self.WARM_UP + self.TIMES):
            if number == self.WARM_UP:
                wait_until(lambda: server.descriptors() <= descriptors, "closed descriptors")
                memory = server.resident_kib()
            if number % 100 == 0:
                self.assertEqual(data, bystander.read(8 * MIB, 4096))
            leave(server, number)
        wait_until(lambda: server.descriptors() <= descriptors, "closed descriptors")
        if not server.is_sanitized():
            # What the last ones had under way goes back as it ends.
            wait_until(lambda: server.resident_kib() - memory < self.KEPT_KIB,
                       "memory given back")
        self.assertEqual(data, bystander.read(8 * MIB, 4096))
        with server.connect() as fresh:
            self.assertEqual(data, fresh.negotiate().read(8 * MIB, 4096))
            fresh.disconnect()
        bystander.disconnect()
        server.terminate()
        server.check_exit()
        said = server.stderr().count("\n") - lines
        self.assertLessEqual(said, self.WARM_UP + self.TIMES, "more than a line per client")

    def memory_server(self):
        """A server in memory on a Unix socket."""
        server = Server("memory", "16M", options=self.OPTIONS).start()
        self.addCleanup(server.kill)
        return server

    def file_server(self):
        """A server of a file on a TCP port."""
        disk = harness.scratch(self) / "disk"
        disk.write_bytes(bytes(16 * MIB))
        server = Server.start_on_tcp("file", disk, options=self.OPTIONS)
        self.addCleanup(server.kill)
        return server

    def test_readers_of_memory_vanish(self):
        """READs in flight to a Unix socket."""
        self.torment(self.memory_server(), self.leave_reads)

    def test_writers_to_memory_vanish(self):
        """WRITEs in flight from a Unix socket."""
        self.torment(self.memory_server(), self.leave_writes)

    def test_readers_of_a_file_vanish(self):
        """READs in flight to a TCP socket."""
        self.torment(self.file_server(), self.leave_reads)

    def test_writers_to_a_file_vanish(self):
        """WRITEs in flight from a TCP socket."""
        self.torment(self.file_server(), self.leave_writes)


if __name__ == "__main__":
    harness.main()
