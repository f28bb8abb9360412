#!/usr/bin/env bash
#
# The units for systemd are ones that systemd understands, and keep the service in.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
ours || skip "these are ours"
need systemd-analyze
units=${NBDRING_TEST_UNITS:?the folder of the units}

# As installed, but with the program where it is now.
mkdir "$WORK/units"
cp "$units"/nbdring@.socket "$WORK/units"
sed "s|^ExecStart=[^ ]*|ExecStart=$NBDRING|" "$units/nbdring@.service" >"$WORK/units/nbdring@.service"
grep -qE "^ExecStart=$NBDRING -f --name=%i @/.*/nbdring/%i\.conf\$" "$WORK/units/nbdring@.service" ||
	fail "the service starts $(grep ExecStart "$WORK/units/nbdring@.service")"

note "they can be read without a word of complaint"
cd "$WORK/units"
for unit in nbdring@disk7.service nbdring@disk7.socket; do
	cp "nbdring@.${unit##*.}" "$unit"
	SYSTEMD_UNIT_PATH=$WORK/units: systemd-analyze verify --man=no "./$unit" >"$WORK/verify" 2>&1 ||
		fail "$unit: $(cat "$WORK/verify")"
	# What other units of this machine say is not ours.
	! grep -F nbdring@ "$WORK/verify" || fail "$unit is complained about"
done

note "the service's exposure is below 2.0"
help=$(systemd-analyze --help)
[[ $help == *--offline* ]] || skip "this systemd-analyze is older than --offline"
systemd-analyze security --offline=true --threshold=19 --no-pager ./nbdring@disk7.service \
	>"$WORK/security" 2>&1 || fail "$(tail -n 1 "$WORK/security")"
tail -n 1 "$WORK/security"

note "what its filter of system calls lets through is enough for the server's own sandbox"
grep -qE '^SystemCallFilter=.*landlock_restrict_self.* seccomp$' nbdring@.service
