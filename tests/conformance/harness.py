"""Starting a server to be judged, and what the conformance tests share.

The environment says which server that is:

    NBDRING     path of the server binary (default: build/nbdring in the tree)
    NBD_SERVER  another server to be judged in its place, e.g. NBD_SERVER=nbdkit: a
                command with the same command line, or a path of qemu-nbd or
                nbd-server, to which peers.py translates it

Servers listen on a Unix socket in a directory of their own (or on a TCP port if
asked), so any number of test programs run side by side.  Every server is ended
with SIGTERM and has to exit with status 0; that check belongs to every test
class.
"""

import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import nbdwire
import peers
from nbdwire import Client, Mode, Opt, Rep, info_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIP = 77
PATIENCE = nbdwire.PATIENCE

# What a sanitizer or a failed assertion leaves on stderr.
CRASH_MARKS = ("Sanitizer", "runtime error:", "Assertion", "assertion failed")


class ServerError(AssertionError):
    """The server did not start, did not stop, or did not do so cleanly."""


def server_command():
    """The command to judge as a list of words, or None if there is none."""
    if "NBD_SERVER" in os.environ:
        return shlex.split(os.environ["NBD_SERVER"])
    if "NBDRING" in os.environ:
        return [os.environ["NBDRING"]]
    default = ROOT / "build" / "nbdring"
    return [str(default)] if default.exists() else None


def wait_until(condition, what):
    """Poll until `condition()` is true; fail after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"still waiting for: {what}")
        time.sleep(0.002)


def listens(path):
    """Whether somebody serves on this Unix socket. The file is there a moment earlier."""
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines():
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[3] == "00010000" and fields[7] == str(path):
            return True
    return False


class Server:
    """One running server with its private directory."""

    def __init__(self, *backend, options=(), port=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="nbdc-"))
        self.socket = self.directory / "sock"
        self.port = port
        self.backend = tuple(map(str, backend))
        self.options = tuple(map(str, options))
        self.process = None

    def start(self):
        """Run the server and wait until it accepts connections."""
        pidfile = self.directory / "pid"
        try:
            command = self._command(pidfile)
            with open(self.directory / "stderr", "wb") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                                stdout=subprocess.DEVNULL, stderr=log)
            wait_until(lambda: self._ready(pidfile), "the pid file")
        except BaseException:
            self.kill()
            raise
        return self

    def _command(self, pidfile):
        """The command line that starts this server in the foreground."""
        command = server_command()
        peer = peers.PEERS.get(os.path.basename(command[0]))
        if peer:
            try:
                return peer(command, self, pidfile)
            except peers.Unknown as missing:
                raise unittest.SkipTest(f"{command[0]} has nothing like {missing}") from None
        listen = (["-U", str(self.socket)] if self.port is None else
                  ["-i", "127.0.0.1", "-p", str(self.port)])
        return [*command, "-f", *listen, "-P", str(pidfile), *self.options, *self.backend]

    @classmethod
    def start_on_tcp(cls, *backend, options=()):
        """Start a server on some TCP port that was free a moment ago."""
        for attempt in range(10):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            try:
                return cls(*backend, options=options, port=port).start()
            except ServerError:
                if attempt == 9:
                    raise

    def _ready(self, pidfile):
        if self.process.poll() is not None:
            raise ServerError(f"{shlex.join(self.process.args)}: exited with status "
                              f"{self.process.returncode} at start\n{self.stderr()}")
        try:
            text = pidfile.read_text()
        except FileNotFoundError:
            return False
        return text.endswith("\n") and int(text) == self.process.pid

    @property
    def pid(self):
        return self.process.pid

    def stderr(self):
        return (self.directory / "stderr").read_text(errors="replace")

    def connect(self):
        if self.port is not None:
            return Client.tcp("127.0.0.1", self.port)
        return Client.unix(self.socket)

    def terminate(self):
        """Ask the server to end, without waiting for it."""
        os.kill(self.pid, signal.SIGTERM)

    def check_exit(self):
        """Wait for the end and check that it was a clean one."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise ServerError("the server ignores SIGTERM") from None
        log = self.stderr()
        if status != 0 or any(mark in log for mark in CRASH_MARKS):
            raise ServerError(f"the server ended with status {status}\n{log}")

    def stop(self):
        """End the server, check how it went, and clean up."""
        try:
            if self.process.returncode is None:
                if self.process.poll() is None:
                    self.terminate()
                self.check_exit()
        finally:
            self.kill()

    def kill(self):
        """Leave nothing behind, whatever state the server is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # What the kernel knows about the server, for leak checks.

    def resident_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise ServerError("the server is gone")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def is_sanitized(self):
        """Whether memory numbers mean nothing because a sanitizer keeps memory."""
        program = pathlib.Path(f"/proc/{self.pid}/exe").read_bytes()
        return any(mark in program for mark in (b"__asan_init", b"__tsan_init"))


def can_serve(*backend, options=()):
    """Whether the server has such a backend at all; ours has them all."""
    server = Server(*backend, options=options)
    try:
        server._command(server.directory / "pid")
        return True
    except unittest.SkipTest:
        return False
    finally:
        server.kill()


def direct_directory():
    """A directory on a file system that knows O_DIRECT, or None."""
    for candidate in (tempfile.gettempdir(), "/var/tmp", os.getcwd()):
        try:
            with tempfile.NamedTemporaryFile(dir=candidate) as probe:
                os.close(os.open(probe.name, os.O_RDWR | os.O_DIRECT))
                return candidate
        except OSError:
            continue
    return None


def scratch(test):
    """A directory for files that lives as long as the test."""
    directory = tempfile.TemporaryDirectory(prefix="nbdc-files-")
    test.addCleanup(directory.cleanup)
    return pathlib.Path(directory.name)


def unwritten_pages(path):
    """How many pages of a file are not on its storage yet, asked with cachestat(2).

    None where the kernel (before 6.5) or the file system (tmpfs) cannot tell.
    """
    def count(descriptor):
        everything, answer = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * 5)()
        if ctypes.CDLL(None).syscall(451, descriptor, everything, answer, 0):
            return None
        return answer[1] + answer[2]

    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path)) as probe:
        probe.write(b"x")
        probe.flush()
        os.fsync(probe.fileno())
        if count(probe.fileno()) != 0:
            return None
    with open(path, "rb") as file:
        return count(file.fileno())


def pattern(length, seed=0):
    """Test data in which every 8 bytes differ and none is zero."""
    words = ((index * 0x9E3779B97F4A7C15 + seed + 1) | 0x0101010101010101
             for index in range(length // 8 + 1))
    return b"".join((word & (1 << 64) - 1).to_bytes(8, "big") for word in words)[:length]


class ServerCase(unittest.TestCase):
    """Tests that share one server, started for the class.

    A bystander stays connected all the while: after each provoked disconnect
    it must not have noticed anything.
    """

    backend = ("memory", "1M")
    options = ()
    good_name = ""      # an export name that is good to connect to, if any

    @classmethod
    def prepare(cls):
        """Make the backend's files; called before the server starts."""

    @classmethod
    def setUpClass(cls):
        cls.workdir = pathlib.Path(tempfile.mkdtemp(prefix="nbdc-files-",
                                                    dir=cls.workdir_parent()))
        cls.addClassCleanup(shutil.rmtree, cls.workdir)
        cls.prepare()
        cls.server = Server(*cls.backend, options=cls.options).start()
        cls.addClassCleanup(cls.server.stop)
        if cls.good_name is not None:
            cls.bystander = cls.server.connect()
            cls.addClassCleanup(cls.bystander.close)
            cls.bystander.negotiate(cls.good_name)

    @classmethod
    def workdir_parent(cls):
        """Where to make the folder for the backend's files; None for anywhere."""

    def connect(self):
        """A fresh connection on which nothing has been said yet."""
        client = self.server.connect()
        self.addCleanup(client.close)
        return client

    def haggler(self):
        """A connection that is ready for options."""
        return self.connect().begin()

    def client(self, mode=Mode.SIMPLE, name="", contexts=(), infos=()):
        """A connection in the transmission phase."""
        return self.connect().negotiate(name, mode, contexts, infos)

    def need(self, client, flag):
        """Skip what the export does not offer."""
        if not client.export.flags & flag:
            self.skipTest(f"the export does not offer {flag!r}")

    def need_any_name(self):
        """Skip what needs a single export to be known by every name."""
        if self.haggler().option(Opt.INFO, info_data("any name"))[-1].type != Rep.ACK:
            self.skipTest("the server knows its export by one name only")

    # -- assertions

    def assert_error(self, reply, *errors):
        """The reply must be one of these errors, without content."""
        self.assertIn(reply.error, errors, f"{reply.texts}")
        self.assertEqual([], [piece for piece in reply.content if piece[2]])

    def assert_ok(self, reply):
        self.assertTrue(reply.ok, f"{reply.error!r} {reply.texts}")

    def assert_haggling(self, client):
        """Option haggling goes on, in sync."""
        self.assertEqual(Rep.ERR_UNSUP, client.answer(0x7FFFFFFF, b"are you there?"))

    def assert_serving(self, client):
        """Transmission goes on, in sync: nothing stray, a good request works."""
        client.finish()
        length = min(512, client.export.size)
        self.assertEqual(length, len(client.read(0, length)))

    def assert_dropped(self, client, said=b""):
        """The server closes this connection and serves all others on."""
        self.assertEqual(said, client.until_closed())
        client.close()
        self.assert_unharmed()

    def assert_unharmed(self):
        """An old connection never noticed, and a new one works."""
        self.assert_serving(self.bystander)
        fresh = self.client(name=self.good_name)
        self.assert_serving(fresh)
        fresh.disconnect()


def main():
    """Run the calling test file; exit status 0, 1, or 77 without a server."""
    if server_command() is None:
        print("no server to judge: build nbdring, or set NBDRING or NBD_SERVER")
        sys.exit(SKIP)
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
