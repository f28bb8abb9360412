#!/usr/bin/env bash
#
# Wrong options, backends and parameters: one sentence that says what was wrong and
# what to write instead, and exit status 1.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo

sock=$WORK/sock
truncate -s 1M "$DISK/disk.img"

note "options"
refused "--nosuch" -- --nosuch memory 1M
refused "--pidfle" "--pidfile" -- --pidfle=x memory 1M
refused "--dump-confg" "--dump-config" -- --dump-confg
refused "-Z" -- -Z memory 1M
refused "--log" "stderr" -- -U "$sock" --log=everywhere memory 1M
refused "-U" -- -U
refused "-U" -- -U "" memory 1M
refused "--mask-handshake" "many" -- -U "$sock" --mask-handshake=many memory 1M
refused "-D" "file" -- -U "$sock" -D file memory 1M
refused "--tls" -- -U "$sock" --tls=perhaps memory 1M

note "numbers"
if ours; then
	refused "port" "70000" -- -p 70000 memory 1M
	refused "port" "-1" -- -p -1 memory 1M
	refused "port" "http!" -- -p 'http!' memory 1M
	refused "-t" "-3" -- -U "$sock" -t -3 memory 1M
fi
refused "-t" "some" -- -U "$sock" -t some memory 1M

note "options that exclude each other"
refused "-s" "-U" -- -s -U "$sock" memory 1M
refused "-s" "-p" -- -s -p 10809 memory 1M
refused "-s" "--run" -- -s --run true memory 1M

note "backends and filters"
refused "backend" -- -U "$sock"
refused "memroy" "memory" -- -U "$sock" memroy 1M
refused "qcow9" -- -U "$sock" qcow9 x
refused "nosuch" "filter" -- -U "$sock" --filter=nosuch memory 1M
refused "../memory" -- -U "$sock" ../memory 1M

note "parameters"
refused "siz" "size" -- -U "$sock" memory siz=1M
refused "colour" -- -U "$sock" memory 1M colour=blue
refused "size" -- -U "$sock" memory
refused "1Mx" -- -U "$sock" memory 1Mx
refused "size" "large" -- -U "$sock" memory size=large
refused "-1" -- -U "$sock" memory size=-1
refused "size" -- -U "$sock" memory size=
refused "9223372036854775808" -- -U "$sock" memory size=9223372036854775808
refused "99999999E" -- -U "$sock" memory size=99999999E
refused "sometimes" "writeback" "none" "dontcache" -- -U "$sock" file "$DISK/disk.img" cache=sometimes
refused "cahce" "cache" -- -U "$sock" file "$DISK/disk.img" cahce=none
refused "file" "dir" -- -U "$sock" file
refused "dir" -- -U "$sock" file "$DISK/disk.img" dir="$DISK"
# nbdkit serves a disk of size 0 here.
! ours || refused "file" -- -U "$sock" split
refused "another" -- -U "$sock" null 1M another word

note "numbers of all kinds are understood"
for size in 1048576 1M 1m 1048576b 2048s 1024K 1024k; do
	"$NBDRING" -U - memory "$size" --run "test \"\$(nbdinfo --size \"\$uri\")\" = 1048576" ||
		fail "$size is not one MiB"
done

if ours; then
	note "options in a file"
	printf '%s\n' '# a disk' "--filter=readonly # no writing" 'memory' "'size=1M'" >"$WORK/disk.args"
	start_server "@$WORK/disk.args"
	equal "the size" "$(nbdinfo --size "$URI")" 1048576
	nbdinfo "$URI" | grep -q 'is_read_only: true' || fail "the filter in the file was not used"
	stop_server
	printf '%s\n' '@disk.args' '--readnly' >"$WORK/bad.args"
	(cd "$WORK" && refused "bad.args:2" "--readonly" -- @bad.args)
	refused "@$WORK/none" -- "@$WORK/none"
fi
