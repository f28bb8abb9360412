#!/usr/bin/env bash
#
# --selinux-label where there is no SELinux: one sentence, no server with another label
# than was asked for.  (That the label is given to the kernel is in unit/test-label.)

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
ours || skip "nbdkit says it differently"
[ ! -d /sys/fs/selinux ] || skip "this machine has SELinux"

if "$NBDRING" --dump-config | grep -q '^selinux=yes'; then
	refused "svirt_socket_t" "no SELinux" -- -U "$WORK/s" memory 1M \
		--selinux-label=system_u:object_r:svirt_socket_t:s0
else
	refused "built without libselinux" -- -U "$WORK/s" memory 1M \
		--selinux-label=system_u:object_r:svirt_socket_t:s0
fi
[ ! -e "$WORK/s" ] || fail "there is a socket"
