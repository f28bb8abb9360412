"""Plain text for a person. Ratios are of medians in this run, never against older runs."""

from compare.bars import FIGURES as BAR_FIGURES
from compare.bars import NBDKIT, QEMU

FLOOR = ("floor",)

HEAD = (f"  {'server':<20} {'k req/s':>9} {'±%':>4} {'cpu µs/req':>11} {'±%':>4} {'p50 µs':>8} "
        f"{'p99 µs':>9}  {'cpu over: nbdkit':>16} {'qemu':>6} {'floor':>6}  "
        f"{'rate over: nbdkit':>17} {'qemu':>6}")

EXPLANATION = """\
cpu µs/req: processor time of the server process, all its threads, per request (median of the
rounds; ±% is half the range). "over" are ratios of such medians in this run: against the better of
the two nbdkits of the row, qemu-nbd, and a bare io_uring answerer without checks."""


def _median(result, key):
    return result["summary"][key]["median"]


def _best(servers, names, key, choose):
    values = [_median(servers[n], key) for n in names if n in servers]
    return choose(values) if values else None


def _ratio(value, reference, width):
    return f"{value / reference:>{width}.2f}" if reference else f"{'-':>{width}}"


def _load_line(name, result, servers):
    rate, cpu = result["summary"]["requests_per_s"], result["summary"]["server_cpu_us"]
    return (f"  {name:<20} {rate['median'] / 1000:>9.2f} {rate['spread_percent']:>4.0f} "
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
        if "flush_p50_us" in result["summary"]:
            lines.append(f"  {'':<20} {_median(result, 'flushes_per_s') / 1000:>9.2f} k flushes/s, "
                         f"p50 {_median(result, 'flush_p50_us'):.0f} µs, "
                         f"p99 {_median(result, 'flush_p99_us'):.0f} µs")
    return "\n".join(lines)


TOOL_HEAD = (f"  {'server':<20} {'wall s':>9} {'±%':>4} {'server cpu s':>13} {'client cpu s':>13} "
             f"{'RSS MiB':>8}  "
             f"{'wall over: nbdkit':>17} {'qemu':>6}")


def _index_text(result):
    found = result["summary"].get("index_percent")
    return f"  index: {found['median']:.2f} % of the file" if found else ""


def tool_row(row):
    """One row of a tool that goes through a whole image."""
    servers = row["servers"]
    lines = [f"\n{row['medium']}: {row['row']}", TOOL_HEAD]
    for name, result in servers.items():
        wall = result["summary"]["wall_s"]
        lines.append(
            f"  {name + '*' if name in row['noted'] else name:<20} {wall['median']:>9.3f} "
            f"{wall['spread_percent']:>4.0f} {_median(result, 'server_cpu_s'):>13.3f} "
            f"{_median(result, 'client_cpu_s'):>13.3f} {_median(result, 'rss_mib'):>8.0f}  "
            + _ratio(wall["median"], _best(servers, NBDKIT, "wall_s", min), 17) + " "
            + _ratio(wall["median"], _best(servers, QEMU, "wall_s", min), 6)
            + _index_text(result))
    return "\n".join(lines)


def limit_text(bar):
    """A bar's limit as people write it."""
    limit, small = bar["limit"], {round(1 / n, 6): f"1/{n}" for n in (2, 3, 4, 5, 9)}
    return ("≥ " if bar["at_least"] else "≤ ") + small.get(round(limit, 6), f"{limit:g}")


def bars(judged):
    """What the server is held to, and how it did."""
    lines = [f"\n{'bar':<50} {'figure':<16} {'against':<23} {'limit':>7} {'measured':>9} {'±%':>4}"]
    for bar in judged:
        worst = f", worst of {bar['rows']}: {bar['row']}" if bar["rows"] > 1 else ""
        lines.append(f"{bar['work']:<50} {BAR_FIGURES[bar['figure']]:<16} {bar['against']:<23} "
                     f"{limit_text(bar):>7} {bar['ratio']:>9.2f} {bar['spread_percent']:>4.0f}  "
                     + ("kept" if bar["kept"] else "MISSED") + worst)
    kept = sum(bar["kept"] for bar in judged)
    return "\n".join(lines + [f"{kept} of {len(judged)} bars kept"])


IDLE_HEAD = (f"\nidle connections, KiB each (server's memory with them less without)\n"
             f"  {'server':<20} {'open':>13} {'first':>6} {'RSS':>8} {'PSS':>8} "
             f"{'page tables':>11} {'threads':>8} {'RSS without':>12}")

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
    line = f"  {row['server']:<20} {count:>13} {'read' if row['read_first'] else 'go':>6} " + \
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
