#!/usr/bin/env bash
#
# --filter=xva: disks of exports laid out as XenServer does it, with chunks that are left
# out and chunks of no length; exports that are cut off or lie.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy gzip
cd "$DISK"

# export_vm FILE NAME=IMAGE[,EMPTY-CHUNK-BEFORE...]...: 1 MiB chunks, zeroes left out but
# for the first and the last, a checksum behind each.  The metadata is $OVA, if that is set.
OVA=
export_vm() {
	OVA=$OVA python3 - "$@" <<-'EOT'
		import io, os, sys, tarfile

		with tarfile.open(sys.argv[1], 'w', format=tarfile.USTAR_FORMAT) as tar:
		    def add(name, data):
		        info = tarfile.TarInfo(name)
		        info.size = len(data)
		        info.mode = 0
		        tar.addfile(info, io.BytesIO(data))
		    ova = os.environ['OVA']
		    add('ova.xml', open(ova, 'rb').read() if ova else b'<?xml version="1.0"?><value/>')
		    for word in sys.argv[2:]:
		        ref, rest = word.split('=')
		        image, *empty = rest.split(',')
		        disk = open(image, 'rb').read()
		        number = 0
		        for at in range(0, len(disk), 1 << 20):
		            chunk = disk[at:at + (1 << 20)]
		            if str(at >> 20) in empty:
		                add('%s/%08d' % (ref, number), b'')
		                add('%s/%08d.xxhash' % (ref, number), b'EF46DB3751D8E999')
		                number += 1
		            if any(chunk) or at == 0 or at + len(chunk) == len(disk):
		                add('%s/%08d' % (ref, number), chunk)
		                add('%s/%08d.xxhash' % (ref, number), b'0123456789ABCDEF')
		            number += 1
	EOT
}

# served FILE IMAGE [ARGUMENT...]
served() {
	local file=$1 image=$2
	shift 2

	note "$image of $file"
	start_server --filter=xva file "$DISK/$file" "$@"
	equal size "$(nbdinfo --size "$URI")" "$(stat -c %s "$image")"
	nbdcopy "$URI" copy
	same_bytes "$image" copy
	stop_server
}

# Zeroes at the beginning, in the middle and at the end; the last chunk is short.
truncate -s 1M system.img
random_file part 3500000
cat part >>system.img
truncate -s 12M system.img
cat part >>system.img
truncate -s 20000000 system.img
random_file data.img $((3 << 20))
export_vm one.xva Ref:7=system.img
export_vm kept.xva Ref:7=system.img,1,3,9,10,15
export_vm two.xva Ref:10=system.img,4 Ref:9=data.img

served one.xva system.img
served kept.xva system.img
served two.xva system.img xva-disk=Ref:10
served two.xva data.img xva-disk=Ref:9

note "what was left out are holes, and nothing can be written"
start_server --filter=xva file "$DISK/one.xva"
nbdinfo --is readonly "$URI" || fail "it can be written"
nbdinfo --map "$URI" >map
grep -q 'hole,zero' map || fail "there are no holes: $(cat map)"
stop_server

note "in a compressed export"
gzip -1 -c one.xva >one.xva.gz
start_server --filter=xva --filter=gzip file "$DISK/one.xva.gz"
nbdcopy "$URI" copy
same_bytes system.img copy
stop_server

# has EXPORT IMAGE: the last server serves IMAGE under that name.
has() {
	local uri="nbd+unix:///${1// /%20}?${URI#*\?}"

	note "$2 is the export $1"
	nbdcopy "$uri" copy
	same_bytes "$2" copy
}

note "several disks are exports"
start_server --filter=xva file "$DISK/two.xva"
has Ref:10 system.img
has Ref:9 data.img
has 1 data.img
equal "the exports" "$(nbdinfo --list --json "$URI" | "$PYTHON" -c 'if True:
	import json, sys
	print(*(e["export-name"] for e in json.load(sys.stdin)["exports"]))')" "Ref:10 Ref:9"
! nbdinfo "$URI" || fail "there is a disk without a name"
! nbdinfo "nbd+unix:///Ref:1?${URI#*\?}" || fail "there is a disk Ref:1"
stop_server

note "but not inside of another disk"
refused "several disks" Ref:10 Ref:9 xva-disk -- \
	-U "$WORK/s" concat "leg=--filter=xva file $DISK/two.xva"
refused "no disk Ref:1;" Ref:10 Ref:9 -- -U "$WORK/s" --filter=xva file two.xva xva-disk=Ref:1
head -c 3000000 one.xva >cut.xva
refused "ends too early" -- -U "$WORK/s" --filter=xva file cut.xva
tar -cf other.tar part
refused "no disk in the archive" -- -U "$WORK/s" --filter=xva file other.tar
mkdir Ref:3
cp part Ref:3/00000005
tar -cf late.xva Ref:3
refused "first chunk is missing" -- -U "$WORK/s" --filter=xva file late.xva
cp part Ref:3/00000000
tar -cf back.xva Ref:3/00000005 Ref:3/00000000
refused "missing" -- -U "$WORK/s" --filter=xva file back.xva

# sums KIND CHUNK FILE IMAGE: in chunks of so many bytes, with checksums of that kind: sha1,
# xxh64 or some, which is sha1 beside every other chunk.
sums() {
	python3 - "$@" <<-'EOT'
		import hashlib, io, sys, tarfile

		kind, size, disk = sys.argv[1], int(sys.argv[2]), open(sys.argv[4], 'rb').read()
		P = (11400714785074694791, 14029467366897019727, 1609587929392839161,
		     9650029242287828579, 2870177450012600261)
		M = 2 ** 64 - 1
		def rotate(n, bits): return (n << bits | n >> 64 - bits) & M
		def turn(lane, n): return rotate(lane + n * P[1] & M, 31) * P[0] & M
		def number(data): return int.from_bytes(data, 'little')
		def xxh64(data):
		    lanes, at = [P[0] + P[1] & M, P[1], 0, -P[0] & M], 0
		    while len(data) - at >= 32:
		        lanes = [turn(lane, number(data[at + 8 * i:at + 8 * i + 8])) for i, lane in enumerate(lanes)]
		        at += 32
		    all = P[4]
		    if at:
		        all = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & M
		        for lane in lanes: all = (all ^ turn(0, lane)) * P[0] + P[3] & M
		    all = all + len(data) & M
		    while len(data) - at >= 8:
		        all = rotate(all ^ turn(0, number(data[at:at + 8])), 27) * P[0] + P[3] & M
		        at += 8
		    if len(data) - at >= 4:
		        all = rotate(all ^ number(data[at:at + 4]) * P[0] & M, 23) * P[1] + P[2] & M
		        at += 4
		    for byte in data[at:]: all = rotate(all ^ byte * P[4] & M, 11) * P[0] & M
		    all = (all ^ all >> 33) * P[1] & M
		    all = (all ^ all >> 29) * P[2] & M
		    return all ^ all >> 32

		with tarfile.open(sys.argv[3], 'w', format=tarfile.USTAR_FORMAT) as tar:
		    def add(name, data):
		        info = tarfile.TarInfo(name)
		        info.size = len(data)
		        tar.addfile(info, io.BytesIO(data))
		    for number_of, at in enumerate(range(0, len(disk), size)):
		        chunk, name = disk[at:at + size], 'Ref:7/%08d' % number_of
		        if not any(chunk) and 0 < at < len(disk) - len(chunk): continue
		        add(name, chunk)
		        if kind == 'xxh64': add(name + '.xxhash', b'%X' % xxh64(chunk))
		        elif kind == 'sha1' or number_of % 2: add(name + '.checksum', hashlib.sha1(chunk).hexdigest().encode() + b'\n')
	EOT
}

# fails_at FILE START END ARGUMENT...: reads of FILE fail there, and nowhere else.
fails_at() {
	local file=$1 start=$2 end=$3
	shift 3

	start_server --filter=xva file "$DISK/$file" "$@"
	"$PYTHON" - "$URI" system.img "$start" "$end" <<-'EOT'
		import nbd, sys

		start, end = int(sys.argv[3]), int(sys.argv[4])
		disk = open(sys.argv[2], 'rb').read()
		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		for at in range(0, len(disk), 65536):
		    length = min(65536, len(disk) - at)
		    try:
		        assert h.pread(length, at) == disk[at:at + length]
		        assert not start < at + length or not at < end, at
		    except nbd.Error as error:
		        assert error.errno == 'EIO', error
		        assert start < at + length and at < end, at
	EOT
	stop_server
}

need_python_nbd
sums sha1 1048576 sha1.xva system.img
head -c 100001 part >small.img
truncate -s 200000 small.img
head -c 5555 part >>small.img
sums xxh64 5000 xxh64.xva small.img
sums some 1048576 some.xva system.img
for when in read open; do
	served sha1.xva system.img "xva-verify=$when"
	! grep -i warning "$LOG" || fail "there is nothing to warn of"
	served xxh64.xva small.img "xva-verify=$when"
	! grep -i warning "$LOG" || fail "there is nothing to warn of"
	served some.xva system.img "xva-verify=$when"
	logged "warning: xva: .* of .* chunks have no checksum"
done

note "what was left out are holes, also where checksums are verified"
start_server --filter=xva file "$DISK/sha1.xva" xva-verify=read
nbdinfo --map "$URI" >map
grep -q 'hole,zero' map || fail "there are no holes: $(cat map)"
stop_server

note "a byte of a chunk is another"
"$PYTHON" - <<-'EOT'
	data = bytearray(open('sha1.xva', 'rb').read())
	part = open('part', 'rb').read()
	# Of the chunk at 2 MiB, which begins 1 MiB behind the beginning of `part`.
	data[data.index(part[1 << 20:][:4096]) + 500000] ^= 1
	open('damaged.xva', 'wb').write(data)
EOT
fails_at damaged.xva 2097152 3145728 xva-verify=read
equal "lines about it" "$(grep -c "the chunk at byte .* is not what its checksum says" "$LOG")" 1
refused damaged "bytes 2097152 to 3145728" -- \
	-U "$WORK/s" --filter=xva file damaged.xva xva-verify=open
refused damaged -- -U "$WORK/s" --filter=xva file one.xva xva-verify=open
note "what is no checksum"
"$PYTHON" - <<-'EOT'
	import hashlib

	data = open('sha1.xva', 'rb').read()
	part = open('part', 'rb').read()
	sum = hashlib.sha1(part[:1 << 20]).hexdigest().encode()
	assert sum in data
	open('lie.xva', 'wb').write(data.replace(sum, b'x' + sum[1:]))
EOT
refused "is no checksum" Ref:7/00000001 -- -U "$WORK/s" --filter=xva file lie.xva xva-verify=read

# Without libexpat there is no such parameter, and the rest has nothing to look at.
! "$NBDRING" -U "$WORK/s" --filter=xva null 1M xva-metadata=yes --run true 2>"$WORK/said" ||
	fail "there is no disk"
grep -q "no disk in the archive" "$WORK/said" || exit 0

# ova FLAVOUR REF,DEVICE,SIZE,UUID,NAME...: metadata in the form of that flavour, "spaced"
# (values without types, a tag per line) or "dense" (types, all in one line).  There is also
# a CD, and what the machine was before.
ova() {
	python3 - "$@" <<-'EOT'
		import sys
		from xml.sax.saxutils import escape

		dense = sys.argv[1] == 'dense'
		new, step = ('', '') if dense else ('\n', '  ')
		def tag(name, inside, depth): return new + step * depth + '<%s>' % name + inside + new + step * depth + '</%s>' % name
		def value(v, depth):
		    if isinstance(v, dict):
		        return tag('value', tag('struct', ''.join(tag('member', new + step * (depth + 3) + '<name>%s</name>' % k +
		            value(x, depth + 3), depth + 2) for k, x in v.items()), depth + 1), depth)
		    if isinstance(v, list):
		        return tag('value', tag('array', tag('data', ''.join(value(x, depth + 3) for x in v), depth + 2), depth + 1), depth)
		    if isinstance(v, bool): return tag('value', new + step * (depth + 1) + '<boolean>%d</boolean>' % v, depth)
		    if isinstance(v, int): return tag('value', new + '<i4>%d</i4>' % v, depth)
		    return new + step * depth + ('<value><string>%s</string></value>' if dense else '<value>%s</value>') % escape(v)

		def vdi(ref, size, uuid, name, snapshot=False):
		    fields = {'uuid': uuid, 'name_label': name, 'name_description': '', 'SR': 'Ref:2', 'VBDs': ['Ref:1'],
		              'type': 'user', 'is_a_snapshot': snapshot, 'other_config': {'name_label': 'not this', 'list': [{'a': ['b']}]}}
		    if size: fields['virtual_size'] = size
		    return {'class': 'VDI', 'id': ref, 'snapshot': fields}
		def vbd(number, ref, device, kind):
		    return {'id': 'Ref:%d' % number, 'snapshot': {'type': kind, 'userdevice': device, 'VDI': ref, 'device': '', 'empty': False},
		            'class': 'VBD'}
		objects = [{'class': 'VM', 'id': 'Ref:1', 'snapshot': {'uuid': 'u', 'name_label': 'machine', 'VBDs': []}},
		           vdi('Ref:90', '7', 'cd', 'tools.iso'), vbd(91, 'Ref:90', '0', 'CD'), vbd(92, 'OpaqueRef:NULL', '3', 'CD')]
		for i, word in enumerate(sys.argv[2:]):
		    ref, device, size, uuid, name = word.split(',')
		    objects += [vdi(ref, size, uuid, name, 'before' in name), vbd(100 + i, ref, device, 'Disk')]
		version = {'hostname': 'host', 'product_brand': 'XCP-ng', 'export_vsn': 2}
		print("<?xml version='1.0'?>" + value({'version': version, 'objects': objects}, 0))
	EOT
}

note "names and sizes of ova.xml"
A=5b8f3a1c-0d4e-4a1f-9f70-2b6f6f0a1c01 B=5b8f3a1c-0d4e-4a1f-9f70-2b6f6f0a1c02
ova spaced "Ref:9,1,$(stat -c %s data.img),$B,data & more" \
	"Ref:10,0,$(stat -c %s system.img),$A,system" >spaced.xml
OVA=spaced.xml export_vm spaced.xva Ref:10=system.img,4 Ref:9=data.img
start_server --filter=xva file "$DISK/spaced.xva"
nbdinfo --list "$URI" >list
grep -q 'export="system"' list || fail "system is not listed: $(cat list)"
grep -q 'description: system, 20000000 bytes' list || fail "it is not described: $(cat list)"
grep -q 'description: data & more, 3145728 bytes' list || fail "it is not described: $(cat list)"
equal "the exports" "$(grep -c export= list)" 2
for name in Ref:10 "$A" system 0; do
	has "$name" system.img
done
has "data & more" data.img
stop_server
note "who may not have a disk by its name may not by another"
start_server --access-rule "deny export=system" --access-rule "allow uid=$(id -u)" \
	--filter=xva file "$DISK/spaced.xva"
has Ref:9 data.img
for name in Ref:10 "$A" system 0; do
	! nbdinfo "nbd+unix:///$name?${URI#*\?}" || fail "$name is to be had"
done
stop_server
served spaced.xva system.img "xva-disk=${A^^}"
served spaced.xva data.img "xva-disk=data & more"
served spaced.xva data.img xva-disk=1
served spaced.xva data.img xva-disk=Ref:9 xva-metadata=no
served two.xva system.img xva-disk=0
served two.xva data.img xva-disk=1
for name in 2 tools.iso Ref:90 machine "not this" ""; do
	refused "no disk $name" 'Ref:10 "system"' -- -U "$WORK/s" --filter=xva file spaced.xva "xva-disk=$name"
done

note "a disk that goes on behind its chunks, and one that ends in the last"
ova dense "Ref:10,1,20000000,$A,twin" "Ref:9,0,3000001,$B,twin" "Ref:8,0,4000000,c,before" >dense.xml
head -c 3000001 data.img >short.img
truncate -s 4M data.img.long
truncate -s 4000000 before.img
head -c 19922944 system.img >stump.img
OVA=dense.xml export_vm dense.xva Ref:10=stump.img Ref:8=data.img.long Ref:9=data.img
gzip -1 -c dense.xva >dense.xva.gz
truncate -s 20000000 stump.img
served dense.xva stump.img xva-disk=1
served dense.xva short.img xva-disk=0
served dense.xva before.img xva-disk=2
start_server --filter=xva --filter=gzip file "$DISK/dense.xva.gz" xva-disk="$B"
nbdcopy "$URI" copy
same_bytes short.img copy
stop_server
start_server --filter=exportname --filter=xva --filter=gzip file "$DISK/dense.xva.gz" \
	default-export=1
has "$B" short.img
has before before.img
nbdcopy "$URI" copy
same_bytes stump.img copy
nbdinfo --list "$URI" >list
# Two of them have one name.
for name in Ref:9 Ref:10 before; do
	grep -q "export=\"$name\"" list || fail "$name is not listed: $(cat list)"
done
stop_server
note "a folder of exports has its own names"
mkdir folder
cp spaced.xva one.xva folder
start_server --filter=xva file dir="$DISK/folder" xva-disk=Ref:7
has one.xva system.img
stop_server
refused "several disks are called twin" Ref:9 Ref:10 \
	-- -U "$WORK/s" --filter=xva file dense.xva xva-disk=twin
ova dense "Ref:7,0,20000000,$A,x" >sums.xml
python3 - <<-'EOT'
	import io, tarfile

	with tarfile.open('sha1.xva') as old, tarfile.open('both.xva', 'w', format=tarfile.USTAR_FORMAT) as new:
	    def add(name, data):
	        info = tarfile.TarInfo(name)
	        info.size = len(data)
	        new.addfile(info, io.BytesIO(data))
	    add('ova.xml', open('sums.xml', 'rb').read().replace(b'20000000', b'29999999'))
	    for member in old: add(member.name, old.extractfile(member).read())
	    new.close()
	    data = open('both.xva', 'rb').read()
	    open('cut-sums.xva', 'wb').write(data.replace(b'29999999', b'19999999'))
EOT
for when in read open; do
	cp system.img longer.img
	truncate -s 29999999 longer.img
	served both.xva longer.img "xva-verify=$when"
	truncate -s 19999999 longer.img
	served cut-sums.xva longer.img "xva-verify=$when"
done

# A disk of 5,000 bytes with what else may be in front of it.
ova dense "Ref:7,0,SIZE,$A,x" >one.xml
head -c 5000 part >part.img
"$PYTHON" - <<-'EOT'
	import io, tarfile

	disk = open('part.img', 'rb').read()
	def make(name, xml):
	    with tarfile.open(name, 'w', format=tarfile.USTAR_FORMAT) as tar:
	        for path, data in ('ova.xml', xml.encode()), ('Ref:7/00000000', disk):
	            info = tarfile.TarInfo(path)
	            info.size = len(data)
	            tar.addfile(info, io.BytesIO(data))
	one, spaced, dense = (open(name).read() for name in ('one.xml', 'spaced.xml', 'dense.xml'))
	for number, size in enumerate(('-1', '0', '9223372036854775808', '1e9', '')):
	    make('size-%d.xva' % number, one.replace('SIZE', size))
	def metadata(name, xml): make('metadata-%s.xva' % name, xml)
	metadata('cut', spaced[:2000])
	metadata('bomb', '<?xml version="1.0"?><!DOCTYPE v [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">'
	         '<!ENTITY c "&b;&b;&b;&b;">]><value>&c;</value>')
	metadata('deep', '<value><array><data>' * 100000)
	metadata('tag', '<value ' + ' '.join('a%d="x>"' % i for i in range(100000)) + '/>')
	metadata('other', '<appliance version="0.1"><vm name="vm"/></appliance>')
	metadata('twice', dense.replace('Ref:9<', 'Ref:10<'))
	metadata('many', '<value><struct><member><name>objects</name><value><array><data>' + ''.join(
	    '<value><struct><member><name>class</name><value>VDI</value></member><member><name>id</name>'
	    '<value>Ref:%d</value></member></struct></value>' % i for i in range(5000)) +
	    '</data></array></value></member></struct></value>')
	metadata('large', '<value>' + ' ' * (16 << 20) + '</value>')
	metadata('long', one.replace('SIZE', '5000').replace('Ref:7<', 'Ref:9%s<' % ('9' * 300)).replace('>x<', '>%s<' % ('x' * 4000)))
EOT

note "sizes that cannot be"
for number in 0 1 2 3; do
	refused "ova.xml" xva-metadata=no -- -U "$WORK/s" --filter=xva file size-$number.xva
done
served size-3.xva part.img xva-metadata=no
note "no size"
served size-4.xva part.img xva-disk=x
note "chunks behind the end"
ova dense "Ref:7,0,2000000,$A,x" >bad.xml
OVA=bad.xml export_vm bad.xva Ref:7=system.img
refused "ova.xml" xva-metadata=no "2000000 bytes" -- -U "$WORK/s" --filter=xva file bad.xva

note "metadata that is none"
# says NAME WORD: this metadata is refused so.
says() {
	refused "$2" ova.xml -- -U "$WORK/s" --filter=xva file "metadata-$1.xva"
}
says cut "no XML"
says bomb "document type"
says deep "nested too deeply"
says tag "too long"
says other "no XML-RPC"
says twice "Ref:10 is there twice"
says many "too many disks"
says large "too much"
served metadata-cut.xva part.img xva-metadata=no
served metadata-long.xva part.img
