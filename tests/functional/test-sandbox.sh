#!/usr/bin/env bash
#
# A server that somebody has taken over cannot do more than serve: a module tries, and
# the kernel refuses. Who needs more says so and gets it; without a sandbox all goes.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_python_nbd
ours || skip "only nbdring has this"
modules=${NBDRING_TEST_MODULES:?the folder of the test modules}

config() {
	"$NBDRING" --dump-config | sed -n "s/^$1=//p"
}

status_of() {
	sed -n "s/^$1:[[:space:]]*//p" "/proc/$PID/status"
}

note "what there is on this machine"
abi=$(config landlock_abi)
seccomp=$(config sandbox_seccomp)
"$NBDRING" --dump-config | grep -E '^(landlock_abi|sandbox|ring_restricted)'
[ "$seccomp" = yes ] || [ "${CI:-}" != true ] || fail "built without libseccomp"

# Reads the first blocks one by one: each is an attempt.
make_attempts() {
	"$PYTHON" - "$URI" <<-'EOT'
		import nbd, sys
		handle = nbd.NBD()
		handle.connect_uri(sys.argv[1])
		for block in range(64):
		    handle.pread(4096, 4096 * block)
		handle.shutdown()
	EOT
	grep -q "attempts end" "$LOG" || fail "not all was attempted"
	sed -n 's/.*intruder: attempt //p' "$LOG" >"$WORK/outcomes"
}

# outcome ATTEMPT ERRNO...: it came to one of these.
outcome() {
	local attempt=$1 came
	shift

	came=$(sed -n "s/^$attempt: //p" "$WORK/outcomes")
	[[ " $* " == *" $came "* ]] || fail "$attempt came to '$came', expected $*"
}

truncate -s 1M "$DISK/disk.img"
# Beside the disk; in $WORK are the socket and the pid file, which are removed at the end.
echo secret >"$DISK/elsewhere"
intruder=(--filter="$modules/intruder.so" file "$DISK/disk.img" elsewhere="$DISK/elsewhere")

note "an intruder"
start_server -t 2 "${intruder[@]}"
make_attempts
cat "$WORK/outcomes"
if [ "$seccomp" = yes ]; then
	equal "the seccomp mode" "$(status_of Seccomp)" 2
	for attempt in execve execveat tcp-socket unix-socket io-uring-setup setuid \
		chmod-elsewhere tiocsti tiocsti-64-bits; do
		outcome "$attempt" EPERM
	done
	# The leak check of AddressSanitizer needs these.
	if ! sanitized; then
		for attempt in fork ptrace process-vm-readv; do
			outcome "$attempt" EPERM
		done
	fi
fi
if [ "$abi" -ge 1 ]; then
	for attempt in read-elsewhere write-elsewhere make-elsewhere remove-elsewhere \
		list-root read-passwd; do
		outcome "$attempt" EACCES
	done
	[ -s "$DISK/elsewhere" ] || fail "the file elsewhere is gone"
fi
[ "$abi" -lt 6 ] || outcome signal-parent EPERM
[ "$(config ring_restricted)" != yes ] || outcome io-uring-register EACCES
equal "NoNewPrivs" "$(status_of NoNewPrivs)" 1
stop_server

note "all its threads are in it"
start_server -t 2 memory 1M
for thread in /proc/"$PID"/task/*; do
	grep -q '^NoNewPrivs:[[:space:]]*1' "$thread/status" || fail "not ${thread##*/}"
	[ "$seccomp" != yes ] || grep -q '^Seccomp:[[:space:]]*2' "$thread/status" ||
		fail "no filter for ${thread##*/}"
done
stop_server

note "the same without a sandbox: the attempts are real"
start_server --sandbox=off -t 2 "${intruder[@]}"
equal "NoNewPrivs" "$(status_of NoNewPrivs)" 0
equal "the seccomp mode" "$(status_of Seccomp)" "$(sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status)"
# Running a program would end this: the attempts begin behind it.
"$PYTHON" - "$URI" <<-'EOT'
	import nbd, sys
	handle = nbd.NBD()
	handle.connect_uri(sys.argv[1])
	for block in list(range(2, 12)) + [14, 15]:
	    handle.pread(4096, 4096 * block)
	handle.shutdown()
EOT
sed -n 's/.*intruder: attempt //p' "$LOG" >"$WORK/outcomes"
cat "$WORK/outcomes"
for attempt in fork list-root read-passwd tcp-socket unix-socket signal-parent io-uring-setup; do
	outcome "$attempt" DONE
done
[ ! -e "$DISK/elsewhere" ] || fail "the file elsewhere is still there"
stop_server

note "modules that say nothing, and commands, are not in one; -v says so"
echo secret >"$DISK/elsewhere"
start_server -v --filter="$modules/xor.so" memory 1M
equal "NoNewPrivs" "$(status_of NoNewPrivs)" 0
grep -q "no sandbox: xor" "$LOG" || fail "it did not say why"
stop_server
# shellcheck disable=SC2016
start_server -v --filter=log memory 1M logscript="cat $DISK/elsewhere >>$WORK/told"
grep -q "no sandbox: log" "$LOG" || fail "it did not say why"
nbdinfo --size "$URI" >/dev/null
until_true 60 test -s "$WORK/told" || fail "the script did not run"
stop_server
start_server -v --filter=log memory 1M logfile="$WORK/log.txt"
equal "NoNewPrivs of a log without a script" "$(status_of NoNewPrivs)" 1
stop_server

note "the command of --run is not in one"
status=0
"$NBDRING" memory 1M --run 'grep "^NoNewPrivs:.*0" /proc/self/status && cat /etc/passwd' >"$WORK/out" ||
	status=$?
equal "the exit status" "$status" 0

note "files of a twin are reached, too"
truncate -s 1M "$DISK/twin.img"
start_server --filter=verify file "$DISK/disk.img" twin="file $DISK/twin.img"
nbdinfo --size "$URI" >/dev/null
stop_server

note "a leg of a mirror that is not there yet is reached when it comes"
mkdir "$DISK/late"
start_server mirror leg="file $DISK/twin.img" leg="file $DISK/late/leg.img" probe=1 \
	status="$WORK/status"
grep -q '"leg": 2, "state": "absent"' "$WORK/status" || fail "the leg is there already"
"$PYTHON" -c '
import nbd, os, sys, time
uri, late, status = sys.argv[1:]
handle = nbd.NBD()
handle.connect_uri(uri)
handle.pwrite(b"x" * 4096, 0)
with open(late + ".new", "w") as file:
    file.truncate(1 << 20)
os.rename(late + ".new", late)
for _ in range(2000):
    if open(status).read().count("\"state\": \"in\"") == 2:
        break
    time.sleep(0.05)
else:
    sys.exit("the leg does not come")
handle.shutdown()' "$URI" "$DISK/late/leg.img" "$WORK/status"
stop_server
same_bytes "$DISK/twin.img" "$DISK/late/leg.img"

note "a log file can be rotated, a rate file replaced"
echo 1G >"$WORK/rate"
start_server --log="$WORK/server.txt" --filter=rate memory 1M rate-file="$WORK/rate"
mv "$WORK/server.txt" "$WORK/server.1"
echo 2G >"$WORK/rate.new"
mv "$WORK/rate.new" "$WORK/rate"
kill -HUP "$PID"
until_true 60 test -e "$WORK/server.txt" || fail "there is no new log file"
stop_server

note "all or nothing"
refused "--sandbox=on" "log runs programs" -- --sandbox=on -U "$WORK/s" --filter=log memory 1M \
	logscript=true
refused "auto, on or off" -- --sandbox=perhaps -U "$WORK/s" memory 1M
if [ "$abi" -ge 1 ] && [ "$seccomp" = yes ]; then
	start_server --sandbox=on file "$DISK/disk.img"
	nbdinfo --size "$URI" >/dev/null
	stop_server
fi
