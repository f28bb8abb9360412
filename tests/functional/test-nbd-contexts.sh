#!/usr/bin/env bash
#
# The maps that another server has of its disk (which blocks are dirty, how deep they
# lie), asked for through the backend nbd.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo qemu-nbd qemu-img qemu-io
need_python_nbd

image=$DISK/image.qcow2
remote=$WORK/remote.sock
dirty=qemu:dirty-bitmap

# serve_image OPTION...: by qemu-nbd, whose process is $qemu.
serve_image() {
	rm -f "$WORK/qemu.pid"
	qemu-nbd -t -e 0 -r -f qcow2 -k "$remote" --pid-file="$WORK/qemu.pid" "$@" "$image" \
		>"$WORK/qemu.log" 2>&1 &
	qemu=$!
	server_pids+=("$qemu")
	wait_until_ready "$qemu" "$WORK/qemu.pid" || fail "qemu-nbd did not start"
}
end_image() {
	kill "$qemu"
	wait "$qemu" || true
}
map() {
	nbdinfo --map="$1" "nbd+unix:///?socket=$2"
}
contexts() {
	nbdinfo --json "$URI" | python3 -c '
import json, sys
print(*sorted(json.load(sys.stdin)["exports"][0]["contexts"]))'
}

qemu-img create -q -f qcow2 "$image" 16M
qemu-img bitmap --add "$image" old
qemu-io -f qcow2 -c 'write 1M 64k' -c 'write 3M 192k' "$image" >/dev/null
qemu-img bitmap --disable "$image" old
qemu-img bitmap --add "$image" new
qemu-io -f qcow2 -c 'write 5M 64k' "$image" >/dev/null
serve_image -A -B old -B new

note "each map is that of the remote"
start_server nbd socket="$remote"
equal contexts "$(contexts)" \
	"base:allocation qemu:allocation-depth $dirty:new $dirty:old"
for name in base:allocation qemu:allocation-depth $dirty:old $dirty:new; do
	map "$name" "$remote" >"$WORK/direct"
	map "$name" "$SOCK" >"$WORK/through"
	same_bytes "$WORK/direct" "$WORK/through"
done
map $dirty:old "$SOCK" | grep -q '3145728 *196608 *1' || fail "the bitmap says nothing"

note "several at once, one after the other"
"$PYTHON" -c '
import sys, nbd
client = nbd.NBD()
names = sys.argv[2:]
for name in names:
    client.add_meta_context(name)
client.connect_uri(sys.argv[1])
told = []
client.block_status(16 << 20, 0, lambda name, offset, extents, error: told.append(name))
assert sorted(told) == sorted(names), told
client.shutdown()' "$URI" $dirty:new base:allocation $dirty:old
stop_server

note "a remote that takes the choice of a context is asked for no other"
middle=$WORK/middle.sock
"$NBDRING" -f -U "$middle" -P "$WORK/middle.pid" --filter=log nbd socket="$remote" \
	logfile="$WORK/middle.log" 2>/dev/null &
middle_pid=$!
server_pids+=("$middle_pid")
wait_until_ready "$middle_pid" "$WORK/middle.pid" || fail "the server between did not start"
start_server nbd socket="$middle"
map $dirty:old "$remote" >"$WORK/direct"
map $dirty:old "$SOCK" >"$WORK/through"
same_bytes "$WORK/direct" "$WORK/through"
stop_server
kill "$middle_pid"
wait "$middle_pid" || fail "the server between did not end well"
# One question of nbdinfo for all of the disk, of which four contexts are known.  The log is
# complete when its server has ended.
equal "questions" "$(grep -c ' Extents ' "$WORK/middle.log")" 1

note "filters that move addresses move the map; one that has writes of its own ends it"
start_server --filter=offset nbd socket="$remote" offset=1M range=4M
map $dirty:old "$SOCK" | head -n 3 | sed 's/ *dirty$//; s/ *clean$//; s/  */ /g' >"$WORK/moved"
printf ' 0 65536 1\n 65536 2031616 0\n 2097152 196608 1\n' >"$WORK/expected"
same_bytes "$WORK/moved" "$WORK/expected"
stop_server
start_server -r --filter=map nbd socket="$remote" map=0+1M:3M
map $dirty:old "$SOCK" | head -n 1 | grep -q '^ *0 *196608 *1' || fail "map moved nothing"
stop_server
start_server --filter=cow nbd socket="$remote"
equal "contexts over cow" "$(contexts)" base:allocation
stop_server
start_server concat leg="nbd socket=$remote" leg="nbd socket=$remote"
equal "the map of the second leg" \
	"$(map $dirty:old "$SOCK" | sed 's/  */ /g' | grep -c ' 1 dirty$')" 4
map $dirty:old "$SOCK" | grep -q "^ *$((19 << 20)) *196608 *1" || fail "it did not move"
stop_server
start_server --filter=noextents nbd socket="$remote"
! nbdinfo --json "$URI" | grep -q dirty || fail "noextents has extents"
stop_server

note "a remote that comes back without one of them is not the one there was"
start_server -v nbd socket="$remote" retry=60
map $dirty:new "$SOCK" >/dev/null
end_image
serve_image -A -B old
timeout 60 nbdinfo --map=$dirty:old "$URI" >"$WORK/late" &
client=$!
until_true 60 grep -q 'has no map any more' "$LOG" || fail "nothing was said of it"
end_image
serve_image -B new -B old -A
wait "$client" || fail "it was not taken when it was whole again"
map $dirty:old "$remote" >"$WORK/direct"
same_bytes "$WORK/direct" "$WORK/late"
stop_server
end_image
