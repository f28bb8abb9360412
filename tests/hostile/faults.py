"""What the tests with faults below the server share: files, and what root can make of them."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from hostile import Server, figure, wait_until
from verifier import Verifier

WORKERS = 2
BLOCKS = 600        # of each verifier
ZRAM = pathlib.Path("/sys/class/zram-control")


def run(*command):
    """A command that must succeed; what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False,
                          text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


class FaultCase(unittest.TestCase):
    """Files on a real file system, and what root can make of them."""

    def setUp(self):
        # Not in memory: O_DIRECT and loop devices want a disk.
        parent = os.environ.get("NBDRING_TEST_DISK", "/var/tmp")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="nbdring-", dir=parent))
        self.addCleanup(shutil.rmtree, self.directory, True)

    def need_root(self, why):
        if os.geteuid() != 0:
            self.skipTest(f"only root can {why}")

    def file(self, size, name="disk"):
        path = self.directory / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def loop_device(self, path):
        self.need_root("attach a loop device")
        try:
            device = run("losetup", "--find", "--show", path)
        except OSError as error:
            self.skipTest(f"no loop device can be attached here: {error}")
        self.addCleanup(run, "losetup", "--detach", device)
        return device

    def small_ext4(self, size):
        """A mounted file system of so many bytes."""
        image = self.file(size, "image")
        return self.mounted_ext4(self.loop_device(image))

    def mounted_ext4(self, device):
        run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0", device)
        place = self.directory / "mounted"
        place.mkdir()
        try:
            run("mount", "-t", "ext4", device, place)
        except OSError as error:
            self.skipTest(f"this machine cannot mount ext4: {error}")
        self.addCleanup(run, "umount", "--lazy", place)
        return place

    def zram(self, size, limit):
        """A device of SIZE bytes that can keep LIMIT; its files in /sys, and the device."""
        self.need_root("make a zram device")
        try:
            number = (ZRAM / "hot_add").read_text().strip()
        except OSError as error:
            self.skipTest(f"there is no zram here: {error}")
        control = pathlib.Path(f"/sys/block/zram{number}")
        self.addCleanup(wait_until, lambda: self.removed(number), "the zram device to go")
        (control / "disksize").write_text(str(size))
        (control / "mem_limit").write_text(str(limit))
        return control, f"/dev/zram{number}"

    @staticmethod
    def removed(number):
        try:
            (ZRAM / "hot_remove").write_text(number)
        except OSError:
            return False
        return True

    def serve(self, *backend, options=()):
        server = Server(*backend, options=("-t", str(WORKERS), *options)).start()
        self.addCleanup(server.kill)
        return server

    def verifiers(self, server, count=3, **how):
        """So many, each with blocks of its own, at work."""
        found = [Verifier(server.connect, number, BLOCKS, number * BLOCKS, **how).start()
                 for number in range(count)]
        self.addCleanup(self.abandon, found)
        return found

    @staticmethod
    def abandon(verifiers):
        """After a failure: nobody shall be left at work."""
        for verifier in verifiers:
            verifier.gone_for_good = True
            verifier.over.set()

    def check_all(self, server, verifiers, path=None):
        """Nothing is under way: every block, through the server and below it."""
        with server.connect() as client:
            client.negotiate()
            for verifier in verifiers:
                verifier.check_client(client)
            client.disconnect()
        server.stop()
        for verifier in verifiers:
            if path:
                verifier.check_file(path)
        figure("writes acknowledged", sum(v.acknowledged for v in verifiers))
        figure("blocks compared", sum(v.checked for v in verifiers))


class Renamed:
    """A client that asks for a certain export when it is to ask for the default one."""

    def __init__(self, client, name):
        self.client, self.name = client, name

    def __getattr__(self, what):
        return getattr(self.client, what)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def negotiate(self, **how):
        self.client.negotiate(self.name, **how)
        return self
