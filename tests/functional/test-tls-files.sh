#!/bin/bash
# Certificates and keys that are wrong are refused at the start, in one sentence; read
# again on SIGHUP, good ones hold for new connections and bad ones change nothing.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

if "$NBDRING" --dump-config | grep -qx tls=no; then
	refused "built without TLS" -- --tls=on memory 1M
	refused "built without TLS" -- --tls=require --tls-psk=/dev/null memory 1M
	exit 0
fi
need nbdinfo
need_tls
good=$WORK/good
info() {
	nbdinfo "nbds://localhost:$port/?tls-certificates=$1" >"$WORK/info.out" 2>&1
}

note "options"
refused "--tls=maybe" -- --tls=maybe memory 1M
refused "--oldstyle" "--tls=require" -- -o -p 10810 --tls=require --tls-certificates="$good" memory 1M
refused "--tls-certificates" "--tls=require" -- --tls-certificates="$good" memory 1M
refused "--tls-psk" "--tls=require" -- --tls=off --tls-psk="$good/keys.psk" memory 1M
refused "--tls-verify-peer" -- --tls-verify-peer memory 1M
refused "priority" "NOSUCH" -- --tls=on --tls-certificates="$good" --tls-priority=NORMAL:+NOSUCH \
	memory 1M
refused "--tls-certificates=" "--tls-psk=" -- --tls=on memory 1M

note "files"
for mode in on require; do
	refused "expired/server-cert.pem" "expired on 2020-01-02" -- --tls=$mode \
		--tls-certificates="$WORK/expired" memory 1M
	refused "wrong/server-key.pem" "server-cert.pem" -- --tls=$mode \
		--tls-certificates="$WORK/wrong" memory 1M
done
refused "nowhere/server-cert.pem" "No such file" -- --tls=on --tls-certificates="$WORK/nowhere" memory 1M
refused "plain/ca-cert.pem" "No such file" -- --tls=on --tls-certificates="$WORK/plain" \
	--tls-verify-peer memory 1M
refused "nokeys.psk" "No such file" -- --tls=on --tls-psk="$WORK/nokeys.psk" memory 1M
printf 'alice\n' >"$WORK/bad.psk"
refused "bad.psk" "line 1" -- --tls=on --tls-psk="$WORK/bad.psk" memory 1M

note "files that the server may not read"
as_nobody_can_run
cp -r "$good" "$WORK/closed"
chmod 755 "$WORK/closed"
chmod 644 "$WORK/closed/"*
chmod 000 "$WORK/closed/server-key.pem"
SERVER_PREFIX=("${AS_NOBODY[@]}")
refused "closed/server-key.pem" "Permission denied" -- --tls=on --tls-certificates="$WORK/closed" memory 1M
SERVER_PREFIX=()

note "a certificate that signs itself serves who knows it"
port=$(free_port)
start_server -p "$port" -i 127.0.0.1 --tls=require --tls-certificates="$WORK/plain" memory 1M
mkdir "$WORK/knows"
cp "$WORK/plain/server-cert.pem" "$WORK/knows/ca-cert.pem"
info "$WORK/knows" || fail "$(cat "$WORK/info.out")"
fails info "$good"
stop_server

note "where they usually are"
mkdir -p "$WORK/home/.pki"
cp -r "$good" "$WORK/home/.pki/nbdring"
chmod -R a+rX "$WORK/home"
SERVER_PREFIX=("${AS_NOBODY[@]}" env HOME="$WORK/home")
port=$(free_port)
if [ "$(id -u)" -eq 0 ]; then
	start_server -p "$port" -i 127.0.0.1 --tls=require memory 1M
	info "$good" || fail "$(cat "$WORK/info.out")"
	stop_server
fi
SERVER_PREFIX=()

note "a key that everybody may read is warned of"
cp -r "$good" "$WORK/open"
chmod 644 "$WORK/open/server-key.pem"
start_server --tls=on --tls-certificates="$WORK/open" memory 1M
logged "warning: .*open/server-key.pem can be read by everybody"
stop_server

note "read again"
# reload WORD: SIGHUP, and what the log says then.
reload() {
	kill -HUP "$PID"
	logged "$1"
	: >"$LOG"
}
cp -r "$good" "$WORK/now"
port=$(free_port)
start_server -p "$port" -i 127.0.0.1 --tls=require --tls-certificates="$WORK/now" memory 1M
info "$good" || fail "$(cat "$WORK/info.out")"
need_python_nbd
mkfifo "$WORK/go"
"$PYTHON" - "nbds://localhost:$port/?tls-certificates=$good" "$WORK" <<-'EOP' &
	import nbd, sys
	uri, work = sys.argv[1:]
	h = nbd.NBD()
	h.set_uri_allow_local_file(True)
	h.connect_uri(uri)
	h.pwrite(b"a" * 512, 0)
	open(work + "/in", "w").close()
	open(work + "/go").read()
	assert h.pread(512, 0) == b"a" * 512
	h.shutdown()
EOP
before=$!
until_true 60 test -e "$WORK/in" || fail "the connection from before did not come about"

cp "$WORK/other/"{server,ca}-*.pem "$WORK/now"
reload "were read again"
fails info "$good"
info "$WORK/other" || fail "$(cat "$WORK/info.out")"

cp "$WORK/expired/server-cert.pem" "$WORK/now"
reload "error: .*the old .* stay in use: .*now/server-cert.pem"
info "$WORK/other" || fail "$(cat "$WORK/info.out")"
rm "$WORK/now/server-cert.pem"
reload "error: .*the old .* stay in use: .*No such file"
info "$WORK/other" || fail "$(cat "$WORK/info.out")"

: >"$WORK/go"
wait "$before" || fail "the connection from before did not live on"
stop_server
