# shellcheck shell=bash
# Shared by the scripts in this folder and by .ci/run: where the repository is,
# how packages get installed, how a build directory is made and brought up to
# date. Source it; it runs nothing by itself.
#
# Everything here is safe to repeat: what is installed is not asked for again,
# what is configured is not configured again, so a second run needs no network.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=${0#"$PWD"/}
jobs=${JOBS:-$(nproc)}

# What each job needs, by Debian's names. The lists hold for Debian 12 and 13.
# shellcheck disable=SC2034
build_packages=(gcc libc6-dev meson ninja-build pkg-config liburing-dev liburcu-dev
	libgnutls28-dev libseccomp-dev libselinux1-dev liblzma-dev zlib1g-dev libzstd-dev liblz4-dev
	libbz2-dev libcryptsetup-dev libexpat1-dev libjson-c-dev libxxhash-dev nettle-dev perl)
# shellcheck disable=SC2034
demo_packages=(e2fsprogs)
# nbd-client and kmod are for the kernel's own client, where the kernel has one.
# shellcheck disable=SC2034
test_packages=(libcmocka-dev libnbd-bin python3 python3-libnbd qemu-utils fio e2fsprogs nbdkit nbd-server
	util-linux fdisk mount tar libarchive-tools xz-utils pigz zstd lz4 bzip2 pbzip2 lbzip2 procps nbd-client kmod gnutls-bin openssl systemd
	cryptsetup-bin)
# The servers that bench/run compares with, and the clients it uses beside its own.
# shellcheck disable=SC2034
bench_packages=(nbdkit qemu-utils nbd-server fio libnbd-bin gnutls-bin cryptsetup-bin xz-utils zstd lz4 lbzip2)
# clang 14 where it exists (Debian 12), else the release's own.
# shellcheck disable=SC2034
check_packages=(clang clang-tidy clang-format shellcheck git)
# use_clang adds clang's own libraries, whose package is named after its version.
# shellcheck disable=SC2034
fuzz_packages=(clang)
# shellcheck disable=SC2034
coverage_packages=(clang llvm git)
# shellcheck disable=SC2034
threads_packages=(clang llvm)

die() {
	printf '%s: %s\n' "$me" "$*" >&2
	exit 1
}

say() {
	printf '%s\n' "$*"
}

# Run a command as root: directly, or through sudo.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "not root and there is no sudo, so this cannot be run: $*"
	fi
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Install those of the named packages that are missing. Says nothing and needs no
# network when there are none. Sets installed_some to yes when something came.
install_packages() {
	local package missing=()

	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		say "$me: this is no Debian system; it is assumed that these are installed: $*"
		return 0
	fi
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	say "Installing ${missing[*]}"
	refresh_package_lists
	# The options: wait for another apt to finish, keep configuration files as
	# they are. debconf and needrestart are told to ask nothing.
	as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes NEEDRESTART_MODE=a \
		apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
		-qq -y --no-install-recommends install "${missing[@]}" </dev/null >/dev/null ||
		die "these packages could not be installed: ${missing[*]}; apt-get's message is above"
	# shellcheck disable=SC2034
	installed_some=yes
}

# Once per run, however often packages turn out to be missing.
refresh_package_lists() {
	[ -z "${lists_refreshed:-}" ] || return 0
	as_root apt-get -o DPkg::Lock::Timeout=300 -qq update </dev/null >/dev/null ||
		die "apt-get update failed; its message is above"
	lists_refreshed=yes
}

# The first of the named commands that exists: first_of clang-14 clang
first_of() {
	local command

	for command in "$@"; do
		if command -v "$command" >/dev/null; then
			printf '%s\n' "$command"
			return 0
		fi
	done
	return 1
}

# Sets clang and version to the compiler and its major version, and sees to it that its
# libraries are there: sanitizers, libFuzzer, counters of coverage.
# shellcheck disable=SC2034
use_clang() {
	clang=$(first_of clang-14 clang) || die "there is no clang"
	version=$("$clang" -dumpversion)
	version=${version%%.*}
	install_packages "libclang-rt-$version-dev"
}

# configure DIR [MESON-OPTION...]: make the build directory unless it is there.
configure() {
	local dir=$1
	shift

	[ ! -f "$root/$dir/build.ninja" ] || return 0
	# Warnings are errors where the compilers are known, not on a user's newer one.
	[ "${CI:-}" != true ] || set -- --werror "$@"
	say "Configuring $dir"
	(cd "$root" && meson setup "$dir" "$@")
}

# compile DIR [TARGET...]: bring it, or only these of its targets, up to date.
compile() {
	local dir=$1
	shift

	say "Building $dir"
	ninja -C "$root/$dir" -j "$jobs" "$@"
}

# run_tests DIR [MESON-TEST-OPTION...]: every test that DIR was configured with.
run_tests() {
	local dir=$1
	shift

	meson test -C "$root/$dir" --no-rebuild --print-errorlogs --num-processes "$jobs" "$@"
}

# The project's files that match the patterns, new ones too, ignored ones never:
# one per line, relative to the root. A checkout owned by someone else is fine.
project_files() {
	local files

	files=$(cd "$root" && git -c safe.directory="$root" \
		ls-files --cached --others --exclude-standard -- "$@") || return
	# A file deleted but not yet committed is still listed; leave it out.
	(cd "$root" && while IFS= read -r file; do
		[ ! -f "$file" ] || printf '%s\n' "$file"
	done <<<"$files")
}
