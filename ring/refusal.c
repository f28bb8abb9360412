/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Explains a refused io_uring_setup.
 *
 * The kernel says EPERM for a sysctl, a seccomp filter and a security module
 * alike, and ENOSYS for a kernel without io_uring as well as for a filter that
 * prefers to look like one.  A person who reads "Operation not permitted" can
 * do nothing with it, so the facts around it are looked at and the sentence
 * names what forbids and what to change.
 *
 * Cold path: runs once, before the server gives up.  Any thread.
 */
#include "ring/refusal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SECCOMP_REMEDY                                                                             \
	"run it with a profile that allows io_uring_setup, io_uring_enter and io_uring_register "  \
	"(Docker and Podman: --security-opt seccomp=PROFILE.json or seccomp=unconfined; systemd: " \
	"SystemCallFilter=@aio)"

/* The start of a small file as a string; false when it cannot be read. */
static bool read_text(const char *path, char *text, size_t size)
{
	ssize_t length;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, text, size - 1);
	(void)close(fd);
	if (length < 0)
		return false;
	text[length] = '\0';
	return true;
}

static int number_or_unknown(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || errno != 0 || value < INT32_MIN || value > INT32_MAX)
		return NR_REFUSAL_UNKNOWN;
	return (int)value;
}

static int read_number(const char *path)
{
	char text[32];

	return read_text(path, text, sizeof(text)) ? number_or_unknown(text) : NR_REFUSAL_UNKNOWN;
}

static int read_seccomp(void)
{
	static const char key[] = "\nSeccomp:";
	char text[32768]; /* the list of groups may be long */
	const char *line;

	if (!read_text("/proc/self/status", text, sizeof(text)))
		return NR_REFUSAL_UNKNOWN;
	line = strstr(text, key);
	return line ? number_or_unknown(line + sizeof(key) - 1) : NR_REFUSAL_UNKNOWN;
}

void nr_refusal_gather(struct nr_refusal_facts *facts)
{
	struct utsname name;
	struct rlimit limit;

	memset(facts, 0, sizeof(*facts));
	facts->disabled = read_number("/proc/sys/kernel/io_uring_disabled");
	facts->group = read_number("/proc/sys/kernel/io_uring_group");
	facts->seccomp = read_seccomp();
	facts->memory_limit = UINT64_MAX;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		facts->memory_limit = limit.rlim_cur;
	if (uname(&name) == 0)
		(void)snprintf(facts->kernel, sizeof(facts->kernel), "%s", name.release);
}

static int explain_permission(struct nr_error *error, int code,
			      const struct nr_refusal_facts *facts)
{
	if (facts->disabled >= 2)
		return nr_error_set(error, code,
				    "io_uring is switched off on this host "
				    "(kernel.io_uring_disabled is %d); "
				    "allow it with: sysctl kernel.io_uring_disabled=0",
				    facts->disabled);
	if (facts->disabled == 1 && facts->seccomp <= 0)
		return nr_error_set(
			error, code,
			"io_uring is for privileged processes only on this host "
			"(kernel.io_uring_disabled is 1); run as root, or put this user "
			"into the group that sysctl kernel.io_uring_group names (now %d), "
			"or allow it to everyone with: sysctl kernel.io_uring_disabled=0",
			facts->group);
	if (facts->seccomp > 0)
		return nr_error_set(error, code,
				    "a seccomp filter of this container or service forbids "
				    "io_uring%s; " SECCOMP_REMEDY,
				    facts->disabled == 1 ? " (or kernel.io_uring_disabled=1 does)"
							 : "");
	return nr_error_set(
		error, code,
		"io_uring is not permitted, though neither kernel.io_uring_disabled nor a "
		"seccomp filter forbids it; look for a denial of a security module "
		"(SELinux, AppArmor) in the kernel log");
}

static int explain_missing(struct nr_error *error, int code, const struct nr_refusal_facts *facts)
{
	if (facts->seccomp > 0)
		return nr_error_set(
			error, code,
			"io_uring looks missing from kernel %s, most likely hidden by a "
			"seccomp filter of this container or service; " SECCOMP_REMEDY,
			facts->kernel);
	return nr_error_set(error, code,
			    "kernel %s has no io_uring; use Linux 6.1 or newer built with "
			    "CONFIG_IO_URING (sandboxes such as gVisor lack it)",
			    facts->kernel);
}

static int explain_memory(struct nr_error *error, int code, const struct nr_refusal_facts *facts)
{
	if (facts->memory_limit == UINT64_MAX)
		return nr_error_set(error, code, "not enough memory for a ring");
	return nr_error_set(error, code,
			    "not enough memory that may be locked for a ring: the limit is %" PRIu64
			    " KiB; raise it with ulimit -l (systemd: LimitMEMLOCK=infinity)",
			    facts->memory_limit / 1024);
}

int nr_refusal_explain(struct nr_error *error, int code, const struct nr_refusal_facts *facts)
{
	switch (code) {
	case -EPERM:
	case -EACCES:
		return explain_permission(error, -EPERM, facts);
	case -ENOSYS:
		return explain_missing(error, code, facts);
	case -ENOMEM:
		return explain_memory(error, code, facts);
	case -EINVAL:
		return nr_error_set(error, -ENOSYS,
				    "the io_uring of kernel %s is too old; use Linux 6.1 or newer",
				    facts->kernel);
	case -EMFILE:
	case -ENFILE:
		return nr_error_set(error, code,
				    "no descriptor left for a ring: raise the limit of open files "
				    "with ulimit -n (systemd: LimitNOFILE=)");
	default:
		return nr_error_system(error, code, "cannot set up io_uring");
	}
}

int nr_refusal(struct nr_error *error, int code)
{
	struct nr_refusal_facts facts;

	nr_refusal_gather(&facts);
	return nr_refusal_explain(error, code, &facts);
}
