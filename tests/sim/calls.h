/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What calls.c and calls-files.c share: system calls of the server that come to the
 * simulation because the programs of this folder are linked with --wrap.
 */
#ifndef TESTS_SIM_CALLS_H
#define TESTS_SIM_CALLS_H

#include "tests/sim/disk.h"

/* A system call that goes to __wrap_NAME, and the C library's own. */
#define WRAPPED(type, name, ...)         \
	type __wrap_##name(__VA_ARGS__); \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

/* RESULT as a call returns it: -1 and errno for a negative one. */
int64_t sim_answer(int64_t result);

/* What FD is open on; NULL: no file of ours. */
struct sim_disk *sim_disk_of(int fd);

/* Lock the file that FD is open on, until all copies of FD are closed: 0 or -EAGAIN. */
int sim_fd_lock(int fd);

#endif
