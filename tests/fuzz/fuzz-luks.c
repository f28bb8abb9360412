/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: LUKS headers.
 *
 * Byte 0 chooses what the rest is: the JSON text of LUKS2, which is put into headers whose
 * checksums are right; a disk as it is; or the JSON text for our own look at it alone.
 * Whatever it says: reads lie on the disk and are few, a refusal says why, and what is
 * accepted is a container that can be.
 */
#include <gnutls/crypto.h>
#include <stdio.h>

#include "filters/luks-header.h"
#include "nbdring/checked.h"
#include "nbdring/secret.h"
#include "tests/fuzz/fuzz.h"

#define MIB (UINT64_C(1) << 20)
#define HEADER_BYTES 16384u
#define JSON_AT 4096u
#define CHECKSUM_AT 448u
#define READ_MAX (24 * MIB) /* headers, and 32 areas of 256,000 bytes */

/* A disk whose first bytes are given; all others are zeroes. */
struct disk {
	const uint8_t *bytes;
	size_t count;
	uint64_t size, read;
};

static int read_disk(void *context, uint64_t offset, uint64_t length, void *data,
		     struct nr_error *error)
{
	struct disk *d = context;
	uint64_t there = offset < d->count ? nr_min(length, d->count - offset) : 0;

	assert(nr_in_range(offset, length, d->size));
	memset(data, 0, length);
	if (there)
		memcpy(data, d->bytes + offset, there);
	d->read += length;
	assert(d->read <= READ_MAX);
	return 0;
}

static void check_facts(const struct nr_luks_facts *facts)
{
	assert(nr_is_power_of_2(facts->sector));
	assert(facts->sector >= 512);
	assert(facts->sector <= 4096);
	assert(facts->payload <= NR_SIZE_MAX);
	assert(facts->length <= NR_SIZE_MAX);
	assert(facts->key_bytes <= NR_LUKS_KEY_MAX);
	for (unsigned i = 0; i < NR_LUKS_SLOTS; i++)
		assert(facts->slot[i].area <= NR_SIZE_MAX);
}

static void unlock(const uint8_t *bytes, size_t count, uint64_t size)
{
	struct disk disk = { .bytes = bytes, .count = count, .size = size };
	const struct nr_luks_source source = { .size = size, .read = read_disk, .context = &disk };
	const struct nr_luks_unlock how = {
		.passphrase = "x",
		.passphrase_bytes = 1,
		.slot = NR_LUKS_ANY_SLOT,
		.limits = { .memory = MIB, .seconds = 1 },
	};
	struct nr_luks_volume volume;
	struct nr_error error = { .code = 0 };
	int err = nr_luks_unlock(&source, &how, &volume, &error);

	if (err)
		fuzz_check_error(&error);
	else
		check_facts(&volume.facts);
	assert(!err == !!volume.key);
	nr_secret_free(volume.key);
}

static void put(uint8_t *to, uint64_t number, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
}

/* One of the two headers, with this text. */
static void make_header(uint8_t *header, bool second, const uint8_t *json, size_t length)
{
	memset(header, 0, HEADER_BYTES);
	memcpy(header, second ? "SKUL\xba\xbe" : "LUKS\xba\xbe", 6);
	put(header + 6, 2, 2);
	put(header + 8, HEADER_BYTES, 8);
	put(header + 16, 1, 8);
	memcpy(header + 72, "sha256", 6);
	memcpy(header + 168, "4b8a3f3e-0000-4000-8000-000000000000", 36);
	put(header + 256, second ? HEADER_BYTES : 0, 8);
	memcpy(header + JSON_AT, json, length);
	assert(gnutls_hash_fast(GNUTLS_DIG_SHA256, header, HEADER_BYTES, header + CHECKSUM_AT) ==
	       0);
}

static void unlock_json(const uint8_t *json, size_t length)
{
	uint8_t *disk = malloc(2 * (size_t)HEADER_BYTES);

	assert(disk);
	length = nr_min(length, HEADER_BYTES - JSON_AT - 1);
	make_header(disk, false, json, length);
	make_header(disk + HEADER_BYTES, true, json, length);
	unlock(disk, 2 * (size_t)HEADER_BYTES, 64 * MIB);
	free(disk);
}

static void look_at_json(const uint8_t *json, size_t length)
{
	const struct nr_luks_limits limits = { MIB, 60 };
	char *text = malloc(length + 1);
	struct nr_error error = { .code = 0 };
	struct nr_luks_facts facts;
	int err;

	assert(text);
	memcpy(text, json, length);
	text[length] = '\0';
	err = nr_luks_facts_2(text, &facts, &error);
	if (!err)
		check_facts(&facts);
	if (!err)
		err = nr_luks_judge(&facts, NR_LUKS_ANY_SLOT, &limits, &error);
	if (err)
		fuzz_check_error(&error);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size == 0)
		return 0;
	copy = fuzz_copy(data + 1, size - 1);
	if (data[0] % 3 == 0)
		unlock_json(copy, size - 1);
	else if (data[0] % 3 == 1)
		unlock(copy, size - 1, nr_max(size - 1, data[0] % 2 ? 64 * MIB : 0));
	else
		look_at_json(copy, size - 1);
	free(copy);
	return 0;
}
