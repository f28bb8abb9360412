#!/usr/bin/env bash
#
# A service manager hears when the server is ready, reloads and stops, what it is at,
# and, if it asks for that, that it is alive: not from a server one of whose workers is
# stuck.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd
ours || skip "nbdkit tells less"
modules=${NBDRING_TEST_MODULES:?the folder of the test modules}
manager=(python3 "$here/functional/service-manager.py")

# managed SOCKET [VARIABLE=VALUE]... -- ARGUMENT...: start the server under a manager;
# sets MANAGER, PID, PIDFILE, SOCK, URI, TOLD.
managed() {
	local socket=$1 settings=()
	shift

	while [ "$1" != -- ]; do
		settings+=("$1")
		shift
	done
	shift
	server_count=$((server_count + 1))
	TOLD=$WORK/$server_count.told
	SOCK=$WORK/$server_count.sock
	URI="nbd+unix:///?socket=$SOCK"
	PIDFILE=$WORK/$server_count.pid
	"${manager[@]}" "$TOLD" "$socket" "${settings[@]}" -- \
		"$NBDRING" -f -U "$SOCK" -P "$PIDFILE" "$@" >"$WORK/$server_count.log" 2>&1 &
	MANAGER=$!
	server_pids+=("$MANAGER")
	wait_until_ready "$MANAGER" "$PIDFILE" || fail "the server did not start: $*"
	PID=$(cat "$PIDFILE")
	server_pids+=("$PID")
}

told() {
	grep -qE -e "$1" "$TOLD"
}

feeds() {
	grep -c WATCHDOG=1 "$TOLD" || true
}

more_feeds() {
	[ "$(feeds)" -gt "$1" ]
}

ended_well() {
	kill -TERM "$PID"
	expect_end "$MANAGER" 0
}

note "ready, what it is at, reloading, stopping"
managed "$WORK/notify" -- memory 1M
until_true 60 told '^READY=1$' || fail "it did not say that it is ready"
until_true 60 told '^STATUS=0 clients, 1 export open$' || fail "it did not say what it is at"
kill -HUP "$PID"
until_true 60 told '^RELOADING=1 MONOTONIC_USEC=[0-9]+$' || fail "it did not say that it reloads"
ready_again() {
	[ "$(grep -c '^READY=1$' "$TOLD")" = 2 ]
}
until_true 60 ready_again || fail "it did not say that it is ready again"
[ "$(feeds)" = 0 ] || fail "it feeds a watchdog that is not there"
ended_well
told '^STOPPING=1$' || fail "it did not say that it stops"

note "an abstract socket, from within the sandbox"
managed "@nbdring-test-$$" -- memory 1M
ended_well
for word in READY=1 STOPPING=1; do
	told "^$word\$" || fail "it did not say $word"
done

note "a watchdog is fed, with clients counted"
managed "$WORK/notify2" WATCHDOG_USEC=200000 -- -t 2 memory 1M
until_true 60 more_feeds 5 || fail "the watchdog is not fed"
"$PYTHON" - "$URI" "$TOLD" <<-'EOT'
	import nbd, sys, time
	handle = nbd.NBD()
	handle.connect_uri(sys.argv[1])
	while 'STATUS=1 client, 1 export open' not in open(sys.argv[2]).read():
	    time.sleep(0.02)
EOT
until_true 60 more_feeds "$(($(feeds) + 5))" || fail "the watchdog is not fed any more"
ended_well

note "not by a server with a worker that is stuck, and again when it turns"
touch "$WORK/gate"
managed "$WORK/notify3" WATCHDOG_USEC=200000 -- -t 2 --filter="$modules/stall.so" memory 1M \
	gate=/nowhere read-gate="$WORK/gate"
until_true 60 more_feeds 2 || fail "the watchdog is not fed"
"$PYTHON" -c 'import nbd, sys; h = nbd.NBD(); h.connect_uri(sys.argv[1]); h.pread(512, 0)' "$URI" &
client=$!
# Quiet for three periods; fed twelve times in them otherwise.
quiet() {
	local before
	before=$(feeds)
	sleep 0.6
	[ "$(feeds)" = "$before" ]
}
until_true 60 quiet || fail "the watchdog is fed though a worker is stuck"
before=$(feeds)
rm "$WORK/gate"
until_true 60 more_feeds "$before" || fail "the watchdog is not fed again"
wait "$client"
ended_well

note "one that is meant for another process is let be"
managed "$WORK/notify4" WATCHDOG_USEC=100000 WATCHDOG_PID=1 -- memory 1M
until_true 60 told STATUS= || fail "it says nothing"
sleep 0.3
[ "$(feeds)" = 0 ] || fail "it feeds the watchdog of another"
ended_well

note "commands do not speak for the server"
# shellcheck disable=SC2016
"${manager[@]}" "$WORK/told" "$WORK/notify5" WATCHDOG_USEC=1000000 -- \
	"$NBDRING" memory 1M --run 'printf "%s" "$NOTIFY_SOCKET$WATCHDOG_USEC"' >"$WORK/out"
[ ! -s "$WORK/out" ] || fail "the command's environment has $(cat "$WORK/out")"

note "why it did not start"
status=0
"${manager[@]}" "$WORK/told" "$WORK/notify6" -- "$NBDRING" -f -U "$WORK/s" file "$WORK/nothing" \
	2>/dev/null || status=$?
equal "the exit status" "$status" 1
grep -q '^STATUS=.*nothing.* ERRNO=2$' "$WORK/told" || fail "it told $(cat "$WORK/told")"
! grep -q READY "$WORK/told" || fail "it said that it is ready"

note "no such socket: it serves all the same"
export NOTIFY_SOCKET=vsock:2:1
start_server memory 1M
grep -q "NOTIFY_SOCKET=vsock:2:1" "$LOG" || fail "it did not say so"
stop_server
