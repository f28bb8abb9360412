#!/usr/bin/env bash
#
# SIGTERM and SIGINT while clients write: what was acknowledged is in the file, the
# server ends in good time with status 0, and leaves nothing behind.
#
# usage: test-shutdown.sh TERM|INT

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_python_nbd
need nbdcopy

signal=${1:-TERM}
size=268435456

has_written() {
	[ -e "$WORK/acknowledged" ] && [ "$(wc -l <"$WORK/acknowledged")" -ge "$1" ]
}

is_gone() {
	ours || return 0
	[ ! -e "$PIDFILE" ] || fail "the pid file is still there"
	[ ! -e "$SOCK" ] || fail "the socket is still there"
}

for options in "" "cache=none"; do
	[ -z "$options" ] || ours || continue
	note "a client with 64 writes in flight $options"
	rm -f "$WORK/acknowledged"
	truncate -s "$size" "$DISK/disk.img"
	# shellcheck disable=SC2086
	start_server file "$DISK/disk.img" $options
	"$PYTHON" "$here/functional/write-until-cut.py" "$URI" >"$WORK/acknowledged" &
	writer=$!
	server_pids+=("$writer")
	# In the middle of it, wherever that is.
	until_true 60 has_written 1000 || fail "the client does not get on"
	stop_server "$PID" "$signal"
	until_true 60 process_ended "$writer" || fail "the client still waits for its replies"
	"$PYTHON" "$here/functional/write-until-cut.py" --check "$DISK/disk.img" <"$WORK/acknowledged"
	is_gone
	rm "$DISK/disk.img"
done

note "nbdcopy in the middle of its copy"
random_file "$DISK/source" 100000000
start_server memory 100000000
nbdcopy --requests=16 --progress=3 "$DISK/source" "$URI" 3>"$WORK/progress" 2>"$WORK/nbdcopy.log" &
copier=$!
server_pids+=("$copier")
until_true 60 test -s "$WORK/progress" || fail "nbdcopy does not get on"
stop_server "$PID" "$signal"
until_true 60 process_ended "$copier" || fail "nbdcopy still waits for its replies"
is_gone

# From here on: nbdkit waits for its clients as long as they stay.
ours || exit 0

note "clients that do nothing, and one that has not finished its handshake"
start_server memory 1M
"$PYTHON" -c '
import socket, sys, time
import nbd
clients = [nbd.NBD() for _ in range(20)]
for client in clients:
    client.connect_unix(sys.argv[1])
half = socket.socket(socket.AF_UNIX)
half.connect(sys.argv[1])
print("connected", flush=True)
time.sleep(600)' "$SOCK" >"$WORK/idle" &
idle=$!
server_pids+=("$idle")
until_true 60 test -s "$WORK/idle" || fail "the clients could not connect"
stop_server "$PID" "$signal"
is_gone

note "one that reads nothing of what it asked for"
start_server memory 64M
"$PYTHON" -c '
import sys, time
import nbd
client = nbd.NBD()
client.connect_unix(sys.argv[1])
buffers = [nbd.Buffer(1 << 20) for _ in range(32)]
for i, buffer in enumerate(buffers):
    client.aio_pread(buffer, i << 20)
print("asked", flush=True)
time.sleep(600)' "$SOCK" >"$WORK/stuck" &
server_pids+=($!)
until_true 60 test -s "$WORK/stuck" || fail "the client could not ask"
stop_server "$PID" "$signal"
is_gone

note "twice in a row is still clean"
start_server memory 1M
kill "-$signal" "$PID"
kill "-$signal" "$PID" 2>/dev/null || true
expect_end "$PID" 0
is_gone
