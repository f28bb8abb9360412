#!/usr/bin/env bash
#
# -s: one client on stdin and stdout, as inetd and libnbd's connect_command start
# it. The server ends when its client does.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_python_nbd

random_file "$DISK/disk.img" 3000000
truncate -s 3000000 "$DISK/empty.img"

note "a client starts it, as many times as it likes"
"$PYTHON" - "$NBDRING" "$DISK/disk.img" "$DISK/empty.img" <<-'EOT'
	import sys
	import nbd

	program, full, empty = sys.argv[1:]
	with open(full, 'rb') as file:
	    content = file.read()
	for _ in range(3):
	    source, target = nbd.NBD(), nbd.NBD()
	    source.connect_command([program, '-s', 'file', full])
	    target.connect_command([program, '-s', 'file', empty])
	    assert source.get_size() == target.get_size() == len(content)
	    assert source.pread(len(content), 0) == content
	    target.pwrite(content, 0)
	    source.shutdown()
	    target.shutdown()
EOT
# What the client wrote is in the file when both have ended.
until_true 60 cmp -s "$DISK/disk.img" "$DISK/empty.img" || fail "the copy is not the original"

note "its exit status, after a good end and after a sudden one"
"$PYTHON" - "$NBDRING" <<-'EOT'
	import socket, subprocess, sys
	import nbd

	for polite in (True, False):
	    here, there = socket.socketpair()
	    server = subprocess.Popen([sys.argv[1], '-s', 'memory', '1M'], stdin=there, stdout=there)
	    there.close()
	    client = nbd.NBD()
	    client.connect_socket(here.detach())
	    client.pwrite(b'x' * 4096, 0)
	    assert client.pread(4096, 0) == b'x' * 4096
	    if polite:
	        client.shutdown()
	    del client
	    status = server.wait(60)
	    assert status == 0, status
EOT

note "a pair of pipes instead of a socket"
if ours; then
	"$PYTHON" - "$NBDRING" <<-'EOT'
		import subprocess, sys

		server = subprocess.Popen([sys.argv[1], '-s', 'memory', '1M'],
		                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
		greeting = server.stdout.read(18)
		assert greeting[:16] == b'NBDMAGICIHAVEOPT', greeting
		# Client flags, then ABORT.
		server.stdin.write(b'\0\0\0\3' + b'IHAVEOPT' + b'\0\0\0\2' + b'\0\0\0\0')
		server.stdin.flush()
		answer = server.stdout.read(20)
		assert answer[:8].hex() == '0003e889045565a9', answer
		server.stdin.close()
		assert server.wait(60) == 0
	EOT
fi

note "what goes wrong is on stderr, and stdout stays the client's"
refused "missing" -- -s file "$DISK/missing"
