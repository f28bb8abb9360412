/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a LUKS header and a passphrase to the key of the data.
 *
 * The header is read from wherever it is, bounded, into a file that is in memory only; there
 * libcryptsetup opens it.  So it needs no device, no right and no file system, and
 * whatever it may want to repair stays in that copy.
 */
#ifndef FILTERS_LUKS_HEADER_H
#define FILTERS_LUKS_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/luks-facts.h"

/* Where the header is. */
struct nr_luks_source {
	uint64_t size; /* bytes */
	int (*read)(void *context, uint64_t offset, uint64_t length, void *data,
		    struct nr_error *error);
	void *context;
};

struct nr_luks_unlock {
	const void *passphrase; /* any bytes */
	size_t passphrase_bytes;
	int slot; /* or NR_LUKS_ANY_SLOT */
	struct nr_luks_limits limits;
};

struct nr_luks_volume {
	struct nr_luks_facts facts;
	uint8_t *key; /* facts.key_bytes of it; nr_secret_free */
	int slot;     /* that was opened */
	bool mended;  /* one of the header's two copies is damaged */
};

/*
 * Open a key slot.  May take seconds, and memory, as far as the limits allow; one at a time
 * in this process.  Never on a worker.
 */
int nr_luks_unlock(const struct nr_luks_source *source, const struct nr_luks_unlock *how,
		   struct nr_luks_volume *volume, struct nr_error *error);

#endif
