#!/usr/bin/env bash
#
# null, pattern and full: the backends that are there for tests.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd

# client CODE: `client` is connected to the server; fails(errno, function, ...) is
# for what should not work.
client() {
	"$PYTHON" -c "
import sys, struct, nbd
client = nbd.NBD()
client.add_meta_context('base:allocation')
client.connect_uri(sys.argv[1])
size = client.get_size()

def fails(errno, function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        assert error.errno == errno, error
    else:
        raise AssertionError(f'{function} went well')

$1
client.shutdown()" "$URI"
}

note "null: takes everything, holds nothing"
start_server null 9223372036854775807
equal size "$(nbdinfo --size "$URI")" 9223372036854775807
client '
client.pwrite(b"x" * 100000, 1 << 60)
assert client.pread(100000, 1 << 60) == bytes(100000)
client.zero(1 << 20, 5)
client.trim(1 << 20, 5)
client.flush()
assert client.pread(1, size - 1) == bytes(1)'
stop_server

note "pattern: each eight bytes are their own offset"
start_server pattern 9223372036854775800
equal size "$(nbdinfo --size "$URI")" 9223372036854775800
client '
def expected(count, offset):
    first, last = offset // 8 * 8, offset + count
    whole = b"".join(struct.pack(">Q", at) for at in range(first, last, 8))
    return whole[offset - first:][:count]

for offset in (0, 1, 7, 8, 511, 4096, 123457, 1 << 40, (1 << 60) + 3):
    for count in (1, 7, 8, 9, 513, 65536):
        assert client.pread(count, offset) == expected(count, offset), (count, offset)
assert client.pread(13, size - 13) == expected(13, size - 13)
assert client.pread(1 << 25, 1 << 30) == expected(1 << 25, 1 << 30)'
stop_server

note "full: reads as zeroes, has no room for anything"
start_server full 1G
equal size "$(nbdinfo --size "$URI")" 1073741824
client '
assert client.pread(100000, 12345) == bytes(100000)
fails("ENOSPC", client.pwrite, b"x" * 512, 0)
fails("ENOSPC", client.pwrite, b"x" * (1 << 20), 512)
fails("ENOSPC", client.pwrite, b"x", size - 1)
assert client.pread(512, 0) == bytes(512)'
stop_server

note "read-only, they are read-only"
for backend in null full; do
	start_server -r "$backend" 1M
	nbdinfo --is read-only "$URI" || fail "$backend is not read-only"
	stop_server
done
