"""bench/run and bench/report from end to end: every kind of set, in tiny rounds."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import common  # noqa: E402

BENCH = os.path.join(common.TOP, "bench")
sys.path.insert(0, BENCH)

from compare import system  # noqa: E402

TINY = ["--rounds", "1", "--seconds", "0.05", "--others", "1000", "--pin", "no", "--quick"]

# set -> [text in the names of the rows to be measured, how many rows there are then]
LOADS = {"memory": ("random read, depth 1, 1 ", 1), "cached": ("random read, depth 32, 1 ", 1),
         "direct": ("random read, depth 32", None), "large": ("1 MiB read", 2),
         "durable": ("flush after 8", 2), "sparse": ("random read", 2),
         "latency": ("random read", 2), "connections": ("depth 1, 8 ", 1),
         "exports": ("connections, 10 exports", 1), "sizes": ("64 GiB", 2)}

# Files are served from here; as in tests/lib.sh.
DISK = os.environ.get("NBDRING_TEST_DISK", "/var/tmp")
ON_DISK = system.file_system(DISK) not in ("tmpfs", "ramfs")


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="benchrun", dir=DISK)
        self.addCleanup(self.folder.cleanup)
        self.json = os.path.join(self.folder.name, "result.json")

    def bench(self, *arguments, servers="nbdring"):
        done = subprocess.run([sys.executable, os.path.join(BENCH, "run"), *arguments, "--servers",
                               servers, "--dir", self.folder.name, "--json", self.json],
                              capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(os.listdir(self.folder.name), ["result.json"], "files are left behind")
        with open(self.json) as f:
            return json.load(f), done.stdout


class Loads(Case):
    """Rows that nbdload or fio measures."""

    def test_every_set_of_loads(self):
        for name, (rows, count) in LOADS.items():
            with self.subTest(name):
                if name not in ("memory", "connections") and not ON_DISK:
                    continue  # bench/run refuses to call memory a disk
                result, printed = self.bench(name, "--rows", rows, *TINY)
                found = result["sets"][name]["rows"]
                if count is not None:
                    self.assertEqual(len(found), count)
                for row in found:
                    self.assertIn(row["row"], printed)
                    summary = row["servers"]["nbdring"]["summary"]
                    self.assertGreater(summary["requests_per_s"]["median"], 0)
                    self.assertGreater(summary["server_cpu_us"]["median"], 0)
                    self.assertTrue(row["servers"]["nbdring"]["histogram_ns"])

    def test_fio_measures_if_it_can(self):
        result, _ = self.bench("fio", "--rows", "memory: 4 KiB random read, depth 32, 1 ", *TINY)
        for row in result["sets"]["fio"]["rows"]:  # none where fio has no engine for NBD
            summary = row["servers"]["nbdring"]["summary"]
            self.assertGreater(summary["requests_per_s"]["median"], 0)
            self.assertGreater(summary["server_cpu_us"]["median"], 0)


class Others(Case):
    """Tools that read whole images, idle connections, filters."""

    @unittest.skipUnless(ON_DISK, "there is no disk to serve files from")
    def test_copies_and_maps(self):
        for name, rows, tools in (("copy", "cached: nbdcopy, 1 TiB", ["nbdcopy"]),
                                  ("copy", "cached: qemu-img convert, 1 TiB", ["qemu-img"]),
                                  ("sparse", "--map", ["nbdinfo", "nbdinfo"])):
            result, printed = self.bench(name, f"--rows={rows}", *TINY)
            found = result["sets"][name]["rows"]
            self.assertEqual([row["tool"].split()[0] for row in found],
                             [tool for tool in tools if shutil.which(tool)])
            for row in found:
                self.assertGreater(row["servers"]["nbdring"]["summary"]["wall_s"]["median"], 0)
                self.assertIn(row["row"], printed)

    @unittest.skipUnless(ON_DISK, "there is no disk to serve files from")
    def test_archives(self):
        result, printed = self.bench("archives", "--archive", "4", *TINY)
        rows = result["sets"]["archives"]["rows"]
        self.assertIn("first read, 64 KiB of a gzip file", [row["row"] for row in rows])
        self.assertIn("tar", [row["medium"] for row in rows])
        for row in rows:
            self.assertTrue(row["servers"]["nbdring"]["rounds"], row["row"])
        self.assertIn("% of the file", printed)

    def test_idle_connections(self):
        result, printed = self.bench("idle", "--idle", "50", *TINY)
        rows = result["sets"]["idle"]["rows"]
        self.assertEqual([(row["opened"], row["read_first"]) for row in rows],
                         [(50, False), (50, True)])
        self.assertIn("KiB each", printed)

    def test_filters(self):
        result, printed = self.bench("filters", "--rows", "1 nofilter", *TINY)
        self.assertIn("1 nofilter", [c["stack"] for c in
                                     result["sets"]["filters"]["rows"][0]["compared"]])
        self.assertIn("0 filters", printed)


class Results(Case):
    """What comes of it: bars, the page, failures."""

    def test_bars_are_judged_and_the_page_is_written(self):
        page = os.path.join(self.folder.name, "page.html")
        done = subprocess.run(
            [sys.executable, os.path.join(BENCH, "run"), "memory", "--rows",
             "random read, depth 32, 1 ", *TINY, "--servers", "nbdring,floor", "--dir",
             self.folder.name, "--json", self.json, "--html", page],
            capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("every memory row", done.stdout)
        self.assertRegex(done.stdout, r"[01] of 1 bars kept")
        with open(self.json) as f:
            self.assertEqual([bar["work"] for bar in json.load(f)["bars"]], ["every memory row"])
        with open(page) as f:
            written = f.read()
        again = subprocess.run([sys.executable, os.path.join(BENCH, "report"), self.json],
                               capture_output=True, text=True, timeout=60, check=True).stdout
        self.assertEqual(written, again)
        self.assertIn("random read, depth 32, 1 connection", again)

    def test_a_server_that_cannot_start_is_a_failure_and_is_said(self):
        done = subprocess.run(
            [sys.executable, os.path.join(BENCH, "run"), "memory", *TINY, "--servers", "nbdring",
             "--dir", self.folder.name, "--json", self.json],
            env={**os.environ, "NBDRING": shutil.which("false")},
            capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED nbdring ended at once", done.stdout)

    def test_a_set_or_server_that_does_not_exist_is_named(self):
        for arguments, word in ((["nothing"], "nothing"), (["--servers", "none"], "none")):
            done = subprocess.run([sys.executable, os.path.join(BENCH, "run"), *arguments],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    unittest.main()
