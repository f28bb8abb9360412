/* SPDX-License-Identifier: BSD-3-Clause */
/* Pure: text in, a number or a sentence out. */
#include "filters/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_MAX 100 /* what a sentence shows of a value */

/*
 * A plain decimal number; *TEXT moves behind it.  strtod knows hexadecimal digits,
 * signs, "nan" and "inf" as well, which are nobody's probability.
 */
static bool take_number(const char **text, double *number)
{
	char *end;

	if (!isdigit((unsigned char)(*text)[0]) && (*text)[0] != '.')
		return false;
	if ((*text)[0] == '0' && tolower((unsigned char)(*text)[1]) == 'x')
		return false;
	*number = strtod(*text, &end);
	if (end == *text)
		return false;
	*text = end;
	return true;
}

static bool parse_probability(const char *text, double *chance)
{
	double whole;

	if (!take_number(&text, chance))
		return false;
	if (strcmp(text, "%") == 0) {
		*chance /= 100;
		return true;
	}
	if (*text == ':' || *text == '/') {
		text++;
		if (!take_number(&text, &whole) || !(whole > 0))
			return false;
		*chance /= whole;
	}
	return *text == '\0';
}

int nr_value_probability(const char *name, const char *text, double *chance, struct nr_error *error)
{
	double value;

	/* Written so that what is no number at all is refused, too. */
	if (!parse_probability(text, &value) || !(value >= 0 && value <= 1))
		return nr_error_set(error, -EINVAL,
				    "%s: '%.*s' is no probability; write one from 0%% to 100%%, "
				    "from 0 to 1, or like 1:1000",
				    name, SHOWN_MAX, text);
	*chance = value;
	return 0;
}

int nr_value_duration(const char *name, const char *text, uint64_t *nanoseconds,
		      struct nr_error *error)
{
	static const struct {
		const char *suffix;
		double unit;
	} units[] = { { "", 1e9 },        { "s", 1e9 },       { "ms", 1e6 }, { "us", 1e3 },
		      { "\u00b5s", 1e3 }, { "\u03bcs", 1e3 }, { "ns", 1 } };
	const char *rest = text;
	double value;
	bool known = false;

	if (take_number(&rest, &value)) {
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && !known; i++) {
			known = strcmp(rest, units[i].suffix) == 0;
			if (known)
				value *= units[i].unit;
		}
	}
	if (!known || !(value >= 0 && value <= NR_DURATION_MAX_SECONDS * 1e9))
		return nr_error_set(error, -EINVAL,
				    "%s: '%.*s' is no time; write seconds from 0 to %u, like 2 or "
				    "0.5, or milliseconds, like 100ms",
				    name, SHOWN_MAX, text, NR_DURATION_MAX_SECONDS);
	*nanoseconds = (uint64_t)(value + 0.5);
	return 0;
}
