/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Takes single capabilities away, to see what clients and filters do without.
 *
 * Only traits: what is not offered is refused above, so no request costs
 * anything.  A row per name; to mask more, add one.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "filters/filters.h"

struct mask {
	struct nr_strings names; /* each a list with commas */
};

enum flag { FLAG_MULTI_CONN = NR_CAP_COUNT, FLAG_ROTATIONAL, FLAG_WRITE, MASK_COUNT };

/* By enum nr_capability, then enum flag. */
static const char *const mask_names[MASK_COUNT] = {
	[NR_CAP_FLUSH] = "flush",         [NR_CAP_FUA] = "fua",
	[NR_CAP_TRIM] = "trim",           [NR_CAP_ZERO] = "zero",
	[NR_CAP_FAST_ZERO] = "fast-zero", [NR_CAP_CACHE] = "cache",
	[NR_CAP_EXTENTS] = "extents",     [NR_CAP_RESIZE] = "resize",
	[FLAG_MULTI_CONN] = "multi-conn", [FLAG_ROTATIONAL] = "rotational",
	[FLAG_WRITE] = "write",
};

static const struct nr_param params[] = {
	{
		.name = "mask",
		.type = NR_PARAM_LIST,
		.flags = NR_PARAM_REQUIRED,
		.offset = offsetof(struct mask, names),
		.value = "NAME,...",
		.help = "What to take away",
		.manual =
			"What to take away, one or more with commas between them:\n\n"
			"=over 4\n\n"
			"=item B<flush>\n\nMaking what was written stable.\n\n"
			"=item B<fua>\n\nThe same for single requests.\n\n"
			"=item B<trim>\n\nDropping contents.\n\n"
			"=item B<zero>\n\nZeroing without sending zeroes, and with it B<fast-zero>.\n\n"
			"=item B<fast-zero>\n\nZeroing that fails rather than being slow.\n\n"
			"=item B<cache>\n\nPrefetching.\n\n"
			"=item B<extents>\n\nThe allocation map (C<base:allocation>).\n\n"
			"=item B<resize>\n\nChanging the size.\n\n"
			"=item B<multi-conn>\n\nThe promise that a flush covers all connections.\n\n"
			"=item B<rotational>\n\nThe hint that the disk spins.\n\n"
			"=item B<write>\n\nWriting of any kind: the disk is read-only.\n\n"
			"=back\n\n"
			"The parameter can be given more than once.",
	},
	{ .name = NULL },
};

/* How many letters in the same places: enough for slips of the finger. */
static size_t likeness(const char *name, const char *word, size_t length)
{
	size_t head = 0, tail = 0, n = strlen(name);

	while (head < n && head < length && name[head] == word[head])
		head++;
	while (tail < n - head && tail < length - head &&
	       name[n - 1 - tail] == word[length - 1 - tail])
		tail++;
	return head + tail;
}

static int refuse(const char *word, size_t length, struct nr_error *error)
{
	char list[256] = "";
	const char *nearest = NULL;
	size_t used = 0, best = 0;

	for (unsigned i = 0; i < MASK_COUNT; i++) {
		size_t like = likeness(mask_names[i], word, length);

		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 mask_names[i]);
		/* More than half of both is no accident. */
		if (like > best && 2 * like >= strlen(mask_names[i]) && 2 * like >= length) {
			best = like;
			nearest = mask_names[i];
		}
	}
	return nr_error_set(
		error, -EINVAL, "mask=%.*s names nothing that can be masked%s%s%s; it can be %s",
		(int)(length < 100 ? length : 100), word, nearest ? "; did you mean " : "",
		nearest ? nearest : "", nearest ? "?" : "", list);
}

static int parse_word(const char *word, size_t length, unsigned *bits, struct nr_error *error)
{
	for (unsigned i = 0; i < MASK_COUNT; i++) {
		if (strlen(mask_names[i]) == length && memcmp(mask_names[i], word, length) == 0) {
			*bits |= 1u << i;
			return 0;
		}
	}
	return refuse(word, length, error);
}

/* The names as bits, 1 << enum nr_capability or enum flag. */
static int parse_names(const struct mask *m, unsigned *bits, struct nr_error *error)
{
	*bits = 0;
	for (size_t i = 0; i < m->names.count; i++) {
		const char *word = m->names.item[i];

		for (;;) {
			size_t length = strcspn(word, ",");
			int err = parse_word(word, length, bits, error);

			if (err)
				return err;
			if (word[length] == '\0')
				break;
			word += length + 1;
		}
	}
	return 0;
}

static int mask_check(struct nr_layer *layer, struct nr_error *error)
{
	unsigned bits;

	return parse_names(layer->instance, &bits, error);
}

static int mask_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	unsigned bits;
	int err = parse_names(layer->instance, &bits, error);

	if (err)
		return err;
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		if (bits & 1u << i)
			t->support[i] = NR_NONE;
	if (t->support[NR_CAP_ZERO] == NR_NONE)
		t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	if (bits & 1u << FLAG_MULTI_CONN)
		t->multi_conn = false;
	if (bits & 1u << FLAG_ROTATIONAL)
		t->rotational = false;
	if (bits & 1u << FLAG_WRITE)
		t->read_only = true;
	return 0;
}

const struct nr_layer_type nr_mask_type = {
	.abi = NR_LAYER_ABI,
	.name = "mask",
	.summary = "takes single capabilities away",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct mask),
	.check = mask_check,
	.describe = mask_describe,
};
