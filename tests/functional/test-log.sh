#!/usr/bin/env bash
#
# Where messages go: --log=stderr|null|PATH, -v and -D. A client that breaks the
# protocol is the message here; it gets one line, and the others do not notice.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd

# A client with a flag that no client may send, which ends its connection.
break_protocol() {
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(18, socket.MSG_WAITALL)
s.send(b"\xff\xff\xff\xff")
while s.recv(4096):
    pass' "$SOCK"
	# The next client is served, and leaves as it should: no line for that.
	"$PYTHON" -c '
import sys, nbd
client = nbd.NBD()
client.connect_uri(sys.argv[1])
client.pwrite(b"x" * 512, 0)
client.shutdown()' "$URI"
}

lines() {
	wc -l <"$1"
}

has_lines() {
	[ "$(lines "$1")" -ge "$2" ]
}

note "--log=stderr"
start_server --log=stderr memory 1M
break_protocol
until_true 60 has_lines "$LOG" 1 || fail "nothing was logged"
stop_server
! ours || equal "the number of lines" "$(lines "$LOG")" 1

note "the default is stderr"
start_server memory 1M
break_protocol
until_true 60 has_lines "$LOG" 1 || fail "nothing was logged"
stop_server

if ours; then
	note "--name, on standard error and in a file"
	start_server --name=disk.7 memory 1M
	break_protocol
	until_true 60 has_lines "$LOG" 1 || fail "nothing was logged"
	stop_server
	equal "lines without the name" "$(grep -vc '^nbdring/disk\.7: ' "$LOG")" 0
	start_server --name=disk.7 --log="$WORK/named.log" memory 1M
	break_protocol
	until_true 60 has_lines "$WORK/named.log" 1 || fail "nothing was logged"
	stop_server
	grep -Eq '^[-0-9T:.]+Z disk\.7: ' "$WORK/named.log" || fail "the file does not have the name"
	"$NBDRING" --name=disk.7 -U "$WORK/none/sock" memory 1M 2>"$WORK/named.err" && fail "it started"
	grep -q '^nbdring/disk\.7: ' "$WORK/named.err" || fail "the error does not have the name"
fi

note "--log=null"
start_server --log=null memory 1M
break_protocol
stop_server
equal "the number of lines" "$(lines "$LOG")" 0

note "--log=syslog: not on stderr"
start_server --log=syslog memory 1M
break_protocol
stop_server
equal "the number of lines" "$(lines "$LOG")" 0

note "what went wrong before the start is on stderr, wherever the log goes"
refused "missing" -- -U "$WORK/s" --log=stderr file "$DISK/missing"

note "-v tells more"
start_server -v memory 1M
nbdinfo --size "$URI"
until_true 60 has_lines "$LOG" 1 || fail "-v tells nothing"
stop_server

ours || exit 0
note "--log=PATH"
start_server --log="$WORK/messages" memory 1M
break_protocol
break_protocol
until_true 60 has_lines "$WORK/messages" 2 || fail "nothing was logged"
stop_server
equal "the number of lines on stderr" "$(lines "$LOG")" 0
equal "the number of lines" "$(lines "$WORK/messages")" 2
# A second server goes on at the end of the file.
start_server --log="$WORK/messages" memory 1M
break_protocol
stop_server
equal "the number of lines" "$(lines "$WORK/messages")" 3

note "SIGHUP opens the file anew, for those who rotate it"
start_server --log="$WORK/rotated" memory 1M
break_protocol
until_true 60 has_lines "$WORK/rotated" 1 || fail "nothing was logged"
mv "$WORK/rotated" "$WORK/rotated.1"
kill -HUP "$PID"
until_true 60 test -e "$WORK/rotated" || fail "no new file"
break_protocol
until_true 60 has_lines "$WORK/rotated" 1 || fail "the new file stays empty"
equal "the number of lines in the old file" "$(lines "$WORK/rotated.1")" 1
stop_server

note "a background server keeps its log, though its stderr is gone"
timeout 60 "$NBDRING" --log="$WORK/background" -U "$WORK/b.sock" -P "$WORK/b.pid" memory 1M </dev/null
pid=$(cat "$WORK/b.pid")
server_pids+=("$pid")
SOCK=$WORK/b.sock URI="nbd+unix:///?socket=$WORK/b.sock"
break_protocol
until_true 60 has_lines "$WORK/background" 1 || fail "nothing was logged"
kill "$pid"
until_true 60 process_ended "$pid" || fail "it did not end"

note "an I/O error says which export, client, operation and place it was"
truncate -s 1M "$DISK/disk.img"
start_server file "$DISK/disk.img"
"$PYTHON" -c '
import os, sys, nbd
client = nbd.NBD()
client.connect_uri(sys.argv[1])
os.truncate(sys.argv[2], 4096)
try:
    client.pread(512, 65536)
except nbd.Error as error:
    sys.exit(error.errno != "EIO")
sys.exit("a read of what is gone went well")' "$URI" "$DISK/disk.img"
until_true 60 has_lines "$LOG" 1 || fail "nothing was logged"
stop_server
equal "the number of lines" "$(lines "$LOG")" 1
for word in export client READ 65536 512 "Input/output error"; do
	grep -qF "$word" "$LOG" || fail "the log does not mention '$word'"
done

note "a log that cannot be written"
refused "nowhere" -- -U "$WORK/s" --log="$WORK/nowhere/log" memory 1M
