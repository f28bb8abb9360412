/* SPDX-License-Identifier: BSD-3-Clause */
/* See swap.h.  Main thread, when rings and their memory are there and before threads are. */
#include "src/cli/swap.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "src/log/log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

static int refuse(int err, struct nr_error *error)
{
	struct rlimit limit = { .rlim_cur = 0 };

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		return nr_error_system(error, err, "--swap: memory cannot be locked");
	return nr_error_set(error, err,
			    "--swap: the memory of the server cannot be locked, the limit is %llu "
			    "KiB; raise it with ulimit -l unlimited (systemd: "
			    "LimitMEMLOCK=infinity), or start the server as root",
			    (unsigned long long)limit.rlim_cur / 1024);
}

int nr_swap_lock_memory(bool other_user, struct nr_error *error)
{
	const struct rlimit none = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };

	/* What is made later has to be locked, too, and only root needs no limit for it. */
	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 && other_user)
		return refuse(-errno, error);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		return refuse(-errno, error);
	/* When the kernel needs memory for us, it is not to wait for what we are to write. */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		nr_log(NR_LOG_DEBUG, NR_LOG_SERVER,
		       "--swap: not known to the kernel as one that writes for it, which takes "
		       "CAP_SYS_RESOURCE");
	return 0;
}
