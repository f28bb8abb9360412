/* Processor time of a server, all its processes. See cpuof.c. */
#ifndef BENCH_LOAD_CPUOF_H
#define BENCH_LOAD_CPUOF_H

#include <stdint.h>
#include <time.h>

struct cpuof {
	clockid_t *clocks; /* of the process and its descendants */
	unsigned count;
};

/* Finds the processes there are now; exits with a sentence if there is no such process. */
void cpuof_open(struct cpuof *c, unsigned pid);
void cpuof_close(struct cpuof *c);

/* Nanoseconds that all of them have used so far. */
uint64_t cpuof_ns(const struct cpuof *c);

#endif
