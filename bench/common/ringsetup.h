/* Ring set-up and small things both tools need. See ringsetup.c. */
#ifndef BENCH_COMMON_RINGSETUP_H
#define BENCH_COMMON_RINGSETUP_H

#include <liburing.h>

/* Opens a ring for the calling thread, which alone may use it; exits with a reason if it cannot. */
void ring_open(struct io_uring *ring, unsigned entries);

/* The next free submission; enters the kernel when the queue is full. */
struct io_uring_sqe *ring_sqe(struct io_uring *ring);

/* Raises the limit on open files as far as this user may. */
void raise_file_limit(void);

#endif
