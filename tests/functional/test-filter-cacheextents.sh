#!/usr/bin/env bash
#
# --filter=cacheextents: the map is the same with it, few questions reach the disk, and
# what is written is seen.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need qemu-img qemu-io nbdinfo nbdcopy

truncate -s 256M "$DISK/disk"
for at in $(seq 0 2 255); do
	printf data | dd of="$DISK/disk" bs=1 seek=$((at << 20)) conv=notrunc status=none
done

start_server -r file "$DISK/disk"
qemu-img map -f raw --output=json "$URI" >"$WORK/map"
nbdinfo --map "$URI" >"$WORK/map.nbdinfo"
stop_server

note "the map is the same, and learned with few questions"
start_server --filter=cacheextents --filter=log file "$DISK/disk" logfile="$WORK/requests"
qemu-img map -f raw --output=json "$URI" | cmp - "$WORK/map"
nbdinfo --map "$URI" | cmp - "$WORK/map.nbdinfo"
nbdcopy "$URI" "$WORK/copy"
same_bytes "$WORK/copy" "$DISK/disk"
questions=$(grep -cE ' Extents ' "$WORK/requests")
[ "$questions" -lt 20 ] || fail "$questions questions reached the file"
[ "$questions" -gt 0 ] || fail "the log has no questions"

note "what is written is seen"
qemu-io -f raw -c 'write 1048576 65536' -c 'discard 0 1048576' "$URI" >/dev/null
qemu-img map -f raw --output=json "$URI" >"$WORK/map.after"
stop_server
start_server -r file "$DISK/disk"
qemu-img map -f raw --output=json "$URI" | cmp - "$WORK/map.after"
stop_server
fails cmp -s "$WORK/map" "$WORK/map.after"
