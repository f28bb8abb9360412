#!/usr/bin/env python3
"""Clients that ask for 500 things at once and are gone, again and again."""

import socket
import struct
import unittest

import hostile
from hostile import (KIB, MIB, Mode, Server, Steady, figure, has_settled, scaled, timed,
                     wait_until)
from nbdwire import (FIXED_NEWSTYLE, NO_ZEROES, CFlag, Cmd, Opt, info_data, option_bytes,
                     request_bytes)

WORKERS = 2
REQUESTS = 500
TIMES = scaled(1000)
NEGOTIATED = 200                # bytes of answers; those to a whole negotiation are fewer
KEPT_KIB = WORKERS * 24 * KIB   # what the workers may keep for the next


def session(mode, command, length):
    """All that such a client says."""
    said = struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES)
    if mode is Mode.STRUCTURED:
        said += option_bytes(Opt.STRUCTURED_REPLY)
    elif mode is Mode.EXTENDED:
        said += option_bytes(Opt.EXTENDED_HEADERS)
    said += option_bytes(Opt.GO, info_data())
    flags = CFlag.PAYLOAD_LEN if mode is Mode.EXTENDED and command == Cmd.WRITE else 0
    payload = bytes(length) if command == Cmd.WRITE else b""
    return said + b"".join(
        request_bytes(mode, command, 8 * MIB + number * length, length, flags, number) + payload
        for number in range(REQUESTS))


class Vanishing(unittest.TestCase):
    """The server forgets them; who stays does not notice."""

    def leave(self, server, said, how, served):
        """Say all that and go; if SERVED, not before there was an answer to a request."""
        sock = socket.socket(socket.AF_UNIX) if server.port is None else socket.socket()
        with sock:
            sock.connect(str(server.socket) if server.port is None else ("127.0.0.1", server.port))
            sock.setblocking(False)
            if how == 1 and server.port is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                sock.send(said)
                sock.settimeout(hostile.harness.PATIENCE)
                got = 0
                while served and got < NEGOTIATED:
                    more = len(sock.recv(4096))
                    if not more:
                        raise AssertionError("the server closed the connection")
                    got += more
                if how == 2:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def torment(self, server):
        talks = [session(mode, command, length) for mode in Mode
                 for command, length in ((Cmd.READ, 16 * KIB), (Cmd.WRITE, 4 * KIB),
                                         (Cmd.FLUSH, 0))]
        with Steady(server, 2) as steady:
            before, memory, lines = server.descriptors(), 0, server.stderr().count("\n")
            with timed(f"{TIMES} times {REQUESTS} requests and gone in"):
                for number in range(TIMES):
                    if number == TIMES // 10:
                        memory = server.resident_kib()
                    if number % 100 == 0:
                        steady.go_on(1)
                    self.leave(server, talks[number % len(talks)], number % 3, number % 4 != 0)
            with timed("recovered in"):
                wait_until(lambda: server.descriptors() <= before, "closed descriptors")
            wait_until(lambda: has_settled(server, memory, KEPT_KIB), "memory given back")
            figure("memory afterwards, beyond that at the beginning",
                   server.resident_kib() - memory, "KiB")
            steady.go_on(5)
        lines = server.stderr().count("\n") - lines
        figure("lines of log", lines)
        self.assertLessEqual(lines, TIMES, "more than a line for each")

    def test_from_memory(self):
        server = Server("memory", "32M", options=("-t", str(WORKERS))).start()
        self.addCleanup(server.stop)
        self.torment(server)

    def test_from_a_file_over_tcp(self):
        disk = hostile.harness.scratch(self) / "disk"
        with disk.open("wb") as file:
            file.truncate(32 * MIB)
        server = Server.start_on_tcp("file", disk, options=("-t", str(WORKERS)))
        self.addCleanup(server.stop)
        self.torment(server)


if __name__ == "__main__":
    hostile.harness.main()
