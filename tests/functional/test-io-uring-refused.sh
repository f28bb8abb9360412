#!/usr/bin/env bash
#
# Where io_uring is not allowed, the server says so at once, says whether it was
# seccomp or the sysctl, and what to change.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
ours || skip "nbdkit does not use io_uring"

helper=(python3 "$here/functional/without-io-uring.py")
"${helper[@]}" EPERM true || skip "no seccomp filters here"

note "seccomp refuses it, as in a container"
SERVER_PREFIX=("${helper[@]}" EPERM)
refused io_uring seccomp -- -U "$WORK/s" memory 1M

note "a kernel without it"
SERVER_PREFIX=("${helper[@]}" ENOSYS)
refused io_uring kernel -- -U "$WORK/s" memory 1M

note "what needs no ring works all the same"
SERVER_PREFIX=()
"${helper[@]}" EPERM "$NBDRING" --version
"${helper[@]}" EPERM "$NBDRING" --help >/dev/null
"${helper[@]}" EPERM "$NBDRING" file --help >/dev/null

note "a background server tells the one who started it"
status=0
"${helper[@]}" EPERM "$NBDRING" -U "$WORK/s" -P "$WORK/p" memory 1M </dev/null 2>"$WORK/err" || status=$?
equal "the exit status" "$status" 1
grep -q io_uring "$WORK/err" || fail "it said: $(cat "$WORK/err")"
[ ! -e "$WORK/p" ] || fail "there is a pid file though nothing runs"

# The sysctl is the whole machine's, so it is not changed: a server that sees
# another file in its place, and is refused, cannot tell the difference.
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null &&
	[ -e /proc/sys/kernel/io_uring_disabled ]; then
	for value in 1 2; do
		note "kernel.io_uring_disabled=$value"
		echo "$value" >"$WORK/io_uring_disabled"
		# shellcheck disable=SC2016
		SERVER_PREFIX=(unshare -m bash -c
			'mount --bind "$0" /proc/sys/kernel/io_uring_disabled && exec "$@"'
			"$WORK/io_uring_disabled" "${helper[@]}" EPERM)
		refused io_uring kernel.io_uring_disabled -- -U "$WORK/s" memory 1M
	done
fi
