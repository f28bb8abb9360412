"""What bench/run computes: medians, merged histograms, percentiles, and the bars."""

import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))

from compare import bars, clients, disks, measure, rounds, sets  # noqa: E402
from compare.servers import ALL, Disk, NbdkitOneThread, Peer, QemuNbd  # noqa: E402


def report(requests, cpu_us, elapsed_s=1.0, histogram=((1000, 1),)):
    return {"requests": requests, "bytes": requests * 4096, "elapsed_ns": elapsed_s * 1e9,
            "server_cpu_ns": requests * cpu_us * 1e3, "client_cpu_ns": 0,
            "latency_p50_ns": 1000, "latency_p99_ns": 2000, "latency_p999_ns": 3000,
            "latency_max_ns": 4000, "histogram_ns": list(histogram)}


class Histograms(unittest.TestCase):
    def test_merging_adds_counts_and_keeps_order(self):
        merged = clients.merge([[(64, 1), (1024, 2)], [(10, 5), (1024, 3)], []])
        self.assertEqual(merged, [(10, 5), (64, 1), (1024, 5)])

    def test_percentiles_count_requests_not_buckets(self):
        histogram = [(10, 98), (20, 1), (5000, 1)]
        self.assertEqual(clients.percentile(histogram, 0.5), 10)
        self.assertEqual(clients.percentile(histogram, 0.99), 20)
        self.assertEqual(clients.percentile(histogram, 0.999), 5000)
        self.assertEqual(clients.percentile([], 0.5), 0)

    def test_rounds_are_merged_and_their_own_histograms_dropped(self):
        result = measure.collect([report(10, 1, histogram=[(5, 10)]),
                                  report(20, 1, histogram=[(5, 15), (6, 5)])])
        self.assertEqual(result["histogram_ns"], [(5, 25), (6, 5)])
        self.assertNotIn("histogram_ns", result["rounds"][0])


class Medians(unittest.TestCase):
    def test_the_middle_round_counts_and_half_the_range_is_the_spread(self):
        summary = measure.collect([report(1000, c) for c in (2.0, 9.0, 4.0)])["summary"]
        self.assertAlmostEqual(summary["server_cpu_us"]["median"], 4.0)
        self.assertAlmostEqual(summary["server_cpu_us"]["spread_percent"], 87.5)

    def test_rates_are_per_second_of_the_load(self):
        summary = measure.collect([report(3000, 1, elapsed_s=2.0)])["summary"]
        self.assertAlmostEqual(summary["requests_per_s"]["median"], 1500)

    def test_fio_without_a_server_is_what_the_requests_cost(self):
        job = {"jobs": [{"error": 0, "usr_cpu": 20.0, "sys_cpu": 30.0, "job_runtime": 1000,
                         "read": {"total_ios": 100, "io_bytes": 4096, "runtime": 1000,
                                  "lat_ns": {"max": 900, "bins": {"500": 60, "900": 40}}},
                         "write": {"total_ios": 0}}]}
        limit, client = clients.fio_report(job, True), clients.fio_report(job, False)
        self.assertEqual(limit["server_cpu_ns"], 500_000_000)
        self.assertNotIn("server_cpu_ns", client)  # the server's own clock says that
        self.assertEqual(client["client_cpu_ns"], 500_000_000)
        self.assertEqual(client["latency_p50_ns"], 500)
        self.assertEqual(client["latency_p99_ns"], 900)


def load_row(servers, **fields):
    """A row of results: {server: (requests/s, CPU µs)}."""
    summary = {name: {"summary": {"requests_per_s": {"median": rate, "spread_percent": 1.0},
                                  "server_cpu_us": {"median": cpu, "spread_percent": 2.0}}}
               for name, (rate, cpu) in servers.items()}
    return {"kind": "load", "rw": "randread", "block": "4K", "depth": 32, "connections": 1,
            "client": "nbdload", "medium": "memory", "row": "a row", "servers": summary, **fields}


def judged(rows, work, against):
    found = [b for b in bars.judge({"x": {"rows": rows}})
             if b["work"] == work and b["against"] == against]
    assert len(found) <= 1, found
    return found[0] if found else None


class Bars(unittest.TestCase):
    WORK = "4 KiB read, memory, depth 32"

    def memory(self, cpu, **more):
        return load_row({"nbdring": (1000, cpu), "nbdkit": (400, 12.0), "nbdkit -t 1": (300, 10.0),
                         **more}, set="memory")

    def test_the_better_of_two_nbdkits_is_what_counts(self):
        bar = judged([self.memory(1.9)], self.WORK, "nbdkit")
        self.assertAlmostEqual(bar["ratio"], 0.19)
        self.assertTrue(bar["kept"])

    def test_just_beyond_the_limit_is_missed(self):
        self.assertFalse(judged([self.memory(2.01)], self.WORK, "nbdkit")["kept"])
        self.assertTrue(judged([self.memory(2.0)], self.WORK, "nbdkit")["kept"])

    def test_a_peer_that_was_not_measured_leaves_its_bar_out(self):
        self.assertIsNone(judged([self.memory(1.0)], self.WORK, "qemu-nbd"))

    def test_rates_have_to_be_at_least_the_limit(self):
        rows = [load_row({"nbdring": (rate, 1), "nbdkit": (100, 9), "nbdkit -t 1": (90, 9)},
                         set="memory", depth=128) for rate in (700, 690)]
        work = "4 KiB read, memory, depth 128"
        self.assertTrue(judged(rows[:1], work, "nbdkit")["kept"])
        self.assertFalse(judged(rows[1:], work, "nbdkit")["kept"])

    def test_of_several_rows_the_worst_is_judged(self):
        rows = [self.memory(cpu, floor=(2000, 1.0)) for cpu in (1.1, 1.5, 1.2)]
        bar = judged(rows, "every memory row", "the bare answerer")
        self.assertAlmostEqual(bar["ratio"], 1.5)
        self.assertFalse(bar["kept"])
        self.assertEqual((bar["rows"], bar["rows_kept"]), (3, 2))

    def test_growth_is_against_the_server_itself(self):
        rows = [load_row({"nbdring": (1, cpu)}, set="exports", exports=n)
                for n, cpu in ((1, 2.0), (10, 2.1), (1000, 2.3))]
        bar = judged(rows, "growth from 1 to 1,000 exports", "1 export")
        self.assertAlmostEqual(bar["ratio"], 1.15)
        self.assertEqual(bar["rows"], 2)  # the base itself is not judged
        self.assertFalse(bar["kept"])

    def test_memory_of_idle_connections_is_judged_as_it_is(self):
        rows = [{"kind": "idle", "set": "idle", "server": name, "wanted": 10000,
                 "read_first": True, "each_kib": {"rss": rss}} for name, rss in (("nbdring", 0.7), ("qemu-nbd", 5.0))]
        bar = judged(rows, "10,000 idle connections, KiB each", "(as it is)")
        self.assertAlmostEqual(bar["ratio"], 0.7)
        self.assertTrue(bar["kept"])

    def test_archives_are_judged_in_seconds_and_percent(self):
        def row(medium, tool, **figures):
            return {"kind": "tool", "set": "archives", "medium": medium, "tool": tool,
                    "row": f"{tool}, {medium}", "servers": {
                        name: {"summary": {key: {"median": value, "spread_percent": 0.0}
                                           for key, value in each.items()}}
                        for name, each in figures.items()}}

        rows = [row("gzip", "first read", nbdring={"wall_s": 0.2, "index_percent": 0.9},
                    nbdkit={"wall_s": 20.0}),
                row("xz", "nbdcopy", nbdring={"wall_s": 10.0}, nbdkit={"wall_s": 17.0})]
        self.assertFalse(judged(rows, "64 KiB of a gzip file whose index is there, s",
                                "(as it is)")["kept"])
        self.assertTrue(judged(rows, "index of a gzip file", "(as it is)")["kept"])
        self.assertTrue(judged(rows, "xz image of many blocks, all of it", "nbdkit")["kept"])

    def test_without_results_there_are_no_bars(self):
        self.assertEqual(bars.judge({"memory": {"rows": []}}), [])

    def test_every_bar_is_about_rows_that_exist(self):
        results = {name: {"rows": [rounds.describe(row, name, part, [])
                                   if isinstance(row, sets.Row) else
                                   {"kind": "tool", "set": name, "medium": row.disk.medium,
                                    "content": row.disk.content, "tool": row.tool}
                                   for part in parts for row in part.rows]}
                   for name, parts in sets.SETS.items()}
        results["idle"] = {"rows": [{"kind": "idle", "wanted": 10000}]}
        names = {kind.name for kind in ALL}
        for bar in bars.BARS:
            found = [row for part in results.values() for row in part["rows"]
                     if bars.matches(row, bar.rows)]
            self.assertTrue(found, f"no row is meant by the bar {bar.work!r}")
            self.assertLessEqual(set(bar.against) | {bar.server}, names)
            if bar.base:
                bases = [row for part in results.values() for row in part["rows"]
                         if bars.matches(row, bar.base)]
                self.assertEqual(len(bases), 1, f"the base of {bar.work!r}")


class Rows(unittest.TestCase):
    def test_no_two_rows_of_a_part_have_one_name(self):
        for parts in sets.SETS.values():
            for part in parts:
                names = [row.name for row in part.rows]
                self.assertEqual(len(names), len(set(names)), part.name)

    def test_stretches_stay_inside_and_apart(self):
        for size in (1 << 30, 1 << 40, (16 << 40) - (1 << 20), 64 << 40):
            found = disks.stretches(Disk("cached", size, "spread"), size)
            self.assertEqual(len(found), 4096)
            for (at, length), (after, _) in zip(found, found[1:] + [(size, 0)]):
                self.assertLessEqual(at + length, after)
            self.assertGreater(found[-1][0], size * 0.9)

    def test_what_cannot_be_served_is_not_asked_for(self):
        row = sets.SETS["exports"][0].rows[0]
        self.assertFalse(rounds.takes_part("exports", row, self.peer(QemuNbd)))
        self.assertTrue(rounds.takes_part("exports", row, self.peer(NbdkitOneThread)))

    @staticmethod
    def peer(kind):
        peer = Peer.__new__(kind)
        peer.path = "/nowhere"
        return peer


if __name__ == "__main__":
    unittest.main()
