#!/usr/bin/env bash
#
# --filter=scan: the disk is prefetched in the background while a client is there,
# the bytes are what they were, and the server ends without waiting for the scan.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy nbdinfo qemu-io

random_file "$DISK/disk" 3000000

# Pieces in the log of a filter below the scan.
pieces() {
	grep -cF " Cache " "$WORK/requests" || true
}

pieces_are() {
	[ "$(pieces)" -ge "$1" ]
}

note "the whole disk is scanned while a client stays"
start_server --filter=scan --filter=log file "$DISK/disk" scan-size=64k scan-ahead=false \
	logfile="$WORK/requests"
qemu-io -f raw -r "$URI" -c 'read 0 512' -c 'sleep 3000' >/dev/null &
client=$!
until_true 60 pieces_are 46 || fail "only $(pieces) of 46 pieces were prefetched"
wait "$client"
stop_server

note "the bytes are what they were"
for parameters in "" "scan-size=512" "scan-ahead=false scan-clock=false" "scan-forever=true"; do
	# shellcheck disable=SC2086
	start_server --filter=scan --filter=nocache file "$DISK/disk" cachemode=emulate $parameters
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	nbdcopy --connections=4 "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	stop_server
done

note "a disk without end does not keep the server"
start_server --filter=scan memory 1E scan-size=512
qemu-io -f raw -r "$URI" -c 'read 0 512' >/dev/null
qemu-io -f raw -r "$URI" -c 'read 0 512' -c 'sleep 2000' >/dev/null &
client=$!
sleep 0.5
stop_server
wait "$client" || true

note "every export by itself, closed when its last client leaves"
mkdir "$DISK/dir"
cp "$DISK/disk" "$DISK/dir/a"
cp "$DISK/disk" "$DISK/dir/b"
start_server --filter=scan file dir="$DISK/dir" scan-size=512
for name in a b a b; do
	qemu-io -f raw -r "nbd+unix:///$name?socket=$SOCK" -c 'read 0 512' >/dev/null
done
stop_server

note "what cannot be"
refused scan "power of two" -- --filter=scan memory 1M scan-size=3000
refused scan-size 512 -- --filter=scan memory 1M scan-size=1
refused "cannot prefetch" -- --filter=scan --filter=nocache memory 1M cachemode=none
