#!/usr/bin/env bash
#
# --filter=truncate: smaller, larger, rounded; the tail of a larger disk is zeroes.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io

random_file "$DISK/disk" 1000000

# served SIZE ARGUMENT...: the disk has so many bytes: those of the file, then zeroes.
served() {
	local size=$1
	shift

	note "$*: $size bytes"
	start_server --filter=truncate file "$DISK/disk" "$@"
	equal size "$(nbdinfo --size "$URI")" "$size"
	cp "$DISK/disk" "$DISK/expected"
	truncate -s "$size" "$DISK/expected"
	nbdcopy "$URI" "$DISK/copy"
	same_bytes "$DISK/expected" "$DISK/copy"
	nbdcopy --no-extents "$URI" "$DISK/copy"
	same_bytes "$DISK/expected" "$DISK/copy"
	stop_server
}

served 1000000
served 12345 truncate=12345
served 3000001 truncate=3000001
served 1000448 round-up=512
served 999936 round-down=512

note "the map"
start_server --filter=truncate file "$DISK/disk" truncate=2000000
nbdinfo --map "$URI" | awk '{ print $1, $2, $3 }' >"$WORK/map"
printf '0 1000000 0\n1000000 1000000 3\n' >"$WORK/truth"
diff "$WORK/truth" "$WORK/map" || fail "the map is wrong"

note "zeroes can be written to the tail, other bytes cannot"
qemu-io -f raw -c "write -P 0 1000000 4096" -c "write -z 1500000 4096" \
	-c "discard 1500000 4096" "$URI" >"$WORK/qemu-io.log" ||
	fail "zeroes were refused"
fails qemu-io -f raw -c "write -P 1 1000000 4096" "$URI" >"$WORK/qemu-io.log" 2>&1
grep -q "No space left on device" "$WORK/qemu-io.log" || fail "this is another error"
cp "$DISK/disk" "$DISK/expected"
fails qemu-io -f raw -c "write -P 1 999000 2000" "$URI" >"$WORK/qemu-io.log" 2>&1
stop_server
same_bytes "$DISK/expected" "$DISK/disk"

note "what cannot be"
refused round-up round-down -- -U "$WORK/s" --filter=truncate file "$DISK/disk" \
	round-up=512 round-down=512
refused truncate -- -U "$WORK/s" --filter=truncate file "$DISK/disk" truncate=16E
