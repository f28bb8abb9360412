#!/usr/bin/env bash
#
# A file that is spoilt and put back under a server that goes on.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd

image=$DISK/image
random_file "$DISK/original" 1000000
cp "$DISK/original" "$image"

put_back() {
	cp "$DISK/original" "$image.new"
	mv "$image.new" "$image"
}
log_has() {
	grep -q "$1" "$LOG"
}

# client CODE: `client` is connected to the server. spoil() makes the file fail reads
# beyond its 4096th byte, lose() takes it away as well; neither is seen by clients that
# are there. fails(errno, function, ...) checks that a request fails in that way.
client() {
	timeout 120 "$PYTHON" -c "
import errno, os, sys, nbd
image, original = sys.argv[2], open(sys.argv[3], 'rb').read()
def spoil():
    os.truncate(image, 4096)
def lose():
    spoil()
    os.unlink(image)
def fails(number, function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, error
    else:
        raise AssertionError('this went well')
client = nbd.NBD()
client.connect_uri(sys.argv[1])
$1
client.shutdown()" "$URI" "$image" "$DISK/original" 2>"$WORK/client.err" ||
		fail "$(cat "$WORK/client.err")"
}

note "a client waits until the file is as it was"
start_server --filter=retry file "$image" retries=1000 retry-delay=50ms retry-exponential=no
client '
assert client.pread(1000000, 0) == original
spoil()
assert client.pread(1000000, 0) == original' &
client=$!
until_true 60 log_has "the disk is smaller than it was: 4096 bytes instead of 1000000" ||
	fail "the log does not say why"
put_back
wait "$client" || fail "the client was told of an error"

note "also when there is no file at all; new clients come meanwhile, writes go to the new one"
client '
lose()
client.pwrite(b"x" * 1000, 0)
client.flush()
assert client.pread(1000, 999000) == original[999000:]
client.pwrite(b"y" * 1000, 500000)
client.flush()' &
client=$!
until_true 60 log_has "cannot be opened again: .*No such file" || fail "the log does not say so"
equal "size while it is closed" "$(nbdinfo --size "$URI")" 1000000
put_back
wait "$client" || fail "the client was told of an error"
"$PYTHON" -c '
import sys
found, original = (open(name, "rb").read() for name in sys.argv[1:])
assert found == original[:500000] + b"y" * 1000 + original[501000:]' "$image" "$DISK/original" ||
	fail "the file that was put back does not have what was written to it"
stop_server
put_back

note "not for ever, and the server ends well with the disk closed"
start_server --filter=retry file "$image" retries=2 retry-delay=10ms
client '
lose()
fails(errno.EIO, client.pread, 1000, 999000)
fails(errno.EIO, client.pread, 1000, 0)
with open(image, "wb") as file:
    file.write(original)
assert client.pread(1000, 999000) == original[999000:]
lose()
fails(errno.EIO, client.pread, 1000, 999000)'
stop_server
put_back

note "a server that is to end does not wait for a try that is far away"
start_server --filter=retry file "$image" retry-delay=100000
client '
spoil()
open(sys.argv[2] + ".asking", "w").close()
fails(errno.ESHUTDOWN, client.pread, 1000, 999000)' 2>"$WORK/stopped" &
client=$!
asking() {
	[ -e "$image.asking" ]
}
until_true 60 asking || fail "the client did not come"
stop_server
wait "$client" || true
put_back

note "for reading only, once it has failed"
start_server --filter=retry file "$image" retry-delay=10ms retry-readonly=yes
client '
client.pwrite(original[:1000], 0)
spoil()
with open(image + ".new", "wb") as file:
    file.write(original)
os.rename(image + ".new", image)
assert client.pread(1000, 999000) == original[999000:]
fails(errno.EPERM, client.pwrite, b"x" * 1000, 0)'
stop_server
same_bytes "$image" "$DISK/original"

refused retry-delay soon -- -U "$WORK/s" --filter=retry memory 1M retry-delay=soon
