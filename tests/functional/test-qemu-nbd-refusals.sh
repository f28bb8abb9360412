#!/usr/bin/env bash
#
# What is refused in the place of qemu-nbd: exit status 1 and a message on standard error
# that begins with the program's name, and holds what QEMU's qemu-nbd says where scripts
# may look for it.

# shellcheck source=tests/functional/qemu-nbd.sh
. "$(dirname "$0")/qemu-nbd.sh"

truncate -s 1M "$DISK/disk"
printf 'QFI\373\0\0\0\3' >"$DISK/qcow2"
truncate -s 1M "$DISK/qcow2"
sock=$WORK/refused.sock

# says MESSAGE ARGUMENT...: refused, and MESSAGE is in what it says.
says() {
	local message=$1 status=0
	shift

	timeout 60 "$QEMU_NBD" "$@" </dev/null >"$WORK/refused.out" 2>"$WORK/refused.err" || status=$?
	equal "the exit status of $*" "$status" 1
	grep -q '^qemu-nbd: ' "$WORK/refused.err" || fail "no message for: $*"
	grep -qF -e "$message" "$WORK/refused.err" ||
		fail "$*: '$message' is not in: $(cat "$WORK/refused.err")"
	[ "$WHO" = qemu ] || equal "the lines of $*" "$(wc -l <"$WORK/refused.err")" 1
}

both() {
	says 'Invalid number of arguments'
	says 'Invalid number of arguments' "$DISK/disk" "$DISK/disk"
	says "Failed to blk_new_open '$DISK/none': Could not open '$DISK/none': No such file or directory" \
		-f raw "$DISK/none"
	says "Failed to blk_new_open '$DISK/disk': Unknown driver 'foo'" -f foo "$DISK/disk"
	says "Unknown protocol 'nosuch'" "nosuch:x"
	says 'socket path must be absolute' -f raw -k relative "$DISK/disk"
	says "Failed to bind socket" -f raw -k "$WORK/none/sock" "$DISK/disk"
	says "Failed to bind socket" -f raw -b 192.0.2.1 "$DISK/disk"
	says "Invalid offset '1M'" -f raw -k "$sock" -o 1M "$DISK/disk"
	says 'Offset (2097152) cannot be greater than size of the containing file (1048576)' \
		-f raw -k "$sock" -o 2097152 "$DISK/disk"
	says "Invalid shared device number 'many'" -f raw -k "$sock" -e many "$DISK/disk"
	says "Invalid cache mode \`often'" -f raw --cache=often "$DISK/disk"
	says "Invalid aio mode 'slow'" -f raw --aio=slow "$DISK/disk"
	says "Invalid discard mode \`some'" -f raw --discard=some "$DISK/disk"
	says 'aio=native was specified, but it requires cache.direct=on, which was not specified.' \
		-f raw --aio=native -k "$sock" "$DISK/disk"
	says 'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap' \
		-f raw --detect-zeroes=unmap -k "$sock" "$DISK/disk"
	says '-n and --cache can only be specified once' -n --cache=none -f raw "$DISK/disk"
	says '--image-opts and -f are mutually exclusive' --image-opts -f raw driver=raw
	says 'Specified size is not multiple of 512' -k "$sock" \
		--image-opts "driver=raw,size=1000,file.driver=file,file.filename=$DISK/disk"
	says "Could not open '$DISK/none': No such file or directory" -k "$sock" \
		--image-opts "driver=raw,file.driver=file,file.filename=$DISK/none"
	says 'Could not parse the JSON options: JSON parse error' 'json:{"driver": "raw"'
	says "Bitmap 'map' is not found" -f raw -k "$sock" -B map "$DISK/disk"
	says 'Failed to load snapshot: ' -f raw -k "$sock" -l one "$DISK/disk"
	says 'List mode is incompatible with per-device settings' -L -x one
	says '--tls-authz is not permitted without --tls-creds' -f raw --tls-authz=a "$DISK/disk"
	says '--tls-hostname is not permitted without --tls-creds' -f raw --tls-hostname=a "$DISK/disk"
	says '--nosuch' --nosuch
	says '' -P 1 "$DISK/disk"
	if [ "$(id -u)" -eq 0 ]; then
		truncate -s 1M "$DISK/readable"
		chmod 644 "$DISK/readable"
		as_nobody "Could not open '$DISK/readable': Permission denied" -f raw -k "$sock" "$DISK/readable"
	fi
}

as_nobody() {
	local program=$QEMU_NBD

	printf '#!/bin/sh\nexec setpriv --reuid=12345 --regid=12345 --clear-groups %q "$@"\n' \
		"$program" >"$WORK/as-nobody"
	chmod 755 "$WORK/as-nobody"
	QEMU_NBD=$WORK/as-nobody says "$@"
}
if [ "$(id -u)" -eq 0 ]; then
	as_nobody_can_run
	ln -sf "$NBDRING" "$WORK/bin/qemu-nbd"
fi
each_qemu_nbd both

# Only so far, or only here: what is said instead.
QEMU_NBD=$WORK/bin/qemu-nbd WHO=ours
says "the format 'qcow2' cannot be served" -f qcow2 "$DISK/disk"
says "the format 'qcow2' cannot be served" "$DISK/qcow2"
says 'nbd-client -unix SOCKET /dev/nbd7' -c /dev/nbd7 -f raw "$DISK/disk"
says 'nbd-client -d /dev/nbd7' -d /dev/nbd7
says 'nbdinfo --list' -L
says "no option 'nosuch'" --image-opts "driver=raw,nosuch=1,file.filename=$DISK/disk"
says "expects 'on' or 'off'" --image-opts "driver=raw,read-only=maybe,file.filename=$DISK/disk"
says 'must lie in it' -k "$sock" --image-opts \
	"driver=raw,offset=4k,size=8k,file.driver=raw,file.size=8k,file.file.filename=$DISK/disk"

note "another server's socket, and a file, are left alone"
"$QEMU_NBD" -f raw -t -k "$sock" "$DISK/disk" </dev/null >"$WORK/first.log" 2>&1 &
server_pids+=($!)
until_true 60 listens "$sock" || fail "it did not start"
says 'another program serves' -f raw -k "$sock" "$DISK/disk"
equal "the size" "$(nbdinfo --size "nbd+unix:///?socket=$sock")" 1048576
stop_server $!
says 'is no socket' -f raw -k "$DISK/qcow2" "$DISK/disk"
[ -f "$DISK/qcow2" ] || fail "the file is gone"

note "what is accepted"
"$QEMU_NBD" --version | grep -Eq '^qemu-nbd [0-9]+\.[0-9]+\.[0-9]+ \(nbdring ' || fail "the version"
"$QEMU_NBD" --help | grep -q -- '--detect-zeroes=MODE' || fail "the help"
