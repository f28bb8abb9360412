#!/usr/bin/env bash
#
# split: several files are one disk, in the order they were named, with no seam
# that a client could notice.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io

# Sizes that end in the middle of anything.
random_file "$DISK/a" 1048576
random_file "$DISK/b" 513
random_file "$DISK/c" 65535
random_file "$DISK/d" 934400
cat "$DISK/a" "$DISK/b" "$DISK/c" "$DISK/d" >"$DISK/whole"
size=$(stat -c %s "$DISK/whole")

note "read"
start_server split file="$DISK/a" file="$DISK/b" file="$DISK/c" file="$DISK/d"
equal size "$(nbdinfo --size "$URI")" "$size"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"
nbdcopy --no-extents --request-size=32768 "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"

stop_server

# nbdkit 1.32 writes to the wrong place of every file but the first.
ours || exit 0

note "written, across every seam at once"
start_server split file="$DISK/a" file="$DISK/b" file="$DISK/c" file="$DISK/d"
random_file "$DISK/whole" "$size"
nbdcopy --flush "$DISK/whole" "$URI"
stop_server
cat "$DISK/a" "$DISK/b" "$DISK/c" "$DISK/d" >"$DISK/joined"
same_bytes "$DISK/joined" "$DISK/whole"

note "bare words are files too"
start_server split "$DISK/a" "$DISK/b" "$DISK/c" "$DISK/d"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"

note "around one seam: write, zero, read"
at=$((1048576 - 100))
qemu-io -f raw -c "write -P 0x5a $at 1000" -c "read -P 0x5a $at 1000" \
	-c "write -z $((at + 50)) 700" -c "read -P 0 $((at + 50)) 700" \
	-c "read -P 0x5a $at 50" -c "read -P 0x5a $((at + 750)) 250" "$URI" >"$WORK/qemu-io.log" ||
	fail "qemu-io failed"
stop_server
head -c 50 /dev/zero | tr '\0' Z >"$WORK/end"
cmp -n 50 -i $((1048576 - 100)):0 "$DISK/a" "$WORK/end" ||
	fail "the end of the first file is not what was written"
head -c 513 /dev/zero | cmp - "$DISK/b" || fail "the second file is not zeroes"

note "one piece alone"
start_server split "$DISK/d"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/d" "$DISK/copy"
stop_server

note "holes are where they are in the pieces"
truncate -s 1M "$DISK/hole"
random_file "$DISK/a" 1048576
start_server split "$DISK/a" "$DISK/hole" "$DISK/a"
nbdinfo --map "$URI" | awk '{ print $1, $2, $3 }' >"$WORK/map"
printf '0 1048576 0\n1048576 1048576 3\n2097152 1048576 0\n' >"$WORK/truth"
diff "$WORK/truth" "$WORK/map" || fail "the map is wrong"
stop_server

note "a piece that is missing"
refused "missing" -- -U "$WORK/s" split "$DISK/a" "$DISK/missing" "$DISK/b"
