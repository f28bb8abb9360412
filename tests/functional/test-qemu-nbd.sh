#!/usr/bin/env bash
#
# Serving in the place of qemu-nbd: one client and the end, several and waiting, sizes
# and flags, names, caching, discarding, the background.

# shellcheck source=tests/functional/qemu-nbd.sh
. "$(dirname "$0")/qemu-nbd.sh"
need nbdinfo nbdcopy python3
need_python_nbd

truncate -s 1000 "$DISK/odd"
random_file "$DISK/disk" 1048576

one_client_and_the_end() {
	qemu_nbd -f raw "$DISK/disk"
	size_and_end 1048576
	# Asking for the list is no use of it.
	qemu_nbd -f raw "$DISK/disk"
	nbdinfo --list "$URI" | grep -q 'export=""' || fail "no export"
	kill -0 "$PID" || fail "it ended after a list"
	size_and_end 1048576
	qemu_nbd -f raw -t "$DISK/disk"
	for _ in 1 2 3; do
		equal "the size" "$(nbdinfo --size "$URI")" 1048576
	done
	stop_server
	[ ! -e "$SOCK" ] || fail "the socket is still there"
}
each_qemu_nbd one_client_and_the_end

sizes() {
	# Whole sectors, and what is not there is zero.
	qemu_nbd -f raw "$DISK/odd"
	size_and_end 1024
	qemu_nbd -f raw -o 4096 "$DISK/disk"
	size_and_end 1044480
	qemu_nbd -f raw -o 0x1000 "$DISK/disk"
	size_and_end 1044480
	qemu_nbd -f raw -o 100 "$DISK/disk"
	size_and_end 1048576
	qemu_nbd --image-opts "driver=raw,offset=4k,size=8k,file.driver=file,file.filename=$DISK/disk"
	nbdcopy "$URI" "$WORK/part"
	expect_end "$PID" 0
	dd if="$DISK/disk" of="$WORK/expected" bs=4096 skip=1 count=2 status=none
	same_bytes "$WORK/part" "$WORK/expected"
	# -o is counted from there.
	qemu_nbd -o 4096 "json:{\"driver\": \"raw\", \"offset\": 4096, \"size\": 8192,
		\"file\": {\"driver\": \"file\", \"filename\": \"$DISK/disk\"}}"
	nbdcopy "$URI" "$WORK/part"
	expect_end "$PID" 0
	dd if="$DISK/disk" of="$WORK/expected" bs=4096 skip=2 count=1 status=none
	same_bytes "$WORK/part" "$WORK/expected"
}
each_qemu_nbd sizes

names() {
	qemu_nbd -f raw -t -x vol -D 'a description' "$DISK/disk"
	nbdinfo --list "$URI" >"$WORK/list"
	grep -q 'export="vol"' "$WORK/list" || fail "the name is not in the list"
	grep -q 'description: a description' "$WORK/list" || fail "the description is not in the list"
	equal "the number of exports" "$(grep -c '^export=' "$WORK/list")" 1
	nbdinfo "nbd+unix:///vol?socket=$SOCK" | grep 'description: a description' >/dev/null ||
		fail "who asks for the export is not told its description"
	equal "the size" "$(nbdinfo --size "nbd+unix:///vol?socket=$SOCK")" 1048576
	fails nbdinfo --size "$URI"
	fails nbdinfo --size "nbd+unix:///other?socket=$SOCK"
	stop_server
	qemu_nbd -f raw -t "$DISK/disk"
	fails nbdinfo --size "nbd+unix:///other?socket=$SOCK"
	stop_server
}
each_qemu_nbd names

# What clients are told of the disk.
told() {
	nbdinfo "$URI" | grep -E 'can_(flush|trim|zero|df|multi_conn)|is_read_only' | tr -d '\t'
}

flags() {
	qemu_nbd -f raw "$DISK/disk"
	equal "what clients are told" "$(told)" "$(printf '%s\n' 'is_read_only: false' 'can_df: true' \
		'can_flush: true' 'can_multi_conn: false' 'can_trim: true' 'can_zero: true')"
	expect_end "$PID" 0
	qemu_nbd -f raw -e 2 -r "$DISK/disk"
	equal "what clients are told" "$(told)" "$(printf '%s\n' 'is_read_only: true' 'can_df: true' \
		'can_flush: true' 'can_multi_conn: true' 'can_trim: false' 'can_zero: false')"
	expect_end "$PID" 0
}
each_qemu_nbd flags

# With -e 2 a third client waits until one of the two has left.
shared() {
	qemu_nbd -f raw -e 2 "$DISK/disk"
	timeout 60 "$PYTHON" - "$URI" <<-'EOT'
		import sys, threading, time
		import nbd

		def connect():
		    client = nbd.NBD()
		    client.connect_uri(sys.argv[1])
		    return client

		first, second = connect(), connect()
		third = []
		waiting = threading.Thread(target=lambda: third.append(connect()))
		waiting.start()
		# There is no sign of waiting; being let in would take no time.
		waiting.join(1)
		assert waiting.is_alive() and not third
		assert len(second.pread(4096, 0)) == 4096
		first.shutdown()
		waiting.join()
		assert third[0].pread(4096, 0) == second.pread(4096, 0)
		second.shutdown()
		third[0].shutdown()
	EOT
	expect_end "$PID" 0
}
each_qemu_nbd shared

blocks() {
	stat -c %b "$1"
}

discarding() {
	local mode detect

	for mode in ignore unmap; do
		random_file "$DISK/full" 1048576
		sync "$DISK/full"
		qemu_nbd -f raw --discard=$mode "$DISK/full"
		"$PYTHON" - "$URI" <<-'EOT'
			import sys
			import nbd

			client = nbd.NBD()
			client.connect_uri(sys.argv[1])
			client.trim(524288, 0)
			client.zero(524288, 524288, nbd.CMD_FLAG_NO_HOLE)
			client.flush()
			assert client.pread(524288, 524288) == bytes(524288)
			client.shutdown()
		EOT
		expect_end "$PID" 0
		if [ "$mode" = ignore ]; then
			equal "blocks after trimming" "$(blocks "$DISK/full")" 2048
		else
			equal "blocks after trimming" "$(blocks "$DISK/full")" 1024
		fi
	done
	for detect in off on unmap; do
		random_file "$DISK/full" 1048576
		sync "$DISK/full"
		qemu_nbd -f raw --discard=unmap --detect-zeroes=$detect "$DISK/full"
		"$PYTHON" - "$URI" <<-'EOT'
			import sys
			import nbd

			client = nbd.NBD()
			client.connect_uri(sys.argv[1])
			client.pwrite(bytes(1048576), 0)
			client.flush()
			assert client.pread(1048576, 0) == bytes(1048576)
			client.shutdown()
		EOT
		expect_end "$PID" 0
		if [ $detect = unmap ]; then
			equal "blocks after writing zeroes" "$(blocks "$DISK/full")" 0
		else
			equal "blocks after writing zeroes" "$(blocks "$DISK/full")" 2048
		fi
	done
}
# What a file system makes of trimming is for it to say.
truncate -s 1M "$DISK/holes"
random_file "$DISK/full" 1048576
sync "$DISK/full"
if [ "$(blocks "$DISK/holes")" = 0 ] && [ "$(blocks "$DISK/full")" = 2048 ] &&
	fallocate -p -o 0 -l 1048576 "$DISK/full" 2>/dev/null && [ "$(blocks "$DISK/full")" = 0 ]; then
	each_qemu_nbd discarding
else
	note "no discarding: the file system counts blocks in its own way"
fi

caching() {
	local cache aio

	for cache in none writeback writethrough directsync unsafe; do
		for aio in threads native io_uring; do
			[ $aio != native ] || [ $cache = none ] || [ $cache = directsync ] || continue
			random_file "$DISK/copy" 1048576
			qemu_nbd -f raw --cache=$cache --aio=$aio "$DISK/copy"
			nbdcopy "$DISK/disk" "$URI"
			expect_end "$PID" 0
			same_bytes "$DISK/disk" "$DISK/copy"
		done
	done
}
# On tmpfs there is nothing to go past.
if dd if="$DISK/disk" of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null; then
	each_qemu_nbd caching
fi

temporary() {
	cp "$DISK/disk" "$DISK/base"
	random_file "$DISK/other" 1048576
	qemu_nbd -t -s -f raw "$DISK/base"
	nbdcopy "$DISK/other" "$URI"
	nbdcopy "$URI" "$WORK/back"
	same_bytes "$DISK/other" "$WORK/back"
	kill "$PID"
	until_true 60 process_ended "$PID" || fail "it did not end"
	same_bytes "$DISK/disk" "$DISK/base"
}
each_qemu_nbd temporary

background() {
	local status=0

	SOCK=$WORK/background-$WHO.sock
	"$QEMU_NBD" --fork --pid-file="$WORK/background-$WHO.pid" -k "$SOCK" -f raw "$DISK/disk" \
		</dev/null >"$WORK/background-$WHO.log" 2>&1 || status=$?
	equal "the exit status of the start" "$status" 0
	# From then on it can be connected to.
	PID=$(cat "$WORK/background-$WHO.pid")
	at_end kill "$PID"
	equal "the size" "$(nbdinfo --size "nbd+unix:///?socket=$SOCK")" 1048576
	until_true 60 process_ended "$PID" || fail "it did not end"
	status=0
	"$QEMU_NBD" --fork --pid-file="$WORK/none-$WHO.pid" -k "$WORK/none-$WHO.sock" -f raw "$DISK/none" \
		</dev/null >"$WORK/none-$WHO.log" 2>&1 || status=$?
	equal "the exit status of a start that failed" "$status" 1
	grep -q 'Failed to blk_new_open' "$WORK/none-$WHO.log" || fail "it did not say why"
}
each_qemu_nbd background

tcp() {
	local port

	port=$(free_port)
	"$QEMU_NBD" -f raw -t -p "$port" "$DISK/disk" </dev/null >"$WORK/tcp-$WHO.log" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	until_true 60 listens 127.0.0.1 "$port" || fail "it did not start"
	equal "the size" "$(nbdinfo --size "nbd://127.0.0.1:$port")" 1048576
	equal "the size" "$(nbdinfo --size "nbd://127.0.0.2:$port")" 1048576
	stop_server
	port=$(free_port)
	"$QEMU_NBD" -f raw -t -b 127.0.0.2 -p "$port" "$DISK/disk" </dev/null >"$WORK/tcp-$WHO.log" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	until_true 60 listens 127.0.0.2 "$port" || fail "it did not start"
	equal "the size" "$(nbdinfo --size "nbd://127.0.0.2:$port")" 1048576
	fails nbdinfo --size "nbd://127.0.0.1:$port"
	stop_server
}

listens() {
	(: <>"/dev/tcp/$1/$2") 2>/dev/null
}
each_qemu_nbd tcp

# What a virtual machine does with its disk: it writes, and shares neither that nor the
# size. READY appears when it has said so.
cat >"$WORK/machine.py" <<'EOT'
import fcntl, struct, sys, time

disk = open(sys.argv[1], 'r+b')
F_OFD_SETLK = 37
for byte in (100, 101, 201, 203):
    fcntl.fcntl(disk, F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, byte, 1, 0))
open(sys.argv[2], 'w').close()
time.sleep(600)
EOT

locks() {
	local machine status=0

	rm -f "$WORK/machine.ready"
	"$PYTHON" "$WORK/machine.py" "$DISK/disk" "$WORK/machine.ready" &
	machine=$!
	server_pids+=("$machine")
	until_true 60 test -e "$WORK/machine.ready" || fail "no machine"
	timeout 60 "$QEMU_NBD" -f raw -k "$WORK/locked.sock" "$DISK/disk" >"$WORK/out" 2>"$WORK/err" ||
		status=$?
	equal "the exit status" "$status" 1
	grep -q 'Failed to get "write" lock' "$WORK/err" || fail "it says: $(cat "$WORK/err")"
	grep -q 'Is another process using the image' "$WORK/err" || fail "it says: $(cat "$WORK/err")"
	# Reading is shared, and so is everything with who asks for no locks.
	qemu_nbd -f raw -r "$DISK/disk"
	size_and_end 1048576
	qemu_nbd --image-opts "driver=raw,file.driver=file,file.locking=off,file.filename=$DISK/disk"
	size_and_end 1048576
	kill "$machine"
	until_true 60 process_ended "$machine" || fail "the machine goes on"
	# The other way round, also from the background.
	SOCK=$WORK/locking-$WHO.sock
	"$QEMU_NBD" --fork -t --pid-file="$WORK/locking-$WHO.pid" -k "$SOCK" -f raw "$DISK/disk"
	PID=$(cat "$WORK/locking-$WHO.pid")
	at_end kill "$PID"
	if qemu-img resize -q -f raw "$DISK/disk" 2M 2>"$WORK/err"; then
		fail "the size of an image that is served was changed"
	fi
	grep -q 'lock' "$WORK/err" || fail "qemu-img says: $(cat "$WORK/err")"
	kill "$PID"
	until_true 60 process_ended "$PID" || fail "it did not end"
	qemu-img resize -q -f raw "$DISK/disk" 1M
}
need qemu-img
each_qemu_nbd locks

# Newer than the qemu-nbd that this may run beside.
note "clients that do not negotiate"
QEMU_NBD=$WORK/bin/qemu-nbd
qemu_nbd -f raw -t --handshake-limit=1 "$DISK/disk"
timeout 60 "$PYTHON" -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
while s.recv(4096):
    pass' "$SOCK" || fail "the connection of a silent client stays"
equal "the size" "$(nbdinfo --size "$URI")" 1048576
stop_server
