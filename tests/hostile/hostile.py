"""What the tests with hostile and unlucky clients share.

They use the raw client and the server of tests/conformance, and run against the
same servers (NBDRING, NBD_SERVER).  Besides what they check they print figures,
lines that begin with "figure:"; docs/reliability.md is made of them.

The environment chooses:

    NBD_HOSTILE_SCALE   how many times longer than in an ordinary test run
                        (default 1; 10 makes the sizes of that document)
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import pathlib
import random
import resource
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))

# pylint: disable=wrong-import-position
import harness  # noqa: E402
from harness import Server, wait_until  # noqa: E402
from nbdwire import Client, Cmd, Disconnected, Err, Mode  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SCALE = float(os.environ.get("NBD_HOSTILE_SCALE", 1))

# What the server says it may take at most, docs/operations.md, "Memory".
WORKER_KIB = 256 << 10
BASE_KIB = 32 << 10         # the program itself, its threads, and what malloc keeps
CONNECTION_KIB = 4          # generous: 0.7 idle; while negotiating a little more
REQUEST_KIB = 1


def scaled(count):
    """A number of times to do something."""
    return max(1, round(count * SCALE))


def figure(what, value, unit=""):
    """One measured number, for people."""
    value = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
    print(f"figure: {what}: {value}{' ' + unit if unit else ''}", flush=True)


@contextlib.contextmanager
def timed(what):
    begin = time.monotonic()
    yield
    figure(what, time.monotonic() - begin, "s")


def descriptors(wanted):
    """Raise the limit of open files; how many of the wanted this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + 200
    if soft < enough:
        soft = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, soft - 200)


def bound_kib(workers, connections=0, requests=0, disk=0):
    """The most a server may have resident, by what it states; DISK in KiB."""
    return (BASE_KIB + workers * WORKER_KIB + connections * CONNECTION_KIB +
            requests * REQUEST_KIB + disk)


class Peak:
    """The most memory a server had at any moment so far, by the kernel's count."""

    def __init__(self, server):
        self.path = pathlib.Path(f"/proc/{server.pid}/status")

    def kib(self):
        for line in self.path.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise harness.ServerError("the server is gone")


class Steady(threading.Thread):
    """Well-behaved clients that work all the while, and check every byte.

    Each has a part of the disk.  A round writes to it, with the next round's
    data, and reads it back, all clients side by side.
    """

    LENGTH = 16 * KIB

    def __init__(self, server, count, base=0, name="", flush=False):
        super().__init__(daemon=True)
        self.clients = [server.connect().negotiate(name, list(Mode)[number % 2])
                        for number in range(count)]
        self.commands = (Cmd.WRITE, Cmd.FLUSH, Cmd.READ) if flush else (Cmd.WRITE, Cmd.READ)
        self.base = base
        self.rounds = 0
        self.over = threading.Event()
        self.error = None
        self.longest = 0.0
        self.chance = random.Random(count)
        self.noise = self.chance.randbytes(4 * self.LENGTH)

    def data(self, number):
        start = (self.rounds * 977 + number * 131) % (3 * self.LENGTH)
        return self.noise[start:start + self.LENGTH]

    def place(self, number):
        return self.base + number * self.LENGTH

    def round(self):
        """Every client writes, then every client reads what it wrote."""
        begin = time.monotonic()
        for command in self.commands:
            replies = []
            for number, client in enumerate(self.clients):
                payload = self.data(number) if command == Cmd.WRITE else None
                where = (0, 0) if command == Cmd.FLUSH else (self.place(number), self.LENGTH)
                replies.append(client.submit(command, *where, payload=payload))
            for number, (client, reply) in enumerate(zip(self.clients, replies)):
                client.finish(reply)
                if not reply.ok:
                    raise AssertionError(f"{command!r}: {reply.error!r} {reply.texts}")
                if command == Cmd.READ and reply.data != self.data(number):
                    raise AssertionError("a well-behaved client reads what it did not write")
        self.rounds += 1
        self.longest = max(self.longest, time.monotonic() - begin)

    def run(self):
        try:
            while not self.over.is_set():
                self.round()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.start()
        self.go_on(1)
        return self

    def go_on(self, rounds):
        """Wait until so many more rounds are done: those clients are served."""
        goal = self.rounds + rounds
        wait_until(lambda: self.error or self.rounds >= goal,
                   "well-behaved clients to be served")
        if self.error:
            raise self.error

    def __exit__(self, *_):
        self.over.set()
        self.join(harness.PATIENCE)
        for client in self.clients:
            client.close()
        if self.error:
            raise self.error


def unix_socket(server, patience=harness.PATIENCE):
    """A bare connection, for what no client does.

    Without the timeout while it is made: with one, a full backlog is an error
    and not waited for.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(server.socket))
    sock.settimeout(patience)
    return sock


class Absent:
    """Memory that does not come: whoever touches it, the kernel too, waits for `come`."""

    # linux/userfaultfd.h
    NEW, API, REGISTER = 0xAA00, 0xC018AA3F, 0xC020AA00
    VERSION, MISSING = 0xAA, 1

    def __init__(self, length):
        """OSError: this system has no such memory, or not for us."""
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
        try:
            self.handler = fcntl.ioctl(device, self.NEW, os.O_CLOEXEC)
        finally:
            os.close(device)
        self.memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        fcntl.ioctl(self.handler, self.API, struct.pack("=QQQ", self.VERSION, 0, 0))
        fcntl.ioctl(self.handler, self.REGISTER,
                    struct.pack("=QQQQ", address, length, self.MISSING, 0))

    def come(self):
        """It is ordinary memory from now on."""
        if self.handler is not None:
            os.close(self.handler)
            self.handler = None


def has_settled(server, before, kib):
    """Whether memory is about what it was."""
    return server.is_sanitized() or server.resident_kib() - before < kib


__all__ = ["Absent", "BASE_KIB", "GIB", "KIB", "MIB", "SCALE", "Client", "Cmd", "Disconnected",
           "Err", "Mode", "Peak", "Server", "Steady", "bound_kib", "descriptors", "figure", "harness",
           "has_settled", "scaled", "timed", "unix_socket", "wait_until"]
