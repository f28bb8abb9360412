#!/usr/bin/env bash
#
# A real disk image, out and in: an ext4 file system is served, copied by nbdcopy
# and by qemu-img convert over the Unix socket and over TCP, and every copy is the
# original byte for byte and clean for e2fsck. Then nbdcopy writes it into empty
# exports, and what comes back out is the original again.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy qemu-img cmp

image=$DISK/disk.img
make_ext4 "$image" 192M

# check_copy: what is in $DISK/copy is the image. Removes it.
check_copy() {
	same_bytes "$image" "$DISK/copy"
	is_clean_ext4 "$DISK/copy"
	rm "$DISK/copy"
}

# copy_out URI NBDCOPY-OPTION...
copy_out() {
	local uri=$1
	shift

	note "nbdcopy $* $uri"
	nbdcopy "$@" "$uri" "$DISK/copy"
	check_copy
}

convert_out() {
	note "qemu-img convert $1"
	qemu-img convert -f raw -O raw "$1" "$DISK/copy"
	check_copy
}

# copy_in URI: the image into an export of its size, and out again.
copy_in() {
	nbdcopy --connections=4 --requests=64 --flush "$image" "$1"
	nbdcopy "$1" "$DISK/copy"
	check_copy
}

tcp=()
if ours; then
	port=$(free_port)
	tcp=(-i 127.0.0.1 -p "$port")
fi
start_server "${tcp[@]}" file "$image"
uris=("$URI")
[ ${#tcp[@]} -eq 0 ] || uris+=("nbd://127.0.0.1:$port")

for uri in "${uris[@]}"; do
	copy_out "$uri"
	copy_out "$uri" --connections=4 --threads=2 --requests=64
	copy_out "$uri" --synchronous --connections=1
	convert_out "$uri"
done
# Every byte asked for, holes too, in requests of odd and of the largest size.
copy_out "$URI" --no-extents --sparse=0
copy_out "$URI" --no-extents --request-size=33554432 --requests=2
stop_server

note "without structured replies"
start_server --no-sr file "$image"
copy_out "$URI"
convert_out "$URI"
stop_server

size=$(stat -c %s "$image")
note "into memory"
start_server memory "$size"
copy_in "$URI"
stop_server

note "into an empty file"
truncate -s "$size" "$DISK/target"
start_server file "$DISK/target"
copy_in "$URI"
stop_server
same_bytes "$image" "$DISK/target"

if ours; then
	note "into an empty file, past the page cache"
	rm "$DISK/target"
	truncate -s "$size" "$DISK/target"
	start_server file "$DISK/target" cache=none
	copy_in "$URI"
	copy_out "$URI" --no-extents
	convert_out "$URI"
	stop_server
	same_bytes "$image" "$DISK/target"
fi

note "into a sparse file, with qemu-img convert"
rm "$DISK/target"
truncate -s "$size" "$DISK/target"
start_server file "$DISK/target"
qemu-img convert -n -f raw -O raw --target-is-zero "$image" "$URI"
stop_server
same_bytes "$image" "$DISK/target"
used=$(du -k "$DISK/target" | cut -f1)
[ "$used" -lt 100000 ] || fail "the copy of a sparse image takes $used KiB on disk"
