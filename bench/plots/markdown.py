"""The figures as Markdown tables, for docs/benchmarks.md: a line per row, a column per server."""

from compare import table
from compare.bars import FIGURES
from plots import charts

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def _cell(result):
    if not result:
        return ""
    summary = result["summary"]
    if "wall_s" in summary:
        return f"{summary['wall_s']['median']:.2f} s"
    cpu, rate = summary["server_cpu_us"]["median"], summary["requests_per_s"]["median"] / 1e3
    return f"{cpu:.2f} / {rate:.3g}" if rate < 1000 else f"{cpu:.2f} / {rate:.0f}"


def _lines(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + \
        ["| " + " | ".join(row) + " |" for row in rows]


def _servers_table(rows):
    servers = charts.servers_of(rows)
    return _lines(["", *servers], [[f"{row['medium']}: {row['row']}"]
                                   + [_cell(row["servers"].get(name)) for name in servers]
                                   for row in rows])


def _idle_table(rows):
    return _lines(["", "connections", "before that", "RSS each", "PSS each"],
                  [[row["server"], f"{row['opened']:,}", "a read" if row["read_first"]
                    else "handshake", *(f"{row['each_kib'][k]:.2f} KiB" for k in ("rss", "pss"))]
                   for row in rows if row["opened"]])


def _filters_table(rows):
    return _lines(["stack", "CPU over no filter", "ns added"],
                  [[c["stack"], f"{c['ratio']:.3f}", f"{c['added_ns']:.0f}"]
                   for row in rows for c in row["compared"]])


def _bars(judged):
    return _lines(["work", "figure", "against", "bar", "measured", ""],
                  [[bar["work"], FIGURES[bar["figure"]], bar["against"], table.limit_text(bar),
                    f"{bar['ratio']:.2f}", "kept" if bar["kept"] else "missed"] for bar in judged])


def render(document, headings):
    """All tables; `headings` gives each set its name."""
    machine = document["machine"]
    parts = [f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, files on "
             f"{document['file_system']}; {document['rounds']} rounds of {document['seconds']:g} s; "
             f"`{' '.join(document['command'])}`, nbdring {machine['source']}. "
             + ", ".join(v for v in document["servers"].values() if v) + ".",
             "", table.noise(document["sets"]), "", "### Bars", "", *_bars(document["bars"])]
    makers = {"idle": _idle_table, "filters": _filters_table}
    for name, heading in headings.items():
        rows = document["sets"].get(name, {"rows": []})["rows"]
        if rows:
            parts += ["", f"### {heading}", ""] + makers.get(name, _servers_table)(rows)
    return "\n".join(parts) + "\n"


def replace(text, figures):
    """The text with new figures between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"there is no {BEGIN} ... {END} in it")
    return f"{before}{BEGIN}\n{figures}{END}{after}"
