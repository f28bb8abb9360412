#!/usr/bin/env bash
#
# Large reads from memory and from the page cache are sent without being copied. What
# clients get is the same: on both kinds of socket, through filters, while others write,
# when the client is slow, and when it leaves in the middle.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy nbdinfo python3
need_python_nbd

random_file "$DISK/disk" 50000124

# copies SERVER-ARGUMENT...: out over a Unix socket and over TCP, both kinds of replies
copies() {
	local port

	port=$(free_port)
	start_server -i 127.0.0.1 -p "$port" "$@"
	for uri in "$URI" "nbd://127.0.0.1:$port"; do
		for request in 262144 1048576 33554432; do
			nbdcopy --request-size=$request "$uri" "$DISK/copy"
			same_bytes "$DISK/disk" "$DISK/copy"
		done
		# Some reads begin and end off any page, and some clients know simple replies only.
		"$PYTHON" - "$uri" "$DISK/disk" <<-'EOT'
			import random, sys
			import nbd

			data = open(sys.argv[2], 'rb').read()
			rng = random.Random(7)
			for structured in (True, False):
			    h = nbd.NBD()
			    h.set_request_structured_replies(structured)
			    h.connect_uri(sys.argv[1])
			    for _ in range(100):
			        length = rng.randrange(2, 3 << 20, 2)
			        offset = rng.randrange(0, len(data) - length, 2)
			        assert h.pread(length, offset) == data[offset:offset + length]
			    h.shutdown()
		EOT
	done
	stop_server
}

note "from the page cache"
copies file "$DISK/disk"
note "through filters that only look at requests"
copies --filter=offset --filter=stats --filter=noparallel file "$DISK/disk" offset=0 statsfile="$DISK/stats"
note "through filters that change data, and back"
copies --filter=swab --filter=swab file "$DISK/disk"

note "from memory, while others write and trim"
start_server memory 64M
nbdcopy "$DISK/disk" "$URI"
"$PYTHON" - "$SOCK" <<-'EOT'
	import sys, threading
	import nbd

	SIZE, BLOCK = 16 << 20, 1 << 20
	stop = False

	def connect():
	    h = nbd.NBD()
	    h.connect_unix(sys.argv[1])
	    return h

	def change():
	    h, byte = connect(), 0
	    while not stop:
	        byte = byte % 255 + 1
	        for at in range(0, SIZE, BLOCK):
	            h.pwrite(bytes([byte]) * BLOCK, at)
	            if at % (4 * BLOCK) == 0:
	                h.trim(BLOCK, at)
	    h.shutdown()

	# Another disk's worth of data beside it: nothing of that may ever show.
	h = connect()
	for at in range(SIZE, 3 * SIZE, BLOCK):
	    h.pwrite(b'\0\xff' * (BLOCK // 2), at)
	for at in range(0, SIZE, BLOCK):
	    h.pwrite(b'\x01' * BLOCK, at)
	thread = threading.Thread(target=change)
	thread.start()
	try:
	    for _ in range(30):
	        for at in range(0, SIZE, BLOCK):
	            data = h.pread(BLOCK, at)
	            for page in range(0, BLOCK, 4096):
	                assert b'\0\xff\0\xff' not in data[page:page + 4096], 'foreign data'
	        for at in range(SIZE, 3 * SIZE, 4 * BLOCK):
	            assert h.pread(BLOCK, at) == b'\0\xff' * (BLOCK // 2)
	finally:
	    stop = True
	    thread.join()
	h.shutdown()
EOT
stop_server

note "a client that takes its time, and clients that leave in the middle"
start_server file "$DISK/disk"
"$PYTHON" - "$SOCK" "$DISK/disk" <<-'EOT'
	import socket, struct, sys, time

	data = open(sys.argv[2], 'rb').read()

	def connect():
	    s = socket.socket(socket.AF_UNIX)
	    s.connect(sys.argv[1])
	    s.recv(18, socket.MSG_WAITALL)
	    s.sendall(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 1, 0))
	    s.recv(10, socket.MSG_WAITALL)
	    return s

	def ask(s, count, length):
	    for i in range(count):
	        s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, i, i * length, length))

	def take(s, length):
	    got = bytearray()
	    while len(got) < length:
	        got += s.recv(min(30000, length - len(got)))
	        time.sleep(0.0005)
	    return bytes(got)

	for i in range(40):
	    s = connect()
	    ask(s, 16, 1 << 20)
	    s.recv(1 + i * 10000)
	    s.close()
	s = connect()
	ask(s, 8, 1 << 20)
	seen = set()
	for _ in range(8):
	    magic, error, cookie = struct.unpack('>IIQ', take(s, 16))
	    assert (magic, error) == (0x67446698, 0)
	    assert take(s, 1 << 20) == data[cookie << 20:(cookie + 1) << 20]
	    seen.add(cookie)
	assert len(seen) == 8
EOT
nbdinfo "$URI" >/dev/null
stop_server
