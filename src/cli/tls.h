/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the options --tls… come to: the credentials, from where the command line or
 * custom says they are.  Main thread.
 */
#ifndef SRC_CLI_TLS_H
#define SRC_CLI_TLS_H

#include "src/cli/options.h"
#include "src/tls/credentials.h"

struct nr_tls_use {
	struct nr_tls_store *store; /* NULL: there is to be no TLS */
	char *folder;               /* where the certificates are; NULL: there are none */
};

/*
 * Load what OPTIONS ask for.  USE is to be given back with nr_tls_use_free in any case.
 * -EINVAL: options that do not go together, or files that are not right; -ENOENT and
 * others: of the files.
 */
int nr_tls_use_load(struct nr_tls_use *use, const struct nr_options *options,
		    struct nr_error *error);
void nr_tls_use_free(struct nr_tls_use *use);

/*
 * The same files once more, for sessions from now on; the log says how it went.  What
 * cannot be loaded changes nothing.
 */
void nr_tls_use_reload(struct nr_tls_use *use, const struct nr_options *options);

#endif
