"""Remotes for the backend nbd, and what can happen on the way to them.

Remote is a server that can be killed and started again on the same socket.  Wire is
a TCP connection's worth of cable in front of it: it can be cut, clogged and garbled.
Liar is a remote that follows a script.
"""

import os
import pathlib
import socket
import struct
import subprocess
import threading
import time

import hostile

OPTION_REPLY = 0x3e889045565a9


class Remote:
    """nbdring on PATH (a Unix socket), with a disk given by words."""

    def __init__(self, path, *words):
        self.path = pathlib.Path(path)
        self.words = words
        self.process = None

    def start(self, *words):
        self.words = words or self.words
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [*hostile.harness.server_command(), "-f", "-U", str(self.path),
             *map(str, self.words)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        hostile.wait_until(lambda: hostile.harness.listens(self.path), "the remote")
        return self

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


class Wire:
    """Carries bytes between a TCP port and a Unix socket, while it is asked to."""

    def __init__(self, path):
        self.path = str(path)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.is_cut = False
        self.flows = threading.Event()
        self.flows.set()
        self.garble = 0         # so many of the next answers' bytes are changed
        self.pairs = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            remote = socket.socket(socket.AF_UNIX)
            try:
                if self.is_cut:
                    raise OSError("cut")
                remote.connect(self.path)
            except OSError:
                client.close()
                remote.close()
                continue
            self.connections += 1
            self.pairs.append((client, remote))
            for ends in ((client, remote, False), (remote, client, True)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, target, answers):
        try:
            while data := source.recv(65536):
                self.flows.wait()
                if answers and self.garble:
                    count = min(self.garble, len(data))
                    self.garble -= count
                    data = os.urandom(count) + data[count:]
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.is_cut = True
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def heal(self):
        self.is_cut = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.flows.set()
        self.cut()
        self.listener.close()


def option_reply(option, kind, data=b""):
    return struct.pack(">QIII", OPTION_REPLY, option, kind, len(data)) + data


def structured(kind, cookie, data=b"", done=True):
    return struct.pack(">IHHQI", 0x668e33ef, int(done), kind, cookie, len(data)) + data


def simple(cookie, error=0):
    return struct.pack(">IIQ", 0x67446698, error, cookie)


class Liar:
    """A remote of SIZE bytes that negotiates well and answers as ANSWER says.

    ANSWER(liar, sock, command, flags, cookie, offset, length, payload) sends what it
    likes; it is called for each request but DISC.  Its return value True ends the
    connection.
    """

    def __init__(self, path, answer, size=1 << 20, flags=0x1fd, negotiate=None):
        self.path = str(path)
        self.answer, self.size, self.flags = answer, size, flags
        self.greet = negotiate or self.negotiate
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with sock:
            try:
                if self.greet(sock):
                    self._transmit(sock)
            except (OSError, EOFError):
                pass

    @staticmethod
    def take(sock, count):
        data = b""
        while len(data) < count:
            more = sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def negotiate(self, sock):
        sock.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        self.take(sock, 4)
        while True:
            _, option, length = struct.unpack(">QII", self.take(sock, 16))
            self.take(sock, length)
            if option == 8:
                sock.sendall(option_reply(8, 1))
            elif option == 10:
                sock.sendall(option_reply(10, 4, struct.pack(">I", 1) + b"base:allocation") +
                             option_reply(10, 1))
            elif option == 7:
                sock.sendall(option_reply(7, 3, struct.pack(">HQH", 0, self.size, self.flags)) +
                             option_reply(7, 1))
                return True
            else:
                sock.sendall(option_reply(option, 0x80000001))

    def _transmit(self, sock):
        while True:
            _, flags, command, cookie, offset, length = struct.unpack(
                ">IHHQQI", self.take(sock, 28))
            payload = self.take(sock, length) if command == 1 else b""
            if command == 2 or self.answer(self, sock, command, flags, cookie, offset, length,
                                           payload):
                return

    def well(self, sock, command, cookie, offset, length):
        """What an honest remote with a disk of zeroes would say."""
        if command == 0:
            sock.sendall(structured(2, cookie, struct.pack(">QI", offset, length)))
        elif command == 7:
            sock.sendall(structured(5, cookie, struct.pack(">III", 1, length, 3)))
        else:
            sock.sendall(simple(cookie))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        os.unlink(self.path)


def pause(seconds):
    """For what takes its time by itself: a cut that lasts, a silence."""
    time.sleep(seconds)
