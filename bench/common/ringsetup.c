/*
 * Sets a ring up the way the fastest user of one would: completions run only when this
 * thread asks for them (DEFER_TASKRUN), with weaker set-ups below for older kernels.
 * One thread, one ring.
 */
#include "bench/common/ringsetup.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void ring_open(struct io_uring *ring, unsigned entries)
{
	static const unsigned ladder[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	int ret = -1;

	for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]) && ret < 0; i++) {
		struct io_uring_params params = { .flags = ladder[i] | IORING_SETUP_CLAMP };

		ret = io_uring_queue_init_params(entries, ring, &params);
	}
	if (ret < 0)
		errx(1,
		     "cannot set up io_uring: %s (see sysctl kernel.io_uring_disabled, or the "
		     "container's seccomp profile)",
		     strerror(-ret));
	(void)io_uring_register_ring_fd(ring); /* only saves a look-up; older kernels refuse */
}

struct io_uring_sqe *ring_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(ring))) {
		int ret = io_uring_submit(ring);

		if (ret < 0)
			errx(1, "io_uring submit: %s", strerror(-ret));
	}
	return sqe;
}

void raise_file_limit(void)
{
	struct rlimit now, want = { 1U << 20, 1U << 20 };

	if (getrlimit(RLIMIT_NOFILE, &now) < 0)
		return;
	if (now.rlim_max != RLIM_INFINITY && now.rlim_max < want.rlim_max &&
	    setrlimit(RLIMIT_NOFILE, &want) == 0)
		return;
	now.rlim_cur = now.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &now);
}
