#!/usr/bin/env bash
#
# --filter=partition: tables as real tools write them, and one that lies.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy sfdisk

# place TABLE NUMBER: "start size" in sectors, by sfdisk.
place() {
	sfdisk --dump "$1" | sed -n "s|^$1$2 : start= *\([0-9]*\), size= *\([0-9]*\).*|\1 \2|p"
}

# served IMAGE NUMBER [ARGUMENT...]: the partition is exactly the sectors that the tool
# says.
served() {
	local image=$1 number=$2 start size
	shift 2

	read -r start size < <(place "$image" "$number")
	note "${image##*/}: partition $number has $size sectors from $start on"
	start_server --filter=partition file "$image" "partition=$number" "$@"
	equal size "$(nbdinfo --size "$URI")" $((size * 512))
	nbdcopy "$URI" "$WORK/copy"
	cmp -i $((start * 512)):0 -n $((size * 512)) "$image" "$WORK/copy" ||
		fail "these are not the right bytes"
	stop_server
}

random_file "$DISK/mbr" 16777216
sfdisk -q "$DISK/mbr" <<-'EOT'
	label: dos
	start=63, size=1000
	start=2048, size=4096
	start=8192, size=20000, type=5
	start=30000, size=2000
	start=9000, size=1000
	start=12000, size=5000
	start=20000, size=8000
EOT
for number in 1 2 4 5 6 7; do
	served "$DISK/mbr" "$number"
done
refused "extended" -- -U "$WORK/s" --filter=partition file "$DISK/mbr" partition=3
refused "no partition 8" -- -U "$WORK/s" --filter=partition file "$DISK/mbr" partition=8

random_file "$DISK/gpt" 16777216
sfdisk -q "$DISK/gpt" <<-'EOT'
	label: gpt
	start=2048, size=4096
	start=8192, size=1
	start=10000, size=20000
EOT
for number in 1 2 3; do
	served "$DISK/gpt" "$number"
done

note "the first table is damaged, the copy is used"
cp "$DISK/gpt" "$DISK/damaged"
dd if=/dev/zero of="$DISK/damaged" bs=512 seek=1 count=1 conv=notrunc status=none
start_server --filter=partition file "$DISK/damaged" partition=3
equal size "$(nbdinfo --size "$URI")" $((20000 * 512))
stop_server
grep -q 'warning: partition: there is no GPT header in sector 1; the copy' "$LOG" ||
	fail "the log does not say it: $(cat "$LOG")"

note "written, and nothing else is"
random_file "$WORK/new" $((1000 * 512))
cp "$DISK/mbr" "$DISK/expected"
dd if="$WORK/new" of="$DISK/expected" bs=512 seek=63 conv=notrunc status=none
start_server --filter=partition file "$DISK/mbr" partition=1
nbdcopy --flush "$WORK/new" "$URI"
stop_server
same_bytes "$DISK/expected" "$DISK/mbr"

# The sandbox is closed by then, and the table is read on a ring of its own.
note "disks of a folder, whose tables are read when clients come"
mkdir "$DISK/folder"
cp --reflink=auto "$DISK/mbr" "$DISK/folder/one"
cp --reflink=auto "$DISK/gpt" "$DISK/folder/two"
start_server --filter=partition file "dir=$DISK/folder" partition=2
equal "one's size" "$(nbdinfo --size "nbd+unix:///one?socket=$SOCK")" $((4096 * 512))
equal "two's size" "$(nbdinfo --size "nbd+unix:///two?socket=$SOCK")" 512
stop_server

note "tables that cannot be used"
refused "beyond the end" -- -U "$WORK/s" --filter=partition \
	file "$DISK/mbr" partition=1 partition-sectorsize=4096
refused "partition-sectorsize=512" -- -U "$WORK/s" --filter=partition \
	file "$DISK/gpt" partition=1 partition-sectorsize=4096
truncate -s 8M "$DISK/gpt"
refused "beyond the end" -- -U "$WORK/s" --filter=partition file "$DISK/gpt" partition=3
refused "no partition table" -- -U "$WORK/s" --filter=partition memory 1M partition=1
refused "partition" -- -U "$WORK/s" --filter=partition file "$DISK/mbr"
