"""Plots as inline SVG: line charts, grouped bars, and a small gauge. No script, no library.

Colours and sizes of text come from the page's style sheet by class, so that one file shows
well on light and on dark ground. Every mark carries its figures as a tooltip.
"""

import math
from dataclasses import dataclass
from html import escape

MARKS = {
    "circle": "M{x},{y}m-{r},0a{r},{r} 0 1,0 {d},0a{r},{r} 0 1,0 -{d},0",
    "square": "M{x},{y}m-{r},-{r}h{d}v{d}h-{d}z",
    "diamond": "M{x},{y}m0,-{s}l{s},{s}l-{s},{s}l-{s},-{s}z",
    "triangle": "M{x},{y}m0,-{s}l{s},{u}h-{w}z",
    "cross": "M{x},{y}m-{r},-{r}l{d},{d}m0,-{d}l-{d},{d}",
}


def mark(shape, x, y, size=3.2):
    """A small figure around a point, as the data of a path."""
    return MARKS[shape].format(x=f"{x:.1f}", y=f"{y:.1f}", r=size, d=2 * size,
                               s=round(size * 1.35, 2), u=round(size * 2.4, 2),
                               w=round(size * 2.7, 2))


def short(value):
    """A number as people read it: three digits, k and M above a thousand."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def nice_ticks(low, high, count=5):
    """Round numbers that cover low to high."""
    span = (high - low) or abs(high) or 1
    raw = span / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low, high):
    """1, 2 and 5 of each decade where there are few decades, else the decades alone."""
    decades = math.log10(high / low)
    digits = (1, 2, 5) if decades <= 2.4 else (1,)
    ticks = [d * 10.0 ** e for e in range(math.floor(math.log10(low)) - 1,
                                          math.ceil(math.log10(high)) + 1) for d in digits]
    below = [t for t in ticks if t <= low * (1 + 1e-9)]
    above = [t for t in ticks if t >= high * (1 - 1e-9)]
    return [t for t in ticks if below[-1] <= t <= above[0]]


@dataclass
class Axis:
    """Where a value is between 0 and 1, and what stands beside it."""

    label: str
    ticks: list
    texts: list
    log: bool = False

    @classmethod
    def linear(cls, label, values, zero=True):
        high = max(values, default=1) or 1
        ticks = nice_ticks(0 if zero else min(values), high)
        return cls(label, ticks, [short(t) for t in ticks])

    @classmethod
    def logarithmic(cls, label, values):
        positive = [v for v in values if v > 0] or [1, 10]
        low, high = min(positive), max(positive)
        ticks = log_ticks(low, high if high > low else low * 2)
        return cls(label, ticks, [short(t) for t in ticks], log=True)

    @classmethod
    def at(cls, label, values, texts=None, log=True):
        """Ticks at these values and nowhere else."""
        return cls(label, list(values), texts or [short(v) for v in values], log)

    def place(self, value):
        low, high = self.ticks[0], self.ticks[-1]
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-12))
        return (value - low) / ((high - low) or 1)


@dataclass
class Series:
    """One line: its name, its class and mark, and (x, y, tooltip) points."""

    name: str
    css: str
    shape: str
    points: list
    marks: bool = True


WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 14, 46


def _frame(x_axis, y_axis, width, height):
    """Grid, ticks and names of the axes."""
    inner_w, inner_h = width - LEFT - RIGHT, height - TOP - BOTTOM
    parts = []
    for value, text in zip(y_axis.ticks, y_axis.texts):
        y = TOP + inner_h * (1 - y_axis.place(value))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/><text class="tick" x="{LEFT - 7}" y="{y + 3.6:.1f}" '
                     f'text-anchor="end">{escape(text)}</text>')
    for value, text in zip(x_axis.ticks, x_axis.texts):
        x = LEFT + inner_w * x_axis.place(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" '
                     f'y2="{height - BOTTOM}"/><text class="tick" x="{x:.1f}" '
                     f'y="{height - BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT}" y1="{height - BOTTOM}" '
                 f'y2="{height - BOTTOM}"/>')
    parts.append(f'<text class="name" x="{LEFT + inner_w / 2:.0f}" y="{height - 8}" '
                 f'text-anchor="middle">{escape(x_axis.label)}</text>')
    parts.append(f'<text class="name" transform="translate(13 {TOP + inner_h / 2:.0f}) '
                 f'rotate(-90)" text-anchor="middle">{escape(y_axis.label)}</text>')
    return parts


def _open(title, width, height):
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, True)}" '
            f'preserveAspectRatio="xMidYMid meet">')


def line_chart(title, x_axis, y_axis, series, limit=None, width=WIDTH, height=HEIGHT):
    """`limit`: (value, text) of a line across, for what must not be crossed."""
    inner_w, inner_h = width - LEFT - RIGHT, height - TOP - BOTTOM
    parts = [_open(title, width, height)] + _frame(x_axis, y_axis, width, height)

    def place(x, y):
        return LEFT + inner_w * x_axis.place(x), TOP + inner_h * (1 - y_axis.place(y))

    if limit:
        _, y = place(x_axis.ticks[0], limit[0])
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/><text class="limit-text" x="{LEFT + 8}" '
                     f'y="{y - 5:.1f}">{escape(limit[1])}</text>')
    for each in series:
        at = [place(x, y) for x, y, _ in each.points]
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<g class="{each.css}"><path class="line" d="{path}">'
                     f'<title>{escape(each.name)}</title></path>')
        for (x, y), (_, _, tip) in zip(at, each.points) if each.marks else ():
            parts.append(f'<path class="mark" d="{mark(each.shape, x, y)}">'
                         f'<title>{escape(tip)}</title></path>')
        parts.append("</g>")
    return "".join(parts) + "</svg>"


@dataclass
class Bar:
    name: str
    css: str
    value: float
    text: str
    spread: float = 0.0  # percent, drawn as a whisker


BAR_H, GROUP_GAP, HEAD_H = 17, 14, 18


def bar_chart(title, label, groups, width=WIDTH):
    """Horizontal bars: (heading, [Bar]) groups, one below the other, on one scale."""
    left, right, top = 134, 60, 6
    values = [bar.value for _, bars in groups for bar in bars]
    axis = Axis.linear(label, values)  # never log: a bar's length is its value
    inner = width - left - right
    height = top + 42 + sum(HEAD_H + BAR_H * len(bars) + GROUP_GAP for _, bars in groups)
    bottom = height - 42
    parts = [_open(title, width, height)]
    for value, text in zip(axis.ticks, axis.texts):
        x = left + inner * axis.place(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" '
                     f'text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<text class="name" x="{left + inner / 2:.0f}" y="{height - 6}" '
                 f'text-anchor="middle">{escape(label)}</text>')
    y = top
    for heading, bars in groups:
        parts.append(f'<text class="heading" x="4" y="{y + 13}">{escape(heading)}</text>')
        y += HEAD_H
        for bar in bars:
            parts.append(_bar(bar, axis, left, inner, y))
            y += BAR_H
        y += GROUP_GAP
    return "".join(parts) + "</svg>"


def _bar(bar, axis, left, inner, y):
    length = max(1.0, inner * axis.place(bar.value))
    middle = y + BAR_H / 2
    whisker, reach = "", length
    if bar.spread >= 1:
        reach = inner * min(1.0, max(0.0, axis.place(bar.value * (1 + bar.spread / 100))))
        low = inner * max(0.0, axis.place(max(bar.value * (1 - bar.spread / 100), 1e-9)))
        whisker = (f'<path class="whisker" d="M{left + low:.1f},{middle:.1f}H{left + reach:.1f}'
                   f'm0,-3v6M{left + low:.1f},{middle - 3:.1f}v6"/>')
    text_x = left + max(length, reach) + 5
    return (f'<g class="{bar.css}"><text class="tick" x="{left - 7}" y="{middle + 3.6:.1f}" '
            f'text-anchor="end">{escape(bar.name)}</text>'
            f'<rect class="bar" x="{left}" y="{y + 2}" width="{length:.1f}" '
            f'height="{BAR_H - 4}" rx="2"><title>{escape(bar.name)}: {escape(bar.text)}'
            f'</title></rect>{whisker}<text class="value" x="{text_x:.1f}" '
            f'y="{middle + 3.6:.1f}">{escape(bar.text)}</text></g>')


def gauge(ratio, limit, at_least, width=120, height=20, octaves=2.5):
    """How far a ratio is from its limit: the limit in the middle, better to the left."""
    off = math.log2(max(ratio, 1e-6) / limit) * (-1 if at_least else 1)
    kept = off <= 0
    middle = width / 2
    x = middle + max(-1.0, min(1.0, off / octaves)) * (middle - 6)
    css = "good" if kept else "bad"
    return (f'<svg class="gauge" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" aria-hidden="true"><line class="axis" x1="4" x2="{width - 4}" '
            f'y1="{height / 2}" y2="{height / 2}"/><path class="{css}-line" '
            f'd="M{middle},{height / 2}H{x:.1f}"/><line class="limit" x1="{middle}" '
            f'x2="{middle}" y1="3" y2="{height - 3}"/><circle class="{css}-dot" cx="{x:.1f}" '
            f'cy="{height / 2}" r="4.5"/></svg>')


def sample(css, shape):
    """A piece of a line with its mark, for the legend."""
    return (f'<svg class="sample" viewBox="0 0 30 12" width="30" height="12" aria-hidden="true">'
            f'<g class="{css}"><path class="line" d="M1,6H29"/>'
            f'<path class="mark" d="{mark(shape, 15, 6)}"/></g></svg>')
