#!/usr/bin/env bash
#
# TLS in the place of qemu-nbd: certificates, keys, and who is let in with them.

# shellcheck source=tests/functional/qemu-nbd.sh
. "$(dirname "$0")/qemu-nbd.sh"
need nbdinfo
need_tls

random_file "$DISK/disk" 1048576
good=$WORK/good

# seen FOLDER: the size, for a client with the certificates in that folder.
seen() {
	equal "the size for $1" \
		"$(nbdinfo --size "nbds+unix://localhost/?socket=$SOCK&tls-certificates=$WORK/$1")" 1048576
}

not_seen() {
	fails nbdinfo --size "nbds+unix://localhost/?socket=$SOCK&tls-certificates=$WORK/$1"
}

certificates() {
	qemu_nbd -t -f raw --object "tls-creds-x509,id=tls0,endpoint=server,dir=$good" \
		--tls-creds tls0 "$DISK/disk"
	seen good
	not_seen plain-client
	not_seen stranger
	fails nbdinfo --size "$URI"
	stop_server
	qemu_nbd -t -f raw --tls-creds tls0 \
		--object "tls-creds-x509,id=tls0,endpoint=server,dir=$good,verify-peer=no" "$DISK/disk"
	seen good
	seen plain-client
	stop_server
}
each_qemu_nbd certificates

keys() {
	qemu_nbd -t -f raw --object "tls-creds-psk,id=tls0,endpoint=server,dir=$good" \
		--tls-creds tls0 "$DISK/disk"
	equal "the size" "$(nbdinfo --size \
		"nbds+unix://alice@/?socket=$SOCK&tls-psk-file=$good/keys.psk")" 1048576
	fails nbdinfo --size "nbds+unix://carol@/?socket=$SOCK&tls-psk-file=$good/keys.psk"
	fails nbdinfo --size "$URI"
	stop_server
}
each_qemu_nbd keys

# The client is "tenant 7" of "Example, Inc.". Commas are doubled on the command line,
# that of the name is escaped besides.
authorized() {
	local who=O=Example\\,,\ Inc.,,CN=tenant\ 7
	local credentials=(--object "tls-creds-x509,id=tls0,endpoint=server,dir=$good" --tls-creds tls0)

	qemu_nbd -t -f raw "${credentials[@]}" --object "authz-simple,id=a,identity=$who" \
		--tls-authz a "$DISK/disk"
	seen good
	stop_server
	for other in 'CN=tenant 7' "$who,,C=GB" 'O=*,,CN=*' '*'; do
		qemu_nbd -t -f raw "${credentials[@]}" --object "authz-simple,id=a,identity=$other" \
			--tls-authz a "$DISK/disk"
		not_seen good
		stop_server
	done
	qemu_nbd -t -f raw "${credentials[@]}" --tls-authz a --object \
		"authz-list,id=a,policy=deny,rules.0.match=CN=x,rules.0.policy=deny,rules.1.match=$who,rules.1.policy=allow" \
		"$DISK/disk"
	seen good
	stop_server
	qemu_nbd -t -f raw "${credentials[@]}" --tls-authz a --object \
		"authz-list,id=a,policy=allow,rules.0.match=$who,rules.0.policy=deny" "$DISK/disk"
	not_seen good
	stop_server
}
each_qemu_nbd authorized

# says MESSAGE ARGUMENT...
says() {
	local message=$1 status=0
	shift

	timeout 60 "$QEMU_NBD" -k "$WORK/none.sock" "$@" "$DISK/disk" \
		</dev/null >"$WORK/out" 2>"$WORK/err" || status=$?
	equal "the exit status of $*" "$status" 1
	grep -qF -e "$message" "$WORK/err" || fail "$*: '$message' is not in: $(cat "$WORK/err")"
}

faults() {
	says "No TLS credentials with id 'tls0'" -f raw --tls-creds tls0
	says "Parameter 'qom-type' does not accept value 'foo'" -f raw --object foo,id=x
	says "Failed to get TLS creds" -f raw --tls-creds tls0 \
		--object "tls-creds-x509,id=tls0,endpoint=client,dir=$WORK/plain-client"
}
each_qemu_nbd faults
QEMU_NBD=$WORK/bin/qemu-nbd
says "'passwordid' of the object 'tls0' is not possible" -f raw --tls-creds tls0 \
	--object "tls-creds-x509,id=tls0,endpoint=server,dir=$good,passwordid=x"
says "format=glob is not possible" -f raw --tls-creds tls0 --tls-authz a \
	--object "tls-creds-x509,id=tls0,endpoint=server,dir=$good" \
	--object authz-list,id=a,rules.0.match=x,rules.0.format=glob
