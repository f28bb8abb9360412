#!/usr/bin/env bash
#
# Layers that are not built in: --filter=./mine.so works like any other, one that
# does not fit is refused with a sentence.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy nbdinfo
ours || skip "only nbdring has this here"
modules=${NBDRING_TEST_MODULES:?the folder of the test modules}

note "a filter from a file: the disk holds xored bytes, the client sees its own"
random_file "$WORK/data" 1000000
truncate -s 1000000 "$DISK/disk.img"
start_server --filter="$modules/xor.so" file "$DISK/disk.img" key=255
nbdcopy "$WORK/data" "$URI"
nbdcopy "$URI" "$WORK/copy"
same_bytes "$WORK/data" "$WORK/copy"
stop_server
"$PYTHON" - "$WORK/data" "$DISK/disk.img" <<-'EOT'
	import sys
	ours, stored = (open(name, 'rb').read() for name in sys.argv[1:])
	assert bytes(byte ^ 255 for byte in ours) == stored
EOT

note "twice in one stack: it cancels out"
start_server --filter="$modules/xor.so" --filter="$modules/xor.so" file "$DISK/disk.img" \
	key=255 key=255
nbdcopy "$URI" "$WORK/copy"
same_bytes "$DISK/disk.img" "$WORK/copy"
stop_server

note "its help and its errors are like everybody's"
"$NBDRING" --filter="$modules/xor.so" --help | grep -q 'key=N' || fail "no help for key="
refused "xor" "key" "255" -- -U "$WORK/s" --filter="$modules/xor.so" memory 1M key=256
refused "did you mean" "key" -- -U "$WORK/s" --filter="$modules/xor.so" memory 1M kye=1

note "what does not fit is refused"
refused "outdated.so" "version" -- -U "$WORK/s" --filter="$modules/outdated.so" memory 1M
refused "xor.so" "filter" -- -U "$WORK/s" "$modules/xor.so"
echo "no module" >"$WORK/text.so"
refused "text.so" "cannot be loaded" -- -U "$WORK/s" --filter="$WORK/text.so" memory 1M
refused "gone.so" "cannot be loaded" -- -U "$WORK/s" --filter="$WORK/gone.so" memory 1M
