#!/usr/bin/env python3
"""The limits that docs/operations.md states, seen from outside.

Those that another test shows already are named there with that test.
"""

import contextlib
import os
import select
import subprocess
import time
import unittest

import hostile
from hostile import (KIB, MIB, Mode, Server, descriptors, figure, harness, unix_socket,
                     wait_until)
from nbdwire import Cmd, Err, request_bytes

MINUTE = 60


class Patient:
    """Clients that are connected from the beginning and do nothing more."""

    def __init__(self):
        self.server = Server("memory", "64M", options=("-t", "1")).start()
        self.began = time.monotonic()
        self.silent = unix_socket(self.server)
        self.undecided = self.server.connect().begin()
        leaving = self.server.connect().negotiate()
        leaving.send(request_bytes(Mode.SIMPLE, Cmd.READ, 0, MIB) * 8 +
                     request_bytes(Mode.SIMPLE, Cmd.DISC))
        self.leaving = leaving
        self.staying = self.server.connect().negotiate()


PATIENT = None


def setUpModule():
    global PATIENT  # pylint: disable=global-statement
    PATIENT = Patient()


def tearDownModule():
    for client in (PATIENT.silent, PATIENT.undecided, PATIENT.leaving, PATIENT.staying):
        client.close()
    PATIENT.server.stop()


class AtOnce(unittest.TestCase):
    """What one connection may have under way."""

    def serve(self, *backend, options=()):
        server = Server(*backend, options=("-t", "1", *options)).start()
        self.addCleanup(server.stop)
        return server

    def test_256_requests_of_one_connection(self):
        """Of 600 at once 256 are begun; the others are, as those are answered."""
        server = self.serve("memory", "1M", "rdelay=2", options=("--filter=delay",))
        client = server.connect().negotiate()
        client.send(request_bytes(Mode.SIMPLE, Cmd.READ, 0, 512, 0, 1) * 600)
        client.receive(16 + 512)
        first = 1
        while select.select([client.sock], [], [], 0.3)[0]:
            client.receive(16 + 512)
            first += 1
        figure("requests that were answered together", first)
        self.assertLessEqual(first, 256)
        client.receive((16 + 512) * (600 - first))
        client.disconnect()

    def test_16_mib_of_one_connection(self):
        """Of 64 MiB of writes no more are taken, until some are done; then all are."""
        server = self.serve("memory", "64M", "wdelay=2", options=("--filter=delay",))
        client = server.connect().negotiate()
        before, said = server.resident_kib(), 0
        stream = memoryview(b"".join(
            request_bytes(Mode.SIMPLE, Cmd.WRITE, number * MIB, MIB, 0, number) + bytes(MIB)
            for number in range(64)))
        begin = time.monotonic()
        while select.select([], [client.sock], [], 0.3)[1]:
            try:
                said += client.sock.send(stream[said:said + 64 * KIB])
            except BlockingIOError:
                pass
        figure("bytes taken before the first answer", said)
        if time.monotonic() - begin < 1.9:  # else the machine was too slow to tell
            self.assertLess(said, 18 * MIB)
            if not server.is_sanitized():
                self.assertLess(server.resident_kib() - before, 40 * KIB)
        client.send(stream[said:])
        for _ in range(64):
            self.assertEqual((0x67446698, 0), client.unpack("II8x"))
        client.disconnect()

    def test_32_mib_of_one_request(self):
        """A longer read is an error, a longer write the end."""
        server = self.serve("memory", "64M")
        client = server.connect().negotiate(mode=Mode.STRUCTURED)
        self.assertEqual(Err.EOVERFLOW, client.call(Cmd.READ, 0, 32 * MIB + 1).error)
        client.write(0, bytes(32 * MIB))
        client.send(request_bytes(client.mode, Cmd.WRITE, 0, 32 * MIB + 1))
        self.assertEqual(b"", client.until_closed())
        client.close()


class Connections(unittest.TestCase):
    """What a connection that does nothing takes."""

    MOST_KIB = 2.5      # 1.6 and what malloc makes of it
    # A worker keeps some of its arena for the next; root's is registered and there anyway.
    KEPT_KIB = 0 if os.geteuid() == 0 else 10 * KIB

    def memory(self, server, count, use):
        """KiB for each of so many, after what was used for a moment went back."""
        clients = [server.connect().negotiate() for _ in range(50)]
        before = server.resident_kib()
        for _ in range(count):
            client = server.connect().negotiate()
            if use:
                client.read(0, 4 * KIB)
            clients.append(client)

        def grown():
            return server.resident_kib() - before

        if not server.is_sanitized():
            wait_until(lambda: grown() < count * self.MOST_KIB + self.KEPT_KIB,
                       f"{self.MOST_KIB} KiB for each at most")
        value = grown() / count
        for client in clients:
            client.close()
        return value

    def test_memory_of_idle_connections(self):
        # So many that their windows would not fit into what is registered.
        count = descriptors(20000)
        for use in (False, True):
            server = Server("memory", "1M", options=("-t", "1")).start()
            self.addCleanup(server.stop)
            figure(f"memory of each of {count} idle connections, {'once' if use else 'never'} used",
                   self.memory(server, count, use), "KiB")


class Log(unittest.TestCase):
    """What clients can make the server write."""

    def test_2000_lines_and_ten_a_second(self):
        """3,000 clients that talk nonsense: the log says how many lines it left out."""
        server = Server("memory", "1M", options=("-t", "2")).start()
        self.addCleanup(server.stop)
        before, begin = server.descriptors(), time.monotonic()
        for _ in range(3000):
            with unix_socket(server) as sock:
                sock.send(b"GET / HTTP/1.1\r\n\r\n" * 4)
                # One that leaves before it is understood is no news.
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(4096):
                        pass
        wait_until(lambda: server.descriptors() <= before, "descriptors to be closed")
        lines = server.stderr().count("\n")
        figure("lines of log about 3,000 clients", lines)
        # As many again may say how many were left out.
        self.assertLessEqual(lines, 2000 + 2 * 10 * (time.monotonic() - begin + 1))
        self.assertGreater(lines, 1000)


class Workers(unittest.TestCase):
    """What the command line may ask for."""

    def test_1024_workers_at_most(self):
        command = [*harness.server_command(), "-f", "-U", "/nonexistent/s", "-t", "1025",
                   "memory", "1M"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              text=True)
        self.assertEqual(1, done.returncode)
        self.assertIn("1024", done.stderr)

    def test_threads_of_a_server_that_does_nothing(self):
        """One for each worker and a few more, however many clients there are."""
        server = Server("memory", "1M", options=("-t", "2")).start()
        self.addCleanup(server.stop)
        clients = [server.connect().negotiate() for _ in range(500)]
        threads = len(os.listdir(f"/proc/{server.pid}/task"))
        figure("threads with 2 workers and 500 clients", threads)
        self.assertLess(threads, 12)
        for client in clients:
            client.close()


class ZPatience(unittest.TestCase):
    """The last to run, as it has to wait: a minute for clients that do not get on."""

    def gone(self, sock):
        """Whether the server has closed its end."""
        poll = select.poll()
        poll.register(sock, 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    def waits_a_minute(self, sock, what):
        self.assertTrue(time.monotonic() - PATIENT.began > MINUTE - 1 or not self.gone(sock))
        deadline = PATIENT.began + MINUTE + harness.PATIENCE
        while not self.gone(sock):
            self.assertLess(time.monotonic(), deadline, f"{what} is never closed")
            time.sleep(0.1)
        waited = time.monotonic() - PATIENT.began
        figure(f"seconds until {what} was closed", waited)
        self.assertGreater(waited, MINUTE - 2)

    def test_negotiation(self):
        for sock, what in ((PATIENT.silent, "a silent client"),
                           (PATIENT.undecided.sock, "a client that sends no option")):
            self.waits_a_minute(sock, what)

    def test_replies_after_a_goodbye(self):
        self.waits_a_minute(PATIENT.leaving.sock, "a client that does not take its last replies")
        # Who has entered may be silent for ever.
        self.assertEqual(512, len(PATIENT.staying.read(0, 512)))


if __name__ == "__main__":
    harness.main()
