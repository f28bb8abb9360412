"""Plain text for a person. Ratios are of medians in this run, never against older runs."""

NBDKIT = ("nbdkit", "nbdkit -t 1")
QEMU = ("qemu-nbd",)
FLOOR = ("floor",)

HEAD = (f"  {'server':<12} {'k req/s':>9} {'±%':>4} {'cpu µs/req':>11} {'±%':>4} {'p50 µs':>8} "
        f"{'p99 µs':>9}  {'cpu over: nbdkit':>16} {'qemu':>6} {'floor':>6}  "
        f"{'rate over: nbdkit':>17} {'qemu':>6}")

EXPLANATION = """\
cpu µs/req: processor time of the server process, all its threads, per request (median of the
rounds; ±% is half the range). "over" are ratios of such medians in this run: against the better of
the two nbdkits of the row, against qemu-nbd, and against a bare io_uring answerer without checks."""


def _median(result, key):
    return result["summary"][key]["median"]


def _best(servers, names, key, choose):
    values = [_median(servers[n], key) for n in names if n in servers]
    return choose(values) if values else None


def _ratio(value, reference, width):
    return f"{value / reference:>{width}.2f}" if reference else f"{'-':>{width}}"


def _load_line(name, result, servers):
    rate, cpu = result["summary"]["requests_per_s"], result["summary"]["server_cpu_us"]
    return (f"  {name:<12} {rate['median'] / 1000:>9.2f} {rate['spread_percent']:>4.0f} "
            f"{cpu['median']:>11.2f} {cpu['spread_percent']:>4.0f} "
            f"{_median(result, 'p50_us'):>8.1f} {_median(result, 'p99_us'):>9.1f}  "
            + _ratio(cpu["median"], _best(servers, NBDKIT, "server_cpu_us", min), 16) + " "
            + _ratio(cpu["median"], _best(servers, QEMU, "server_cpu_us", min), 6) + " "
            + _ratio(cpu["median"], _best(servers, FLOOR, "server_cpu_us", min), 6) + "  "
            + _ratio(rate["median"], _best(servers, NBDKIT, "requests_per_s", max), 17) + " "
            + _ratio(rate["median"], _best(servers, QEMU, "requests_per_s", max), 6))


def load_row(row):
    """One row of a load set: a line per server; * marks those a note is about."""
    servers = row["servers"]
    lines = [f"\n{row['medium']}: {row['row']}", HEAD]
    for name, result in servers.items():
        shown = name + "*" if name in row["noted"] else name
        lines.append(_load_line(shown, result, servers))
    return "\n".join(lines)


IDLE_HEAD = (f"\nidle connections, KiB each (server's memory with them less without)\n"
             f"  {'server':<12} {'open':>13} {'first':>6} {'RSS':>8} {'PSS':>8} {'page tables':>11} "
             f"{'threads':>8} {'RSS without':>12}")

IDLE_EXPLANATION = """\
first: what a connection did before it went idle (go: handshake only; read: one 4 KiB read, too).
RSS without: KiB of the whole server with no connection; what it took beforehand shows only there.
Not in RSS or PSS: page tables (own column), kernel memory of sockets and of threads (a kernel stack
of 16 KiB each, at least) and of armed ring operations."""


def idle_row(row):
    each = row["each_kib"]
    cells = [f"{each[k]:>{w}.2f}" if each.get(k) is not None else f"{'-':>{w}}"
             for k, w in (("rss", 8), ("pss", 8), ("page_tables", 11), ("threads", 8))]
    count = f"{row['opened']}" if row["opened"] == row["wanted"] else \
        f"{row['opened']}/{row['wanted']}"
    line = f"  {row['server']:<12} {count:>13} {'read' if row['read_first'] else 'go':>6} " + \
        " ".join(cells) + f" {row['before_kib']['rss']:>12}"
    if row["opened"] < row["wanted"]:
        line += f"\n    {row['server']} took no more: {row['complaint'].splitlines()[0]}" \
            if row["complaint"] else ""
    return line


FILTERS_HEAD = (f"  {'stack':<18} {'cpu µs/req':>11} {'±%':>4} {'k req/s':>9} "
                f"{'over 0 filters':>15} {'ns added':>9}")

FILTERS_EXPLANATION = """\
cpu µs/req: processor time of the server per request, median of the rounds (±%: half the range).
over 0 filters, ns added: medians over pairs of runs, the stack's and one of 0 filters right beside
it; how far "0 filters again" is from 1 says how far to trust them."""


def _filters_line(name, result, compared):
    cpu, rate = result["summary"]["server_cpu_us"], result["summary"]["requests_per_s"]
    line = (f"  {name:<18} {cpu['median']:>11.3f} {cpu['spread_percent']:>4.0f} "
            f"{rate['median'] / 1000:>9.2f}")
    return f"{line} {compared['ratio']:>15.3f} {compared['added_ns']:>9.0f}" if compared else line


def filters_row(row):
    """The set filters: a line per stack, and whether the bar is kept."""
    compared = {each["stack"]: each for each in row["compared"]}
    lines = [f"\nfilters over memory: {row['row']}", FILTERS_HEAD]
    lines += [_filters_line(name, result, compared.get(name))
              for name, result in row["servers"].items()]
    lines.append(FILTERS_EXPLANATION)
    if row["judged"] in compared:
        ratio = compared[row["judged"]]["ratio"]
        lines.append(f"{row['judged']}: {ratio:.3f} of 0 filters; the bar is {row['bar']:.2f}: "
                     + ("kept" if ratio <= row["bar"] else "MISSED"))
    return "\n".join(lines)


def noise(sets):
    """How much of the machine others had; a reader must know before believing a figure."""
    shares = sorted(report["others_cpu_share"] for part in sets.values() for row in part["rows"]
                    for result in row.get("servers", {}).values() for report in result["rounds"])
    if not shares:
        return ""
    text = (f"Other processes had {100 * shares[len(shares) // 2]:.0f} % of the processors in the "
            f"median run, {100 * shares[-1]:.0f} % in the worst.")
    if shares[-1] > 0.15:
        text += " Repeat on a quiet machine before quoting a figure."
    return text
