/* SPDX-License-Identifier: BSD-3-Clause */
#include "filters/xva-list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ENOUGH = 1 }; /* ends the search */

struct search {
	struct nr_stack *below;
	const struct nr_tar_archive *archive;
	struct nr_xva_facts *facts;
	bool metadata; /* is to be looked for */
};

void nr_xva_list_init(struct nr_xva_list *list)
{
	pthread_mutex_init(&list->mutex, NULL);
}

void nr_xva_list_free(struct nr_xva_list *list)
{
	nr_xva_facts_free(&list->facts);
	pthread_mutex_destroy(&list->mutex);
}

#ifdef NR_HAVE_EXPAT
int nr_xva_facts_read(const struct nr_tar_archive *archive, uint64_t data, uint64_t length,
		      struct nr_xva_facts *facts, struct nr_error *error)
{
	char *xml;
	int err;

	if (length > NR_XVA_XML_MAX)
		return nr_error_set(error, -EFBIG,
				    "ova.xml is of %" PRIu64 " bytes, which is too much", length);
	xml = malloc(length ? (size_t)length : 1);
	if (!xml)
		return nr_error_system(error, -ENOMEM, "ova.xml");
	err = archive->read(archive->context, data, length, xml, error);
	if (!err)
		err = nr_xva_facts_parse(xml, (size_t)length, facts, error);
	free(xml);
	return err;
}
#endif

/* The folder of a disk is one more, without facts. */
static int add_folder(struct nr_xva_facts *facts, const char *name, struct nr_error *error)
{
	struct nr_xva_disk disk = { .device = NR_XVA_NO_DEVICE }, *more;
	size_t length = strcspn(name, "/");

	if (!name[length] || length >= sizeof(disk.ref))
		return 0;
	memcpy(disk.ref, name, length);
	if (!nr_xva_is_ref(disk.ref))
		return 0;
	if (facts->count > 0 && strcmp(facts->disk[facts->count - 1].ref, disk.ref) == 0)
		return 0;
	if (facts->count == NR_XVA_DISKS_MAX)
		return nr_error_set(error, -E2BIG, "there are too many disks");
	more = realloc(facts->disk, (facts->count + 1) * sizeof(*more));
	if (!more)
		return nr_error_system(error, -ENOMEM, "the list of disks");
	facts->disk = more;
	facts->disk[facts->count++] = disk;
	return 0;
}

static int look_at(void *context, const char *name, uint64_t data, uint64_t length,
		   struct nr_error *error)
{
	struct search *s = context;

#ifdef NR_HAVE_EXPAT
	if (s->metadata && strcmp(name, "ova.xml") == 0 && s->facts->count == 0) {
		int err = nr_xva_facts_read(s->archive, data, length, s->facts, error);

		s->metadata = false;
		return err ? err : s->facts->count > 0 ? ENOUGH : 0;
	}
#endif
	return add_folder(s->facts, name, error);
}

static int read_archive(void *context, uint64_t offset, uint64_t length, void *data,
			struct nr_error *error)
{
	const struct search *s = context;

	return nr_below_read(s->below, offset, length, data, error);
}

static int load(struct nr_xva_facts *facts, struct nr_layer *layer, bool metadata,
		struct nr_error *error)
{
	struct nr_tar_archive archive = { .read = read_archive };
	struct search s = { .archive = &archive, .facts = facts, .metadata = metadata };
	int err;

	s.below = nr_below_open(layer, error);
	if (!s.below)
		return error->code;
	archive.size = nr_below_size(s.below);
	archive.context = &s;
	err = nr_tar_each(&archive, look_at, &s, error);
	nr_substack_close(s.below);
	if (err < 0)
		nr_xva_facts_free(facts);
	return err < 0 ? err : 0;
}

int nr_xva_list_load(struct nr_xva_list *list, struct nr_layer *layer, bool metadata,
		     struct nr_error *error)
{
	int err = 0;

	pthread_mutex_lock(&list->mutex);
	if (!atomic_load(&list->there)) {
		err = load(&list->facts, layer, metadata, error);
		if (!err)
			atomic_store(&list->there, true);
	}
	pthread_mutex_unlock(&list->mutex);
	return err;
}

bool nr_xva_list_many(const struct nr_xva_list *list)
{
	return atomic_load(&list->there) && list->facts.count > 1;
}

const char *nr_xva_list_name(const struct nr_xva_list *list, const struct nr_xva_disk *disk)
{
	const struct nr_xva_disk *found;
	struct nr_error ignored;

	if (!disk->name[0] ||
	    nr_xva_facts_choose(&list->facts, disk->name, &found, &ignored) != 0 || found != disk)
		return disk->ref;
	return disk->name;
}

void nr_xva_list_tell(const struct nr_xva_list *list, const struct nr_xva_disk *disk,
		      nr_export_fn *each, void *context)
{
	struct nr_text text = { 0 };

	if (disk->name[0])
		nr_text_add(&text, "%s", disk->name);
	if (disk->has_size == NR_XVA_SIZE)
		nr_text_add(&text, "%s%" PRIu64 " bytes", text.used ? ", " : "", disk->size);
	each(context, nr_xva_list_name(list, disk), text.failed || !text.used ? NULL : text.data);
	nr_text_free(&text);
}
