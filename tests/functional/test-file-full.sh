#!/usr/bin/env bash
#
# The file system under a sparse image is full: the client gets ENOSPC, the server
# goes on, what had been acknowledged is there, and room that comes back is used.
# Once on a file system in memory, once on a real one.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_python_nbd
need_root "mount a small file system"

# fill_up URI
fill_up() {
	"$PYTHON" - "$1" <<-'EOT'
		import sys
		import nbd

		client = nbd.NBD()
		client.connect_uri(sys.argv[1])
		assert client.get_size() == 64 << 20

		# Until it is full. FUA, so that acknowledged means stored: a cached write
		# may find room at first that is not there when it counts.
		piece = 1 << 20
		stored = []
		for number in range(64):
		    data = bytes([number + 1]) * piece
		    try:
		        client.pwrite(data, number * piece, nbd.CMD_FLAG_FUA)
		    except nbd.Error as error:
		        assert error.errno == 'ENOSPC', error
		        break
		    stored.append(number)
		else:
		    raise AssertionError('64 MiB fitted in')
		assert stored, 'not even 1 MiB fitted in'
		print(f'    full after {len(stored)} MiB')

		# Reads go on, and hold what was acknowledged.
		for number in stored:
		    assert client.pread(piece, number * piece) == bytes([number + 1]) * piece
		# Zeroes that would need room are told the same; what is a hole stays one.
		try:
		    client.zero(32 << 20, 32 << 20, nbd.CMD_FLAG_NO_HOLE)
		except nbd.Error as error:
		    assert error.errno == 'ENOSPC', error
		else:
		    raise AssertionError('room was found for 32 MiB of zeroes')

		# Give room back, and it works again.
		client.trim(len(stored) // 2 * piece, 0)
		client.flush()
		client.pwrite(b'again!!!' * 512, 63 << 20, nbd.CMD_FLAG_FUA)
		assert client.pread(4096, 63 << 20) == b'again!!!' * 512
		client.shutdown()
	EOT
}

for options in "" cache=none; do
	[ -z "$options" ] || ours || continue
	note "in memory $options"
	mounted tmpfs none "$WORK/small" -o size=16M
	truncate -s 64M "$WORK/small/disk.img"
	# shellcheck disable=SC2086
	start_server file "$WORK/small/disk.img" $options
	fill_up "$URI"
	stop_server
	umount "$WORK/small"

	note "on ext4 $options"
	rm -f "$DISK/ext4.img"
	truncate -s 32M "$DISK/ext4.img"
	mke2fs -q -t ext4 -F "$DISK/ext4.img"
	mounted ext4 "$DISK/ext4.img" "$WORK/small" -o loop
	truncate -s 64M "$WORK/small/disk.img"
	# shellcheck disable=SC2086
	start_server file "$WORK/small/disk.img" $options
	fill_up "$URI"
	stop_server
	umount "$WORK/small"
	is_clean_ext4 "$DISK/ext4.img"
done
