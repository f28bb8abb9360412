/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See xva-sum.h.
 *
 * A checksum is a file of hexadecimal digits behind its chunk, with the chunk's name and
 * a suffix.  XXH64 is written as a number, which may have lost its first zeroes.
 */
#include "filters/xva-sum.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <nettle/sha1.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* for a state that is a part of ours */
#include <xxhash.h>

#include "nbdring/checked.h"

static const struct {
	const char *suffix;
	size_t digits_min, digits;
} kinds[NR_XVA_SUM_KINDS] = {
	[NR_XVA_SHA1] = { ".checksum", 40, 40 },
	[NR_XVA_XXH64] = { ".xxhash", 1, 16 },
};

struct decoder {
	const struct nr_xva_sums *sums;
	const struct nr_xva_sum *sum;
	const struct nr_span *span;
	uint64_t left; /* bytes */
	struct sha1_ctx sha1;
	XXH64_state_t xxh64;
};

int nr_xva_sums_add(struct nr_xva_sums *sums)
{
	if (sums->count == sums->room) {
		size_t room = sums->room ? 2 * sums->room : 64;
		struct nr_xva_sum *more = realloc(sums->sum, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		sums->sum = more;
		sums->room = room;
	}
	sums->sum[sums->count++] = (struct nr_xva_sum){ .kind = NR_XVA_NO_SUM };
	return 0;
}

void nr_xva_sums_free(struct nr_xva_sums *sums)
{
	free(sums->sum);
	*sums = (struct nr_xva_sums){ .sum = NULL };
}

/* Files. */

enum nr_xva_sum_kind nr_xva_sum_kind(const char *suffix)
{
	for (unsigned i = NR_XVA_SHA1; i < NR_XVA_SUM_KINDS; i++)
		if (strcmp(suffix, kinds[i].suffix) == 0)
			return (enum nr_xva_sum_kind)i;
	return NR_XVA_NO_SUM;
}

static unsigned value_of(char digit)
{
	return (unsigned)(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
}

bool nr_xva_sum_parse(const char *text, enum nr_xva_sum_kind kind, struct nr_xva_sum *sum)
{
	size_t digits = strspn(text, "0123456789abcdefABCDEF"), most = kinds[kind].digits;

	if (digits < kinds[kind].digits_min || digits > most ||
	    text[digits + strspn(text + digits, " \t\r\n")])
		return false;
	*sum = (struct nr_xva_sum){ .kind = (uint8_t)kind };
	for (size_t i = 0; i < digits; i++) {
		size_t at = most - digits + i;

		sum->value[at / 2] |= (uint8_t)(value_of(text[i]) << (at % 2 ? 0 : 4));
	}
	return true;
}

/* Chunks. */

static void *begin_chunk(const void *context, const struct nr_span *span, int *error)
{
	const struct nr_xva_sums *sums = context;
	struct decoder *d = malloc(sizeof(*d));

	*error = -ENOMEM;
	if (!d)
		return NULL;
	d->sums = sums;
	d->sum = &sums->sum[span->extra];
	d->span = span;
	d->left = span->in_length;
	sha1_init(&d->sha1);
	(void)XXH64_reset(&d->xxh64, 0);
	return d;
}

static int end_of_chunk(struct decoder *d)
{
	uint8_t value[SHA1_DIGEST_SIZE] = { 0 };
	uint64_t xxh64 = htobe64(XXH64_digest(&d->xxh64));

	static_assert(sizeof(value) == sizeof(d->sum->value), "what is compared");
	if (d->sum->kind == NR_XVA_SHA1)
		sha1_digest(&d->sha1, sizeof(value), value);
	if (d->sum->kind == NR_XVA_XXH64)
		memcpy(value, &xxh64, sizeof(xxh64));
	if (memcmp(value, d->sum->value, sizeof(value)) == 0)
		return NR_CODEC_END;
	/* Clients try again. */
	if (d->sums->layer && atomic_exchange(d->sums->said, d->span->in) != d->span->in)
		nr_layer_log(d->sums->layer, NR_LAYER_WARNING,
			     "the chunk at byte %" PRIu64
			     " of the archive is not what its checksum says",
			     d->span->in);
	return -EIO;
}

static int step_chunk(void *decoder, struct nr_codec_io *io)
{
	struct decoder *d = decoder;
	size_t length = (size_t)nr_min(nr_min(io->in_left, io->out_left), d->left);

	if (length > 0)
		memcpy(io->out, io->in, length);
	if (d->sum->kind == NR_XVA_SHA1)
		sha1_update(&d->sha1, length, io->in);
	if (d->sum->kind == NR_XVA_XXH64)
		(void)XXH64_update(&d->xxh64, io->in, length);
	io->in += length;
	io->in_left -= length;
	io->out += length;
	io->out_left -= length;
	d->left -= length;
	return d->left == 0 ? end_of_chunk(d) : NR_CODEC_MORE;
}

const struct nr_codec nr_xva_codec = {
	.begin = begin_chunk,
	.step = step_chunk,
	.end = free,
	.ends = true,
};
