#!/usr/bin/env bash
#
# nbdkit as a client: its nbd plugin passes an export on, and what comes out of it
# is what this server stores. Its sparse-random plugin makes a disk shaped like a
# virtual machine's and verifies, while it is written to, that what came back is
# what it made.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdkit nbdcopy nbdinfo

image=$DISK/disk.img
make_ext4 "$image" 64M

# through_nbdkit COMMAND: with $uri for what nbdkit passes on.
through_nbdkit() {
	nbdkit -U - nbd socket="$SOCK" --run "$1"
}

note "through nbdkit's nbd plugin"
start_server file "$image"
through_nbdkit "nbdcopy \"\$uri\" '$DISK/copy'"
same_bytes "$image" "$DISK/copy"
through_nbdkit "nbdinfo --map --totals \"\$uri\""
stop_server

note "written through it"
rm "$DISK/copy"
truncate -s 64M "$DISK/copy"
start_server file "$DISK/copy"
through_nbdkit "nbdcopy --flush '$image' \"\$uri\""
stop_server
same_bytes "$image" "$DISK/copy"

note "a disk with data here and there, in and verified out"
start_server memory 256M
nbdkit -U - sparse-random 256M seed=7 runlength=65536 --run "
	nbdcopy \"\$uri\" '$URI' && nbdcopy '$URI' \"\$uri\""
stop_server
