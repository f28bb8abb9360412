#!/usr/bin/env bash
#
# Without -f the server goes into the background: the command returns when clients
# can connect, the pid file names the server, and what went wrong before that is
# told to the one who asked. With -f it stays. The pid file and the socket go when
# the server ends.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo

nobody_listens() {
	! nbdinfo --size "nbd+unix:///?socket=$1" >/dev/null 2>&1
}

note "into the background"
cd "$DISK"
truncate -s 1M disk.img
# A relative path, though the server does not stay in this folder.
timeout 60 "$NBDRING" -U "$WORK/sock" -P "$WORK/pid" file disk.img </dev/null >"$WORK/out" 2>&1
# The command is back: the server is ready, without any waiting.
pid=$(cat "$WORK/pid")
server_pids+=("$pid")
equal size "$(nbdinfo --size "nbd+unix:///?socket=$WORK/sock")" 1048576
equal "the name of process $pid" "$(cat "/proc/$pid/comm")" "$(basename "$NBDRING")"
equal "what it said" "$(cat "$WORK/out")" ""

note "it let go of the one who started it"
equal "its folder" "$(readlink "/proc/$pid/cwd")" /
for fd in 0 1 2; do
	equal "descriptor $fd" "$(readlink "/proc/$pid/fd/$fd")" /dev/null
done
if ours; then
	session=$(ps -o sid= -p "$pid" | tr -d ' ')
	[ "$session" != "$(ps -o sid= -p $$ | tr -d ' ')" ] || fail "it is still in the session of this test"
fi

note "it ends when asked"
kill -TERM "$pid"
until_true 60 process_ended "$pid" || fail "it did not end"
if ours; then
	[ ! -e "$WORK/pid" ] || fail "the pid file is still there"
	[ ! -e "$WORK/sock" ] || fail "the socket is still there"
else
	rm "$WORK/pid" "$WORK/sock"
fi

note "what goes wrong is told before the command returns"
status=0
"$NBDRING" -U "$WORK/sock" -P "$WORK/pid" file missing.img </dev/null 2>"$WORK/err" || status=$?
equal "the exit status" "$status" 1
grep -q missing.img "$WORK/err" || fail "it did not name the file: $(cat "$WORK/err")"
[ ! -e "$WORK/pid" ] || fail "there is a pid file though nothing runs"

note "in the foreground"
start_server file "$DISK/disk.img"
equal "the pid file" "$(cat "$PIDFILE")" "$PID"
stop_server
if ours; then
	[ ! -e "$PIDFILE" ] || fail "the pid file is still there"
	[ ! -e "$SOCK" ] || fail "the socket is still there"
fi

note "a pid file that cannot be written"
refused "nowhere" -- -U "$WORK/s" -P "$WORK/nowhere/pid" memory 1M
[ ! -S "$WORK/s" ] || ! ours || fail "the socket of the server that did not start is still there"

note "--exit-with-parent: it goes when the one who started it does"
bash -c '"$@" & until [ -s "$0" ]; do sleep 0.02; done' "$WORK/child.pid" \
	"$NBDRING" --exit-with-parent -U "$WORK/child.sock" -P "$WORK/child.pid" memory 1M \
	</dev/null >"$WORK/child.log" 2>&1 &
parent=$!
server_pids+=("$parent")
wait "$parent"
# By now it may have removed its pid file.
until_true 60 nobody_listens "$WORK/child.sock" || fail "it is still there"
