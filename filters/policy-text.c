/* SPDX-License-Identifier: BSD-3-Clause */
/* See policy-text.h.  Every sum is checked; nothing here trusts its text. */
#include "filters/policy-text.h"

#include <ctype.h>
#include <string.h>

#include "nbdring/checked.h"

static const struct {
	const char *name;
	uint64_t nanoseconds;
} units[] = {
	{ "", 1000000000 },  { "s", 1000000000 }, { "ms", 1000000 }, { "us", 1000 },
	{ "\u00b5s", 1000 }, { "\u03bcs", 1000 }, { "ns", 1 },
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool nr_policy_time(const char *text, uint64_t *nanoseconds)
{
	uint64_t whole = 0, fraction = 0, scale = 1;

	if (!is_digit(*text))
		return false;
	for (; is_digit(*text); text++)
		if (!nr_mul(whole, 10, &whole) || !nr_add(whole, (uint64_t)(*text - '0'), &whole))
			return false;
	if (*text == '.') {
		if (!is_digit(*++text))
			return false;
		/* Nine digits of a second are all there are. */
		for (; is_digit(*text); text++) {
			if (scale < 1000000000) {
				fraction = fraction * 10 + (uint64_t)(*text - '0');
				scale *= 10;
			}
		}
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		uint64_t unit = units[i].nanoseconds;

		if (strcmp(text, units[i].name) != 0)
			continue;
		if (!nr_mul(whole, unit, &whole))
			return false;
		*nanoseconds = whole;
		/* fraction < scale <= 10^9 and unit <= 10^9: fits */
		return nr_add(whole, fraction * unit / scale, nanoseconds) &&
		       *nanoseconds <= (uint64_t)NR_POLICY_SECONDS_MAX * 1000000000;
	}
	return false;
}

bool nr_policy_rate(const char *text, size_t length, uint64_t *rate)
{
	static const char letters[] = "kmgtpe";
	const char *end = text + length, *found;
	uint64_t value = 0;

	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	while (text < end && isspace((unsigned char)*text))
		text++;
	if (text == end || !is_digit(*text))
		return false;
	for (; text < end && is_digit(*text); text++)
		if (!nr_mul(value, 10, &value) || !nr_add(value, (uint64_t)(*text - '0'), &value))
			return false;
	if (text < end) {
		found = memchr(letters, tolower((unsigned char)*text), sizeof(letters) - 1);
		if (!found || text + 1 != end ||
		    !nr_mul(value, (uint64_t)1 << (10 * (found - letters + 1)), &value))
			return false;
	}
	*rate = value;
	return value <= NR_SIZE_MAX;
}
