#!/usr/bin/env bash
#
# nbd over TLS: certificates and pre-shared keys, to this server and to others; plain
# clients of an encrypted remote, encrypted ones of a plain remote; and whom it does not
# talk to.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need certtool psktool nbdkit qemu-nbd nbdinfo nbdcopy
need_python_nbd
need_tls
good=$WORK/good
random_file "$DISK/image" 20000256

# uses URI: everything that is written comes back, with what is asked for in between.
uses() {
	nbdcopy "$DISK/image" "$1"
	nbdcopy "$1" "$DISK/copy"
	same_bytes "$DISK/image" "$DISK/copy"
	nbdcopy --synchronous --request-size=4096 --connections=1 "$1" "$DISK/copy"
	same_bytes "$DISK/image" "$DISK/copy"
}

through() {
	note "nbd $*"
	start_server nbd "$@"
	uses "$URI"
	stop_server
}

# remote COMMAND...: a server on $WORK/remote.sock until stop_remote.
remote() {
	rm -f "$WORK/remote.sock"
	"$@" >"$WORK/remote.log" 2>&1 &
	REMOTE=$!
	server_pids+=("$REMOTE")
	until_true 60 listens "$WORK/remote.sock" || fail "the remote did not start: $*"
}

stop_remote() {
	kill "$REMOTE"
	wait "$REMOTE" || true
}

socket=socket=$WORK/remote.sock

note "nbdkit with certificates, its clients' too"
remote nbdkit -f -U "$WORK/remote.sock" --tls=require --tls-certificates="$good" \
	--tls-verify-peer memory 20000256
through "$socket" tls=require "tls-certificates=$good"
through "nbds+unix:///?$socket&tls-certificates=$good"
through "nbds+unix:///?$socket&tls-certificates=$good&tls-hostname=127.0.0.1"
through "$socket" tls=require "tls-certificates=$good" tls-hostname=elsewhere tls-verify-peer=false
refused TLS -- -U "$WORK/no.sock" nbd "$socket" tls=require "tls-certificates=$good" \
	tls-hostname=elsewhere
refused TLS -- -U "$WORK/no.sock" nbd "$socket" tls=require "tls-certificates=$WORK/other"
refused "wants TLS" -- -U "$WORK/no.sock" nbd "$socket"
refused "of no use" -- -U "$WORK/no.sock" nbd "$socket" "tls-certificates=$good"

note "it comes back encrypted"
start_server nbd "$socket" tls=require "tls-certificates=$good" retry-pause=20
nbdinfo --size "$URI" >/dev/null
kill -KILL "$REMOTE"
wait "$REMOTE" || true
remote nbdkit -f -U "$WORK/remote.sock" --tls=require --tls-certificates="$good" \
	memory 20000256
uses "$URI"
stop_server
stop_remote

note "nbdkit with pre-shared keys"
remote nbdkit -f -U "$WORK/remote.sock" --tls=require --tls-psk="$good/keys.psk" memory 20000256
through "$socket" tls=require "tls-psk=$good/keys.psk" tls-username=alice
through "nbds+unix://alice@/?$socket&tls-psk-file=$good/keys.psk"
refused TLS -- -U "$WORK/no.sock" nbd "$socket" tls=require "tls-certificates=$good"
stop_remote

note "qemu-nbd"
truncate -s 20000256 "$DISK/qemu.img"
remote qemu-nbd -t -e 0 -f raw -k "$WORK/remote.sock" \
	--object "tls-creds-x509,id=tls,endpoint=server,dir=$good,verify-peer=yes" \
	--tls-creds tls "$DISK/qemu.img"
through "$socket" tls=require "tls-certificates=$good"
stop_remote

note "a remote without TLS: as the mode says"
remote nbdkit -f -U "$WORK/remote.sock" --tls=off memory 20000256
through "$socket" tls=on "tls-certificates=$good"
refused "does not offer it" -- -U "$WORK/no.sock" nbd "$socket" tls=require \
	"tls-certificates=$good"
stop_remote

"$NBDRING" --dump-config | grep -qx tls=yes || exit 0

note "this server as the remote, the clients plain; the other way round; and both"
start_server --tls=require --tls-certificates="$good" --tls-verify-peer memory 20000256
remote=$PID secret=$SOCK
through "socket=$secret" tls=require "tls-certificates=$good"
start_server --tls=require --tls-certificates="$good" nbd "socket=$secret" tls=require \
	"tls-certificates=$good"
uses "nbds+unix:///?socket=$SOCK&tls-certificates=$good"
stop_server
stop_server "$remote"
start_server memory 20000256
remote=$PID
start_server --tls=require --tls-certificates="$good" nbd "socket=$SOCK"
uses "nbds+unix:///?socket=$SOCK&tls-certificates=$good"
stop_server
stop_server "$remote"
