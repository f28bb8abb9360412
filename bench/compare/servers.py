"""The servers to compare: how each is called for each medium, and one running instance.

A medium is where the bytes are: `memory` (the server's own), `cached` (a file, through the
page cache), `direct` (a file, around the page cache). A server that has no such thing
returns None and is left out of that set. Another peer is one more subclass of Peer in
ALL; nothing else needs to know it.
"""

import os
import shutil
import socket
import subprocess
import time

MEDIA = ("memory", "cached", "direct")


class Peer:
    name = ""
    program = ""
    version_option = "--version"
    notes = {}  # medium -> what a reader must know about this server there
    idle_set = True

    def __init__(self, build):
        self.path = self.find(build)

    def find(self, build):
        return shutil.which(self.program)

    def version(self):
        return first_version_line(self.path, self.version_option)

    def command(self, medium, size, path, sock, pidfile):
        """argv that serves `size` bytes in the foreground on the socket, or None."""
        raise NotImplementedError


def first_version_line(path, option):
    from compare.system import first_line
    return first_line([path, option]) if option else ""


def built(build, variable, relative):
    """A program of this project: from the environment, else from the build folder."""
    path = os.environ.get(variable) or os.path.join(build, relative)
    return path if os.access(path, os.X_OK) else None


class Nbdring(Peer):
    name = "nbdring"

    def find(self, build):
        return built(build, "NBDRING", "nbdring")

    def command(self, medium, size, path, sock, pidfile):
        layer = {"memory": ["memory", f"{size >> 20}M"],
                 "cached": ["file", path],
                 "direct": ["file", path, "cache=none"]}[medium]
        return [self.path, "-f", "-U", sock, "-P", pidfile, "-t", "1"] + layer


class Nbdkit(Peer):
    name = "nbdkit"
    program = "nbdkit"
    notes = {"direct": "nbdkit has no O_DIRECT here: its cache=none reads through the page cache "
                       "and asks the kernel to drop the pages"}
    threads = []

    def command(self, medium, size, path, sock, pidfile):
        layer = {"memory": ["memory", f"{size >> 20}M"],
                 "cached": ["file", path],
                 "direct": ["file", path, "cache=none"]}[medium]
        return [self.path, "-f", "-U", sock, "-P", pidfile] + self.threads + layer


class NbdkitOneThread(Nbdkit):
    name = "nbdkit -t 1"
    threads = ["-t", "1"]


class QemuNbd(Peer):
    name = "qemu-nbd"
    program = "qemu-nbd"
    notes = {"memory": "qemu-nbd has no memory of its own: a raw file on /dev/shm"}

    def command(self, medium, size, path, sock, pidfile):
        cache = "none" if medium == "direct" else "writeback"
        return [self.path, "-f", "raw", "-t", "-e", "0", "-k", sock, "--pid-file", pidfile,
                f"--cache={cache}", "--aio=io_uring", "--discard=unmap", path]


class Floor(Peer):
    name = "floor"
    version_option = None
    notes = {"memory": "floor is a bare io_uring answerer without any check: a limit, not a server"}
    idle_set = False

    def find(self, build):
        return built(build, "FLOOR", "bench/floor")

    def command(self, medium, size, path, sock, pidfile):
        if medium != "memory":
            return None
        return [self.path, "-U", sock, "-s", f"{size >> 20}M"]


ALL = (Nbdring, Nbdkit, NbdkitOneThread, QemuNbd, Floor)


class Failed(Exception):
    """A server or the load generator did not do its part; the text says what."""


class Running:
    """One server process, from its start to its end; use with `with`."""

    def __init__(self, peer, medium, folder, size, cpus=None):
        self.peer = peer
        self.name = peer.name
        base = os.path.join(folder, f"{peer.name.replace(' ', '')}-{medium}")
        self.socket = base + ".sock"
        self.log = base + ".log"
        self.file = self._file(medium, base, size)
        argv = peer.command(medium, size, self.file, self.socket, base + ".pid")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
        self.pid = self.process.pid

    def _file(self, medium, base, size):
        """The file behind the export, where there is one: full of data, not sparse."""
        if medium == "memory" and not isinstance(self.peer, QemuNbd):
            return None
        path = base + ".raw"
        if medium == "memory":
            path = os.path.join("/dev/shm", f"nbd-bench-{os.getpid()}.raw")
        block = os.urandom(1 << 20)
        with open(path, "wb") as f:
            for _ in range(size >> 20):
                f.write(block)
            f.flush()
            os.fsync(f.fileno())
        return path

    def _wait_ready(self):
        until = time.monotonic() + 15
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended at once: {self.last_words()}")
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.settimeout(2)
                    s.connect(self.socket)
                    if s.recv(8) == b"NBDMAGIC":
                        return
                except OSError:
                    pass
            time.sleep(0.02)
        raise Failed(f"{self.name} does not answer on its socket: {self.last_words()}")

    def last_words(self):
        with open(self.log, errors="replace") as f:
            lines = f.read().strip().splitlines()
        return lines[-1] if lines else "(it said nothing)"

    def __enter__(self):
        try:
            self._wait_ready()
        except Failed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for left in (self.file, self.socket):  # not every server removes its socket
            if left and os.path.exists(left):
                os.unlink(left)
