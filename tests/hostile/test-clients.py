#!/usr/bin/env python3
"""Who may come in, how many at a time, and for how long they may take.

The limits are those that docs/operations.md has under "Of clients".
"""

import ctypes
import os
import pathlib
import random
import select
import signal
import socket
import tempfile
import threading
import time
import unittest

import hostile
from hostile import Server, Steady, figure, harness, unix_socket, wait_until
from nbdwire import Client, Opt, Rep, info_data

NR_PIDFD_OPEN, NR_PIDFD_GETFD = 434, 438  # the same on all architectures


class Case(unittest.TestCase):
    """A test that starts servers of its own."""

    def serve(self, *options, backend=("memory", "1M"), tcp=False):
        if tcp:
            server = Server.start_on_tcp(*backend, options=("-t", "2", *options))
        else:
            server = Server(*backend, options=("-t", "2", *options)).start()
        self.addCleanup(server.kill)
        return server

    def connect(self, server):
        client = server.connect()
        self.addCleanup(client.close)
        return client

    def enter(self, server, name=""):
        return self.connect(server).negotiate(name)

    def assert_served(self, server, name=""):
        client = self.connect(server).negotiate(name)
        self.assertEqual(512, len(client.read(0, 512)))
        client.disconnect()
        client.close()

    def assert_turned_away(self, server):
        client = self.connect(server)
        self.assertEqual(b"", client.until_closed())

    def can_enter(self, server, name=""):
        client = server.connect()
        try:
            client.negotiate(name)
            client.disconnect()
            return True
        except (AssertionError, OSError):
            return False
        finally:
            client.close()


def is_silent(client, seconds=0.3):
    """Whether nothing is heard, not even an end."""
    return not select.select([client.sock], [], [], seconds)[0]


def hears(client):
    return bool(select.select([client.sock], [], [], harness.PATIENCE)[0])


class HowMany(Case):
    """Clients at a time."""

    def test_more_are_turned_away(self):
        server = self.serve("--max-connections=2")
        first = self.enter(server)
        second = self.connect(server).begin()  # who negotiates counts, too
        for _ in range(3):
            self.assert_turned_away(server)
        self.assertIn("--max-connections", server.stderr())
        second.close()
        wait_until(lambda: self.can_enter(server), "the place to be free")
        self.assertEqual(512, len(first.read(0, 512)))
        server.stop()

    def test_more_wait(self):
        server = self.serve("--max-connections=2,wait")
        first, second = self.enter(server), self.enter(server)
        third, fourth = self.connect(server), self.connect(server)
        self.assertTrue(is_silent(third) and is_silent(fourth, 0))
        self.assertEqual(512, len(first.read(0, 512)))
        first.close()
        self.assertTrue(hears(third))
        third.negotiate()
        self.assertTrue(is_silent(fourth))
        second.disconnect()
        second.close()
        self.assertTrue(hears(fourth))
        fourth.negotiate()
        fifth = self.connect(server)
        self.assertTrue(is_silent(fifth))
        server.stop()  # whoever waits does not hold it up
        self.assertEqual(b"", fifth.until_closed())

    def test_who_waits_may_go(self):
        """Places of those who have lost patience are not lost."""
        server = self.serve("--max-connections=1,wait")
        first = self.enter(server)
        for _ in range(20):
            self.connect(server).close()
        first.disconnect()
        first.close()
        for _ in range(3):
            self.assert_served(server)
        server.stop()

    def test_a_crowd_takes_turns(self):
        """On two sockets: never more than three at a time, and everybody is served."""
        other = pathlib.Path(tempfile.mkdtemp(prefix="nbdc-")) / "other"
        self.addCleanup(os.rmdir, other.parent)
        server = self.serve("-U", other, "--max-connections=3,wait")
        lock, state = threading.Lock(), {"in": 0, "most": 0, "served": 0}

        def come(path):
            for _ in range(hostile.scaled(12)):
                client = Client.unix(path)
                client.negotiate()
                with lock:
                    state["in"] += 1
                    state["most"] = max(state["most"], state["in"])
                client.read(0, 512)
                with lock:
                    state["in"] -= 1
                    state["served"] += 1
                client.disconnect()
                client.close()

        crowd = [threading.Thread(target=come, args=(path,), daemon=True)
                 for path in (server.socket, other) * 6]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join(harness.PATIENCE)
            self.assertFalse(thread.is_alive(), "a client waits for ever")
        figure("clients at a time, of three allowed", state["most"])
        self.assertLessEqual(state["most"], 3)
        self.assertEqual(12 * hostile.scaled(12), state["served"])
        server.stop()

    def test_of_one_export(self):
        with tempfile.TemporaryDirectory(prefix="nbdc-") as folder:
            for name in ("a", "b"):
                pathlib.Path(folder, name).write_bytes(bytes(65536))
            server = self.serve("--max-connections-per-export=2",
                                backend=("file", f"dir={folder}"))
            first, second = self.enter(server, "a"), self.enter(server, "a")
            third = self.connect(server).begin()
            for _ in range(2):
                self.assertEqual(Rep.ACK, third.answer(Opt.INFO, info_data("a")))
                self.assertEqual(Rep.ERR_POLICY, third.answer(Opt.GO, info_data("a")))
            self.assert_served(server, "b")
            first.disconnect()
            first.close()
            wait_until(lambda: third.answer(Opt.GO, info_data("a")) == Rep.ACK,
                       "the place to be free")
            self.assertFalse(self.can_enter(server, "a"))
            self.assertEqual(512, len(second.read(0, 512)))
            server.stop()

    def test_of_one_user(self):
        server = self.serve("--max-connections-per-peer=2")
        first, second = self.connect(server).begin(), self.enter(server)
        for _ in range(3):
            self.assert_turned_away(server)
        self.assertIn("--max-connections-per-peer", server.stderr())
        first.close()
        wait_until(lambda: self.can_enter(server), "the place to be free")
        self.assertEqual(512, len(second.read(0, 512)))
        server.stop()

    def test_of_one_address(self):
        server = self.serve("--max-connections-per-peer=1", tcp=True)
        first = self.enter(server)
        self.assert_turned_away(server)
        sock = socket.create_connection(("127.0.0.1", server.port), harness.PATIENCE,
                                        source_address=("127.0.0.2", 0))
        neighbour = Client(sock)
        self.addCleanup(neighbour.close)
        neighbour.negotiate()
        self.assertEqual(512, len(neighbour.read(0, 512)))
        first.close()
        wait_until(lambda: self.can_enter(server), "the place to be free")
        server.stop()


class Handshakes(Case):
    """Clients that have not negotiated yet."""

    def test_more_wait(self):
        server = self.serve("--max-handshakes=2", "--handshake-timeout=0")
        served = [self.enter(server) for _ in range(5)]  # those do not count
        first, second = self.connect(server).begin(), self.connect(server)
        self.assertTrue(hears(second))
        third = self.connect(server)
        self.assertTrue(is_silent(third))
        first.go()
        self.assertTrue(hears(third))
        second.close()
        third.negotiate()
        self.assert_served(server)
        self.assertEqual(512, len(served[0].read(0, 512)))
        server.stop()

    def test_a_silent_crowd_does_not_keep_others_out(self):
        server = self.serve("--max-handshakes=4", "--handshake-timeout=1")
        crowd = [unix_socket(server) for _ in range(12)]
        begin = time.monotonic()
        self.assert_served(server)
        figure("seconds to get in behind 12 silent clients, 4 at a time",
               time.monotonic() - begin)
        for sock in crowd:
            sock.close()
        server.stop()

    def test_time(self):
        server, patient = self.serve("--handshake-timeout=1"), self.serve("--handshake-limit=0")
        begin = time.monotonic()
        waiting = unix_socket(patient)
        self.addCleanup(waiting.close)
        client = self.connect(server).begin()
        staying = self.enter(server)
        self.assertEqual(b"", client.until_closed())
        taken = time.monotonic() - begin
        figure("seconds until a client that may negotiate for 1 s is closed", taken)
        self.assertGreater(taken, 0.9)
        self.assertEqual(512, len(staying.read(0, 512)))  # it is in, and may be silent
        self.assertEqual(18, len(waiting.recv(100)))
        self.assertFalse(select.select([waiting], [], [], 1.5)[0])
        server.stop()
        waiting.close()
        patient.stop()


class Silence(Case):
    """Clients that may be gone."""

    def options_of_sockets(self, server):
        """What the kernel has for each TCP connection of the server."""
        libc = ctypes.CDLL(None, use_errno=True)
        pidfd = libc.syscall(NR_PIDFD_OPEN, server.pid, 0)
        if pidfd < 0:
            self.skipTest("this kernel has no pidfd")
        self.addCleanup(os.close, pidfd)
        for name in os.listdir(f"/proc/{server.pid}/fd"):
            fd = libc.syscall(NR_PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                self.skipTest("descriptors of another process are not to be had here")
            try:
                sock = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            with sock:
                if sock.family == socket.AF_INET and not sock.getsockopt(socket.SOL_SOCKET,
                                                                         socket.SO_ACCEPTCONN):
                    yield [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)] + [
                        sock.getsockopt(socket.IPPROTO_TCP, option)
                        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL,
                                       socket.TCP_KEEPCNT)]

    def test_keepalive(self):
        server = self.serve("--keepalive=61,11,7", tcp=True)
        self.enter(server)
        self.assertEqual([[1, 61, 11, 7]], list(self.options_of_sockets(server)))
        server.stop()
        server = self.serve(tcp=True)
        self.enter(server)
        self.assertEqual([0], [row[0] for row in self.options_of_sockets(server)])
        server.stop()


class TheEnd(Case):
    """Servers that end when nobody needs them."""

    def ends(self, server):
        server.process.wait(harness.PATIENCE)
        server.check_exit()

    def test_with_the_last_client(self):
        server = self.serve("--exit-last")
        asking = self.connect(server).begin()
        asking.option(Opt.LIST)
        asking.option(Opt.ABORT)
        asking.close()
        first, second = self.enter(server), self.enter(server)
        first.disconnect()
        first.close()
        self.assertEqual(512, len(second.read(0, 512)))
        self.assertIsNone(server.process.poll())
        second.close()
        self.ends(server)
        self.assertIn("the last client has left", server.stderr())

    def test_idle(self):
        begin = time.monotonic()
        server = self.serve("--exit-idle=1")
        self.ends(server)
        self.assertGreater(time.monotonic() - begin, 0.9)
        server = self.serve("--exit-idle=1")
        client = self.enter(server)
        time.sleep(1.5)  # that nothing happens is what is tested
        self.assertEqual(512, len(client.read(0, 512)))
        begin = time.monotonic()
        client.disconnect()
        client.close()
        self.ends(server)
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.assertIn("no client for 1 seconds", server.stderr())


class Rules(Case):
    """Rules of access without end, and such that are none."""

    def setUp(self):
        handle, self.path = tempfile.mkstemp(prefix="nbdc-rules-")
        os.close(handle)
        self.addCleanup(os.unlink, self.path)
        self.mine = f"allow export=mine uid={os.getuid()}\n"

    def write(self, text):
        """In one step, as who changes rules of a running server has to."""
        new = pathlib.Path(self.path + ".new")
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.rename(self.path)

    def reload(self, server, said):
        before = server.stderr().count(said)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: server.stderr().count(said) > before, said)

    def test_a_hundred_thousand_rules(self):
        others = "".join(f"allow export=tenant-{number}/* psk=tenant-{number}\n"
                         for number in range(100000))
        self.write(others + self.mine)
        server = self.serve(f"--access={self.path}")
        steady = Steady(server, 4, name="mine")
        steady.start()
        with hostile.timed("100 questions under 100,001 rules"):
            for _ in range(50):
                self.assert_served(server, "mine")
                self.assertFalse(self.can_enter(server, "tenant-99999/disk"))
        with hostile.timed("reading 100,001 rules again"):
            self.reload(server, "100001 rules of access are in force")
        self.assert_served(server, "mine")
        steady.over.set()
        steady.join(harness.PATIENCE)
        self.assertIsNone(steady.error)
        for client in steady.clients:
            client.close()
        server.stop()

    def test_patterns_that_fit_nearly(self):
        """Doubled stars, and a name of letters that fit all but the last."""
        self.write("".join(f"allow export={'*a' * 1000}{letter}\n" for letter in "bcdefgh") +
                   self.mine)
        server = self.serve(f"--access={self.path}")
        client = self.connect(server).begin()
        with hostile.timed("a name of 4096 letters under 7 such rules"):
            self.assertEqual(Rep.ERR_UNKNOWN, client.answer(Opt.GO, info_data("a" * 4096)))
        self.assert_served(server, "mine")
        server.stop()

    def test_files_of_any_bytes(self):
        self.write(self.mine)
        server = self.serve(f"--access={self.path}")
        chance = random.Random(1)
        for number in range(hostile.scaled(10)):
            garbage = chance.randbytes(1 << chance.randrange(16))
            self.write(b"permit " + garbage if number % 2 else b"allow export=%" + garbage)
            self.reload(server, "that were in force stay")
            self.assert_served(server, "mine")
            self.assertFalse(self.can_enter(server, "other"))
        server.stop()

    def test_rules_change_all_the_while(self):
        """Each answer is by the old or by the new rules, never by something between."""
        rules = [self.mine, self.mine + "allow read-only\n"]
        self.write(rules[0])
        server = self.serve(f"--access={self.path}")
        over = threading.Event()

        def change():
            number = 0
            while not over.is_set():
                number += 1
                self.write(rules[number % 2])
                os.kill(server.pid, signal.SIGHUP)
                time.sleep(0.002)

        changer = threading.Thread(target=change, daemon=True)
        changer.start()
        answers = {Rep.ACK: 0, Rep.ERR_UNKNOWN: 0}
        client = self.connect(server).begin()
        for _ in range(hostile.scaled(2000)):
            self.assertEqual(Rep.ACK, client.answer(Opt.INFO, info_data("mine")))
            answers[client.answer(Opt.INFO, info_data("other"))] += 1
        over.set()
        changer.join()
        figure("answers by the one and the other rules", list(answers.values()))
        self.assertTrue(all(answers.values()))
        server.stop()


if __name__ == "__main__":
    harness.main()
