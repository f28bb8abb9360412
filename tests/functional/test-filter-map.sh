#!/usr/bin/env bash
#
# --filter=map: a disk put together from ranges of a file, by parameters and by a file
# of ranges, for reading and writing.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy

random_file "$DISK/disk" 1000000
cp "$DISK/disk" "$DISK/before"
# part OFFSET LENGTH: those bytes of the file.
part() {
	dd if="$DISK/disk" bs=64K iflag=skip_bytes,count_bytes skip="$1" count="$2" status=none
}

note "sectors change places"
{ part 512 512 && part 0 512 && part 1024 1000000; } >"$DISK/expected"
start_server --filter=map file "$DISK/disk" map=0-511:512 map=512-1023:0
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/expected" "$DISK/copy"
stop_server

note "pieces, by a file of ranges"
{ part 900000 100000 && part 1 65537 && part 400000 3; } >"$DISK/expected"
printf '# pieces\n\n 0+100000:900000\n165537-165539:400000 # the last\n' >"$WORK/ranges"
start_server --filter=map file "$DISK/disk" map-file="$WORK/ranges" \
	map=100000+65537:1 map-size=165540
equal size "$(nbdinfo --size "$URI")" 165540
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/expected" "$DISK/copy"

note "written, and nothing else is"
random_file "$DISK/new" 165540
nbdcopy --flush "$DISK/new" "$URI"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/new" "$DISK/copy"
nbdcopy --flush "$DISK/expected" "$URI"
stop_server
same_bytes "$DISK/before" "$DISK/disk"

note "what does not add up"
refused overlap -- -U "$WORK/s" --filter=map file "$DISK/disk" map=0-9:0 map=9-10:0
refused "beyond the end" -- -U "$WORK/s" --filter=map file "$DISK/disk" map=0-9:1M
refused "leads nowhere" -- -U "$WORK/s" --filter=map file "$DISK/disk" map-size=1M
refused "START-END:DEST" -- -U "$WORK/s" --filter=map file "$DISK/disk" map=all
printf '1-2:3\nnonsense\n' >"$WORK/ranges"
refused "line 2" nonsense -- -U "$WORK/s" --filter=map file "$DISK/disk" map-file="$WORK/ranges"
