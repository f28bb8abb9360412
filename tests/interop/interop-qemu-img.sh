#!/usr/bin/env bash
#
# qemu-img as a client: info, map and compare say of an export what they say of
# the file behind it; a qcow2 image goes in and out through a raw export.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need qemu-img python3

# map_of IMAGE-OR-URI: lines of "start length data zero", neighbours merged.
map_of() {
	qemu-img map -f raw --output=json "$1" | python3 -c "
import json, sys
merged = []
for e in json.load(sys.stdin):
    kind = (e['data'], e['zero'])
    if merged and merged[-1][2] == kind:
        merged[-1][1] += e['length']
    else:
        merged.append([e['start'], e['length'], kind])
for start, length, (data, zero) in merged:
    print(start, length, 'data' if data else 'hole', 'zero' if zero else '')"
}

image=$DISK/sparse.img
sparse_file "$image"
cp --sparse=always "$image" "$DISK/original.img"
map_of "$image" >"$WORK/truth"

for options in "" "cache=none"; do
	[ -z "$options" ] || ours || continue
	note "a sparse file $options"
	# shellcheck disable=SC2086
	start_server file "$image" $options
	map_of "$URI" >"$WORK/map"
	diff "$WORK/truth" "$WORK/map" || fail "qemu-img map differs"
	qemu-img info -f raw --output=json "$URI" >"$WORK/info"
	grep -q '"virtual-size": 16777216' "$WORK/info" ||
		fail "qemu-img info tells another size"
	qemu-img compare -f raw -F raw "$URI" "$DISK/original.img"
	qemu-img compare -s -f raw -F raw "$URI" "$DISK/original.img"
	stop_server
done

note "one byte more is found"
printf 'x' | dd of="$image" bs=1 seek=5000000 conv=notrunc status=none
start_server file "$image"
fails qemu-img compare -f raw -F raw "$URI" "$DISK/original.img"
stop_server

note "another format, there and back"
qemu-img convert -f raw -O qcow2 -c "$DISK/original.img" "$DISK/compressed.qcow2"
start_server memory 16M
qemu-img convert -n -f qcow2 -O raw "$DISK/compressed.qcow2" "$URI"
map_of "$URI" >"$WORK/map"
qemu-img compare -f raw -F qcow2 "$URI" "$DISK/compressed.qcow2"
qemu-img convert -f raw -O qcow2 "$URI" "$DISK/again.qcow2"
qemu-img compare -f raw -F qcow2 "$DISK/original.img" "$DISK/again.qcow2"
stop_server

note "one server's export copied to another's"
start_server file "$DISK/original.img"
from=$URI from_pid=$PID
start_server memory 16M
qemu-img convert -n -f raw -O raw "$from" "$URI"
qemu-img compare -f raw -F raw "$from" "$URI"
stop_server
stop_server "$from_pid"
