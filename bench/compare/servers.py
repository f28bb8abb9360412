"""The servers to compare: what each can serve, and how it is called for that.

A medium is where the bytes are: `memory` (the server's own), `cached` (a file, through the
page cache), `direct` (a file, around the page cache), `loop` (a block device, around the page
cache), `remote` (the memory of another nbdring, on a Unix socket), those in COMPOSED, of which
only nbdring knows, and those in PACKED: archives, each named after the filter that unpacks it.
What a server cannot serve it is left out of. Another peer is one more subclass of Peer in ALL;
nothing else needs to know it.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field

MEDIA = ("memory", "cached", "direct", "loop")
FILES = ("cached", "direct", "loop")

# A leg does one request at a time, each of which takes a millisecond.
_SLOW = ("--filter=noparallel", "--filter=delay")
_SLOWLY = ("serialize=all-requests", "rdelay=1ms", "wdelay=1ms")


def _slow_leg(size):
    return "leg=" + " ".join((*_SLOW, "memory", str(size), *_SLOWLY))


# What nbdring makes of memory: size -> the words of its command line.
COMPOSED = {
    "mirrored": lambda size: ["mirror"] + 2 * [f"leg=memory {size}"],
    "slow": lambda size: [*_SLOW, "memory", str(size), *_SLOWLY],
    "striped": lambda size: ["stripe"] + 4 * [_slow_leg(size // 4)],
}


# Archives: what nbdring and nbdkit are both told, and what nbdring alone is. Caches are far
# smaller than the image, so that all of it is unpacked each time.
PACKED = {
    "xz": (["xz-max-block=16M", "xz-max-depth=4"], []),
    "gzip": ([], ["gzip-cache=64M", "gzip-index={path}.index"]),
    "zstd": ([], ["zstd-max-block=16M", "zstd-max-depth=4"]),
    "lz4": ([], ["lz4-cache=64M", "lz4-index={path}.index"]),
    "bzip2": ([], ["bzip2-cache=64M", "bzip2-index={path}.index"]),
    "tar": (["tar-entry=disk.img"], []),
}


class Failed(Exception):
    """A server or a client did not do its part; the text says what."""


@dataclass(frozen=True)
class Disk:
    """What is served."""

    medium: str
    size: int = 0  # bytes of one export; 0: what the run has
    content: str = "full"  # full of data; spread: stretches of it, far apart; holes: none
    stretches: int = 4096  # spread: how many
    stretch: int = 4096  # spread: bytes of one
    exports: int = 0  # >0: a folder of so many files, each an export
    tls: bool = False  # clients have to encrypt
    filters: tuple = ()  # over it, by names that nbdring and nbdkit share, the topmost first
    parameters: tuple = ()  # of those
    spread: bool = False  # over all processors, where servers are held to one elsewhere

    @property
    def packed(self):
        return self.medium in PACKED

    @property
    def compressed(self):
        return self.packed and self.medium != "tar"


@dataclass(frozen=True)
class Job:
    """One server to be started: what a command line is made of."""

    disk: Disk
    size: int
    path: str  # the file, device or folder; None: the server's own memory
    base: str  # paths of this server's own begin so
    paths: list = field(default_factory=list)  # of all exports of a folder

    @property
    def socket(self):
        return self.base + ".sock"

    @property
    def pidfile(self):
        return self.base + ".pid"

    @property
    def certificates(self):
        """The folder of a server's certificates, made when it is first asked for."""
        folder = os.path.join(os.path.dirname(self.base), "certificates")
        if not os.path.isdir(folder):
            os.mkdir(folder)
            maker = os.path.join(os.path.dirname(__file__), "../../tests/make-certificates.sh")
            done = subprocess.run(["bash", maker, folder], capture_output=True, text=True,
                                  check=False)
            if done.returncode != 0:
                raise Failed(f"certificates cannot be made: {done.stderr.strip()}")
        return os.path.join(folder, "good")


class Peer:
    name = ""
    program = ""
    version_option = "--version"
    media = MEDIA
    notes = {}  # medium -> what a reader must know about this server there
    only_sets = None  # None: all that ask for its media
    own_memory = True  # False: its `memory` is a file on /dev/shm
    folders = False  # can serve each file of a folder as an export
    tls = False  # can encrypt
    filters = False  # has nbdkit's filters
    durable = True  # what is flushed is on the disk
    extents = True  # tells clients where holes are
    daemon = False  # goes into the background
    keeps_index = False  # of an archive, so that the next start has nothing to unpack
    storage = False  # no server at all: a client that works on the file itself
    idle_set = True
    most_busy = None  # connections with load, beyond which it is not asked; None: any number
    most_idle = None  # the same for idle ones

    def __init__(self, build):
        self.path = self.find(build)
        self.nbdring = built(build, "NBDRING", "nbdring")  # that a remote is made of

    def find(self, build):
        return shutil.which(self.program)

    def why_not(self):
        return f"not found: {self.name}"

    def version(self):
        return first_version_line(self.path, self.version_option)

    def serves(self, disk):
        return (disk.medium in self.media and (self.folders or not disk.exports)
                and (self.tls or not disk.tls) and (self.filters or not disk.filters))

    def export(self, disk):
        """What a client asks for; with a folder, what its number is appended to."""
        return "disk" if disk.exports else ""

    def command(self, job):
        """argv that serves the job's disk on its socket, in the foreground unless `daemon`."""
        raise NotImplementedError


def first_version_line(path, option):
    from compare.system import first_line
    return first_line([path, option]) if option else ""


def built(build, variable, relative):
    """A program of this project: from the environment, else from the build folder."""
    path = os.environ.get(variable) or os.path.join(build, relative)
    return path if os.access(path, os.X_OK) else None


def _layers(job):
    """Filters, backend and parameters, which nbdring and nbdkit have in common."""
    if job.disk.packed:
        return [f"--filter={job.disk.medium}", "file", job.path, *PACKED[job.disk.medium][0]]
    return ([f"--filter={name}" for name in job.disk.filters] + _backend(job)
            + list(job.disk.parameters))


def _own_parameters(job):
    """What only nbdring is told of an archive."""
    return [text.format(path=job.path) for text in PACKED[job.disk.medium][1]] \
        if job.disk.packed else []


def _backend(job):
    if job.disk.medium == "memory":
        return ["memory", str(job.size)]
    if job.disk.medium in COMPOSED:
        return COMPOSED[job.disk.medium](job.size)
    if job.disk.medium == "remote":
        return ["nbd", f"socket={job.path}"]
    path = [f"dir={job.path}"] if job.disk.exports else [job.path]
    return ["file"] + path + ([] if job.disk.medium == "cached" else ["cache=none"])


def _tls(job):
    """What nbdring and nbdkit have in common there."""
    return (["--tls=require", f"--tls-certificates={job.certificates}"] if job.disk.tls else [])


class Nbdring(Peer):
    name = "nbdring"
    media = MEDIA + ("remote", *COMPOSED, *PACKED)
    folders = tls = filters = keeps_index = True
    options = ["-t", "1"]

    def find(self, build):
        return built(build, "NBDRING", "nbdring")

    def command(self, job):
        return ([self.path, "-f", "-U", job.socket, "-P", job.pidfile] + self.options + _tls(job)
                + _layers(job) + _own_parameters(job))


class NbdringAsInstalled(Nbdring):
    name = "nbdring as installed"
    options = []
    only_sets = ("latency",)


class NbdringSpin(Nbdring):
    """Trades processor time for latency; there only if this nbdring has such an option."""

    name = "nbdring --spin"
    option = "--spin"
    options = ["-t", "1", "--spin=30"]
    only_sets = ("latency",)

    def find(self, build):
        path = super().find(build)
        return path if path and self._has_option(path) else None

    def _has_option(self, path):
        text = subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout
        return any(line.split()[:1] == [self.option] or f"{self.option}=" in line
                   for line in text.splitlines())

    def why_not(self):
        return f"this nbdring has no option {self.option}"


class Nbdkit(Peer):
    name = "nbdkit"
    program = "nbdkit"
    media = MEDIA + ("remote", "xz", "gzip", "tar")
    folders = tls = filters = True
    notes = {medium: "nbdkit has no O_DIRECT here: its cache=none reads through the page cache "
                     "and asks the kernel to drop the pages" for medium in ("direct", "loop")}
    most_busy = 256  # beyond, thousands of threads: see nbdkit -t 1
    threads = []

    def command(self, job):
        return ([self.path, "-f", "-U", job.socket, "-P", job.pidfile] + self.threads + _tls(job)
                + _layers(job))


class NbdkitOneThread(Nbdkit):
    name = "nbdkit -t 1"
    threads = ["-t", "1"]
    most_busy = None


class QemuNbd(Peer):
    name = "qemu-nbd"
    program = "qemu-nbd"
    own_memory = False
    tls = True
    notes = {"memory": "qemu-nbd has no memory of its own: a raw file on /dev/shm"}

    def command(self, job):
        cache = "none" if job.disk.medium in ("direct", "loop") else "writeback"
        tls = [] if not job.disk.tls else [
            "--object", f"tls-creds-x509,id=tls,dir={job.certificates},endpoint=server,"
            "verify-peer=off", "--tls-creds", "tls"]
        return [self.path, "-f", "raw", "-t", "-e", "0", "-k", job.socket, "--pid-file",
                job.pidfile, f"--cache={cache}", "--aio=io_uring", "--discard=unmap", *tls,
                job.path]


class NbdServer(Peer):
    """Reads its exports from a file; a process for each connection, four threads each."""

    name = "nbd-server"
    program = "nbd-server"
    version_option = "-V"
    media = ("memory", "cached")  # it has no O_DIRECT
    own_memory = False
    folders = True
    extents = False
    daemon = True
    most_busy = most_idle = 1000  # each is a process
    notes = {"memory": "nbd-server has no memory of its own: a raw file on /dev/shm"}

    def export(self, disk):
        return "disk"

    def command(self, job):
        exports = {f"disk{i}": path for i, path in enumerate(job.paths)} or {"disk": job.path}
        with open(job.base + ".conf", "w") as f:
            f.write(f"[generic]\n\tunixsock = {job.socket}\n")
            for name, path in exports.items():
                f.write(f"[{name}]\n\texportname = {path}\n"
                        "\tflush = true\n\tfua = true\n\ttrim = true\n")
        return [self.path, "-C", job.base + ".conf", "-p", job.pidfile]


class Floor(Peer):
    name = "floor"
    version_option = None
    media = ("memory", "cached", "direct")
    notes = {medium: "floor is a bare io_uring answerer without any check: a limit, not a server"
             for medium in media}
    idle_set = False
    durable = False
    extents = False

    def find(self, build):
        return built(build, "FLOOR", "bench/floor")

    def command(self, job):
        disk = ["-s", str(job.size)] if job.path is None else ["-f", job.path]
        return ([self.path, "-U", job.socket] + disk
                + (["-d"] if job.disk.medium == "direct" else []))


class FioStorage(Peer):
    """fio's io_uring engine on the same file: what the storage gives without any NBD."""

    name = "fio io_uring"
    program = "fio"
    media = FILES
    storage = True
    idle_set = False
    extents = False
    notes = {medium: "fio io_uring works on such a file itself, without NBD: a limit, not a server"
             for medium in FILES}


ALL = (Nbdring, NbdringAsInstalled, NbdringSpin, Nbdkit, NbdkitOneThread, QemuNbd, NbdServer,
       Floor, FioStorage)
