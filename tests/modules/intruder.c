/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * intruder: does, on a worker, what somebody would who had taken the server over, and
 * says in the log what came of it.  It claims to need nothing, so the sandbox is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbdring/layer.h"

struct intruder {
	const char *elsewhere; /* a file that nobody named as a layer's */
};

static const struct nr_param params[] = {
	{
		.name = "elsewhere",
		.type = NR_PARAM_STRING,
		.flags = NR_PARAM_REQUIRED,
		.offset = offsetof(struct intruder, elsewhere),
		.value = "FILE",
		.help = "a file that is none of the server's business",
	},
	{ .name = NULL },
};

static long run_program(const struct intruder *self)
{
	char *const none[] = { NULL };

	return execve("/bin/true", none, none);
}

static long run_descriptor(const struct intruder *self)
{
	char *const none[] = { NULL };

	return syscall(SYS_execveat, AT_FDCWD, "/bin/true", none, none, 0);
}

static long fork_process(const struct intruder *self)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	return child;
}

static long read_file(const struct intruder *self)
{
	return open(self->elsewhere, O_RDONLY | O_CLOEXEC);
}

static long write_file(const struct intruder *self)
{
	return open(self->elsewhere, O_WRONLY | O_CLOEXEC);
}

static long make_file(const struct intruder *self)
{
	char path[512];

	snprintf(path, sizeof(path), "%s.new", self->elsewhere);
	return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static long remove_file(const struct intruder *self)
{
	return unlink(self->elsewhere);
}

static long list_root(const struct intruder *self)
{
	return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static long read_passwords(const struct intruder *self)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static long make_tcp_socket(const struct intruder *self)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long make_unix_socket(const struct intruder *self)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static long trace_parent(const struct intruder *self)
{
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static long read_parent(const struct intruder *self)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { &byte, 1 };

	return process_vm_readv(getppid(), &here, 1, &there, 1, 0);
}

static long signal_parent(const struct intruder *self)
{
	return kill(getppid(), SIGCONT);
}

static long make_ring(const struct intruder *self)
{
	struct io_uring_params p = { .flags = 0 };

	return syscall(SYS_io_uring_setup, 4, &p);
}

static bool is_ring(int fd)
{
	char link[64], target[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	return strstr(target, "io_uring");
}

/* New rights for a ring that is there; of another thread's, the kernel says EEXIST. */
static long give_ring_rights(const struct intruder *self)
{
	long result = 0;

	for (int fd = 3; fd < 64; fd++) {
		if (!is_ring(fd))
			continue;
		result = syscall(SYS_io_uring_register, fd, IORING_REGISTER_PERSONALITY, NULL, 0);
		if (result >= 0 || errno != EEXIST)
			break;
	}
	return result;
}

static long become_root(const struct intruder *self)
{
	return syscall(SYS_setuid, 0);
}

static long type_for_user(const struct intruder *self)
{
	return ioctl(0, TIOCSTI, "x");
}

/* The kernel looks at the lower half only, a careless filter at all of it. */
static long type_for_user_by_trick(const struct intruder *self)
{
	return syscall(SYS_ioctl, 0, 0x100000000UL | TIOCSTI, "x");
}

static long change_mode(const struct intruder *self)
{
	return chmod(self->elsewhere, 0777);
}

static const struct {
	const char *name;
	long (*attempt)(const struct intruder *self);
} attempts[] = {
	{ "execve", run_program },
	{ "execveat", run_descriptor },
	{ "fork", fork_process },
	{ "read-elsewhere", read_file },
	{ "write-elsewhere", write_file },
	{ "make-elsewhere", make_file },
	{ "remove-elsewhere", remove_file },
	{ "chmod-elsewhere", change_mode },
	{ "list-root", list_root },
	{ "read-passwd", read_passwords },
	{ "tcp-socket", make_tcp_socket },
	{ "unix-socket", make_unix_socket },
	{ "ptrace", trace_parent },
	{ "process-vm-readv", read_parent },
	{ "signal-parent", signal_parent },
	{ "io-uring-setup", make_ring },
	{ "io-uring-register", give_ring_rights },
	{ "setuid", become_root },
	{ "tiocsti", type_for_user },
	{ "tiocsti-64-bits", type_for_user_by_trick },
};

/* The read of block N makes attempt N, and is answered in any case. */
static void submit(struct nr_layer *layer, struct nr_request *req)
{
	uint64_t n = req->offset / 4096;
	long result;

	if (req->operation == NR_READ && n < sizeof(attempts) / sizeof(attempts[0])) {
		result = attempts[n].attempt(layer->instance);
		nr_layer_log(layer, NR_LAYER_INFO, "attempt %s: %s", attempts[n].name,
			     result < 0 ? strerrorname_np(errno) : "DONE");
	} else if (req->operation == NR_READ) {
		nr_layer_log(layer, NR_LAYER_INFO, "attempts end");
	}
	nr_pass(layer, req);
}

static const struct nr_layer_type intruder = {
	.abi = NR_LAYER_ABI,
	.name = "intruder",
	.summary = "tries what it may not",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_STATED,
	.params = params,
	.instance_size = sizeof(struct intruder),
	.submit = submit,
};

__attribute__((visibility("default"))) const struct nr_layer_type *nbdring_layer(void);

const struct nr_layer_type *nbdring_layer(void)
{
	return &intruder;
}
