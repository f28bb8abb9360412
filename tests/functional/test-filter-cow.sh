#!/usr/bin/env bash
#
# --filter=cow: clients write to a disk that does not change; the overlay is temporary,
# for all of them or each one's own; there may be no room for it.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy qemu-io qemu-img
need_python_nbd

random_file "$DISK/base" 5000000
cp "$DISK/base" "$WORK/before"
export TMPDIR=$DISK/overlays
mkdir "$TMPDIR"
chmod 777 "$TMPDIR"

base_is_as_it_was() {
	same_bytes "$DISK/base" "$WORK/before"
	equal "what is left in the folder of overlays" "$(ls -A "$TMPDIR")" ""
}

for parameters in "" cow-store=memory cow-block-size=4k "cow-on-read=true cow-on-cache=true"; do
	note "a whole disk is written and read again: $parameters"
	random_file "$WORK/other" 5000000
	# shellcheck disable=SC2086
	start_server --filter=cow file "$DISK/base" $parameters
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$WORK/before" "$WORK/copy"
	nbdcopy --connections=4 "$WORK/other" "$URI"
	qemu-img compare -f raw -F raw "$WORK/other" "$URI"
	base_is_as_it_was
	stop_server
	base_is_as_it_was
done

note "patterns in parts of blocks"
start_server --filter=cow file "$DISK/base"
cp "$WORK/before" "$WORK/model"
commands=(-c 'write -P 1 1000 70000' -c 'write -z 100000 100000' -c 'discard 262144 131072'
	-c 'write -P 2 270000 512' -c 'write -z -u 400000 200000' -c 'write -P 3 4999488 512')
qemu-io -f raw "${commands[@]}" "$URI" >/dev/null
qemu-io -f raw "${commands[@]}" "$WORK/model" >/dev/null
qemu-img compare -f raw -F raw "$WORK/model" "$URI"
stop_server
base_is_as_it_was

note "a disk that nobody can write to is written to"
start_server --filter=cow pattern 1M
qemu-io -f raw -c 'write -P 9 4096 4096' -c 'read -P 9 4096 4096' "$URI" >/dev/null
stop_server

note "what one client writes, all see, and the next one too"
start_server --filter=cow file "$DISK/base"
"$PYTHON" - "$URI" <<'EOT'
import sys, nbd
a, b = nbd.NBD(), nbd.NBD()
for c in a, b:
    c.connect_uri(sys.argv[1])
assert a.can_multi_conn()
a.pwrite(b'shared!!' * 64, 4096)
assert b.pread(512, 4096) == b'shared!!' * 64
a.shutdown()
b.shutdown()
c = nbd.NBD()
c.connect_uri(sys.argv[1])
assert c.pread(512, 4096) == b'shared!!' * 64
c.shutdown()
EOT
stop_server

note "with cow-private=true each has a disk of its own, which goes with it"
for store in file memory; do
	start_server --filter=cow file "$DISK/base" cow-private=true cow-store=$store
	"$PYTHON" - "$URI" "$WORK/before" <<'EOT'
import sys, nbd
base = open(sys.argv[2], 'rb').read()
def connect():
    c = nbd.NBD()
    c.connect_uri(sys.argv[1])
    return c
stays = connect()
assert not stays.can_multi_conn()
stays.pwrite(b'stays!!!' * 512, 8192)
for number in range(40):
    c = connect()
    assert c.pread(4096, 8192) == base[8192:12288]
    c.pwrite(bytes([number + 1]) * 70000, 4096 * number)
    assert c.pread(70000, 4096 * number) == bytes([number + 1]) * 70000
    assert stays.pread(4096, 8192) == b'stays!!!' * 512
    assert stays.pread(4096, 65536) == base[65536:69632]
    c.flush()
    c.shutdown()
stays.shutdown()
EOT
	stop_server
done
base_is_as_it_was

note "each export has an overlay"
mkdir "$DISK/dir"
cp "$WORK/before" "$DISK/dir/a"
cp "$WORK/before" "$DISK/dir/b"
start_server --filter=cow file dir="$DISK/dir"
"$PYTHON" - "$SOCK" "$WORK/before" <<'EOT'
import sys, nbd
base = open(sys.argv[2], 'rb').read()
def connect(name):
    c = nbd.NBD()
    c.set_export_name(name)
    c.connect_unix(sys.argv[1])
    return c
a, b = connect('a'), connect('b')
a.pwrite(b'A' * 4096, 0)
b.pwrite(b'B' * 4096, 4096)
assert a.pread(8192, 0) == b'A' * 4096 + base[4096:8192]
assert b.pread(8192, 0) == base[:4096] + b'B' * 4096
a.shutdown()
b.shutdown()
EOT
stop_server
same_bytes "$WORK/before" "$DISK/dir/a"
same_bytes "$WORK/before" "$DISK/dir/b"

note "the folder of overlays does not exist"
TMPDIR=$DISK/nowhere refused "temporary file" nowhere -- --filter=cow file "$DISK/base"

[ "$(id -u)" -eq 0 ] || exit 0
note "there is no room for all that is written"
mounted tmpfs none "$WORK/small" -o size=2M
TMPDIR=$WORK/small start_server --filter=cow file "$DISK/base"
"$PYTHON" - "$URI" "$WORK/before" <<'EOT'
import sys, nbd
disk = bytearray(open(sys.argv[2], 'rb').read())
c = nbd.NBD()
c.connect_uri(sys.argv[1])
failed = 0
for offset in range(0, 4900000, 50000):
    data = bytes([offset // 50000 + 1]) * 30000
    try:
        c.pwrite(data, offset)
        disk[offset:offset + 30000] = data
    except nbd.Error as error:
        assert error.errno == 'ENOSPC', error
        failed += 1
        # Undefined is only what was being written.
        disk[offset:offset + 30000] = c.pread(30000, offset)
assert failed > 10, failed
for offset in range(0, 4900000, 100000):
    assert c.pread(100000, offset) == disk[offset:offset + 100000], offset
# Room comes back.
c.trim(2097152, 0)
c.pwrite(b'x' * 65536, 3 << 20)
assert c.pread(65536, 3 << 20) == b'x' * 65536
c.shutdown()
EOT
stop_server
same_bytes "$DISK/base" "$WORK/before"
