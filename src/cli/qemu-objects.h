/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qemu-nbd's objects: credentials of TLS, and who may come in with them.
 */
#ifndef SRC_CLI_QEMU_OBJECTS_H
#define SRC_CLI_QEMU_OBJECTS_H

#include "src/cli/options.h"

/* Put what --object, --tls-creds and --tls-authz say into OPTIONS. */
int nr_qemu_set_tls(struct nr_options *options, struct nr_error *error);

/*
 * The rule of access that ALLOWS, or denies, the client whose certificate has the name
 * IDENTITY, as qemu writes it.  The caller frees it; NULL: no memory.
 */
char *nr_qemu_rule(const char *identity, bool allows);

#endif
