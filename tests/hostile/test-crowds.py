#!/usr/bin/env python3
"""Crowds: more connections than anybody needs, all at once or one after another.

Clients that were there before go on working and read what they wrote; the server
gives back what the crowd has taken.
"""

import resource
import select
import socket
import struct
import time
import unittest

import hostile
from hostile import (KIB, MIB, Peak, Server, Steady, bound_kib, descriptors, figure, has_settled,
                     scaled, timed, unix_socket, wait_until)
from nbdwire import FIXED_NEWSTYLE, NO_ZEROES, Opt, Rep, info_data, option_bytes

WORKERS = 2
NEGOTIATING_KIB = 8     # a window, and memory for answers
FLAGS = struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES)

# Where a negotiation can stop: what such a client has said by then.
STOPS = (b"", FLAGS[:2], FLAGS, FLAGS + option_bytes(Opt.LIST)[:9],
         FLAGS + option_bytes(Opt.INFO, info_data("a name"))[:-3],
         FLAGS + option_bytes(Opt.STRUCTURED_REPLY) + option_bytes(Opt.GO, info_data())[:20])


class Crowds(unittest.TestCase):
    """A server in memory, and one well-behaved client or more."""

    def serve(self, *options):
        server = Server("memory", "64M", options=("-t", str(WORKERS), *options)).start()
        self.addCleanup(server.stop)
        return server

    def test_half_open_connections(self):
        """10,000 that never finish their negotiation: few KiB each, nobody notices."""
        count = descriptors(10000)
        server = self.serve()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (count + 100, count + 100))
        with Steady(server, 2) as steady:
            before = server.resident_kib()
            crowd = []
            with timed(f"{count} half-open connections made in"):
                for number in range(count):
                    sock = unix_socket(server)
                    crowd.append(sock)
                    sock.send(STOPS[number % len(STOPS)])
                wait_until(lambda: server.descriptors() > count, "all to be accepted")
            with timed("100 rounds of 2 clients among them in"):
                steady.go_on(100)
            grown = server.resident_kib() - before
            figure("memory of a half-open connection", grown / count, "KiB")
            if not server.is_sanitized():
                # Of its own, and from the arena, which is there already where it is registered.
                self.assertLess(grown / count, hostile.CONNECTION_KIB + NEGOTIATING_KIB)
                self.assertLess(Peak(server).kib(), bound_kib(WORKERS, count, disk=MIB // KIB))
            fresh = server.connect()
            fresh.negotiate().read(0, 512)
            fresh.close()
            with timed("all of them closed in"):
                for sock in crowd:
                    sock.close()
                wait_until(lambda: server.descriptors() < 200, "their descriptors to be closed")
            wait_until(lambda: has_settled(server, before, WORKERS * 24 * KIB), "their memory")
            figure("memory kept afterwards", server.resident_kib() - before, "KiB")

    def test_connect_storm(self):
        """5,000 connections a second for two seconds: all are greeted, then gone."""
        server = self.serve()
        count, slice_s = scaled(10000), 0.02
        each = round(5000 * slice_s)
        with Steady(server, 2) as steady:
            rounds, begin, before = steady.rounds, time.monotonic(), server.descriptors()
            for number in range(0, count, each):
                socks = [unix_socket(server) for _ in range(each)]
                for index, sock in enumerate(socks):
                    if index % 2:
                        self.assertEqual(b"NBDMAGIC", sock.recv(8, socket.MSG_WAITALL))
                    sock.close()
                ahead = begin + number / 5000 - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
            figure("connections per second", count / (time.monotonic() - begin))
            figure("rounds of 2 clients meanwhile", steady.rounds - rounds)
            with timed("recovered in"):
                wait_until(lambda: server.descriptors() <= before, "descriptors to be closed")
            steady.go_on(10)

    def test_descriptors_exhausted(self):
        """More clients than files may be open: those who are in work on, others come
        in as soon as somebody leaves, and the log says so once each time."""
        server = self.serve()
        limit = server.descriptors() + 40
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with Steady(server, 8) as steady:
            crowd = [unix_socket(server) for _ in range(200)]
            wait_until(lambda: server.descriptors() >= limit, "descriptors to be used up")
            steady.go_on(20)
            # It goes on trying meanwhile.
            time.sleep(1)
            self.assertLess(len(greeted(crowd, 0)), 60)
            self.assertLess(server.stderr().count("cannot accept"), 3)
            left = 0
            with timed("200 clients served with 40 descriptors in"):
                while crowd:
                    inside = greeted(crowd, hostile.harness.PATIENCE)
                    self.assertTrue(inside, "nobody is let in though there is room")
                    for sock in inside:
                        self.assertEqual(b"NBDMAGIC", sock.recv(18, socket.MSG_WAITALL)[:8])
                        crowd.remove(sock)
                        sock.close()
                        left += 1
            self.assertEqual(200, left)
            steady.go_on(20)
        lines = server.stderr().count("cannot accept")
        figure("lines of log", lines)
        self.assertLess(lines, 60)

    def test_an_export_that_needs_a_descriptor_when_there_is_none(self):
        """Opening fails in words, for that client; the next one, with room, is served."""
        directory = hostile.harness.scratch(self)
        for name in "ab":
            (directory / name).write_bytes(bytes(MIB))
        server = Server("file", f"dir={directory}", options=("-t", "1")).start()
        self.addCleanup(server.stop)
        steady = server.connect().negotiate("a")
        waiting = server.connect().begin()
        waiting.info("a")
        open_now = server.descriptors()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (open_now, 1000))
        self.assertEqual(Rep.ERR_PLATFORM, waiting.answer(Opt.GO, info_data("b")))
        self.assertEqual(512, len(steady.read(0, 512)))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (1000, 1000))
        waiting.go("b")
        self.assertEqual(512, len(waiting.read(0, 512)))
        steady.disconnect()
        waiting.disconnect()


def greeted(socks, patience):
    """Those to whom the server has said something, or hung up on."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(patience * 1000)}
    return [sock for sock in socks if sock.fileno() in ready]


if __name__ == "__main__":
    hostile.harness.main()
