"""Command lines of servers that do not take nbdkit's.

A function of PEERS gets the words of the command, the harness.Server it is for
and the pid file, and returns the command line that serves the same thing.  It
raises Unknown for what that server cannot be asked for: such a test is skipped.
"""

import nbdwire

# Runs a server that goes into the background as if it had stayed in the foreground.
FOREGROUND = """
"$@" || exit
until [ -s "$DAEMON_PID" ]; do sleep 0.02; done
daemon=$(cat "$DAEMON_PID")
# Its group as well: those that serve clients may outlive it.
trap 'kill "$daemon"; sleep 0.1; kill -KILL -- "-$daemon"' TERM INT
echo $$ >"$PID"
while grep -q '^State:.[RSDT]' "/proc/$daemon/status" 2>/dev/null; do sleep 0.05; done
exit 0
"""

UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


class Unknown(Exception):
    """The server has no such backend, parameter or option."""


def image(server):
    """The file that server.backend means, and its parameters; memory becomes a file."""
    name, *rest = server.backend
    if name == "memory" and len(rest) == 1:
        size = rest[0]
        shift = UNITS.get(size[-1], 0)
        size = int(size[:-1] if shift else size) << shift
        path = server.directory / "memory"
        try:
            with open(path, "wb") as file:
                file.truncate(size)
        except OSError:
            raise Unknown(f"memory {rest[0]}") from None
        return str(path), []
    if name == "file" and rest and "=" not in rest[0].split("/")[0]:
        return rest[0], rest[1:]
    raise Unknown(" ".join(server.backend))


def qemu_nbd(command, server, pidfile):
    """qemu-nbd: one image under the empty name, any number of clients."""
    path, parameters = image(server)
    words = [*command, "--persistent", "--shared=0", "--format=raw", "--discard=unmap",
             f"--pid-file={pidfile}"]
    for word in server.options:
        if word != "-r":
            raise Unknown(word)
        words.append("--read-only")
    for word in parameters:
        if word != "cache=none":
            raise Unknown(word)
        words += ["--cache=none", "--aio=native"]
    if server.port is None:
        words.append(f"--socket={server.socket}")
    else:
        words += ["--bind=127.0.0.1", f"--port={server.port}"]
    return [*words, path]


def nbd_server(command, server, pidfile):
    """nbd-server: a configuration file with one export.

    It cannot be the default one, so the tests are made to ask for its name.
    """
    nbdwire.default_export = b"default"
    path, parameters = image(server)
    for word in (*parameters, *(word for word in server.options if word != "-r")):
        raise Unknown(word)
    generic = ["allowlist = true", f"unixsock = {server.socket}"]
    if server.port is None:
        generic.append("duallisten = false")
    else:
        generic = ["allowlist = true", "listenaddr = 127.0.0.1", f"port = {server.port}"]
    export = [f"exportname = {path}", "flush = true", "fua = true", "trim = true"]
    if "-r" in server.options:
        export.append("readonly = true")
    config = server.directory / "config"
    config.write_text("\n".join(["[generic]", *generic, "[default]", *export, ""]))
    # With -d it would stay, but serve one client at a time.
    background = server.directory / "daemon.pid"
    return ["env", f"PID={pidfile}", f"DAEMON_PID={background}", "sh", "-c", FOREGROUND, "sh",
            *command, "-C", str(config), "-p", str(background)]


PEERS = {"qemu-nbd": qemu_nbd, "nbd-server": nbd_server}
