/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the metadata of an XVA, its ova.xml, says about disks.
 *
 * ova.xml is a value of XML-RPC: a structure whose member "objects" is an array of objects,
 * each with a class, an id ("Ref:7") and a snapshot of its fields.  Of class VDI are disks;
 * a VBD says as which device of the machine a VDI is attached, and whether as a CD.
 *
 * Pure.  Whatever the bytes are, memory and time are bounded by their number and the limits
 * below.
 */
#ifndef FILTERS_XVA_FACTS_H
#define FILTERS_XVA_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/output.h"
#include "nbdring/error.h"

#define NR_XVA_XML_MAX ((uint64_t)16 << 20) /* bytes of ova.xml */
#define NR_XVA_DISKS_MAX 4096u              /* and as many attachments */
#define NR_XVA_REF_MAX 32u                  /* bytes with the NUL: "Ref:" and a number */
#define NR_XVA_TEXT_MAX 256u                /* of anything else; what is longer is not known */
#define NR_XVA_NO_DEVICE UINT32_MAX

enum nr_xva_size { NR_XVA_NO_SIZE, NR_XVA_BAD_SIZE, NR_XVA_SIZE };

struct nr_xva_disk {
	char ref[NR_XVA_REF_MAX];
	char uuid[NR_XVA_TEXT_MAX]; /* "": not known; so for the name */
	char name[NR_XVA_TEXT_MAX]; /* UTF-8, what the user calls it */
	enum nr_xva_size has_size;  /* BAD: it is said, but is none */
	uint64_t size;              /* bytes, 1 to NR_SIZE_MAX */
	uint32_t device;            /* number; NR_XVA_NO_DEVICE: attached to none */
	bool snapshot;              /* of another disk */
	bool cd;                    /* attached as a CD: not in the archive */
};

/*
 * All zeroes: nothing is known.  In order of devices, those without one behind; snapshots
 * behind all others.
 */
struct nr_xva_facts {
	struct nr_xva_disk *disk;
	size_t count;
};

/* Is TEXT the name of a disk in the archive, "Ref:7"? */
bool nr_xva_is_ref(const char *text);

/* Built with libexpat only (NR_HAVE_EXPAT).  0, or negative errno and nothing to free. */
int nr_xva_facts_parse(const char *xml, size_t length, struct nr_xva_facts *facts,
		       struct nr_error *error);
void nr_xva_facts_free(struct nr_xva_facts *facts);

/* For the parser: bring them into order.  -EEXIST: a ref is there twice. */
int nr_xva_facts_sort(struct nr_xva_facts *facts, struct nr_error *error);

const struct nr_xva_disk *nr_xva_facts_of(const struct nr_xva_facts *facts, const char *ref);

/*
 * The disk that is called WORD: its ref, or uuid, or name, or place in the order, the first
 * of them that fits.  -ENOENT with a sentence: none is, or several have that name.
 */
int nr_xva_facts_choose(const struct nr_xva_facts *facts, const char *word,
			const struct nr_xva_disk **disk, struct nr_error *error);

/* Ref, name and size of each, for a sentence; not more than that can bear. */
void nr_xva_facts_list(const struct nr_xva_facts *facts, struct nr_text *text);

#endif
