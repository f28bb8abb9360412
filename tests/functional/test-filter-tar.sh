#!/usr/bin/env bash
#
# --filter=tar: members of archives as real tools write them, archives that are cut off
# or lie, and names that are not there.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy tar bsdtar
need_python_nbd

# served ARCHIVE ENTRY FILE [FILTER...]: the member is FILE, byte for byte.
served() {
	local archive=$1 entry=$2 file=$3
	shift 3

	note "$entry in ${archive##*/}"
	start_server --filter=tar "$@" file "$archive" "tar-entry=$entry"
	equal size "$(nbdinfo --size "$URI")" "$(stat -c %s "$file")"
	nbdcopy "$URI" "$WORK/copy"
	same_bytes "$file" "$WORK/copy"
	stop_server
}

cd "$DISK"
random_file disk.img 1000000
random_file other.img 70001
: >empty
sparse_file holes.img
long=$(printf 'folder-%.0s' {1..12})/$(printf 'name-%.0s' {1..30})disk
mkdir -p "${long%/*}"
cp disk.img "$long"
ln -s disk.img link.img
members=(other.img disk.img "$long" empty link.img)

for format in v7 oldgnu gnu ustar posix; do
	tar -cf "$format.tar" --format="$format" other.img disk.img empty link.img
	served "$DISK/$format.tar" disk.img disk.img
	served "$DISK/$format.tar" empty empty
done
for format in oldgnu gnu posix; do
	tar -cf "long-$format.tar" --format="$format" "${members[@]}"
	served "$DISK/long-$format.tar" "$long" disk.img
	served "$DISK/long-$format.tar" './*/*name-disk' disk.img
done
for format in gnutar pax; do
	bsdtar -cf "bsd-$format.tar" --format="$format" "${members[@]}"
	served "$DISK/bsd-$format.tar" "./$long" disk.img
	served "$DISK/bsd-$format.tar" disk.img disk.img
done

note "sparse members"
# A map that does not fit into a header: its ranges are in blocks of their own.
truncate -s 64M many.img
for i in $(seq 0 2 100); do
	dd if=other.img of=many.img bs=4096 count=1 seek=$((i * 97)) conv=notrunc status=none
done
sparse() {
	served "$1" holes.img holes.img
	served "$1" many.img many.img
	served "$1" many.img many.img --filter=noextents
	start_server --filter=tar file "$1" tar-entry=holes.img
	nbdinfo --map --totals "$URI" >"$WORK/totals"
	grep -qE '^ *16[0-9]{6} .*hole,zero' "$WORK/totals" ||
		fail "there are no holes: $(cat "$WORK/totals")"
	nbdinfo --is readonly "$URI" || fail "it can be written"
	"$PYTHON" - "$URI" <<-'EOT'
		import nbd, sys

		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		assert h.pread(20, 65526) == h.pread(10, 65526) + bytes(10)
	EOT
	stop_server
}
tar -cSf sparse-old.tar --format=oldgnu holes.img many.img
sparse "$DISK/sparse-old.tar"
for version in 0.0 0.1 1.0; do
	tar -cSf "sparse-$version.tar" --format=posix --sparse-version="$version" holes.img many.img
	sparse "$DISK/sparse-$version.tar"
done

note "written, and nothing else is"
cp gnu.tar expected.tar
random_file new.img 1000000
tar -cf new.tar --format=gnu other.img
start_server --filter=tar file "$DISK/gnu.tar" tar-entry=disk.img
nbdcopy --flush new.img "$URI"
stop_server
mkdir unpacked
tar -xf gnu.tar -C unpacked
same_bytes unpacked/disk.img new.img
same_bytes unpacked/other.img other.img

note "names"
refused "no disk" other.img disk.img -- -U "$WORK/s" --filter=tar file gnu.tar tar-entry=disk
refused "more than one" -- -U "$WORK/s" --filter=tar file gnu.tar 'tar-entry=*.img'
refused "symbolic link" -- -U "$WORK/s" --filter=tar file gnu.tar tar-entry=link.img
refused "tar-limit" -- -U "$WORK/s" --filter=tar file gnu.tar tar-entry=disk.img tar-limit=70000
refused "tar-entry" -- -U "$WORK/s" --filter=tar file gnu.tar

note "damage"
head -c 600000 gnu.tar >cut.tar
refused "cut off" -- -U "$WORK/s" --filter=tar file cut.tar tar-entry=disk.img
served "$DISK/cut.tar" other.img other.img
refused "no tar archive" -- -U "$WORK/s" --filter=tar file disk.img tar-entry=disk.img
refused "no file" -- -U "$WORK/s" --filter=tar memory 1M tar-entry=disk.img
# The header of the second member, behind 70001 bytes of the first.
printf 'x' | dd of=expected.tar bs=1 seek=$((512 + 70144)) conv=notrunc status=none
refused "damaged" "byte 70656" -- -U "$WORK/s" --filter=tar file expected.tar tar-entry=disk.img
