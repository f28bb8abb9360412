#!/usr/bin/env bash
#
# The options that take parts of the protocol away, so that clients can be tested
# against lesser servers: -o, -n, --mask-handshake, --no-sr, --no-mc.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-img

random_file "$DISK/disk.img" 1048576

# protocol_is HANDSHAKE PACKETS: as nbdinfo calls them.
protocol_is() {
	nbdinfo "$URI" >"$WORK/info"
	grep -qE "^protocol: $1 without TLS, using ($2) packets\$" "$WORK/info" ||
		fail "expected '$1' and '$2': $(head -n 1 "$WORK/info")"
}

# What a client of today agrees on depends on how new it is.
best="structured|extended"

copies_well() {
	nbdcopy "$URI" "$DISK/copy"
	same_bytes "$DISK/disk.img" "$DISK/copy"
	qemu-img convert -f raw -O raw "$URI" "$DISK/copy"
	same_bytes "$DISK/disk.img" "$DISK/copy"
}

note "-n, which is the default"
start_server -n file "$DISK/disk.img"
protocol_is newstyle-fixed "$best"
copies_well
stop_server

note "-o"
start_server -o file "$DISK/disk.img"
protocol_is oldstyle simple
copies_well
stop_server

note "-o -r"
start_server -o -r file "$DISK/disk.img"
nbdinfo --is read-only "$URI" || fail "the export is not read-only"
copies_well
stop_server

note "--no-sr"
start_server --no-sr file "$DISK/disk.img"
protocol_is newstyle-fixed simple
fails nbdinfo --can df "$URI"
copies_well
stop_server

if ours; then
	note "--no-mc"
	start_server --no-mc file "$DISK/disk.img"
	protocol_is newstyle-fixed "$best"
	! grep -q base:allocation "$WORK/info" || fail "there is a meta context"
	copies_well
	stop_server
fi

note "--mask-handshake=0: neither fixed newstyle nor NO_ZEROES"
start_server --mask-handshake=0 file "$DISK/disk.img"
protocol_is newstyle simple
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/disk.img" "$DISK/copy"
stop_server

note "--mask-handshake=1: fixed newstyle without NO_ZEROES"
start_server --mask-handshake=1 file "$DISK/disk.img"
protocol_is newstyle-fixed "$best"
copies_well
stop_server

note "--mask-handshake=2: NO_ZEROES without fixed newstyle"
start_server --mask-handshake=0x2 file "$DISK/disk.img"
protocol_is newstyle simple
nbdcopy "$URI" "$DISK/copy"
same_bytes "$DISK/disk.img" "$DISK/copy"
stop_server
