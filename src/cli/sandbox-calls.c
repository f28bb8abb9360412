/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The half of the sandbox that bounds what can be asked of the kernel, by seccomp.
 *
 * A list of what is allowed: everything else fails with EPERM, as if the user had not the
 * right, and goes to the audit log where there is one.  No thread is killed, so a library
 * that tries something new has a chance to do without.
 *
 * What is missing is the point of it: execve, ptrace and its kin, socket and bind,
 * io_uring_setup (a new ring would not be bounded), mounts, namespaces, other users, keys,
 * kernel modules, BPF.  Files are bounded by Landlock, so open is here.
 */
#include "src/cli/sandbox.h"

#ifndef NR_HAVE_SECCOMP

bool nr_sandbox_has_seccomp(void)
{
	return false;
}

int nr_sandbox_restrict_calls(const struct nr_sandbox *sandbox, struct nr_error *error)
{
	return 0;
}

#else

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* By name: a machine or a libseccomp that does not know one has no use for it. */
static const char *const allowed[] = {
	/* What a worker does all day. */
	"io_uring_enter",
	"io_uring_register",
	"read",
	"write",
	"readv",
	"writev",
	"pread64",
	"pwrite64",
	"preadv",
	"pwritev",
	"preadv2",
	"pwritev2",
	"recv",
	"recvfrom",
	"recvmsg",
	"recvmmsg",
	"send",
	"sendto",
	"sendmsg",
	"sendmmsg",
	"splice",
	"vmsplice",
	"tee",
	"sendfile",
	"poll",
	"ppoll",
	"ppoll_time64",
	"select",
	"pselect6",
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	"epoll_pwait2",
	"close",
	"close_range",
	"dup",
	"dup2",
	"dup3",
	"pipe",
	"pipe2",
	"eventfd2",
	"signalfd4",
	"timerfd_create",
	"timerfd_settime",
	"timerfd_gettime",
	"fcntl",
	"fcntl64",
	"lseek",
	"_llseek",
	"fsync",
	"fdatasync",
	"sync_file_range",
	"syncfs",
	"fallocate",
	"ftruncate",
	"ftruncate64",
	"fadvise64",
	"fadvise64_64",
	"readahead",
	"copy_file_range",
	"cachestat",
	"flock",
	/* Sockets that are there. */
	"accept",
	"accept4",
	"getsockname",
	"getpeername",
	"getsockopt",
	"setsockopt",
	"shutdown",
	"socketpair",
	/* Files. */
	"open",
	"openat",
	"openat2",
	"stat",
	"stat64",
	"fstat",
	"fstat64",
	"lstat",
	"lstat64",
	"newfstatat",
	"fstatat64",
	"statx",
	"statfs",
	"statfs64",
	"fstatfs",
	"fstatfs64",
	"access",
	"faccessat",
	"faccessat2",
	"readlink",
	"readlinkat",
	"getdents",
	"getdents64",
	"getcwd",
	"chdir",
	"fchdir",
	"unlink",
	"unlinkat",
	"rmdir",
	"rename",
	"renameat",
	"renameat2",
	"umask",
	"inotify_init1",
	"inotify_add_watch",
	"inotify_rm_watch",
	"memfd_create",
	"utimensat",
	"fgetxattr",
	"flistxattr",
	/* Memory. */
	"mmap",
	"mmap2",
	"munmap",
	"mremap",
	"mprotect",
	"madvise",
	"brk",
	"mlock",
	"mlock2",
	"munlock",
	"mlockall",
	"munlockall",
	"msync",
	"mincore",
	"membarrier",
	"get_mempolicy",
	/* Threads and what they wait for. */
	"futex",
	"futex_time64",
	"futex_waitv",
	"futex_wait",
	"futex_wake",
	"futex_requeue",
	"set_robust_list",
	"get_robust_list",
	"set_tid_address",
	"rseq",
	"gettid",
	"getpid",
	"getppid",
	"exit",
	"exit_group",
	"sched_yield",
	"sched_getaffinity",
	"sched_setaffinity",
	"sched_getscheduler",
	"sched_getparam",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"getcpu",
	"arch_prctl",
	"restart_syscall",
	/* Time. */
	"clock_gettime",
	"clock_gettime64",
	"clock_getres",
	"clock_nanosleep",
	"clock_nanosleep_time64",
	"nanosleep",
	"gettimeofday",
	"time",
	"times",
	"setitimer",
	/* Signals and children. */
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigpending",
	"rt_sigtimedwait",
	"rt_sigsuspend",
	"sigaltstack",
	"sigreturn",
	"kill",
	"tkill",
	"tgkill",
	"wait4",
	"waitid",
	"pidfd_open",
	"pidfd_send_signal",
	/* Who and where we are. */
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"getresuid",
	"getresgid",
	"getgroups",
	"getpgrp",
	"getpgid",
	"getsid",
	"getrlimit",
	"prlimit64",
	"getrusage",
	"sysinfo",
	"uname",
	"getrandom",
	"capget",
#if defined(__SANITIZE_ADDRESS__) || defined(NR_SANITIZED)
	/* The leak check at the end stops all threads like a debugger. */
	"ptrace",
	"process_vm_readv",
	"clone",
	"prctl",
#endif
};

/* Calls that are allowed to those who need sockets. */
static const char *const for_sockets[] = { "socket", "connect", "bind", "listen" };

static int allow(scmp_filter_ctx filter, const char *name)
{
	int number = seccomp_syscall_resolve_name(name);
	int err;

	if (number == __NR_SCMP_ERROR)
		return 0;
	err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
	/* Not on this machine: some have others in its place. */
	return err == -EDOM ? 0 : err;
}

static int allow_all(scmp_filter_ctx filter, const char *const *names, size_t count)
{
	int err = 0;

	for (size_t i = 0; !err && i < count; i++)
		err = allow(filter, names[i]);
	return err;
}

/*
 * Threads, but no processes.  What the flags of clone3 are, a filter cannot see; the C
 * library takes clone where clone3 seems to be missing.
 */
static int allow_threads(scmp_filter_ctx filter)
{
	int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				   SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	int clone3 = seccomp_syscall_resolve_name("clone3");

	if (!err && clone3 != __NR_SCMP_ERROR)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), clone3, 0);
	return err;
}

/*
 * By the byte that says whose an ioctl is: disks, files, and single ones of the terminals',
 * which also have one that types for the person in front of them.  The kernel looks at 32
 * bits, so the filter does, too.
 */
static int allow_ioctl(scmp_filter_ctx filter)
{
	static const unsigned char kinds[] = { 0x12, 0x94, 'f' };
	static const unsigned single[] = { TCGETS, FIONREAD, FIONBIO };
	int err = 0;

	for (size_t i = 0; !err && i < COUNT(kinds); i++)
		err = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
			SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, (scmp_datum_t)kinds[i] << 8));
	for (size_t i = 0; !err && i < COUNT(single); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, single[i]));
	return err;
}

static int allow_prctl(scmp_filter_ctx filter)
{
	static const int options[] = { PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_SET_TIMERSLACK };
	int err = 0;

	for (size_t i = 0; !err && i < COUNT(options); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)options[i], 0));
	return err;
}

/* A layer that reads below while it is opened does so on a ring made for that. */
static int allow_rings(scmp_filter_ctx filter, const struct nr_sandbox *sandbox)
{
	bool needed = sandbox->opens_later && sandbox->needs & NR_NEEDS_READER;

	return needed ? allow(filter, "io_uring_setup") : 0;
}

static int allow_sockets(scmp_filter_ctx filter, const struct nr_sandbox *sandbox)
{
	int err;

	if (sandbox->needs & NR_NEEDS_SOCKETS)
		return allow_all(filter, for_sockets, COUNT(for_sockets));
	if (!sandbox->local_sockets)
		return 0;
	/* To the system log, when it was started again. */
	err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
			       SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0),
			       SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM));
	return err ? err : allow(filter, "connect");
}

static int fill(scmp_filter_ctx filter, const struct nr_sandbox *sandbox)
{
	int err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	/* What is refused may be said in the audit log; an old kernel just refuses. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	/* The calls come in the order of their numbers otherwise: a tree finds them faster. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!err)
		err = allow_all(filter, allowed, COUNT(allowed));
	if (!err)
		err = allow_threads(filter);
	if (!err)
		err = allow_ioctl(filter);
	if (!err)
		err = allow_prctl(filter);
	if (!err)
		err = allow_rings(filter, sandbox);
	return err ? err : allow_sockets(filter, sandbox);
}

bool nr_sandbox_has_seccomp(void)
{
	return true;
}

int nr_sandbox_restrict_calls(const struct nr_sandbox *sandbox, struct nr_error *error)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err;

	if (!filter)
		return nr_error_system(error, -ENOMEM, "the sandbox: seccomp");
	err = fill(filter, sandbox);
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err ? nr_error_system(error, err, "the sandbox: seccomp") : 0;
}

#endif
