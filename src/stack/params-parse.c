/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Values as people write them: sizes, numbers, switches, and names that are
 * nearly right.
 *
 * Everything here is pure: text in, a value or a verdict out.  A value that does
 * not fit is -ERANGE, a text that is no value is -EINVAL; the sentence around it
 * is the caller's, who knows what the value was for.
 */
#include "src/stack/params.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "nbdring/checked.h"

#define NEAREST_MAX 63 /* longer names are nobody's slip of the finger */

/* Digits of BASE (10 or 16) from *TEXT on; *TEXT moves behind them. */
static int parse_digits(const char **text, unsigned base, uint64_t *value)
{
	const char *p = *text;
	uint64_t sum = 0;
	bool fits = true;

	for (;; p++) {
		unsigned digit;

		if (isdigit((unsigned char)*p))
			digit = (unsigned)(*p - '0');
		else if (base == 16 && isxdigit((unsigned char)*p))
			digit = (unsigned)(tolower((unsigned char)*p) - 'a') + 10;
		else
			break;
		fits = fits && nr_mul(sum, base, &sum) && nr_add(sum, digit, &sum);
	}
	if (p == *text)
		return -EINVAL;
	*text = p;
	*value = sum;
	return fits ? 0 : -ERANGE;
}

/* The bytes that a suffix stands for, or 0 when TEXT is no suffix. */
static uint64_t suffix_unit(const char *text)
{
	static const char letters[] = "KMGTPE";
	const char *found;

	if (text[0] == '\0')
		return 1;
	if (text[1] != '\0')
		return 0;
	if (tolower((unsigned char)text[0]) == 'b')
		return 1;
	if (tolower((unsigned char)text[0]) == 's')
		return 512;
	found = strchr(letters, toupper((unsigned char)text[0]));
	return found ? (uint64_t)1 << (10 * (found - letters + 1)) : 0;
}

/*
 * UNIT times 0.DIGITS, rounded down.  From the last digit to the first, so that
 * nothing grows beyond ten units however many digits there are.
 */
static uint64_t fraction_of(uint64_t unit, const char *digits, size_t count)
{
	uint64_t bytes = 0;

	while (count-- > 0)
		bytes = (bytes + (uint64_t)(digits[count] - '0') * unit) / 10;
	return bytes;
}

int nr_parse_size(const char *text, uint64_t *bytes)
{
	const char *digits = NULL;
	size_t digit_count = 0;
	uint64_t whole, unit;
	int err;

	err = parse_digits(&text, 10, &whole);
	if (err == -EINVAL)
		return err;
	if (*text == '.') {
		digits = ++text;
		digit_count = strspn(text, "0123456789");
		text += digit_count;
	}
	unit = suffix_unit(text);
	/* Half a byte is a mistake, and so is a point with nothing behind it. */
	if (unit == 0 || (digits && (digit_count == 0 || unit == 1)))
		return -EINVAL;
	if (err || !nr_mul(whole, unit, &whole) ||
	    !nr_add(whole, digits ? fraction_of(unit, digits, digit_count) : 0, &whole) ||
	    whole > NR_SIZE_MAX)
		return -ERANGE;
	*bytes = whole;
	return 0;
}

int nr_parse_uint(const char *text, uint64_t *value)
{
	unsigned base = 10;
	uint64_t parsed;
	int err;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		text += 2;
	}
	err = parse_digits(&text, base, &parsed);
	if (err == -EINVAL || *text != '\0')
		return -EINVAL;
	if (!err)
		*value = parsed;
	return err;
}

int nr_parse_bool(const char *text, bool *value)
{
	static const char *const words[][2] = {
		{ "false", "true" }, { "off", "on" }, { "no", "yes" },
		{ "0", "1" },        { "f", "t" },    { "n", "y" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (int meaning = 0; meaning < 2; meaning++) {
			if (strcasecmp(text, words[i][meaning]) == 0) {
				*value = meaning;
				return 0;
			}
		}
	}
	return -EINVAL;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/*
 * How many slips make B out of A: a letter too many, too few, another one, or
 * two exchanged.  Capitals count as small letters.
 */
static unsigned edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned rows[3][NEAREST_MAX + 1]; /* this row of the matrix and the two before it */
	unsigned *before = rows[0], *last = rows[1], *row = rows[2];

	for (size_t j = 0; j <= b_length; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			int x = tolower((unsigned char)a[i - 1]);
			int y = tolower((unsigned char)b[j - 1]);

			row[j] = least(least(last[j] + 1, row[j - 1] + 1), last[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
			    y == tolower((unsigned char)a[i - 2]))
				row[j] = least(row[j], before[j - 2] + 1);
		}
		before = last;
		last = row;
		row = spare;
	}
	return last[b_length];
}

const char *nr_nearest(const char *wrong, const char *(*next)(void *context, size_t index),
		       void *context)
{
	size_t length = strlen(wrong);
	unsigned allowed = length >= 3 ? (unsigned)length / 3 : 1;
	const char *best = NULL;
	const char *name;

	if (length > NEAREST_MAX)
		return NULL;
	for (size_t i = 0; (name = next(context, i)) != NULL; i++) {
		size_t name_length = strlen(name);
		unsigned distance;

		if (name_length > NEAREST_MAX)
			continue;
		distance = edit_distance(wrong, length, name, name_length);
		/* A name of one letter is not suggested for another letter. */
		if (distance > allowed || distance >= length)
			continue;
		/* The first of equals; a better one must be strictly nearer. */
		allowed = distance ? distance - 1 : 0;
		best = name;
		if (distance == 0)
			break;
	}
	return best;
}
