/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Matching names against patterns.
 *
 * What a star stands for is tried from nothing upwards, and only the last star met is
 * tried again: if the rest behind it does not fit, no longer stretch for an earlier one
 * helps.  That keeps the time at the product of the lengths.  The same holds for
 * the parts of distinguished names.
 */
#include "nbdring/pattern.h"

#include <stdint.h>
#include <string.h>

/* What is left of a text, or of a pattern. */
struct rest {
	const char *at, *end;
};

static struct rest rest_of(const char *text, size_t length)
{
	return (struct rest){ text, text + length };
}

/* The next character; bytes that are no UTF-8 are characters of their own. */
static uint32_t take(struct rest *r)
{
	static const uint32_t first_bits[] = { 0x7f, 0, 0x1f, 0x0f, 0x07 };
	uint8_t first = (uint8_t)*r->at++;
	unsigned length = first < 0xc2   ? 1
			  : first < 0xe0 ? 2
			  : first < 0xf0 ? 3
			  : first < 0xf5 ? 4
					 : 1;
	uint32_t character = first & first_bits[length];

	if (length == 1 && first < 0x80)
		return first;
	if (length == 1 || (size_t)(r->end - r->at) < length - 1)
		return 0x110000u + first;
	for (unsigned i = 1; i < length; i++) {
		uint8_t next = (uint8_t)r->at[i - 1];

		if ((next & 0xc0) != 0x80)
			return 0x110000u + first;
		character = character << 6 | (next & 0x3f);
	}
	r->at += length - 1;
	return character;
}

/*
 * P stands behind a [.  If a ] closes it: true, P behind that one, and whether C is
 * in the set.
 */
static bool take_set(struct rest *p, uint32_t c, bool *is_in)
{
	struct rest r = *p;
	bool inverted = r.at < r.end && (*r.at == '!' || *r.at == '^'), found = false;

	if (inverted)
		r.at++;
	for (bool is_first = true; r.at < r.end; is_first = false) {
		uint32_t low = take(&r), high = low;

		if (low == ']' && !is_first) {
			*is_in = found != inverted;
			*p = r;
			return true;
		}
		if (r.end - r.at >= 2 && r.at[0] == '-' && r.at[1] != ']') {
			r.at++;
			high = take(&r);
		}
		found = found || (low <= c && c <= high);
	}
	return false;
}

/* One character of the text by what stands at P, which is no star. */
static bool take_one(struct rest *p, struct rest *text)
{
	uint8_t byte = (uint8_t)*p->at;
	uint32_t wanted, c;
	bool is_in;

	/* Nearly always. */
	if (byte < 0x80 && byte != '?' && byte != '[') {
		p->at++;
		return byte == (uint8_t)*text->at++;
	}
	wanted = take(p);
	c = take(text);
	if (wanted == '?')
		return true;
	if (wanted == '[' && take_set(p, c, &is_in))
		return is_in;
	return wanted == c;
}

static bool matches(struct rest p, struct rest text)
{
	struct rest star = { NULL, NULL }, star_text = text;

	while (text.at < text.end) {
		if (p.at < p.end && *p.at == '*') {
			p.at++;
			star = p;
			star_text = text;
			continue;
		}
		if (p.at < p.end && take_one(&p, &text))
			continue;
		if (!star.at)
			return false;
		take(&star_text);
		text = star_text;
		p = star;
	}
	while (p.at < p.end && *p.at == '*')
		p.at++;
	return p.at == p.end;
}

bool nr_pattern_matches(const char *pattern, const char *text, size_t length)
{
	return matches(rest_of(pattern, strlen(pattern)), rest_of(text, length));
}

bool nr_pattern_is_wild(const char *pattern, size_t length)
{
	struct rest p = rest_of(pattern, length);
	bool ignored;

	while (p.at < p.end) {
		char c = *p.at++;

		if (c == '*' || c == '?' || (c == '[' && take_set(&p, 0, &ignored)))
			return true;
	}
	return false;
}

/* Distinguished names. */

/* The next part: up to the next comma that no backslash precedes.  False: there is none. */
static bool take_part(struct rest *r, struct rest *part)
{
	const char *at = r->at;

	if (!at)
		return false;
	while (at < r->end && *at != ',') {
		if (*at == '\\' && at + 1 < r->end)
			at++;
		at++;
	}
	*part = (struct rest){ r->at, at };
	r->at = at < r->end ? at + 1 : NULL;
	return true;
}

static bool take_pattern_part(struct rest *r, struct rest *part)
{
	if (!take_part(r, part))
		return false;
	while (part->at < part->end && *part->at == ' ')
		part->at++;
	return true;
}

static bool is_star(const struct rest *part)
{
	return part->end - part->at == 1 && *part->at == '*';
}

bool nr_pattern_matches_dn(const char *pattern, size_t pattern_length, const char *dn)
{
	struct rest p = rest_of(pattern, pattern_length), text = rest_of(dn, strlen(dn));
	struct rest star = p, star_text = text, part, text_part;
	bool has_star = false;

	if (!dn[0])
		text.at = NULL; /* no part, rather than an empty one */
	for (;;) {
		bool has_part = take_pattern_part(&p, &part);

		if (has_part && is_star(&part)) {
			has_star = true;
			star = p;
			star_text = text;
			continue;
		}
		if (!take_part(&text, &text_part))
			return !has_part;
		if (has_part && matches(part, text_part))
			continue;
		if (!has_star)
			return false;
		/* The star takes one part more. */
		if (!take_part(&star_text, &text_part))
			return false;
		text = star_text;
		p = star;
	}
}
