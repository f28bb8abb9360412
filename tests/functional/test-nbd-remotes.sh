#!/usr/bin/env bash
#
# nbd: a remote is found in every way that it can be named, and every server there is
# will do as one.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdkit qemu-nbd qemu-io nbd-server
need_python_nbd

# What is written through $URI is there, and nothing else.
is_a_disk() {
	"$PYTHON" - "$1" <<'CHECK'
import sys, os, nbd
client = nbd.NBD()
client.connect_uri(sys.argv[1])
size = client.get_size()
data = os.urandom(3 * 1024 * 1024 + 512)
client.pwrite(data, 4096)
client.pwrite(data[:4096], size - 4096, nbd.CMD_FLAG_FUA if client.can_fua() else 0)
if client.can_flush():
    client.flush()
assert client.pread(len(data), 4096) == data
assert client.pread(4096, size - 4096) == data[:4096]
assert client.pread(4096, 0) == bytes(4096)
client.zero(65536, 8192)
assert client.pread(131072, 4096) == data[:4096] + bytes(65536) + data[69632:131072]
client.zero(size, 0) if size < 2**32 else None
client.shutdown()
CHECK
}

# through PARAMETER...: serve what they name, and use it.
through() {
	note "nbd $*"
	start_server nbd "$@"
	is_a_disk "$URI"
	stop_server
}

start_server memory 8M
remote=$PID remote_socket=$SOCK

through "socket=$remote_socket"
through "uri=nbd+unix:///?socket=$remote_socket"
through "nbd+unix:///?socket=$remote_socket"
through "nbd+unix:///some%20name?socket=${remote_socket/\//%2f}"

note "a proxy of a proxy"
start_server nbd "socket=$remote_socket"
middle=$PID
through "socket=$SOCK"
stop_server "$middle"
stop_server "$remote"

note "TCP by address and name, IPv6 where there is one, abstract sockets"
port=$(free_port)
"$NBDRING" -f -p "$port" -i 127.0.0.1 -P "$WORK/tcp.pid" memory 8M >"$WORK/tcp.log" 2>&1 &
tcp=$!
server_pids+=("$tcp")
wait_until_ready "$tcp" "$WORK/tcp.pid" || fail "the server on TCP did not start"
through hostname=127.0.0.1 "port=$port"
through "nbd://127.0.0.1:$port"
# Perhaps ::1 first, where nobody listens.
through "nbd://localhost:$port/"
stop_server "$tcp"
if grep -qs 00000000000000000000000000000001 /proc/net/if_inet6; then
	port=$(free_port)
	"$NBDRING" -f -p "$port" -i ::1 -P "$WORK/tcp6.pid" memory 8M >"$WORK/tcp6.log" 2>&1 &
	tcp=$!
	server_pids+=("$tcp")
	wait_until_ready "$tcp" "$WORK/tcp6.pid" || fail "the server on IPv6 did not start"
	through "nbd://[::1]:$port"
	through hostname=::1 "port=$port"
	stop_server "$tcp"
fi

note "a program, and a descriptor"
through "command=$NBDRING" arg=--single arg=memory arg=8M
"$PYTHON" - "$NBDRING" "$WORK" <<'CHECK' || fail "a connected descriptor does not do"
import os, socket, subprocess, sys, time, nbd
server, work = sys.argv[1:]
ours, theirs = socket.socketpair()
remote = subprocess.Popen([server, "--single", "memory", "8M"], stdin=theirs, stdout=theirs)
theirs.close()
path, ready = work + "/fd.sock", work + "/fd.pid"
proxy = subprocess.Popen([server, "-f", "-U", path, "-P", ready, "nbd", f"socket-fd={ours.fileno()}"],
                         pass_fds=[ours.fileno()])
ours.close()
client = nbd.NBD()
while not os.path.exists(ready) and proxy.poll() is None:
    time.sleep(0.02)
client.connect_unix(path)
client.pwrite(b"x" * 5000, 77)
assert client.pread(5002, 76) == b"\0" + b"x" * 5000 + b"\0"
client.shutdown()
proxy.terminate()
assert proxy.wait(60) == 0
assert remote.wait(60) == 0
CHECK

if [ -e /dev/vsock ] && nbdkit -f --vsock --port 0 null --run true 2>/dev/null; then
	note "vsock is tried where it loops back"
	port=$(free_port)
	nbdkit -f --vsock --port "$port" -P "$WORK/vsock.pid" memory 8M >"$WORK/vsock.log" 2>&1 &
	server_pids+=($!)
	if until_true 5 test -s "$WORK/vsock.pid" &&
		nbdinfo --size "nbd+vsock://1:$port" >/dev/null 2>&1; then
		through vsock=1 "port=$port"
		through "nbd+vsock://1:$port"
	fi
fi

note "oldstyle, where nbdkit offers what it then refuses"
start_server -o memory 8M
remote=$PID
through "socket=$SOCK"
stop_server "$remote"

note "nbdkit, in all its other styles"
for options in "" "--no-sr" "--mask-handshake=0"; do
	# shellcheck disable=SC2086
	nbdkit -f $options -U "$WORK/kit.sock" -P "$WORK/kit.pid" memory 8M >"$WORK/kit.log" 2>&1 &
	kit=$!
	server_pids+=("$kit")
	wait_until_ready "$kit" "$WORK/kit.pid" || fail "nbdkit did not start"
	through "socket=$WORK/kit.sock"
	kill "$kit"
	wait "$kit" || true
	rm -f "$WORK/kit.sock" "$WORK/kit.pid"
done

note "qemu-nbd"
truncate -s 8M "$DISK/qemu.img"
qemu-nbd -t -e 0 -f raw -k "$WORK/qemu.sock" -x there --pid-file="$WORK/qemu.pid" \
	"$DISK/qemu.img" >"$WORK/qemu.log" 2>&1 &
qemu=$!
server_pids+=("$qemu")
wait_until_ready "$qemu" "$WORK/qemu.pid" || fail "qemu-nbd did not start"
through "socket=$WORK/qemu.sock" export=there
refused "no export of that name" -- -U "$WORK/none.sock" nbd "socket=$WORK/qemu.sock" export=gone
kill "$qemu"
wait "$qemu" || true

note "nbd-server"
truncate -s 8M "$DISK/server.img"
printf '[generic]\nunixsock = %s\nduallisten = false\nallowlist = true\n[disk]\nexportname = %s\nflush = true\nfua = true\n' \
	"$WORK/server.sock" "$DISK/server.img" >"$WORK/server.conf"
nbd-server -d -C "$WORK/server.conf" -p "$WORK/server.pid" >"$WORK/server.log" 2>&1 &
server=$!
server_pids+=("$server")
until_true 60 listens "$WORK/server.sock" || fail "nbd-server did not start"
through "socket=$WORK/server.sock" export=disk
# With -d it ends with its client.
kill "$server" 2>/dev/null || true
wait "$server" || true

note "the client chooses the export, and is told which there are"
mkdir "$DISK/many"
truncate -s 1M "$DISK/many/one"
truncate -s 2M "$DISK/many/two"
start_server file "dir=$DISK/many"
remote=$PID
start_server nbd "socket=$SOCK" dynamic-export=true
equal "the size of one" "$(nbdinfo --size "nbd+unix:///one?socket=$SOCK")" 1048576
equal "the size of two" "$(nbdinfo --size "nbd+unix:///two?socket=$SOCK")" 2097152
nbdinfo --size "nbd+unix:///three?socket=$SOCK" 2>/dev/null && fail "there is an export too many"
nbdinfo --list --json "$URI" >"$WORK/list.json"
grep -q '"one"' "$WORK/list.json" || fail "one is not listed"
grep -q '"two"' "$WORK/list.json" || fail "two is not listed"
stop_server
stop_server "$remote"

note "what cannot be"
refused "missing" -- nbd
refused "only one" -- nbd uri=nbd://a socket=/b
refused "no NBD URI" -- nbd uri=http://example.org/
refused "Unix socket" -- nbd uri=nbd+unix:///x
refused "hex digits" -- nbd uri=nbd://a/%4
refused "not both" -- nbd socket=/a export=b dynamic-export=true
refused "No such file" -- -U "$WORK/none.sock" nbd "socket=$WORK/nobody"
refused "bytes" -- nbd "socket=$(printf '%0200d' 0)"
