"""What a filter costs: nbdring over memory, bare and with filters on top.

Every stack is one more server beside the bare one. Parameters are such that a read only
passes through, where a filter can do that; where it cannot, the figure is what its work
costs, and the name of the stack says which. Not here, since a disk cannot be filled and
then read through them: `partition` (does what `offset` does), `checkwrite` (only writes cost
anything), `ddrescue` (is read-only), `exitlast` (ends with the first client).

What changes on the machine meanwhile is often more than a filter costs. So the bare server
is measured beside every single run of every stack, and a ratio is the median of such pairs.
"""

import argparse
import contextlib
import os
import statistics
import subprocess

from compare import measure, rounds, running, sets
from compare.servers import Failed, Nbdring

BARE = "0 filters"
AGAIN = "0 filters again"  # how far from 1 the ratio of the same thing is: the noise
LUKS = "luks"
JUDGED, BAR = "16 nofilter", 1.15
SIZE_MIB = 64  # there are many servers
MORE, SHORTER = 4, 4  # rounds than elsewhere: a ratio of 1.05 has to show
ROW = sets.Row("randread", "4K", 32)

EXTENTS = f"0 {SIZE_MIB}M\n"  # the content of {folder}/extents

# name of the stack, [filters, topmost first], [parameters]; {folder} is where the
# extents and the LUKS header are, {base} a path of this server's own.
STACKS = [
    (BARE, [], []),
    (AGAIN, [], []),
    ("1 nofilter", ["nofilter"], []),
    ("4 nofilter", ["nofilter"] * 4, []),
    (JUDGED, ["nofilter"] * 16, []),
    ("offset", ["offset"], ["offset=0"]),
    ("truncate", ["truncate"], [f"truncate={SIZE_MIB}M"]),
    ("map", ["map"], [f"map=0+{SIZE_MIB}M:0"]),
    ("swab 8", ["swab"], ["swab-bits=8"]),
    ("swab 16", ["swab"], ["swab-bits=16"]),
    ("blocksize", ["blocksize"], ["minblock=4k"]),
    ("blocksize cuts", ["blocksize"], ["minblock=1k", "maxdata=1k"]),
    ("blocksize-policy", ["blocksize-policy"],
     ["blocksize-minimum=4k", "blocksize-error-policy=error"]),
    ("readonly", ["readonly"], ["readonly-file={base}.never"]),
    ("protect", ["protect"], ["protect=~0-"]),
    ("nozero", ["nozero"], []),
    ("fua", ["fua"], ["fuamode=pass"]),
    ("noextents", ["noextents"], []),
    ("nocache", ["nocache"], []),
    ("noparallel", ["noparallel"], ["serialize=requests"]),
    ("multi-conn", ["multi-conn"], []),
    ("rotational", ["rotational"], []),
    ("extentlist", ["extentlist"], ["extentlist={folder}/extents"]),
    ("mask", ["mask"], ["mask=trim"]),
    ("cache hits", ["cache"], ["cache-on-read=true"]),
    ("cache hits lru", ["cache"], ["cache-on-read=true", "cache-policy=lru"]),
    ("cache hits arc", ["cache"], ["cache-on-read=true", "cache-policy=arc"]),
    ("cache misses", ["cache"], ["cache-on-write=false", "cache=writethrough"]),
    (LUKS, ["luks"], ["luks-header={folder}/luks", "passphrase=bench"]),
    ("error", ["error"], ["error-rate=0%"]),
    ("delay", ["delay"], ["rdelay=0"]),
    ("pause", ["pause"], ["pause-control={base}.pause"]),
    ("evil 0", ["evil"], ["evil-probability=0"]),
    ("evil 1e-8", ["evil"], ["evil-probability=1e-8"]),
    ("short", ["short"], ["window=0"]),
    ("verify", ["verify"], [f"twin=memory {SIZE_MIB}M"]),
    ("limit", ["limit"], ["limit=0"]),
    ("ip", ["ip"], ["allow=all"]),
    ("rate", ["rate"], ["rate=1000G", "connection-rate=1000G"]),
    ("time-limit", ["time-limit"], ["time-limit=86400"]),
    ("exitwhen", ["exitwhen"], ["exit-when-file-created={base}.never"]),
    ("exportname", ["exportname"], []),
    ("log", ["log"], ["logfile=/dev/null"]),
    ("log json", ["log"], ["logfile=/dev/null", "log-format=json"]),
    ("stats", ["stats"], ["statsfile=/dev/null"]),
    ("count", ["count"], []),
]


class Stack(Nbdring):
    """nbdring with filters over memory; a server of its own to all that measures."""

    def __init__(self, build, folder, name, filters, parameters):
        super().__init__(build)
        self.name = name
        self.folder = folder
        self.filters = filters
        self.parameters = parameters

    def command(self, job):
        return (super().command(job)
                + [f"--filter={name}" for name in self.filters]
                + [text.format(folder=self.folder, base=job.base) for text in self.parameters])


def _wanted(text):
    """Stacks with this text in their names, and always the bare ones."""
    return [row for row in STACKS if row[0] in (BARE, AGAIN) or text in row[0]]


def _make_luks_header(folder):
    """For data that lies elsewhere: in memory. False where cryptsetup cannot make one."""
    data, header = os.path.join(folder, "luks-data"), os.path.join(folder, "luks")
    with open(data, "wb") as f:
        f.truncate(1 << 20)
    try:
        subprocess.run(["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2",
                        "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file=-",
                        f"--header={header}", data],
                       input=b"bench", check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _makeable(bench, rows):
    """ROWS without what this machine lacks the tools for."""
    if not any(row[0] == LUKS for row in rows) or _make_luks_header(bench.folder):
        return rows
    bench.say("luks is left out: cryptsetup is not there, or does not make a header")
    return [row for row in rows if row[0] != LUKS]


def _only_filters(bench):
    """The same bench with the stacks for servers."""
    given = vars(bench.options)
    options = argparse.Namespace(**{**given, "size": SIZE_MIB << 20,
                                    "rounds": given["rounds"] * MORE,
                                    "seconds": given["seconds"] / SHORTER})
    with open(os.path.join(bench.folder, "extents"), "w") as f:
        f.write(EXTENTS)
    rows = _makeable(bench, _wanted(given["rows"]))
    stacks = [Stack(options.build, bench.folder, *row) for row in rows]
    inner = rounds.Bench(stacks, bench.clients, bench.server_cpus, bench.folder, options,
                         bench.say)
    inner.failures = bench.failures
    return inner


def _pair(bench, servers, name, turn):
    """(bare, stack): one run of each, one right after the other."""
    options = bench.options
    seconds, attempts = (options.seconds, options.attempts) if turn else (0.1, 1)
    order = (BARE, name) if turn % 2 else (name, BARE)
    reports = {n: rounds.one_run(bench, ROW, servers[n], seconds, attempts) for n in order}
    return reports[BARE], reports[name]


def _measure(bench, servers):
    """{stack: [(report of bare, report of stack)]}, in rounds, each in another order."""
    pairs = {name: [] for name in servers if name != BARE}
    for turn in range(bench.options.rounds + 1):  # the first round only warms up
        names = list(pairs)
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            try:
                pair = _pair(bench, servers, name, turn)
                if turn:
                    pairs[name].append(pair)
            except Failed as error:
                bench.fail(error)
                del pairs[name]
    return pairs


def _cpu(report):
    return report["server_cpu_ns"] / report["requests"]


def _compared(name, pairs):
    return {"stack": name,
            "ratio": statistics.median(_cpu(stack) / _cpu(bare) for bare, stack in pairs),
            "added_ns": statistics.median(_cpu(stack) - _cpu(bare) for bare, stack in pairs)}


def filters_set(bench, show):
    """Measures all stacks, round by round; `show` gets the row when it is complete."""
    nothing = {"rows": [], "notes": []}
    if Nbdring.name not in [peer.name for peer in bench.peers]:
        return nothing
    inner = _only_filters(bench)
    with contextlib.ExitStack() as stack:
        servers = running.start(inner, ROW.disk, inner.peers, stack, False)
        pairs = _measure(inner, servers) if BARE in servers and len(servers) > 1 else {}
    if not pairs:
        return nothing
    compared = [_compared(name, p) for name, p in pairs.items()]
    results = {BARE: measure.collect([bare for p in pairs.values() for bare, _ in p])}
    results.update({name: measure.collect([stack for _, stack in p]) for name, p in pairs.items()})
    row = {"kind": "filters", "set": "filters", "part": "filters", "medium": "memory",
           "row": ROW.name, "export_bytes": inner.options.size, "rounds": inner.options.rounds,
           "seconds": inner.options.seconds,
           "stacks": {peer.name: {"filters": peer.filters, "parameters": peer.parameters}
                      for peer in inner.peers},
           "compared": compared, "bare": BARE, "judged": JUDGED, "bar": BAR, "servers": results}
    show(row)
    return {"rows": [row], "notes": []}
