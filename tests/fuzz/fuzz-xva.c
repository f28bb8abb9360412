/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the metadata of an XVA.
 *
 * The input is an ova.xml.  What is accepted has disks whose names are strings, in order,
 * each of which is found by its ref, its uuid and its place; a refusal says why.
 */
#include "filters/xva-facts.h"
#include "nbdring/checked.h"
#include "tests/fuzz/fuzz.h"

static void check_disk(const struct nr_xva_facts *facts, size_t i)
{
	const struct nr_xva_disk *d = &facts->disk[i];

	assert(nr_xva_is_ref(d->ref));
	assert(nr_xva_facts_of(facts, d->ref) == d);
	assert(memchr(d->uuid, '\0', sizeof(d->uuid)));
	assert(memchr(d->name, '\0', sizeof(d->name)));
	assert(!d->cd);
	if (d->has_size == NR_XVA_SIZE) {
		assert(d->size > 0);
		assert(d->size <= NR_SIZE_MAX);
	}
	if (i > 0) {
		assert(d[-1].snapshot <= d->snapshot);
		assert(d[-1].snapshot < d->snapshot || d[-1].device <= d->device);
	}
}

static void choose(const struct nr_xva_facts *facts, const char *word)
{
	const struct nr_xva_disk *disk = NULL;
	struct nr_error error = { 0 };

	if (nr_xva_facts_choose(facts, word, &disk, &error)) {
		fuzz_check_error(&error);
	} else {
		assert(disk >= facts->disk);
		assert(disk < facts->disk + facts->count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *xml = fuzz_copy(data, size);
	struct nr_xva_facts facts;
	struct nr_error error = { 0 };
	int err = nr_xva_facts_parse(xml, size, &facts, &error);

	free(xml);
	if (err) {
		assert(err == error.code);
		assert(!facts.disk);
		fuzz_check_error(&error);
		return 0;
	}
	for (size_t i = 0; i < facts.count; i++)
		check_disk(&facts, i);
	for (size_t i = 0; i < facts.count && i < 8; i++) {
		choose(&facts, facts.disk[i].name);
		choose(&facts, facts.disk[i].uuid);
	}
	choose(&facts, "0");
	choose(&facts, "");
	nr_xva_facts_free(&facts);
	return 0;
}
