/* SPDX-License-Identifier: BSD-3-Clause */
/* Times and rates as people write them.  Pure. */
#ifndef FILTERS_POLICY_TEXT_H
#define FILTERS_POLICY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NR_POLICY_SECONDS_MAX 1000000000u /* thirty years */

/*
 * "90", "1.5", "100ms", "20us", "5ns", "2s": *NANOSECONDS.  False when TEXT is none
 * of these or more than NR_POLICY_SECONDS_MAX.
 */
bool nr_policy_time(const char *text, uint64_t *nanoseconds);

/*
 * A number with or without k, M, G, T, P or E (powers of 1024) behind it, and blanks
 * around it: what a file holds.  False when it is none, or over 2^63-1.
 */
bool nr_policy_rate(const char *text, size_t length, uint64_t *rate);

#endif
