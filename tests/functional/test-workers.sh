#!/usr/bin/env bash
#
# -t: that many workers serve, each with connections of its own, and what one
# connection has flushed all others see.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdcopy
need_python_nbd

random_file "$DISK/disk.img" 16777216

threads() {
	find "/proc/$PID/task" -mindepth 1 -maxdepth 1 | wc -l
}

for workers in 1 2 5; do
	note "$workers workers"
	start_server -t "$workers" memory 16M
	! ours || [ "$(threads)" -ge "$workers" ] || fail "there are $(threads) threads"
	nbdcopy --connections=8 --requests=64 --flush "$DISK/disk.img" "$URI"
	nbdcopy --connections=8 --requests=64 "$URI" "$DISK/copy"
	same_bytes "$DISK/disk.img" "$DISK/copy"

	"$PYTHON" - "$URI" <<-'EOT'
		import sys
		import nbd

		clients = []
		for _ in range(24):
		    client = nbd.NBD()
		    client.connect_uri(sys.argv[1])
		    assert client.can_multi_conn()
		    clients.append(client)
		for round_ in range(8):
		    for number, writer in enumerate(clients):
		        data = bytes([number + 1, round_]) * 2048
		        writer.pwrite(data, number * 4096)
		    for number, reader in enumerate(clients):
		        for other in (number, (number + 7) % 24, (number + 13) % 24):
		            assert reader.pread(4096, other * 4096) == bytes([other + 1, round_]) * 2048
		for client in clients:
		    client.shutdown()
	EOT
	stop_server
done
