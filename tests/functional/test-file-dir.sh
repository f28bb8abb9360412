#!/usr/bin/env bash
#
# file dir=: every file of a folder is an export. New files are seen, names that
# lead elsewhere are not.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy
need_python_nbd

folder=$DISK/folder
mkdir "$folder" "$folder/sub" "$DISK/outside"
random_file "$folder/one" 1048576
random_file "$folder/two words" 65536
random_file "$folder/.hidden" 512
random_file "$folder/sub/inside" 4096
random_file "$DISK/secret" 1048576
random_file "$DISK/outside/secret" 1048576

# listed NAME: whether the server lists it.
listed() {
	nbdinfo --list --json "$URI" | python3 -c '
import json, sys
sys.exit(sys.argv[1] not in [e["export-name"] for e in json.load(sys.stdin)["exports"]])' "$1"
}

# open_export NAME: the name goes to the server as it is, byte for byte.
open_export() {
	"$PYTHON" -c '
import sys, nbd
client = nbd.NBD()
client.set_export_name(sys.argv[2])
client.connect_unix(sys.argv[1])
print(client.get_size())' "$SOCK" "$1" 2>"$WORK/open.err"
}

is_unknown() {
	! open_export "$1" >/dev/null || fail "the export '$1' could be opened"
	# It is told so; the server neither hangs up nor dies.
	! ours || grep -qiE 'no such|no export|ENOENT|not permitted|policy' "$WORK/open.err" ||
		fail "the client is told: $(tail -n 1 "$WORK/open.err")"
}

start_server file dir="$folder"

note "what is there"
listed one || fail "'one' is not listed"
listed "two words" || fail "'two words' is not listed"
! listed sub || fail "a folder is listed"
equal "the size of one" "$(open_export one)" 1048576
equal "the size of two words" "$(open_export "two words")" 65536
nbdcopy "nbd+unix:///one?socket=$SOCK" "$WORK/copy"
same_bytes "$folder/one" "$WORK/copy"

note "new files, and files that have gone"
random_file "$folder/three" 2097152
listed three || fail "a new file is not listed"
equal "the size of three" "$(open_export three)" 2097152
nbdcopy "nbd+unix:///three?socket=$SOCK" "$WORK/copy"
same_bytes "$folder/three" "$WORK/copy"
rm "$folder/three"
! listed three || fail "a file that has gone is listed"
is_unknown three
random_file "$folder/three" 512
equal "the size of three, which is another file now" "$(open_export three)" 512

note "names that are none"
is_unknown nothing
is_unknown sub
is_unknown ..
is_unknown .
is_unknown ../secret
is_unknown ../outside/secret
is_unknown one/
is_unknown ./one
is_unknown sub/../one
is_unknown sub/inside
is_unknown "$DISK/secret"
is_unknown "$folder/one"
is_unknown "$(printf 'x%.0s' $(seq 300))"
is_unknown "$(printf 'x%.0s' $(seq 4000))"

note "things that are no disks"
mkfifo "$folder/fifo"
ln -s /dev/null "$folder/null"
! listed fifo || fail "a pipe is listed"
is_unknown fifo
is_unknown null

note "two clients on two exports do not see each other's bytes"
nbdcopy "$DISK/secret" "nbd+unix:///one?socket=$SOCK"
same_bytes "$DISK/secret" "$folder/one"
equal "the size of two words" "$(stat -c %s "$folder/two words")" 65536
stop_server

note "read-only"
start_server -r file dir="$folder"
nbdinfo --is read-only "nbd+unix:///one?socket=$SOCK" || fail "the export is not read-only"
stop_server

note "a folder that is none"
refused "missing" -- -U "$WORK/s" file dir="$DISK/missing"
refused "secret" -- -U "$WORK/s" file dir="$DISK/secret"
