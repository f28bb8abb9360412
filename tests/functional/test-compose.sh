#!/usr/bin/env bash
#
# concat and stripe: a disk made of other disks, whose bytes lie on them where the
# manual says they do.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy

note "concat: odd sizes, across every seam"
random_file "$DISK/a" 1048577
random_file "$DISK/b" 513
random_file "$DISK/c" 934400
cat "$DISK/a" "$DISK/b" "$DISK/c" >"$DISK/whole"
size=$(stat -c %s "$DISK/whole")
start_server concat leg="file $DISK/a" leg="file $DISK/b" leg="--filter=delay file $DISK/c rdelay=1ms"
equal size "$(nbdinfo --size "$URI")" "$size"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"
random_file "$DISK/whole" "$size"
nbdcopy --flush "$DISK/whole" "$URI"
stop_server
cat "$DISK/a" "$DISK/b" "$DISK/c" >"$DISK/joined"
same_bytes "$DISK/joined" "$DISK/whole"

note "stripe: chunks go to the legs in turn"
for leg in 0 1 2; do
	rm -f "$DISK/leg$leg"
	truncate -s 1M "$DISK/leg$leg"
done
random_file "$DISK/whole" $((3 * 1048576))
start_server stripe chunk=16k leg="file $DISK/leg0" leg="file $DISK/leg1" leg="file $DISK/leg2"
nbdcopy --flush "$DISK/whole" "$URI"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"
stop_server
split -b 16k -a 3 -d "$DISK/whole" "$DISK/chunk-"
for leg in 0 1 2; do
	for ((i = leg; i < 192; i += 3)); do
		cat "$DISK/chunk-$(printf %03d "$i")"
	done >"$DISK/expected"
	same_bytes "$DISK/expected" "$DISK/leg$leg"
done

note "stripe over other servers"
start_server file "$DISK/leg0"
first=$SOCK
start_server --threads=2 file "$DISK/leg1"
second=$SOCK
start_server --threads=2 stripe chunk=16k "nbd socket=$first" "nbd socket=$second" \
	"file $DISK/leg2"
nbdcopy --connections=2 "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"
nbdcopy --connections=2 --flush "$DISK/copy" "$URI"
stop_server
same_bytes "$DISK/expected" "$DISK/leg2"

note "legs of different sizes are reported"
start_server stripe "memory 1M" "memory 2M"
equal size "$(nbdinfo --size "$URI")" 2097152
grep -q "leg 2, which has 2097152 bytes, only the first 1048576" "$LOG" ||
	fail "the log does not say what is not used: $(cat "$LOG")"
stop_server

note "mirror: both legs get everything, in a sandbox where there is one"
truncate -s 3M "$DISK/left" "$DISK/right"
start_server mirror leg="file $DISK/left" leg="file $DISK/right" bitmap="$DISK/bitmap" \
	status="$WORK/status"
nbdcopy --flush "$DISK/whole" "$URI"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/copy"
same_bytes "$DISK/whole" "$DISK/left"
same_bytes "$DISK/whole" "$DISK/right"
grep -q '"state": "in"' "$WORK/status" || fail "no status: $(cat "$WORK/status")"

note "mirror: a bitmap has one user"
refused "another server has it" -- -U "$WORK/s" mirror leg="file $DISK/left" \
	leg="file $DISK/right" bitmap="$DISK/bitmap"
stop_server

note "mirror: another bitmap is refused, and left alone"
cp "$DISK/bitmap" "$DISK/before"
refused "mirror of 3145728 bytes" -- -U "$WORK/s" mirror "memory 1M" "memory 1M" \
	bitmap="$DISK/bitmap"
same_bytes "$DISK/before" "$DISK/bitmap"

note "a leg that cannot be opened"
refused "leg 2: file: " -- -U "$WORK/s" concat "memory 1M" "file $DISK/missing"
