#!/usr/bin/env bash
#
# What the command tells about itself: --version, --help, --dump-config,
# BACKEND --help, BACKEND --dump-plugin. Programs read the last two, so they are
# lines of key=value.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

name=$(basename "$NBDRING")

# tell ARGUMENT...: what it prints goes to $WORK/told; it ends well and says
# nothing on stderr.
tell() {
	note "$*"
	"$NBDRING" "$@" </dev/null >"$WORK/told" 2>"$WORK/stderr" || fail "$* ends with $?"
	[ ! -s "$WORK/stderr" ] || fail "$* says on stderr: $(cat "$WORK/stderr")"
	[ -s "$WORK/told" ] || fail "$* says nothing"
}

tells() {
	grep -qE -e "$1" "$WORK/told" || fail "there is no line like '$1' in: $(cat "$WORK/told")"
}

only_pairs() {
	! grep -vE '^[A-Za-z_][A-Za-z0-9_.]*=' "$WORK/told" || fail "not every line is key=value"
}

tell --version
tells "^$name [0-9]+\.[0-9]+\.[0-9]+"
version=$(sed -E '1s/^[a-z-]+ ([0-9.]+).*/\1/;q' "$WORK/told")
tell -V
tells "^$name $version"

tell --help
for option in -U -p -i -r -e -f -P -s -t -n -o --run --mask-handshake --no-sr --log -v -D --dump-config; do
	tells "(^|[^[:alnum:]-])$option([^[:alnum:]-]|\$)"
done
if ours; then
	for backend in file memory null pattern full split; do
		tells "(^|[^[:alnum:]])$backend([^[:alnum:]]|\$)"
	done
fi

tell --dump-config
only_pairs
tells "^name=$name\$"
tells "^version=$version\$"
tells "^binary=/"
tells "^host_os="

tell file --help
tells '(^|[^[:alnum:]])file='
tells '(^|[^[:alnum:]])dir='
tells '(^|[^[:alnum:]])cache='
if ours; then
	tells '(^|[^[:alnum:]])fd='
	tells 'writeback'
	tells 'dontcache'
fi
tell memory --help
tells 'size='
tell split --help
tells 'file='
tell pattern --help
tells 'size='
tell full --help
tells 'size='
tell null --help
tells 'size='

for backend in file memory null pattern full split concat stripe mirror; do
	tell "$backend" --dump-plugin
	only_pairs
	tells "^name=$backend\$"
	tells "^version=$version\$"
done
tell file --dump-plugin
tells '^magic_config_key=file$'
tell memory --dump-plugin
tells '^magic_config_key=size$'
