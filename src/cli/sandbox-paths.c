/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The half of the sandbox that bounds what can be reached, by Landlock.
 *
 * The system calls are made directly: the C library has none of them, and the headers
 * that we build with know only the first versions.  What a kernel does not know yet is
 * left out, the rest holds.
 *
 * A rule stands for a file or folder, not for a name: a path that is not there has none,
 * and one that is replaced later loses it.  Where a layer says that it looks for a file
 * again, the rule is the folder's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/cli/sandbox.h"

/* Newer than the headers. */
#define FS_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define NET_BIND_TCP (UINT64_C(1) << 0)  /* ABI 4 */
#define NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

#define FS_ALL_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct ruleset {
	uint64_t files, net, scoped;
};

/* What can be handled, version by version; the attribute has as much as the kernel knows. */
static const struct {
	int abi;
	uint64_t files, net, scoped;
	size_t size;
} versions[] = {
	{ 1, FS_ALL_1, 0, 0, offsetof(struct ruleset, net) },
	{ 2, LANDLOCK_ACCESS_FS_REFER, 0, 0, offsetof(struct ruleset, net) },
	{ 3, FS_TRUNCATE, 0, 0, offsetof(struct ruleset, net) },
	{ 4, 0, NET_BIND_TCP | NET_CONNECT_TCP, 0, offsetof(struct ruleset, scoped) },
	{ 5, FS_IOCTL_DEV, 0, 0, offsetof(struct ruleset, scoped) },
	{ 6, 0, 0, SCOPE_ABSTRACT | SCOPE_SIGNAL, sizeof(struct ruleset) },
};

/* What the ways to reach a path are for the kernel. */
static const struct {
	unsigned how;
	uint64_t access;
} ways[] = {
	{ NR_REACH_READ,
	  LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | FS_IOCTL_DEV },
	{ NR_REACH_WRITE, LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV },
	{ NR_REACH_MAKE, LANDLOCK_ACCESS_FS_MAKE_REG },
	{ NR_REACH_REMOVE, LANDLOCK_ACCESS_FS_REMOVE_FILE },
	{ NR_REACH_SOCKET, LANDLOCK_ACCESS_FS_MAKE_SOCK },
	{ NR_REACH_RMDIR, LANDLOCK_ACCESS_FS_REMOVE_DIR },
};

/* What the libraries and the server itself look into, whatever is served. */
static const struct nr_reach always[] = {
	{ (char *)"/dev/null", NR_REACH_READ | NR_REACH_WRITE },
	{ (char *)"/dev/urandom", NR_REACH_READ },
	{ (char *)"/dev/random", NR_REACH_READ }, /* libcryptsetup opens both */
	{ (char *)"/dev/zero", NR_REACH_READ },
	{ (char *)"/proc/self", NR_REACH_READ },
	{ (char *)"/proc/meminfo", NR_REACH_READ },
	{ (char *)"/proc/sys/kernel", NR_REACH_READ }, /* why io_uring is refused */
	{ (char *)"/sys/fs/cgroup", NR_REACH_READ },   /* how much memory there is */
	{ (char *)"/sys/devices", NR_REACH_READ },     /* what block devices like */
	{ (char *)"/sys/dev/block", NR_REACH_READ },
	{ (char *)"/etc/localtime", NR_REACH_READ },
	{ (char *)"/usr/share/zoneinfo", NR_REACH_READ },
	{ (char *)"/etc/ld.so.cache", NR_REACH_READ },     /* parts of the C library come late */
	{ (char *)"/etc/ssl/openssl.cnf", NR_REACH_READ }, /* by what libcryptsetup is built on */
	{ (char *)"/lib", NR_REACH_READ },
	{ (char *)"/lib64", NR_REACH_READ },
	{ (char *)"/usr/lib", NR_REACH_READ },
	{ (char *)"/usr/lib64", NR_REACH_READ },
};

/* What it takes to find the address of a name. */
static const struct nr_reach for_sockets[] = {
	{ (char *)"/etc/resolv.conf", NR_REACH_READ },
	{ (char *)"/etc/hosts", NR_REACH_READ },
	{ (char *)"/etc/nsswitch.conf", NR_REACH_READ },
	{ (char *)"/etc/host.conf", NR_REACH_READ },
	{ (char *)"/etc/gai.conf", NR_REACH_READ },
	{ (char *)"/etc/services", NR_REACH_READ },
	{ (char *)"/etc/protocols", NR_REACH_READ },
};

/* Of a file that is not a folder, only these may be named in a rule. */
#define FS_OF_FILES \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

int nr_sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

static uint64_t access_of(unsigned how)
{
	uint64_t access = 0;

	for (size_t i = 0; i < COUNT(ways); i++)
		if (how & ways[i].how)
			access |= ways[i].access;
	return access;
}

/* What is at PATH gets ACCESS.  One that cannot be opened could not be later, either. */
static int add_rule(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access };
	struct stat there;
	int err = 0;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return 0;
	if (fstat(rule.parent_fd, &there) < 0 || !S_ISDIR(there.st_mode))
		rule.allowed_access &= FS_OF_FILES;
	if (rule.allowed_access &&
	    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		err = -errno;
	close(rule.parent_fd);
	/* Pipes and memory files have no place in the tree and need no rule. */
	return err == -EBADFD ? 0 : err;
}

static int add_reach(int rules, const struct nr_reach *reach, uint64_t handled)
{
	uint64_t access = access_of(reach->how) & handled;
	int err = add_rule(rules, reach->path, access);
	char folder[PATH_MAX];
	char *slash;

	if (err || !(reach->how & NR_REACH_FOLDER))
		return err;
	if ((size_t)snprintf(folder, sizeof(folder), "%s", reach->path) >= sizeof(folder))
		return 0;
	slash = strrchr(folder, '/');
	slash[slash == folder] = '\0';
	/* Files in it, not a list of them. */
	return add_rule(rules, folder, access & ~LANDLOCK_ACCESS_FS_READ_DIR);
}

static int add_all(int rules, const struct nr_sandbox *sandbox, uint64_t handled)
{
	int err = 0;

	for (size_t i = 0; !err && i < COUNT(always); i++)
		err = add_reach(rules, &always[i], handled);
	for (size_t i = 0; sandbox->needs & NR_NEEDS_SOCKETS && !err && i < COUNT(for_sockets); i++)
		err = add_reach(rules, &for_sockets[i], handled);
	for (size_t i = 0; !err && i < sandbox->reach_count; i++)
		err = add_reach(rules, &sandbox->reaches[i], handled);
	return err;
}

static void choose(struct ruleset *set, size_t *size, const struct nr_sandbox *sandbox, int abi)
{
	*set = (struct ruleset){ 0 };
	for (size_t i = 0; i < COUNT(versions); i++) {
		if (versions[i].abi > abi)
			break;
		set->files |= versions[i].files;
		set->net |= versions[i].net;
		set->scoped |= versions[i].scoped;
		*size = versions[i].size;
	}
	if (sandbox->needs & NR_NEEDS_FILES)
		set->files = 0;
	if (sandbox->needs & NR_NEEDS_SOCKETS)
		set->net = 0;
	if (sandbox->needs & NR_NEEDS_SOCKETS || sandbox->abstract_sockets)
		set->scoped &= ~SCOPE_ABSTRACT;
	if (sandbox->commands)
		set->scoped &= ~SCOPE_SIGNAL;
}

int nr_sandbox_restrict_paths(const struct nr_sandbox *sandbox, int abi, struct nr_error *error)
{
	struct ruleset set;
	size_t size = 0;
	int rules, err = 0;

	choose(&set, &size, sandbox, abi);
	if (!set.files && !set.net && !set.scoped)
		return 0;
	rules = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (rules < 0)
		return nr_error_system(error, -errno, "the sandbox: Landlock");
	if (set.files)
		err = add_all(rules, sandbox, set.files);
	if (!err && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		err = -errno;
	close(rules);
	return err ? nr_error_system(error, err, "the sandbox: Landlock") : 0;
}
