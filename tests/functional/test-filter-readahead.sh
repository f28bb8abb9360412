#!/usr/bin/env bash
#
# --filter=readahead: clients of every kind read what is there, and what they write; a
# reader in order is answered from few large reads; the server ends with pieces on their
# way.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy qemu-io qemu-img
need_python_nbd

random_file "$DISK/disk" 10000384

for delay in 0 2ms; do
	note "the bytes are what they are, after $delay"
	start_server --filter=readahead --filter=delay file "$DISK/disk" rdelay=$delay
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	nbdcopy --requests=1 --request-size=32768 "$URI" "$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	qemu-img dd -f raw -O raw bs=65536 if="$URI" of="$WORK/copy"
	same_bytes "$DISK/disk" "$WORK/copy"
	nbdcopy "$URI" - | cmp - "$DISK/disk"
	stop_server
done

note "few large reads, whoever asks for many small ones"
start_server --filter=readahead --filter=log file "$DISK/disk" logfile="$WORK/requests"
qemu-img dd -f raw -O raw bs=4096 if="$URI" of="$WORK/copy"
same_bytes "$DISK/disk" "$WORK/copy"
stop_server
reads=$(grep -cE ' Read ' "$WORK/requests")
[ "$reads" -lt 200 ] || fail "$reads reads reached the file"

note "one client reads what another one writes"
start_server --filter=readahead file "$DISK/disk"
"$PYTHON" - "$URI" "$DISK/disk" <<'EOT'
import random, sys, nbd
disk = bytearray(open(sys.argv[2], 'rb').read())
clients = [nbd.NBD() for _ in range(3)]
for c in clients:
    c.connect_uri(sys.argv[1])
random.seed(1)
for start in range(0, 9000000, 1000000):
    for at in range(start, start + 800000, 20000):
        writer = random.choice(clients)
        where = at + random.randrange(0, 200000)
        data = bytes([random.randrange(256)]) * 5000
        writer.pwrite(data, where)
        disk[where:where + 5000] = data
        for reader in clients:
            assert reader.pread(20000, at) == disk[at:at + 20000], at
for c in clients:
    c.shutdown()
EOT
stop_server

note "a slow disk does not keep the server"
start_server --filter=readahead --filter=delay file "$DISK/disk" rdelay=300ms
"$PYTHON" - "$URI" <<'EOT'
import sys, nbd
c = nbd.NBD()
c.connect_uri(sys.argv[1])
for at in range(0, 16384, 4096):
    c.pread(4096, at)
EOT
stop_server
