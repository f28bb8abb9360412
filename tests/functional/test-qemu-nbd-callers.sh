#!/usr/bin/env bash
#
# How programs start qemu-nbd: their command lines, unchanged but for paths and, where
# they name a format that is none here, for that.

# shellcheck source=tests/functional/qemu-nbd.sh
. "$(dirname "$0")/qemu-nbd.sh"
need nbdinfo nbdcopy
need_python_nbd

random_file "$DISK/disk" 1048576
direct=none
dd if="$DISK/disk" of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null || direct=writeback

# ovirt-imageio: an image by JSON, in the foreground, and several connections.
imageio() {
	local aio=native

	[ $direct = none ] || aio=threads
	qemu_nbd --export-name "" --persistent --shared=8 --cache=$direct --aio=$aio \
		--discard=unmap --detect-zeroes=unmap --allocation-depth \
		"json:{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"$DISK/disk\"}}"
	nbdcopy --connections=4 "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	stop_server
	# A part of a device, read-only, without a backing file.
	qemu_nbd --export-name "" --persistent --shared=8 --read-only --cache=$direct --aio=$aio \
		"json:{\"driver\": \"raw\", \"offset\": 65536, \"size\": 131072, \"file\": \
			{\"driver\": \"file\", \"filename\": \"$DISK/disk\"}}"
	equal "the size" "$(nbdinfo --size "$URI")" 131072
	nbdinfo "$URI" | grep -q 'is_read_only: true' || fail "it can be written to"
	stop_server
}
each_qemu_nbd imageio

# virtnbdbackup: in the background, with a pid file that it waits for.
virtnbdbackup() {
	SOCK=$WORK/backup-$WHO.sock
	"$QEMU_NBD" -r --format=raw -x sda "$DISK/disk" -k "$SOCK" -t -e 2 --fork --detect-zeroes=on \
		--pid-file="$WORK/backup-$WHO.pid" </dev/null >"$WORK/backup-$WHO.log" 2>&1
	PID=$(cat "$WORK/backup-$WHO.pid")
	at_end kill "$PID"
	nbdcopy "nbd+unix:///sda?socket=$SOCK" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	kill "$PID"
	until_true 60 process_ended "$PID" || fail "it did not end"
}
each_qemu_nbd virtnbdbackup

# OpenNebula: read-only on a socket, until it is ended.
opennebula() {
	qemu_nbd -r -f raw -t "$DISK/disk"
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	nbdinfo --map "$URI" >/dev/null
	stop_server
}
each_qemu_nbd opennebula

# The manual's own examples.
manual() {
	local port

	port=$(free_port)
	"$QEMU_NBD" -t -x subset -p "$port" --image-opts \
		"driver=raw,offset=64k,size=64k,file.driver=file,file.filename=$DISK/disk" \
		</dev/null >"$WORK/manual-$WHO.log" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	until_true 60 listens "$port" || fail "it did not start"
	equal "the size" "$(nbdinfo --size "nbd://127.0.0.1:$port/subset")" 65536
	stop_server
	SOCK=$WORK/manual-$WHO.sock
	"$QEMU_NBD" --fork --persistent --shared=5 --socket="$SOCK" --read-only --format=raw \
		--pid-file="$WORK/manual-$WHO.pid" "$DISK/disk"
	PID=$(cat "$WORK/manual-$WHO.pid")
	at_end kill "$PID"
	equal "the size" "$(nbdinfo --size "nbd+unix:///?socket=$SOCK")" 1048576
	kill "$PID"
	until_true 60 process_ended "$PID" || fail "it did not end"
}

listens() {
	(: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
each_qemu_nbd manual

# By systemd's socket activation, one socket.
activated() {
	SOCK=$WORK/activated-$WHO.sock
	systemd-socket-activate -l "$SOCK" "$QEMU_NBD" -f raw "$DISK/disk" </dev/null \
		>"$WORK/activated-$WHO.log" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	until_true 60 socket_listens || fail "no socket"
	equal "the size" "$(nbdinfo --size "nbd+unix:///?socket=$SOCK")" 1048576
	expect_end "$PID" 0
}
if command -v systemd-socket-activate >/dev/null; then
	each_qemu_nbd activated
fi
