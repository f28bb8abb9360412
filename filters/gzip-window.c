/* SPDX-License-Identifier: BSD-3-Clause */
/* See gzip-window.h. */
#include "filters/gzip-window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define PASSES 3u

enum { LOW, HIGH, INVERTED };

struct pass {
	z_stream z;
	bool over; /* the window is out of reach, or the stream has ended */
	uint8_t output[NR_GZIP_WINDOW];
};

struct nr_gzip_probe {
	bool failed;
	uint32_t length; /* of the window, bytes */
	struct pass pass[PASSES];
};

struct nr_gzip_probe *nr_gzip_probe_new(void)
{
	struct nr_gzip_probe *probe = calloc(1, sizeof(*probe));

	/* One that could not be made has no state, which is what inflateEnd expects. */
	for (unsigned i = 0; probe && i < PASSES; i++)
		if (inflateInit2(&probe->pass[i].z, -15) != Z_OK) {
			nr_gzip_probe_free(probe);
			return NULL;
		}
	return probe;
}

void nr_gzip_probe_free(struct nr_gzip_probe *probe)
{
	for (unsigned i = 0; probe && i < PASSES; i++)
		(void)inflateEnd(&probe->pass[i].z);
	free(probe);
}

static uint8_t marker(unsigned pass, uint32_t i)
{
	return (uint8_t)(pass == LOW ? i : pass == HIGH ? i >> 8 : ~i);
}

void nr_gzip_probe_begin(struct nr_gzip_probe *probe, uint32_t length, uint32_t bits, uint8_t first)
{
	uint8_t window[NR_GZIP_WINDOW];

	assert(length <= NR_GZIP_WINDOW);
	assert(bits < 8);
	probe->length = length;
	probe->failed = false;
	for (unsigned i = 0; i < PASSES; i++) {
		struct pass *p = &probe->pass[i];

		for (uint32_t k = 0; k < length; k++)
			window[k] = marker(i, k);
		if (inflateReset2(&p->z, -15) != Z_OK ||
		    (bits && inflatePrime(&p->z, (int)bits, first >> (8 - bits)) != Z_OK) ||
		    inflateSetDictionary(&p->z, window, length) != Z_OK)
			probe->failed = true;
		p->over = false;
		p->z.next_out = p->output;
		p->z.avail_out = sizeof(p->output);
	}
}

void nr_gzip_probe_feed(struct nr_gzip_probe *probe, const uint8_t *in, size_t length)
{
	for (unsigned i = 0; i < PASSES && !probe->failed; i++) {
		struct pass *p = &probe->pass[i];
		int ret;

		if (p->over)
			continue;
		p->z.next_in = (z_const Bytef *)in;
		p->z.avail_in = (uInt)length;
		ret = inflate(&p->z, Z_NO_FLUSH);
		p->over = ret == Z_STREAM_END || p->z.avail_out == 0;
		if (ret != Z_OK && ret != Z_BUF_ERROR && ret != Z_STREAM_END)
			probe->failed = true;
	}
}

void nr_gzip_probe_end(struct nr_gzip_probe *probe, uint8_t *window)
{
	const struct pass *p = probe->pass;
	bool needed[NR_GZIP_WINDOW] = { false };
	size_t made = sizeof(p->output) - p->z.avail_out;

	for (unsigned i = 0; i < PASSES; i++)
		if (probe->failed || !p[i].over || p[i].z.avail_out != p->z.avail_out)
			return;
	for (size_t k = 0; k < made; k++)
		if (p[LOW].output[k] != p[INVERTED].output[k])
			needed[(p[LOW].output[k] | p[HIGH].output[k] << 8) % NR_GZIP_WINDOW] = true;
	for (uint32_t k = 0; k < probe->length; k++)
		if (!needed[k])
			window[k] = 0;
}
