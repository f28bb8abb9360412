#!/bin/bash
# Certificates and keys for the tests of TLS, made by GnuTLS's tools:
#
#   make-certificates.sh FOLDER
#
# good/      what a server and its clients have: CA, server "localhost" (and 127.0.0.1),
#            client "tenant 7" with alternative names, keys.psk with alice and bob
# other/     a server and a client that another CA has signed; ca-cert.pem is that CA's
# stranger/  the same client, with the good CA's certificate, so that it trusts the server
# plain-client/  the good CA's certificate, and no other
# posing/    a client that shows a server's certificate
# revoked/   as good/, with a list that revokes the client
# expired/   as good/, but the server's certificate has expired
# plain/     a server whose certificate signs itself
# wrong/     good/, with the key of another certificate
#
# The keys are elliptic, which takes no time to make.

set -euo pipefail

cd "$1"

quietly() {
	"$@" >certtool.log 2>&1 || {
		cat certtool.log >&2
		exit 1
	}
}

key() {
	quietly certtool --generate-privkey --key-type=ecdsa --outfile "$1"
}

# ca FOLDER NAME
ca() {
	mkdir -p "$1"
	key "$1/ca-key.pem"
	printf '%s\n' "cn = \"$2\"" ca cert_signing_key crl_signing_key >template
	quietly certtool --generate-self-signed --load-privkey "$1/ca-key.pem" \
		--template template --outfile "$1/ca-cert.pem"
}

# signed FOLDER NAME LINE...: a certificate of the CA in the folder, with these lines.
signed() {
	local folder=$1 name=$2
	shift 2

	[ -e "$folder/$name-key.pem" ] || key "$folder/$name-key.pem"
	printf '%s\n' "$@" signing_key >template
	quietly certtool --generate-certificate --load-privkey "$folder/$name-key.pem" \
		--load-ca-certificate "$folder/ca-cert.pem" \
		--load-ca-privkey "$folder/ca-key.pem" \
		--template template --outfile "$folder/$name-cert.pem"
}

server=('cn = "localhost"' 'dns_name = "localhost"' 'ip_address = "127.0.0.1"' tls_www_server)
client=('cn = "tenant 7"' 'organization = "Example, Inc."' 'dns_name = "c.example"'
	'ip_address = "192.0.2.1"' 'uri = "urn:x"' 'email = "a@b.example"' tls_www_client
	'serial = 7')

ca good "good CA"
signed good server "${server[@]}"
signed good client "${client[@]}"
psktool -u alice -p good/keys.psk >psktool.log
psktool -u bob -p good/keys.psk >psktool.log
chmod 600 good/keys.psk

ca other "other CA"
signed other server "${server[@]}"
signed other client "${client[@]}"

mkdir stranger
cp good/ca-cert.pem other/client-*.pem stranger

mkdir plain-client
cp good/ca-cert.pem plain-client

mkdir posing
cp good/ca-cert.pem posing
cp good/server-cert.pem posing/client-cert.pem
cp good/server-key.pem posing/client-key.pem

cp -r good revoked
printf 'crl_next_update = 100\ncrl_number = 1\n' >template
quietly certtool --generate-crl --load-ca-privkey good/ca-key.pem \
	--load-ca-certificate good/ca-cert.pem --load-certificate good/client-cert.pem \
	--template template --outfile revoked/ca-crl.pem

cp -r good expired
rm expired/server-*.pem
signed expired server "${server[@]}" 'activation_date = "2020-01-01 00:00:00 UTC"' \
	'expiration_date = "2020-01-02 00:00:00 UTC"'

mkdir plain
key plain/server-key.pem
printf '%s\n' "${server[@]}" signing_key >template
quietly certtool --generate-self-signed --load-privkey plain/server-key.pem \
	--template template --outfile plain/server-cert.pem

cp -r good wrong
cp other/server-key.pem wrong

rm -f template certtool.log psktool.log
