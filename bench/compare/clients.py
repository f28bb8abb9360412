"""The clients: nbdload, fio (through NBD, and on the file itself), and tools that copy or map.

Each runs once against one server and returns a report; what the machine says is added to all
of them alike: the server's processor time and the share that other processes had.
"""

import json
import os
import resource
import select
import shutil
import subprocess
import time

from compare import disks, system
from compare.servers import Failed

UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def to_bytes(text):
    return int(text[:-1]) << UNITS[text[-1]] if text[-1] in UNITS else int(text)


class Client:
    """What all of them have in common: where they run, and watching the machine meanwhile."""

    def __init__(self, path, cpus=None):
        self.path = path
        self.cpus = cpus

    def start(self, argv, **pipes):
        pin = (lambda: os.sched_setaffinity(0, self.cpus)) if self.cpus else None
        return subprocess.Popen(argv, text=True, preexec_fn=pin, **pipes)

    def run(self, server, argv, limit):
        """(standard output, {wall, processor times, share of others}); Failed if it failed."""
        server_cpu = system.process_cpu_ns(server.pid) if server.pid else 0
        busy, began, cpu = system.busy_cpu(), time.monotonic_ns(), _children_cpu_ns()
        process = self.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        try:
            out, complaint = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"{server.name}: {argv[0]} did not end in {limit:.0f} s") from None
        wall = time.monotonic_ns() - began
        if process.returncode != 0:
            last = complaint.strip().splitlines()[-1:] or ["answers were errors or wrong"]
            raise Failed(f"{server.name}: {os.path.basename(argv[0])}: {last[0]}"
                         + (f" (server's last line: {server.last_words()})" if server.pid else ""))
        client = _children_cpu_ns() - cpu
        if server.pid:
            _wait_for_children(server.pid)
            server_cpu = system.process_cpu_ns(server.pid) - server_cpu
        others = ((system.busy_cpu() - busy) * 1e9 - client - server_cpu) / (wall * os.cpu_count())
        return out, {"wall_ns": wall, "client_cpu_ns": client, "server_cpu_ns": server_cpu,
                     "others_cpu_share": round(min(1.0, max(0.0, others)), 4)}


def _children_cpu_ns():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def _wait_for_children(pid):
    """A server that forks gets the time of a child when it has ended, just after its client."""
    until = time.monotonic() + 1
    while system.descendants(pid) and time.monotonic() < until:
        time.sleep(0.005)


class Nbdload(Client):
    """The project's own load generator, batching and cheap."""

    def load(self, server, row, seconds):
        return self.run_with(server, self._arguments(server, row) + ["--seconds", str(seconds)],
                             seconds + 60)

    def _arguments(self, server, row):
        arguments = ["--rw", row.rw, "--block-size", row.block, "--depth", str(row.depth),
                     "--connections", str(row.connections),
                     "--read-percent", str(row.read_percent)]
        if server.disk.content == "spread":
            arguments += ["--stride", str(disks.stride(server.disk, server.size))]
        if row.fua:
            arguments.append("--fua")
        if row.reconnect:
            arguments.append("--reconnect")
        if row.flush_every:
            arguments += ["--flush-every", str(row.flush_every)]
        return arguments

    def run_with(self, server, arguments, limit):
        out, machine = self.run(server, [self.path, "--json", "--cpu-of", str(server.pid)]
                                + self._export(server) + arguments + [server.socket], limit)
        # nbdload's own figures are of the load alone, without start and handshakes.
        return {**machine, **json.loads(out)}

    @staticmethod
    def _export(server):
        exports = server.disk.exports
        return ((["--tls"] if server.disk.tls else [])
                + ["--export", server.peer.export(server.disk)]
                + (["--exports", str(exports)] if exports else []))

    def first_read(self, server):
        """As a tool's report: from the client's start to its end."""
        argv = [self.path, *self._export(server), "--rw", "randread", "--block-size", "64K",
                "--requests", "1", server.socket]
        report = self.run(server, argv, 600)[1]
        return {**report, "rss_kib": system.process_memory(server.pid)["rss"]}

    def hold_idle(self, server, count, warm):
        """Opens idle connections; returns (process, how many, why not more)."""
        arguments = ["--idle", str(count)] + (["--idle-warm"] if warm else [])
        process = self.start([self.path] + self._export(server) + arguments + [server.socket],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if not select.select([process.stdout], [], [], 300)[0]:
            process.kill()
            process.wait()
            raise Failed(f"{server.name}: {count} connections were not open after 300 s")
        words = process.stdout.readline().split()
        if words[:1] != ["ready"]:
            raise Failed(f"{server.name}: {process.communicate()[1].strip()}")
        return process, int(words[1])


class Fio(Client):
    """fio, with its engine for NBD, or with io_uring on the file itself."""

    def load(self, server, row, seconds):
        out, machine = self.run(server, self._arguments(server, row, seconds), seconds + 60)
        return {**machine, **fio_report(_json_in(out), server.peer.storage)}

    def _arguments(self, server, row, seconds):
        argv = [self.path, "--name=row", f"--rw={row.rw}", f"--bs={to_bytes(row.block)}",
                f"--rwmixread={row.read_percent}", f"--iodepth={row.depth}",
                f"--size={server.size}", "--time_based", f"--runtime={int(seconds * 1000)}ms",
                "--output-format=json+", "--lat_percentiles=1", "--clat_percentiles=0",
                "--random_generator=tausworthe64", "--norandommap", "--thread",
                "--group_reporting", f"--numjobs={row.connections}"]
        if not server.peer.storage:
            return argv + ["--ioengine=nbd", f"--uri={server.uri}"]
        direct = 0 if server.disk.medium == "cached" else 1
        # Otherwise fio throws the file out of the page cache before it begins.
        return (argv + ["--ioengine=io_uring", f"--filename={server.path}", f"--direct={direct}",
                        "--invalidate=0"]
                + (["--sync=dsync"] if row.fua else []))


def _json_in(out):
    """The object that fio prints, whatever its engine says before."""
    try:
        return json.JSONDecoder().raw_decode(out[out.index("{\n"):])[0]
    except (ValueError, IndexError):
        raise Failed(f"fio printed no JSON: {out[:200]!r}") from None


def fio_report(document, storage):
    """fio's figures by the names of nbdload's. `storage`: there is no server; what fio itself
    used is what the requests cost."""
    job = document["jobs"][0]
    parts = [job[kind] for kind in ("read", "write") if job[kind]["total_ios"]]
    if job["error"] or not parts:
        raise Failed(f"fio ended with error {job['error']}")
    histogram = merge([_bins(part["lat_ns"]) for part in parts])
    cpu = int((job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1e6)
    report = {"requests": sum(part["total_ios"] for part in parts),
              "bytes": sum(part["io_bytes"] for part in parts),
              "elapsed_ns": max(part["runtime"] for part in parts) * 10**6,
              "client_cpu_ns": cpu, "histogram_ns": histogram,
              "latency_max_ns": max(part["lat_ns"]["max"] for part in parts)}
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        report[f"latency_{name}_ns"] = percentile(histogram, share)
    return {**report, "client_cpu_ns": 0, "server_cpu_ns": cpu} if storage else report


def _bins(latency):
    return [(int(low), count) for low, count in latency.get("bins", {}).items()]


def merge(histograms):
    """Several lists of (value, count) as one, in order of the values."""
    merged = {}
    for histogram in histograms:
        for value, count in histogram:
            merged[value] = merged.get(value, 0) + count
    return sorted(merged.items())


def percentile(histogram, share):
    """The value that this share of all does not exceed."""
    wanted = share * sum(count for _, count in histogram)
    seen = 0
    for value, count in histogram:
        seen += count
        if seen >= wanted:
            return value
    return 0


# name -> what is run; {uri}, {size} in bytes. All of them read the whole image and keep nothing.
TOOLS = {
    "nbdcopy": ["nbdcopy", "{uri}", "null:"],
    "qemu-img convert": ["qemu-img", "convert", "-n", "--target-is-zero", "--target-image-opts",
                         "-f", "raw", "{uri}", "driver=raw,file.driver=null-co,file.size={size}"],
    "qemu-img map": ["qemu-img", "map", "-f", "raw", "--output=json", "{uri}"],
    "nbdinfo --map": ["nbdinfo", "--map", "{uri}"],
}
FIRST_READ = "first read"  # 64 KiB somewhere in the image, by nbdload, from a server just started


class Tool(Client):
    """A program that does one thing with the whole image; what counts is how long it takes."""

    def once(self, name, server, limit=300):
        """Its report, with the server's memory at the end."""
        argv = [word.format(uri=server.uri, size=server.size) for word in TOOLS[name]]
        report = self.run(server, argv, limit)[1]
        return {**report, "rss_kib": system.process_memory(server.pid)["rss"]}


def fio_has_nbd(path):
    return "nbd" in subprocess.run([path, "--enghelp"], capture_output=True, text=True,
                                   check=False).stdout.split()


class Clients:
    """All that are there, by name; and a sentence for each that is not."""

    def __init__(self, nbdload, cpus, server_cpus):
        self.nbdload = Nbdload(nbdload, cpus)
        self.loads = {"nbdload": self.nbdload}
        self.tool = Tool(None, cpus)
        self.tools, self.missing = [FIRST_READ], []
        fio = shutil.which("fio")
        # Without NBD there is nothing else for the server's processor to do.
        self.storage = Fio(fio, server_cpus)
        if fio and fio_has_nbd(fio):
            self.loads["fio"] = Fio(fio, cpus)
        else:
            self.missing.append("not found: fio with an engine for NBD")
        for name, argv in TOOLS.items():
            if shutil.which(argv[0]):
                self.tools.append(name)
            else:
                self.missing.append(f"not found: {argv[0]}")

    def load(self, server, row, seconds):
        client = self.storage if server.peer.storage else self.loads[row.client]
        return client.load(server, row, seconds)

    def versions(self):
        programs = {"fio": ["fio", "--version"], "nbdcopy": ["nbdcopy", "--version"],
                    "qemu-img": ["qemu-img", "--version"], "nbdinfo": ["nbdinfo", "--version"]}
        return {name: system.first_line(argv) for name, argv in programs.items()
                if shutil.which(argv[0])}
