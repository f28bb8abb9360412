#!/usr/bin/env bash
#
# A small RLIMIT_MEMLOCK: registered buffers shrink or go, the server stays. As an
# ordinary user, since the limit means nothing to root.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy qemu-io setpriv

as_nobody_can_run
make_ext4 "$DISK/disk.img" 64M
cp --sparse=always "$DISK/disk.img" "$DISK/original.img"
chmod 666 "$DISK/disk.img"

modes=("")
! ours || modes=(cache=writeback cache=none)

# as_limited KIB: the following servers may lock that much memory.
as_limited() {
	# shellcheck disable=SC2016
	SERVER_PREFIX=("${AS_NOBODY[@]}" bash -c 'ulimit -l "$0" && exec "$@"' "$1")
}

# 8192 KiB is a usual limit, 64 KiB an old one. What other servers of the same user
# have locked counts, too, so the old one is for a user of this test alone.
limits=(8192)
[ "$(id -u)" -ne 0 ] || limits+=(64)

for limit in "${limits[@]}"; do
	as_limited "$limit"
	workers=()
	# Some kernels count rings, too; one fits in.
	[ "$limit" -ge 8192 ] || workers=(-t 1)
	for mode in "${modes[@]}"; do
		note "$limit KiB may be locked; file $mode"
		# shellcheck disable=SC2086
		start_server "${workers[@]}" file "$DISK/disk.img" $mode
		for _ in 1 2; do
			nbdcopy --connections=4 "$URI" "$DISK/copy"
			same_bytes "$DISK/original.img" "$DISK/copy"
			nbdcopy --connections=4 --requests=64 --flush "$DISK/original.img" "$URI"
		done
		# One request of the largest size, in both directions.
		qemu-io -f raw -c 'write -P 7 32M 32M' -c 'read -P 7 32M 32M' "$URI" >"$WORK/qemu-io.log" ||
			fail "qemu-io failed"
		stop_server
		cat "$DISK/original.img" >"$DISK/disk.img"
	done
	note "$limit KiB may be locked; memory"
	start_server "${workers[@]}" memory 64M
	nbdcopy --connections=4 "$DISK/original.img" "$URI"
	nbdcopy --connections=4 "$URI" "$DISK/copy"
	same_bytes "$DISK/original.img" "$DISK/copy"
	stop_server
done

note "none may be locked: it runs where rings are not counted, or says what to do"
as_limited 0
status=0
"${SERVER_PREFIX[@]}" "$NBDRING" -U - memory 1M --run true 2>"$WORK/refused.err" || status=$?
if [ "$status" -ne 0 ]; then
	equal "the exit status" "$status" 1
	grep -q 'ulimit -l' "$WORK/refused.err" || fail "it said: $(cat "$WORK/refused.err")"
fi
