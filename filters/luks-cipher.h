/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sectors of an encrypted disk, as dm-crypt has them, by GnuTLS.
 *
 * A cipher holds a number of contexts, each for one thread at a time: a thread takes one,
 * uses it and gives it back.  There are enough when the cipher was made for as many
 * threads as there will be; one more waits.
 */
#ifndef FILTERS_LUKS_CIPHER_H
#define FILTERS_LUKS_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

struct nr_luks_cipher;
struct nr_luks_context;

/* What is to be done with sectors, in the words of LUKS. */
struct nr_luks_scheme {
	const char *cipher;     /* "aes" */
	const char *mode;       /* "xts-plain64", "cbc-essiv:sha256" */
	const uint8_t *key;     /* not kept */
	size_t key_bytes;       /* 16 to 64 */
	uint32_t sector;        /* bytes, a power of two from 512 to 4096 */
	uint64_t iv_first;      /* the number of the first sector, in units of 512 bytes */
	unsigned context_count; /* threads that use it, at least 1 */
};

/* Is there such a cipher?  0, or -ENOTSUP with a sentence that says which there are. */
int nr_luks_cipher_check(const char *cipher, const char *mode, size_t key_bytes,
			 struct nr_error *error);

int nr_luks_cipher_create(struct nr_luks_cipher **cipher, const struct nr_luks_scheme *scheme,
			  struct nr_error *error);
/* Nobody uses it.  NULL is allowed. */
void nr_luks_cipher_free(struct nr_luks_cipher *cipher);

/* HINT: any number; those of different threads should be different. */
struct nr_luks_context *nr_luks_context_take(struct nr_luks_cipher *cipher, unsigned hint);
void nr_luks_context_give(struct nr_luks_context *context);

/*
 * LENGTH bytes, whole sectors, that begin at OFFSET of the disk: from FROM to TO, which
 * may be the same memory.  0 or -EIO.
 */
int nr_luks_encrypt(struct nr_luks_context *context, uint64_t offset, const uint8_t *from,
		    uint8_t *to, uint64_t length);
int nr_luks_decrypt(struct nr_luks_context *context, uint64_t offset, const uint8_t *from,
		    uint8_t *to, uint64_t length);

#endif
