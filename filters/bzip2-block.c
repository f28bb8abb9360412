/* SPDX-License-Identifier: BSD-3-Clause */
/* See bzip2-block.h. */
#include "filters/bzip2-block.h"

#include <bzlib.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define PIECE 4096u
#define TAIL 16u       /* room for the end of the stream, bytes */
#define SUM_BEHIND 10u /* bytes of a block up to the end of its checksum */

struct nr_bzip2_decoder {
	bz_stream z;
	unsigned skip; /* bits of the next byte that are not the block's */
	uint64_t bits; /* of the block that have not been read */
	bool ended;    /* the stream's end is in the piece, too */

	uint32_t rest; /* bits that make no byte yet */
	unsigned rest_count;
	uint64_t put; /* bytes of the block so far */
	uint32_t sum;

	size_t length, used; /* of the piece */
	uint8_t piece[PIECE + TAIL];
};

struct nr_bzip2_decoder *nr_bzip2_begin(unsigned skip, uint64_t bits)
{
	/* The largest blocks: what the file says of its own is a hint for memory only. */
	static const uint8_t header[] = { 'B', 'Z', 'h', '9' };
	struct nr_bzip2_decoder *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	if (BZ2_bzDecompressInit(&d->z, 0, 0) != BZ_OK) {
		free(d);
		return NULL;
	}
	d->skip = skip;
	d->bits = bits;
	memcpy(d->piece, header, sizeof(header));
	d->length = sizeof(header);
	return d;
}

void nr_bzip2_free(struct nr_bzip2_decoder *d)
{
	if (!d)
		return;
	(void)BZ2_bzDecompressEnd(&d->z);
	free(d);
}

uint32_t nr_bzip2_sum(const struct nr_bzip2_decoder *d)
{
	return d->sum;
}

/* COUNT bits, at most 16, into the piece. */
static void put_bits(struct nr_bzip2_decoder *d, uint32_t bits, unsigned count)
{
	d->rest = d->rest << count | bits;
	d->rest_count += count;
	while (d->rest_count >= 8) {
		uint8_t byte = (uint8_t)(d->rest >> (d->rest_count - 8));

		d->piece[d->length++] = byte;
		if (d->put++ < SUM_BEHIND)
			d->sum = d->sum << 8 | byte;
		d->rest_count -= 8;
	}
}

static void put_end(struct nr_bzip2_decoder *d)
{
	uint32_t sum = d->sum;

	for (unsigned at = NR_BZIP2_MARK_BITS; at > 0; at -= 16)
		put_bits(d, (uint32_t)(NR_BZIP2_END >> (at - 16)) & 0xffff, 16);
	put_bits(d, sum >> 16, 16);
	put_bits(d, sum & 0xffff, 16);
	put_bits(d, 0, 7);
	d->ended = true;
}

/* What there is of the block, as far as there is room in the piece, which is empty. */
static void fill(struct nr_bzip2_decoder *d, struct nr_codec_io *io)
{
	d->used = d->length = 0;
	while (io->in_left > 0 && d->bits > 0 && d->length < PIECE) {
		unsigned count = (unsigned)nr_min(8 - d->skip, d->bits);

		put_bits(d, (uint32_t)*io->in >> (8 - d->skip - count) & ((1u << count) - 1),
			 count);
		d->bits -= count;
		d->skip = 0;
		io->in++;
		io->in_left--;
	}
	if (d->bits == 0 && !d->ended)
		put_end(d);
}

int nr_bzip2_step(struct nr_bzip2_decoder *d, struct nr_codec_io *io)
{
	bool moved = true;

	while (moved) {
		size_t room = nr_min(io->out_left, UINT_MAX);
		int ret;

		if (d->used == d->length)
			fill(d, io);
		d->z.next_in = (char *)d->piece + d->used;
		d->z.avail_in = (unsigned)(d->length - d->used);
		d->z.next_out = (char *)io->out;
		d->z.avail_out = (unsigned)room;
		ret = BZ2_bzDecompress(&d->z);
		moved = d->z.avail_in < d->length - d->used || d->z.avail_out < room;
		d->used = d->length - d->z.avail_in;
		io->out += room - d->z.avail_out;
		io->out_left -= room - d->z.avail_out;
		if (ret == BZ_STREAM_END)
			return d->ended && io->in_left == 0 ? NR_CODEC_END : -EIO;
		if (ret != BZ_OK)
			return ret == BZ_MEM_ERROR ? -ENOMEM : -EIO;
	}
	return NR_CODEC_MORE;
}
