/* SPDX-License-Identifier: BSD-3-Clause */
/* LUKS containers for tests, made by libcryptsetup, cheap to open. */
#ifndef TESTS_UNIT_LUKS_CONTAINER_H
#define TESTS_UNIT_LUKS_CONTAINER_H

#include <stdint.h>

#define LUKS_PASSPHRASE "open sesame"

struct luks_container {
	int version;      /* 1 or 2 */
	const char *mode; /* "xts-plain64" */
	unsigned key_bytes;
	unsigned sector;     /* version 2 */
	uint64_t data_bytes; /* behind the header */
	const char *kdf;     /* "pbkdf2" or "argon2id" */
};

/*
 * A new file PATH, sparse, with such a container in it, which LUKS_PASSPHRASE opens.  Where
 * its data begins, bytes.  Ends the process with a message when that is not possible.
 */
uint64_t luks_container_make(const char *path, const struct luks_container *c);

#endif
