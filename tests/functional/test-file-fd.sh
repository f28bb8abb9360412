#!/usr/bin/env bash
#
# file fd=: the disk is a descriptor the server inherits; no path is needed, and
# none is looked up.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy
ours || skip "only nbdring has this here"

random_file "$DISK/disk.img" 1048576
cp "$DISK/disk.img" "$DISK/original.img"
random_file "$WORK/data" 1048576

note "a file that has no name any more"
exec 7<>"$DISK/disk.img"
rm "$DISK/disk.img"
start_server file fd=7
nbdcopy "$URI" "$WORK/copy"
same_bytes "$DISK/original.img" "$WORK/copy"
nbdcopy --flush "$WORK/data" "$URI"
stop_server
# Opened anew, since the server may move the position of the descriptor itself.
cat "/proc/$$/fd/7" >"$WORK/copy"
same_bytes "$WORK/data" "$WORK/copy"
exec 7>&-

note "a descriptor for reading gives a read-only export"
exec 7<"$DISK/original.img"
start_server file fd=7
nbdinfo --is read-only "$URI" || fail "the export is not read-only"
stop_server
exec 7>&-

note "into the background, too"
exec 7<>"$DISK/original.img"
timeout 60 "$NBDRING" -U "$WORK/sock" -P "$WORK/pid" file fd=7 </dev/null
server_pids+=("$(cat "$WORK/pid")")
equal size "$(nbdinfo --size "nbd+unix:///?socket=$WORK/sock")" 1048576
kill "$(cat "$WORK/pid")"
exec 7>&-

note "descriptors that are none, or no disk"
refused "fd" "9" -- -U "$WORK/s" file fd=9
refused "fd" "-1" -- -U "$WORK/s" file fd=-1
refused "fd" "zwei" -- -U "$WORK/s" file fd=zwei
exec 8</dev/null
refused "fd" "8" -- -U "$WORK/s" file fd=8
exec 8>&-
refused "fd" "file" -- -U "$WORK/s" file "$DISK/original.img" fd=7
