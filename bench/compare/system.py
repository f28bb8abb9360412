"""What the machine says: processor time, memory of a process, who else is busy, versions.

Reads /proc and nothing else; no figure here is computed from what a server claims.
"""

import os
import platform
import resource
import subprocess

TICKS = os.sysconf("SC_CLK_TCK")


def raise_file_limit():
    """As many open files as this user may have; the servers inherit it."""
    for hard in (1 << 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def process_cpu(pid):
    """Seconds of user and system time of all threads of a process, also those that are gone.

    io_uring's kernel workers are threads of the process and counted with it.
    """
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy_cpu():
    """Seconds all processors together were not idle, stolen time included."""
    with open("/proc/stat") as f:
        fields = [int(field) for field in f.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS


def _kib(path, names):
    found = {}
    with open(path) as f:
        for line in f:
            name, _, rest = line.partition(":")
            if name in names and rest.split():
                found[names[name]] = int(rest.split()[0])
    return found


def process_memory(pid):
    """KiB of a process, and its threads. Kernel memory of sockets and threads is not in it."""
    memory = _kib(f"/proc/{pid}/smaps_rollup", {"Rss": "rss", "Pss": "pss"})
    memory.update(_kib(f"/proc/{pid}/status", {"VmPTE": "page_tables", "Threads": "threads"}))
    return memory


def file_system(path):
    """The type of the file system a folder is on, as the kernel names it."""
    path = os.path.realpath(path)
    best = ("", "unknown")
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ", 1)
            mount = left.split()[4]
            if os.path.commonpath((path, mount)) == mount:
                best = max(best, (mount, right.split()[0]), key=lambda found: len(found[0]))
    return best[1]


def first_line(argv):
    """The first line a command prints; empty if it cannot be run."""
    try:
        out = subprocess.run(argv, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (out.stdout or out.stderr).strip().splitlines()
    return lines[0] if out.returncode == 0 and lines else ""


def describe(root):
    model = ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "kernel": platform.release(),
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "load_at_start": os.getloadavg()[0],
        "source": first_line(["git", "-C", root, "describe", "--always", "--dirty"]),
    }
