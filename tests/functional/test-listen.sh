#!/usr/bin/env bash
#
# Where the server listens: several Unix sockets and TCP ports together, private
# sockets, and what it says of an address it cannot have.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy python3
need_python_nbd

size_at() {
	equal "the size at $1" "$(nbdinfo --size "$1")" 1048576
}

if ours; then
	note "two Unix sockets and two ports, one server"
	first=$(free_port)
	second=$(free_port)
	start_server -U "$WORK/more.sock" -i 127.0.0.1 -p "$first" -p "$second" memory 1M
	size_at "$URI"
	size_at "nbd+unix:///?socket=$WORK/more.sock"
	size_at "nbd://127.0.0.1:$first"
	size_at "nbd://127.0.0.1:$second"
	# They serve the same export, not four.
	random_file "$WORK/data" 1048576
	nbdcopy --flush "$WORK/data" "nbd://127.0.0.1:$first"
	nbdcopy "nbd+unix:///?socket=$WORK/more.sock" "$WORK/copy"
	same_bytes "$WORK/data" "$WORK/copy"
	# 127.0.0.1 was asked for, so no other address answers.
	fails nbdinfo --size "nbd://127.0.0.2:$first"
	stop_server
	[ ! -e "$SOCK" ] || fail "the first socket is still there"
	[ ! -e "$WORK/more.sock" ] || fail "the second socket is still there"
	fails nbdinfo --size "nbd://127.0.0.1:$first"
fi

if ours; then
	note "a port that the system chooses"
	"$NBDRING" -f -i 127.0.0.1 -p 0 -p 0 -P "$WORK/any.pid" --print-uri memory 1M \
		</dev/null >"$WORK/uris" 2>"$WORK/any.log" &
	any=$!
	server_pids+=("$any")
	wait_until_ready "$any" "$WORK/any.pid" || fail "the server did not start"
	equal "the number of addresses" "$(sort -u "$WORK/uris" | wc -l)" 2
	while read -r uri; do
		size_at "$uri"
	done <"$WORK/uris"
	stop_server "$any"

	note "a socket left from a server that was killed is replaced"
	start_server memory 1M
	killed=$SOCK
	kill -KILL "$PID"
	expect_end "$PID" 137
	[ -S "$killed" ] || fail "the killed server has removed its socket"
	start_server -U "$killed" memory 1M
	size_at "nbd+unix:///?socket=$killed"
	stop_server

	note "a file that is no socket is left alone"
	echo precious >"$WORK/file"
	refused "$WORK/file" -- -U "$WORK/file" memory 1M
	equal "the file" "$(cat "$WORK/file")" precious
fi

note "an address that is taken"
start_server memory 1M
refused "$SOCK" -- -U "$SOCK" memory 1M
# The one that has it goes on.
size_at "$URI"
stop_server
"$PYTHON" -c '
import socket, sys, time
taken = socket.socket()
taken.bind(("127.0.0.1", 0))
taken.listen()
print(taken.getsockname()[1], flush=True)
time.sleep(600)' >"$WORK/port" &
server_pids+=($!)
until_true 60 test -s "$WORK/port" || fail "no port"
port=$(cat "$WORK/port")
refused "$port" -- -i 127.0.0.1 -p "$port" memory 1M

note "an address that cannot be"
refused "nowhere" -- -U "$WORK/nowhere/sock" memory 1M
long=$WORK/$(printf 'x%.0s' $(seq 120))
refused "long" -- -U "$long" memory 1M
refused "192.0.2.1" -- -i 192.0.2.1 -p "$(free_port)" memory 1M

note "a restart finds its port free, though clients were connected"
if ours; then
	port=$(free_port)
	for _ in 1 2 3; do
		start_server -i 127.0.0.1 -p "$port" memory 1M
		"$PYTHON" -c '
import nbd, os, sys
client = nbd.NBD()
client.connect_uri(sys.argv[1])
client.pwrite(b"x" * 4096, 0)
os._exit(0)' "nbd://127.0.0.1:$port"
		stop_server
	done
fi

note "IPv6"
if [ -e /proc/net/if_inet6 ] && grep -q ' lo$' /proc/net/if_inet6 && ours; then
	port=$(free_port)
	start_server -i ::1 -p "$port" memory 1M
	size_at "nbd://[::1]:$port"
	stop_server
fi

ours || exit 0

note "a mode and an owner"
start_server -U "$WORK/guarded.sock" --unix-mode=0640 memory 1M
equal "the mode" "$(stat -c %a "$WORK/guarded.sock")" 640
size_at "nbd+unix:///?socket=$WORK/guarded.sock"
if [ "$(id -u)" -eq 0 ]; then
	fails setpriv --reuid=12345 --clear-groups nbdinfo --size "nbd+unix:///?socket=$WORK/guarded.sock"
fi
stop_server
if [ "$(id -u)" -eq 0 ]; then
	start_server --unix-mode=0600 --unix-owner=12345:54321 memory 1M
	equal "the owner" "$(stat -c %u:%g "$SOCK")" 12345:54321
	equal "the size, for its owner" \
		"$(setpriv --reuid=12345 --clear-groups nbdinfo --size "$URI")" 1048576
	fails setpriv --reuid=12346 --clear-groups nbdinfo --size "$URI"
	stop_server
fi
refused "nobody-of-that-name" -- -U "$WORK/a" --unix-owner=nobody-of-that-name memory 1M

note "an abstract socket"
start_server -U "@nbdring-test-$$" memory 1M
"$PYTHON" - "nbdring-test-$$" <<-'EOT'
	import nbd, socket, sys

	s = socket.socket(socket.AF_UNIX)
	s.connect('\0' + sys.argv[1])
	client = nbd.NBD()
	client.connect_socket(s.detach())
	assert client.get_size() == 1048576
	client.shutdown()
EOT
refused "@nbdring-test-$$" -- -U "@nbdring-test-$$" memory 1M
stop_server
# shellcheck disable=SC2016
equal "what a command is told" \
	"$("$NBDRING" -U "@nbdring-test-$$" memory 1M --run 'echo "$unixsocket $uri"')" \
	"@nbdring-test-$$ nbd+unix:///?socket=%00nbdring-test-$$"

note "two addresses, and one interface"
port=$(free_port)
start_server -i 127.0.0.1 -i 127.0.0.2 -p "$port" memory 1M
size_at "nbd://127.0.0.1:$port"
size_at "nbd://127.0.0.2:$port"
fails nbdinfo --size "nbd://127.0.0.3:$port"
stop_server
port=$(free_port)
start_server --interface=lo -4 -p "$port" memory 1M
size_at "nbd://127.0.0.3:$port"
stop_server
refused "no-such-if" -- --interface=no-such-if -p "$port" memory 1M

note "vsock"
if "$PYTHON" -c 'import socket; socket.socket(socket.AF_VSOCK)' 2>/dev/null; then
	"$NBDRING" -f -U "$WORK/beside.sock" --vsock=0 -P "$WORK/vsock.pid" --print-uri memory 1M \
		</dev/null >"$WORK/vsock.out" 2>"$WORK/vsock.log" &
	vsock=$!
	server_pids+=("$vsock")
	wait_until_ready "$vsock" "$WORK/vsock.pid" || fail "the server did not start"
	uri=$(grep -x 'nbd+vsock://[0-9]*:[0-9]*' "$WORK/vsock.out") || fail "no URI"
	port=${uri##*:}
	size_at "nbd+unix:///?socket=$WORK/beside.sock"
	refused "$port" vsock -- "--vsock=$port" memory 1M
	refused "$port" vsock -- --vsock -p "$port" memory 1M
	# CID 1 is this machine, if the kernel can talk to itself.
	modprobe vsock_loopback 2>/dev/null || true
	if timeout 10 "$PYTHON" -c '
import socket, sys
s = socket.socket(socket.AF_VSOCK)
s.connect((1, int(sys.argv[1])))' "$port" 2>/dev/null; then
		"$PYTHON" - "$port" <<-'EOT'
			import nbd, sys

			client = nbd.NBD()
			client.connect_vsock(1, int(sys.argv[1]))
			client.pwrite(b'v' * 1048576, 0)
			assert client.pread(1048576, 0) == b'v' * 1048576
			client.shutdown()
		EOT
	else
		note "no client was tried: this kernel has no vsock_loopback"
	fi
	stop_server "$vsock"
else
	note "left out: this kernel has no vsock"
fi
