/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The disks of an XVA as exports.
 *
 * Which there are is found out once for the server, in what is below the filter, which is
 * opened for that, and kept in the memory that the filter's instances share.
 */
#ifndef FILTERS_XVA_LIST_H
#define FILTERS_XVA_LIST_H

#include <pthread.h>

#include "filters/tar-member.h"
#include "filters/xva-facts.h"
#include "nbdring/layer.h"

struct nr_xva_list {
	pthread_mutex_t mutex;     /* until it is there */
	_Atomic(bool) there;       /* the facts are, and stay as they are */
	struct nr_xva_facts facts; /* ova.xml's, or refs alone */
};

void nr_xva_list_init(struct nr_xva_list *list);
void nr_xva_list_free(struct nr_xva_list *list);

/*
 * Fill the list, unless that was done: with what ova.xml says (METADATA), or the folders of
 * the archive if that says nothing.  May block.  0, or negative errno with a sentence.
 */
int nr_xva_list_load(struct nr_xva_list *list, struct nr_layer *layer, bool metadata,
		     struct nr_error *error);

/* Is it there, with several disks? */
bool nr_xva_list_many(const struct nr_xva_list *list);

/* What DISK is called as an export: its name if that leads to it, or its ref. */
const char *nr_xva_list_name(const struct nr_xva_list *list, const struct nr_xva_disk *disk);
/* EACH for DISK: that, and its name and size. */
void nr_xva_list_tell(const struct nr_xva_list *list, const struct nr_xva_disk *disk,
		      nr_export_fn *each, void *context);

#ifdef NR_HAVE_EXPAT
/* The facts of the ova.xml at [DATA, DATA + LENGTH) of the archive.  Like parsing. */
int nr_xva_facts_read(const struct nr_tar_archive *archive, uint64_t data, uint64_t length,
		      struct nr_xva_facts *facts, struct nr_error *error);
#endif

#endif
