/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the file of a mirror's write-intent bitmap.
 *
 * The input is such a file.  Checksums would keep a fuzzer out, so they are put right
 * first where the input has whole blocks; its first byte says whether that is done.  What
 * is accepted says the same when it is written and read once more.
 */
#include "backends/mirror-bitmap.h"
#include "tests/fuzz/fuzz.h"

/* As the block of this number; the bits stay. */
static void number_block(uint8_t *block, uint32_t number)
{
	for (unsigned i = 0; i < 4; i++)
		block[504 + i] = (uint8_t)(number >> 8 * i);
	nr_bitmap_seal(block);
}

static void check_again(const uint8_t *data, size_t size, const struct nr_bitmap_header *header,
			const uint64_t *bits)
{
	uint64_t blocks = size / NR_BITMAP_BLOCK;
	uint8_t block[NR_BITMAP_BLOCK];

	nr_bitmap_put_header(block, header);
	/* What is unused in a header may be anything. */
	assert(memcmp(block, data, 28) == 0);
	for (uint32_t i = 1; i < blocks; i++) {
		nr_bitmap_put_bits(block, i, bits + (size_t)(i - 1) * NR_BITMAP_WORDS);
		assert(memcmp(block, data + (size_t)i * NR_BITMAP_BLOCK, NR_BITMAP_BLOCK) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct nr_bitmap_header header;
	struct nr_error error;
	uint8_t *data;
	uint64_t *bits;

	if (size < 1)
		return 0;
	data = fuzz_copy(input + 1, --size);
	if (input[0] & 1 && size >= NR_BITMAP_BLOCK)
		nr_bitmap_seal(data);
	for (uint32_t i = 1; input[0] & 2 && i < size / NR_BITMAP_BLOCK; i++)
		number_block(data + (size_t)i * NR_BITMAP_BLOCK, i);
	if (nr_bitmap_parse(data, size, &header, &bits, &error) == 0) {
		check_again(data, size, &header, bits);
		free(bits);
	} else {
		fuzz_check_error(&error);
	}
	free(data);
	return 0;
}
