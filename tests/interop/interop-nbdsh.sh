#!/usr/bin/env bash
#
# libnbd through its Python module: what the other clients do not show. Simple and
# structured replies, holes in reads, DF, meta contexts, the options before GO,
# and every command with every flag it takes. The checks are in nbdsh-checks.py.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
need_python_nbd

check() {
	"$PYTHON" "$here/interop/nbdsh-checks.py" "$@"
}

sparse_file "$DISK/sparse.img"
cp --sparse=always "$DISK/sparse.img" "$DISK/original.img"

note "a sparse file"
start_server file "$DISK/sparse.img"
check negotiation "$URI"
check holes "$URI" "$DISK/original.img"
check contexts "$URI"
check commands "$URI"
check no-hole "$URI" "$DISK/sparse.img"
check limits "$URI"
check two-connections "$URI"
stop_server

if ours; then
	note "past the page cache"
	cp --sparse=always "$DISK/original.img" "$DISK/sparse.img"
	start_server file "$DISK/sparse.img" cache=none
	check holes "$URI" "$DISK/original.img"
	check commands "$URI"
	check no-hole "$URI" "$DISK/sparse.img"
	check limits "$URI"
	stop_server
fi

note "memory"
start_server memory 16M
check commands "$URI"
check no-hole "$URI"
check two-connections "$URI"
check limits "$URI"
stop_server

note "read-only"
start_server -r file "$DISK/original.img"
check holes "$URI" "$DISK/original.img"
check read-only "$URI"
stop_server

note "several exports"
mkdir "$DISK/folder"
truncate -s 1M "$DISK/folder/one"
truncate -s 2M "$DISK/folder/two"
start_server file dir="$DISK/folder"
check exports "$URI" one:1048576 two:2097152
stop_server
