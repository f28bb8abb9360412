#!/usr/bin/env bash
#
# Rules of access about what clients prove by TLS, with real ones: keys, certificates,
# and clients that have proved nothing yet.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo
need_tls
need_python_nbd
good=$WORK/good
mkdir "$DISK/disks"
for name in alice bob secret public; do
	random_file "$DISK/disks/$name" 65536
done

# as WHO EXPORT: the URI of an export, for who has that key; - has none and is not encrypted.
as() {
	if [ "$1" = - ]; then
		printf 'nbd+unix:///%s?socket=%s\n' "$2" "$SOCK"
	elif [ "$1" = certificate ]; then
		printf 'nbds+unix:///%s?socket=%s&tls-certificates=%s\n' "$2" "$SOCK" "$good"
	else
		printf 'nbds+unix://%s@/%s?socket=%s&tls-psk-file=%s\n' "$1" "$2" "$SOCK" \
			"$good/keys.psk"
	fi
}

served() {
	nbdinfo "$(as "$1" "$2")" >"$WORK/out" 2>"$WORK/err" || fail "$1 was not served '$2'"
}

not_served() {
	fails nbdinfo "$(as "$1" "$2")" >"$WORK/out" 2>"$WORK/err"
}

names() {
	nbdinfo --list --json "$(as "$1" "")" | python3 -c '
import json, sys
print(*sorted(e["export-name"] for e in json.load(sys.stdin)["exports"]))'
}

# answers OPTION NAME: how one is answered that has not encrypted.
answers() {
	PYTHONPATH=$top/tests/conformance "$PYTHON" - "$SOCK" "$1" "$2" <<-'EOT'
		import sys
		from nbdwire import Client, Disconnected, Opt, Rep, info_data, meta_data

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
		assert len(replies) == 1 or not replies[-1].is_error
		print(Rep(replies[-1].type).name)
	EOT
}

note "each their own, by key; the rest may see what is public"
cat >"$WORK/rules" <<EOT
allow export=%psk
allow export=secret psk=bob read-only
allow export=public plain read-only
EOT
start_server --tls=on --tls-psk="$good/keys.psk" --access "$WORK/rules" \
	file dir="$DISK/disks"
served alice alice
served bob bob
served bob secret
grep -q 'is_read_only: true' "$WORK/out" || fail "it does not say that it is read-only"
not_served alice bob
not_served alice secret
not_served alice public
equal "what alice sees" "$(names alice)" "alice"
equal "what bob sees" "$(names bob)" "bob secret"
grep -q "(alice): export 'bob': denied" "$LOG" || fail "the log does not say who it was"

note "without TLS: told to use it, whether or not the export is there"
served - public
equal "what anybody sees" "$(names -)" "public"
for name in alice secret nothing; do
	for option in GO INFO; do
		equal "the answer to $option $name" "$(answers $option $name)" ERR_TLS_REQD
	done
	equal "the answer to SET_META_CONTEXT" "$(answers SET_META_CONTEXT $name)" ERR_POLICY
	equal "EXPORT_NAME" "$(answers EXPORT_NAME $name)" dropped
done
equal "the answer for what nobody may use" "$(answers GO no/body)" ERR_UNKNOWN
stop_server

note "a server without TLS does not speak of it"
start_server --access "$WORK/rules" file dir="$DISK/disks"
equal "the answer to GO" "$(answers GO secret)" ERR_UNKNOWN
served - public
stop_server

note "certificates"
for rule in 'subject="CN=tenant 7,*"' 'issuer=*' 'subject=CN=other,*' 'psk=*' \
	'subject=*,O=Example'; do
	start_server --tls=require --tls-certificates="$good" --tls-verify-peer \
		--access-rule "allow $rule" memory 1M
	case $rule in
	*tenant* | issuer*) served certificate "" ;;
	*) not_served certificate "" ;;
	esac
	stop_server
done
