#!/usr/bin/env bash
#
# --swap: the memory of the server is locked, or the start says what stands in the way.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo setpriv
ours || skip "nbdkit says it differently"
! sanitized || skip "AddressSanitizer lets nothing be locked"

locked() {
	sed -n 's/^VmLck:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$PID/status"
}

note "without it nothing is locked"
start_server -t 1 memory 1M
equal "the memory that is locked" "$(locked)" 0
stop_server

if [ "$(id -u)" -eq 0 ]; then
	note "with it all is, also that of threads to come"
	start_server --swap -t 1 memory 1M
	[ "$(locked)" -gt 1000 ] || fail "only $(locked) KiB are locked"
	nbdinfo --size "$URI" >/dev/null
	stop_server

	if (ulimit -l unlimited) 2>/dev/null; then
		note "and stays when root is given up"
		start_server --swap -u nobody -t 1 memory 1M
		[ "$(locked)" -gt 1000 ] || fail "only $(locked) KiB are locked"
		nbdinfo --size "$URI" >/dev/null
		stop_server
	fi
	note "another user has a limit: it has to be high before"
	# shellcheck disable=SC2016 # the variables are the inner shell's
	SERVER_PREFIX=(setpriv --bounding-set=-sys_resource bash -c 'ulimit -l 8192; exec "$0" "$@"')
	refused "--swap" "8192 KiB" -- --swap -u nobody -t 1 -U "$WORK/s" memory 1M
	SERVER_PREFIX=()
fi

note "a limit that is too low is named"
[ "$(id -u)" -ne 0 ] || as_nobody_can_run
# shellcheck disable=SC2016 # the same
SERVER_PREFIX=("${AS_NOBODY[@]}" bash -c 'ulimit -l 8192; exec "$0" "$@"')
refused "--swap" "8192 KiB" "ulimit -l" "LimitMEMLOCK" -- --swap -t 1 -U "$WORK/s" memory 1M
