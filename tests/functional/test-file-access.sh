#!/usr/bin/env bash
#
# file: files that are not there, may not be read, or may not be written. A file
# that can only be read gives a read-only export; so does -r.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io

as_nobody_can_run
random_file "$DISK/disk.img" 1048576
cp "$DISK/disk.img" "$DISK/original.img"
sock=$WORK/sock

is_read_only() {
	nbdinfo --is read-only "$URI" || fail "the export is not read-only"
	fails qemu-io -f raw -c 'write -P 1 0 512' "$URI" >"$WORK/qemu-io.log" 2>&1
	nbdcopy "$URI" "$DISK/copy"
	same_bytes "$DISK/disk.img" "$DISK/copy"
	same_bytes "$DISK/disk.img" "$DISK/original.img"
	rm "$DISK/copy"
}

note "-r"
start_server -r file "$DISK/disk.img"
is_read_only
stop_server

note "without -r, the same file can be written"
start_server file "$DISK/disk.img"
fails nbdinfo --is read-only "$URI"
nbdinfo --can write "$URI" || fail "the export cannot be written"
stop_server

note "a file that is not there"
refused "missing.img" "no such file" -- -U "$sock" file "$DISK/missing.img"

note "things that are no disks"
refused "/dev/null" -- -U "$sock" file /dev/null
mkfifo "$WORK/fifo"
# nbdkit waits for a writer here.
! ours || refused "fifo" -- -U "$sock" file "$WORK/fifo"
refused "$DISK" -- -U "$sock" file "$DISK"

SERVER_PREFIX=("${AS_NOBODY[@]}")

note "a file that may only be read"
chmod 444 "$DISK/disk.img"
start_server file "$DISK/disk.img"
is_read_only
stop_server
if ours; then
	start_server file "$DISK/disk.img" cache=none
	is_read_only
	stop_server
fi

if ours; then
	# nbdkit opens the file for each client and tells only the client.
	note "a file that may not be read"
	chmod 000 "$DISK/disk.img"
	refused "disk.img" "permission denied" -- -U "$sock" file "$DISK/disk.img"
	mkdir -m 700 "$DISK/closed"
	[ "$(id -u)" -eq 0 ] || chmod 000 "$DISK/closed"
	refused "closed" "permission denied" -- -U "$sock" file "$DISK/closed/disk.img"
	chmod 700 "$DISK/closed"
fi

note "an empty file is an empty disk"
: >"$DISK/empty.img"
chmod 666 "$DISK/empty.img"
start_server file "$DISK/empty.img"
equal size "$(nbdinfo --size "$URI")" 0
nbdcopy "$URI" "$WORK/empty.copy"
equal "the size of its copy" "$(stat -c %s "$WORK/empty.copy")" 0
stop_server
