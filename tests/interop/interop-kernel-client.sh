#!/usr/bin/env bash
#
# The Linux kernel's own client: an ext4 file system is mounted from /dev/nbdN,
# files are written, trimmed and read back, over one and over four connections.
# Needs root and a kernel with nbd.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_root "use /dev/nbd*"
modprobe nbd 2>/dev/null || true
[ -e /sys/block/nbd0 ] || skip "this kernel has no nbd"
need nbd-client

# A device that nobody else uses.
device=
for candidate in /sys/block/nbd*; do
	if [ ! -e "$candidate/pid" ]; then
		device=/dev/${candidate##*/}
		break
	fi
done
[ -n "$device" ] || skip "every nbd device is in use"

image=$DISK/disk.img
mountpoint=$WORK/mnt

at_end nbd-client -d "$device"
at_end umount "$mountpoint"

for connections in 1 4; do
	note "$connections connections"
	make_ext4 "$image" 192M
	start_server file "$image"
	nbd-client -unix "$SOCK" "$device" -N "" -connections "$connections" -block-size 512

	mkdir -p "$mountpoint"
	mount -t ext4 "$device" "$mountpoint"
	random_file "$WORK/data" 30000000
	cp "$WORK/data" "$mountpoint/data"
	rm -r "$mountpoint/many"
	fstrim "$mountpoint"
	sync -f "$mountpoint"
	echo 3 >/proc/sys/vm/drop_caches
	same_bytes "$WORK/data" "$mountpoint/data"
	umount "$mountpoint"

	nbd-client -d "$device"
	stop_server
	is_clean_ext4 "$image"
	rm "$image"
done
