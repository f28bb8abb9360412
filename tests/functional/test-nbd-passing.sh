#!/usr/bin/env bash
#
# nbd: what the remote can do is what clients are offered, and what they ask for is what
# the remote is asked for. The remote's log tells.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_python_nbd

# pass NAME CODE -- REMOTE...: CODE uses `client`, which is connected to a server of the
# remote REMOTE; what the remote was asked for is in $WORK/asked. FRONT are parameters of
# the server in front.
FRONT=()
pass() {
	local code=$2 remote
	note "$1"
	shift 3

	rm -f "$WORK/log"
	start_server "$@" "logfile=$WORK/log"
	remote=$PID
	start_server nbd "socket=$SOCK" "${FRONT[@]}"
	"$PYTHON" - "$URI" "$top/tests/conformance" <<CHECK || fail "the client"
import sys, nbd
sys.path.insert(0, sys.argv[2])
client = nbd.NBD()
client.add_meta_context("base:allocation")
client.connect_uri(sys.argv[1])

def refused(code):
    try:
        code()
    except nbd.Error:
        return True
    return False

$code
client.shutdown()
CHECK
	stop_server
	stop_server "$remote"
	sed -n 's/^.* connection=[1-9][0-9]* \(Read\|Write\|Flush\|Trim\|Zero\|Cache\|Extents\) /\1 /p' \
		"$WORK/log" | sed 's/ return=.*//' >"$WORK/asked"
}

# The remote was asked for just this, one a line.
asked() {
	printf '%s\n' "$@" | diff - "$WORK/asked" || fail "the remote was asked for something else"
}

fua='
assert client.can_fua()
client.pwrite(b"x" * 4096, 0, nbd.CMD_FLAG_FUA)
client.trim(4096, 0, nbd.CMD_FLAG_FUA)
client.zero(4096, 4096, nbd.CMD_FLAG_FUA)'

pass "a remote with FUA gets FUA" "$fua" -- --filter=log memory 8M
asked "Write offset=0x0 count=0x1000 fua=1" "Trim offset=0x0 count=0x1000 fua=1" \
	"Zero offset=0x1000 count=0x1000 trim=1 fua=1 fast=0"

pass "one with flushes only gets flushes" "$fua" -- --filter=mask --filter=log memory 8M mask=fua
asked "Write offset=0x0 count=0x1000 fua=0" Flush "Trim offset=0x0 count=0x1000 fua=0" Flush \
	"Zero offset=0x1000 count=0x1000 trim=1 fua=0 fast=0" Flush

pass "where there is neither, neither is offered" '
assert not client.can_fua() and not client.can_flush()
client.pwrite(b"x" * 4096, 0)' -- --filter=mask --filter=log memory 8M mask=fua,flush
asked "Write offset=0x0 count=0x1000 fua=0"

pass "all flags, and all commands" '
client.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
client.zero(4096, 4096, nbd.CMD_FLAG_FAST_ZERO)
client.cache(4096, 8192)
client.flush()' -- --filter=log memory 8M
grep -q "Zero offset=0x0 count=0x1000 trim=0 fua=0 fast=0" "$WORK/asked" || fail "NO_HOLE"
grep -q "Zero offset=0x1000 count=0x1000 trim=1 fua=0 fast=1" "$WORK/asked" || fail "FAST_ZERO"
grep -q "Cache offset=0x2000 count=0x1000" "$WORK/asked" || fail "CACHE"
grep -q "Flush" "$WORK/asked" || fail "FLUSH"

pass "what the remote has not is not offered" '
assert not client.can_trim() and not client.can_cache() and not client.can_fast_zero()
client.pwrite(b"x" * 8192, 0)
client.zero(4096, 0)
assert client.pread(8192, 0) == bytes(4096) + b"x" * 4096' \
	-- --filter=mask --filter=log memory 8M mask=trim,cache,zero
grep -q "^Zero" "$WORK/asked" && fail "a remote without zeroes was asked for them"

pass "read-only, with the sizes of blocks" '
assert client.is_read_only() and client.is_rotational()
assert client.get_block_size(nbd.SIZE_MINIMUM) == 512
assert client.get_block_size(nbd.SIZE_PREFERRED) == 65536
assert client.get_size() == 8 << 20' \
	-- -r --filter=blocksize-policy --filter=rotational --filter=log memory 8M \
	blocksize-minimum=512 blocksize-preferred=64K

pass "holes stay holes, and the map is the remote's" '
client.pwrite(b"x" * 65536, 1 << 20)
extents = []
client.block_status(8 << 20, 0, lambda *args: extents.extend(args[2]))
assert extents == [1 << 20, 3, 65536, 0, (7 << 20) - 65536, 3], extents
chunks = []
client.pread_structured(4 << 20, 0, lambda data, offset, kind, error: chunks.append(
    (offset, len(data), kind)))
data = sum(size for _, size, kind in chunks if kind == nbd.READ_DATA)
assert data == 65536, chunks' -- --filter=log memory 8M

pass "lengths of 64 bits" '
import harness, nbdwire
from nbdwire import Client, Cmd, Mode
with Client.unix(sys.argv[1].split("=")[1]) as wide:
    wide.negotiate(mode=Mode.EXTENDED, contexts=["base:allocation"])
    assert wide.call(Cmd.TRIM, 0, 1 << 50).ok
    assert wide.call(Cmd.WRITE_ZEROES, 4096, 1 << 40).ok
    assert [tuple(e) for e in wide.block_status(0, 1 << 60)] == [(1 << 60, 3)]' \
	-- --filter=log null 4E
grep -q "Trim offset=0x0 count=0x4000000000000 " "$WORK/asked" || fail "the trim was cut"

pass "and of 32, where the remote has no more" '
import harness, nbdwire
from nbdwire import Client, Cmd, Mode
with Client.unix(sys.argv[1].split("=")[1]) as wide:
    wide.negotiate(mode=Mode.EXTENDED, contexts=["base:allocation"])
    assert wide.call(Cmd.TRIM, 4096, 5 << 30).ok' -- --no-sr --filter=log null 1T
equal "how many trims the remote had" "$(grep -c '^Trim' "$WORK/asked")" 5
equal "where the last began" "$(sed -n 's/^Trim offset=\(0x[0-9a-f]*\).*/\1/p' "$WORK/asked" | tail -n 1)" 0x100001000

note "the size changes with the remote"
truncate -s 1M "$WORK/grows"
start_server file "$WORK/grows"
remote=$PID
start_server nbd "socket=$SOCK"
"$PYTHON" - "$SOCK" "$top/tests/conformance" <<'CHECK' || fail "resizing"
import sys
sys.path.insert(0, sys.argv[2])
from nbdwire import Client, Cmd
with Client.unix(sys.argv[1]) as client:
    client.negotiate()
    assert client.call(Cmd.RESIZE, 3 << 20).ok
    client.write((3 << 20) - 512, b"x" * 512)
with Client.unix(sys.argv[1]) as client:
    client.negotiate()
    assert client.export.size == 3 << 20, client.export.size
CHECK
equal "the size of the remote's file" "$(stat -c %s "$WORK/grows")" 3145728
stop_server
stop_server "$remote"

note "each client with a connection of its own, or all with one"
for shared in true false; do
	start_server -t 1 --filter=log memory 8M "logfile=$WORK/shared.$shared"
	remote=$PID
	start_server -t 1 nbd "socket=$SOCK" shared=$shared
	"$PYTHON" - "$URI" <<'CHECK' || fail "the clients"
import sys, nbd
clients = [nbd.NBD() for _ in range(3)]
for number, client in enumerate(clients):
    client.connect_uri(sys.argv[1])
    client.pwrite(bytes([number]) * 512, number * 512)
for number, client in enumerate(clients):
    assert clients[0].pread(512, number * 512) == bytes([number]) * 512
for client in clients:
    client.shutdown()
CHECK
	stop_server
	stop_server "$remote"
done
equal "connections when shared" "$(grep -c ' Connect ' "$WORK/shared.true")" 1
equal "connections when not" "$(grep -c ' Connect ' "$WORK/shared.false")" 4

note "several connections, if the remote says that is safe"
for mask in none multi-conn; do
	filter=()
	[ "$mask" = none ] || filter=(--filter=mask)
	words=()
	[ "$mask" = none ] || words=("mask=$mask")
	# It takes its time, so that requests are under way together.
	start_server -t 1 "${filter[@]}" --filter=log --filter=delay memory 8M "${words[@]}" \
		rdelay=100ms "logfile=$WORK/many.$mask"
	remote=$PID
	start_server -t 1 nbd "socket=$SOCK" connections=4
	"$PYTHON" - "$URI" <<'CHECK' || fail "the client"
import sys, nbd
client = nbd.NBD()
client.connect_uri(sys.argv[1])
buffers = [(client.aio_pread(nbd.Buffer(65536), i * 65536)) for i in range(32)]
while client.aio_in_flight():
    client.poll(-1)
assert all(client.aio_command_completed(cookie) for cookie in buffers)
client.shutdown()
CHECK
	stop_server
	stop_server "$remote"
done
equal "connections with multi-conn" "$(grep -c ' Connect ' "$WORK/many.none")" 4
equal "connections without" "$(grep -c ' Connect ' "$WORK/many.multi-conn")" 1
