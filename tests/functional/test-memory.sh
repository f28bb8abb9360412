#!/usr/bin/env bash
#
# memory: sparse up to the largest size there is, and trimmed memory goes back to
# the system.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd

largest=9223372036854775807

rss_kib() {
	awk '/^VmRSS:/ { print $2 }' "/proc/$PID/status"
}

shrunk_to() {
	[ "$(rss_kib)" -le "$1" ]
}

# client CODE: `client` is connected to the server.
client() {
	"$PYTHON" -c "
import sys, nbd
client = nbd.NBD()
client.connect_uri(sys.argv[1])
size = client.get_size()
$1
client.shutdown()" "$URI"
}

note "the largest disk"
start_server memory "$largest"
equal size "$(nbdinfo --size "$URI")" "$largest"
client '
for offset in (0, 12345, 1 << 40, (1 << 62) + 1, size - 100000):
    data = bytes(range(1, 251)) * 400
    client.pwrite(data, offset)
    assert client.pread(len(data), offset) == data
    assert client.pread(1000, offset + 200000 if offset < 1 << 62 else offset - 1000) == bytes(1000)
assert client.pread(1, size - 1) == b"\xfa"
for offset, count in ((size, 1), (size - 1, 2)):
    try:
        client.pread(count, offset)
    except nbd.Error:
        pass
    else:
        raise AssertionError("a read past the end went well")
' 2>"$WORK/client.err" || fail "$(cat "$WORK/client.err")"
before=$(rss_kib)
# Buffers and the like may stay; the data may not.
settled=$((before + 65536))

note "memory is taken where something is written, and given back"
client '
for i in range(256):
    client.pwrite(b"x" * (1 << 20), (1 << 50) + (i << 20))'
full=$(rss_kib)
[ $((full - before)) -ge 250000 ] || fail "256 MiB written, but it has grown from $before to $full KiB only"
client 'client.trim(256 << 20, 1 << 50)
assert client.pread(1 << 20, 1 << 50) == bytes(1 << 20)'
# Under AddressSanitizer freed memory stays in quarantine for a while.
sanitized || until_true 30 shrunk_to "$settled" ||
	fail "trimmed, but it still takes $(rss_kib) KiB, $before before"

note "zeroes give it back, too"
client '
for i in range(256):
    client.pwrite(b"x" * (1 << 20), (1 << 51) + (i << 20))
client.zero(256 << 20, 1 << 51)'
sanitized || until_true 30 shrunk_to "$settled" ||
	fail "zeroed, but it still takes $(rss_kib) KiB, $before before"

note "reading a hole takes none"
client '
for i in range(256):
    assert not any(client.pread(1 << 20, (1 << 52) + (i << 20)))'
sanitized || until_true 30 shrunk_to "$settled" ||
	fail "only read, but it takes $(rss_kib) KiB, $before before"
stop_server

note "sizes that are no multiple of anything"
for size in 1 511 513 4095 4097 65537 1048577; do
	start_server memory "$size"
	client "
assert size == $size
data = bytes(i % 255 + 1 for i in range(size))
client.pwrite(data, 0)
assert client.pread(size, 0) == data
client.zero(1, size - 1)
assert client.pread(size, 0) == data[:-1] + bytes(1)
client.trim(size, 0)"
	stop_server
done

note "two exports of two servers have nothing in common"
start_server memory 1M
first=$PID
client 'client.pwrite(b"x" * size, 0)'
start_server memory 1M
client 'assert client.pread(size, 0) == bytes(size)'
stop_server
stop_server "$first"

note "a disk of no size at all"
start_server memory 0
equal size "$(nbdinfo --size "$URI")" 0
stop_server
