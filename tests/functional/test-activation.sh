#!/usr/bin/env bash
#
# Sockets that systemd, or whoever follows its protocol, has opened: several at once,
# of every family, with names; and what is said of those that are of no use.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo python3

# activated SPEC... -- ARGUMENT...: what systemd does for a service: open sockets, put
# them from descriptor 3 on, and become the server. SPEC is unix:PATH, abstract:NAME,
# tcp:ADDRESS:PORT, vsock:PORT, datagram:PATH, connection, file or closed. With
# NAMES set it is passed as LISTEN_FDNAMES, with PID_OFFSET the pid is another one.
cat >"$WORK/activate.py" <<'EOT'
import fcntl, os, socket, sys

split = sys.argv.index('--')
specs, command = sys.argv[1:split], sys.argv[split + 1:]

def opened(spec):
    kind, _, rest = spec.partition(':')
    if kind == 'file':
        return os.open('/dev/null', os.O_RDWR)
    if kind == 'closed':
        return None
    if kind == 'connection':
        here, there = socket.socketpair()
        kept.append(here)
        return there.detach()
    if kind == 'tcp':
        host, _, port = rest.rpartition(':')
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, int(port)))
    elif kind == 'vsock':
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.bind((socket.VMADDR_CID_ANY, int(rest)))
    else:
        stream = kind != 'datagram'
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        s.bind('\0' + rest if kind == 'abstract' else rest)
        if not stream:
            return s.detach()
    s.listen()
    s.setblocking(False)
    return s.detach()

kept = []
high = [fd if fd is None else fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in map(opened, specs)]
for number, fd in enumerate(high, 3):
    try:
        os.close(number)
    except OSError:
        pass
    if fd is not None:
        os.dup2(fd, number)
        os.close(fd)
os.environ['LISTEN_FDS'] = os.environ.get('COUNT', str(len(specs)))
os.environ['LISTEN_PID'] = str(os.getpid() + int(os.environ.get('PID_OFFSET', '0')))
if 'NAMES' in os.environ:
    os.environ['LISTEN_FDNAMES'] = os.environ['NAMES']
os.execv(command[0], command)
EOT

size_at() {
	equal "the size at $1" "$(nbdinfo --size "$1")" 1048576
}

note "four sockets at once, each serves the same disk; the server stays in the foreground"
port=$(free_port)
show=()
! ours || show=(--print-uri)
NAMES=data:backup:: python3 "$WORK/activate.py" "unix:$WORK/one.sock" "unix:$WORK/two.sock" \
	"tcp:127.0.0.1:$port" "abstract:nbdring-test-$$" -- \
	"$NBDRING" -v -P "$WORK/four.pid" "${show[@]}" memory 1M </dev/null >"$WORK/four.out" 2>"$WORK/four.log" &
server=$!
server_pids+=("$server")
wait_until_ready "$server" "$WORK/four.pid" || fail "the server did not start"
equal "the process" "$(cat "$WORK/four.pid")" "$server"
size_at "nbd+unix:///?socket=$WORK/one.sock"
size_at "nbd+unix:///?socket=$WORK/two.sock"
size_at "nbd://127.0.0.1:$port"
if ours; then
	cat >"$WORK/four.expected" <<-EOT
		nbd+unix:///?socket=$WORK/one.sock
		nbd+unix:///?socket=$WORK/two.sock
		nbd://127.0.0.1:$port
		nbd+unix:///?socket=%00nbdring-test-$$
	EOT
	same_bytes "$WORK/four.out" "$WORK/four.expected"
fi
stop_server "$server"
# They are systemd's, which listens on at them.
[ -S "$WORK/one.sock" ] || fail "the server removed a socket that is not its own"

if ours; then
	note "names are in the log"
	NAMES=data python3 "$WORK/activate.py" "unix:$WORK/named.sock" -- \
		"$NBDRING" -v -P "$WORK/named.pid" memory 1M </dev/null >/dev/null 2>"$WORK/named.log" &
	server=$!
	server_pids+=("$server")
	wait_until_ready "$server" "$WORK/named.pid" || fail "the server did not start"
	stop_server "$server"
	grep -q "serving at nbd+unix:///?socket=$WORK/named.sock, data" "$WORK/named.log" ||
		fail "the log does not name the socket"
fi

if command -v systemd-socket-activate >/dev/null; then
	note "by systemd's own tool, which starts the server for its first client"
	systemd-socket-activate -l "$WORK/systemd.sock" "$NBDRING" memory 1M \
		</dev/null >"$WORK/systemd.log" 2>&1 &
	server=$!
	server_pids+=("$server")
	until_true 60 listens "$WORK/systemd.sock" || fail "no socket"
	size_at "nbd+unix:///?socket=$WORK/systemd.sock"
	size_at "nbd+unix:///?socket=$WORK/systemd.sock"
	stop_server "$server"
fi

# wrong WORD... -- SPEC... -- ARGUMENT...: one sentence with every word, and status 1.
wrong() {
	local words=() word status=0

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	note "refused: $*"
	timeout 60 python3 "$WORK/activate.py" "$@" </dev/null >"$WORK/out" 2>"$WORK/err" || status=$?
	sed 's/^/    /' "$WORK/err"
	equal "the exit status" "$status" 1
	ours || return 0
	equal "the number of lines it said" "$(wc -l <"$WORK/err")" 1
	for word in "${words[@]}"; do
		grep -qF -e "$word" "$WORK/err" || fail "it did not mention '$word'"
	done
}

number=0
for option in "-U x" "-p 1" "-i ::1" -s "--run true"; do
	number=$((number + 1))
	# shellcheck disable=SC2086
	wrong LISTEN_FDS "${option%% *}" -- "unix:$WORK/w$number.sock" -- "$NBDRING" $option memory 1M
done
if ours; then
	for option in -4 --vsock --vsock=7; do
		number=$((number + 1))
		wrong LISTEN_FDS "${option%%=*}" -- "unix:$WORK/w$number.sock" -- "$NBDRING" "$option" memory 1M
	done
	NAMES=log wrong "descriptor 3, log" datagram -- "datagram:$WORK/dgram" -- "$NBDRING" memory 1M
	wrong "descriptor 4" "does not listen" -- "unix:$WORK/w.sock" connection -- "$NBDRING" memory 1M
	wrong "descriptor 3" "no socket" -- file -- "$NBDRING" memory 1M
	wrong "descriptor 3" "no socket" -- closed -- "$NBDRING" memory 1M
	COUNT=500 wrong "is no socket" -- "unix:$WORK/few.sock" -- "$NBDRING" memory 1M
	COUNT=many wrong "LISTEN_FDS=many" -- "unix:$WORK/x.sock" -- "$NBDRING" memory 1M
	COUNT=1000000 wrong "LISTEN_FDS=1000000" -- "unix:$WORK/y.sock" -- "$NBDRING" memory 1M

	note "sockets that are for another process are no excuse to serve the whole network"
	PID_OFFSET=1 wrong LISTEN_PID -- "unix:$WORK/z.sock" -- "$NBDRING" memory 1M

	note "nor do they disturb a server that was told where to serve"
	PID_OFFSET=1 python3 "$WORK/activate.py" "unix:$WORK/other.sock" -- \
		"$NBDRING" -f -U "$WORK/told.sock" -P "$WORK/told.pid" memory 1M \
		</dev/null >"$WORK/told.log" 2>&1 &
	server=$!
	server_pids+=("$server")
	wait_until_ready "$server" "$WORK/told.pid" || fail "the server did not start"
	size_at "nbd+unix:///?socket=$WORK/told.sock"
	stop_server "$server"
fi
