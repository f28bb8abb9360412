"""What a connection costs that does nothing: memory of a server with many of them."""

import time

from compare import system
from compare.running import Running
from compare.servers import Disk, Failed

DISK = Disk("memory", 64 << 20)


PATIENCE = 10  # seconds


def _settled(pid):
    """Memory when it has stopped changing: idle is who has been silent for a while."""
    last = system.process_memory(pid)
    for _ in range(PATIENCE):
        time.sleep(1)
        now = system.process_memory(pid)
        if abs(now["rss"] - last["rss"]) <= last["rss"] // 200:
            return now
        last = now
    return last


def _memory(bench, peer, count, warm):
    """Memory of a fresh server with 0 and with `count` idle connections."""
    with Running(peer, DISK, bench.folder, DISK.size, bench.server_cpus) as server:
        # Pays what only the first client costs.
        bench.nbdload.run_with(server, ["--requests", "1"], 60)
        before = system.process_memory(server.pid)
        process, opened = bench.nbdload.hold_idle(server, count, warm)
        try:
            after = _settled(server.pid)
        finally:
            _, complaint = process.communicate("", timeout=120)
    each = {key: (after[key] - before[key]) / opened if opened else None for key in before}
    return {"wanted": count, "opened": opened, "read_first": warm, "before_kib": before,
            "after_kib": after, "each_kib": each, "complaint": complaint.strip()}


def _takes_part(peer, count):
    return (peer.idle_set and peer.only_sets is None
            and (peer.most_idle is None or count <= peer.most_idle))


def idle_set(bench, counts, show):
    rows = []
    for count in counts:
        for warm in (False, True):
            for peer in bench.peers:
                if not _takes_part(peer, count):
                    continue
                try:
                    memory = _memory(bench, peer, count, warm)
                except (Failed, OSError) as error:
                    bench.fail(f"idle, {peer.name}: {error}")
                    continue
                rows.append({"kind": "idle", "set": "idle", "server": peer.name, **memory})
                show(rows[-1])
    return {"rows": rows, "notes": []}
