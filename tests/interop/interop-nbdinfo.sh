#!/usr/bin/env bash
#
# What nbdinfo sees: size, flags, block sizes, the list of exports, and a map of
# holes that is the file system's own.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo python3

# json_of URI EXPRESSION: the expression sees nbdinfo's answer as `info` and its
# first export as `export`.
json_of() {
	nbdinfo --json "$1" | python3 -c "
import json, sys
info = json.load(sys.stdin)
export = info['exports'][0]
print($2)"
}

# map_of_export URI: as map_of_file prints it.
map_of_export() {
	nbdinfo --map --json "$1" | python3 -c "
import json, sys
merged = []
for extent in json.load(sys.stdin):
    kind = {0: 'data', 3: 'hole'}[extent['type']]
    if merged and merged[-1][2] == kind:
        merged[-1][1] += extent['length']
    else:
        merged.append([extent['offset'], extent['length'], kind])
for extent in merged:
    print(*extent)"
}

image=$DISK/sparse.img
sparse_file "$image"

note "a writable file"
start_server file "$image"
nbdinfo "$URI"
equal size "$(nbdinfo --size "$URI")" 16777216
equal protocol "$(json_of "$URI" "info['protocol']")" newstyle-fixed
equal TLS "$(json_of "$URI" "info['TLS']")" False
equal structured "$(json_of "$URI" "info['structured']")" True
equal export-size "$(json_of "$URI" "export['export-size']")" 16777216
equal contexts "$(json_of "$URI" "export['contexts']")" "['base:allocation']"
equal is_read_only "$(json_of "$URI" "export['is_read_only']")" False
abilities=(cache df flush fua multi-conn trim zero write read connect structured-reply)
if ours; then
	abilities+=(fast-zero)
fi
for can in "${abilities[@]}"; do
	nbdinfo --can "$can" "$URI" || fail "nbdinfo --can $can says no"
done
fails nbdinfo --is read-only "$URI"
fails nbdinfo --is tls "$URI"

note "its map"
map_of_file "$image" >"$WORK/truth"
map_of_export "$URI" >"$WORK/map"
diff "$WORK/truth" "$WORK/map" || fail "the map is not the file's"
stop_server

note "the map of a file of many small pieces"
truncate -s 64M "$DISK/many.img"
for i in $(seq 0 2 400); do
	printf x | dd of="$DISK/many.img" bs=64K seek="$i" conv=notrunc status=none
done
sync "$DISK/many.img"
start_server file "$DISK/many.img"
map_of_file "$DISK/many.img" >"$WORK/truth"
map_of_export "$URI" >"$WORK/map"
diff "$WORK/truth" "$WORK/map" || fail "the map of many extents is not the file's"
nbdinfo --map --totals "$URI"
stop_server

if ours; then
	note "block sizes"
	start_server file "$image"
	equal "the minimum" "$(json_of "$URI" "export['block_size_minimum']")" 1
	stop_server
	start_server file "$image" cache=none
	minimum=$(json_of "$URI" "export['block_size_minimum']")
	# What O_DIRECT asks for here; a file system without O_DIRECT asks for nothing.
	[[ $minimum =~ ^(1|512|4096)$ ]] || fail "the minimum block size is $minimum"
	stop_server
fi

note "read-only"
start_server -r file "$image"
equal is_read_only "$(json_of "$URI" "export['is_read_only']")" True
nbdinfo --is read-only "$URI" || fail "nbdinfo --is read-only says no"
fails nbdinfo --can write "$URI"
fails nbdinfo --can trim "$URI"
fails nbdinfo --can zero "$URI"
stop_server

note "memory: empty, then not"
start_server memory 8M
equal "the map of empty memory" "$(map_of_export "$URI")" "0 8388608 hole"
nbdcopy "$WORK/data" "$URI"
equal "the map of memory" "$(map_of_export "$URI")" $'0 65536 data\n65536 8323072 hole'
stop_server

note "a list of exports"
mkdir "$DISK/folder"
for name in alpha beta "with space"; do
	truncate -s 1M "$DISK/folder/$name"
done
start_server file dir="$DISK/folder"
names=$(nbdinfo --list --json "$URI" | python3 -c "
import json, sys
print(sorted(e['export-name'] for e in json.load(sys.stdin)['exports']))")
equal "the list" "$names" "['alpha', 'beta', 'with space']"
equal "the size of alpha" "$(nbdinfo --size "nbd+unix:///alpha?socket=$SOCK")" 1048576
fails nbdinfo --size "nbd+unix:///gamma?socket=$SOCK"
stop_server
