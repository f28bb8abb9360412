#!/usr/bin/env bash
#
# fio with its nbd engine: random writes and reads of many sizes at depth 64 over
# four connections, every block carrying a checksum that is verified. Where the
# data went to a file, fio verifies the file too once the server is gone.
# Bounded by size, not by time.
#
# usage: interop-fio.sh file-writeback|file-none|file-dontcache|loop|memory

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "this fio was built without its nbd engine"

backend=${1:-file-writeback}
image=$DISK/disk.img
stored=$image
# Four connections, each with a quarter of the disk to itself.
quarter=32M
sanitized && quarter=8M

truncate -s 128M "$image"
case $backend in
memory)
	stored=
	start_server memory 128M
	;;
loop)
	loop_device "$image"
	start_server file "$LOOP"
	;;
file-dontcache)
	can_dontcache "$image" || skip "this kernel or file system has no RWF_DONTCACHE"
	start_server file "$image" cache=dontcache
	;;
file-*)
	start_server file "$image" cache="${backend#file-}"
	;;
*)
	fail "there is no backend $backend here"
	;;
esac

# The job, the same for the server and for the file behind it. bssplit: mostly
# small, some large and some that are no multiple of anything.
job=(
	--name=verify
	--bssplit=4k/60:64k/20:512/10:12k/8:256k/2
	--numjobs=4
	--thread
	--size="$quarter"
	--offset_increment="$quarter"
	--iodepth=64
	--verify=crc32c
	--verify_fatal=1
	--verify_state_save=0
	--group_reporting
	--randrepeat=1
)

run_fio() {
	fio --output="$WORK/fio.log" --output-format=normal "$@" || fail "fio failed"
	! grep -E 'err= *[1-9]|verify: bad|verify: got' "$WORK/fio.log" || fail "fio tells of an error"
}

note "write everything in random order, then verify it"
run_fio --ioengine=nbd --uri="$URI" "${job[@]}" --rw=randwrite --do_verify=1

note "reads among the writes, verified on the way"
run_fio --ioengine=nbd --uri="$URI" "${job[@]}" --rw=randwrite --verify_backlog=128 --fsync=256

note "trims among them"
run_fio --ioengine=nbd --uri="$URI" --name=trim --rw=randtrimwrite --bs=64k --numjobs=4 --thread \
	--size="$quarter" --offset_increment="$quarter" --iodepth=64 --group_reporting

note "and once more after that"
run_fio --ioengine=nbd --uri="$URI" "${job[@]}" --rw=randwrite --do_verify=1 --end_fsync=1
stop_server

if [ -n "$stored" ]; then
	note "the file behind it"
	run_fio --ioengine=psync --filename="$stored" "${job[@]}" --rw=randwrite --verify_only=1
fi
