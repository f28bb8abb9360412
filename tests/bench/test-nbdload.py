"""What nbdload sends: flushes when they are due, blocks where they belong, exports in turn."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import common  # noqa: E402


def logged(*load, below=(), parameters=()):
    """(what nbdload reports, [(command, offset)] in the order of their answers). `below`: filters
    below the one that writes the log, and their parameters."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        with common.served("--filter=log", *below, "memory", "64M", f"logfile={log}",
                           *parameters) as (sock, _):
            report = common.nbdload(sock, *load)
        with open(log) as f:
            lines = re.findall(r" (Read|Write|Flush)\b(?: offset=0x([0-9a-f]+))?", f.read())
    # The server flushes once more when it ends.
    return report, [(command, int(at or "0", 16)) for command, at in lines[:report["requests"]]]


class Flushes(unittest.TestCase):
    def test_a_flush_follows_every_n_writes_and_waits_for_them(self):
        # Writes are slow and flushes are not: one sent too early would be answered first.
        report, commands = logged("--rw", "randwrite", "--depth", "16", "--flush-every", "8",
                                  "--requests", "64", below=["--filter=delay"],
                                  parameters=["wdelay=5ms"])
        words = [command for command, _ in commands]
        self.assertEqual(words, (["Write"] * 8 + ["Flush"]) * 8)
        self.assertEqual(report["flushes"], 8)
        self.assertEqual(report["requests"], 72)

    def test_reads_do_not_count(self):
        _, commands = logged("--rw", "randrw", "--flush-every", "4", "--requests", "100")
        writes = 0
        for command, _ in commands:
            if command == "Flush":
                self.assertEqual(writes, 4)
            writes = 0 if command == "Flush" else writes + (command == "Write")

    def test_the_latency_of_flushes_is_told_apart(self):
        with common.served("--filter=delay", "memory", "16M", "delay-flush=20ms") as (sock, _):
            report = common.nbdload(sock, "--rw", "randwrite", "--flush-every", "1", "--requests",
                                    "5")
        self.assertGreaterEqual(report["flush_p50_ns"], 19_000_000)
        self.assertEqual(sum(count for _, count in report["histogram_ns"]), 5)

    def test_a_load_without_writes_has_nothing_to_flush(self):
        self.assertIn("writes", common.refusal("./none", "--flush-every", "1"))


class Blocks(unittest.TestCase):
    def test_a_stride_lays_them_over_the_whole_export(self):
        _, commands = logged("--rw", "write", "--stride", "16M", "--requests", "4")
        self.assertEqual([at for _, at in commands], [0, 16 << 20, 32 << 20, 48 << 20])

    def test_the_last_block_has_to_fit(self):
        # A third block would begin at 63.5 of 64 MiB and end half a MiB behind the export.
        _, commands = logged("--rw", "write", "--block-size", "1M", "--stride", "32512K",
                             "--requests", "3")
        self.assertEqual([at for _, at in commands], [0, 32512 << 10, 0])

    def test_a_stride_within_a_block_is_refused(self):
        self.assertIn("--stride", common.refusal("./none", "--stride", "1K"))


class Large(unittest.TestCase):
    """What copying programs ask for: megabytes, several at a time, with holes in them."""

    def check(self, replies, size, requests):
        whole = [replies, "--block-size", size, "--requests", requests, "--depth", "8",
                 "--zeroes", "40"]
        with common.served("--filter=discard", "memory", "64M", "detect-zeroes=unmap", "discard=unmap") as (sock, _):
            # Writes that are all zeroes make holes.
            common.nbdload(sock, "--rw", "write", "--verify", "--block-size", "64K",
                           "--requests", "1024", "--zeroes", "40")
            report = common.nbdload(sock, "--rw", "read", "--verify=all", *whole)
            self.assertEqual((report["errors"], report["mismatches"]), (0, 0))
            self.assertEqual(report["bytes"], 64 << 20)
            # Where there are holes is part of what is checked.
            other = [word if word != "40" else "0" for word in whole]
            done = subprocess.run([common.NBDLOAD, "--json", "--rw", "read", "--verify=all",
                                   *other, sock], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 3)

    def test_simple_replies(self):
        self.check("--simple", "1M", "64")

    def test_structured_replies(self):
        self.check("--structured", "32M", "2")

    def test_extended_headers(self):
        self.check("--extended", "4M", "16")


class Reconnect(unittest.TestCase):
    def test_each_request_has_a_connection_of_its_own(self):
        with common.served("--filter=log", "memory", "1M", "logfile={folder}/log") as (sock, _):
            report = common.nbdload(sock, "--reconnect", "--requests", "5")
            log = os.path.join(os.path.dirname(sock), "log")

            def count(word):
                with open(log, encoding="utf-8") as file:
                    return sum(word in line for line in file)

            self.assertEqual((5, 5 * 4096), (report["requests"], report["bytes"]))
            self.assertTrue(common.until(lambda: count(" Connect ") == count(" Read ") == 5))


class Tls(unittest.TestCase):
    def test_the_same_is_said_encrypted(self):
        with tempfile.TemporaryDirectory() as folder:
            maker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..",
                                 "make-certificates.sh")
            subprocess.run(["bash", maker, folder], check=True, capture_output=True)
            try:
                with common.served("--tls=require", f"--tls-certificates={folder}/good", "memory",
                                   "4M") as (sock, _):
                    report = common.nbdload(sock, "--tls", "--rw", "randrw", "--verify",
                                            "--block-size", "20K", "--depth", "8",
                                            "--connections", "3", "--requests", "900")
            except AssertionError as error:
                if "without TLS" in str(error):
                    self.skipTest("built without TLS")
                raise
        self.assertEqual((900, 0), (report["requests"], report["mismatches"]))

    def test_a_server_without_it_is_an_error(self):
        with common.served("memory", "1M") as (sock, _):
            self.assertIn("TLS", common.refusal(sock, "--tls", "--requests", "1"))


class Exports(unittest.TestCase):
    def test_connections_take_turns_among_them(self):
        with tempfile.TemporaryDirectory() as folder:
            for i in range(3):
                with open(os.path.join(folder, f"disk{i}"), "wb") as f:
                    f.truncate(65536)
            with common.served("file", f"dir={folder}") as (sock, _):
                common.nbdload(sock, "--export", "disk", "--exports", "3", "--connections", "7",
                               "--rw", "write", "--requests", "7")
                complaint = common.refusal(sock, "--export", "disk", "--exports", "4",
                                           "--connections", "4", "--requests", "4")
            written = [os.stat(os.path.join(folder, f"disk{i}")).st_blocks > 0 for i in range(3)]
        self.assertEqual(written, [True] * 3)
        self.assertIn("connection 3", complaint)
        self.assertIn("disk3", complaint)


class Floor(unittest.TestCase):
    """The bare answerer has no checks, but what it reads and writes is right."""

    def check(self, folder, *disk):
        sock = os.path.join(folder, "floor")
        floor = subprocess.Popen([os.environ["FLOOR"], "-U", sock, *disk])
        try:
            self.assertTrue(common.until(lambda: os.path.exists(sock)))
            for size, requests in (("4K", "4096"), ("1M", "16")):
                whole = ["--block-size", size, "--requests", requests, "--depth", "8"]
                common.nbdload(sock, "--rw", "write", "--verify", *whole)
                report = common.nbdload(sock, "--rw", "read", "--verify=all", *whole)
                self.assertEqual((report["errors"], report["mismatches"]), (0, 0))
            common.nbdload(sock, "--rw", "randrw", "--verify", "--depth", "600", "--requests",
                           "5000", "--connections", "3")
        finally:
            floor.terminate()
            floor.wait(60)

    def test_memory(self):
        with tempfile.TemporaryDirectory() as folder:
            self.check(folder, "-s", "16M")

    def test_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "disk")
            with open(path, "wb") as f:
                f.truncate(16 << 20)
            self.check(folder, "-f", path)
            self.assertGreater(os.stat(path).st_blocks * 512, 15 << 20)


class ServerTime(unittest.TestCase):
    def test_children_of_the_server_count(self):
        """A shell does nothing itself; the server is its child."""
        with tempfile.TemporaryDirectory() as folder:
            sock, pidfile = os.path.join(folder, "s"), os.path.join(folder, "p")
            shell = subprocess.Popen(["sh", "-c", '"$@"; true', "sh", common.NBDRING, "-f", "-U",
                                      sock, "-P", pidfile, "memory", "16M"])
            try:
                self.assertTrue(common.until(lambda: os.path.exists(pidfile)))
                with open(pidfile) as f:
                    server = int(f.read())
                report = common.nbdload(sock, "--requests", "20000", "--depth", "8", "--cpu-of",
                                        str(shell.pid))
                os.kill(server, 15)
            finally:
                self.assertEqual(shell.wait(60), 0)
        self.assertGreater(report["server_cpu_ns"], 20000 * 100)


if __name__ == "__main__":
    unittest.main()
