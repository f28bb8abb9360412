"""For the tests of bench/: an nbdring that serves while a test runs, and nbdload."""

import contextlib
import json
import os
import subprocess
import tempfile
import time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NBDRING = os.environ["NBDRING"]
NBDLOAD = os.environ["NBDLOAD"]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def served(*arguments):
    """An nbdring with these layers and parameters; gives its socket and process."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        sock, pidfile = os.path.join(folder, "sock"), os.path.join(folder, "pid")
        words = [word.format(folder=folder) for word in arguments]
        process = subprocess.Popen([NBDRING, "-f", "-U", sock, "-P", pidfile, *words],
                                   stdin=subprocess.DEVNULL)
        try:
            assert until(lambda: os.path.exists(pidfile) or process.poll() is not None)
            assert process.poll() is None, "the server did not start"
            yield sock, process
        finally:
            process.terminate()
            assert process.wait(60) == 0, "the server did not end well"


def nbdload(sock, *arguments):
    """The report of a run that has to go well."""
    done = subprocess.run([NBDLOAD, "--json", *arguments, sock], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, f"nbdload: {done.returncode} {done.stderr}"
    return json.loads(done.stdout)


def refusal(sock, *arguments):
    """What nbdload says when it cannot do that."""
    done = subprocess.run([NBDLOAD, *arguments, sock], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode in (1, 2), f"nbdload: {done.returncode}"
    return done.stderr
