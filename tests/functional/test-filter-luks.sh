#!/usr/bin/env bash
#
# --filter=luks: containers that cryptsetup and qemu-img make are read back byte for byte;
# what is written is read by them; damaged, cut off and lying ones are refused; all of it
# within the sandbox, also when disks are opened late.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
"$NBDRING" --list >"$WORK/list"
grep -q '^ *luks ' "$WORK/list" || skip "this server was built without luks"
need nbdinfo nbdcopy qemu-img cryptsetup
need_python_nbd
cd "$DISK"

printf secret >key
printf 'secret\nanother line\n' >lines
random_file disk.img $((4 << 20))
random_file other.img $((4 << 20))
cheap=(-q --batch-mode --key-file key --pbkdf pbkdf2 --pbkdf-force-iterations 1000)

# What libraries find out late must be found in the sandbox.
sandbox=(--sandbox=off)
"$NBDRING" --dump-config >"$WORK/config"
if grep -qx sandbox_seccomp=yes "$WORK/config" && ! grep -qx landlock_abi=0 "$WORK/config"; then
	sandbox=(--sandbox=on)
fi

qemu_luks=(--object "secret,id=s,data=secret" --image-opts)

# made_by_qemu FILE MODE VECTOR...: LUKS1 with disk.img in it. It measures the machine each
# time, which is what takes longest here.
made_by_qemu() {
	local file=$1 mode=$2 vector=$3

	qemu-img create -q -f luks --object secret,id=s,data=secret -o \
		"key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=$mode,ivgen-alg=$vector" "$file" 4M
	qemu-img convert -q -n "${qemu_luks[@]}" --target-image-opts driver=raw,file.filename=disk.img \
		"driver=luks,key-secret=s,file.filename=$file"
}

# made_by_cryptsetup FILE SECTOR [OPTION...]: LUKS2 with disk.img in it, and noise behind it.
made_by_cryptsetup() {
	local file=$1 sector=$2
	shift 2

	cp disk.img "$file"
	truncate -s +2M "$file"
	cryptsetup reencrypt "${cheap[@]}" --encrypt --type luks2 --sector-size "$sector" \
		--luks2-metadata-size 16k --luks2-keyslots-size 640k --reduce-device-size 2M "$@" "$file"
}

# opened FILE [ARGUMENT...]: it begins with disk.img.
opened() {
	local file=$1
	shift

	note "reads $file"
	start_server "${sandbox[@]}" -r --filter=luks file "$file" "$@"
	nbdcopy "$URI" back
	cmp -n $((4 << 20)) back disk.img || fail "$file reads as something else"
	stop_server
}

# --- What others made -----------------------------------------------------------

made_by_qemu xts512.luks xts plain64
made_by_qemu essiv.luks cbc essiv,ivgen-hash-alg=sha256
mkdir many
cp xts512.luks many/a
made_by_cryptsetup two.luks 512
made_by_cryptsetup large.luks 4096
cp large.luks many/b
made_by_cryptsetup xts256.luks 1024 --key-size 256
made_by_cryptsetup cbc.luks 512 --cipher aes-cbc-plain64 --key-size 128
made_by_cryptsetup essiv2.luks 512 --cipher aes-cbc-essiv:sha256 --key-size 256

for file in *.luks; do
	opened "$file" luks-passphrase-file=key
done

# Where the passphrase comes from.
opened two.luks passphrase=secret
opened two.luks passphrase=+lines
exec 7<lines
opened two.luks passphrase=-7
exec 7<&-
refused "does not fit" "end of a line" -- --filter=luks file two.luks luks-passphrase-file=lines
refused "no key slot opens" -- --filter=luks file two.luks passphrase=Secret
refused passphrase= luks-passphrase-file= -- --filter=luks file two.luks

# Several slots, with Argon2; only one is tried, or any.
cryptsetup luksAddKey -q --key-file key --pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 1024 \
	--pbkdf-parallel 2 --new-keyfile-size 4 --key-slot 5 two.luks <(printf more) ||
	fail "cryptsetup luksAddKey"
opened two.luks passphrase=more
opened two.luks passphrase=more luks-key-slot=5
refused "slot 0 does not open" -- --filter=luks file two.luks passphrase=more luks-key-slot=0
refused "slot 1 is not in use" -- --filter=luks file two.luks passphrase=more luks-key-slot=1
refused luks-max-kdf-memory -- --filter=luks file two.luks passphrase=more luks-max-kdf-memory=32k

# --- What others read -----------------------------------------------------------

note "what is written, qemu-img reads"
for file in xts512.luks essiv.luks; do
	start_server "${sandbox[@]}" --filter=luks file $file luks-passphrase-file=key
	nbdcopy other.img "$URI"
	stop_server
	qemu-img convert -O raw "${qemu_luks[@]}" "driver=luks,key-secret=s,file.filename=$file" back
	same_bytes other.img back
done

note "what is written, cryptsetup decrypts"
for file in two.luks large.luks; do
	start_server "${sandbox[@]}" --filter=luks file $file luks-passphrase-file=key
	nbdcopy other.img "$URI"
	"$PYTHON" - "$URI" <<-'EOT'
		# Bytes in the middle of sectors, by a client that knows nothing of these.
		import nbd, sys

		h = nbd.NBD()
		h.set_strict_mode(0)
		h.set_request_block_size(False)
		h.connect_uri(sys.argv[1])
		before = h.pread(1 << 20, 0)
		h.pwrite(b'x' * 10000, 5001)
		h.zero(5000, 30001)
		expected = before[:5001] + b'x' * 10000 + before[15001:30001] + bytes(5000) + before[35001:]
		assert h.pread(1 << 20, 0) == expected
		assert not h.can_trim()
		h.flush()
		open('changed', 'wb').write(expected)
	EOT
	stop_server
	rm -f header
	cryptsetup reencrypt -q --batch-mode --decrypt --force-offline-reencrypt --header header \
		--key-file key $file
	cmp -n $((1 << 20)) $file changed || fail "cryptsetup reads something else"
	cmp -i $((1 << 20)) -n $((3 << 20)) $file other.img || fail "cryptsetup reads something else"
done

# --- A header apart -------------------------------------------------------------

for type in luks1 luks2; do
	note "a header apart: $type"
	truncate -s 4M apart.img
	rm -f apart.header
	cryptsetup luksFormat "${cheap[@]}" --type $type --header apart.header apart.img
	start_server "${sandbox[@]}" --filter=luks file apart.img luks-header=apart.header passphrase=secret
	equal size "$(nbdinfo --size "$URI")" $((4 << 20))
	nbdcopy disk.img "$URI"
	stop_server
	start_server "${sandbox[@]}" --filter=luks file apart.img luks-header=apart.header passphrase=secret
	nbdcopy "$URI" back
	same_bytes disk.img back
	stop_server
	refused luks-header= -- --filter=luks file apart.header passphrase=secret
done

# --- Disks that are opened late -------------------------------------------------

note "one of several, when its client comes"
cp disk.img many/c
start_server "${sandbox[@]}" -v --filter=luks file dir=many luks-passphrase-file=key
for name in a b; do
	nbdcopy "nbd+unix:///$name?socket=$SOCK" back
	cmp -n $((4 << 20)) back disk.img || fail "$name reads as something else"
done
fails nbdinfo "nbd+unix:///c?socket=$SOCK"
stop_server

# --- Several clients at once ------------------------------------------------------

note "several clients"
start_server "${sandbox[@]}" --threads=2 --filter=luks file xts256.luks luks-passphrase-file=key luks-discard=yes
nbdcopy --connections=4 --requests=16 other.img "$URI"
nbdcopy --connections=4 --requests=16 "$URI" back
cmp -n $((4 << 20)) other.img back || fail "what was written is not read"
nbdinfo --can trim "$URI" || fail "luks-discard=yes does not offer to trim"
stop_server

# --- What is cut off ----------------------------------------------------------------

for size in 0 511 4096 20000 100000 1048576; do
	cp essiv2.luks cut
	truncate -s $size cut
	if [ $size -eq 1048576 ]; then
		start_server --filter=luks file cut luks-passphrase-file=key
		equal size "$(nbdinfo --size "$URI")" 0
		stop_server
	else
		word="no LUKS container"
		[ $size -ne 4096 ] || word="header is damaged"
		[ $size -le 4096 ] || word="is cut off"
		refused "$word" -- --filter=luks file cut luks-passphrase-file=key
	fi
done
