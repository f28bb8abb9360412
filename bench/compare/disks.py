"""What is behind the exports: files, folders of files, loop devices.

A disk that is only read is made once and shared by all servers of its part; one that is
written to, each server has for itself.
"""

import os
import random
import shutil
import subprocess

from compare.servers import Disk, Failed

BLOCK = 1 << 20


def stretches(disk, size):
    """(offset, length) of what is data: all of it, or stretches an even distance apart."""
    if disk.content == "full":
        return [(0, size)]
    if disk.content == "holes":
        return []
    return [(i * stride(disk, size), disk.stretch) for i in range(disk.stretches)]


def stride(disk, size):
    """How far apart the stretches are: a multiple of 1 MiB, if there is room."""
    apart = size // disk.stretches
    return apart // BLOCK * BLOCK or apart // 4096 * 4096


def make_file(path, disk, size):
    """Data is random: nothing that looks at content can shorten it."""
    block = os.urandom(BLOCK)
    with open(path, "wb") as f:
        os.truncate(f.fileno(), size)
        for offset, length in stretches(disk, size):
            for at in range(0, length, BLOCK):
                os.pwrite(f.fileno(), block[:min(BLOCK, length - at)], offset + at)
        os.fsync(f.fileno())


# medium -> what makes such an archive of disk.img, on its standard output.
PACKERS = {
    "xz": ["xz", "-1", "-T0", "--block-size=16MiB", "-c", "disk.img"],
    "gzip": ["gzip", "-1", "-c", "disk.img"],
    "zstd": ["pzstd", "-q", "-c", "disk.img"],
    "lz4": ["lz4", "-q", "-c", "disk.img"],
    "bzip2": ["lbzip2", "-c", "disk.img"],
    "tar": ["tar", "-c", "disk.img"],
}


def packer_problem(disk):
    """Why there can be no such archive, or None."""
    program = PACKERS[disk.medium][0] if disk.packed else None
    if not program or shutil.which(program):
        return None
    return f"{disk.medium} is left out: not found: {program}"


def make_image(path, size):
    """What disks hold: text, noise and nothing, a third each, in stretches of up to a MiB."""
    chance = random.Random(1)
    words = [bytes(chance.choices(range(97, 123), k=chance.randrange(2, 9))) for _ in range(4000)]
    text = b" ".join(chance.choices(words, k=1_500_000))
    with open(path, "wb") as f:
        while f.tell() < size:
            for part in (text[chance.randrange(len(text) // 2):], os.urandom(BLOCK), bytes(BLOCK)):
                length = min(chance.randrange(1, BLOCK), size - f.tell())
                f.write(part[:length])


def make_archive(path, disk, size):
    """An archive of an image, which is made in a folder of its own for that."""
    folder = path + ".image"
    os.mkdir(folder)
    try:
        make_image(os.path.join(folder, "disk.img"), size)
        with open(path, "wb") as out:
            done = subprocess.run(PACKERS[disk.medium], cwd=folder, stdout=out,
                                  stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{PACKERS[disk.medium][0]}: {done.stderr.strip()}")
    finally:
        shutil.rmtree(folder)


def read_data(path, disk, size):
    """Reads what is data, so that the page cache has it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        for offset, length in stretches(disk, size):
            for at in range(0, length, BLOCK):
                os.pread(fd, min(BLOCK, length - at), offset + at)
    finally:
        os.close(fd)


def loop_problem(folder):
    """Why there can be no loop device, or None."""
    if os.geteuid() != 0:
        return "block devices are left out: only root can attach a loop device"
    if not os.path.exists("/dev/loop-control"):
        return "block devices are left out: this kernel has no loop devices"
    try:
        Store(Disk("loop", BLOCK), BLOCK, os.path.join(folder, "loop-trial")).open().close()
    except Failed as error:
        return f"block devices are left out: {error}"
    return None


def attach_loop(path):
    """A loop device on the file, around the page cache where the file system can do that."""
    complaint = ""
    for how in (["--direct-io=on"], []):
        done = subprocess.run(["losetup", "--find", "--show"] + how + [path],
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        complaint = done.stderr.strip()
    raise Failed(f"losetup refuses: {complaint}")


class Store:
    """The file, device or folder behind one disk, from its making to its end."""

    def __init__(self, disk, size, base):
        self.disk, self.size = disk, size
        self.loop = None
        self.base = base
        self.path = base + ".raw"
        self.files = []

    def open(self):
        try:
            self._make()
        except OSError as error:
            self.close()
            raise Failed(f"the disk {self.path} cannot be made: {error.strerror}") from error
        except Failed:
            self.close()
            raise
        return self

    def _make(self):
        if self.disk.exports:
            self.path = self.base + ".dir"
            os.mkdir(self.path)
        for path in self._paths():
            self.files.append(path)
            (make_archive if self.disk.packed else make_file)(path, self.disk, self.size)
        if self.disk.medium == "loop":
            self.loop = self.path = attach_loop(self.path)
        self.warm()

    def _paths(self):
        if not self.disk.exports:
            return [self.path]
        return [os.path.join(self.path, f"disk{i}") for i in range(self.disk.exports)]

    def settle(self):
        """The same state before every run: nothing dirty, and in memory what ought to be."""
        if self.disk.content != "full" or self.disk.exports or self.disk.packed:
            return  # only ever read
        for path in self.files:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        self.warm()

    def warm(self):
        if self.disk.medium == "cached":
            for path in self.files:
                read_data(path, self.disk, self.size)
        elif self.disk.packed:
            for path in self.files:
                read_data(path, self.disk, os.path.getsize(path))

    @property
    def index(self):
        """Where a server may keep what it found out about an archive."""
        return self.path + ".index"

    def close(self):
        if self.loop:
            subprocess.run(["losetup", "--detach", self.loop], check=False)
        for path in self.files + [self.index]:
            if os.path.exists(path):
                os.unlink(path)
        if self.disk.exports and os.path.isdir(self.path):
            os.rmdir(self.path)
