#!/bin/bash
# Real clients over TLS: certificates with and without clients', pre-shared keys, Unix
# sockets and TCP, one worker and several; every byte is compared.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

need certtool psktool nbdinfo nbdcopy qemu-img qemu-io fio
need_tls
good=$WORK/good
random_file "$DISK/image" 20000003
truncate -s 20000256 "$DISK/image"

# tls_uri: that of the last server, for clients that may read its files.
tls_uri() {
	printf 'nbds+unix:///?socket=%s&tls-certificates=%s\n' "$SOCK" "${1:-$good}"
}

note "nbdinfo and nbdcopy, both ways"
start_server --tls=require --tls-certificates="$good" file "$DISK/image"
nbdinfo "$(tls_uri)" | grep -q '^protocol: newstyle-fixed with TLS' || fail "it is not encrypted"
nbdcopy "$(tls_uri)" "$DISK/copy"
same_bytes "$DISK/image" "$DISK/copy"
stop_server
for threads in 1 2; do
	start_server -t "$threads" --tls=require --tls-certificates="$good" memory 20000256
	nbdcopy "$DISK/image" "$(tls_uri)"
	nbdcopy "$(tls_uri)" "$DISK/copy"
	same_bytes "$DISK/image" "$DISK/copy"
	nbdcopy --connections=1 --requests=1 --synchronous "$DISK/image" "$(tls_uri)"
	nbdcopy --synchronous "$(tls_uri)" "$DISK/copy"
	same_bytes "$DISK/image" "$DISK/copy"
	stop_server
done

note "every kind of cipher, records made by the server and by the library"
"$NBDRING" --dump-config | grep -q '^tls_own_records=AES-128-GCM AES-256-GCM CHACHA20-POLY1305$' ||
	fail "--dump-config does not say whose records these are"
for version in 1.2 1.3; do
	for cipher in AES-128-GCM CHACHA20-POLY1305 AES-128-CCM; do
		start_server --tls=require --tls-certificates="$good" \
			--tls-priority="NORMAL:-VERS-ALL:+VERS-TLS$version:-CIPHER-ALL:+$cipher" \
			memory 20000256
		nbdcopy "$DISK/image" "$(tls_uri)"
		nbdcopy "$(tls_uri)" "$DISK/copy"
		same_bytes "$DISK/image" "$DISK/copy"
		stop_server
	done
done
start_server --tls=require --tls-certificates="$good" --tls-library-records memory 20000256
nbdcopy "$DISK/image" "$(tls_uri)"
nbdcopy "$(tls_uri)" "$DISK/copy"
same_bytes "$DISK/image" "$DISK/copy"
stop_server

note "clients without TLS: as the mode says"
start_server --tls=on --tls-certificates="$good" memory 1M
nbdinfo "$URI" | grep -q '^protocol: newstyle-fixed without TLS' || fail "it is encrypted"
nbdinfo "$(tls_uri)" | grep -q 'with TLS' || fail "it is not encrypted"
stop_server
start_server --tls=require --tls-certificates="$good" memory 1M
fails nbdinfo "$URI"
fails qemu-img info "$URI"
stop_server

note "clients' certificates"
start_server -v --tls=require --tls-certificates="$good" --tls-verify-peer memory 1M
nbdinfo "$(tls_uri)" >"$WORK/out"
logged ', is CN=tenant 7,O=Example\\, Inc.'
for who in stranger plain-client posing; do
	fails nbdinfo "$(tls_uri "$WORK/$who")" 2>"$WORK/err"
done
logged 'warning: .*TLS: Certificate is required'
logged 'warning: .*TLS: .*purpose'
stop_server
start_server --tls=require --tls-certificates="$WORK/revoked" --tls-verify-peer memory 1M
fails nbdinfo "$(tls_uri)" 2>"$WORK/err"
logged 'warning: .*TLS: .*revoked'
stop_server

note "a server that the client does not trust"
port=$(free_port)
start_server -p "$port" -i 127.0.0.1 --tls=require --tls-certificates="$WORK/other" memory 1M
fails nbdinfo "nbds://localhost:$port/?tls-certificates=$good" 2>"$WORK/err"
stop_server

note "pre-shared keys"
start_server -v --tls=require --tls-psk="$good/keys.psk" memory 20000256
psk="nbds+unix://%s@/?socket=$SOCK&tls-psk-file=%s"
# shellcheck disable=SC2059
nbdcopy "$DISK/image" "$(printf "$psk" alice "$good/keys.psk")"
# shellcheck disable=SC2059
nbdcopy "$(printf "$psk" bob "$good/keys.psk")" "$DISK/copy"
same_bytes "$DISK/image" "$DISK/copy"
logged ', is bob$'
sed 's/alice:../alice:00/' "$good/keys.psk" >"$WORK/forged.psk"
# shellcheck disable=SC2059
fails nbdinfo "$(printf "$psk" alice "$WORK/forged.psk")" 2>"$WORK/err"
printf 'mallory:00112233445566778899aabbccddeeff\n' >"$WORK/forged.psk"
# shellcheck disable=SC2059
fails nbdinfo "$(printf "$psk" mallory "$WORK/forged.psk")" 2>"$WORK/err"

note "qemu with a key"
qemu-img compare --object "tls-creds-psk,id=t,dir=$good,username=alice,endpoint=client" \
	--image-opts "driver=nbd,server.type=unix,server.path=$SOCK,tls-creds=t" \
	"driver=raw,file.filename=$DISK/image"
stop_server

note "qemu with certificates, over TCP"
port=$(free_port)
start_server -p "$port" -i 127.0.0.1 --tls=require --tls-certificates="$good" --tls-verify-peer \
	memory 20000256
qemu=(--object "tls-creds-x509,id=t,dir=$good,endpoint=client,verify-peer=on")
target="driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=$port,tls-creds=t"
qemu-img convert "${qemu[@]}" -n -f raw --target-image-opts "$DISK/image" "$target"
qemu-img compare "${qemu[@]}" --image-opts "$target" "driver=raw,file.filename=$DISK/image"
qemu-io "${qemu[@]}" --image-opts "$target" -c 'write -P 7 100 1234567' -c 'read -P 7 100 1234567' \
	-c 'write -z 4096 65536' -c 'read -P 0 4096 65536' -c flush >"$WORK/out" ||
	fail "qemu-io: $(cat "$WORK/out")"
! grep -q 'verification failed' "$WORK/out" || fail "qemu-io read back something else"
stop_server

note "fio, verifying"
as_nobody_can_run
chmod -R a+rX "$WORK"
mkdir -p "$WORK/home/.pki/libnbd"
cp "$good"/ca-cert.pem "$WORK/home/.pki/libnbd"
cd "$WORK" || exit
start_server --tls=require --tls-certificates="$good" memory 16M
chmod 777 "$SOCK"
"${AS_NOBODY[@]}" env HOME="$WORK/home" fio --name=tls --ioengine=nbd --iodepth=32 --rw=randrw \
	--bsrange=512-256k --size=16M --verify=crc32c --uri="nbds+unix:///?socket=$SOCK" \
	>"$WORK/fio.out" 2>&1 || fail "fio: $(cat "$WORK/fio.out")"
stop_server

note "the server's own address is one that a client can use"
# shellcheck disable=SC2016
"$NBDRING" --tls=require --tls-certificates="$good" memory 1M --run 'nbdinfo "$uri"' |
	grep -q 'with TLS' || fail "\$uri does not lead to TLS"
# shellcheck disable=SC2016
equal "the URI" "$("$NBDRING" -U "$WORK/u" --tls=require --tls-psk="$good/keys.psk" memory 1M \
	--run 'printf %s "$uri"')" "nbds+unix:///?socket=$WORK/u&tls-psk-file=$good/keys.psk"
