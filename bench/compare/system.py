"""What the machine says: processor time, memory of a process, who else is busy, versions.

Reads /proc and nothing else; no figure here is computed from what a server claims.
"""

import contextlib
import ctypes
import glob
import os
import platform
import resource
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None)


def raise_file_limit():
    """As many open files as this user may have; the servers inherit it."""
    for hard in (1 << 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def adopt_orphans():
    """Daemons that this process starts become its children, so that it can wait for them."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _stat(pid):
    """The fields of /proc/PID/stat behind the name: state, ppid, ..."""
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()


def alive(pid):
    """Whether there is such a process that still runs; one that only waits to be reaped does
    not."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def process_cpu_ns(pid):
    """User and system time of a process, all its threads, and of children that have ended.

    io_uring's kernel workers are threads of the process and counted with it. What children
    used is known in ticks of 10 ms only.
    """
    clock = ctypes.c_int()
    if libc.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(f"process {pid} is gone")
    children = sum(int(field) for field in _stat(pid)[13:15])
    return time.clock_gettime_ns(clock.value) + children * 10**9 // TICKS


def descendants(pid):
    """The processes below this one, as they are now."""
    found, rest = [], [pid]
    while rest:
        for path in glob.glob(f"/proc/{rest.pop()}/task/*/children"):
            with contextlib.suppress(OSError), open(path) as f:
                children = [int(word) for word in f.read().split()]
                found += children
                rest += children
    return found


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
    """KiB of a process, and its threads; of its children, too, if it has any.

    Kernel memory of sockets and threads is not in it. Processes that share pages have them in
    the RSS of each: see PSS.
    """
    memory = {"rss": 0, "pss": 0, "page_tables": 0, "threads": 0}
    for each in [pid] + descendants(pid):
        found = _kib(f"/proc/{each}/smaps_rollup", {"Rss": "rss", "Pss": "pss"})
        found.update(_kib(f"/proc/{each}/status", {"VmPTE": "page_tables", "Threads": "threads"}))
        for key, value in found.items():
            memory[key] += value
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
