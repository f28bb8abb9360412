#!/usr/bin/env bash
#
# qemu's block layer as a client: patterns written, read back and verified, also
# over a new connection; zeroes with and without holes, discards, unaligned and
# overlapping requests, many at once.
#
# usage: interop-qemu-io.sh file-writeback|file-none|loop|memory

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need qemu-io qemu-img

backend=${1:-file-writeback}
image=$DISK/disk.img

case $backend in
memory)
	start_server memory 64M
	;;
loop)
	truncate -s 64M "$image"
	loop_device "$image"
	start_server file "$LOOP"
	;;
file-none)
	truncate -s 64M "$image"
	start_server file "$image" cache=none
	;;
file-writeback)
	truncate -s 64M "$image"
	start_server file "$image"
	;;
*)
	fail "there is no backend $backend here"
	;;
esac

# io COMMAND...: each word is one qemu-io command; all of them over one connection.
io() {
	local command arguments=()

	for command in "$@"; do
		arguments+=(-c "$command")
	done
	qemu-io -f raw "${arguments[@]}" "$URI" >"$WORK/qemu-io.log" 2>&1 ||
		fail "qemu-io failed"
	# A pattern that does not match is told, and in old versions only told.
	! grep -iE 'fail|error|offset .* out of range' "$WORK/qemu-io.log" ||
		fail "qemu-io tells of a failure"
}

note "patterns, read back over the same and over a new connection"
io "write -P 0xa1 0 1M" "write -P 0xa2 1M 64k" "write -P 0xa3 33M 3M" \
	"read -P 0xa1 0 1M" "read -P 0xa2 1M 64k" "read -P 0xa3 33M 3M" "read -P 0 2M 1M" flush
io "read -P 0xa1 0 1M" "read -P 0xa2 1M 64k" "read -P 0xa3 33M 3M" "read -P 0 2M 1M"

note "one request of 32 MiB, the largest that every client may send"
io "write -P 0xb1 16M 32M" "read -P 0xb1 16M 32M"

note "unaligned"
io "write -P 0xc1 511 1025" "read -P 0xa1 0 511" "read -P 0xc1 511 1025" "read -P 0xa1 1536 4096"
io "write -P 0xc2 4095 2" "read -P 0xc2 4095 2" "read -P 0xa1 2048 2047" "read -P 0xa1 4097 1000"
io "write -P 0xc3 67108863 1" "read -P 0xc3 67108863 1"
io "write -P 0xc4 65537 1000001" "read -P 0xc4 65537 1000001" "read -P 0xa1 65000 537"

note "zeroes, with and without holes"
io "write -P 0xd1 8M 1M" "write -z 8M 64k" "read -P 0 8M 64k" "read -P 0xd1 8256k 64k"
io "write -z -u 8320k 64k" "read -P 0 8320k 64k" "read -P 0xd1 8384k 64k"
io "write -P 0xd2 8M 1M" "write -z 8193k 3333" "read -P 0 8193k 3333" "read -P 0xd2 8M 1k"
# The same again, on zeroes and on holes.
io "write -z 8M 1M" "write -z -u 8M 1M" "read -P 0 8M 1M" "write -P 0xd3 8M 4k" \
	"read -P 0xd3 8M 4k" "read -P 0 8196k 1020k"

note "discard leaves its neighbours alone"
io "write -P 0xe1 40M 1M" "discard 41024k 64k" "read -P 0xe1 40M 64k" "read -P 0xe1 41088k 64k"

note "many requests at once"
commands=()
for i in $(seq 0 63); do
	commands+=("aio_write -q -P $((i + 1)) $((i * 100000)) 100000")
done
io "${commands[@]}" aio_flush
commands=()
for i in $(seq 0 63); do
	commands+=("aio_read -q -P $((i + 1)) $((i * 100000)) 100000")
done
io "${commands[@]}" aio_flush

note "write with FUA"
io "write -f -P 0xf1 50M 4k" "read -P 0xf1 50M 4k" "write -f -z 50M 4k" "read -P 0 50M 4k"

note "past the end is refused, and the next request is fine"
qemu-io -f raw -c "read 64M 512" "$URI" >"$WORK/past.log" 2>&1 || true
grep -qiE 'out of range|invalid|failed|past end' "$WORK/past.log" || fail "a read past the end went well"
io "read -P 0xf1 50335744 0" "read -P 64 6300000 1000"

note "what qemu-img reads is what the server stores"
qemu-img convert -f raw -O raw "$URI" "$DISK/copy"
stop_server
if [ "$backend" != memory ]; then
	same_bytes "$DISK/copy" "$image"
fi
