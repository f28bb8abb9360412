#!/usr/bin/env python3
"""Clients that are slow: to speak, or to listen.  The others do not notice."""

import select
import socket
import struct
import threading
import time
import unittest

import hostile
from hostile import (KIB, MIB, Absent, Mode, Peak, Server, Steady, bound_kib, figure, scaled,
                     timed, unix_socket)
from nbdwire import (FIXED_NEWSTYLE, NO_ZEROES, SIMPLE_REPLY_MAGIC, Cmd, Opt, info_data,
                     option_bytes, request_bytes)

WORKERS = 2
SLOW = 50           # clients at a time that are slow
PAUSE = 0.01        # seconds between two bytes; a tenth of that document's at scale 10


class Slow(unittest.TestCase):
    """A server in memory, slow clients, and others that work."""

    def serve(self, size="128M"):
        server = Server("memory", size, options=("-t", str(WORKERS))).start()
        self.addCleanup(server.stop)
        return server

    def test_one_byte_at_a_time(self):
        """A whole session, a byte now and then, by 50 clients at once: each is served,
        and others are meanwhile."""
        server = self.serve()
        payload = bytes(range(64))
        talk = (struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES) + option_bytes(Opt.GO, info_data()) +
                request_bytes(Mode.SIMPLE, Cmd.WRITE, 100 * MIB, len(payload), 0, 7) + payload +
                request_bytes(Mode.SIMPLE, Cmd.READ, 100 * MIB, len(payload), 0, 8))
        pause = min(PAUSE * SCALE_OF_PAUSE, 50 / len(talk))
        with Steady(server, 4) as steady:
            rounds = steady.rounds
            slow = [unix_socket(server) for _ in range(SLOW)]
            with timed(f"{SLOW} sessions of {len(talk)} bytes, one at a time, in"):
                for index in range(len(talk)):
                    for sock in slow:
                        sock.send(talk[index:index + 1])
                    time.sleep(pause)
            figure("rounds of 4 clients meanwhile", steady.rounds - rounds)
            steady.go_on(10)
            # Greeting, the replies to GO, and then what counts.
            expected = struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, 7)
            expected += struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, 8) + payload
            for sock in slow:
                sock.shutdown(socket.SHUT_WR)
                said = b"".join(iter(lambda s=sock: s.recv(1 << 16), b""))
                self.assertTrue(said.endswith(expected), said)
                sock.close()

    def test_replies_are_never_read(self):
        """Some ask for a lot and take nothing, while 100 others work: those get on, with
        the right answers, and memory has its bound."""
        server = self.serve()
        with Steady(server, 100) as steady:
            rounds, begin = steady.rounds, time.monotonic()
            steady.go_on(scaled(20))
            alone = (steady.rounds - rounds) / (time.monotonic() - begin)
            deaf = []
            for number in range(8):
                client = server.connect().negotiate(mode=list(Mode)[number % 2])
                self.addCleanup(client.close)
                self.say_much(client)
                deaf.append(client)
            rounds, begin = steady.rounds, time.monotonic()
            with timed("the same rounds among 8 that do not read in"):
                steady.go_on(scaled(20))
            beside = (steady.rounds - rounds) / (time.monotonic() - begin)
            figure("rounds per second of 100 clients alone", alone)
            figure("rounds per second beside those", beside)
            figure("longest round", steady.longest, "s")
            figure("peak memory", Peak(server).kib(), "KiB")
            if not server.is_sanitized():
                self.assertLess(Peak(server).kib(), bound_kib(WORKERS, 108, 108 * 256, 128 * KIB))
            for client in deaf:
                client.close()
            steady.go_on(5)

    def test_stuck_in_the_middle_of_a_receive(self):
        """Some receive into memory that does not come, over Unix sockets, and ask for more:
        the others of their workers get on."""
        server = self.serve()
        stuck = []
        for _ in range(2 * WORKERS):
            try:
                absent = Absent(MIB)
            except OSError as error:
                self.skipTest(f"no memory that does not come: {error}")
            self.addCleanup(absent.come)
            client = server.connect().negotiate(mode=Mode.SIMPLE)
            self.addCleanup(client.close)
            client.sock.settimeout(None)
            receiver = threading.Thread(target=client.sock.recv_into, args=(absent.memory,))
            stuck.append((client, absent, receiver))
        with Steady(server, 4) as steady:
            for client, _, receiver in stuck:
                client.sock.sendall(request_bytes(client.mode, Cmd.READ, 0, 64 * KIB, 0, 1))
                select.select([client.sock], [], [])
                receiver.start()
            steady.go_on(10)
            for client, _, _ in stuck:
                client.sock.sendall(request_bytes(client.mode, Cmd.READ, 0, 64 * KIB, 0, 2))
            steady.go_on(scaled(20))
            self.assertTrue(all(receiver.is_alive() for _, _, receiver in stuck))
            for _, absent, receiver in stuck:
                absent.come()
                receiver.join()

    @staticmethod
    def say_much(client):
        """Requests for far more than a socket holds, until the server takes no more."""
        client.sock.setblocking(False)
        said = request_bytes(client.mode, Cmd.READ, 0, MIB, 0, 1) * 300
        try:
            while said:
                said = said[client.sock.send(said):]
        except BlockingIOError:
            pass


SCALE_OF_PAUSE = max(1.0, hostile.SCALE)

if __name__ == "__main__":
    hostile.harness.main()
