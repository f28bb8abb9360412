/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What qemu-nbd's command line says that nbdring's has no words for.  A part of
 * struct nr_options, so that rows of both tables work the same way.
 */
#ifndef SRC_CLI_QEMU_OPTIONS_H
#define SRC_CLI_QEMU_OPTIONS_H

#include "nbdring/param.h"

struct nr_qemu_options {
	const char *socket; /* -k; NULL: not given, as for the others */
	const char *bind;   /* -b */
	const char *port;   /* -p */

	const char *format; /* -f */
	unsigned image_opts;
	const char *offset;   /* -o */
	unsigned snapshot;    /* -s */
	const char *load;     /* -l */
	unsigned no_cache;    /* -n */
	unsigned cache_given; /* how often -n and --cache were */
	const char *cache;
	const char *aio;
	const char *discard;
	const char *detect_zeroes;
	unsigned depth;            /* -A */
	struct nr_strings bitmaps; /* -B */

	const char *export_name; /* -x */
	const char *description; /* -D */
	const char *shared;      /* -e */
	unsigned persistent;     /* -t */
	const char *limit;       /* --handshake-limit */

	const char *connect;    /* -c */
	const char *disconnect; /* -d */
	unsigned list;          /* -L */
	unsigned fork;

	struct nr_strings objects;
	const char *tls_creds;
	const char *tls_hostname;
	const char *tls_authz;
	struct nr_strings traces; /* -T */

	int lock; /* descriptor that keeps the image locked; 0: none */
};

#endif
