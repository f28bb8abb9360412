/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Values of parameters that the tables have no type for: probabilities and
 * durations, as people write them.  For `check`.
 */
#ifndef FILTERS_VALUE_H
#define FILTERS_VALUE_H

#include <stdint.h>

#include "nbdring/error.h"

#define NR_SECOND UINT64_C(1000000000) /* nanoseconds */

#define NR_DURATION_MAX_SECONDS 1000000000u /* some thirty years */

/*
 * "10%", "0.1", "1e-8", "1:1000" or "1/1000" to a number from 0 to 1.  NAME is the
 * parameter's, for the sentence.
 */
int nr_value_probability(const char *name, const char *text, double *chance,
			 struct nr_error *error);

/* "1", "0.5", "100ms", "20us", "5ns", "3s" to nanoseconds. */
int nr_value_duration(const char *name, const char *text, uint64_t *nanoseconds,
		      struct nr_error *error);

#endif
