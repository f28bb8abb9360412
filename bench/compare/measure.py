"""Filling disks, and medians over rounds."""

import statistics

from compare import clients, disks


def fill(nbdload, server):
    """The server's own memory: data where the disk has data, through the server itself."""
    disk, size = server.disk, server.size
    if disk.content == "holes":
        return
    block, count, apart = 1 << 20, size >> 20, []
    if disk.content == "spread":
        block, count = disk.stretch, disk.stretches
        apart = ["--stride", str(disks.stride(disk, size))]
    nbdload.run_with(server, ["--rw", "write", "--block-size", str(block), "--depth", "4",
                              "--requests", str(count)] + apart, 300)


def middle(values):
    """Median, and half the range in percent of it."""
    median = statistics.median(values)
    spread = (max(values) - min(values)) / 2 / median * 100 if median else 0.0
    return {"median": median, "spread_percent": round(spread, 1)}


# name -> of one round's report
FIGURES = {
    "requests_per_s": lambda r: r["requests"] / r["elapsed_ns"] * 1e9,
    "bytes_per_s": lambda r: r["bytes"] / r["elapsed_ns"] * 1e9,
    "server_cpu_us": lambda r: r["server_cpu_ns"] / r["requests"] / 1e3,
    "client_cpu_us": lambda r: r["client_cpu_ns"] / r["requests"] / 1e3,
    "p50_us": lambda r: r["latency_p50_ns"] / 1e3,
    "p99_us": lambda r: r["latency_p99_ns"] / 1e3,
    "p999_us": lambda r: r["latency_p999_ns"] / 1e3,
    "max_us": lambda r: r["latency_max_ns"] / 1e3,
}
FLUSH_FIGURES = {
    "flushes_per_s": lambda r: r["flushes"] / r["elapsed_ns"] * 1e9,
    "flush_p50_us": lambda r: r["flush_p50_ns"] / 1e3,
    "flush_p99_us": lambda r: r["flush_p99_ns"] / 1e3,
}
TOOL_FIGURES = {
    "wall_s": lambda r: r["wall_ns"] / 1e9,
    "server_cpu_s": lambda r: r["server_cpu_ns"] / 1e9,
    "client_cpu_s": lambda r: r["client_cpu_ns"] / 1e9,
    "rss_mib": lambda r: r["rss_kib"] / 1024,
}
INDEX_FIGURES = {"index_percent": lambda r: 100 * r["index_bytes"] / r["file_bytes"]}


def summary(reports, figures):
    """What a table shows of the rounds of one server in one row."""
    return {name: middle([figure(r) for r in reports]) for name, figure in figures.items()}


def collect(reports):
    """The rounds of a load, and their histograms as one."""
    histogram = clients.merge([report.pop("histogram_ns") for report in reports])
    figures = dict(FIGURES)
    if all("flushes" in report for report in reports):
        figures.update(FLUSH_FIGURES)
    return {"summary": summary(reports, figures), "rounds": reports, "histogram_ns": histogram}


def collect_tool(reports):
    figures = dict(TOOL_FIGURES)
    if all("index_bytes" in report for report in reports):
        figures.update(INDEX_FIGURES)
    return {"summary": summary(reports, figures), "rounds": reports}
