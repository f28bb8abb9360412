#!/usr/bin/env bash
#
# --filter=xva: disks of exports laid out as XenServer does it, with chunks that are left
# out and chunks of no length; exports that are cut off or lie.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy gzip
cd "$DISK"

# export_vm FILE NAME=IMAGE[,EMPTY-CHUNK-BEFORE...]...: 1 MiB chunks, zeroes left out but
# for the first and the last, a checksum behind each.
export_vm() {
	python3 - "$@" <<-'EOT'
		import io, sys, tarfile

		with tarfile.open(sys.argv[1], 'w', format=tarfile.USTAR_FORMAT) as tar:
		    def add(name, data):
		        info = tarfile.TarInfo(name)
		        info.size = len(data)
		        info.mode = 0
		        tar.addfile(info, io.BytesIO(data))
		    add('ova.xml', b'<?xml version="1.0"?><value/>')
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

refused "several disks" Ref:10 Ref:9 xva-disk -- -U "$WORK/s" --filter=xva file two.xva
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
