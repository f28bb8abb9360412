"""The sets: which rows there are, and the order in which they are measured.

All servers of a medium run side by side for the whole set (a sleeping server costs
nothing) and are measured one after the other, round by round, each round in another
order, so that what changes on the machine meanwhile meets all of them alike.
"""

import contextlib
import os
import time
from dataclasses import dataclass

from compare import measure, system
from compare.servers import Failed, Running


@dataclass(frozen=True)
class Row:
    name: str
    rw: str
    block: str
    depth: int
    connections: int = 1

    def arguments(self, seconds, size):
        return ["--rw", self.rw, "--block-size", self.block, "--depth", str(self.depth),
                "--connections", str(self.connections), "--size", str(size),
                "--seconds", str(seconds)]


def _reads(depth, connections):
    many = f"{connections} connection{'s' if connections > 1 else ''}"
    return Row(f"4 KiB random read, depth {depth}, {many}", "randread", "4K", depth, connections)


WRITE = Row("4 KiB random write, depth 32, 1 connection", "randwrite", "4K", 32)
LARGE = Row("1 MiB read, depth 4, 1 connection", "read", "1M", 4)

ROWS = {
    "memory": [_reads(d, c) for c in (1, 8) for d in (1, 32, 128)] + [WRITE, LARGE],
    "cached": [_reads(32, 1), WRITE, LARGE],
    "direct": [_reads(32, 1), WRITE, LARGE],
}

SETS = {"memory": ["memory"], "file": ["cached", "direct"], "idle": ["idle"],
        "filters": ["filters"]}


class Bench:
    """What all sets need: the peers, the client, where files go, how long, what went wrong."""

    def __init__(self, peers, client, server_cpus, folder, options, say):
        self.peers = peers
        self.client = client
        self.server_cpus = server_cpus
        self.folder = folder
        self.options = options
        self.say = say
        self.failures = []

    def fail(self, error):
        self.failures.append(str(error))
        self.say(f"FAILED {error}")


def start(bench, medium, stack):
    """Starts every peer that has this medium; {name: Running}."""
    servers = {}
    for peer in bench.peers:
        if peer.command(medium, bench.options.size, "", "", "") is None:
            continue
        try:
            server = stack.enter_context(
                Running(peer, medium, bench.folder, bench.options.size, bench.server_cpus))
            if medium == "memory":
                measure.fill(bench.client, server, bench.options.size)
            servers[peer.name] = server
        except Failed as error:
            bench.fail(error)
    return servers


def _settle(medium, server):
    """The same state before every run: nothing dirty; for `cached`, all of it in memory."""
    if medium == "memory" or not server.file:
        return
    fd = os.open(server.file, os.O_RDONLY)
    try:
        os.fsync(fd)
        if medium == "cached":
            while os.read(fd, 1 << 20):
                pass
    finally:
        os.close(fd)


def one_run(bench, medium, row, server, seconds, attempts):
    """One run; again if other processes disturbed it, then the least disturbed one counts.

    What decides is how busy the others were, never the result itself.
    """
    best = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.5)
        _settle(medium, server)
        report = bench.client.load(server, row.arguments(seconds, bench.options.size), seconds + 60)
        if not best or report["others_cpu_share"] < best["others_cpu_share"]:
            best = report
        best["attempts"] = attempt + 1
        if best["others_cpu_share"] <= bench.options.others / 100:
            break
    return best


def _measure_row(bench, medium, row, servers):
    reports = {name: [] for name in servers}
    names = list(servers)
    for turn in range(bench.options.rounds + 1):  # the first round only warms up
        seconds, attempts = (bench.options.seconds, 3) if turn else (0.2, 1)
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            if reports[name] is None:
                continue
            try:
                report = one_run(bench, medium, row, servers[name], seconds, attempts)
                if turn:
                    reports[name].append(report)
            except Failed as error:
                bench.fail(f"{row.name}: {error}")
                reports[name] = None
    return {name: collect(r) for name, r in reports.items() if r}


def collect(reports):
    histogram = measure.merge_histograms(reports)
    return {"summary": measure.summary(reports), "rounds": reports, "histogram_ns": histogram}


def load_set(bench, medium, show):
    """Measures all rows of a medium; `show` gets each as it is done."""
    rows = []
    wanted = [row for row in ROWS[medium] if bench.options.rows in row.name]
    if not wanted:
        return {"rows": [], "notes": []}
    with contextlib.ExitStack() as stack:
        servers = start(bench, medium, stack)
        notes = [s.peer.notes[medium] for s in servers.values() if medium in s.peer.notes]
        for row in wanted if servers else []:
            result = _measure_row(bench, medium, row, servers)
            rows.append({"medium": medium, "row": row.name, "rw": row.rw, "block": row.block,
                         "depth": row.depth, "connections": row.connections, "servers": result,
                         "noted": [n for n, s in servers.items() if medium in s.peer.notes]})
            show(rows[-1])
    return {"rows": rows, "notes": sorted(set(notes))}


def _idle_memory(bench, peer, count, warm):
    """Memory of a fresh server with 0 and with `count` idle connections."""
    with Running(peer, "memory", bench.folder, 64 << 20, bench.server_cpus) as server:
        bench.client.load(server, ["--requests", "1"], 60)  # pays what only the first client costs
        before = system.process_memory(server.pid)
        process, opened = bench.client.hold_idle(server, count, warm)
        try:
            after = system.process_memory(server.pid)
        finally:
            _, complaint = process.communicate("", timeout=120)
    each = {key: (after[key] - before[key]) / opened if opened else None for key in before}
    return {"wanted": count, "opened": opened, "read_first": warm, "before_kib": before,
            "after_kib": after, "each_kib": each, "complaint": complaint.strip()}


def idle_set(bench, show):
    rows = []
    for count in (1000,) if bench.options.quick else (1000, 10000):
        for warm in (False, True):
            for peer in bench.peers:
                if not peer.idle_set:
                    continue
                try:
                    row = {"server": peer.name, **_idle_memory(bench, peer, count, warm)}
                except (Failed, OSError) as error:
                    bench.fail(f"idle, {peer.name}: {error}")
                    continue
                rows.append(row)
                show(row)
    return {"rows": rows}
