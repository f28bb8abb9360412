#!/usr/bin/env bash
#
# file cache=writeback|none|dontcache: the same bytes whatever the mode and however
# the requests lie. cache=none needs aligned requests below; clients need not know.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_python_nbd
need nbdcopy
ours || skip "nbdkit names these modes differently"

# Random requests against a copy of the disk in memory.
compare_with_model() {
	"$PYTHON" - "$1" "$2" <<-'EOT'
		import random, sys
		import nbd

		uri, seed = sys.argv[1], int(sys.argv[2])
		chance = random.Random(seed)
		print('    seed', seed)
		clients = []
		for _ in range(2):
		    client = nbd.NBD()
		    # Who asks for block sizes has to keep to them; who is only told need not.
		    client.set_request_block_size(False)
		    client.set_strict_mode(client.get_strict_mode() & ~nbd.STRICT_ALIGN)
		    client.connect_uri(uri)
		    clients.append(client)
		size = clients[0].get_size()
		model = bytearray(clients[0].pread(size, 0))

		for _ in range(1500):
		    client = chance.choice(clients)
		    length = chance.choice((1, 511, 512, 513, 4095, 4096, 4097, 65536, 100001))
		    offset = chance.randrange(size - length)
		    if chance.random() < 0.3:
		        offset = offset // 4096 * 4096
		    if chance.random() < 0.05:
		        offset = size - length
		    end = offset + length
		    fua = chance.choice((0, 0, 0, nbd.CMD_FLAG_FUA))
		    kind = chance.randrange(10)
		    if kind < 4:
		        data = chance.randbytes(length)
		        client.pwrite(data, offset, fua)
		        model[offset:end] = data
		    elif kind < 6:
		        client.zero(length, offset, fua | chance.choice((0, nbd.CMD_FLAG_NO_HOLE)))
		        model[offset:end] = bytes(length)
		    elif kind < 7:
		        client.trim(length, offset, fua)
		        # Only that range may have changed, and only into zeroes or not at all.
		        now = client.pread(length, offset)
		        for was, is_ in zip(model[offset:end], now):
		            assert is_ in (was, 0)
		        model[offset:end] = now
		    elif kind < 9:
		        assert client.pread(length, offset) == model[offset:end], (offset, length)
		    else:
		        client.flush()
		assert clients[0].pread(size, 0) == model
		clients[0].flush()
		for client in clients:
		    client.shutdown()
	EOT
}

modes=(writeback none)
truncate -s 1M "$DISK/disk.img"
if can_dontcache "$DISK/disk.img"; then
	modes+=(dontcache)
else
	refused dontcache writeback none -- -U "$WORK/s" file "$DISK/disk.img" cache=dontcache
fi

for mode in "${modes[@]}"; do
	# The last one ends in the middle of a block.
	for size in 4M 2097152 2097665; do
		note "cache=$mode, a disk of $size"
		rm -f "$DISK/disk.img"
		truncate -s "$size" "$DISK/disk.img"
		start_server file "$DISK/disk.img" cache="$mode"
		compare_with_model "$URI" $((RANDOM * 32768 + RANDOM))
		nbdcopy "$URI" "$DISK/copy"
		stop_server
		same_bytes "$DISK/disk.img" "$DISK/copy"
		rm "$DISK/copy"
	done
done
