#!/usr/bin/env bash
#
# --filter=cow cow-file=: the overlay is there the next time, also after the server was
# killed; a file that is not right is refused and left alone; one server at a time.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy qemu-io qemu-img
need_python_nbd

random_file "$DISK/base" 5000000
cp "$DISK/base" "$WORK/before"
OVERLAY=$DISK/overlay

serve() {
	start_server --filter=cow file "$DISK/base" cow-file="$OVERLAY" "$@"
}

note "what was written is there the next time"
commands=(-c 'write -P 1 1000 70000' -c 'write -z 100000 100000' -c 'discard 262144 131072'
	-c 'write -P 2 270000 512' -c 'write -z -u 400000 200000' -c 'write -P 3 4999488 512')
serve
qemu-io -f raw "${commands[@]}" "$URI" >/dev/null
qemu-io -f raw "${commands[@]}" "$WORK/before" >/dev/null
stop_server
serve
qemu-img compare -f raw -F raw "$WORK/before" "$URI"
qemu-io -f raw -c 'write -P 4 2000000 200000' "$URI" >/dev/null
qemu-io -f raw -c 'write -P 4 2000000 200000' "$WORK/before" >/dev/null
stop_server

note "with -r, too, and the file does not change"
sum=$(sha256sum <"$OVERLAY")
serve -r
qemu-img compare -f raw -F raw "$WORK/before" "$URI"
fails qemu-io -f raw -c 'write 0 512' "$URI" >/dev/null 2>&1
stop_server
equal "the file" "$(sha256sum <"$OVERLAY")" "$sum"

note "one server at a time, and one export"
serve
refused "in use" another -- --filter=cow file "$DISK/base" cow-file="$OVERLAY"
qemu-img compare -f raw -F raw "$WORK/before" "$URI"
stop_server
mkdir "$DISK/dir"
cp "$DISK/base" "$DISK/dir/a"
cp "$DISK/base" "$DISK/dir/b"
start_server --filter=cow file dir="$DISK/dir" cow-file="$OVERLAY"
"$PYTHON" - "$SOCK" <<'EOT'
import sys, nbd
def connect(name):
    c = nbd.NBD()
    c.set_export_name(name)
    c.connect_unix(sys.argv[1])
    return c
a = connect('a')
try:
    connect('b')
except nbd.Error as error:
    print('   ', error)
else:
    raise AssertionError('two exports share one overlay')
a.shutdown()
EOT
stop_server

note "what is not an overlay of this disk is refused, and left alone"
# wrong WORD... -- FILE: refused with these words.
wrong() {
	local sum words=()

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	sum=$(sha256sum <"$2")
	refused "${words[@]}" -- --filter=cow file "$DISK/base" cow-file="$2"
	equal "$2" "$(sha256sum <"$2")" "$sum"
}

# patched AT BYTES: a copy of the overlay with something else there.
patched() {
	cp --sparse=always "$OVERLAY" "$DISK/patched"
	printf %b "$2" | dd of="$DISK/patched" bs=1 seek="$1" conv=notrunc status=none
}

head -c 100 "$DISK/base" >"$DISK/foreign"
wrong "is not an overlay" -- "$DISK/foreign"
random_file "$DISK/foreign" 3000000
wrong "is not an overlay" -- "$DISK/foreign"
cp --sparse=always "$OVERLAY" "$DISK/cut"
truncate -s -100000 "$DISK/cut"
wrong "cut off" -- "$DISK/cut"
truncate -s 5000 "$DISK/cut"
wrong "cut off" -- "$DISK/cut"
truncate -s 40 "$DISK/cut"
wrong "is damaged" -- "$DISK/cut"
patched 8 '\002'
wrong "version 2" -- "$DISK/patched"
patched 17 '\001'
wrong "is damaged" -- "$DISK/patched"
for page in 4096 8192; do
	patched $((page + 100)) '\377\376'
	wrong "is damaged" "page 0" -- "$DISK/patched"
done
cp "$DISK/base" "$DISK/base.keep"
truncate -s 4000000 "$DISK/base"
wrong "over a disk of 5000000 bytes" 4000000 -- "$OVERLAY"
cp "$DISK/base.keep" "$DISK/base"
refused "65536" cow-block-size -- --filter=cow file "$DISK/base" cow-file="$OVERLAY" \
	cow-block-size=4k
refused "regular file" -- --filter=cow file "$DISK/base" cow-file=/dev/null
refused cow-private -- --filter=cow file "$DISK/base" cow-file="$OVERLAY" cow-private=true
true >"$DISK/empty"
refused "cannot be made" -- -r --filter=cow file "$DISK/base" cow-file="$DISK/empty"
serve
qemu-img compare -f raw -F raw "$WORK/before" "$URI"
stop_server

truncate -s 3000000 "$DISK/zeroes"
wrong "is not an overlay" -- "$DISK/zeroes"

note "what a power cut left of a file that was being made is made anew"
truncate -s 4096 "$DISK/begun"
cp "$DISK/begun" "$DISK/begun-head"
"$PYTHON" - "$DISK/begun-head" <<'EOT'
import struct, sys
head = bytearray(4096)
head[0:12] = b'nbdr-cow' + struct.pack('<I', 1)
crc = 0xffffffff
for byte in head:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
head[12:16] = struct.pack('<I', crc ^ 0xffffffff)
open(sys.argv[1], 'wb').write(head)
EOT
for begun in "$DISK/begun" "$DISK/begun-head"; do
	start_server --filter=cow file "$DISK/base" cow-file="$begun"
	qemu-img compare -f raw -F raw "$DISK/base" "$URI"
	qemu-io -f raw -c 'write -P 7 0 65536' "$URI" >/dev/null
	stop_server
	start_server --filter=cow file "$DISK/base" cow-file="$begun"
	qemu-io -f raw -r -c 'read -P 7 0 65536' "$URI" >/dev/null
	stop_server
done

note "killed at any moment, and all that was flushed is there"
rm "$OVERLAY"
cat >"$WORK/cells.py" <<'EOT'
# Cells of 1000 bytes, so that they lie across blocks; each is written as a whole, with one
# byte value, or zeroed with others. STATE has a line for each cell that is not the base's:
# its number, and the values that it may have.
import os, random, signal, sys, threading
import nbd

CELL, COUNT = 1000, 5000
uri, base, state, pid, seed = sys.argv[1:6]
base = open(base, 'rb').read()
may = {}
if os.path.exists(state):
    for line in open(state):
        cell, *values = line.split()
        may[int(cell)] = [int(v) for v in values]

def content(cell, value):
    return base[cell * CELL:(cell + 1) * CELL] if value < 0 else bytes([value]) * CELL

c = nbd.NBD()
c.connect_uri(uri)
# What a kill left undecided is written anew, as it is found.
for cell in range(COUNT):
    values = may.get(cell, [-1])
    got = c.pread(CELL, cell * CELL)
    found = [v for v in values if got == content(cell, v)]
    if not found and len(values) > 1:
        # Half of one and half of another: it was being written then.
        parts = [content(cell, v) for v in values]
        if all(any(got[i] == part[i] for part in parts) for i in range(CELL)):
            c.pwrite(content(cell, values[-1]), cell * CELL)
            found = values[-1:]
    assert found, (cell, values, got[:8], got[-8:])
    may[cell] = found[:1]
c.flush()
if not int(pid):
    c.shutdown()
    sys.exit(0)

random.seed(int(seed))
threading.Timer(random.uniform(0.02, 0.4), lambda: os.kill(int(pid), signal.SIGKILL)).start()
requests = 0
try:
    while True:
        cell = random.randrange(COUNT)
        what = random.randrange(30)
        requests += 1
        if what < 20:
            value = random.randrange(1, 256)
            may[cell].append(value)
            c.pwrite(bytes([value]) * CELL, cell * CELL, nbd.CMD_FLAG_FUA if what == 0 else 0)
            if what == 0:
                may[cell] = [value]
        elif what < 29:
            last = min(COUNT, cell + random.randrange(1, 200))
            for k in range(cell, last):
                may[k].append(0)
            c.zero((last - cell) * CELL, cell * CELL)
        else:
            c.flush()
            for values in may.values():
                del values[:-1]
except nbd.Error:
    pass
with open(state, 'w') as file:
    for cell, values in may.items():
        if values != [-1]:
            print(cell, *values, file=file)
print(f'    killed after {requests} requests')
EOT
for round in $(seq 12); do
	serve cow-block-size=4k
	"$PYTHON" "$WORK/cells.py" "$URI" "$DISK/base" "$WORK/state" "$PID" "$round"
	{ wait "$PID" || true; } 2>/dev/null
done
serve
"$PYTHON" "$WORK/cells.py" "$URI" "$DISK/base" "$WORK/state" 0 0
stop_server
same_bytes "$DISK/base" "$DISK/base.keep"

[ "$(id -u)" -eq 0 ] || exit 0
note "there is no room for all that is written, and what was flushed is there the next time"
mounted tmpfs none "$WORK/small" -o size=3M
OVERLAY=$WORK/small/overlay
cat >"$WORK/fill.py" <<'EOT'
import sys, nbd
disk = bytearray(open(sys.argv[2], 'rb').read())
c = nbd.NBD()
c.connect_uri(sys.argv[1])
failed = 0
for offset in range(0, 4900000, 70000):
    data = bytes([offset // 70000 + 1]) * 40000
    try:
        c.pwrite(data, offset)
        disk[offset:offset + 40000] = data
    except nbd.Error as error:
        assert error.errno == 'ENOSPC', error
        failed += 1
        disk[offset:offset + 40000] = c.pread(40000, offset)
assert failed > 5, failed
c.flush()
for offset in range(0, 4900000, 100000):
    assert c.pread(100000, offset) == disk[offset:offset + 100000], offset
open(sys.argv[3], 'wb').write(disk)
c.shutdown()
EOT
serve
"$PYTHON" "$WORK/fill.py" "$URI" "$DISK/base" "$WORK/expected"
{ kill -KILL "$PID" && wait "$PID" || true; } 2>/dev/null
serve
nbdcopy "$URI" "$WORK/copy"
same_bytes "$WORK/copy" "$WORK/expected"
stop_server
