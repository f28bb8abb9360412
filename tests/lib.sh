# shellcheck shell=bash
# For the shell tests of tests/functional and tests/interop: a private folder,
# servers that are started, waited for and ended, and words to say what went
# wrong. A test sources this file first.
#
# What a test can count on:
#   $NBDRING   the server's program, an absolute path
#   $WORK      a folder of its own, with a short path: sockets, logs, small files
#   $DISK      another one, on a real file system where there is one (O_DIRECT,
#              holes): disk images
#   $PYTHON    a Python 3 that has libnbd's module
# Both folders, every process, mount and loop device a test made through the
# functions below go when it ends, however it ends.
#
# Exit status: 0 passed, 77 skipped, anything else failed.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C.UTF-8

# --- Saying what happened -----------------------------------------------------

note() {
	printf -- '--- %s\n' "$*"
}

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

# For what this machine cannot have, whatever is installed on it.
skip() {
	printf 'skipped: %s\n' "$*"
	exit 77
}

# For what a package brings: where every package was installed, its absence is a
# fault, not a reason to skip.
need() {
	local command

	for command in "$@"; do
		command -v "$command" >/dev/null && continue
		[ "${CI:-}" != true ] || fail "$command is not installed"
		skip "$command is not installed"
	done
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "only root can do this: $*"
}

# equal WHAT ACTUAL EXPECTED
equal() {
	[ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"
}

same_bytes() {
	cmp "$1" "$2" || fail "$1 and $2 differ"
}

# fails COMMAND...: it ends with a status of its own, not by a signal.
fails() {
	local status=0

	"$@" || status=$?
	[ "$status" -ne 0 ] || fail "this should have failed: $*"
	[ "$status" -lt 124 ] || fail "this ended with $status: $*"
}

# listens PATH: somebody serves on this Unix socket. The file is there a moment earlier.
listens() {
	awk -v path="$1" '$4 == "00010000" && $8 == path { found = 1 } END { exit !found }' \
		/proc/net/unix
}

# until_true SECONDS COMMAND...: wait for something that will come true by itself.
until_true() {
	local deadline=$((SECONDS + $1))
	shift

	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.02
	done
}

# --- The ground a test stands on ----------------------------------------------

NBDRING=${NBDRING:-$top/build/nbdring}
command -v "$NBDRING" >/dev/null || fail "there is no server at $NBDRING; run scripts/test"
NBDRING=$(realpath "$(command -v "$NBDRING")")

# Not $TMPDIR, which can be too long for the path of a socket.
WORK=$(mktemp -d /tmp/nbdring.XXXXXX)
# /tmp is memory on some systems, /var/tmp on none.
DISK=$(mktemp -d "${NBDRING_TEST_DISK:-/var/tmp}/nbdring.XXXXXX")
# Servers that run as nobody look for their files here.
chmod 755 "$WORK" "$DISK"

PYTHON=
for candidate in python3 /usr/bin/python3; do
	if "$candidate" -c 'import nbd' 2>/dev/null; then
		PYTHON=$candidate
		break
	fi
done

need_python_nbd() {
	[ -n "$PYTHON" ] || need "python3 with the module nbd"
}

# The tests of what nbdkit has too can run against nbdkit, to see that command
# lines mean the same. This is false then.
ours() {
	[[ $("$NBDRING" --version) == nbdring* ]]
}

# True for a server built with a sanitizer, whose use of memory says nothing.
sanitized() {
	grep -qE '__(asan|tsan)_init' "$NBDRING"
}

server_pids=()
undo=()

# at_end COMMAND...: run it when the test ends, however it ends; the last one
# named first.
at_end() {
	undo=("$(printf '%q ' "$@")" "${undo[@]}")
}

clean_up() {
	local status=$? pid command

	trap - EXIT
	for pid in "${server_pids[@]}"; do
		# Waited for too, so that the shell does not report the kill.
		{ kill -KILL "$pid" && wait "$pid"; } 2>/dev/null || true
	done
	for command in "${undo[@]}"; do
		eval "$command" >/dev/null 2>&1 || true
	done
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
		tail -v -n 50 "$WORK"/*.log 2>/dev/null || true
	fi
	rm -rf "$WORK" "$DISK"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- Servers ------------------------------------------------------------------

server_count=0

# start_server ARGUMENT...: run the server in the foreground on a new Unix socket
# and return when it is ready. Sets, for this server: SOCK, URI, PIDFILE, LOG, PID.
# SERVER_PREFIX can name a command to run it through (an array).
SERVER_PREFIX=()
start_server() {
	server_count=$((server_count + 1))
	SOCK=$WORK/$server_count.sock
	PIDFILE=$WORK/$server_count.pid
	LOG=$WORK/$server_count.log
	# shellcheck disable=SC2034
	URI="nbd+unix:///?socket=$SOCK"

	"${SERVER_PREFIX[@]}" "$NBDRING" -f -U "$SOCK" -P "$PIDFILE" "$@" </dev/null >"$LOG" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	wait_until_ready "$PID" "$PIDFILE" || fail "the server did not start: $*"
}

# The pid file appears when the server can be connected to.
wait_until_ready() {
	until_true 60 ready_or_dead "$1" "$2" && [ -s "$2" ]
}

ready_or_dead() {
	[ -s "$2" ] || ! kill -0 "$1" 2>/dev/null
}

# stop_server [PID [SIGNAL]]: ask it to end and check that it ends well. Under the
# sanitizers this is where a leak shows.
stop_server() {
	local pid=${1:-$PID} signal=${2:-TERM}

	kill "-$signal" "$pid" || fail "the server was gone before it was asked to end"
	expect_end "$pid" 0
}

# expect_end PID STATUS: a server ends by itself, in good time, with that status.
expect_end() {
	local pid=$1 status=0 left=() other

	until_true 60 process_ended "$pid" || fail "the server did not end"
	wait "$pid" || status=$?
	for other in "${server_pids[@]}"; do
		[ "$other" = "$pid" ] || left+=("$other")
	done
	server_pids=("${left[@]}")
	equal "the exit status of the server" "$status" "$2"
}

# Also true for one that has ended but was not waited for yet.
process_ended() {
	! kill -0 "$1" 2>/dev/null || grep -q '^State:[[:space:]]*[ZX]' "/proc/$1/status" 2>/dev/null
}

# A TCP port nobody listens on, and that no other test is about to take: below the
# ports that the kernel gives out, in a stretch that depends on this process.
free_port() {
	local port

	while :; do
		printf x >>"$WORK/ports"
		port=$((20000 + ($$ * 16 + $(wc -c <"$WORK/ports")) % 12000))
		if ! (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			printf '%s\n' "$port"
			return
		fi
	done
}

# refused WORD... -- ARGUMENT...: the server does not start. It says why in one
# sentence on one line, in which every WORD occurs, and ends with status 1.
refused() {
	local words=() word status=0

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	note "refused: $*"
	timeout 60 "${SERVER_PREFIX[@]}" "$NBDRING" -f "$@" \
		</dev/null >"$WORK/refused.out" 2>"$WORK/refused.err" || status=$?
	sed 's/^/    /' "$WORK/refused.err"
	equal "the exit status" "$status" 1
	[ -s "$WORK/refused.err" ] || fail "it did not say why"
	# From here on: better than nbdkit, which may also print its usage.
	ours || return 0
	equal "the number of lines it said" "$(wc -l <"$WORK/refused.err")" 1
	equal "the number of lines on stdout" "$(wc -l <"$WORK/refused.out")" 0
	for word in "${words[@]}"; do
		grep -qiF -e "$word" "$WORK/refused.err" || fail "it did not mention '$word'"
	done
}

# logged PATTERN: the last server says so, now or soon.
logged() {
	until_true 60 grep -qe "$1" "$LOG" || fail "the log does not say: $1"
}

# Certificates and keys in $WORK (tests/make-certificates.sh), for a server with TLS.
need_tls() {
	"$NBDRING" --dump-config | grep -qx tls=yes || skip "this server was built without TLS"
	need certtool psktool
	"$top/tests/make-certificates.sh" "$WORK"
}

# --- Other ground -------------------------------------------------------------

# SERVER_PREFIX=("${AS_NOBODY[@]}") runs servers without root's powers, and as a
# user of this test alone, since the kernel counts locked memory by user. For who
# is not root it changes nothing.
AS_NOBODY=()
if [ "$(id -u)" -eq 0 ]; then
	nobody=$((100000 + $$))
	# shellcheck disable=SC2034
	AS_NOBODY=(setpriv --reuid="$nobody" --regid="$nobody" --clear-groups)
fi

# Such a user can run the server's program, though the build folder may be closed,
# and write to the folders of this test.
as_nobody_can_run() {
	chmod 777 "$WORK" "$DISK"
	install -m 755 "$NBDRING" "$WORK/${NBDRING##*/}"
	NBDRING=$WORK/${NBDRING##*/}
}

# mounted TYPE SOURCE TARGET [OPTION...]
mounted() {
	local type=$1 source=$2 target=$3
	shift 3

	mkdir -p "$target"
	mount -t "$type" "$@" "$source" "$target" || skip "this machine cannot mount $type"
	at_end umount -l "$target"
}

# loop_device FILE [LOSETUP-OPTION...]: sets LOOP.
loop_device() {
	local file=$1
	shift

	need_root "attach a loop device"
	[ -e /dev/loop-control ] || skip "there are no loop devices here"
	LOOP=$(losetup --find --show "$@" "$file") || skip "no loop device can be attached here"
	at_end losetup -d "$LOOP"
}

# --- Disks --------------------------------------------------------------------

# random_file FILE BYTES
random_file() {
	head -c "$2" /dev/urandom >"$1"
}

# A tree of files of many sizes and kinds, as real disks hold them.
make_tree() {
	local tree=$1 i

	mkdir -p "$tree/sizes" "$tree/deep/er/and/deep/er" "$tree/many" "$tree/a name with spaces"
	for i in 0 1 511 512 513 4095 4096 4097 65536 1048583; do
		random_file "$tree/sizes/$i" "$i"
	done
	for i in $(seq 1 200); do
		printf 'file number %d\n' "$i" >"$tree/many/$i.txt"
	done
	random_file "$tree/deep/er/and/deep/er/large" 20000000
	printf 'grüße\n' >"$tree/a name with spaces/üñí ©ode"
	truncate -s 8M "$tree/mostly holes"
	printf 'x' >>"$tree/mostly holes"
	ln -s ../sizes/4096 "$tree/many/link"
	cp -r "$top"/*.md "$top/LICENSE" "$top/scripts" "$tree/deep"
}

# make_ext4 IMAGE SIZE: an ext4 file system with such a tree in it.
make_ext4() {
	local image=$1 size=$2

	need mke2fs e2fsck
	make_tree "$DISK/tree"
	mke2fs -q -t ext4 -d "$DISK/tree" "$image" "$size" >/dev/null
	rm -r "$DISK/tree"
	is_clean_ext4 "$image"
}

is_clean_ext4() {
	e2fsck -fn "$1" >"$WORK/e2fsck.log" 2>&1 || fail "e2fsck finds faults in $1"
}

# sparse_file FILE: 16 MiB with three stretches of data in it, and holes between,
# all of them multiples of 64 KiB so that every file system keeps them apart.
sparse_file() {
	truncate -s 16M "$1"
	random_file "$WORK/data" 65536
	dd if="$WORK/data" of="$1" bs=64K conv=notrunc status=none
	dd if="$WORK/data" of="$1" bs=64K seek=16 conv=notrunc status=none
	dd if="$WORK/data" of="$1" bs=64K seek=17 conv=notrunc status=none
	dd if="$WORK/data" of="$1" bs=64K seek=255 conv=notrunc status=none
	sync "$1"
}

# can_dontcache FILE: whether kernel (6.14) and file system have cached I/O that
# leaves nothing in the cache, RWF_DONTCACHE.
can_dontcache() {
	python3 -c '
import os, sys
try:
    os.preadv(os.open(sys.argv[1], os.O_RDONLY), [bytearray(512)], 0, 0x80)
except OSError:
    sys.exit(1)' "$1"
}

# What the file system says about holes: lines of "offset length data|hole".
map_of_file() {
	python3 - "$1" <<-'EOT'
		import os, sys

		fd = os.open(sys.argv[1], os.O_RDONLY)
		size = os.fstat(fd).st_size
		offset = 0
		while offset < size:
		    try:
		        data = os.lseek(fd, offset, os.SEEK_DATA)
		    except OSError:
		        data = size
		    if data > offset:
		        print(offset, data - offset, 'hole')
		    if data < size:
		        end = os.lseek(fd, data, os.SEEK_HOLE)
		        print(data, end - data, 'data')
		        offset = end
		    else:
		        offset = size
	EOT
}
