/* SPDX-License-Identifier: BSD-3-Clause */
#include "filters/xva-facts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LIST_MAX 240u /* bytes, before it says how many more there are */

bool nr_xva_is_ref(const char *text)
{
	size_t digits;

	if (strncmp(text, "Ref:", 4) != 0)
		return false;
	digits = strspn(text + 4, "0123456789");
	return digits > 0 && !text[4 + digits] && 4 + digits < NR_XVA_REF_MAX;
}

void nr_xva_facts_free(struct nr_xva_facts *facts)
{
	free(facts->disk);
	*facts = (struct nr_xva_facts){ .disk = NULL };
}

/* Numbers without zeroes in front: the longer one is greater. */
static int compare_refs(const char *a, const char *b)
{
	size_t length_a = strlen(a), length_b = strlen(b);

	if (length_a != length_b)
		return length_a < length_b ? -1 : 1;
	return strcmp(a, b);
}

static int compare_disks(const void *left, const void *right)
{
	const struct nr_xva_disk *a = left, *b = right;

	if (a->snapshot != b->snapshot)
		return a->snapshot ? 1 : -1;
	if (a->device != b->device)
		return a->device < b->device ? -1 : 1;
	return compare_refs(a->ref, b->ref);
}

static int compare_disk_refs(const void *left, const void *right)
{
	const struct nr_xva_disk *a = left, *b = right;

	return compare_refs(a->ref, b->ref);
}

int nr_xva_facts_sort(struct nr_xva_facts *facts, struct nr_error *error)
{
	if (facts->count == 0)
		return 0;
	qsort(facts->disk, facts->count, sizeof(*facts->disk), compare_disk_refs);
	for (size_t i = 1; i < facts->count; i++)
		if (strcmp(facts->disk[i - 1].ref, facts->disk[i].ref) == 0)
			return nr_error_set(error, -EEXIST, "%s is there twice",
					    facts->disk[i].ref);
	qsort(facts->disk, facts->count, sizeof(*facts->disk), compare_disks);
	return 0;
}

const struct nr_xva_disk *nr_xva_facts_of(const struct nr_xva_facts *facts, const char *ref)
{
	for (size_t i = 0; i < facts->count; i++)
		if (strcmp(facts->disk[i].ref, ref) == 0)
			return &facts->disk[i];
	return NULL;
}

/* Its name; NULL if there is none, or more than one: then *SECOND is another. */
static const struct nr_xva_disk *by_name(const struct nr_xva_facts *facts, const char *name,
					 const struct nr_xva_disk **second)
{
	const struct nr_xva_disk *found = NULL;

	*second = NULL;
	for (size_t i = 0; i < facts->count && !*second; i++)
		if (name[0] && strcmp(facts->disk[i].name, name) == 0)
			*(found ? second : &found) = &facts->disk[i];
	return found;
}

static const struct nr_xva_disk *by_uuid(const struct nr_xva_facts *facts, const char *uuid)
{
	for (size_t i = 0; i < facts->count; i++)
		if (uuid[0] && strcasecmp(facts->disk[i].uuid, uuid) == 0)
			return &facts->disk[i];
	return NULL;
}

static const struct nr_xva_disk *by_place(const struct nr_xva_facts *facts, const char *word)
{
	size_t digits = strspn(word, "0123456789"), place;

	if (digits == 0 || digits > 6 || word[digits])
		return NULL;
	place = strtoul(word, NULL, 10);
	return place < facts->count ? &facts->disk[place] : NULL;
}

int nr_xva_facts_choose(const struct nr_xva_facts *facts, const char *word,
			const struct nr_xva_disk **disk, struct nr_error *error)
{
	const struct nr_xva_disk *second = NULL;
	struct nr_text names = { 0 };

	*disk = nr_xva_facts_of(facts, word);
	if (!*disk)
		*disk = by_uuid(facts, word);
	if (!*disk)
		*disk = by_name(facts, word, &second);
	if (second)
		return nr_error_set(error, -ENOENT,
				    "several disks are called %.100s, %s and %s among them", word,
				    (*disk)->ref, second->ref);
	if (!*disk)
		*disk = by_place(facts, word);
	if (*disk)
		return 0;
	nr_xva_facts_list(facts, &names);
	nr_error_set(error, -ENOENT, "there is no disk %.100s; there are %s", word,
		     names.failed || !names.used ? "?" : names.data);
	nr_text_free(&names);
	return -ENOENT;
}

void nr_xva_facts_list(const struct nr_xva_facts *facts, struct nr_text *text)
{
	for (size_t i = 0; i < facts->count; i++) {
		const struct nr_xva_disk *d = &facts->disk[i];

		if (text->used > LIST_MAX) {
			nr_text_add(text, ", and %zu more", facts->count - i);
			return;
		}
		nr_text_add(text, "%s%s", i ? ", " : "", d->ref);
		if (d->name[0]) {
			nr_text_add(text, " ");
			nr_text_add_quoted(text, d->name);
		}
		if (d->has_size == NR_XVA_SIZE)
			nr_text_add(text, " of %" PRIu64 " bytes", d->size);
	}
}
