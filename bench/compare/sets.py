"""The sets: which rows there are. Data only; `rounds`, `tools`, `idle` and `filters` measure.

A set is a list of parts. The servers of a part run side by side, one for each of its disks,
and its rows are measured one after the other, or, where rows are compared with each other,
`together`, in the same rounds.
"""

from dataclasses import dataclass

from compare.clients import FIRST_READ
from compare.servers import Disk

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

MEMORY, CACHED, DIRECT, LOOP, REMOTE = (
    Disk(medium) for medium in ("memory", "cached", "direct", "loop", "remote"))
MIRRORED, SLOW, STRIPED = (Disk(medium) for medium in ("mirrored", "slow", "striped"))

VERBS = {"read": "read", "write": "write", "randread": "random read", "randwrite": "random write",
         "randrw": "random mix"}


@dataclass(frozen=True)
class Row:
    """A load: what a client asks for, of which disk."""

    rw: str
    block: str
    depth: int
    connections: int = 1
    disk: Disk = MEMORY
    quick: bool = False  # says most: measured with --quick, too, and longer than others without
    read_percent: int = 70  # of a mix
    fua: bool = False
    flush_every: int = 0
    client: str = "nbdload"
    reconnect: bool = False  # each request on a connection of its own
    suffix: str = ""

    @property
    def writes(self):
        return self.rw not in ("read", "randread")

    @property
    def name(self):
        verb = VERBS[self.rw]
        if self.rw == "randrw":
            verb += f" {self.read_percent}-{100 - self.read_percent}"
        words = [f"{self.block[:-1]} {self.block[-1]}iB {verb}", f"depth {self.depth}",
                 f"{self.connections} connection{'s' if self.connections > 1 else ''}"]
        if self.fua:
            words.append("FUA")
        if self.flush_every:
            words.append("flush after each" if self.flush_every == 1
                         else f"flush after {self.flush_every}")
        if self.reconnect:
            words.append("a connection for each")
        if self.client != "nbdload":
            words.append(f"by {self.client}")
        return ", ".join(words + ([self.suffix] if self.suffix else []))


@dataclass(frozen=True)
class ToolRow:
    """A tool that goes through the whole image once; what counts is the time it takes."""

    tool: str
    disk: Disk
    what: str
    quick: bool = False
    needs_extents: bool = False  # without them the server would have to send every hole
    writes = False

    @property
    def name(self):
        return f"{self.tool}, {self.what}"


@dataclass(frozen=True)
class Part:
    name: str
    rows: tuple
    together: bool = False


def _row(disk, rw, block, depth, connections=1, quick=False, **more):
    return Row(rw, block, depth, connections, disk, quick, **more)


def _grid(disk, quick):
    """Depth by connections by kind; `quick` says which are measured in a hurry."""
    return tuple(_row(disk, rw, "4K", depth, connections, (rw, depth, connections) in quick)
                 for rw in ("randread", "randwrite", "randrw")
                 for connections in (1, 8, 64) for depth in (1, 8, 32, 128))


_QUICK_MEMORY = ({("randread", d, 1) for d in (1, 8, 32, 128)}
                 | {("randread", 32, 8), ("randread", 128, 8), ("randread", 8, 64),
                    ("randwrite", 32, 1), ("randrw", 32, 1)})
_QUICK_CACHED = {("randread", 1, 1), ("randread", 32, 1), ("randwrite", 32, 1)}


def _large(disk, quick):
    return tuple(_row(disk, rw, block, depth, quick=(rw, block) in quick)
                 for block, depth in (("128K", 8), ("1M", 4)) for rw in ("read", "write"))


def _around_cache(disk, quick):
    return (_row(disk, "randread", "4K", 1),
            _row(disk, "randread", "4K", 32, quick=True),
            _row(disk, "randwrite", "4K", 32, quick=quick),
            _row(disk, "randrw", "4K", 32),
            _row(disk, "read", "1M", 4),
            _row(disk, "write", "1M", 4))


def _durable(disk, quick):
    """What a database does: few writes, each of them waited for."""
    return (_row(disk, "randwrite", "4K", 1, quick=quick, fua=True),
            _row(disk, "randwrite", "4K", 32, fua=True),
            _row(disk, "randwrite", "4K", 1, flush_every=1),
            _row(disk, "randwrite", "4K", 8, quick=quick, flush_every=8),
            _row(disk, "randwrite", "4K", 1, 8, flush_every=1))


def _holes(medium):
    disk = Disk(medium, TIB, "holes")
    return (_row(disk, "randread", "4K", 32, quick=True, suffix="holes"),
            _row(disk, "read", "1M", 4, suffix="holes"))


def _copies(medium, quick):
    """The whole of a dense image, and of one that is almost all holes."""
    dense = Disk(medium, GIB)
    sparse = Disk(medium, TIB, "spread", 4096, 256 * KIB)
    return tuple(ToolRow(tool, disk, what, quick, disk is sparse)
                 for disk, what in ((dense, "dense 1 GiB"),
                                    (sparse, "1 TiB with 1 GiB of data in 4096 places"))
                 for tool in ("nbdcopy", "qemu-img convert"))


def _map(medium):
    disk = Disk(medium, TIB, "spread")
    return ToolRow("nbdinfo --map", disk, "1 TiB with 4096 stretches of data", True, True)


def _latency(disk):
    return (_row(disk, "randread", "4K", 1, quick=disk is MEMORY), _row(disk, "randwrite", "4K", 1))


def _by_fio(disk, quick):
    return (_row(disk, "randread", "4K", 1, client="fio"),
            _row(disk, "randread", "4K", 32, quick=quick, client="fio"),
            _row(disk, "randwrite", "4K", 32, client="fio"),
            _row(disk, "randread", "4K", 32, 8, client="fio"))


def _tls(disk):
    return (_row(disk, "randread", "4K", 1),
            _row(disk, "randread", "4K", 32, quick=True),
            _row(disk, "randwrite", "4K", 32),
            _row(disk, "read", "1M", 4, quick=True),
            _row(disk, "write", "1M", 4),
            _row(disk, "read", "4K", 1, quick=True, reconnect=True))


def _proxy(disk):
    """Through another server; from memory the same, to compare with."""
    return (_row(disk, "randread", "4K", 1),
            _row(disk, "randread", "4K", 32, quick=True),
            _row(disk, "randwrite", "4K", 32),
            _row(disk, "read", "1M", 4, quick=True),
            _row(disk, "write", "1M", 4))


def _compose(disk):
    """Several disks as one, and one of them, to compare with."""
    return (_row(disk, "randread", "4K", 32, quick=True),
            _row(disk, "randwrite", "4K", 32, quick=True),
            _row(disk, "write", "1M", 4))


def _cow(size):
    """Over a file that is cached: blocks of the base, blocks of the overlay, and copying."""
    disk = Disk("cached", filters=("cow",), parameters=(f"cow-block-size={size}",))
    return (_row(disk, "randread", "4K", 32, quick=True, suffix=f"cow in {size}"),
            _row(disk, "randwrite", "4K", 1, suffix=f"cow in {size}"),
            _row(disk, "randwrite", "4K", 32, quick=True, suffix=f"cow in {size}"),
            _row(disk, "write", "1M", 4, suffix=f"cow in {size}"))


def _slow(*filters):
    """A disk that answers after 5 ms, read by who waits for each answer."""
    disk = Disk("memory", filters=filters + ("delay",), parameters=("rdelay=5ms",))
    suffix = " over ".join(filters + ("5 ms",))
    return tuple(_row(disk, "read", block, 1, quick=True, suffix=suffix)
                 for block in ("4K", "64K"))


def _slow_map(*filters):
    """A disk that says where it has holes after 5 ms."""
    disk = Disk("memory", GIB, "spread", 500, filters=filters + ("delay",),
                parameters=("delay-extents=5ms",))
    over = " over ".join(filters + ("5 ms",))
    return tuple(ToolRow(tool, disk, f"1 GiB with 500 stretches of data, {over}", True)
                 for tool in ("qemu-img map", "qemu-img convert", "nbdinfo --map"))


def _unpacked(medium, quick=False):
    """All of an archive, by a server that may use all processors."""
    return ToolRow("nbdcopy", Disk(medium, spread=True), f"{medium} in order", quick)


def _archives():
    """Random reads of a gzip file, the first of which nbdkit unpacks all of it for."""
    disk = Disk("gzip", spread=True)
    return (Part("first read", (ToolRow(FIRST_READ, disk, "64 KiB of a gzip file", True),)),
            Part("in order", tuple(_unpacked(medium, medium == "xz")
                                   for medium in ("xz", "gzip", "zstd", "lz4", "bzip2"))),
            Part("random", (_row(disk, "randread", "64K", 1, quick=True),
                            _row(disk, "randread", "64K", 8))),
            Part("tar", tuple(_row(Disk(medium), "randread", "4K", 32, quick=True, suffix=name)
                              for medium, name in (("cached", "raw file"), ("tar", "in a tar"))),
                 together=True))


def _connections():
    return tuple(_row(MEMORY, "randread", "4K", depth, connections,
                      depth == 8 and connections in (1, 8, 1000))
                 for depth in (1, 8) for connections in (1, 8, 64, 256, 1000))


_EXPORTS_BYTES = 128 * MIB  # of all of them, so that only their number differs


def _exports():
    return tuple(_row(Disk("cached", _EXPORTS_BYTES // n // 4096 * 4096, exports=n), "randread",
                      "4K", 1, 1000, n in (1, 1000), suffix=f"{n} export{'s' if n > 1 else ''}")
                 for n in (1, 10, 100, 1000))


_EXT4_MOST = 16 * TIB - MIB  # the largest file of ext4 with blocks of 4 KiB ends just below 16 TiB


def _sizes(medium, last, last_name):
    sizes = ((GIB, "1 GiB"), (64 * GIB, "64 GiB"), (TIB, "1 TiB"), (last, last_name))
    return tuple(_row(Disk(medium, size, "spread"), "randread", "4K", 32,
                      quick=medium == "memory" and size in (GIB, last), suffix=f"image of {name}")
                 for size, name in sizes)


IDLE, FILTERS = "idle", "filters"  # measured in ways of their own
ARCHIVES = "archives"

SETS = {
    "memory": [Part("memory", _grid(MEMORY, _QUICK_MEMORY))],
    "cached": [Part("cached", _grid(CACHED, _QUICK_CACHED))],
    "direct": [Part("direct", _around_cache(DIRECT, True)),
               Part("loop", _around_cache(LOOP, False))],
    "large": [Part("large memory", _large(MEMORY, {("read", "1M"), ("write", "1M")})),
              Part("large cached", _large(CACHED, {("read", "1M")}))],
    "durable": [Part("durable cached", _durable(CACHED, True)),
                Part("durable direct", _durable(DIRECT, False))],
    "sparse": [Part("holes memory", _holes("memory")), Part("holes cached", _holes("cached")),
               Part("map memory", (_map("memory"),)), Part("map cached", (_map("cached"),))],
    "copy": [Part("copy memory", _copies("memory", False)),
             Part("copy cached", _copies("cached", True))],
    "latency": [Part("latency memory", _latency(MEMORY)), Part("latency cached", _latency(CACHED))],
    "fio": [Part("fio memory", _by_fio(MEMORY, True)), Part("fio cached", _by_fio(CACHED, False))],
    "proxy": [Part("proxy", _proxy(REMOTE)), Part("proxied memory", _proxy(MEMORY))],
    "compose": [Part("mirror", _compose(MIRRORED)), Part("one leg", _compose(MEMORY)),
                Part("stripe of four slow legs", _compose(STRIPED)),
                Part("one slow leg", _compose(SLOW))],
    "cow": [Part("cow", _cow("64K")), Part("cow in 4K", _cow("4K")),
            Part("without cow", (_row(CACHED, "randread", "4K", 32, quick=True),
                                 _row(CACHED, "randwrite", "4K", 32)))],
    "readahead": [Part("slow", _slow()), Part("readahead", _slow("readahead")),
                  Part("readahead over cache", _slow("readahead", "cache"))],
    "map": [Part("slow map", _slow_map()), Part("cacheextents", _slow_map("cacheextents"))],
    ARCHIVES: list(_archives()),
    "tls": [Part("tls", _tls(Disk("memory", tls=True)))],
    "connections": [Part("connections", _connections(), together=True)],
    "exports": [Part("exports", _exports(), together=True)],
    "sizes": [Part("sizes memory", _sizes("memory", 64 * TIB, "64 TiB"), together=True),
              Part("sizes cached", _sizes("cached", _EXT4_MOST, "16 TiB less 1 MiB"),
                   together=True)],
    IDLE: [],
    FILTERS: [],
}

# Names for several sets.
GROUPS = {"file": ["cached", "direct"], "growth": ["connections", "exports", "sizes", IDLE]}


def wanted_rows(part, options):
    """The rows of a part that this run is about."""
    return [row for row in part.rows
            if options.rows in f"{part.name}: {row.name}"
            and (row.quick or options.rows or not options.quick)]
