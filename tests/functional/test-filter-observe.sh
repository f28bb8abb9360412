#!/usr/bin/env bash
#
# log, stats and count: what they write is what a client did.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need qemu-io nbdinfo python3

work() {
	qemu-io -f raw -c "write -P 1 64k 128k" -c "read -P 1 64k 4k" -c "read 0 4k" \
		-c "write -z 1M 64k" -c "discard 2M 64k" -c flush "$URI" >"$WORK/qemu-io.log" ||
		fail "qemu-io failed"
}

has() {
	grep -qE -e "$2" "$1" || fail "there is no '$2' in $1: $(cat "$1")"
}

note "log: a line per request, while the server runs"
start_server --filter=log memory 10M logfile="$WORK/log"
work
until_true 10 grep -q Disconnect "$WORK/log" || fail "there is no Disconnect"
has "$WORK/log" ' connection=[0-9]+ Connect export="" peer="[^"]+" size=0xa00000 minsize=0x1 '
has "$WORK/log" ' Write offset=0x10000 count=0x20000 fua=[01] return=0 us='
has "$WORK/log" ' Read offset=0x0 count=0x1000 return=0 us='
has "$WORK/log" ' Zero offset=0x100000 count=0x10000 '
has "$WORK/log" ' Trim offset=0x200000 count=0x10000 '
has "$WORK/log" ' Flush return=0 us='
stop_server

note "log: appended, as JSON that programs can read, also in the background"
start_server --filter=log full 10M logfile="$WORK/log" logappend=true log-format=json
qemu-io -f raw -c "write 0 64k" "$URI" >/dev/null 2>&1 || true
stop_server
has "$WORK/log" ' Write offset=0x10000 '
grep '^{' "$WORK/log" | python3 -c '
import json, sys
lines = [json.loads(line) for line in sys.stdin]
kinds = [line["event"] for line in lines]
assert kinds.count("connect") == kinds.count("disconnect") > 0, kinds
write = [line for line in lines if line.get("operation") == "write"]
assert write[0]["error"] == "ENOSPC" and write[0]["length"] == 65536, write
' || fail "the JSON is wrong: $(cat "$WORK/log")"

note "log: two in one stack, above and below another filter"
start_server --filter=log --filter=blocksize --filter=log memory 10M \
	logfile="$WORK/log2" logfile="$WORK/log2" maxdata=4k
work
stop_server
has "$WORK/log2" ' Write offset=0x10000 count=0x20000 '
has "$WORK/log2" ' Write offset=0x10000 count=0x1000 '

note "log: a script, told of what a client does"
# shellcheck disable=SC2016 # the variables are the script's
start_server --filter=log memory 10M \
	logscript='[ "$act" != Write ] || echo "$type $offset $count $return" >>'"$WORK/told"
work
until_true 30 test -s "$WORK/told" || fail "the script was not told"
stop_server
equal "what the script was told" "$(cat "$WORK/told")" "LEAVE 0x10000 0x20000 0"

note "stats"
start_server --filter=stats memory 10M statsfile="$WORK/stats"
work
stop_server
has "$WORK/stats" '^read: [0-9]+ ops, 0 errors, '
has "$WORK/stats" '^write: [0-9]+ ops, 0 errors, .* 128\.00 KiB$'
has "$WORK/stats" 'latency in us: mean .* p50 .* p99 .* p999 .* max '

start_server --filter=stats memory 10M statsfile="$WORK/stats" stats-format=json
work
stop_server
python3 -c '
import json, sys
stats = json.load(open(sys.argv[1]))["operations"]
assert stats["write"]["bytes"] == 131072, stats
assert stats["zero"]["bytes"] == 65536 and stats["trim"]["bytes"] == 65536, stats
latency = stats["read"]["latency_ns"]
assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"], latency
' "$WORK/stats" || fail "the JSON is wrong: $(cat "$WORK/stats")"

note "count: all exports together, in one line"
mkdir "$DISK/disks"
truncate -s 1M "$DISK/disks/one" "$DISK/disks/two"
start_server --filter=count file dir="$DISK/disks"
for name in one two one; do
	qemu-io -f raw -c "write 0 64k" "nbd+unix:///$name?socket=$SOCK" >/dev/null
done
stop_server
equal "the lines of count" "$(grep -c '^count bytes: ' "$LOG")" 1
has "$LOG" '^count bytes: read [0-9]+, written 196608, '

note "count"
start_server --filter=count memory 10M
work
stop_server
has "$LOG" '^count bytes: read [0-9]+, written 131072, zeroed 65536, trimmed 65536$'

note "what is wrong is said"
refused statsfile "$WORK/missing" -- -U "$WORK/s" --filter=stats memory 1M statsfile="$WORK/missing/file"
refused log-format text json -- -U "$WORK/s" --filter=log memory 1M logfile="$WORK/log" log-format=xml
