#!/usr/bin/env bash
#
# The systemd journal gets lines with fields, also by default where standard error leads
# to it. The journal here is a socket in a mount namespace of the test's own.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need qemu-io unshare
ours || skip "nbdkit does not know the journal"
journal=(python3 "$here/functional/journal.py")

# A disk that fails where it is read.
serve=(--filter=error memory 1M error-pread=EIO error-pread-rate=100%)
# shellcheck disable=SC2016
use='qemu-io -f raw -c "read 0 512" "$uri" >/dev/null 2>&1; true'

# has NAME VALUE: some entry has such a field; and all named before it in this call.
entry_with() {
	python3 - "$WORK/journal" "$@" <<-'EOT'
		import json, re, sys
		wanted = dict(word.split('=', 1) for word in sys.argv[2:])
		for line in open(sys.argv[1]):
		    entry = json.loads(line)
		    if all(re.fullmatch(value, entry.get(name, '')) for name, value in wanted.items()):
		        sys.exit(0)
		sys.exit('no entry has %s in\n%s' % (wanted, open(sys.argv[1]).read()))
	EOT
}

note "no journal behind standard error: lines with priorities, for it to read"
"${journal[@]}" "$WORK/none" "" -- "$NBDRING" --log=stderr "${serve[@]}" --run "$use"
grep -q '^<4>export .*: error: READ offset=0' "$WORK/none.err" ||
	fail "standard error has: $(cat "$WORK/none.err")"

note "JOURNAL_STREAM of somebody else: lines for people"
JOURNAL_STREAM=1:1 "$NBDRING" "${serve[@]}" --run "$use" 2>"$WORK/err"
grep -q '^nbdring: warning: export' "$WORK/err" || fail "standard error has: $(cat "$WORK/err")"

need_root "make a place for a journal"
unshare -m true 2>/dev/null || skip "no mount namespaces here"
# shellcheck disable=SC2016
elsewhere=(unshare -m bash -c '
	mkdir -p /run/systemd 2>/dev/null
	mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal || exit 77
	exec "$@"' -)
"${elsewhere[@]}" true || skip "nothing can be mounted here"

in_journal() {
	"${elsewhere[@]}" "${journal[@]}" "$WORK/journal" /run/systemd/journal/socket -- \
		"$NBDRING" "$@"
}

note "fields, by default"
in_journal "${serve[@]}" --run "$use"
entry_with PRIORITY=4 ERRNO=5 LAYER=error EXPORT= CLIENT='unix:pid=.*' CODE_FILE='.*command\.c' \
	CODE_LINE='[0-9]+' CODE_FUNC='.+' SYSLOG_IDENTIFIER=nbdring \
	MESSAGE="export '' client unix:.*: error: READ offset=0 length=512: .*"
[ ! -s "$WORK/journal.err" ] || fail "standard error has it, too: $(cat "$WORK/journal.err")"

note "by name, from within the sandbox, with the lines of a layer"
in_journal --sandbox=auto --log=journald "${serve[@]}" --run "$use"
entry_with ERRNO=5 LAYER=error
echo 1G >"$WORK/rate"
in_journal --log=journal --filter=rate memory 1M rate-file="$WORK/rate" --run "
	echo 2G >$WORK/rate
	qemu-io -f raw -c 'read 0 512' \"\$uri\" >/dev/null
	timeout 60 sh -c 'until grep -q bits $WORK/journal; do sleep 0.05; done'"
entry_with LAYER=rate PRIORITY=6 EXPORT=
