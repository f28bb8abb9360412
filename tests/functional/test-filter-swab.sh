#!/usr/bin/env bash
#
# --filter=swab: dd has an opinion on how pairs of bytes are swapped; for longer words
# Python has.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy python3

random_file "$DISK/disk" 3000008
truncate -s 4000008 "$DISK/disk"

# swapped BYTES FROM TO
swapped() {
	python3 - "$@" <<-'EOT'
		import sys

		word = int(sys.argv[1])
		data = open(sys.argv[2], 'rb').read()
		out = bytearray(len(data))
		for i in range(word):
		    out[i::word] = data[word - 1 - i::word]
		open(sys.argv[3], 'wb').write(out)
	EOT
}

dd if="$DISK/disk" of="$DISK/swab" conv=swab status=none
swapped 2 "$DISK/disk" "$DISK/expected"
same_bytes "$DISK/swab" "$DISK/expected"

for bits in 8 16 32 64; do
	note "$bits bits"
	swapped $((bits / 8)) "$DISK/disk" "$DISK/expected"
	start_server --filter=swab file "$DISK/disk" swab-bits=$bits
	nbdcopy "$URI" "$DISK/copy"
	same_bytes "$DISK/expected" "$DISK/copy"
	stop_server

	note "$bits bits, written"
	truncate -s 0 "$DISK/other"
	truncate -s 4000008 "$DISK/other"
	start_server --filter=swab file "$DISK/other" swab-bits=$bits
	nbdcopy --flush "$DISK/disk" "$URI"
	stop_server
	same_bytes "$DISK/expected" "$DISK/other"
done

note "the rest of a word is not there"
truncate -s 1003 "$DISK/other"
start_server --filter=swab file "$DISK/other" swab-bits=64
equal size "$(nbdinfo --size "$URI")" 1000
stop_server

refused swab-bits 24 -- -U "$WORK/s" --filter=swab file "$DISK/other" swab-bits=24
