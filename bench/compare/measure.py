"""Running the load generator against one server, and medians over rounds."""

import json
import os
import select
import statistics
import subprocess
import time

from compare import system
from compare.servers import Failed


class Client:
    """nbdload, pinned or not."""

    def __init__(self, path, cpus=None):
        self.path = path
        self.cpus = cpus

    def _start(self, arguments, server, **pipes):
        pin = (lambda: os.sched_setaffinity(0, self.cpus)) if self.cpus else None
        return subprocess.Popen([self.path] + arguments + [server.socket], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=pin, **pipes)

    def load(self, server, arguments, limit):
        """One run of load; returns nbdload's report with what the machine says added."""
        cpu, busy, began = system.process_cpu(server.pid), system.busy_cpu(), time.monotonic()
        process = self._start(["--json", "--cpu-of", str(server.pid)] + arguments, server,
                              stdin=subprocess.DEVNULL)
        try:
            out, complaint = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"{server.name}: the load did not end in {limit:.0f} s")
        if process.returncode != 0:
            last = complaint.strip().splitlines()[-1:] or ["answers were errors or wrong"]
            raise Failed(f"{server.name}: {last[0]} (server's last line: {server.last_words()})")
        report = json.loads(out)
        wall = time.monotonic() - began
        ours = (report["server_cpu_ns"] + report["client_cpu_ns"]) / 1e9
        report["server_cpu_stat_s"] = round(system.process_cpu(server.pid) - cpu, 2)
        others = (system.busy_cpu() - busy - ours) / (wall * os.cpu_count())
        report["others_cpu_share"] = round(max(0.0, others), 4)
        return report

    def hold_idle(self, server, count, warm):
        """Opens idle connections; returns (process, how many, why not more)."""
        arguments = ["--idle", str(count)] + (["--idle-warm"] if warm else [])
        process = self._start(arguments, server, stdin=subprocess.PIPE)
        if not select.select([process.stdout], [], [], 300)[0]:
            process.kill()
            process.wait()
            raise Failed(f"{server.name}: {count} connections were not open after 300 s")
        words = process.stdout.readline().split()
        if words[:1] != ["ready"]:
            raise Failed(f"{server.name}: {process.communicate()[1].strip()}")
        return process, int(words[1])


def fill(client, server, size):
    """Every block of the export written once, so that reads are of data and not of holes."""
    client.load(server, ["--rw", "write", "--block-size", "1M", "--depth", "4", "--size", str(size),
                         "--requests", str(size >> 20)], 120)


def merge_histograms(reports):
    merged = {}
    for report in reports:
        for low, count in report.pop("histogram_ns"):
            merged[low] = merged.get(low, 0) + count
    return sorted(merged.items())


def middle(values):
    """Median, and half the range in percent of it."""
    median = statistics.median(values)
    spread = (max(values) - min(values)) / 2 / median * 100 if median else 0.0
    return {"median": median, "spread_percent": round(spread, 1)}


def summary(reports):
    """What a table shows of the rounds of one server in one row."""
    return {
        "requests_per_s": middle([r["requests"] / r["elapsed_ns"] * 1e9 for r in reports]),
        "bytes_per_s": middle([r["bytes"] / r["elapsed_ns"] * 1e9 for r in reports]),
        "server_cpu_us": middle([r["server_cpu_ns"] / r["requests"] / 1e3 for r in reports]),
        "client_cpu_us": middle([r["client_cpu_ns"] / r["requests"] / 1e3 for r in reports]),
        "p50_us": middle([r["latency_p50_ns"] / 1e3 for r in reports]),
        "p99_us": middle([r["latency_p99_ns"] / 1e3 for r in reports]),
        "p999_us": middle([r["latency_p999_ns"] / 1e3 for r in reports]),
        "max_us": middle([r["latency_max_ns"] / 1e3 for r in reports]),
    }
