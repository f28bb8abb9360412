"""The report: well-formed, complete, without anything from elsewhere, and plots that are right."""

import math
import os
import re
import sys
import unittest
from html.parser import HTMLParser

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))

from compare import bars, filters, rounds, sets  # noqa: E402
from plots import charts, markdown, page, svg  # noqa: E402

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Checker(HTMLParser):
    """Every element that is opened is closed, in order; collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [v for k, v in attrs if k in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def figure(value):
    return {"median": value, "spread_percent": 3.0}


def load_result(scale):
    keys = ("requests_per_s", "bytes_per_s", "server_cpu_us", "client_cpu_us", "p50_us", "p99_us",
            "p999_us", "max_us", "flushes_per_s", "flush_p50_us", "flush_p99_us")
    return {"summary": {key: figure(scale * 10) for key in keys},
            "histogram_ns": [(1000 * scale * i, 100 // i) for i in range(1, 50)],
            "rounds": [{"others_cpu_share": 0.01}]}


def tool_result(scale):
    return {"summary": {key: figure(scale) for key in ("wall_s", "server_cpu_s", "client_cpu_s")},
            "rounds": [{"others_cpu_share": 0.01}]}


def every_row():
    """Results with every row of every set, from three servers with awkward names."""
    names = {"nbdring": 1, "nbdkit": 3, "qemu-nbd": 4, "floor": 1, "a <new> & \"odd\" one": 2}
    results = {}
    for name, parts in sets.SETS.items():
        rows = []
        for part in parts:
            for row in part.rows:
                tool = isinstance(row, sets.ToolRow)
                about = {"kind": "tool", "set": name, "medium": row.disk.medium, "row": row.name,
                         "tool": row.tool, "what": row.what, "content": row.disk.content} \
                    if tool else rounds.describe(row, name, part, [])
                make = tool_result if tool else load_result
                rows.append({**about, "servers": {n: make(s) for n, s in names.items()}})
        results[name] = {"rows": rows, "notes": ["a note"] if rows else []}
    memory = {"rss": 1.5, "pss": 1.5, "page_tables": 0.1, "threads": 0.0}
    results["idle"]["rows"] = [
        {"kind": "idle", "set": "idle", "server": n, "wanted": 10000, "opened": 9000,
         "read_first": False, "each_kib": memory, "before_kib": memory} for n in names]
    results["filters"]["rows"] = [
        {"kind": "filters", "set": "filters", "row": filters.ROW.name, "servers": {},
         "compared": [{"stack": stack[0], "ratio": 1.1, "added_ns": -3.0}
                      for stack in filters.STACKS[1:]]}]
    return results


def document(results):
    machine = {"cpu": "A <CPU>", "cpus": 2, "kernel": "6.0", "memory_mib": 1024, "source": "v0"}
    return {"machine": machine, "file_system": "ext4", "pinning": "not pinned", "quick": True,
            "rounds": 3, "seconds": 0.1, "command": ["bench/run"], "took_s": 60,
            "ended": "2000-01-01 00:00", "servers": {"nbdring": "1", "nbdkit": "1.32"},
            "clients": {}, "sets": results, "bars": bars.judge(results), "failures": ["one & all"]}


def text_of(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open, checker.open
    return " ".join(checker.text), checker


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.results = every_row()
        cls.html = page.render(document(cls.results))
        cls.text, cls.checker = text_of(cls.html)

    def test_every_row_bar_and_server_is_in_it(self):
        for part in self.results.values():
            for row in part["rows"]:
                if row["kind"] in ("load", "tool"):
                    self.assertIn(f"{row['medium']}: {row['row']}", self.text)
        for bar in bars.judge(self.results):
            self.assertIn(bar["work"], self.text)
        for stack in filters.STACKS[1:]:
            self.assertIn(stack[0], self.text)
        self.assertIn('a <new> & "odd" one', self.text)
        self.assertIn("one & all", self.text)

    def test_every_set_has_plots_and_a_link_to_them(self):
        for name in sets.SETS:
            self.assertIn(name, self.checker.ids)
            self.assertIn(f"#{name}", self.checker.links)
            part = re.search(rf'<section id="{name}">.*?</section>', self.html, re.DOTALL)[0]
            self.assertIn("<svg", part, name)

    def test_nothing_comes_from_elsewhere(self):
        self.assertTrue(all(link.startswith("#") for link in self.checker.links))
        self.assertNotRegex(self.html, r"https?://|<script|@import|url\(")

    def test_no_coordinate_is_none_or_infinite(self):
        self.assertNotRegex(self.html, r'"[^"]*\b(nan|inf|None)\b[^"]*"')

    def test_both_modes_know_the_same_colours(self):
        light, dark = re.findall(r":root\{([^}]*)\}", self.html)
        names = [set(re.findall(r"(--[\w-]+):", mode)) for mode in (light, dark)]
        self.assertEqual(names[0], names[1])

    def test_a_run_of_one_server_and_one_row_has_a_page_too(self):
        row = self.results["memory"]["rows"][0]
        alone = {**row, "servers": {"nbdring": row["servers"]["nbdring"]}}
        text, _ = text_of(page.render(document({"memory": {"rows": [alone], "notes": []}})))
        self.assertIn(row["row"], text)

    def test_an_empty_run_has_a_page_too(self):
        text_of(page.render(document({})))


class Markdown(unittest.TestCase):
    def test_every_row_is_in_a_table_of_even_width(self):
        results = every_row()
        headings = {name: heading for name, (heading, _, _) in page.SECTIONS.items()}
        text = markdown.render(document(results), headings)
        for part in results.values():
            for row in part["rows"]:
                if row["kind"] in ("load", "tool"):
                    self.assertIn(f"| {row['medium']}: {row['row']} |", text)
        for block in text.split("\n\n"):
            lines = block.strip().splitlines()
            if lines[0].startswith("|"):
                self.assertEqual({line.count("|") for line in lines}, {lines[0].count("|")})

    def test_only_what_is_between_the_marks_is_replaced(self):
        text = f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n"
        self.assertEqual(markdown.replace(text, "new\n"), text.replace("old", "new"))
        with self.assertRaises(ValueError):
            markdown.replace("no marks", "new")


class Plots(unittest.TestCase):
    def test_a_linear_axis_begins_at_zero_and_covers_all(self):
        axis = svg.Axis.linear("x", [3, 97])
        self.assertEqual(axis.ticks[0], 0)
        self.assertGreaterEqual(axis.ticks[-1], 97)
        self.assertAlmostEqual(axis.place(axis.ticks[-1] / 2), 0.5)

    def test_a_logarithmic_axis_covers_all(self):
        for low, high in ((1, 2), (0.3, 4000), (7, 7), (9.99, 10.01), (1e-3, 1e6)):
            axis = svg.Axis.logarithmic("x", [low, high])
            self.assertGreaterEqual(axis.place(low), -1e-9, (low, high))
            self.assertLessEqual(axis.place(high), 1 + 1e-9, (low, high))
            self.assertGreaterEqual(len(axis.ticks), 2)

    def test_equal_factors_are_equally_far_apart_on_it(self):
        axis = svg.Axis.logarithmic("x", [1, 1000])
        self.assertAlmostEqual(axis.place(100) - axis.place(10), axis.place(10) - axis.place(1))

    def test_numbers_are_short(self):
        self.assertEqual([svg.short(v) for v in (0, 1.234, 999.96, 12345, 2.5e6)],
                         ["0", "1.23", "1k", "12.3k", "2.5M"])

    def test_a_distribution_keeps_its_tail(self):
        histogram = [(i, 100000 >> i) for i in range(1, 17)]
        points = charts.percentile_points(histogram)
        total = sum(count for _, count in histogram)
        self.assertEqual(points[0], (0, 1))
        self.assertEqual(points[-1][1], 16)
        for share, value in points:
            below = sum(count for low, count in histogram if low < value)
            self.assertAlmostEqual(share, below / total)

    def test_nines_are_decades(self):
        self.assertTrue(math.isclose(charts.nines(0.99), 2.0))
        self.assertTrue(math.isclose(charts.nines(0.999), 3.0))

    def test_the_gauge_puts_what_is_kept_left_of_the_limit(self):
        for ratio, limit, at_least, kept in ((0.1, 0.2, False, True), (0.3, 0.2, False, False),
                                             (8, 7, True, True), (6, 7, True, False)):
            drawn = svg.gauge(ratio, limit, at_least)
            x = float(re.search(r'circle class="(\w+)-dot" cx="([\d.]+)"', drawn)[2])
            self.assertEqual(x <= 60, kept)
            self.assertEqual("good-dot" in drawn, kept)


if __name__ == "__main__":
    unittest.main()
