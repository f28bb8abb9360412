"""The page: what was measured where, the bars, plots and tables of each set."""

from html import escape

from compare import table
from compare.bars import FIGURES, MORE_IS_BETTER
from plots import charts, style, svg

# set -> (heading, what it is about, its plots)
SECTIONS = {
    "memory": ("Memory", "4 KiB requests on the server's own memory: what the protocol and the "
               "way of a request through the server cost.", charts.depth),
    "cached": ("Page-cached file", "The same on a file that is in the page cache.", charts.depth),
    "direct": ("Around the page cache", "O_DIRECT on a file, and on a loop device over a file.",
               charts.direct),
    "large": ("Large requests", "128 KiB and 1 MiB, one after the other.", charts.large),
    "durable": ("FUA and flush", "Writes that are waited for until they are on the disk, as a "
                "database does.", charts.durable),
    "sparse": ("Sparse images", "Reads of holes, and asking where they are.", charts.sparse),
    "copy": ("Copying an image", "The whole image, read by a tool that throws it away.",
             charts.tools),
    "latency": ("Latency at depth 1", "One request at a time: sleeping and waking decide.",
                charts.latency),
    "fio": ("fio's engine for NBD", "A client that users trust. It costs more than nbdload, so "
            "servers differ less.", charts.fio),
    "cow": ("Writes into an overlay", "The filter cow over a cached file, its overlay in a file "
            "without a name; and the file without it.", charts.direct),
    "readahead": ("A slow disk, read in order", "One request at a time to a disk that answers "
                  "after 5 ms, with and without filters that read ahead.", charts.direct),
    "map": ("A disk that is slow to tell where its holes are", "Tools that ask for the allocation "
            "map, of a disk that answers such questions after 5 ms, with and without the filter "
            "cacheextents.", charts.tools),
    "proxy": ("Through another server", "The backend nbd in front of a server whose disk is in "
              "memory, and the same from memory.", charts.direct),
    "compose": ("Disks made of others", "A mirror of two disks in memory and one of them; a stripe "
                "of four slow disks and one of them.", charts.direct),
    "archives": ("Compressed disks", "Served in place: all of them in order, random reads of a "
                 "gzip file and the first one after a start, and a disk in a tar.",
                 charts.archives),
    "tls": ("TLS", "Version 1.3 with AES-128-GCM. The client's encryption is in threads of its own, "
            "so its rates say less than the server's processor time.", charts.direct),
    "connections": ("Busy connections", "The same load on one to a thousand connections.",
                    charts.connections),
    "exports": ("Exports", "A thousand connections on one to a thousand files of one server.",
                charts.exports),
    "sizes": ("Image size", "4096 blocks of data, spread evenly over the image.", charts.sizes),
    "idle": ("Idle connections", "Memory that a connection holds while nothing happens.",
             charts.idle),
    "filters": ("Filters", "What each filter of nbdring adds to a request.", charts.filters),
}


def legend(servers):
    """One entry per server; what is no server says so."""
    items = []
    for name in servers:
        look = style.look(name)
        more = " (limit, no server)" if name in style.LIMITS else ""
        items.append(f"<span>{svg.sample(look.css, look.shape)}{escape(name)}{more}</span>")
    return f'<div class="legend">{"".join(items)}</div>' if items else ""


def figures(made):
    body = "".join(f"<figure><figcaption>{escape(f.caption)}<small>{escape(f.small)}</small>"
                   f"</figcaption>{f.svg}</figure>" for f in made)
    # Pairs and threes stand side by side.
    columns = "" if len(made) % 3 == 0 else " two"
    return f'<div class="charts{columns}">{body}</div>' if made else ""


# --- Tables -------------------------------------------------------------------

LOAD_COLUMNS = [("k req/s", "requests_per_s", 1e-3, 2), ("MiB/s", "bytes_per_s", 2 ** -20, 0),
                ("CPU µs/req", "server_cpu_us", 1, 2), ("client µs/req", "client_cpu_us", 1, 2),
                ("p50 µs", "p50_us", 1, 1), ("p99 µs", "p99_us", 1, 1),
                ("p99.9 µs", "p999_us", 1, 1), ("flush p50 µs", "flush_p50_us", 1, 0),
                ("flush p99 µs", "flush_p99_us", 1, 0)]
TOOL_COLUMNS = [("wall s", "wall_s", 1, 3), ("server CPU s", "server_cpu_s", 1, 3),
                ("client CPU s", "client_cpu_s", 1, 3), ("RSS MiB", "rss_mib", 1, 0),
                ("index, % of the file", "index_percent", 1, 2)]
SPREAD_OF = ("requests_per_s", "server_cpu_us", "wall_s")


def _best(row, key):
    """The best figure among servers; limits are none."""
    values = [result["summary"][key]["median"] for name, result in row["servers"].items()
              if name not in style.LIMITS and key in result["summary"]]
    if not values or key.startswith("client_"):
        return None
    return (max if key in (*MORE_IS_BETTER, "flushes_per_s") else min)(values)


def _cell(row, result, key, scale, digits):
    found = result["summary"].get(key)
    if not found:
        return "<td>–</td>"
    text = f"{found['median'] * scale:,.{digits}f}"
    if found["median"] == _best(row, key):
        text = f"<b>{text}</b>"
    if key in SPREAD_OF:
        text += f" <small>±{found['spread_percent']:.0f} %</small>"
    return f"<td>{text}</td>"


def _name_cell(name):
    return f'<td><span class="dot {style.look(name).css}"></span>{escape(name)}</td>'


def rows_table(rows, columns):
    columns = [c for c in columns if any(c[1] in result["summary"] for row in rows
                                         for result in row["servers"].values())]
    head = "".join(f"<th>{escape(c[0])}</th>" for c in columns)
    parts = [f"<thead><tr><th>server</th>{head}</tr></thead><tbody>"]
    for row in rows:
        parts.append(f'<tr class="row"><th colspan="{len(columns) + 1}">{escape(row["medium"])}: '
                     f'{escape(row["row"])}</th></tr>')
        for name, result in row["servers"].items():
            ours = ' class="ours"' if name == "nbdring" else ""
            cells = "".join(_cell(row, result, *c[1:]) for c in columns)
            parts.append(f"<tr{ours}>{_name_cell(name)}{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(parts)}</tbody></table></div>'


def idle_table(rows):
    head = "".join(f"<th>{name}</th>" for name in ("connections", "before that", "RSS KiB each",
                                                   "PSS KiB each", "page tables KiB each",
                                                   "threads each", "RSS KiB without"))
    body = []
    for row in rows:
        each = [f"{row['each_kib'][k]:.2f}" if row["each_kib"].get(k) is not None else "–"
                for k in ("rss", "pss", "page_tables", "threads")]
        opened = f"{row['opened']:,}" + (f" of {row['wanted']:,}"
                                         if row["opened"] < row["wanted"] else "")
        cells = [opened, "a read" if row["read_first"] else "handshake", *each,
                 f"{row['before_kib']['rss']:,}"]
        body.append(f"<tr>{_name_cell(row['server'])}"
                    + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (f'<div class="scroll"><table><thead><tr><th>server</th>{head}</tr></thead><tbody>'
            f'{"".join(body)}</tbody></table></div>')


def filters_table(rows):
    body = "".join(f"<tr><td>{escape(c['stack'])}</td><td>{c['ratio']:.3f}</td>"
                   f"<td>{c['added_ns']:.0f}</td></tr>" for row in rows for c in row["compared"])
    names = ", ".join(escape(row["row"]) for row in rows)
    return (f'<p>{names}</p><div class="scroll"><table><thead><tr><th>stack</th>'
            f"<th>CPU over no filter</th><th>ns added</th></tr></thead><tbody>{body}</tbody>"
            "</table></div>")


def tables(rows):
    by_kind = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row)
    makers = {"load": lambda r: rows_table(r, LOAD_COLUMNS),
              "tool": lambda r: rows_table(r, TOOL_COLUMNS),
              "idle": idle_table, "filters": filters_table}
    return "".join(makers[kind](each) for kind, each in by_kind.items())


def section(name, part):
    heading, about, make = SECTIONS[name]
    made = make(part["rows"])
    servers = charts.servers_of([{"servers": dict.fromkeys(f.servers)} for f in made])
    notes = "".join(f"<p>{escape(note[0].upper() + note[1:])}.</p>" for note in part["notes"])
    return (f'<section id="{name}"><h2>{heading}</h2><p>{about} Repeat: '
            f"<code>bench/run {name}</code></p>{legend(servers)}{figures(made)}"
            f"<details><summary>All figures of this set</summary>{tables(part['rows'])}{notes}"
            "</details></section>")


# --- The top ------------------------------------------------------------------


def bars_section(judged):
    if not judged:
        return ""
    body = []
    for bar in judged:
        worst = f"<br><small>worst of {bar['rows']}: {escape(bar['row'])}</small>" \
            if bar["rows"] > 1 else ""
        pill = '<span class="pill good">kept</span>' if bar["kept"] else \
            '<span class="pill bad">missed</span>'
        body.append(
            f"<tr><td>{escape(bar['work'])}{worst}</td>"
            f'<td class="left">{FIGURES[bar["figure"]]}</td>'
            f'<td class="left">{escape(bar["against"])}</td>'
            f"<td>{svg.short(bar['value'])}</td><td>{svg.short(bar['reference'])}</td>"
            f"<td>{escape(table.limit_text(bar))}</td><td><b>{bar['ratio']:.2f}</b> "
            f"<small>±{bar['spread_percent']:.0f} %</small></td>"
            f"<td>{svg.gauge(bar['ratio'], bar['limit'], bar['at_least'])}</td>"
            f'<td class="left">{pill}</td></tr>')
    return (
        '<section id="bars"><h2>Bars</h2><p>What nbdring is held to: ratios of medians within '
        "this run, against the best of those named. In the small plots the line is the bar; left "
        "of it is better.</p><div class=\"scroll\"><table><thead><tr><th>work</th>"
        '<th class="left">figure</th><th class="left">against</th><th>nbdring</th><th>theirs</th>'
        '<th>bar</th><th>measured</th><th></th><th class="left"></th></tr></thead><tbody>'
        f'{"".join(body)}</tbody></table></div></section>')


def _tile(big, text):
    return f'<div class="tile"><b>{escape(big)}</b><span>{escape(text)}</span></div>'


def tiles(document):
    """A few figures that say most."""
    judged, made = document["bars"], []
    if judged:
        made.append(_tile(f"{sum(b['kept'] for b in judged)} of {len(judged)}", "bars kept"))
    for row in document["sets"].get("memory", {"rows": []})["rows"]:
        ours = row["servers"].get("nbdring")
        if ours and (row["rw"], row["depth"], row["connections"]) == ("randread", 32, 1):
            summary = ours["summary"]
            made.append(_tile(f"{summary['server_cpu_us']['median']:.2f} µs",
                              "server CPU per 4 KiB read from memory, depth 32"))
            made.append(_tile(f"{summary['requests_per_s']['median'] / 1e3:,.0f} k/s",
                              "4 KiB reads from memory, depth 32, one connection"))
    for row in document["sets"].get("idle", {"rows": []})["rows"]:
        if row["server"] == "nbdring" and not row["read_first"]:
            made.append(_tile(f"{row['each_kib']['rss']:.2f} KiB",
                              f"an idle connection, {row['wanted']:,} of them"))
    return f'<div class="tiles">{"".join(made)}</div>' if made else ""


def warnings(document):
    made = []
    if document.get("quick") or document["seconds"] < 0.5:
        made.append(f"A quick run: {charts.many(document['rounds'], 'round')} of {document['seconds']:g} s. Good "
                    "for a first impression, not for quoting.")
    noise = table.noise(document["sets"])
    if "Repeat" in noise:
        made.append(noise)
    made += [f"Failed: {failure}" for failure in document["failures"]]
    return "".join(f'<p class="callout">{escape(text)}</p>' for text in made)


def conditions(document):
    machine = document["machine"]
    facts = [("processor", f"{machine['cpu']}, {machine['cpus']} CPUs"),
             ("memory", f"{machine['memory_mib'] / 1024:.0f} GiB"),
             ("kernel", machine["kernel"]), ("files on", document["file_system"]),
             ("placement", document["pinning"]),
             ("rounds", f"{document['rounds']} of {document['seconds']:g} s each, interleaved; "
              "figures are medians, ± is half the range"),
             ("noise", table.noise(document["sets"])),
             ("source", machine["source"]), ("measured", f"{document['ended']} UTC, in "
              f"{document['took_s'] / 60:.0f} minutes"),
             ("command", " ".join(document["command"]))]
    facts += [(name, version) for name, version in {**document["servers"],
                                                    **document["clients"]}.items() if version]
    rows = "".join(f'<tr><td>{escape(k)}</td><td class="left">{escape(str(v))}</td></tr>'
                   for k, v in facts if v)
    return (f'<section id="conditions"><h2>Conditions</h2><div class="scroll"><table><tbody>{rows}'
            "</tbody></table></div></section>")


REPEAT = """<section id="repeat"><h2>How to repeat this</h2>
<pre><code>bench/peers                  # installs the servers and clients compared, on Debian
meson setup build && ninja -C build
bench/run --html report.html # all of it; --quick for a first impression
bench/run memory --rows "random read, depth 32, 1 "   # one row
bench/report build/bench.json &gt; report.html           # this page again</code></pre>
<p>Every server is asked for the same work over a Unix socket of its own. One round is every
server once, each round in another order. CPU per request is the user and system time of the
server, all its threads and processes, divided by the requests. docs/benchmarks.md says more.</p>
</section>"""


def render(document):
    """The whole page as text."""
    measured = {name: document["sets"][name] for name in SECTIONS
                if document["sets"].get(name, {"rows": []})["rows"]}
    links = "".join(f'<a href="#{name}">{SECTIONS[name][0]}</a>' for name in measured)
    bars_link = '<a href="#bars">Bars</a>' if document["bars"] else ""
    machine = document["machine"]
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>NBD servers compared</title><style>{style.sheet()}</style></head><body>
<header><h1>NBD servers compared</h1>
<p>nbdring {escape(machine['source'])} beside {escape(others(document))}, on
{escape(machine['cpu'])}, {machine['cpus']} CPUs, Linux {escape(machine['kernel'])}, {escape(document['ended'])} UTC.</p>
{warnings(document)}{tiles(document)}</header>
<nav><div>{bars_link}{links}<a href="#conditions">Conditions</a><a href="#repeat">Repeat</a></div>
</nav><main>{bars_section(document['bars'])}
{"".join(section(name, part) for name, part in measured.items())}
{conditions(document)}{REPEAT}</main>
<footer>Made by bench/report. Points and bars show their figures when pointed at.</footer>
</body></html>
"""


def others(document):
    """The servers beside nbdring, as words."""
    names = [name for name in document["servers"]
             if not name.startswith("nbdring") and name not in style.LIMITS]
    return ", ".join(name for name in names if name != "nbdkit -t 1") or "nothing"
