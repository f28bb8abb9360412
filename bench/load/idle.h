/* Holding idle connections. See idle.c. */
#ifndef BENCH_LOAD_IDLE_H
#define BENCH_LOAD_IDLE_H

#include "bench/load/options.h"
#include "bench/load/target.h"

/* Opens them, says how many, waits; returns the exit status. */
int idle_run(const struct options *o, const struct target *t);

#endif
