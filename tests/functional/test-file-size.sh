#!/usr/bin/env bash
#
# A file whose size changes while it is served: new connections see the new size,
# old ones go on, and one that asks for what is gone gets an error or zeroes, never
# the end of the server.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd

for options in "" cache=none; do
	[ -z "$options" ] || ours || continue
	note "grown $options"
	random_file "$DISK/disk.img" 1048576
	# shellcheck disable=SC2086
	start_server file "$DISK/disk.img" $options
	equal size "$(nbdinfo --size "$URI")" 1048576
	truncate -s 3M "$DISK/disk.img"
	equal "the size after it grew" "$(nbdinfo --size "$URI")" 3145728

	note "old and new connections at once $options"
	"$PYTHON" - "$URI" "$DISK/disk.img" <<-'EOT'
		import os, sys
		import nbd

		uri, path = sys.argv[1:]

		def connect():
		    client = nbd.NBD()
		    client.connect_uri(uri)
		    return client

		old = connect()
		os.truncate(path, 8 << 20)
		new = connect()
		assert old.get_size() == 3 << 20
		assert new.get_size() == 8 << 20
		# What the new one writes, the old one reads, as far as it reaches.
		new.pwrite(b'n' * 65536, 2 << 20)
		new.pwrite(b'n' * 65536, 7 << 20)
		assert old.pread(65536, 2 << 20) == b'n' * 65536
		old.pwrite(b'o' * 65536, 0)
		assert new.pread(65536, 0) == b'o' * 65536

		os.truncate(path, 1 << 20)
		for offset in (0, (1 << 20) - 4096, (1 << 20) - 2048, 2 << 20, 7 << 20):
		    try:
		        data = new.pread(4096, offset)
		    except nbd.Error as error:
		        assert offset + 4096 > 1 << 20, error
		        assert error.errno in ('EIO', 'EINVAL', 'ENOSPC'), error
		    else:
		        there = max(0, min(4096, (1 << 20) - offset))
		        assert not any(data[there:]), 'bytes of no file'
		assert new.pread(65536, 0) == b'o' * 65536
		smallest = connect()
		assert smallest.get_size() == 1 << 20
		for client in (old, new, smallest):
		    client.shutdown()
	EOT
	equal "the size after it shrank" "$(nbdinfo --size "$URI")" 1048576
	stop_server
	rm "$DISK/disk.img"
done
