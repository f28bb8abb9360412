"""What the server is held to: ratios within one run, of medians. Data, and how it is judged.

A bar names rows by what stands in the results about them, the figure, whom it is compared
with, and the limit. `against` are servers: the best of those that were measured counts.
`base` is another row of the server itself instead. With neither, the figure is judged as it
is. A bar about several rows is judged by the one that is furthest on the wrong side.
"""

from dataclasses import dataclass, field

SERVER = "nbdring"
NBDKIT = ("nbdkit", "nbdkit -t 1")
QEMU = ("qemu-nbd",)

MORE_IS_BETTER = ("requests_per_s", "bytes_per_s")

FIGURES = {"server_cpu_us": "CPU per request", "requests_per_s": "requests/s",
           "p50_us": "p50 latency", "wall_s": "wall time", "rss": "KiB each",
           "index_percent": "% of the file"}


@dataclass(frozen=True)
class Bar:
    work: str
    rows: dict  # what the rows' fields must be; a tuple: one of these
    figure: str
    limit: float
    against: tuple = ()
    whom: str = ""  # `against`, as people say it
    base: dict = field(default_factory=dict)  # of the row it is compared with
    server: str = SERVER

    @property
    def at_least(self):
        return self.figure in MORE_IS_BETTER


def _read(depth, connections=1, **more):
    return {"kind": "load", "rw": "randread", "block": "4K", "depth": depth,
            "connections": connections, "client": "nbdload", **more}


def _write(depth, **more):
    return {**_read(depth, **more), "rw": "randwrite", "fua": False, "flush_every": 0}


_LATENCY = _read(1, set="latency", medium="memory")
_FIO = {**_read(32, set="fio", medium="memory"), "client": "fio"}
_MIB = {"set": "large", "medium": "memory", "block": "1M"}
_TLS = _read(32, set="tls", medium="memory")
_TLS_CONNECT = {"set": "tls", "medium": "memory", "reconnect": True}
_PROXY = _read(32, set="proxy", medium="remote")
_MIRROR = {**_write(32), "set": "compose", "medium": "mirrored"}
_STRIPE = {**_read(32), "set": "compose", "medium": "striped"}
_DIRECT = [("read, O_DIRECT", _read(32, medium="direct")),
           ("write, O_DIRECT", _write(32, medium="direct", set="direct"))]
_COPY = {"set": "copy", "medium": "cached", "content": "spread", "tool": "nbdcopy"}


_ARCHIVE = {"set": "archives", "kind": "tool"}
_TAR = {**_read(32), "set": "archives"}


def _memory(depth, connections=1):
    return _read(depth, connections, set="memory")


def _direct_bars():
    for name, rows in _DIRECT:
        yield Bar(f"4 KiB {name}, depth 32", rows, "server_cpu_us", 1 / 3, QEMU,
                  "qemu-nbd cache=none")
        yield Bar(f"4 KiB {name}, depth 32", rows, "requests_per_s", 1.5, QEMU,
                  "qemu-nbd cache=none")
        yield Bar(f"4 KiB {name}, depth 32", rows, "requests_per_s", 0.9, ("fio io_uring",),
                  "fio io_uring on the file")


BARS = [
    Bar("4 KiB read, memory, depth 32", _memory(32), "server_cpu_us", 1 / 5, NBDKIT, "nbdkit"),
    Bar("4 KiB read, memory, depth 32", _memory(32), "server_cpu_us", 1 / 9, QEMU, "qemu-nbd"),
    Bar("4 KiB read, memory, depth 128", _memory(128), "requests_per_s", 7, NBDKIT, "nbdkit"),
    Bar("4 KiB read, memory, depth 32, 8 connections", _memory(32, 8), "requests_per_s", 5, NBDKIT,
        "nbdkit"),
    Bar("4 KiB read, memory, depth 128, 8 connections", _memory(128, 8), "requests_per_s", 5,
        NBDKIT, "nbdkit"),
    Bar("every memory row", {"kind": "load", "medium": "memory", "set": ("memory", "large")},
        "server_cpu_us", 1.35, ("floor",), "the bare answerer"),
    Bar("4 KiB write, memory, depth 32", _write(32, set="memory"), "server_cpu_us", 1 / 4, NBDKIT,
        "nbdkit"),
    Bar("4 KiB read, cached file, depth 32", _read(32, set="cached"), "server_cpu_us", 0.3, NBDKIT,
        "nbdkit"),
    Bar("4 KiB read, cached file, depth 32", _read(32, set="cached"), "server_cpu_us", 0.2, QEMU,
        "qemu-nbd"),
    *_direct_bars(),
    Bar("1 MiB read, memory", {**_MIB, "rw": "read"}, "server_cpu_us", 1 / 2, NBDKIT, "nbdkit"),
    Bar("1 MiB write, memory", {**_MIB, "rw": "write"}, "server_cpu_us", 1 / 2, NBDKIT, "nbdkit"),
    Bar("depth 1 read, memory, as installed", _LATENCY, "p50_us", 1.0, NBDKIT, "nbdkit",
        server="nbdring as installed"),
    Bar("depth 1 read, memory, as installed", _LATENCY, "server_cpu_us", 1.0, NBDKIT, "nbdkit",
        server="nbdring as installed"),
    Bar("depth 1 read, memory, CPU traded for latency", _LATENCY, "p50_us", 0.6, NBDKIT, "nbdkit",
        server="nbdring --spin"),
    Bar("fio's nbd engine, 4 KiB read, depth 32", _FIO, "requests_per_s", 1.5, NBDKIT, "nbdkit"),
    Bar("fio's nbd engine, 4 KiB read, depth 32", _FIO, "server_cpu_us", 1 / 2, NBDKIT, "nbdkit"),
    Bar("nbdcopy of 1 TiB with 1 GiB of data", _COPY, "wall_s", 1 / 2, NBDKIT + QEMU,
        "nbdkit, qemu-nbd"),
    Bar("4 KiB read through another server, depth 32", _PROXY, "server_cpu_us", 1.6,
        whom="the same from memory", base={**_PROXY, "medium": "memory"}),
    Bar("4 KiB read through another server, depth 32", _PROXY, "server_cpu_us", 1 / 4,
        NBDKIT, "nbdkit"),
    Bar("1 MiB read through another server", {"set": "proxy", "medium": "remote", "block": "1M", "rw": "read"}, "requests_per_s", 2, NBDKIT,
        "nbdkit"),
    Bar("4 KiB write to a mirror of two, depth 32", _MIRROR, "server_cpu_us", 2.3,
        whom="one leg", base={**_MIRROR, "medium": "memory"}),
    Bar("4 KiB read, stripe of four slow legs, depth 32", _STRIPE, "requests_per_s", 3,
        whom="one slow leg", base={**_STRIPE, "medium": "slow"}),
    Bar("4 KiB read over TLS, depth 32", _TLS, "server_cpu_us", 1 / 3, NBDKIT, "nbdkit"),
    Bar("connections over TLS, one after the other", _TLS_CONNECT, "requests_per_s", 1,
        NBDKIT + QEMU, "nbdkit, qemu-nbd"),
    Bar("connections over TLS, one after the other", _TLS_CONNECT, "server_cpu_us", 1,
        NBDKIT + QEMU, "nbdkit, qemu-nbd"),
    Bar("xz image of many blocks, all of it", {**_ARCHIVE, "medium": "xz", "tool": "nbdcopy"},
        "wall_s", 1 / 1.6, NBDKIT, "nbdkit"),
    Bar("64 KiB of a gzip file whose index is there, s", {**_ARCHIVE, "tool": "first read"},
        "wall_s", 0.1, whom="(as it is)"),
    Bar("index of a gzip file", {**_ARCHIVE, "tool": "first read"}, "index_percent", 1,
        whom="(as it is)"),
    Bar("4 KiB read out of a tar, depth 32", {**_TAR, "medium": "tar"}, "server_cpu_us", 1.05,
        whom="the file without it", base={**_TAR, "medium": "cached"}),
    Bar("10,000 idle connections, KiB each", {"kind": "idle", "wanted": 10000}, "rss", 4,
        whom="(as it is)"),
    Bar("1,000 busy connections, depth 8 each", _read(8, 1000, set="connections"),
        "requests_per_s", 0.8, whom="8 connections", base=_read(8, 8, set="connections")),
    Bar("growth from 1 to 1,000 exports", {"set": "exports"}, "server_cpu_us", 1.1,
        whom="1 export", base={"set": "exports", "exports": 1}),
    Bar("growth from 1 GiB to 64 TiB, memory", {"set": "sizes", "medium": "memory"},
        "server_cpu_us", 1.1, whom="1 GiB", base={"set": "sizes", "medium": "memory",
                                                  "image_bytes": 1 << 30}),
    Bar("growth from 1 GiB to 16 TiB, cached file", {"set": "sizes", "medium": "cached"},
        "server_cpu_us", 1.1, whom="1 GiB", base={"set": "sizes", "medium": "cached",
                                                  "image_bytes": 1 << 30}),
]


def matches(row, wanted):
    return all(row.get(key) in value if isinstance(value, tuple) else row.get(key) == value
               for key, value in wanted.items())


def _find(sets, wanted):
    return [row for part in sets.values() for row in part["rows"] if matches(row, wanted)]


def _value(row, server, figure):
    """(median, ±%) of a server in a row; None if it was not measured there."""
    if row["kind"] == "idle":
        value = row["each_kib"].get(figure) if row["server"] == server else None
        return None if value is None else (value, 0.0)
    result = row.get("servers", {}).get(server)
    found = result["summary"].get(figure) if result else None
    return (found["median"], found["spread_percent"]) if found else None


def _reference(bar, row, sets):
    """What the row's figure is divided by; None: that was not measured."""
    if bar.base:
        bases = [_value(base, bar.server, bar.figure) for base in _find(sets, bar.base)]
        return bases[0] if bases else None
    if not bar.against:
        return 1.0, 0.0
    values = [v for v in (_value(row, name, bar.figure) for name in bar.against) if v]
    return (max if bar.at_least else min)(values) if values else None


def _name(row):
    if row["kind"] != "idle":
        return row["row"]
    return f"{row['wanted']} idle, after {'a read' if row['read_first'] else 'the handshake'}"


def _judge_row(bar, row, sets):
    value, reference = _value(row, bar.server, bar.figure), _reference(bar, row, sets)
    if not value or not reference or not reference[0]:
        return None
    ratio = value[0] / reference[0]
    return {"row": _name(row), "value": value[0],
            "reference": reference[0], "ratio": ratio,
            "spread_percent": round(value[1] + reference[1], 1),
            "kept": ratio >= bar.limit if bar.at_least else ratio <= bar.limit}


def judge(sets):
    """Every bar whose rows were measured: the bar, the worst row's ratio, kept or not."""
    judged = []
    for bar in BARS:
        rows = [j for j in (_judge_row(bar, row, sets) for row in _find(sets, bar.rows)
                            if not bar.base or not matches(row, bar.base)) if j]
        if not rows:
            continue
        worst = (min if bar.at_least else max)(rows, key=lambda j: j["ratio"])
        judged.append({"work": bar.work, "server": bar.server, "figure": bar.figure,
                       "against": bar.whom, "at_least": bar.at_least, "limit": bar.limit, **worst,
                       "rows": len(rows), "rows_kept": sum(j["kept"] for j in rows)})
    return judged
