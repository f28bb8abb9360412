/* SPDX-License-Identifier: BSD-3-Clause */
/* How much memory the system can still give to a RAM disk. */
#ifndef BACKENDS_MEMORY_ROOM_H
#define BACKENDS_MEMORY_ROOM_H

#include <stdint.h>

/*
 * Bytes that can be taken now without pressing anyone: what the kernel calls
 * available, free swap, less a reserve, and no more than the control groups of
 * this process allow.  UINT64_MAX when that cannot be found out.  Reads a few
 * files below /proc and /sys: tens of microseconds.  Any thread.
 */
uint64_t nr_memory_room(void);

/* All memory and swap of the system, bytes: no disk can hold more. */
uint64_t nr_memory_total(void);

#endif
