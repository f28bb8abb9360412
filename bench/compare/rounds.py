"""Measuring loads: interleaved rounds, each in another order.

All servers of a part run side by side for all of it (a sleeping server costs nothing) and
are measured one after the other, round by round, so that what changes on the machine
meanwhile meets all of them alike.
"""

import contextlib
import os
import time

from compare import disks, measure, running
from compare.clients import FIRST_READ
from compare.servers import Failed
from compare.sets import Row, ToolRow

SHORTER = 3  # so much, than those that are in a quick run


class Bench:
    """What all sets need: the peers, the clients, where files go, how long, what went wrong."""

    def __init__(self, peers, clients, server_cpus, folder, options, say):
        self.peers = peers
        self.clients = clients
        self.nbdload = clients.nbdload
        self.server_cpus = server_cpus
        self.folder = folder
        self.options = options
        self.say = say
        self.failures = []

    def fail(self, error):
        self.failures.append(str(error))
        self.say(f"FAILED {error}")


def one_run(bench, row, server, seconds, attempts):
    """One run; again if other processes disturbed it, then the least disturbed one counts.

    What decides is how busy the others were, never the result itself.
    """
    best = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.5)
        server.settle()
        report = bench.clients.load(server, row, seconds)
        if not best or report["others_cpu_share"] < best["others_cpu_share"]:
            best = report
        best["attempts"] = attempt + 1
        if best["others_cpu_share"] <= bench.options.others / 100:
            break
    return best


def takes_part(set_name, row, peer):
    """Whether this server is asked for this row at all."""
    if peer.only_sets is not None and set_name not in peer.only_sets:
        return False
    if isinstance(row, ToolRow):
        fits = peer.extents or not row.needs_extents
    else:
        fits = ((peer.most_busy is None or row.connections <= peer.most_busy)
                and (peer.durable or not (row.fua or row.flush_every)))
    if peer.storage and not storage_can(row):
        return False
    return fits and peer.serves(row.disk)


def storage_can(row):
    """Whether fio, on the file itself, can do the same as a client of a server. It sends the
    next writes without waiting for a flush, so its flushes are not comparable."""
    return (isinstance(row, Row) and row.client == "nbdload" and not row.flush_every
            and row.disk.content == "full" and not row.disk.exports)


def start_disks(bench, set_name, rows, stack):
    """{disk: {name: Running}} of all disks of these rows."""
    servers = {}
    for disk in dict.fromkeys(row.disk for row in rows):
        on_it = [row for row in rows if row.disk == disk]
        peers = [p for p in bench.peers if any(takes_part(set_name, row, p) for row in on_it)]
        written = any(row.writes for row in on_it)
        servers[disk] = running.start(bench, disk, peers, stack, written)
    return servers


def measure_group(bench, entries, once, warm_up=True, rounds=0):
    """Rounds over (row, server) pairs; [reports] of each. `once(row, server, turn)` is one run;
    turn 0 only warms up. A pair that fails is left out from then on."""
    reports = [[] for _ in entries]
    for turn in range(0 if warm_up else 1, (rounds or bench.options.rounds) + 1):
        first = turn % max(1, len(entries))
        for i in list(range(first, len(entries))) + list(range(first)):
            row, server = entries[i]
            if reports[i] is None:
                continue
            try:
                report = once(row, server, turn)
                if turn:
                    reports[i].append(report)
            except Failed as error:
                bench.fail(f"{row.name}: {error}")
                reports[i] = None
    return reports


def describe(row, set_name, part, notes):
    """What stands in the results about a load, but for its figures."""
    disk = row.disk
    return {"kind": "load", "set": set_name, "part": part.name, "medium": disk.medium,
            "row": row.name, "rw": row.rw, "block": row.block, "depth": row.depth,
            "connections": row.connections, "client": row.client, "fua": row.fua,
            "flush_every": row.flush_every, "reconnect": row.reconnect, "read_percent": row.read_percent,
            "image_bytes": disk.size, "content": disk.content, "exports": disk.exports, "tls": disk.tls,
            "noted": sorted(notes)}


def noted(row, servers):
    """Names of the servers of a row that a note is about."""
    return [name for name, server in servers.items() if row.disk.medium in server.peer.notes]


def notes_of(servers_by_disk):
    return sorted({server.peer.notes[disk.medium] for disk, servers in servers_by_disk.items()
                   for server in servers.values() if disk.medium in server.peer.notes})


def _groups(part, rows):
    return [rows] if part.together else [[row] for row in rows]


def length(row, options):
    """Seconds of a round: rows that say less are measured shorter, unless they were asked for."""
    return options.seconds if row.quick or options.rows else options.seconds / SHORTER


def load_part(bench, set_name, part, rows, show):
    """Measures these rows of a part; `show` gets each as it is done."""
    done, options = [], bench.options
    rows = [row for row in rows if row.client in bench.clients.loads]

    def once(row, server, turn):
        if turn:
            return one_run(bench, row, server, length(row, options), options.attempts)
        return one_run(bench, row, server, min(0.1, options.seconds), 1)

    with contextlib.ExitStack() as stack:
        servers = start_disks(bench, set_name, rows, stack)
        for group in _groups(part, rows):
            entries = [(row, server) for row in group for server in servers[row.disk].values()
                       if takes_part(set_name, row, server.peer)]
            reports = measure_group(bench, entries, once)
            for row in group:
                results = {server.name: measure.collect(r)
                           for (other, server), r in zip(entries, reports) if other is row and r}
                noted_names = noted(row, servers[row.disk])
                done.append({**describe(row, set_name, part, noted_names),
                             "seconds": length(row, options), "servers": results})
                show(done[-1])
        return {"rows": done, "notes": notes_of(servers)}


def first_read(bench, row, server):
    """From a server of its own beside SERVER, which has found out by now what it keeps."""
    store = server.store
    with running.Running(server.peer, row.disk, bench.folder, server.size,
                         running.cpus_of(row.disk, bench), store) as fresh:
        report = bench.nbdload.first_read(fresh)
    if os.path.exists(store.index) and server.peer.keeps_index:
        report.update(index_bytes=os.path.getsize(store.index),
                      file_bytes=os.path.getsize(store.path))
    return report


def tool_part(bench, set_name, part, rows, show):
    """The same for tools that go through a whole image."""
    done = []
    rows = [row for row in rows if row.tool in bench.clients.tools]

    def once(row, server, turn):
        server.settle()
        if row.tool == FIRST_READ:
            return first_read(bench, row, server)
        return bench.clients.tool.once(row.tool, server, 1200 if row.disk.packed else 300)

    with contextlib.ExitStack() as stack:
        servers = start_disks(bench, set_name, rows, stack)
        for row in rows:
            entries = [(row, server) for server in servers[row.disk].values()
                       if takes_part(set_name, row, server.peer)]
            packed = row.disk.packed  # takes long enough to be told from noise by few
            reports = measure_group(bench, entries, once, not packed,
                                    min(3, bench.options.rounds) if packed else 0)
            results = {server.name: measure.collect_tool(r)
                       for (_, server), r in zip(entries, reports) if r}
            done.append({"kind": "tool", "set": set_name, "part": part.name,
                         "medium": row.disk.medium, "row": row.name, "tool": row.tool,
                         "what": row.what, "image_bytes": row.disk.size,
                         "data_bytes": sum(n for _, n in disks.stretches(row.disk, row.disk.size)),
                         "content": row.disk.content, "noted": noted(row, servers[row.disk]),
                         "servers": results})
            show(done[-1])
        return {"rows": done, "notes": notes_of(servers)}
