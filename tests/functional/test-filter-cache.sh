#!/usr/bin/env bash
#
# --filter=cache: what reaches the disk and when, files of a cache that outlive the
# server, and files that are refused and left as they are.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need qemu-io nbdcopy

MIB=1048576

io() {
	qemu-io -f raw "$URI" "${@/#/-c}" >>"$WORK/io.log" || fail "qemu-io $*"
}

# has PATTERN OFFSET: the disk's file holds 64 KiB of it there.
has() {
	qemu-io -f raw -r -U "$DISK/disk" -c "read -P $1 $2 64k" >>"$WORK/io.log" 2>&1
}

new_disk() {
	rm -f "$DISK/disk"
	truncate -s $((16 * MIB)) "$DISK/disk"
}

# How much was read from the disk, of a server that has ended.
read_below() {
	sed -n 's/^read: .* s, \([0-9.]* [A-Za-z]*\)$/\1/p' "$WORK/below" | grep . || echo nothing
}

note "in the background, when it is old enough"
new_disk
start_server --filter=cache file "$DISK/disk" cache-dirty-age=1
qemu-io -f raw "$URI" -c 'write -P 7 0 64k' -c 'sleep 20000' >/dev/null &
client=$!
until_true 15 has 7 0 || fail "nobody wrote it back"
kill "$client"
wait "$client" || true
stop_server

note "when the clients have gone, and when the server ends"
new_disk
start_server --filter=cache file "$DISK/disk" cache-dirty-age=3600
# Without the flush that qemu-io sends at the end.
qemu-io -f raw --cache=unsafe "$URI" -c 'write -P 8 0 64k' >/dev/null
until_true 15 has 8 0 || fail "nobody wrote it back"
stop_server
new_disk
start_server --filter=cache file "$DISK/disk" cache=unsafe cache-dir="$DISK"
qemu-io -f raw --cache=unsafe "$URI" -c 'write -P 9 1M 64k' >/dev/null
stop_server
has 9 1M || fail "the server ended without writing it back"

note "what was read is there after a restart, and the disk is hardly asked"
random_file "$DISK/disk" $((16 * MIB))
for round in 1 2; do
	start_server --filter=cache --filter=stats file "$DISK/disk" statsfile="$WORK/below" \
		cache-on-read=true cache-file="$DISK/kept" cache-max-size=32M
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	stop_server
	# The second time: 64 blocks, to see that it is the same disk.
	[ "$round" -eq 1 ] || equal "what was read" "$(read_below)" "256.00 KiB"
done

note "what stats says of it, standing above and below"
start_server --filter=stats --filter=cache --filter=stats memory 16M cache-max-size=1M \
	cache-on-read=true cache-policy=lru statsfile="$WORK/above.json" stats-format=json \
	statsfile="$WORK/below.text"
io 'read 0 64k' 'read 0 64k' 'read 0 512k' 'read 512k 512k' 'read 1M 512k' 'read 1536k 512k' \
	'write 0 16k' flush
stop_server
python3 - "$WORK/above.json" <<'EOF' || fail "$(cat "$WORK/above.json")"
import json, sys
layers = json.load(open(sys.argv[1]))["layers"]
assert [layer["layer"] for layer in layers] == ["cache"], layers
figures = layers[0]["figures"]
wanted = {"hits": 32, "misses": 512, "hit_ratio": 0.058823, "filled": 512, "bypassed": 0,
          "stored": 4, "evictions": 260, "used_bytes": 1 << 20, "dirty_bytes": 0,
          "dirty_bytes_most": 16384, "written_back": 4, "failed_write_requests": 0}
wrong = {name: figures.get(name) for name in wanted if figures.get(name) != wanted[name]}
assert not wrong, wrong
EOF
for line in 'cache:' '  hits: 32' '  hit_ratio: 5.88%' '  used_bytes: 1.00 MiB'; do
	grep -qxF "$line" "$WORK/below.text" || fail "no line '$line': $(cat "$WORK/below.text")"
done

note "what is thrown out gives its room back"
allocated() {
	[ $(($(stat -c '%b * %B' "$1"))) -le "$2" ]
}
start_server --filter=cache memory 16M cache-max-size=8M cache-high-threshold=50 \
	cache-low-threshold=25 cache-on-read=true cache-file="$DISK/room"
# Beyond 4M it goes down to 2M, and then comes some more.
io 'read 0 4M' 'read 4M 1M'
until_true 30 allocated "$DISK/room" $((3 * MIB)) || fail "it has $(du -k "$DISK/room")"
io 'read 0 5M'
stop_server

note "a disk that was changed meanwhile is read anew"
random_file "$DISK/disk" $((16 * MIB))
start_server --filter=cache file "$DISK/disk" cache-on-read=true cache-file="$DISK/kept" \
	cache-max-size=32M
nbdcopy "$URI" "$WORK/copy"
same_bytes "$DISK/disk" "$WORK/copy"
grep -q 'begins empty' "$LOG" || fail "the log says nothing of it"

note "so is one of which a byte was changed, whatever its times say"
stop_server
change_a_byte() {
	printf '%s' "$times" | dd of="$DISK/disk" bs=1 seek=$((9 * MIB + 5)) conv=notrunc status=none
}
for times in new old; do
	touch -r "$DISK/disk" "$WORK/times"
	change_a_byte
	[ "$times" = new ] || touch -r "$WORK/times" "$DISK/disk"
	start_server --filter=cache file "$DISK/disk" cache-on-read=true cache-file="$DISK/kept" \
		cache-max-size=32M
	grep -q 'begins empty' "$LOG" || fail "the log says nothing of it"
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	[ "$times" = old ] || stop_server
done

note "two servers on one file"
fails timeout 10 "$NBDRING" -f -U "$WORK/other" --filter=cache file "$DISK/disk" \
	cache-file="$DISK/kept" cache-max-size=32M >"$WORK/refused" 2>&1
grep -q 'is in use' "$WORK/refused" || fail "$(cat "$WORK/refused")"

note "a server that is killed loses nothing that was flushed, and the next begins empty"
io 'write -P 5 0 1M' flush 'write -P 6 0 64k' 'write -P 6 2M 1M'
qemu-io -f raw "$URI" -c 'write -P 1 4M 4M' -c flush -c 'write -P 2 4M 4M' -c 'sleep 20000' \
	>/dev/null &
client=$!
written() {
	qemu-io -f raw -r -U "$DISK/disk" -c 'read -P 1 4M 4M' >/dev/null 2>&1 ||
		qemu-io -f raw -r -U "$DISK/disk" -c 'read -P 2 4M 4M' >/dev/null 2>&1
}
until_true 15 written || fail "the flush did nothing"
kill -KILL "$PID"
wait "$PID" || true
wait "$client" || true
start_server --filter=cache file "$DISK/disk" cache-file="$DISK/kept" cache-max-size=32M
grep -q 'did not end in order' "$LOG" || fail "the log says nothing of it"
io 'read -P 6 0 64k' 'read -P 5 64k 960k' 'read -P 6 2M 1M'
stop_server

note "what cannot be written below at the end is kept in the file, and written the next time"
rm "$DISK/kept"
new_disk
touch "$WORK/fail"
start_server --filter=cache --filter=error file "$DISK/disk" cache-file="$DISK/kept" \
	cache-max-size=32M cache-on-read=true error-pwrite-rate=100% error-file="$WORK/fail"
qemu-io -f raw --cache=unsafe "$URI" -c 'read 0 1M' -c 'read 1M 1M' -c 'write -P 4 3M 64k' >/dev/null
kill "$PID"
expect_end "$PID" 1
grep -q 'are kept' "$LOG" || fail "the log says nothing of it"
printf '\1' | dd of="$DISK/disk" bs=1 seek=$((5 * 4096)) conv=notrunc status=none
start_server --filter=cache file "$DISK/disk" cache-file="$DISK/kept" cache-max-size=32M
grep -q 'keeps only the 16 blocks' "$LOG" || fail "the log says nothing of it"
io 'read -P 1 20k 1' 'read -P 4 3M 64k' flush
has 4 3M || fail "it was not written"
stop_server

note "what a power cut left of a file that was being made is made anew"
truncate -s 4096 "$DISK/begun"
for pattern in 8 9; do
	start_server --filter=cache file "$DISK/disk" cache-file="$DISK/begun" cache-max-size=32M
	io "write -P $pattern 5M 64k" flush
	stop_server
done
has 9 5M || fail "it was not written"

# refused PHRASE PARAMETER...: the server does not start, says so, and the file is as it was.
refused() {
	local phrase=$1
	shift

	cp "$DISK/bad" "$WORK/was"
	fails timeout 10 "$NBDRING" -f -U "$WORK/other" --filter=cache file "$DISK/disk" \
		cache-file="$DISK/bad" "$@" >"$WORK/refused" 2>&1
	grep -qF -- "$phrase" "$WORK/refused" || fail "not '$phrase': $(cat "$WORK/refused")"
	equal "lines of the refusal" "$(wc -l <"$WORK/refused")" 1
	same_bytes "$DISK/bad" "$WORK/was"
}

# overwrite OFFSET BYTES
overwrite() {
	printf '%b' "$2" | dd of="$DISK/bad" bs=1 seek="$1" conv=notrunc status=none
}

note "files that are refused"
echo hello >"$DISK/bad"
refused 'is not a cache' cache-max-size=32M
random_file "$DISK/bad" 100000
refused 'is not a cache' cache-max-size=32M
cp "$DISK/kept" "$DISK/bad"
refused 'cache-max-size=33554432' cache-max-size=16M
refused 'cache-min-block-size=4096' cache-max-size=32M cache-min-block-size=16k
truncate -s -4096 "$DISK/bad"
refused 'damaged' cache-max-size=32M
cp "$DISK/kept" "$DISK/bad"
overwrite 8 '\x02'
refused 'version 2' cache-max-size=32M
cp "$DISK/kept" "$DISK/bad"
overwrite 30 '\x02'
refused 'damaged' cache-max-size=32M
cp "$DISK/kept" "$DISK/bad"
overwrite 4100 '\x02'
refused 'damaged' cache-max-size=32M
fails timeout 10 "$NBDRING" -f -U "$WORK/other" --filter=cache memory 1M cache-file="$DISK/bad" \
	cache-dir="$DISK" >"$WORK/refused" 2>&1
grep -q 'exclude each other' "$WORK/refused" || fail "$(cat "$WORK/refused")"
