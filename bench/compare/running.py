"""One server, from its start to its end, and all servers of a part side by side."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from urllib.parse import quote

from compare import disks, measure, system
from compare.servers import COMPOSED, Failed, Job

_numbers = itertools.count()


class Running:
    """One server process with its disk; use with `with`. fio's storage has no process."""

    def __init__(self, peer, disk, folder, size, cpus=None, store=None):
        self.peer, self.name, self.disk, self.size = peer, peer.name, disk, size
        base = os.path.join(folder, f"{next(_numbers)}-{peer.name.replace(' ', '')}")
        self.shared = store is not None
        self.store = store if self.shared else make_store(peer, disk, size, base, folder)
        path = self.store.path if self.store else None
        self.job = Job(disk, size, path, base,
                       self.store.files if self.store and disk.exports else [])
        self.log = base + ".log"
        self.process, self.pid = None, 0
        try:
            if not peer.storage:
                self._start(cpus)
        except BaseException:
            self._drop_store()
            raise

    def _start(self, cpus):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.peer.command(self.job), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
        self.pid = self.process.pid

    @property
    def socket(self):
        return self.job.socket

    @property
    def uri(self):
        name = self.peer.export(self.disk) + ("0" if self.disk.exports else "")
        return f"nbd+unix:///{quote(name)}?socket={self.socket}"

    @property
    def path(self):
        return self.job.path

    def settle(self):
        if self.store:
            self.store.settle()

    def _ended(self):
        status = self.process.poll()
        return status is not None and not (self.peer.daemon and status == 0)

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.settimeout(2)
                s.connect(self.socket)
                return s.recv(8) == b"NBDMAGIC"
            except OSError:
                return False

    def _wait_ready(self):
        """An archive may have to be unpacked before."""
        until = time.monotonic() + (600 if self.disk.packed else 15)
        while time.monotonic() < until:
            if self._ended():
                raise Failed(f"{self.name} ended at once: {self.last_words()}")
            if self._answers() and self._find_daemon():
                return
            time.sleep(0.02)
        raise Failed(f"{self.name} does not answer on its socket: {self.last_words()}")

    def _find_daemon(self):
        """The process that serves, where it is not the one that was started."""
        if not self.peer.daemon:
            return True
        with contextlib.suppress(OSError, ValueError), open(self.job.pidfile) as f:
            self.pid = int(f.read())
            return True
        return False

    def last_words(self):
        with open(self.log, errors="replace") as f:
            lines = f.read().strip().splitlines()
        return lines[-1] if lines else "(it said nothing)"

    def __enter__(self):
        if self.process:
            try:
                self._wait_ready()
            except Failed:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_):
        if self.process:
            self._stop()
        self._drop_store()

    def _drop_store(self):
        if self.store and not self.shared:
            self.store.close()

    def _stop(self):
        if self.peer.daemon:
            self._find_daemon()
        if self.pid != self.process.pid:
            self._stop_daemon()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if os.path.exists(self.socket):  # not every server removes its socket
            os.unlink(self.socket)

    def _stop_daemon(self):
        """It was adopted (system.adopt_orphans), and so are the children it leaves."""
        family = [self.pid] + system.descendants(self.pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in family:
                if system.alive(pid):
                    os.kill(pid, number)
            until = time.monotonic() + 10
            while any(map(system.alive, family)) and time.monotonic() < until:
                time.sleep(0.02)
        for pid in family:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


class Remote:
    """What a proxy serves: the memory of an nbdring of its own, whose time is not counted."""

    files = ()

    def __init__(self, program, size, base):
        if not program:
            raise Failed("there is no nbdring to be the remote")
        self.path, pidfile = base + "-remote.sock", base + "-remote.pid"
        self.process = subprocess.Popen(
            [program, "-f", "-t", "1", "-U", self.path, "-P", pidfile, "memory", str(size)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not os.path.exists(pidfile):
            if self.process.poll() is not None or time.monotonic() > until:
                self.close()
                raise Failed("the remote does not start")
            time.sleep(0.01)

    def settle(self):
        """It is always the same."""

    def close(self):
        self.process.kill()
        self.process.wait()


def make_store(peer, disk, size, base, folder):
    """What the peer needs behind this disk; None: it has memory of its own."""
    if disk.medium == "remote":
        return Remote(peer.nbdring, size, base)
    if disk.medium in COMPOSED:
        return None
    if disk.medium == "memory":
        if peer.own_memory:
            return None
        base = os.path.join("/dev/shm", f"nbd-bench-{os.getpid()}-{os.path.basename(base)}")
    return disks.Store(disk, size, base).open()


def size_of(disk, options):
    return disk.size or (options.archive if disk.compressed else options.size)


def cpus_of(disk, bench):
    return None if disk.spread else bench.server_cpus


def _shared_store(bench, disk, peers, stack):
    """One disk for all, made once; None where nobody needs it."""
    needing = [p for p in peers if disk.medium not in ("memory", *COMPOSED) or not p.own_memory]
    if not needing:
        return None
    size = size_of(disk, bench.options)
    base = os.path.join(bench.folder, f"{next(_numbers)}-shared")
    store = make_store(needing[0], disk, size, base, bench.folder)
    stack.callback(store.close)
    return store


def start(bench, disk, peers, stack, written):
    """Starts each of the peers on this disk; {name: Running}."""
    size, servers = size_of(disk, bench.options), {}
    store = None
    if not written:
        try:
            store = _shared_store(bench, disk, peers, stack)
        except Failed as error:
            bench.fail(error)
            peers = [p for p in peers if disk.medium == "memory" and p.own_memory]
    for peer in peers:
        own = disk.medium == "memory" and peer.own_memory
        try:
            server = stack.enter_context(Running(peer, disk, bench.folder, size,
                                                 cpus_of(disk, bench), None if own else store))
            if own or disk.medium in ("remote", *COMPOSED):
                measure.fill(bench.nbdload, server)
            servers[peer.name] = server
        except Failed as error:
            bench.fail(error)
    return servers
