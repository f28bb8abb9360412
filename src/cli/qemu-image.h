/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The image that qemu-nbd is given: by its name, by options, or by JSON; and what there
 * is to know of it before it is served.
 */
#ifndef SRC_CLI_QEMU_IMAGE_H
#define SRC_CLI_QEMU_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "nbdring/error.h"

struct nr_qemu_image {
	char *path;      /* of the file or block device */
	bool is_uri;     /* path is the URI of an NBD server instead */
	uint64_t offset; /* of what is served in it, and */
	uint64_t length; /* its bytes; 0: to the end */
	bool read_only;
	bool guessed;  /* nobody said that it is raw */
	bool unlocked; /* others may do with it what they like */
	int lock;      /* keeps the image locked while it is open; 0: it is not */
	/* What the image itself says; NULL: as the command line does. */
	char *discard, *detect_zeroes, *aio;
	int direct, no_flush; /* cache.direct, cache.no-flush; -1: as the command line does */
	uint64_t size;        /* of the whole file; 0 for a URI */
};

/*
 * Find out what NAME is.  FORMAT is -f (NULL: not given); AS_OPTIONS: --image-opts.  To
 * be given back with nr_qemu_image_free in any case.
 */
int nr_qemu_image_read(struct nr_qemu_image *image, const char *name, const char *format,
		       bool as_options, struct nr_error *error);
/*
 * Look whether it can be opened, how large it is, that nobody else keeps it for himself,
 * and, where nobody has said, that it is raw.
 */
int nr_qemu_image_look(struct nr_qemu_image *image, struct nr_error *error);
void nr_qemu_image_free(struct nr_qemu_image *image);

#endif
