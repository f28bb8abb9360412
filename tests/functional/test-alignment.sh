#!/usr/bin/env bash
#
# O_DIRECT on a disk with 4096-byte sectors, the device itself and a file on it:
# layers that cannot keep whole blocks are refused, clients that know nothing of
# blocks are served, those that asked for block sizes are held to them.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_root "attach a loop device with 4096-byte sectors"
need losetup mke2fs python3
ours || skip "nbdkit has no O_DIRECT"

# What the Python below is made of. `client()` never asked for block sizes,
# `client(asking)` did, and `told()` is what it heard.
cat >"$WORK/clients.py" <<'EOT'
import sys

from nbdwire import Client, Cmd, Err, Info, Mode

asking = [Info.BLOCK_SIZE]
BLOCK = 4096


def client(infos=()):
    return Client.unix(sys.argv[1]).negotiate("", Mode.STRUCTURED, infos=infos)


def told():
    with client(asking) as c:
        return c.export.block_size


def send(c, command, offset, length):
    payload = b"?" * length if command == Cmd.WRITE else None
    return c.call(command, offset, length, payload=payload)


def refused(c, command, offset, length):
    reply = send(c, command, offset, length)
    assert reply.error == Err.EINVAL, (command, offset, length, reply.error)


def works(c, command, offset, length):
    reply = send(c, command, offset, length)
    assert reply.ok, (command, offset, length, reply.error, reply.texts)


# What a client may do anywhere, on the disk whose bytes are `model`.
def anywhere(model):
    size = len(model)
    places = ((0, 1), (1, 1), (511, 2), (512, 512), (4095, 2), (1000, 5000), (4096, 4095),
              (8191, 65538), (size - 3, 3), (size - 4097, 4097))
    c = client()
    assert c.export.size == size, (c.export.size, size)
    for number, (offset, length) in enumerate(places):
        assert c.read(offset, length) == model[offset:offset + length], (offset, length)
        data = bytes([number + 1]) * length
        c.write(offset, data)
        model[offset:offset + length] = data
    works(c, Cmd.WRITE_ZEROES, 100007, 10001)
    model[100007:110008] = bytes(10001)
    works(c, Cmd.TRIM, 120007, 10001)
    trimmed = c.read(120007, 10001)
    assert all(now in (was, 0) for was, now in zip(model[120007:130008], trimmed))
    model[120007:130008] = trimmed
    works(c, Cmd.FLUSH, 0, 0)
    assert c.read(0, size) == model, "the disk differs"


# Many small writes in flight to the same blocks, from two clients.
def together(model):
    clients = [client(), client()]
    for offset in range(200000, 202000):
        model[offset] = offset % 251
        clients[offset % 2].submit(Cmd.WRITE, offset, payload=bytes([offset % 251]))
        if offset % 100 == 0:
            for c in clients:
                c.finish()
    for c in clients:
        c.finish()
        c.read(0, 1)
    works(clients[0], Cmd.FLUSH, 0, 0)
    assert clients[1].read(0, len(model)) == model, "a write was lost"


# What asked for sizes gets EINVAL for less than BLOCK, and changes nothing by it.
def held_to(block, model):
    c = client(asking)
    half = block // 2
    for command in (Cmd.READ, Cmd.WRITE, Cmd.WRITE_ZEROES, Cmd.TRIM):
        for offset, length in ((0, 1), (1, block), (half, half), (half, block), (0, block + half),
                               (block - 1, 2)):
            refused(c, command, offset, length)
    assert client().read(0, len(model)) == model, "a refused request changed the disk"
    for offset, length in ((0, block), (3 * block, 2 * block)):
        c.write(offset, b"=" * length)
        model[offset:offset + length] = b"=" * length
        assert c.read(offset, length) == b"=" * length
    assert c.read(0, len(model) // block * block) == model[:len(model) // block * block]


def load(offset=0, length=None):
    with open(sys.argv[2], "rb") as f:
        everything = bytearray(f.read())
    return everything[offset:][:length]


# The file of what the disk has to hold, with MODEL at OFFSET.
def save(model, offset=0):
    with open(sys.argv[2], "r+b") as f:
        f.seek(offset)
        f.write(model)
EOT

# clients CODE
clients() {
	PYTHONPATH=$top/tests/conformance:$WORK PYTHONDONTWRITEBYTECODE=1 \
		python3 -c "
from clients import *
$1" "$SOCK" "$DISK/expected"
}

# holds_expected DISK: asked around the page cache.
holds_expected() {
	dd if="$1" bs=64K iflag=direct status=none | cmp - "$DISK/expected" ||
		fail "$1 does not hold what was written"
}

# fill DISK
fill() {
	random_file "$DISK/expected" 1048576
	dd if="$DISK/expected" of="$1" bs=64K oflag=direct conv=notrunc status=none
}

# partitioned DISK: its MBR counts in sectors of 512 bytes, and partition 2 starts in
# the middle of a block.
partitioned() {
	python3 -c '
import struct, sys
table = bytearray(4096)
for number, (start, length) in enumerate(((8, 8), (17, 16))):
    struct.pack_into("<B3xB3xII", table, 446 + 16 * number, 0, 0x83, start, length)
table[510:512] = b"\x55\xaa"
sys.stdout.buffer.write(table)' >"$WORK/table"
	dd if="$WORK/table" of="$1" bs=4096 oflag=direct conv=notrunc status=none
	dd if="$WORK/table" of="$DISK/expected" bs=4096 conv=notrunc status=none
}

test_refusals() {
	local use="put --filter=blocksize below"

	refused "offset=512 " "4096-byte" "offset=4096" "$use" -- \
		-U "$WORK/s" --filter=offset "${file[@]}" offset=512
	refused "offset=4608 " "4096-byte" "offset=4096" "$use" -- \
		-U "$WORK/s" --filter=offset "${file[@]}" offset=4608
	refused "range=10000 " "4096-byte" "range=8192" "$use" -- \
		-U "$WORK/s" --filter=offset "${file[@]}" offset=4096 range=10000
	refused "truncate" "5000" "4096-byte" "truncate=4096" "$use" -- \
		-U "$WORK/s" --filter=truncate "${file[@]}" truncate=5000
	refused "map: 0+512:512 " "4096-byte" "$use" -- \
		-U "$WORK/s" --filter=map "${file[@]}" map=0+512:512
	refused "map-size=10000 " "4096-byte" "map-size=8192" "$use" -- \
		-U "$WORK/s" --filter=map "${file[@]}" map-size=10000
	refused "partition 2 " "byte 8704" "4096-byte" "$use" -- \
		-U "$WORK/s" --filter=partition "${file[@]}" partition=2
	refused "blocksize-minimum: 512 " "4096-byte" "blocksize-minimum=4096" "$use" -- \
		-U "$WORK/s" --filter=blocksize-policy "${file[@]}" blocksize-minimum=512
	# A filter between makes no difference, nor does blocksize on the wrong side.
	refused "offset=512 " "4096-byte" "$use" -- \
		-U "$WORK/s" --filter=offset --filter=nofilter "${file[@]}" offset=512
	refused "offset=512 " "4096-byte" "$use" -- \
		-U "$WORK/s" --filter=blocksize --filter=offset "${file[@]}" offset=512
}

test_disk() {
	local disk=$1 file

	file=(file "$disk" cache=none)
	fill "$disk"

	note "$disk: refused at open"
	partitioned "$disk"
	test_refusals

	note "$disk: clients that know nothing of blocks, and those that asked"
	start_server "${file[@]}"
	clients '
assert told()[0] == BLOCK, told()
model = load()
anywhere(model)
together(model)
held_to(BLOCK, model)
save(model)'
	stop_server "$PID"
	holds_expected "$disk"

	note "$disk: the same through filters that keep whole blocks"
	start_server --filter=swab --filter=offset --filter=nofilter "${file[@]}" \
		swab-bits=8 offset=8192 range=512K
	clients '
assert told()[0] == BLOCK, told()
model = load(8192, 512 << 10)
anywhere(model)
together(model)
held_to(BLOCK, model)
save(model, 8192)'
	stop_server "$PID"
	holds_expected "$disk"

	note "$disk: blocksize below an offset within a block"
	start_server --filter=offset --filter=blocksize "${file[@]}" offset=512 range=500001
	clients '
assert told() is None or told()[0] == 1, told()
model = load(512, 500001)
anywhere(model)
together(model)
save(model, 512)'
	stop_server "$PID"
	holds_expected "$disk"

	note "$disk: blocksize below a partition within a block"
	partitioned "$disk"
	start_server --filter=partition --filter=blocksize "${file[@]}" partition=2
	clients '
model = load(17 * 512, 16 * 512)
c = client()
assert c.export.size == len(model)
assert c.read(0, len(model)) == model
c.write(1, b"p" * 5000)
model[1:5001] = b"p" * 5000
save(model, 17 * 512)'
	stop_server "$PID"
	holds_expected "$disk"

	test_policy "$disk"
}

test_policy() {
	local disk=$1

	note "$disk: larger blocks are told; who does not know is helped"
	start_server --filter=blocksize-policy "${file[@]}" \
		blocksize-minimum=16k blocksize-preferred=64k blocksize-maximum=1M
	clients '
assert told() == (16384, 65536, 1 << 20), told()
model = load()
anywhere(model)
together(model)
held_to(16384, model)
save(model)'
	stop_server "$PID"
	holds_expected "$disk"

	note "$disk: no one is helped"
	start_server --filter=blocksize-policy "${file[@]}" blocksize-error-policy=error \
		blocksize-maximum=64k
	clients '
assert told()[0] == BLOCK and told()[2] == 65536, told()
model = load()
for c in (client(), client(asking)):
    for command in (Cmd.READ, Cmd.WRITE):
        for offset, length in ((0, 1), (1, BLOCK), (512, 512), (0, BLOCK + 1),
                               (0, 65536 + BLOCK)):
            refused(c, command, offset, length)
    for command in (Cmd.WRITE_ZEROES, Cmd.TRIM):
        refused(c, command, 512, BLOCK)
    assert c.read(0, 65536) == model[:65536]
    c.write(BLOCK, b"e" * BLOCK)
    model[BLOCK:2 * BLOCK] = b"e" * BLOCK
save(model)'
	stop_server "$PID"
	holds_expected "$disk"

	note "$disk: smaller blocks than it has, with blocksize below"
	start_server --filter=blocksize-policy --filter=blocksize "${file[@]}" blocksize-minimum=512
	clients '
assert told()[0] == 512, told()
model = load()
anywhere(model)
held_to(512, model)
save(model)'
	stop_server "$PID"
	holds_expected "$disk"
}

# device FILE SIZE: sets LOOP.
device() {
	truncate -s "$2" "$1"
	loop_device "$1" --sector-size 4096
	losetup --direct-io=on "$LOOP" 2>/dev/null || note "$LOOP itself uses the page cache"
	equal "the sector size" "$(blockdev --getss "$LOOP")" 4096
}

device "$DISK/small" 1M
test_disk "$LOOP"

device "$DISK/large" 64M
mke2fs -q -t ext4 -b 4096 "$LOOP" >/dev/null
mounted ext4 "$LOOP" "$DISK/mounted"
truncate -s 1M "$DISK/mounted/file"
test_disk "$DISK/mounted/file"
