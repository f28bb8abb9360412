# shellcheck shell=bash
# For the tests of the server in the place of qemu-nbd: what is checked here is true of
# QEMU's qemu-nbd as well, and each test runs against both where that is installed.
#
# each_qemu_nbd FUNCTION: call it with $QEMU_NBD, the program, and $WHO, ours or qemu.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

ours || skip "only nbdring can be called qemu-nbd"
# It is the name that it is called by that makes it one.
mkdir "$WORK/bin"
ln -s "$NBDRING" "$WORK/bin/qemu-nbd"

each_qemu_nbd() {
	local function=$1

	WHO=ours QEMU_NBD=$WORK/bin/qemu-nbd
	note "$function: nbdring as qemu-nbd"
	"$function"
	if command -v qemu-nbd >/dev/null; then
		# shellcheck disable=SC2034
		WHO=qemu QEMU_NBD=$(command -v qemu-nbd)
		note "$function: QEMU's own"
		"$function"
	fi
}

# qemu_nbd ARGUMENT...: start it on a new Unix socket, and return when it is there. Sets
# SOCK, URI, LOG and PID.
qemu_count=0
qemu_nbd() {
	qemu_count=$((qemu_count + 1))
	SOCK=$WORK/q$qemu_count.sock
	LOG=$WORK/q$qemu_count.log
	# shellcheck disable=SC2034
	URI="nbd+unix:///?socket=$SOCK"
	"$QEMU_NBD" -k "$SOCK" "$@" </dev/null >"$LOG" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	until_true 60 qemu_is_there || fail "it did not start: $*"
	socket_listens || fail "it ended at once: $*: $(cat "$LOG")"
}

qemu_is_there() {
	socket_listens || process_ended "$PID"
}

# To try would be to come as a client. Flag 1 << 16 is that it listens.
socket_listens() {
	grep -Eq "^[0-9a-f]+: [0-9A-F]+ [0-9A-F]+ 00010000 .* $SOCK\$" /proc/net/unix
}

# size_and_end SIZE [NAME]: a client sees a disk of this size; then the server ends by
# itself, and its socket is gone.
size_and_end() {
	equal "the size" "$(nbdinfo --size "nbd+unix:///${2:-}?socket=$SOCK")" "$1"
	expect_end "$PID" 0
	[ ! -e "$SOCK" ] || fail "the socket is still there"
}
