/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The io_uring engine on a kernel that is older, poorer or in trouble: every
 * rung of the set-up ladder, registrations that are refused, and what entering
 * the kernel may answer.
 *
 * liburing's functions are defined here again: they do as the real ones, unless
 * the test wants trouble.
 */
#include "test-ring-common.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>

/* What the pretended kernel does not have, and what it answers next. */
static struct {
	unsigned refused_flags; /* of set-up: -EINVAL */
	unsigned refused_size;  /* set-up of more entries than this: -ENOMEM; 0: none */
	size_t refused_memory;  /* registering more than this: -ENOMEM; 0: none */
	int register_buffers;   /* answer to any registering of buffers; 0: the kernel's */
	int register_files;     /* the same for files */
	int answers[8];         /* to the next calls of enter */
	unsigned answer_count;
	unsigned submit_at_most; /* entries taken in one enter; 0: all */
	bool no_vectorized_send;
	struct io_uring *ring; /* the last that was made for use */
	int outcomes[8];       /* instead of those of the next operations that succeed */
	unsigned outcome_count;
} kernel;

static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	assert_non_null(function);
	return function;
}

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
	int (*function)(unsigned, struct io_uring *, struct io_uring_params *) =
		real("io_uring_queue_init_params");

	if (p->flags & kernel.refused_flags)
		return -EINVAL;
	if (kernel.refused_size && entries > kernel.refused_size)
		return -ENOMEM;
	if (entries >= 8)
		kernel.ring = ring;
	return function(entries, ring, p);
}

/* Used for what has to be tried; an old kernel does not know the flag. */
int io_uring_submit_and_wait(struct io_uring *ring, unsigned minimum)
{
	int (*function)(struct io_uring *, unsigned) = real("io_uring_submit_and_wait");
	struct io_uring_sqe *sqe = &ring->sq.sqes[(ring->sq.sqe_tail - 1) & ring->sq.ring_mask];

	if (kernel.no_vectorized_send && sqe->opcode == IORING_OP_SEND)
		sqe->ioprio = 1u << 15;
	return function(ring, minimum);
}

int io_uring_register_buffers(struct io_uring *ring, const struct iovec *iovecs, unsigned count)
{
	int (*function)(struct io_uring *, const struct iovec *, unsigned) =
		real("io_uring_register_buffers");

	if (kernel.register_buffers)
		return kernel.register_buffers;
	if (kernel.refused_memory && iovecs->iov_len > kernel.refused_memory)
		return -ENOMEM;
	return function(ring, iovecs, count);
}

int io_uring_register_files_sparse(struct io_uring *ring, unsigned count)
{
	int (*function)(struct io_uring *, unsigned) = real("io_uring_register_files_sparse");

	return kernel.register_files ? kernel.register_files : function(ring, count);
}

/* Rewrites the history of operations: tag 0 in user_data. */
static void change_outcomes(void)
{
	const struct io_uring_cq *cq = &kernel.ring->cq;

	for (unsigned i = *cq->khead; kernel.outcome_count > 0 && i != *cq->ktail; i++) {
		struct io_uring_cqe *cqe = &cq->cqes[i & cq->ring_mask];

		if (cqe->user_data % 8 == 0 && cqe->res >= 0)
			cqe->res = kernel.outcomes[--kernel.outcome_count];
	}
}

int io_uring_enter(unsigned fd, unsigned submit, unsigned minimum, unsigned flags, sigset_t *mask)
{
	int (*function)(unsigned, unsigned, unsigned, unsigned, sigset_t *) =
		real("io_uring_enter");
	int result;

	if (kernel.answer_count > 0)
		return kernel.answers[--kernel.answer_count];
	/* As the kernel does when it could not take everything: no waiting. */
	if (kernel.submit_at_most && submit > kernel.submit_at_most)
		return function(fd, kernel.submit_at_most, 0, flags, mask);
	result = function(fd, submit, minimum, flags, mask);
	change_outcomes();
	return result;
}

static int reset(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	return 0;
}

/* A bit of everything. */
static void use(struct nr_ring *ring)
{
	struct nr_arena *arena = nr_ring_arena(ring);
	char *block = nr_arena_get(arena, 65536, NR_BLOCK_LAYER), byte = 0;
	struct iovec parts[2] = { { block, 4096 }, { block + 4096, 4096 } };
	struct operation in[100], out, late;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), pair[2];

	make_pair(pair);
	nr_ring_adopt(ring, pair[0]);
	operation_init(&out);
	operation_init(&late);
	for (int round = 0; round < 3; round++) {
		nr_ring_timeout(ring, &late.c, 3600u * 1000000000ull);
		for (int i = 0; i < 100; i++) {
			operation_init(&in[i]);
			nr_ring_recv(ring, &in[i].c, pair[0], &byte, 1);
		}
		fill_pattern(block, 8192, 0);
		parts[0] = (struct iovec){ block, 50 };
		parts[1] = (struct iovec){ block + 4096, 50 };
		nr_ring_send_vec(ring, &out.c, pair[1], parts, 2);
		assert_int_equal(operation_wait(ring, &out), 100);
		for (int i = 0; i < 100; i++)
			assert_int_equal(operation_wait(ring, &in[i]), 1);
		parts[0] = (struct iovec){ block, 4096 };
		parts[1] = (struct iovec){ block + 8192, 4096 };
		nr_ring_read_vec(ring, &out.c, fd, parts, 2, 0);
		assert_int_equal(operation_wait(ring, &out), 8192);
		assert_memory_equal(block, "\177ELF", 4);
		nr_ring_read(ring, &out.c, fd, block + 16384, 4096, 4096);
		assert_int_equal(operation_wait(ring, &out), 4096);
		assert_memory_equal(block + 16384, block + 8192, 4096);
		nr_ring_cancel(ring, &late.c);
		assert_int_equal(operation_wait(ring, &late), -ECANCELED);
	}
	nr_ring_forget(ring, pair[0]);
	nr_arena_release(arena, block);
	close_both(pair);
	close(fd);
}

static void use_new(const char *flag, const char *no_flag)
{
	struct nr_ring *ring = ring_new(64);

	if (flag)
		assert_non_null(strstr(nr_ring_report(ring)->flags, flag));
	if (no_flag)
		assert_null(strstr(nr_ring_report(ring)->flags, no_flag));
	use(ring);
	nr_ring_destroy(ring);
}

/* ---- set-up ------------------------------------------------------------ */

static void without_deferred_task_work(void **state)
{
	(void)state;
	kernel.refused_flags = IORING_SETUP_DEFER_TASKRUN;
	use_new("COOP_TASKRUN", "DEFER_TASKRUN");
}

static void without_any_flag(void **state)
{
	(void)state;
	kernel.refused_flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN;
	use_new("CQSIZE", "TASKRUN");
}

static void memory_for_a_small_ring_only(void **state)
{
	(void)state;
	kernel.refused_size = 32;
	use_new(NULL, NULL);
}

static void without_memory_for_any_ring(void **state)
{
	struct nr_ring_options options = { 0 };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;

	(void)state;
	kernel.refused_size = 1;
	assert_int_equal(nr_ring_create(&ring, &options, &error), -ENOMEM);
	assert_non_null(strstr(error.text, "memory"));
	assert_null(ring);
}

static void too_old_a_kernel(void **state)
{
	struct nr_ring_options options = { 0 };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;

	(void)state;
	kernel.refused_flags = IORING_SETUP_R_DISABLED;
	assert_int_equal(nr_ring_create(&ring, &options, &error), -ENOSYS);
	assert_non_null(strstr(error.text, "too old"));
	assert_null(ring);
}

static void part_of_the_arena_registered(void **state)
{
	struct nr_ring *ring;

	(void)state;
	kernel.refused_memory = 3 * MIB;
	ring = ring_new(64); /* wants 4 MiB */
	assert_int_equal(nr_ring_report(ring)->registered_bytes, 2 * MIB);
	use(ring);
	nr_ring_destroy(ring);
}

static void nothing_registered(void **state)
{
	static const int errors[] = { -ENOMEM, -EPERM, -EINVAL, -EOPNOTSUPP };

	(void)state;
	kernel.register_files = -EMFILE;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct nr_ring *ring;

		kernel.register_buffers = errors[i];
		ring = ring_new(64);
		assert_int_equal(nr_ring_report(ring)->registered_bytes, 0);
		assert_false(nr_ring_report(ring)->fixed_files);
		use(ring);
		nr_ring_destroy(ring);
	}
}

/* ---- entering the kernel ----------------------------------------------- */

static void enter_that_is_interrupted_or_refused_loses_nothing(void **state)
{
	static const int answers[] = { -EINTR, -EAGAIN, -EBUSY, -ENOMEM };
	struct nr_ring *ring = ring_new(8);

	(void)state;
	nr_ring_turn(ring, false);
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		for (unsigned count = 1; count <= 8; count++) {
			for (unsigned j = 0; j < count; j++)
				kernel.answers[j] = answers[i];
			kernel.answer_count = count;
			use(ring);
			assert_int_equal(kernel.answer_count, 0);
		}
	}
	nr_ring_destroy(ring);
}

static void enter_that_takes_a_part_loses_nothing(void **state)
{
	struct nr_ring *ring = ring_new(16);

	(void)state;
	for (kernel.submit_at_most = 1; kernel.submit_at_most < 8; kernel.submit_at_most++)
		use(ring);
	nr_ring_destroy(ring);
}

/* ---- what a ring cannot be made to do ---------------------------------- */

/* Turns the timeout that is about to be handed over into OPCODE, as an intruder would. */
static void forge(uint8_t opcode)
{
	struct io_uring_sq *sq = &kernel.ring->sq;

	for (unsigned i = 0; i < sq->ring_entries; i++) {
		struct io_uring_sqe *sqe = &sq->sqes[i];

		if (sqe->opcode != IORING_OP_TIMEOUT)
			continue;
		sqe->opcode = opcode;
		sqe->fd = opcode == IORING_OP_SOCKET ? AF_UNIX : AT_FDCWD;
		sqe->addr = (uintptr_t) "/dev/null";
		sqe->off = opcode == IORING_OP_SOCKET ? SOCK_STREAM : 0;
		sqe->len = 0;
		return;
	}
	fail_msg("there is no entry to forge");
}

static void a_ring_opens_no_files_and_makes_no_sockets(void **state)
{
	static const uint8_t forbidden[] = {
		IORING_OP_OPENAT,       IORING_OP_OPENAT2,         IORING_OP_SOCKET,
		IORING_OP_UNLINKAT,     IORING_OP_RENAMEAT,        IORING_OP_LINKAT,
		IORING_OP_SYMLINKAT,    IORING_OP_MKDIRAT,         IORING_OP_STATX,
		IORING_OP_FILES_UPDATE, IORING_OP_PROVIDE_BUFFERS,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(forbidden); i++) {
		struct nr_ring *ring = ring_new(8);
		struct operation o;

		assert_true(nr_ring_report(ring)->restricted);
		nr_ring_turn(ring, false);
		operation_init(&o);
		nr_ring_timeout(ring, &o.c, 1000000);
		forge(forbidden[i]);
		assert_int_equal(operation_wait(ring, &o), -EACCES);
		nr_ring_destroy(ring);
	}
}

static void a_running_ring_takes_no_new_rights(void **state)
{
	struct nr_ring *ring = ring_new(8);
	struct iovec memory = { (void *)(uintptr_t) "", 1 };
	int fd;

	(void)state;
	nr_ring_turn(ring, false);
	fd = kernel.ring->ring_fd;
	assert_int_equal(io_uring_register((unsigned)fd, IORING_REGISTER_PERSONALITY, NULL, 0),
			 -EACCES);
	assert_int_equal(io_uring_register((unsigned)fd, IORING_REGISTER_BUFFERS, &memory, 1),
			 -EACCES);
	nr_ring_destroy(ring);
}

/* ---- outcomes ---------------------------------------------------------- */

static void without_vectorized_send(void **state)
{
	(void)state;
	kernel.no_vectorized_send = true;
	use_new(NULL, NULL);
}

static void change(int first, int second)
{
	kernel.outcomes[0] = second;
	kernel.outcomes[1] = first;
	kernel.outcome_count = second ? 2 : 1;
	if (!second)
		kernel.outcomes[0] = first;
}

static void a_file_that_says_eagain_is_tried_again(void **state)
{
	struct nr_ring *ring = ring_new(8);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct operation o;
	char data[4];

	(void)state;
	operation_init(&o);
	change(-EAGAIN, -EAGAIN); /* at once, in a thread, after a pause */
	nr_ring_read(ring, &o.c, fd, data, 4, 0);
	assert_int_equal(operation_wait(ring, &o), 4);
	assert_int_equal(kernel.outcome_count, 0);
	assert_memory_equal(data, "\177ELF", 4);
	close(fd);
	nr_ring_destroy(ring);
}

static void a_socket_that_says_eagain_is_polled(void **state)
{
	struct nr_ring *ring = ring_new(8);
	struct operation o;
	struct iovec part;
	char byte, letter = 'a';
	int pair[2];

	(void)state;
	make_pair(pair);
	operation_init(&o);
	/* What the first attempt did is lost here, so that the second shows. */
	assert_int_equal(write(pair[1], "xy", 2), 2);
	change(-EAGAIN, 0);
	nr_ring_recv(ring, &o.c, pair[0], &byte, 1);
	assert_int_equal(operation_wait(ring, &o), 1);
	assert_int_equal(byte, 'y');

	part = (struct iovec){ &letter, 1 };
	change(-EAGAIN, 0);
	nr_ring_send_vec(ring, &o.c, pair[0], &part, 1);
	assert_int_equal(operation_wait(ring, &o), 1);
	assert_int_equal(recv(pair[1], &byte, 1, 0), 1);
	assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), 1);
	close_both(pair);
	nr_ring_destroy(ring);
}

/* Kernel TLS does not know MSG_WAITALL. */
static void a_socket_that_refuses_a_flag_is_sent_to_without(void **state)
{
	struct nr_ring *ring = ring_new(8);
	struct operation o;
	struct iovec part;
	char data[10], letter = 'a';
	int pair[2];

	(void)state;
	make_pair(pair);
	operation_init(&o);
	for (int i = 0; i < 2; i++) {
		/* Once refused, twice is an error of another kind. */
		change(-EOPNOTSUPP, 0);
		part = (struct iovec){ &letter, 1 };
		nr_ring_send_vec(ring, &o.c, pair[0], &part, 1);
		assert_int_equal(operation_wait(ring, &o), i == 0 ? 1 : -EOPNOTSUPP);
	}
	assert_int_equal(recv(pair[1], data, sizeof(data), MSG_DONTWAIT), 3);
	close_both(pair);
	nr_ring_destroy(ring);
}

#define trouble(f) cmocka_unit_test_setup(f, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		trouble(without_deferred_task_work),
		trouble(without_any_flag),
		trouble(memory_for_a_small_ring_only),
		trouble(without_memory_for_any_ring),
		trouble(too_old_a_kernel),
		trouble(part_of_the_arena_registered),
		trouble(nothing_registered),
		trouble(enter_that_is_interrupted_or_refused_loses_nothing),
		trouble(enter_that_takes_a_part_loses_nothing),
		trouble(a_ring_opens_no_files_and_makes_no_sockets),
		trouble(a_running_ring_takes_no_new_rights),
		trouble(without_vectorized_send),
		trouble(a_file_that_says_eagain_is_tried_again),
		trouble(a_socket_that_says_eagain_is_polled),
		trouble(a_socket_that_refuses_a_flag_is_sent_to_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
