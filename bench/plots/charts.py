"""Which plots a set gets, made from its rows. A plot whose rows were not measured is not there."""

import math
from dataclasses import dataclass

from plots import style, svg

DASHED = "dashed lines are limits, not servers"


@dataclass
class Figure:
    caption: str
    small: str
    svg: str
    servers: tuple


@dataclass(frozen=True)
class Measure:
    """A figure of a summary, as a plot shows it."""

    key: str
    label: str
    scale: float = 1.0
    log: bool = False
    better: str = "less is better"


CPU = Measure("server_cpu_us", "server CPU, µs per request", log=True)
RATE = Measure("requests_per_s", "requests per second", better="more is better")
LOG_RATE = Measure("requests_per_s", RATE.label, log=True, better=RATE.better)
BYTES = Measure("bytes_per_s", "MiB per second", 1 / (1 << 20), better="more is better")
P50 = Measure("p50_us", "latency p50, µs")
P99 = Measure("p99_us", "latency p99, µs", log=True)
FLUSHES = Measure("flushes_per_s", "flushes per second", better="more is better")
WALL = Measure("wall_s", "seconds")
TOOL_CPU = Measure("server_cpu_s", "server CPU, seconds")

KINDS = {"randread": "4 KiB random read", "randwrite": "4 KiB random write",
         "randrw": "4 KiB random mix, 70 % reads"}


def value(row, server, measure):
    """(value, ±%) or None."""
    result = row["servers"].get(server)
    found = result and result["summary"].get(measure.key)
    return (found["median"] * measure.scale, found["spread_percent"]) if found else None


def servers_of(rows):
    """In the order of the legend."""
    there = {name for row in rows for name in row["servers"]}
    return [name for name in style.LOOKS if name in there] + sorted(there - set(style.LOOKS))


def many(count, what):
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _axis(measure, values):
    return (svg.Axis.logarithmic if measure.log else svg.Axis.linear)(
        measure.label + (" (log)" if measure.log else ""), values)


def _series(rows, x_of, measure, x_text):
    """A line for each server, over the rows in the order of x."""
    series = []
    for server in servers_of(rows):
        look, points = style.look(server), []
        for row in sorted(rows, key=x_of):
            found = value(row, server, measure)
            if found:
                points.append((x_of(row), found[0],
                               f"{server}, {x_text(row)}: {svg.short(found[0])} {measure.label}, "
                               f"±{found[1]:.0f} %"))
        if points:
            series.append(svg.Series(server, look.css, look.shape, points))
    return series


def curve(caption, small, rows, x_of, x_label, measure, x_texts=None):
    """A measure against something; None where there are not two points."""
    xs = sorted({x_of(row) for row in rows})
    if len(xs) < 2:
        return None
    texts = [x_texts(x) if x_texts else svg.short(x) for x in xs]
    series = _series(rows, x_of, measure, lambda row: f"{x_label} {texts[xs.index(x_of(row))]}")
    values = [y for each in series for _, y, _ in each.points]
    return Figure(caption, f"{small}{measure.better}",
                  svg.line_chart(f"{caption}: {measure.label}", svg.Axis.at(x_label, xs, texts),
                                 _axis(measure, values), series),
                  tuple(each.name for each in series))


def relative(caption, rows, x_of, x_label, measure, limit, at_least, x_texts=None):
    """The same divided by a server's own first point, with the limit across."""
    xs = sorted({x_of(row) for row in rows})
    if len(xs) < 2:
        return None
    texts = [x_texts(x) if x_texts else svg.short(x) for x in xs]
    series = []
    for each in _series(rows, x_of, measure, lambda row: texts[xs.index(x_of(row))]):
        x0, first, _ = each.points[0]
        if x0 == xs[0] and first and len(each.points) > 1:
            points = [(x, y / first, f"{each.name}, {x_label} {texts[xs.index(x)]}: "
                                     f"{y / first:.2f} of {texts[0]}") for x, y, _ in each.points]
            series.append(svg.Series(each.name, each.css, each.shape, points))
    if not series:
        return None
    values = [y for each in series for _, y, _ in each.points] + [limit]
    text = f"the bar: {'≥' if at_least else '≤'} {limit:g}"
    axis = svg.Axis.linear(f"{measure.label.split(',')[0]}, 1 = at {texts[0]}", values)
    return Figure(caption, f"each server against itself at {texts[0]}; flat is best",
                  svg.line_chart(caption, svg.Axis.at(x_label, xs, texts), axis, series,
                                 (limit, text)), tuple(each.name for each in series))


# --- Depth --------------------------------------------------------------------


def depth(rows):
    """Throughput, then CPU, against depth: a plot for each kind and number of connections."""
    figures = []
    # What fio does without NBD is far above all others where it takes part.
    rate = LOG_RATE if "fio io_uring" in servers_of(rows) else RATE
    for rw, measure in ((rw, measure) for rw in KINDS for measure in (rate, CPU)):
        for connections in sorted({row["connections"] for row in rows}):
            chosen = [r for r in rows if r["rw"] == rw and r["connections"] == connections]
            figures.append(curve(f"{KINDS[rw]}, {many(connections, 'connection')}",
                                 f"{measure.label}; ", chosen, lambda row: row["depth"],
                                 "depth: requests in flight per connection", measure))
    return [figure for figure in figures if figure]


# --- Latency ------------------------------------------------------------------

NINES = (0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def nines(share):
    """0 for 0 %, 1 for 90 %, 2 for 99 %: how many nines."""
    return -math.log10(max(1e-9, 1 - share))


def percentile_points(histogram, most=160):
    """(share, value) along a histogram: as many as a plot can show, the tail in full."""
    total = sum(count for _, count in histogram)
    points, seen, last = [], 0, -1.0
    for low, count in histogram:
        share = seen / total
        place = nines(share)
        if place - last >= 4 / most:
            points.append((share, low))
            last = place
        seen += count
    return points


def distribution(row):
    """The whole distribution of a row's latencies, as a curve over percentiles."""
    series = []
    for server in servers_of([row]):
        histogram = row["servers"][server].get("histogram_ns")
        if not histogram:
            continue
        look = style.look(server)
        points = [(nines(share), low / 1e3, "") for share, low in percentile_points(histogram)
                  if nines(share) <= nines(NINES[-1])]
        if len(points) > 1:
            series.append(svg.Series(server, look.css, look.shape, points, marks=False))
    if not series:
        return None
    values = [y for each in series for _, y, _ in each.points]
    texts = [f"{100 * share:g} %" if share else "" for share in NINES]
    x_axis = svg.Axis.at("percentile (each step: a tenth of what is left)",
                         [nines(share) for share in NINES], texts, log=False)
    title = f"Latency: {row['row'].replace(', 1 connection', '')}"
    return Figure(title, f"{row['medium']}; less is better",
                  svg.line_chart(title, x_axis, svg.Axis.logarithmic("latency, µs (log)", values),
                                 series), tuple(each.name for each in series))


# --- Bars ---------------------------------------------------------------------


def bars(caption, rows, measure, heading=lambda row: row["row"], small=""):
    """Horizontal bars of a measure: a group for each row."""
    groups = []
    for row in rows:
        group = []
        for server in servers_of([row]):
            found = value(row, server, measure)
            if found:
                group.append(svg.Bar(server, style.look(server).css, found[0],
                                     svg.short(found[0]), found[1]))
        if group:
            groups.append((heading(row), group))
    if not groups:
        return None
    return Figure(caption, f"{small}{measure.better}",
                  svg.bar_chart(caption, measure.label, groups),
                  tuple(dict.fromkeys(bar.name for _, group in groups for bar in group)))


def _heading(row):
    return f"{row['medium']}: {row['row'].replace(', 1 connection', '')}"


def load_bars(rows, measures):
    """A plot for each measure, with all rows."""
    found = [bars(caption, rows, measure, _heading) for caption, measure in measures]
    return [figure for figure in found if figure]


def by_medium(rows, measures):
    """The same, but each medium has plots of its own."""
    media = dict.fromkeys(row["medium"] for row in rows)
    return [figure for medium in media
            for figure in load_bars([r for r in rows if r["medium"] == medium],
                                    [(f"{caption}: {medium}", m) for caption, m in measures])]


def direct(rows):
    return by_medium(rows, [("Requests per second", RATE), ("CPU per request", CPU)])


def large(rows):
    return by_medium(rows, [("Throughput", BYTES),
                            ("CPU per request", CPU)])


def durable(rows):
    flushing = [row for row in rows if row["flush_every"]]
    figures = load_bars([row for row in rows if row["fua"]],
                        [("Durable writes per second (FUA)", RATE)])
    figures += load_bars(flushing, [("Flushes per second", FLUSHES)])
    return figures + load_bars(rows, [("CPU per request", CPU)])


def sparse(rows):
    loads = [row for row in rows if row["kind"] == "load"]
    return (load_bars(loads, [("Reads of holes per second", RATE), ("CPU per read of a hole", CPU)])
            + tools([row for row in rows if row["kind"] == "tool"]))


def tools(rows):
    found = [bars(f"{caption}: {tool}", [row for row in rows if row["tool"] == tool], measure,
                  lambda row: f"{row['medium']}: {row['what']}")
             for tool in dict.fromkeys(row["tool"] for row in rows)
             for caption, measure in (("Time", WALL), ("Server CPU", TOOL_CPU))]
    return [figure for figure in found if figure]


def archives(rows):
    loads = [row for row in rows if row["kind"] == "load"]
    return (tools([row for row in rows if row["kind"] == "tool"])
            + load_bars(loads, [("Requests per second", RATE), ("CPU per request", CPU)]))


def latency(rows):
    found = [distribution(row) for row in rows] + load_bars(
        rows, [("Half of all are faster than", P50), ("CPU per request", CPU)])
    return [figure for figure in found if figure]


def fio(rows):
    return load_bars(rows, [("Requests per second", RATE), ("CPU per request", CPU)])


# --- Growth -------------------------------------------------------------------


def connections(rows):
    figures = []
    for each in sorted({row["depth"] for row in rows}):
        chosen = [row for row in rows if row["depth"] == each]
        more = (chosen, lambda row: row["connections"], "busy connections")
        figures += [curve(f"Throughput, depth {each} each", "", *more, RATE),
                    curve(f"CPU per request, depth {each} each", "", *more, CPU)]
    return [figure for figure in figures if figure]


def exports(rows):
    more = (rows, lambda row: row["exports"], "exports served by one process")
    figures = [curve("CPU per request against exports", "1,000 connections; ", *more, CPU),
               curve("Requests per second against exports", "1,000 connections; ", *more, RATE),
               relative("Growth of the CPU per request", *more, CPU, 1.1, False)]
    return [figure for figure in figures if figure]


def bytes_text(size):
    unit = 40 if size >= 1 << 40 else 30
    return f"{round(size / (1 << unit), 1):g} {'TiB' if unit == 40 else 'GiB'}"


def sizes(rows):
    figures = []
    for medium in dict.fromkeys(row["medium"] for row in rows):
        chosen = [row for row in rows if row["medium"] == medium]
        more = (chosen, lambda row: row["image_bytes"], "size of the image")
        figures += [curve(f"CPU per request against image size: {medium}", "", *more, CPU,
                          bytes_text),
                    relative(f"Growth of the CPU per request: {medium}", *more, CPU, 1.1, False,
                             bytes_text)]
    return [figure for figure in figures if figure]


def idle(rows):
    groups = []
    for wanted, first in dict.fromkeys((row["wanted"], row["read_first"]) for row in rows):
        group = [svg.Bar(row["server"], style.look(row["server"]).css, row["each_kib"]["pss"],
                         f"{row['each_kib']['pss']:.3g}")
                 for row in rows if (row["wanted"], row["read_first"]) == (wanted, first)
                 and row["each_kib"].get("pss") and row["opened"]]
        if group:
            after = "one read" if first else "the handshake"
            groups.append((f"{wanted:,} idle connections, after {after}", group))
    if not groups:
        return []
    return [Figure("Memory of an idle connection", "less is better",
                   svg.bar_chart("Memory of an idle connection", "KiB each, PSS", groups),
                   tuple(dict.fromkeys(bar.name for _, group in groups for bar in group)))]


def filters(rows):
    figures = []
    for row in rows:
        costs = sorted((c for c in row["compared"]), key=lambda c: c["added_ns"])
        group = [svg.Bar(c["stack"], style.LOOKS["nbdring"].css, max(c["added_ns"], 0.0),
                         f"{c['added_ns']:.0f}") for c in costs]
        caption = "What a filter adds to a request"
        figures.append(Figure(caption, f"{row['row']}, memory; less is better",
                              svg.bar_chart(caption, "ns of CPU per request", [("", group)]), ()))
    return figures
