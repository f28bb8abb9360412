#!/usr/bin/env bash
#
# Who may use which export, and how: rules on the command line and in a file, seen by
# real clients. What is denied looks like what does not exist.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo qemu-io
need_python_nbd
ours || skip "these options are this server's own"

me=$(id -u)
disks=$DISK/disks
mkdir "$disks"
for name in vm-1 vm-2 secret "$me"; do
	random_file "$disks/$name" 65536
done

# names: the exports that are listed, in one line.
names() {
	nbdinfo --list --json "$URI" | python3 -c '
import json, sys
print(*sorted(e["export-name"] for e in json.load(sys.stdin)["exports"]))'
}

on() {
	URI="nbd+unix:///$1?socket=$SOCK"
}

reads() {
	on "$1"
	qemu-io -r -f raw -c "read 0 512" "$URI" >"$WORK/client.log" 2>&1
}

writes() {
	on "$1"
	qemu-io -f raw -c "write 0 512" "$URI" >"$WORK/client.log" 2>&1
}

# said WORD...: one line of the server's log has all of them.
said() {
	local line word

	while IFS= read -r line; do
		for word; do
			[[ $line == *"$word"* ]] || continue 2
		done
		return 0
	done <"$LOG"
	fail "the log has no line with: $*"
}

# answers OPTION NAME: how the server answers, by a client that speaks for itself.
answers() {
	PYTHONPATH=$top/tests/conformance "$PYTHON" - "$SOCK" "$1" "$2" <<-'EOT'
		import sys
		from nbdwire import (Client, Cmd, Disconnected, Err, Mode, Opt, Rep, info_data,
		                     meta_data)

		path, option, name = sys.argv[1:]
		client = Client.unix(path).begin()
		if option == "EXPORT_NAME":
		    try:
		        client.export_name(name)
		        print("served")
		    except (Disconnected, OSError):
		        print("dropped")
		    sys.exit()
		client.answer(Opt.STRUCTURED_REPLY)
		data = meta_data(name, ["base:allocation"]) if "META" in option else info_data(name)
		replies = client.option(Opt[option], data)
		last = replies[-1]
		print(Rep(last.type).name, bytes(last.data).decode() if last.is_error else "")
	EOT
}

note "no rules: everybody may do everything"
start_server file dir="$disks"
equal "what is listed" "$(on ""; names)" "$(printf '%s\n' vm-1 vm-2 secret "$me" | sort | xargs)"
writes vm-1 || fail "vm-1 cannot be written"
stop_server

note "names"
start_server --access-rule "allow export=vm-* uid=$me" file dir="$disks"
on ""
equal "what is listed" "$(names)" "vm-1 vm-2"
writes vm-1 || fail "vm-1 cannot be written"
! reads secret || fail "what no rule allows was served"
said "export 'secret'" "denied: no rule allows it"
for option in GO INFO LIST_META_CONTEXT SET_META_CONTEXT; do
	equal "the answer to $option" "$(answers $option secret)" "$(answers $option nothing)"
	[[ $(answers $option secret) == ERR_UNKNOWN* ]] || fail "$option: $(answers $option secret)"
	[[ $(answers $option vm-1) == ACK* ]] || fail "$option: $(answers $option vm-1)"
done
equal "EXPORT_NAME" "$(answers EXPORT_NAME secret)" dropped
equal "EXPORT_NAME" "$(answers EXPORT_NAME vm-1)" served
# Allowed, but there is no such thing: the same words again.
equal "the answer" "$(answers GO vm-3)" "$(answers GO secret)"
stop_server

note "users"
start_server --access-rule "allow uid=$((me + 1))" --access-rule "deny export=secret" \
	--access-rule "allow gid=$(id -g)" file dir="$disks"
reads vm-1 || fail "this group should have been let in"
! reads secret || fail "a rule that denies was not heeded"
said "export 'secret'" "denied by deny export=secret"
stop_server
start_server --access-rule "allow uid=$((me + 1))" memory 1M
! reads "" || fail "this is another user"
on ""
equal "what is listed" "$(names)" ""
stop_server

note "the name of the user in the name of the export"
start_server --access-rule "allow export=%uid" file dir="$disks"
on ""
equal "what is listed" "$(names)" "$me"
reads "$me" || fail "the user's own disk was not served"
! reads vm-1 || fail "another disk was served"
stop_server

if user=$(id -un 2>/dev/null) && [ "$user" != "$me" ]; then
	note "and by name, which is looked up while it serves"
	random_file "$disks/$user" 65536
	start_server --access-rule "allow export=%user" file dir="$disks"
	on ""
	equal "what is listed" "$(names)" "$user"
	reads "$user" || fail "the user's own disk was not served"
	! reads vm-1 || fail "another disk was served"
	stop_server
	echo "deny" >"$WORK/rules"
	start_server --access "$WORK/rules" file dir="$disks"
	! reads vm-1 || fail "vm-1 was served"
	echo "allow uid=$user" >"$WORK/rules"
	kill -HUP "$PID"
	until_true 20 reads vm-1 || fail "the name of a user in a rule is not understood"
	stop_server
fi

note "read-only for one client, whatever it is for others"
start_server --access-rule "allow export=vm-1" --access-rule "allow export=vm-2 read-only" \
	file dir="$disks"
writes vm-1 || fail "vm-1 cannot be written"
reads vm-2 || fail "vm-2 cannot be read"
! writes vm-2 || fail "vm-2 could be written"
on vm-2
nbdinfo --json "$URI" | grep -q '"is_read_only": true' || fail "it does not say so"
PYTHONPATH=$top/tests/conformance "$PYTHON" - "$SOCK" <<'EOT'
import sys
from nbdwire import Client, Cmd, Err, Mode

client = Client.unix(sys.argv[1]).negotiate("vm-2", Mode.STRUCTURED)
before = client.read(0, 512)
for command in (Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES):
    payload = bytes(512) if command == Cmd.WRITE else None
    error = client.call(command, 0, 512, payload=payload).error
    assert error == Err.EPERM, (command, error)
assert client.read(0, 512) == before
client.call(Cmd.FLUSH)
client.disconnect()
EOT
stop_server

note "one disk, two names: one to read, one to write"
start_server --access-rule "allow export=ro read-only" --access-rule "allow export=rw" memory 1M
writes rw || fail "it cannot be written"
! writes ro || fail "it could be written"
reads ro || fail "it cannot be read"
stop_server

note "oldstyle: the default export"
start_server -o --access-rule "allow export=" memory 1M
reads "" || fail "the default export was not served"
stop_server
start_server -o --access-rule "deny export=" --access-rule "allow" memory 1M
! reads "" || fail "it was served"
said "denied by deny export="
stop_server

note "an alias is no way round"
start_server --access-rule "deny export=secret" --access-rule allow --filter=exportname \
	file dir="$disks" default-export=secret
! reads "" || fail "the default export is the secret one"
! reads secret || fail "the secret one was served"
reads vm-1 || fail "vm-1 was not served"
stop_server

note "addresses"
for rule in "allow net=127.0.0.0/8" "allow net=127.0.0.2" "allow unix" "allow uid=0-4294967295"; do
	port=$(free_port)
	LOG=$WORK/tcp.log
	"$NBDRING" -f -i 127.0.0.1 -p "$port" -P "$WORK/tcp.pid" --access-rule "$rule" memory 1M \
		</dev/null >"$LOG" 2>&1 &
	PID=$!
	server_pids+=("$PID")
	wait_until_ready "$PID" "$WORK/tcp.pid" || fail "the server did not start"
	let_in=yes
	nbdinfo "nbd://127.0.0.1:$port" >/dev/null 2>&1 || let_in=no
	[ "$rule" = "allow net=127.0.0.0/8" ] && expected=yes || expected=no
	equal "whether '$rule' lets in 127.0.0.1" "$let_in" "$expected"
	stop_server
	rm -f "$WORK/tcp.pid"
done

note "a file, read again when it has changed"
cat >"$WORK/rules" <<EOT
# whose is what
allow export=vm-1
EOT
start_server --access "$WORK/rules" file dir="$disks"
reads vm-1 || fail "vm-1 was not served"
! reads vm-2 || fail "vm-2 was served"
PYTHONPATH=$top/tests/conformance "$PYTHON" - "$SOCK" "$WORK" <<'EOT' &
import os, sys, time
from nbdwire import Client, Mode

client = Client.unix(sys.argv[1]).negotiate("vm-1", Mode.SIMPLE)
open(sys.argv[2] + "/in", "w").close()
while not os.path.exists(sys.argv[2] + "/changed"):
    time.sleep(0.02)
client.write(0, bytes(512))
client.disconnect()
EOT
holder=$!
until_true 20 test -e "$WORK/in" || fail "the client did not get in"
echo "allow export=vm-2" >"$WORK/rules"
kill -HUP "$PID"
until_true 20 reads vm-2 || fail "the new rules are not in force"
! reads vm-1 || fail "the old rules are in force"
touch "$WORK/changed"
wait "$holder" || fail "the client that was in was not served to its end"
said "1 rules of access are in force"

note "a file that is wrong changes nothing"
printf 'allow\nallow export=%%x\n' >"$WORK/rules"
kill -HUP "$PID"
until_true 20 grep -q "that were in force stay: .*rules:2: " "$LOG" || fail "the log does not say so"
reads vm-2 || fail "the rules that were in force are not"
! reads vm-1 || fail "wrong rules are in force"
rm "$WORK/rules"
kill -HUP "$PID"
until_true 20 grep -q "stay: .*No such file" "$LOG" || fail "the log does not say so"
reads vm-2 || fail "the rules that were in force are not"
stop_server

note "what is wrong at the start"
refused "allow or deny" permit -- -U "$WORK/s" --access-rule permit memory 1M
printf 'allow\n\ndeny tls=1\n' >"$WORK/rules"
refused "$WORK/rules:3" -- -U "$WORK/s" --access "$WORK/rules" memory 1M
refused "$WORK/none" -- -U "$WORK/s" --access "$WORK/none" memory 1M
