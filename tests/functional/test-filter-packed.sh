#!/usr/bin/env bash
#
# The filters for compressed files: files as real tools write them are read back byte for
# byte, in order, anywhere, by several clients at once; damaged ones are refused, or fail
# where the damage is and nowhere else.
#
# usage: test-filter-packed.sh FORMAT

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
format=$1
need nbdinfo nbdcopy qemu-img tar
need_python_nbd
"$NBDRING" --list >"$WORK/list"
grep -q "^ *$format " "$WORK/list" || skip "this server was built without $format"
cd "$DISK"

# A disk with text, noise and holes in it, of an odd size: 24 MiB and a bit.
"$PYTHON" - "$top" <<-'EOT'
	import glob, os, random, sys

	random.seed(1)
	text = b''.join(open(f, 'rb').read() for f in sorted(glob.glob(sys.argv[1] + '/src/*/*.c')))
	disk = bytearray()
	while len(disk) < 24 << 20:
	    disk += text[random.randrange(len(text) // 2):][:random.randrange(1 << 20)]
	    disk += os.urandom(random.randrange(1 << 19))
	    disk += bytes(random.randrange(1 << 19))
	disk = disk[:(24 << 20) + 777]
	# Something is to be all zeroes whatever the format cuts it into.
	disk[8 << 20:13 << 20] = bytes(5 << 20)
	open('disk.img', 'wb').write(disk)
EOT
head -c 10000001 disk.img >front
tail -c +10000002 disk.img >back

# served FILE [FILTER...]: it is disk.img.
served() {
	local file=$1
	shift

	note "$file"
	start_server "$@" "--filter=$format" file "$DISK/$file"
	equal size "$(nbdinfo --size "$URI")" "$(stat -c %s disk.img)"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	anywhere
	stop_server
	! grep -i error "$LOG" || fail "the log has errors"
}

# Reads all over the disk, by several clients at a time; so many by each.
anywhere() {
	"$PYTHON" - "$URI" "${1:-60}" <<-'EOT'
		import nbd, random, sys, threading

		disk = open('disk.img', 'rb').read()

		def client(seed):
		    chance = random.Random(seed)
		    h = nbd.NBD()
		    h.connect_uri(sys.argv[1])
		    for i in range(int(sys.argv[2])):
		        offset = chance.randrange(len(disk))
		        length = min(chance.choice((1, 512, 4096, 65536, 3000000)), len(disk) - offset)
		        if h.pread(length, offset) != disk[offset:offset + length]:
		            wrong.append((seed, offset, length))
		    h.shutdown()

		wrong = []
		clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
		for c in clients: c.start()
		for c in clients: c.join()
		assert not wrong, wrong
	EOT
}

# Zeroes come as holes, in what is read and in the map, and nothing can be written.
holes() {
	note "zeroes in $1 are holes"
	start_server "--filter=$format" file "$DISK/$1"
	nbdinfo --is readonly "$URI" || fail "it can be written"
	"$PYTHON" - "$URI" "$format" <<-'EOT'
		import nbd, sys

		MiB = 1 << 20
		disk = open('disk.img', 'rb').read()
		h = nbd.NBD()
		h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
		h.connect_uri(sys.argv[1])

		def holes(offset, end):
		    """What the map calls holes, which has to be zeroes, bytes."""
		    found = 0
		    def take(context, at, entries, err):
		        nonlocal offset, found
		        for length, status in zip(entries[::2], entries[1::2]):
		            part = min(length, end - offset)
		            assert status in (0, nbd.STATE_HOLE | nbd.STATE_ZERO), status
		            assert status == 0 or not any(disk[offset:offset + part]), offset
		            found += part if status else 0
		            offset += part
		    while offset < end:
		        before = offset
		        h.block_status(end - offset, offset, take)
		        assert offset > before
		    return found

		# Blocks of zeroes are known without being read; a question may begin in one.
		# Where it begins and ends in a grain of 64 KiB with data, that is data.
		assert holes(8 * MiB, 13 * MiB) >= 5 * MiB - (131072 if sys.argv[2] == 'gzip' else 0)
		assert holes(9 * MiB + 1000, 9 * MiB + 70000) == 69000
		before = holes(0, len(disk))
		kinds = set()
		h.pread_structured(MiB, 11 * MiB, lambda data, at, kind, err: kinds.add(kind))
		assert kinds == {nbd.READ_HOLE}, kinds
		# What has been read is known for good, in blocks with data in them, too.
		for at in range(0, len(disk), MiB):
		    length = min(MiB, len(disk) - at)
		    assert h.pread(length, at) == disk[at:at + length]
		after = holes(0, len(disk))
		grains = sum(0 if any(disk[at:at + 65536]) else 65536 for at in range(0, len(disk), 65536))
		assert after > before if sys.argv[2] != 'gzip' else after == before, (before, after)
		assert after > grains * 0.8, (after, grains)
	EOT
	stop_server
	copied "$1" nbdcopy
	copied "$1" qemu-img convert -n -f raw -O raw
}

# copied FILE COMMAND...: which copies, and does not read the zeroes.
copied() {
	local file=$1
	shift

	note "$1 does not read the zeroes in $file"
	rm -f copy requests
	truncate -s "$(stat -c %s disk.img)" copy
	start_server --filter=log "--filter=$format" file "$DISK/$file" "logfile=$DISK/requests"
	"$@" "$URI" copy
	# qemu-img makes it a multiple of 512.
	truncate -s "$(stat -c %s disk.img)" copy
	same_bytes disk.img copy
	stop_server
	"$PYTHON" - <<-'EOT'
		import re

		reads = re.findall(r'Read .*?offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+)', open('requests').read())
		assert len(reads) > 10, reads
		read = 0
		for offset, count in reads:
		    start, end = int(offset, 16), int(offset, 16) + int(count, 16)
		    read += max(0, min(end, 13 << 20) - max(start, 8 << 20))
		# Programs round what they read, and the map is one of 64 KiB.
		assert read <= 1 << 20, read
	EOT
}

# damaged FILE FROM [STEP]: bytes in its middle are changed; reads, one every STEP bytes, fail
# there and nowhere before FROM, and no byte is wrong.
damaged() {
	local file=$1 from=$2 step=${3:-65536}

	note "damage in the middle of $file"
	cp "$file" "damaged-$file"
	printf 'not what was here before' |
		dd of="damaged-$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none
	start_server "--filter=$format" file "$DISK/damaged-$file"
	"$PYTHON" - "$URI" "$from" "$step" <<-'EOT'
		import nbd, sys

		disk = open('disk.img', 'rb').read()
		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		failed = []
		for offset in range(0, len(disk), int(sys.argv[3])):
		    length = min(65536, len(disk) - offset)
		    try:
		        assert h.pread(length, offset) == disk[offset:offset + length], offset
		    except nbd.Error as error:
		        assert error.errno == 'EIO', error
		        failed.append(offset)
		assert failed and failed[0] >= int(sys.argv[2]), failed
	EOT
	stop_server
}

# cut FILE: what is left of it at any length is refused in a sentence, or read with EIO.
cut() {
	local length

	for length in 0 1 20 1000 "$(($(stat -c %s "$1") / 2))" "$(($(stat -c %s "$1") - 5))"; do
		head -c "$length" "$1" >short
		refused "$format" -- -U "$WORK/s" "--filter=$format" file "$DISK/short"
	done
	refused "$format" -- -U "$WORK/s" "--filter=$format" file "$DISK/disk.img"
}

# in_tar COMMAND...: of an archive that COMMAND packs, a member.
in_tar() {
	note "a member of an archive, packed by $*"
	tar -cf archive.tar front disk.img
	"$@" <archive.tar >archive.packed
	start_server --filter=tar "--filter=$format" file "$DISK/archive.packed" tar-entry=disk.img
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	stop_server
}

test_xz() {
	need xz
	xz -1 -c --block-size=1MiB disk.img >blocks.xz
	xz -1 -c --check=sha256 --block-list=3MiB,4KiB,100KiB,0 disk.img >uneven.xz
	xz -1 -c -T1 disk.img >one.xz
	{
		xz -1 -c front
		head -c 4096 /dev/zero
		xz -1 -c --check=crc32 --block-size=64KiB back
		head -c 8 /dev/zero
	} >streams.xz
	served blocks.xz
	served uneven.xz
	served one.xz
	served streams.xz
	served blocks.xz --filter=log --filter=offset
	note "a block that is longer than what is unpacked as a whole"
	start_server --filter=xz file "$DISK/one.xz" xz-max-block=1M
	logged "warning: xz: the file has a block of 25166601 bytes.*--block-size"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	anywhere 5 # each unpacks from the start
	stop_server
	holes blocks.xz
	damaged blocks.xz 1000000
	damaged one.xz 0 1048576
	cut blocks.xz
	in_tar xz -1 --block-size=2MiB
	note "an empty file"
	: | xz >empty.xz
	start_server --filter=xz file "$DISK/empty.xz"
	equal size "$(nbdinfo --size "$URI")" 0
	stop_server
	note "the index says more than the block has"
	lie_xz
}

# A file whose index has another size for its only block, with right checksums.
lie_xz() {
	head -c 100000 front | xz -1 -c -T1 >honest.xz
	"$PYTHON" - <<-'EOT'
		import binascii, struct

		data = bytearray(open('honest.xz', 'rb').read())
		backward = (struct.unpack('<I', data[-8:-4])[0] + 1) * 4
		at = len(data) - 12 - backward
		# 00, number of records, unpadded size, uncompressed size: all variable-length
		end = at + 2
		while data[end] & 0x80: end += 1
		end += 1
		assert data[end:end + 3] == bytes((0xa0, 0x8d, 0x06))
		data[end:end + 3] = bytes((0xa1, 0x8d, 0x06))
		data[-16:-12] = struct.pack('<I', binascii.crc32(data[at:-16]))
		open('lie.xz', 'wb').write(data)
	EOT
	start_server --filter=xz file "$DISK/lie.xz"
	equal size "$(nbdinfo --size "$URI")" 100001
	! nbdcopy "$URI" copy 2>/dev/null || fail "what is not there could be read"
	stop_server
}

# Damage of a gzip file is found when the index is made, all of the file being checked.
test_gzip() {
	need gzip pigz "$PYTHON"
	gzip -c disk.img >one.gz
	gzip -1 -c disk.img >fast.gz
	pigz -p 4 -c disk.img >pigz.gz
	pigz -p 2 -b 512 -i -c disk.img >independent.gz
	{
		gzip -c front
		gzip -9 -c back
		head -c 1000 /dev/zero
	} >members.gz
	# Many little members, as bgzip makes them, and some that are empty.
	"$PYTHON" - <<-'EOT'
		import gzip

		disk = open('disk.img', 'rb').read()
		with open('little.gz', 'wb') as f:
		    for at in range(0, len(disk), 65280):
		        f.write(gzip.compress(disk[at:at + 65280], 1))
		        if at % 3 == 0:
		            f.write(gzip.compress(b''))
		# Huge blocks: what is all the same is one block of several MiB.
		open('zeroes.img', 'wb').write(bytes(200 << 20))
	EOT
	for file in one fast pigz independent members little; do
		served "$file.gz"
	done
	note "200 MiB of zeroes"
	gzip -9 -c zeroes.img >zeroes.gz
	start_server --filter=gzip file "$DISK/zeroes.gz"
	qemu-img compare -f raw -F raw "$URI" zeroes.img
	stop_server
	refused gzip-max-size -- -U "$WORK/s" --filter=gzip file "$DISK/zeroes.gz" gzip-max-size=100M
	holes fast.gz
	cut fast.gz
	note "damage in the middle"
	cp fast.gz damaged.gz
	printf 'not what was here before' | dd of=damaged.gz bs=1 seek=5000000 conv=notrunc status=none
	refused damaged -- -U "$WORK/s" --filter=gzip file "$DISK/damaged.gz"
	note "what is no gzip behind the end"
	{ cat fast.gz && head -c 1000 disk.img; } >behind.gz
	start_server --filter=gzip file "$DISK/behind.gz"
	logged "warning: gzip: what comes behind byte $(stat -c %s fast.gz) is left out"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	stop_server
	in_tar pigz
	kept_index pigz.gz fast.gz
}

# kept_index FILE OTHER: the index of FILE is kept in a file, is used when it is that of
# this file, and is not trusted.
kept_index() {
	local change spare=0

	note "an index in a file"
	start_server "--filter=$format" file "$DISK/$1" "$format-index=$DISK/index"
	stop_server
	# Small files may have 128 KiB more; those of gzip mostly need far less.
	[ "$format" = gzip ] || spare=140000
	[ "$(stat -c %s index)" -le $(($(stat -c %s "$1") / 100 + spare)) ] ||
		fail "the index has $(stat -c %s index) bytes"
	cp index index.good
	stat -c '%i %Y %Z' index >before
	served_with_index "$1"
	stat -c '%i %Y %Z' index | cmp - before || fail "it was not used"
	for change in 8 40 64 100 $(($(stat -c %s index) / 2)) $(($(stat -c %s index) - 10)); do
		note "byte $change of it is another"
		cp index.good index
		"$PYTHON" - "$change" <<-'EOT'
			import sys

			with open('index', 'r+b') as f:
			    f.seek(int(sys.argv[1]))
			    byte = f.read(1)[0]
			    f.seek(-1, 1)
			    f.write(bytes((byte ^ 0x55,)))
		EOT
		served_with_index "$1"
		logged "warning: $format: $DISK/index: .*made anew"
		same_bytes index index.good
	done
	head -c "$(($(stat -c %s index.good) - 9))" index.good >index
	served_with_index "$1"
	same_bytes index index.good
	note "the index of another file"
	start_server "--filter=$format" file "$DISK/$2" "$format-index=$DISK/index"
	logged "another file"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	stop_server
}

served_with_index() {
	start_server "--filter=$format" file "$DISK/$1" "$format-index=$DISK/index"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	anywhere
	stop_server
}

test_zstd() {
	need zstd pzstd
	zstd -q -c disk.img >one.zst
	zstd -q -c <disk.img >unsized.zst
	zstd -q -19 --long=24 -T0 -c front >long.zst
	pzstd -q -p 4 -c disk.img >pzstd.zst
	{
		zstd -q -c --no-check front
		printf '\x51\x2a\x4d\x18\x05\x00\x00\x00skip.'
		zstd -q -c <back
	} >frames.zst
	seekable_zstd seekable.zst
	for file in one unsized pzstd frames seekable; do
		served "$file.zst"
	done
	note "a wide window"
	start_server --filter=zstd file "$DISK/long.zst"
	nbdcopy "$URI" copy
	same_bytes front copy
	stop_server
	note "a frame that is longer than what is unpacked as a whole"
	start_server --filter=zstd file "$DISK/one.zst" zstd-max-block=1M
	logged "warning: zstd: the file has a frame of 25166601 bytes"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	anywhere
	stop_server
	holes seekable.zst
	damaged seekable.zst 1000000
	damaged one.zst 0
	refused zstd-max-size -- -U "$WORK/s" --filter=zstd file "$DISK/unsized.zst" zstd-max-size=1M
	cut pzstd.zst
	cut unsized.zst
	in_tar pzstd -q
	note "checksums in the table"
	seekable_zstd summed.zst sums
	served summed.zst
	start_server --filter=zstd file "$DISK/summed.zst" zstd-verify=open
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	stop_server
	"$PYTHON" - <<-'EOT'
		data = bytearray(open('summed.zst', 'rb').read())
		data[-9 - 12 * (len(open('disk.img', 'rb').read()) // (1 << 20) + 1) + 3 * 12 + 8] ^= 1
		open('damaged-summed.zst', 'wb').write(data)
	EOT
	start_server --filter=zstd file "$DISK/damaged-summed.zst"
	"$PYTHON" - "$URI" <<-'EOT'
		import nbd, sys

		disk = open('disk.img', 'rb').read()
		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		for at in range(0, 8 << 20, 1 << 19):
		    try:
		        assert h.pread(1 << 19, at) == disk[at:at + (1 << 19)]
		        assert at >> 20 != 3
		    except nbd.Error as error:
		        assert error.errno == 'EIO' and at >> 20 == 3, error
	EOT
	logged "warning: zstd: the frame at byte .* does not unpack to what its checksum"
	stop_server
	refused damaged -- -U "$WORK/s" --filter=zstd file "$DISK/damaged-summed.zst" zstd-verify=open
	note "a table of frames that lies"
	"$PYTHON" - <<-'EOT'
		import struct

		data = bytearray(open('seekable.zst', 'rb').read())
		count = struct.unpack('<I', data[-9:-5])[0]
		at = len(data) - 9 - 8 * count + 4
		size = struct.unpack('<I', data[at:at + 4])[0]
		data[at:at + 4] = struct.pack('<I', size + 1)
		open('longer.zst', 'wb').write(data)
		data[at - 4:at] = struct.pack('<I', 0xffffffff)
		open('farther.zst', 'wb').write(data)
	EOT
	refused "table" damaged -- -U "$WORK/s" --filter=zstd file "$DISK/farther.zst"
	start_server --filter=zstd file "$DISK/longer.zst"
	"$PYTHON" - "$URI" <<-'EOT'
		import nbd, sys

		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		try:
		    h.pread(512, 0)
		    sys.exit('a frame that is not what the table says was read')
		except nbd.Error as error:
		    assert error.errno == 'EIO'
		disk = open('disk.img', 'rb').read()
		assert h.pread(100000, 5000001) == disk[5000000:5100000]
	EOT
	stop_server
}

# seekable_zstd FILE [sums]: disk.img in frames of 1 MiB, with a table of them at the end,
# in which there are checksums.
seekable_zstd() {
	"$PYTHON" - "$@" <<-'EOT'
		import struct, subprocess, sys

		disk = open('disk.img', 'rb').read()
		table = b''
		with open(sys.argv[1], 'wb') as f:
		    for at in range(0, len(disk), 1 << 20):
		        part = disk[at:at + (1 << 20)]
		        frame = subprocess.run(['zstd', '-q', '-c'], input=part, capture_output=True, check=True).stdout
		        f.write(frame)
		        table += struct.pack('<II', len(frame), len(part))
		        # A frame ends with the same checksum that the table has.
		        if sys.argv[2:]: table += frame[-4:]
		    f.write(struct.pack('<II', 0x184d2a5e, len(table) + 9) + table)
		    f.write(struct.pack('<IBI', len(table) // (12 if sys.argv[2:] else 8),
		                        0x80 if sys.argv[2:] else 0, 0x8f92eab1))
	EOT
}

test_lz4() {
	need lz4
	lz4 -q -c disk.img >one.lz4
	lz4 -q -c -B4 -BD disk.img >linked.lz4
	lz4 -q -c -9 -B6 -BD -BX --no-frame-crc <disk.img >checked.lz4
	lz4 -q -c -B4 -BX --content-size disk.img >sized.lz4
	lz4 -q -c -l disk.img >legacy.lz4
	{
		lz4 -q -c -l front
		printf '\x51\x2a\x4d\x18\x05\x00\x00\x00skip.'
		lz4 -q -c </dev/null
		head -c 5000000 back | lz4 -q -c --no-frame-crc -B5
		tail -c +5000001 back | lz4 -q -c -BD
	} >frames.lz4
	flushed_lz4 flushed.lz4
	for file in one linked checked sized legacy frames flushed; do
		served "$file.lz4"
	done
	holes sized.lz4
	# Only headers and one block are looked at when the size is stated.
	damaged sized.lz4 1000000
	note "damage that is found when all of the file is unpacked"
	for file in one linked checked; do
		cp "$file.lz4" damaged.lz4
		printf 'not what was here before' |
			dd of=damaged.lz4 bs=1 seek=5000000 conv=notrunc status=none
		refused damaged -- -U "$WORK/s" --filter=lz4 file "$DISK/damaged.lz4"
	done
	cut one.lz4
	cut linked.lz4
	cut sized.lz4
	cut legacy.lz4
	in_tar lz4 -q -B4
	kept_index linked.lz4 one.lz4
	refused lz4-max-size -- -U "$WORK/s" --filter=lz4 file "$DISK/one.lz4" lz4-max-size=20M
	refused lz4-max-size -- -U "$WORK/s" --filter=lz4 file "$DISK/sized.lz4" lz4-max-size=20M
	refused lz4-max-size -- -U "$WORK/s" --filter=lz4 file "$DISK/legacy.lz4" lz4-max-size=20M
	note "windows that do not pack, of a file that does: spans are long"
	"$PYTHON" - <<-'EOT'
		import os

		open('again.img', 'wb').write(os.urandom(60000) * 1500)
	EOT
	lz4 -q -c -BD again.img >again.lz4
	start_server --filter=lz4 file "$DISK/again.lz4" "lz4-index=$DISK/index.again"
	qemu-img compare -f raw -F raw "$URI" again.img
	"$PYTHON" - "$URI" <<-'EOT'
		import nbd, random, sys

		disk = open('again.img', 'rb').read()
		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		for offset in [random.randrange(len(disk) - 65536) for i in range(30)] + [len(disk) - 65536]:
		    assert h.pread(65536, offset) == disk[offset:offset + 65536], offset
	EOT
	stop_server
	[ "$(stat -c %s index.again)" -lt $(($(stat -c %s again.lz4) / 100 + 140000)) ] ||
		fail "the index has $(stat -c %s index.again) bytes"
	note "a stated size that is not the content's"
	lie_lz4
}

# A frame of blocks that are shorter than they may be: put together from others' blocks.
flushed_lz4() {
	"$PYTHON" - "$1" <<-'EOT'
		import random, struct, subprocess, sys

		def blocks(data):
		    frame = subprocess.run(['lz4', '-q', '-c', '-B4', '--no-frame-crc'], input=data, capture_output=True, check=True).stdout
		    return frame[:7], frame[7:-4]

		random.seed(1)
		disk = open('disk.img', 'rb').read()
		at = 0
		with open(sys.argv[1], 'wb') as f:
		    f.write(blocks(b'')[0])
		    while at < len(disk):
		        length = random.choice((1, 100, 65536, 300000, 1000001))
		        f.write(blocks(disk[at:at + length])[1])
		        at += length
		    f.write(struct.pack('<I', 0))
	EOT
}

# The size in the header is another one; its checksum is that of a real frame of that size.
lie_lz4() {
	head -c 100001 front >longer
	head -c 100000 front >shorter
	lz4 -q -c -B4 --content-size longer >longer.lz4
	lz4 -q -c -B4 --content-size shorter >shorter.lz4
	{ head -c 15 longer.lz4 && tail -c +16 shorter.lz4; } >lie.lz4
	refused "damaged" "frameSize" -- -U "$WORK/s" --filter=lz4 file "$DISK/lie.lz4"
}

# What is damaged is found when the index is made, all of the file being unpacked.
test_bzip2() {
	need bzip2 pbzip2 lbzip2
	# It takes its time, so less of the disk: what is around the zeroes.
	head -c 14131277 disk.img | tail -c 6758477 >less
	mv less disk.img
	head -c 1000001 disk.img >front
	tail -c +1000002 disk.img >back
	bzip2 -c disk.img >one.bz2
	bzip2 -1 -c disk.img >small.bz2
	lbzip2 -c disk.img >lbzip2.bz2
	pbzip2 -q -p2 -b3 -c disk.img >pbzip2.bz2
	{
		bzip2 -c front
		bzip2 -c </dev/null
		bzip2 -3 -c back
	} >streams.bz2
	for file in one small lbzip2 pbzip2 streams; do
		served "$file.bz2"
	done
	note "zeroes are holes, and nothing can be written"
	start_server --filter=bzip2 file "$DISK/small.bz2"
	nbdinfo --is readonly "$URI" || fail "it can be written"
	"$PYTHON" - "$URI" <<-'EOT'
		import nbd, sys

		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		kinds = set()
		h.pread_structured(1 << 20, 4 << 20, lambda data, at, kind, err: kinds.add(kind))
		assert kinds == {nbd.READ_HOLE}, kinds
	EOT
	stop_server
	cut one.bz2
	cut pbzip2.bz2
	note "damage in the middle"
	cp one.bz2 damaged.bz2
	printf 'not what was here before' |
		dd of=damaged.bz2 bs=1 seek="$(($(stat -c %s one.bz2) / 2))" conv=notrunc status=none
	refused damaged -- -U "$WORK/s" --filter=bzip2 file "$DISK/damaged.bz2"
	note "a stream without one of its blocks"
	"$PYTHON" - <<-'EOT'
		data = open('small.bz2', 'rb').read()
		bits = bin(int.from_bytes(b'\1' + data, 'big'))[3:]
		mark = bin(0x314159265359)[2:].zfill(48)
		second = bits.index(mark, 33)
		third = bits.index(mark, second + 1)
		bits = bits[:second] + bits[third:]
		bits += '0' * (-len(bits) % 8)
		open('less.bz2', 'wb').write(int(bits, 2).to_bytes(len(bits) // 8, 'big'))
	EOT
	refused damaged -- -U "$WORK/s" --filter=bzip2 file "$DISK/less.bz2"
	note "what is no bzip2 behind the end"
	{ cat one.bz2 && head -c 1000 /dev/zero; } >behind.bz2
	start_server --filter=bzip2 file "$DISK/behind.bz2"
	logged "warning: bzip2: what comes behind byte $(stat -c %s one.bz2) is left out"
	nbdcopy "$URI" copy
	same_bytes disk.img copy
	stop_server
	in_tar pbzip2 -q
	kept_index pbzip2.bz2 one.bz2
	note "marks that are none"
	marks_bzip2
	note "blocks of many MiB"
	head -c 60000000 /dev/zero | bzip2 -c >zeroes.bz2
	head -c 60000000 /dev/zero >zeroes.img
	start_server --filter=bzip2 file "$DISK/zeroes.bz2"
	qemu-img compare -f raw -F raw "$URI" zeroes.img
	stop_server
	refused bzip2-max-size -- -U "$WORK/s" --filter=bzip2 file "$DISK/zeroes.bz2" bzip2-max-size=50M
}

# What marks the beginning of a block, and the end of a stream, in the middle of blocks: the
# map of the bytes that are used in a block has any bits.
marks_bzip2() {
	"$PYTHON" - <<-'EOT'
		import bz2, random

		def values(words):
		    return [64 + 16 * i + bit for i, word in enumerate(words) for bit in range(16) if word >> (15 - bit) & 1]

		random.seed(1)
		data = b''
		for words in (0x3141, 0x5926, 0x5359), (0x1772, 0x4538, 0x5090):
		    data += bytes(random.choices(values(words), k=300000))
		packed = bz2.compress(data[:300000]) + bz2.compress(data[300000:])
		bits = bin(int.from_bytes(b'\1' + packed, 'big'))
		assert bits.count(bin(0x314159265359)[2:].zfill(48)) > 2
		assert bits.count(bin(0x177245385090)[2:].zfill(48)) > 2
		open('marks.img', 'wb').write(data)
		open('marks.bz2', 'wb').write(packed)
	EOT
	start_server --filter=bzip2 file "$DISK/marks.bz2"
	nbdcopy "$URI" copy
	same_bytes marks.img copy
	stop_server
}

"test_$format"
