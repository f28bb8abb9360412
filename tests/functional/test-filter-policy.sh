#!/usr/bin/env bash
#
# The filters that decide who is served, how fast and how long, with real clients:
# limit, ip, rate, time-limit, exitlast, exitwhen, exportname.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io
need_python_nbd

# hold: a client that is connected until the file $WORK/go has gone; back when it is in.
hold() {
	touch "$WORK/go"
	rm -f "$WORK/in"
	"$PYTHON" - "$URI" "$WORK" <<-'EOT' &
		import os, sys, time, nbd

		client = nbd.NBD()
		client.connect_uri(sys.argv[1])
		open(sys.argv[2] + '/in', 'w').close()
		while os.path.exists(sys.argv[2] + '/go'):
		    time.sleep(0.02)
		client.pread(512, 0)
		client.shutdown()
	EOT
	HELD=$!
	until_true 20 test -e "$WORK/in" || fail "the client did not get in"
}

let_go() {
	rm -f "$WORK/go"
	wait "$HELD" || fail "the client that was in was not served to its end"
}

connects() {
	qemu-io -r -f raw -c "read 0 512" "$URI" >"$WORK/client.log" 2>&1
}

refuses() {
	! connects || fail "this client should not have been let in"
}

milliseconds() {
	echo $(($(date +%s%N) / 1000000))
}

# Within half a minute the server has ended well by itself.
ended() {
	until_true 30 process_ended "$PID" || fail "the server did not end"
	expect_end "$PID" 0
}

note "limit: one client, then two"
start_server --filter=limit memory 1M
hold
refuses
nbdinfo --list "$URI" >/dev/null || fail "the list is not to be had"
let_go
until_true 10 connects || fail "the place is not free again"
stop_server
start_server --filter=limit memory 1M limit=2
hold
connects || fail "the second one was refused"
let_go
stop_server

note "limit: for all exports together, and for each"
mkdir "$DISK/disks"
random_file "$DISK/disks/one" 65536
random_file "$DISK/disks/two" 65536
# on NAME: the clients below use this export.
on() {
	URI="nbd+unix:///$1?socket=$SOCK"
}
start_server --filter=limit file dir="$DISK/disks"
on one
hold
on two
refuses
let_go
until_true 10 connects || fail "the place is not free again"
stop_server
start_server --filter=limit file dir="$DISK/disks" limit=0 export-limit=1
on one
hold
refuses
on two
connects || fail "the limit of one export was counted for another"
let_go
stop_server
refused "export-limit=2" "limit=0" -- -U "$WORK/s" --filter=limit memory 1M export-limit=2

note "ip: users on a Unix socket, addresses on TCP"
start_server --filter=ip memory 1M "allow=uid:$(id -u)" deny=any
connects || fail "this user should have been let in"
stop_server
start_server --filter=ip memory 1M allow=uid:4294967294 deny=unix
refuses
stop_server
for rules in allow=127.0.0.0/8 allow=ipv4 allow=unix allow=127.0.0.2; do
	port=$(free_port)
	"$NBDRING" -f -i 127.0.0.1 -p "$port" -P "$WORK/tcp.pid" --filter=ip memory 1M \
		"$rules" deny=any </dev/null >"$WORK/tcp.log" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	wait_until_ready "$PID" "$WORK/tcp.pid" || fail "the server did not start"
	URI="nbd://127.0.0.1:$port"
	case $rules in
	*/8 | *ipv4) connects || fail "this address should have been let in: $rules" ;;
	*) refuses ;;
	esac
	stop_server
	rm -f "$WORK/tcp.pid"
done
refused "allow=1.2.3" -- -U "$WORK/s" --filter=ip memory 1M allow=1.2.3
refused "0 to 32" -- -U "$WORK/s" --filter=ip memory 1M deny=any,10.0.0.0/33

note "rate: two megabytes at one megabyte per second"
start_server --filter=rate memory 2M rate=8M burstiness=0.5
start=$(milliseconds)
nbdcopy --no-extents "$URI" "$WORK/copy"
took=$(($(milliseconds) - start))
[ "$took" -ge 1400 ] || fail "it took $took ms only"
[ "$took" -le 20000 ] || fail "it took $took ms"
stop_server

note "rate: a file changes it for those who wait, too"
echo 1000 >"$WORK/rate"
start_server --filter=rate memory 2M rate-file="$WORK/rate"
nbdcopy --no-extents "$URI" "$WORK/copy" &
copy=$!
sleep 1
kill -0 "$copy" || fail "it was done at once"
echo 8G >"$WORK/rate.new"
mv "$WORK/rate.new" "$WORK/rate"
until_true 10 process_ended "$copy" || fail "the new rate is not in force"
wait "$copy" || fail "the copy failed"
stop_server

note "rate: one for all exports"
# 600 bytes are at hand, the next one comes in a second.
echo 8 >"$WORK/rate"
start_server --filter=rate file dir="$DISK/disks" rate-file="$WORK/rate" burstiness=600
on one
connects || fail "the first read had to wait"
on two
qemu-io -r -f raw -c "read 0 512" "$URI" >"$WORK/other.log" 2>&1 &
reader=$!
sleep 1
kill -0 "$reader" || fail "another export has a rate of its own"
echo 8G >"$WORK/rate.new"
mv "$WORK/rate.new" "$WORK/rate"
wait "$reader" || fail "the read failed"
stop_server

note "rate: a file that holds no rate any more is told in the log"
start_server --filter=rate memory 1M rate-file="$WORK/rate"
echo soon >"$WORK/rate.new"
mv "$WORK/rate.new" "$WORK/rate"
until_true 10 grep -q "warning: rate: rate-file=$WORK/rate: does not hold a rate" "$LOG" ||
	fail "the log does not say it: $(cat "$LOG")"
stop_server

note "rate: one for each export"
start_server --filter=rate file dir="$DISK/disks" export-rate=8 burstiness=600
for name in one two; do
	on "$name"
	timeout 60 qemu-io -r -f raw -c "read 0 512" "$URI" >"$WORK/client.log" 2>&1 ||
		fail "export $name had to wait for another"
done
stop_server

note "time-limit: after it, requests fail"
start_server --filter=time-limit memory 1M time-limit=0.5
"$PYTHON" - "$URI" <<-'EOT'
	import errno, sys, time, nbd

	client = nbd.NBD()
	client.connect_uri(sys.argv[1])
	client.pread(512, 0)
	time.sleep(0.8)
	try:
	    client.pread(512, 0)
	    sys.exit("it was served after its time")
	except nbd.Error as error:
	    assert error.errnum == errno.ESHUTDOWN, error.errnum
	client.shutdown()
EOT
grep -q 'time-limit: client unix:.* its requests fail from now on' "$LOG" ||
	fail "the log does not say why"
connects || fail "a new client has a new time"
stop_server

note "exitlast: with the last client"
start_server --filter=exitlast memory 1M
nbdinfo --list "$URI" >/dev/null
sleep 0.3
kill -0 "$PID" || fail "nobody was in yet"
hold
connects
kill -0 "$PID" || fail "one is still in"
let_go
ended

note "exitlast: the last client of all exports"
start_server --filter=exitlast file dir="$DISK/disks"
on one
hold
on two
connects
sleep 0.3
kill -0 "$PID" || fail "one is still in, on another export"
let_go
ended

note "exitwhen: a file, while no export is in use"
start_server --filter=exitwhen file dir="$DISK/disks" exit-when-file-created="$WORK/stop"
touch "$WORK/stop"
ended
rm "$WORK/stop"

note "exitwhen: a file; those who are in are served on"
start_server --filter=exitwhen memory 1M exit-when-file-created="$WORK/stop"
connects || fail "it has not happened yet"
hold
touch "$WORK/stop"
sleep 0.5
refuses
kill -0 "$PID" || fail "one is still in"
grep -q "exitwhen: exit-when-file-created=$WORK/stop: nobody is let in any more" "$LOG" ||
	fail "the log does not say that it has happened"
let_go
ended
rm "$WORK/stop"

note "exitwhen: a file that was there before"
touch "$WORK/stop"
timeout 60 "$NBDRING" -f -U "$WORK/stop.sock" --filter=exitwhen memory 1M \
	exit-when-file-created="$WORK/stop" || fail "the server did not end well at once"
rm "$WORK/stop"

note "exitwhen: a process"
sleep 1000 &
sleeper=$!
start_server --filter=exitwhen memory 1M exit-when-process-exits="$sleeper"
connects || fail "it has not happened yet"
kill "$sleeper"
wait "$sleeper" || true
ended

note "exitwhen: a pipe"
mkfifo "$WORK/pipe"
exec 8<>"$WORK/pipe"
exec 9<"$WORK/pipe"
# shellcheck disable=SC2016 # the same
SERVER_PREFIX=(bash -c 'exec 8>&-; exec "$0" "$@"')
start_server --filter=exitwhen memory 1M exit-when-pipe-closed=9
SERVER_PREFIX=()
exec 9<&-
connects || fail "it has not happened yet"
exec 8>&-
ended

note "exitwhen: a script"
start_server --filter=exitwhen memory 1M exit-when-poll=0.1 \
	exit-when-script="echo not for clients; [ ! -e $WORK/yes ] || exit 88"
connects || fail "it has not happened yet"
touch "$WORK/yes"
ended

note "exitwhen: a script that fails is told once"
start_server --filter=exitwhen memory 1M exit-when-poll=0.01 \
	exit-when-script="echo x >>$WORK/runs; exit 3"
enough() {
	[ "$(wc -l <"$WORK/runs")" -ge 5 ]
}
until_true 20 enough || fail "it is not run again"
stop_server
equal "how often it is told" "$(grep -c 'warning: exitwhen: exit-when-script=.* fails' "$LOG")" 1

note "exportname: lists and descriptions"
mkdir "$DISK/folder"
random_file "$DISK/folder/one" 65536
random_file "$DISK/folder/two" 131072
names() {
	nbdinfo --list --json "$URI" | python3 -c '
import json, sys
print(*sorted(e["export-name"] + "=" + e.get("description", "")
      for e in json.load(sys.stdin)["exports"]))'
}
# shellcheck disable=SC2016 # the script is not for this shell
start_server --filter=exportname file dir="$DISK/folder" \
	exportdesc=script:'printf "about %s" "$name"'
equal "the list" "$(names)" "one=about one two=about two"
nbdinfo "nbd+unix:///one?socket=$SOCK" | grep 'description: about one$' >/dev/null ||
	fail "who asks for one is not told about it"
stop_server
start_server --filter=exportname memory 1M default-export=a exportname-list=defaultonly \
	exportdesc=fixed:words
nbdinfo "nbd+unix:///?socket=$SOCK" | grep 'description: words$' >/dev/null || fail "no description"
stop_server
start_server --filter=exportname memory 1M exportdesc=none
! nbdinfo "nbd+unix:///?socket=$SOCK" | grep 'description' || fail "described all the same"
stop_server
start_server --filter=exportname file dir="$DISK/folder" exportname-list=explicit \
	exportname-strict=true exportname=two
equal "the list" "$(names)" "two="
equal "the size of two" "$(nbdinfo --size "nbd+unix:///two?socket=$SOCK")" 131072
fails nbdinfo --size "nbd+unix:///one?socket=$SOCK"
stop_server
start_server --filter=exportname memory 1M exportname-strict=true exportname=disk
URI="nbd+unix:///disk?socket=$SOCK"
connects || fail "the right name is refused"
URI="nbd+unix:///other?socket=$SOCK"
refuses
stop_server

note "all of them, twice, around a copy"
random_file "$DISK/image" 3000000
start_server --filter=limit --filter=ip --filter=rate --filter=time-limit --filter=exitwhen \
	--filter=exportname --filter=limit --filter=ip --filter=rate --filter=time-limit \
	--filter=exitwhen --filter=exportname file "$DISK/image"
nbdcopy --connections=1 "$URI" "$DISK/copy"
same_bytes "$DISK/image" "$DISK/copy"
stop_server
