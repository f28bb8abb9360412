#!/usr/bin/env bash
#
# blocksize and blocksize-policy: any client gets on with any disk, unless it is
# to be refused.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy
need_python_nbd

# client CODE: `client` is connected; it asks for no block sizes.
client() {
	"$PYTHON" -c "
import sys, nbd
client = nbd.NBD()
client.set_request_block_size(False)
client.set_strict_mode(0)
client.connect_uri(sys.argv[1])
size = client.get_size()

def refused(function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        assert error.errno == 'EINVAL', error
    else:
        raise AssertionError(f'{function} went well')

$1
client.shutdown()" "$URI"
}

block_size() {
	nbdinfo --json "$URI" | "$PYTHON" -c "
import json, sys
print(json.load(sys.stdin)['exports'][0]['block_size_$1'])"
}

random_file "$DISK/image" 2999296

note "cut and put together again"
start_server --filter=blocksize memory 3000000 minblock=1k maxdata=3k maxlen=5k
nbdcopy --flush "$DISK/image" "$URI"
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/image" "$DISK/copy"
equal size "$(nbdinfo --size "$URI")" 2999296
client '
client.pwrite(b"x" * 1000001, 12345)
assert client.pread(1000003, 12344)[1:-1] == b"x" * 1000001
client.zero(1000001, 12345)
assert client.pread(1000001, 12345) == bytes(1000001)'
stop_server

note "the policy is told"
start_server --filter=blocksize-policy memory 1M \
	blocksize-minimum=4k blocksize-preferred=32k blocksize-maximum=1M
equal minimum "$(block_size minimum)" 4096
equal preferred "$(block_size preferred)" 32768
equal maximum "$(block_size maximum)" 1048576
client '
client.pwrite(b"y" * 5000, 1)
assert client.pread(5002, 0) == b"\0" + b"y" * 5000 + b"\0"'
stop_server

note "the policy is enforced"
start_server --filter=blocksize-policy memory 4M \
	blocksize-minimum=4k blocksize-maximum=1M blocksize-error-policy=error
client '
client.pwrite(b"y" * 4096, 4096)
refused(client.pwrite, b"y", 0)
refused(client.pwrite, b"y" * 4096, 1)
refused(client.pread, 512, 4096)
refused(client.pread, (1 << 20) + 4096, 0)
client.pwrite(bytes(1 << 20), 0)
client.zero(1 << 22, 0)
assert client.pread(1 << 20, 4096) == bytes(1 << 20)'
stop_server

note "what cannot be"
refused minblock 65536 -- -U "$WORK/s" --filter=blocksize memory 1M minblock=1000
refused maxdata multiple -- -U "$WORK/s" --filter=blocksize memory 1M minblock=4k maxdata=5k
refused blocksize-minimum 65536 -- -U "$WORK/s" --filter=blocksize-policy memory 1M blocksize-minimum=3
