#!/usr/bin/env bash
#
# --filter=offset: a stretch of a file is the disk, for reading and writing, and
# nothing outside of it changes.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io

random_file "$DISK/disk" 3000000

note "a stretch"
start_server --filter=offset file "$DISK/disk" offset=1000000 range=1M
equal size "$(nbdinfo --size "$URI")" 1048576
nbdcopy "$URI" "$WORK/copy"
cmp -i 1000000:0 -n 1048576 "$DISK/disk" "$WORK/copy" || fail "these are not the right bytes"
stop_server

note "up to the end"
start_server --filter=offset file "$DISK/disk" offset=2999999
equal size "$(nbdinfo --size "$URI")" 1
nbdcopy "$URI" "$WORK/copy"
cmp -i 2999999:0 "$DISK/disk" "$WORK/copy" || fail "this is not the last byte"
stop_server

note "written, and nothing else is"
cp "$DISK/disk" "$DISK/expected"
random_file "$WORK/new" 1000
dd if="$WORK/new" of="$DISK/expected" bs=1000 seek=2000 conv=notrunc status=none
start_server --filter=offset file "$DISK/disk" offset=2000000 range=1000
nbdcopy --flush "$WORK/new" "$URI"
stop_server
same_bytes "$DISK/expected" "$DISK/disk"

note "holes are where they are below"
sparse_file "$DISK/sparse"
start_server --filter=offset file "$DISK/sparse" offset=512k range=1M
nbdinfo --map "$URI" | awk '{ print $1, $2, $3 }' >"$WORK/map"
printf '0 524288 3\n524288 131072 0\n655360 393216 3\n' >"$WORK/truth"
diff "$WORK/truth" "$WORK/map" || fail "the map is wrong"
stop_server

note "what does not fit"
refused "offset=3000000" "3000000 bytes" -- \
	-U "$WORK/s" --filter=offset file "$DISK/disk" offset=3000000 range=1
refused offset -- -U "$WORK/s" --filter=offset file "$DISK/disk" offset=-1
refused range -- -U "$WORK/s" --filter=offset file "$DISK/disk" range=0
