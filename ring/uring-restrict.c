/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a ring can be made to do, bounded by the kernel.
 *
 * A ring opens files, makes sockets and removes names as well as system calls do, and
 * no seccomp filter sees it.  So whoever gets to write entries into a ring would have
 * what the filter took away.  A ring that was made disabled takes a list of what is
 * allowed from when it is enabled on; the list cannot be taken back.  It has what the
 * engine starts and nothing that takes a path.
 *
 * The kernel looks at one bit for each entry; benchmarks do not show it.
 *
 * Threads: the making one, before the owner's first turn.
 */
#include "ring/uring.h"

/* Each operation that engine-uring.c starts has to be here. */
static const uint8_t operations[] = {
	IORING_OP_NOP,        IORING_OP_READV,        IORING_OP_WRITEV,   IORING_OP_FSYNC,
	IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED,  IORING_OP_POLL_ADD, IORING_OP_SENDMSG,
	IORING_OP_RECVMSG,    IORING_OP_TIMEOUT,      IORING_OP_ACCEPT,   IORING_OP_CONNECT,
	IORING_OP_FALLOCATE,  IORING_OP_ASYNC_CANCEL, IORING_OP_READ,     IORING_OP_WRITE,
	IORING_OP_SEND,       IORING_OP_RECV,
};

/* These only where they are used: a kernel may not know them. */
static const uint8_t vector_operations[] = { NR_OP_READV_FIXED, NR_OP_WRITEV_FIXED };
static const uint8_t device_operations[] = { IORING_OP_URING_CMD };

/* What the owner asks of its ring while it runs. */
static const uint8_t registrations[] = {
	IORING_REGISTER_FILES_UPDATE,
	IORING_REGISTER_RING_FDS,
	IORING_UNREGISTER_RING_FDS,
	IORING_REGISTER_IOWQ_MAX_WORKERS,
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct list {
	struct io_uring_restriction row[COUNT(operations) + COUNT(vector_operations) +
					COUNT(device_operations) + COUNT(registrations) + 1];
	unsigned count;
};

static void allow(struct list *list, uint16_t kind, const uint8_t *what, size_t count)
{
	for (size_t i = 0; i < count; i++)
		list->row[list->count++] = (struct io_uring_restriction){
			.opcode = kind,
			.sqe_op = what[i], /* or register_op, or sqe_flags: one byte in any case */
		};
}

bool nr_uring_restrict(struct nr_engine *e, bool discard)
{
	static const uint8_t flags[] = {
		IOSQE_FIXED_FILE | IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS,
	};
	struct list list = { .count = 0 };

	allow(&list, IORING_RESTRICTION_SQE_OP, operations, COUNT(operations));
	if (e->fixed_vectors)
		allow(&list, IORING_RESTRICTION_SQE_OP, vector_operations,
		      COUNT(vector_operations));
	if (discard)
		allow(&list, IORING_RESTRICTION_SQE_OP, device_operations,
		      COUNT(device_operations));
	allow(&list, IORING_RESTRICTION_REGISTER_OP, registrations, COUNT(registrations));
	allow(&list, IORING_RESTRICTION_SQE_FLAGS_ALLOWED, flags, COUNT(flags));
	/* By the plain call: liburing 2.3 declares a function but does not export it. */
	return io_uring_register((unsigned)e->uring.ring_fd, IORING_REGISTER_RESTRICTIONS, list.row,
				 list.count) == 0;
}
