#!/usr/bin/env bash
#
# -u and -g: sockets and the pid file are made as root, disks are opened as the other
# user, and nothing of root is left.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo setpriv
ours || skip "nbdkit keeps groups, and opens disks later"

note "names that are none"
refused "no such user" -- -u nobody-of-this-name -U "$WORK/s" memory 1M
refused "no such group" -- -g nogroup-of-this-name -U "$WORK/s" memory 1M
refused "user=4000000" "-g" -- -u 4000000 -U "$WORK/s" memory 1M

need_root "become another user"

note "only root can"
as_nobody_can_run
SERVER_PREFIX=("${AS_NOBODY[@]}")
refused "only root" -- -u nobody -U "$WORK/s" memory 1M
SERVER_PREFIX=()

field() {
	sed -n "s/^$1:[[:space:]]*//p" "/proc/$PID/status" | tr '\t' ' ' | sed 's/ *$//'
}

# has_become USER GROUP: every thread; one that has ended meanwhile is nobody.
has_become() {
	local thread status
	for thread in /proc/"$PID"/task/*; do
		status=$(cat "$thread/status" 2>/dev/null) || continue
		grep -qP "^Uid:\t$1\t$1\t$1\t$1$" <<<"$status" || return 1
		grep -qP "^Gid:\t$2\t$2\t$2\t$2$" <<<"$status" || return 1
		grep -qP "^CapEff:\t0+$" <<<"$status" || return 1
	done
}

# is USER GROUP GROUPS: with no way back.  The rights of root go a moment after the server
# can be reached and its pid file is there, which both take them.
is() {
	until_true 60 has_become "$1" "$2" || fail "not all threads are user $1 and group $2"
	equal "the groups" "$(field Groups)" "$3"
	for set in CapInh CapPrm CapEff CapAmb; do
		equal "$set" "$(field $set)" 0000000000000000
	done
}

# A folder of root's, as /run is.
mkdir -m 755 "$WORK/run"
nobody_uid=$(id -u nobody)
nobody_gid=$(id -g nobody)
truncate -s 1M "$WORK/disk.img"
chmod 600 "$WORK/disk.img"

note "a user by name, a pid file and a socket in a folder of root's"
chown nobody "$WORK/disk.img"
"$NBDRING" -u nobody -P "$WORK/run/pid" -U "$WORK/run/sock" file "$WORK/disk.img" </dev/null
PID=$(cat "$WORK/run/pid")
server_pids+=("$PID")
is "$nobody_uid" "$nobody_gid" "$(id -G nobody)"
equal "NoNewPrivs" "$(field NoNewPrivs)" 1
equal "the size" "$(nbdinfo --size "nbd+unix:///?socket=$WORK/run/sock")" 1048576
kill "$PID"
until_true 60 process_ended "$PID" || fail "it did not end"

note "a number and a group"
chown 12345 "$WORK/disk.img"
start_server -u 12345 -g 54321 file "$WORK/disk.img"
is 12345 54321 54321
stop_server

note "a group alone"
start_server -g daemon memory 1M
equal "the user" "$(field Uid)" "0 0 0 0"
equal "the groups" "$(field Groups)" "$(getent group daemon | cut -d: -f3)"
stop_server

note "what this user may not open is not served, root or not"
chown root "$WORK/disk.img"
rm -f "$WORK"/run/*
refused "disk.img" "denied" -- -u nobody -U "$WORK/run/sock" -P "$WORK/run/pid" file "$WORK/disk.img"
[ -z "$(ls -A "$WORK/run")" ] || fail "the start has failed and left $(ls -A "$WORK/run")"
chmod 644 "$WORK/disk.img"
start_server -u nobody file "$WORK/disk.img"
nbdinfo --json "$URI" | grep -q '"is_read_only": true' || fail "a file it may only read is writable"
stop_server

note "without a sandbox as well"
start_server --sandbox=off -u nobody memory 1M
is "$nobody_uid" "$nobody_gid" "$(id -G nobody)"
stop_server

note "--exit-with-parent outlives the change"
mkfifo "$WORK/child.fifo"
# shellcheck disable=SC2016
bash -c '"$@" & echo $! >"$0"; read -r _ <"$0.fifo"' "$WORK/child" \
	"$NBDRING" --exit-with-parent -u nobody -U "$WORK/s" -P "$WORK/p" memory 1M &
parent=$!
until_true 60 test -s "$WORK/p" || fail "it did not start"
PID=$(cat "$WORK/p")
server_pids+=("$PID")
kill -KILL "$parent"
until_true 60 process_ended "$PID" || fail "it did not end with its parent"
wait "$parent" 2>/dev/null || true

note "the command of --run stays root's"
"$NBDRING" -u nobody memory 1M --run 'id -u' >"$WORK/out"
equal "the user of the command" "$(cat "$WORK/out")" 0
