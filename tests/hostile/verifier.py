"""A client that works without pause and knows what every block has to hold.

Each block of its part of the disk has versions.  A version is written whole, and
every sector of it tells block, version and place and is filled with noise that
no other has.  When a write is acknowledged its version is the least that may be
found there from then on; a write that failed, or whose answer never came, leaves
the block with any version from the last acknowledged one up to that.  What was also
flushed, or written with FUA, is noted apart, for servers that may lose the rest.

It asks for writes, some with FUA, reads and flushes, DEPTH at a time, and comes
back when the server has gone.  Whatever it reads it checks, every byte.
"""

import collections
import random
import struct
import threading
import time

import hostile
from hostile import Cmd, Disconnected
from nbdwire import CFlag, TFlag

SECTOR = 512
HEAD = struct.Struct(">QQII")
DEPTH = 24
NOISE = random.Random(1).randbytes(1 << 17)


def content(block, version, size):
    """What a version of a block looks like; version 0 is a disk never written."""
    if version == 0:
        return bytes(size)
    start = (block * 7919 + version * 104729) % (len(NOISE) - size)
    body = NOISE[start:start + size]
    return b"".join(HEAD.pack(block, version, at, 0xB10C) + body[at + HEAD.size:at + SECTOR]
                    for at in range(0, size, SECTOR))


class Verifier:
    """One client, and the part of the disk that only it writes."""

    def __init__(self, connect, seed, blocks, first=0, size=4096, tolerate=(), step=1):
        self.connect = connect
        self.chance = random.Random(seed)
        self.first, self.blocks, self.size, self.step = first, blocks, size, step
        self.tolerate = set(tolerate)   # errors that may come
        self.least = [0] * blocks       # the version that must be there, or a later one
        self.flushed = [0] * blocks     # the same, whatever happens to the server
        self.latest = [0] * blocks      # the last that was sent
        self.busy = set()
        self.acknowledged = self.checked = 0
        self.errors = collections.Counter()
        self.reconnects = 0
        self.recovery = []              # seconds from the loss to the next answer, or
        self.server_began = 0           # from the moment when a server was started again
        self.gone_for_good = False      # the end of the connection is the end of the work
        self.over = threading.Event()
        self.thread = None
        self.failure = None

    # -- what is asked for

    def _number(self, index):
        return self.first + index * self.step

    def _place(self, index):
        return self._number(index) * self.size

    def _ask(self, client):
        """One more request, of any kind, for a block that no other is about."""
        kind = self.chance.random()
        if kind < 0.05 and client.export.flags & TFlag.SEND_FLUSH:
            return client.submit(Cmd.FLUSH), None, list(self.least)
        index = self.chance.randrange(self.blocks)
        while index in self.busy:
            index = self.chance.randrange(self.blocks)
        self.busy.add(index)
        if kind < 0.35:
            return client.submit(Cmd.READ, self._place(index), self.size), index, 0
        flags = CFlag.FUA if kind < 0.5 and client.export.flags & TFlag.SEND_FUA else 0
        self.latest[index] += 1
        version = self.latest[index]
        payload = content(self._number(index), version, self.size)
        return client.submit(Cmd.WRITE, self._place(index), flags=flags, payload=payload), \
            index, version

    def _settle(self, reply, index, version):
        """A reply has come: what follows from it.  VERSION of a flush: all blocks'."""
        self.busy.discard(index)
        if not reply.ok:
            self.errors[reply.error] += 1
            if reply.error not in self.tolerate:
                raise AssertionError(f"{reply.command!r} {reply.offset}: {reply.error!r} "
                                     f"{reply.texts}")
        elif reply.command == Cmd.READ:
            self.check(index, reply.data)
        elif reply.command == Cmd.WRITE:
            self.least[index] = version
            self.acknowledged += 1
            if reply.flags & CFlag.FUA:
                self.flushed[index] = version
        elif reply.command == Cmd.FLUSH:
            self.flushed = list(map(max, self.flushed, version))

    def forget_unflushed(self):
        """The server has lost what it may lose."""
        self.least = list(self.flushed)

    def check(self, index, data):
        """Each sector has a version that may be there, and all of it."""
        least, latest = self.least[index], self.latest[index]
        self.checked += 1
        if least == latest and data == content(self._number(index), least, self.size):
            return
        for at in range(0, self.size, SECTOR):
            where = f"block {self._number(index)} sector {at // SECTOR}"
            sector = data[at:at + SECTOR]
            version = HEAD.unpack(sector[:HEAD.size])[1]
            if not least <= version <= latest:
                raise AssertionError(f"{where} has version {version}, not {least} to {latest}")
            if sector != content(self._number(index), version, self.size)[at:at + SECTOR]:
                raise AssertionError(f"{where} is not what version {version} is")

    # -- working

    def _session(self, lost_at):
        """Work with one connection until it ends or the work does."""
        waiting = []
        self.busy.clear()
        with self.connect() as client:
            client.negotiate(mode=hostile.Mode.STRUCTURED)
            while not self.over.is_set() or waiting:
                while len(waiting) < DEPTH and not self.over.is_set():
                    waiting.append(self._ask(client))
                client.take_message()
                if lost_at:
                    self.recovery.append(time.monotonic() - max(lost_at, self.server_began))
                    lost_at = 0
                for item in [item for item in waiting if item[0].done]:
                    waiting.remove(item)
                    self._settle(*item)
            client.disconnect()

    def _work(self):
        lost_at, give_up = 0, time.monotonic() + hostile.harness.PATIENCE
        while True:
            try:
                self._session(lost_at)
                return
            except (Disconnected, OSError) as error:
                if self.gone_for_good:
                    return
                now = time.monotonic()
                if isinstance(error, Disconnected) or not lost_at:
                    lost_at = lost_at or now
                    give_up = now + hostile.harness.PATIENCE
                if now > give_up:
                    raise
                self.reconnects += 1
                time.sleep(0.005)

    def _run(self):
        try:
            self._work()
        except BaseException as error:  # pylint: disable=broad-except
            self.failure = error

    def start(self):
        self.over.clear()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """Finish what is under way."""
        self.over.set()
        self.thread.join(hostile.harness.PATIENCE)
        if self.thread.is_alive():
            raise AssertionError("requests are never answered")
        if self.failure:
            raise self.failure

    def go_on(self, acknowledged):
        """Wait until so many more writes were acknowledged."""
        goal = self.acknowledged + acknowledged
        hostile.wait_until(lambda: self.failure or self.acknowledged >= goal,
                           f"{acknowledged} writes to be acknowledged")
        if self.failure:
            raise self.failure

    # -- afterwards

    def check_client(self, client, indexes=None):
        """Read everything through the server."""
        for index in range(self.blocks) if indexes is None else indexes:
            self.check(index, client.read(self._place(index), self.size))

    def check_file(self, path):
        """Read everything from below it."""
        with open(path, "rb") as file:
            for index in range(self.blocks):
                file.seek(self._place(index))
                self.check(index, file.read(self.size).ljust(self.size, b"\0"))


__all__ = ["Verifier", "content"]
