#!/usr/bin/env bash
#
# The filters that take something away, as real clients see them: nbdinfo for what
# is offered, libnbd for what happens, nbdcopy and qemu-io for whether clients get
# along.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-io
need_python_nbd

# client CODE: `client` is connected to the server; fails(errno, function, ...) is
# for what should not work, also if libnbd could tell without asking.
client() {
	timeout 120 "$PYTHON" -c "
import os, sys, time, nbd
client = nbd.NBD()
client.add_meta_context('base:allocation')
client.set_strict_mode(0)
client.connect_uri(sys.argv[1])
size = client.get_size()

def fails(errno, function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        assert error.errno == errno, error
    else:
        raise AssertionError(f'{function} went well')

$1
client.shutdown()" "$URI"
}

# offers KEY VALUE: what nbdinfo says.
offers() {
	local said

	said=$(nbdinfo --json "$URI" | python3 -c '
import json, sys
print(json.dumps(json.load(sys.stdin)["exports"][0].get(sys.argv[1])))' "$1")
	equal "$1" "$said" "$2"
}

gets_along() {
	random_file "$WORK/data" 1000000
	truncate -s 1M "$WORK/data"
	nbdcopy "$WORK/data" "$URI"
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$WORK/data" "$WORK/copy"
	qemu-io -f raw -c 'write -P 1 0 64k' -c 'write -z 4k 8k' -c 'discard 32k 4k' -c flush \
		-c 'read -P 1 0 4k' -c 'read -P 0 4k 8k' -c 'read -P 1 12k 20k' "$URI" \
		>"$WORK/qemu-io" || fail "qemu-io does not get along: $(cat "$WORK/qemu-io")"
	! grep -i 'failed\|error' "$WORK/qemu-io" || fail "qemu-io does not get along"
}

note "readonly: always"
start_server --filter=readonly memory 1M
offers is_read_only true
client 'fails("EPERM", client.pwrite, b"x", 0)
assert client.pread(1, 0) == bytes(1)'
stop_server

note "readonly: while the file exists, for a client that stays"
cd "$WORK"
start_server --filter=readonly memory 1M readonly-file=switch
offers is_read_only false
client '
def until(works):
    for i in range(500):
        try:
            client.pwrite(b"x", 0)
            worked = True
        except nbd.Error as error:
            assert error.errno == "EPERM", error
            worked = False
        if worked == works:
            return
        time.sleep(0.02)
    raise AssertionError("the switch has no effect")

until(True)
open("switch", "w").close()
until(False)
fails("EPERM", client.zero, 512, 0)
fails("EPERM", client.trim, 512, 0)
assert client.pread(1, 0) == b"x"
os.unlink("switch")
until(True)'
gets_along
stop_server

note "protect"
random_file "$WORK/disk" 65536
start_server --filter=protect file "$WORK/disk" protect=0-0x1bd protect=60000-
client '
before = client.pread(size, 0)
fails("EPERM", client.pwrite, bytes(446), 0)
fails("EPERM", client.pwrite, bytes(512), 0)
fails("EPERM", client.zero, 512, 0)
fails("EPERM", client.trim, 10, 65000)
fails("EPERM", client.pwrite, bytes(size), 0)
assert client.pread(size, 0) == before
client.pwrite(bytes(66), 446)
client.pwrite(before[:446] + bytes(66), 0)
client.zero(60000 - 512, 512)
assert client.pread(size, 0) == before[:446] + bytes(60000 - 446) + before[60000:]'
stop_server
refused protect "protect=9-1" "write 1-9" -- --filter=protect memory 1M protect=9-1
refused protect "missing" -- --filter=protect memory 1M

note "nozero"
start_server --filter=nozero memory 1M
offers can_zero false
offers can_fast_zero false
client 'fails("EINVAL", client.zero, 512, 0)'
gets_along
stop_server
start_server --filter=nozero memory 1M zeromode=emulate
offers can_zero true
offers can_fast_zero true
client '
client.zero(size, 0, nbd.CMD_FLAG_FUA)
fails("ENOTSUP", client.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO)'
nbdinfo --map --totals "$URI" | grep -q '1048576 100.0% .* data' || fail "zeroes became a hole"
gets_along
stop_server

note "fua"
start_server --filter=fua memory 1M
offers can_fua false
offers can_flush true
client 'fails("EINVAL", client.pwrite, b"x", 0, nbd.CMD_FLAG_FUA)'
gets_along
stop_server
for mode in emulate native force pass discard; do
	start_server --filter=fua --filter=fua file "$WORK/disk" fuamode=$mode fuamode=pass
	offers can_fua true
	offers can_flush true
	client '
client.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA)
client.zero(512, 512, nbd.CMD_FLAG_FUA)
client.trim(512, 1024, nbd.CMD_FLAG_FUA)
client.flush()'
	stop_server
done
refused fua "fuamode=force" "FUA" -- --filter=fua --filter=mask memory 1M fuamode=force mask=fua

note "noextents and nocache"
start_server --filter=noextents --filter=nocache memory 1M
nbdinfo --map --totals "$URI" | grep -q '1048576 100.0% .* data' || fail "there are holes"
offers can_cache false
gets_along
stop_server
for mode in emulate nop; do
	start_server --filter=nocache memory 1M cachemode=$mode
	offers can_cache true
	client 'client.cache(size, 0)'
	stop_server
done

note "rotational"
start_server --filter=rotational memory 1M
offers is_rotational true
stop_server
start_server --filter=rotational --filter=rotational memory 1M rotational=false rotational=true
offers is_rotational false
stop_server

note "multi-conn"
start_server --filter=multi-conn memory 1M multi-conn-mode=disable
offers can_multi_conn false
gets_along
stop_server
start_server --filter=multi-conn --filter=mask memory 1M mask=multi-conn
offers can_multi_conn true
gets_along
client '
other = nbd.NBD()
other.connect_uri(sys.argv[1])
for i in range(10):
    client.pwrite(bytes([i]), 0)
    other.flush()
    client.flush()
    assert other.pread(1, 0) == bytes([i])
other.shutdown()'
stop_server

note "noparallel"
for mode in requests all-requests; do
	start_server -t 4 --filter=noparallel --filter=noparallel memory 1M \
		serialize=$mode serialize=requests
	offers can_multi_conn true
	gets_along
	client '
reads = [client.aio_pread(nbd.Buffer(65536), i * 65536) for i in range(16)]
while reads:
    client.poll(-1)
    while reads and (done := client.aio_peek_command_completed()) > 0:
        assert done == reads.pop(0), "out of order"
        client.aio_command_completed(done)'
	stop_server
done
start_server --filter=noparallel memory 1M serialize=connections
client '
other = nbd.NBD()
assert not client.can_multi_conn()
try:
    other.connect_uri(sys.argv[1])
except nbd.Error as error:
    assert "policy" in str(error), error
else:
    raise AssertionError("a second client was let in")
client.pwrite(b"x", 0)'
grep -q 'another client is connected' "$LOG" || fail "the log does not say why"
until_true 10 nbdinfo --size "$URI" >/dev/null || fail "nobody is let in any more"
stop_server

note "extentlist"
printf '0 64K\n512K 64K zero\n' >"$WORK/map"
start_server -r --filter=extentlist memory 1M extentlist="$WORK/map"
nbdinfo --map "$URI" | awk '{ print $1, $2, $3 }' >"$WORK/said"
printf '0 65536 0\n65536 458752 3\n524288 65536 2\n589824 458752 3\n' >"$WORK/expected"
same_bytes "$WORK/said" "$WORK/expected"
nbdcopy "$URI" "$WORK/copy"
stop_server
printf '0 2M\n' >"$WORK/map"
refused extentlist "line 1 ends at 2097152" "beyond the end" -- --filter=extentlist memory 1M extentlist="$WORK/map"
printf '0 2K\n1K 1K\n' >"$WORK/map"
refused extentlist "lines 1 and 2 overlap" -- --filter=extentlist memory 1M extentlist="$WORK/map"

note "mask"
start_server --filter=mask memory 1M \
	mask=flush,fua,trim,zero,cache,extents mask=multi-conn,resize
for what in flush fua trim zero fast_zero cache multi_conn; do
	offers can_$what false
done
client '
fails("EINVAL", client.flush)
fails("EINVAL", client.trim, 512, 0)
fails("EINVAL", client.zero, 512, 0)'
stop_server
start_server --filter=mask memory 1M mask=fast-zero
offers can_zero true
offers can_fast_zero false
gets_along
stop_server
refused mask "did you mean flush" "multi-conn" -- --filter=mask memory 1M mask=flus
