#!/usr/bin/env bash
#
# The filters that make faults, seen by real clients.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io
need_python_nbd

# client CODE: `client` is connected to the server; fails(errno, function, ...)
# checks that a request fails in that way.
client() {
	timeout 120 "$PYTHON" -c "
import errno, sys, time, nbd
client = nbd.NBD()
client.set_request_block_size(False)
client.connect_uri(sys.argv[1])
size = client.get_size()
def fails(number, function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, error
    else:
        raise AssertionError('this went well')
$1
client.shutdown()" "$URI" 2>"$WORK/client.err" || fail "$(cat "$WORK/client.err")"
}

random_file "$DISK/image" 1000000
cp "$DISK/image" "$DISK/original"

note "error: by operation"
start_server --filter=error memory 1M error=ENOSPC error-pwrite-rate=100% error-zero-rate=1
client '
client.pread(1000, 0)
fails(errno.ENOSPC, client.pwrite, b"x" * 100, 0)
fails(errno.ENOSPC, client.zero, 100, 0)
client.trim(100, 0)
client.flush()'
stop_server

note "error: the third request, whatever it is, and no other"
start_server --filter=error memory 1M error-after=2 error-count=1
client '
for i in range(1, 10):
    if i == 3:
        fails(errno.EIO, client.pread, 512, 0)
    else:
        client.pread(512, 0)'
stop_server

note "error: the same seed, the same errors"
for run in 1 2; do
	start_server --filter=error memory 1M error-rate=20% seed=7
	client '
for i in range(300):
    try:
        client.pread(512, 0)
        print("1", end="", file=open("'"$WORK/errors.$run"'", "a"))
    except nbd.Error:
        print("0", end="", file=open("'"$WORK/errors.$run"'", "a"))'
	stop_server
done
same_bytes "$WORK/errors.1" "$WORK/errors.2"
grep -q 10 "$WORK/errors.1" || fail "nothing failed"

note "error: while a file exists"
start_server --filter=error memory 1M error-rate=100% error-file="$WORK/fail"
client 'client.pread(512, 0)'
touch "$WORK/fail"
read_fails() {
	! qemu-io -f raw -c 'read 0 512' "$URI" >/dev/null 2>&1
}
until_true 10 read_fails || fail "there are no errors though the file exists"
rm "$WORK/fail"
until_true 10 qemu-io -f raw -c 'read 0 512' "$URI" >/dev/null 2>&1 ||
	fail "the errors go on without the file"
stop_server
refused error-rate "'150%'" 100 -- -U "$WORK/s" --filter=error memory 1M error-rate=150%
refused error-prea error-pread -- -U "$WORK/s" --filter=error memory 1M error-prea=EIO

note "delay: two filters, each with its own time"
start_server --filter=delay --filter=delay memory 1M rdelay=200ms rdelay=200ms wdelay=0.3
client '
def takes(function, *arguments):
    begin = time.monotonic()
    function(*arguments)
    return time.monotonic() - begin
assert takes(client.pread, 512, 0) >= 0.4
assert takes(client.pwrite, b"x" * 512, 0) >= 0.3
assert takes(client.zero, 512, 0) >= 0.3
assert takes(client.flush) < 0.2'
stop_server

note "delay: coming in and going out"
start_server --filter=delay memory 1M delay-open=300ms delay-close=400ms
"$PYTHON" - "$URI" <<-'EOT'
	import sys, time, nbd

	for _ in range(2):
	    client = nbd.NBD()
	    begin = time.monotonic()
	    client.connect_uri(sys.argv[1])
	    assert time.monotonic() - begin >= 0.3, "it was let in at once"
	    client.pread(512, 0)
	    begin = time.monotonic()
	    client.shutdown()
	    assert time.monotonic() - begin >= 0.4, "it was let go at once"
EOT
nbdinfo --list "$URI" >/dev/null
stop_server

note "delay: neither keeps the server from stopping"
start_server --filter=delay memory 1M delay-open=1000000
qemu-io -r -f raw -c 'read 0 512' "$URI" >"$WORK/client.log" 2>&1 &
waiting=$!
sleep 0.5
kill -0 "$waiting" || fail "it was let in at once"
stop_server
wait "$waiting" || true
refused rdelay "'soon'" -- -U "$WORK/s" --filter=delay memory 1M rdelay=soon

note "short: copies come out right"
start_server --filter=short file "$DISK/image" window=5ms
nbdcopy --request-size=8192 --requests=64 "$URI" "$DISK/copy"
same_bytes "$DISK/original" "$DISK/copy"
random_file "$DISK/new" 1000000
nbdcopy --request-size=8192 --requests=64 --flush "$DISK/new" "$URI"
stop_server
same_bytes "$DISK/new" "$DISK/image"

note "evil: the same bits in every run, none on the disk"
cp "$DISK/image" "$DISK/original"
for run in 1 2; do
	start_server --filter=evil file "$DISK/image" evil-probability=1e-4 evil-seed=11
	nbdcopy "$URI" "$DISK/evil.$run"
	nbdcopy --request-size=32768 "$URI" "$DISK/evil.again"
	same_bytes "$DISK/evil.$run" "$DISK/evil.again"
	stop_server
done
same_bytes "$DISK/evil.1" "$DISK/evil.2"
same_bytes "$DISK/original" "$DISK/image"
wrong=$({ cmp -l "$DISK/original" "$DISK/evil.1" || true; } | wc -l)
[ "$wrong" -gt 300 ] && [ "$wrong" -lt 500 ] || fail "$wrong bytes are wrong, not about 400"

note "ddrescue: what was not rescued cannot be read"
printf '# a map\n0 + 1\n0 65536 +\n65536 512 -\n66048 933952 +\n' >"$WORK/map"
start_server --filter=ddrescue file "$DISK/image" ddrescue-mapfile="$WORK/map"
client '
assert client.is_read_only()
image = open("'"$DISK/image"'", "rb").read()
assert client.pread(65536, 0) == image[:65536]
assert client.pread(size - 66048, 66048) == image[66048:]
fails(errno.EIO, client.pread, 1, 66047)
fails(errno.EIO, client.pread, 65537, 0)'
stop_server
printf '0 + 1\n0 65536 +\n512 512 -\n' >"$WORK/map"
refused map "line 3" -- -U "$WORK/s" --filter=ddrescue memory 1M ddrescue-mapfile="$WORK/map"
printf '0 + 1\n0 0x200000 +\n' >"$WORK/map"
refused map "another disk" -- -U "$WORK/s" --filter=ddrescue memory 1M ddrescue-mapfile="$WORK/map"

note "checkwrite: a copy onto itself, and one of something else"
sparse_file "$DISK/sparse"
cp "$DISK/sparse" "$DISK/sparse.before"
start_server --filter=checkwrite --filter=short file "$DISK/sparse" window=2ms
nbdcopy "$URI" "$URI"
nbdcopy --no-extents --request-size=65536 "$DISK/sparse.before" "$URI"
printf 'x' | dd of="$DISK/sparse.before" bs=1 seek=9000000 conv=notrunc status=none
fails nbdcopy "$DISK/sparse.before" "$URI"
client '
client.zero(1 << 20, 8 << 20)
fails(errno.EIO, client.zero, size, 0)'
stop_server
cmp "$DISK/sparse" "$DISK/sparse.before" >/dev/null && fail "they should differ"

# control LETTERS: what the control socket answers, all of it.
control() {
	timeout 60 "$PYTHON" -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
s.shutdown(socket.SHUT_WR)
answer = b""
while True:
    part = s.recv(100)
    if not part:
        break
    answer += part
print(answer.decode())' "$WORK/pause" "$1"
}

note "pause: nothing is done until it is resumed"
start_server --filter=pause --filter=delay memory 1M rdelay=300ms pause-control="$WORK/pause"
client '
import socket
def finish(cookie):
    while not client.aio_command_completed(cookie):
        client.poll(1000)
control = socket.socket(socket.AF_UNIX)
control.connect("'"$WORK/pause"'")
reading = client.aio_pread(nbd.Buffer(512), 0)
client.poll(100)
begin = time.monotonic()
control.sendall(b"p")
assert control.recv(1) == b"P"
assert time.monotonic() - begin >= 0.1, "P did not wait for the read"
finish(reading)
flushing = client.aio_flush()
deadline = time.monotonic() + 0.5
while time.monotonic() < deadline:
    client.poll(50)
assert not client.aio_command_completed(flushing)
control.sendall(b"?r")
assert control.recv(1) == b"X"
assert control.recv(1) == b"R"
finish(flushing)'
equal "the answer to p" "$(control "p
")" P
equal "the answer to r" "$(control "r
")" R
equal "the answer to all sorts" "$(control 'pprrx p r')" PPRRXPR
stop_server
equal "how often the log says that it was paused" "$(grep -c "pause: paused by" "$LOG")" 4
equal "how often the log says that it goes on" "$(grep -c "pause: resumed by" "$LOG")" 4
[ ! -e "$WORK/pause" ] || fail "the control socket is still there"

note "pause: before the first client, and it stays when the last one has left"
mkdir "$DISK/disks"
truncate -s 1M "$DISK/disks/one"
start_server --filter=pause file dir="$DISK/disks" pause-control="$WORK/pause"
equal "the answer to p" "$(control p)" P
for _ in 1 2; do
	qemu-io -r -f raw -c 'read 0 512' "nbd+unix:///one?socket=$SOCK" >/dev/null &
	reader=$!
	sleep 0.5
	kill -0 "$reader" || fail "the read was not held back"
	equal "the answer to r" "$(control r)" R
	wait "$reader" || fail "the read failed"
	equal "the answer to p" "$(control p)" P
done
stop_server

note "pause: twice in a stack, and a socket that was left behind"
"$PYTHON" -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$WORK/pause"
start_server --filter=pause --filter=pause memory 1M pause-control="$WORK/pause" \
	pause-control="$WORK/pause"
equal "the answer to p" "$(control p)" P
equal "the answer to r" "$(control r)" R
qemu-io -f raw -c 'read 0 512' "$URI" >/dev/null
refused "$WORK/pause" "in use" -- -U "$WORK/s" --filter=pause memory 1M pause-control="$WORK/pause"
stop_server

note "verify: a disk and its twin"
start_server --filter=verify --filter=short memory 4M window=1ms \
	twin='--filter=delay memory 4M wdelay=1ms'
truncate -s 4M "$DISK/four"
dd if="$DISK/original" of="$DISK/four" conv=notrunc status=none
nbdcopy --requests=16 "$DISK/four" "$URI"
nbdcopy --requests=16 "$URI" "$DISK/four.copy"
same_bytes "$DISK/four" "$DISK/four.copy"
stop_server

note "verify: a twin that is wrong"
cp "$DISK/four" "$DISK/four.twin"
printf 'x' | dd of="$DISK/four.twin" bs=1 seek=3000000 conv=notrunc status=none
start_server --filter=verify file "$DISK/four" twin="file $DISK/four.twin"
client '
client.pread(1000000, 0)
fails(errno.EIO, client.pread, 1, 3000000)
client.pwrite(b"y", 3000000)
client.pread(size - 3000000, 3000000)'
stop_server
grep -q 'error: verify: read of 1 bytes at 3000000: the byte at 3000000 is 0x.., in the twin' \
	"$LOG" || fail "the log does not say where the difference is: $(cat "$LOG")"
refused verify 4194304 1048576 -- -U "$WORK/s" --filter=verify memory 4M twin='memory 1M'
refused twin -- -U "$WORK/s" --filter=verify memory 4M
