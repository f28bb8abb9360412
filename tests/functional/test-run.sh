#!/usr/bin/env bash
#
# --run: the command gets $uri, $nbd, $unixsocket, $port and $exportname, its exit
# status becomes the server's, and the server and its socket go with it.

# The variables in quotes are for the server's shell.
# shellcheck disable=SC2016

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need nbdinfo nbdcopy qemu-img
print_all='printf "%s\n" "$uri" "$nbd" "$unixsocket" "$port" "$exportname"'

# run ARGUMENT...: sets the five variables from what the command saw.
run() {
	"$NBDRING" "$@" --run "$print_all" >"$WORK/run.out"
	{
		read -r uri
		read -r nbd
		read -r unixsocket
		read -r port
		read -r exportname
	} <"$WORK/run.out"
}

status_of() {
	local status=0

	"$@" || status=$?
	printf '%s' "$status"
}

note "a private socket"
run -U - memory 1M
[[ $uri =~ ^nbd\+unix:///?\?socket=(.*)$ ]] || fail "uri is $uri"
equal "the socket in the uri" "${BASH_REMATCH[1]}" "$unixsocket"
# \$nbd is the older name for the same.
equal nbd "$nbd" "$uri"
[ -n "$unixsocket" ] || fail "\$unixsocket is empty"
equal port "$port" ""
equal exportname "$exportname" ""
[ ! -e "$unixsocket" ] || fail "the socket is still there"
[ ! -e "$(dirname "$unixsocket")" ] || [ "$(dirname "$unixsocket")" = /tmp ] ||
	fail "the folder of the private socket is still there"

note "a named socket and a named export"
run -U "$WORK/sock" -e disk memory 1M
equal unixsocket "$unixsocket" "$WORK/sock"
equal uri "$uri" "nbd+unix:///disk?socket=$WORK/sock"
equal nbd "$nbd" "$uri"
equal exportname "$exportname" disk
# Of a socket that was asked for by name nbdkit leaves the file.
if ours; then
	[ ! -e "$WORK/sock" ] || fail "the socket is still there"
else
	rm "$WORK/sock"
fi

note "TCP"
free=$(free_port)
run -i 127.0.0.1 -p "$free" memory 1M
equal port "$port" "$free"
equal unixsocket "$unixsocket" ""
[[ $uri =~ ^nbd://(localhost|127\.0\.0\.1):$free/?$ ]] || fail "uri is $uri"
equal nbd "$nbd" "$uri"

note "the addresses work"
"$NBDRING" -U - memory 1M --run 'nbdinfo --size "$uri"' >"$WORK/size"
equal size "$(cat "$WORK/size")" 1048576
"$NBDRING" -U - memory 1M --run 'qemu-img info -f raw "$uri" && qemu-img info -f raw "$nbd"'
"$NBDRING" -U - -e some/name memory 1M --run 'nbdinfo --size "$uri" && qemu-img info -f raw "$nbd"'
"$NBDRING" -i 127.0.0.1 -p "$(free_port)" memory 1M --run 'nbdinfo --size "$uri"'
"$NBDRING" -i 127.0.0.1 -p "$(free_port)" memory 1M --run 'qemu-img info -f raw "$nbd"'

note "the exit status of the command"
equal status "$(status_of "$NBDRING" -U - memory 1M --run 'exit 0')" 0
equal status "$(status_of "$NBDRING" -U - memory 1M --run 'exit 42')" 42
equal status "$(status_of "$NBDRING" -U - memory 1M --run 'kill -USR1 $$')" 138
equal status "$(status_of "$NBDRING" -U - memory 1M --run 'nbdinfo --can write "$uri"')" 0

note "what the command wrote is in the file when the server has ended"
truncate -s 1M "$DISK/disk.img"
random_file "$WORK/data" 1048576
export data=$WORK/data
"$NBDRING" -U - file "$DISK/disk.img" --run 'nbdcopy "$data" "$uri"'
same_bytes "$DISK/disk.img" "$WORK/data"

note "a file whose name says little, in a folder with a space"
mkdir "$DISK/a folder"
cp "$DISK/disk.img" "$DISK/a folder/-x=y; exit 3"
(cd "$DISK/a folder" && "$NBDRING" -U - file file="-x=y; exit 3" --run 'nbdinfo --size "$uri"')
if ours; then
	note "an export name with odd characters keeps to its quotes"
	run -U - -e $'it\'s $(exit 3) "odd"' memory 1M
	equal exportname "$exportname" $'it\'s $(exit 3) "odd"'

	note "without a listener, --run makes a private one"
	run memory 1M
	[ -n "$unixsocket" ] || fail "\$unixsocket is empty"
	equal port "$port" ""

	note "both at once"
	free=$(free_port)
	run -U "$WORK/both" -i 127.0.0.1 -p "$free" memory 1M
	equal unixsocket "$unixsocket" "$WORK/both"
	equal port "$port" "$free"
fi
