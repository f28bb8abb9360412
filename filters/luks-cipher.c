/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See luks-cipher.h.
 *
 * Each sector is a message of its own.  Its initialisation vector has 16 bytes and comes
 * from the number of the sector, which counts in units of 512 bytes whatever the size of
 * sectors is:
 *
 *   plain         the number, little-endian, 32 bits of it
 *   plain64       the number, little-endian
 *   plain64be     the number, big-endian, at the end
 *   essiv:sha256  as plain64, encrypted by AES with the SHA-256 of the key
 *
 * The library's handles keep the vector, so a handle is one thread's at a time.
 */
#include "filters/luks-cipher.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define IV_BYTES 16u
#define IV_UNIT_SHIFT 9 /* the number of a sector counts 512 bytes */

enum iv { IV_PLAIN, IV_PLAIN64, IV_PLAIN64BE, IV_ESSIV };

struct nr_luks_context {
	atomic_bool taken;
	gnutls_cipher_hd_t data;
	gnutls_cipher_hd_t essiv; /* NULL: not that kind of vector */
	const struct nr_luks_cipher *cipher;
};

struct nr_luks_cipher {
	uint32_t sector;
	uint64_t iv_first;
	enum iv iv;
	unsigned count;
	struct nr_luks_context context[];
};

static const struct {
	const char *mode;
	size_t key_bytes;
	gnutls_cipher_algorithm_t algorithm;
} algorithms[] = {
	{ "xts", 32, GNUTLS_CIPHER_AES_128_XTS }, { "xts", 64, GNUTLS_CIPHER_AES_256_XTS },
	{ "cbc", 16, GNUTLS_CIPHER_AES_128_CBC }, { "cbc", 24, GNUTLS_CIPHER_AES_192_CBC },
	{ "cbc", 32, GNUTLS_CIPHER_AES_256_CBC },
};

static const struct {
	const char *name;
	enum iv iv;
} vectors[] = {
	{ "plain", IV_PLAIN },
	{ "plain64", IV_PLAIN64 },
	{ "plain64be", IV_PLAIN64BE },
	{ "essiv:sha256", IV_ESSIV },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* "xts-plain64" to both; false: it is none that we know, or the key is too long or short. */
static bool find(const char *cipher, const char *mode, size_t key_bytes,
		 gnutls_cipher_algorithm_t *algorithm, enum iv *iv)
{
	bool known = false;

	if (strcmp(cipher, "aes") != 0 || strnlen(mode, 4) < 4 || mode[3] != '-')
		return false;
	for (size_t i = 0; i < COUNT(algorithms); i++) {
		if (strncmp(mode, algorithms[i].mode, 3) != 0 ||
		    key_bytes != algorithms[i].key_bytes)
			continue;
		*algorithm = algorithms[i].algorithm;
		known = true;
	}
	for (size_t i = 0; known && i < COUNT(vectors); i++) {
		if (strcmp(mode + 4, vectors[i].name) == 0) {
			*iv = vectors[i].iv;
			return true;
		}
	}
	return false;
}

int nr_luks_cipher_check(const char *cipher, const char *mode, size_t key_bytes,
			 struct nr_error *error)
{
	gnutls_cipher_algorithm_t algorithm;
	enum iv iv;

	if (find(cipher, mode, key_bytes, &algorithm, &iv))
		return 0;
	return nr_error_set(error, -ENOTSUP,
			    "the data is encrypted by %.32s-%.32s with a key of %zu bits, which is "
			    "not supported; what is: aes-xts with 256 or 512 bits, aes-cbc with "
			    "128, 192 or 256 bits, each with plain64, plain64be, plain or "
			    "essiv:sha256",
			    cipher, mode, 8 * key_bytes);
}

static int start_essiv(struct nr_luks_context *context, const struct nr_luks_scheme *scheme)
{
	static uint8_t zeroes[IV_BYTES];
	uint8_t hash[32];
	const gnutls_datum_t key = { hash, sizeof(hash) }, iv = { zeroes, sizeof(zeroes) };
	int status;

	status = gnutls_hash_fast(GNUTLS_DIG_SHA256, scheme->key, scheme->key_bytes, hash);
	if (status == 0)
		status = gnutls_cipher_init(&context->essiv, GNUTLS_CIPHER_AES_256_CBC, &key, &iv);
	explicit_bzero(hash, sizeof(hash));
	return status;
}

static int start_context(struct nr_luks_cipher *c, const struct nr_luks_scheme *scheme,
			 gnutls_cipher_algorithm_t algorithm)
{
	struct nr_luks_context *context = &c->context[c->count];
	/* The library does not write to it. */
	const gnutls_datum_t key = { (unsigned char *)scheme->key, (unsigned)scheme->key_bytes };
	int status = gnutls_cipher_init(&context->data, algorithm, &key, NULL);

	if (status < 0)
		return status;
	c->count++;
	context->cipher = c;
	return c->iv == IV_ESSIV ? start_essiv(context, scheme) : 0;
}

int nr_luks_cipher_create(struct nr_luks_cipher **out, const struct nr_luks_scheme *scheme,
			  struct nr_error *error)
{
	gnutls_cipher_algorithm_t algorithm = GNUTLS_CIPHER_UNKNOWN;
	struct nr_luks_cipher *c;
	int status = 0,
	    err = nr_luks_cipher_check(scheme->cipher, scheme->mode, scheme->key_bytes, error);

	if (err)
		return err;
	assert(scheme->context_count > 0);
	assert(nr_is_power_of_2(scheme->sector));
	c = calloc(1, sizeof(*c) + scheme->context_count * sizeof(c->context[0]));
	if (!c)
		return nr_error_system(error, -ENOMEM, "a cipher");
	c->sector = scheme->sector;
	c->iv_first = scheme->iv_first;
	find(scheme->cipher, scheme->mode, scheme->key_bytes, &algorithm, &c->iv);
	while (status == 0 && c->count < scheme->context_count)
		status = start_context(c, scheme, algorithm);
	if (status < 0) {
		nr_luks_cipher_free(c);
		return nr_error_set(error, -EIO, "GnuTLS refuses %s-%s: %s", scheme->cipher,
				    scheme->mode, gnutls_strerror(status));
	}
	*out = c;
	return 0;
}

void nr_luks_cipher_free(struct nr_luks_cipher *cipher)
{
	if (!cipher)
		return;
	for (unsigned i = 0; i < cipher->count; i++) {
		gnutls_cipher_deinit(cipher->context[i].data);
		if (cipher->context[i].essiv)
			gnutls_cipher_deinit(cipher->context[i].essiv);
	}
	free(cipher);
}

struct nr_luks_context *nr_luks_context_take(struct nr_luks_cipher *cipher, unsigned hint)
{
	for (;;) {
		for (unsigned i = 0; i < cipher->count; i++) {
			struct nr_luks_context *c = &cipher->context[(hint + i) % cipher->count];

			if (!atomic_load_explicit(&c->taken, memory_order_relaxed) &&
			    !atomic_exchange_explicit(&c->taken, true, memory_order_acquire))
				return c;
		}
		sched_yield();
	}
}

void nr_luks_context_give(struct nr_luks_context *context)
{
	atomic_store_explicit(&context->taken, false, memory_order_release);
}

static int set_iv(struct nr_luks_context *context, uint64_t number)
{
	static uint8_t zeroes[IV_BYTES];
	const struct nr_luks_cipher *c = context->cipher;
	uint64_t iv[2] = { htole64(number), 0 };
	int status = 0;

	switch (c->iv) {
	case IV_PLAIN:
		iv[0] = htole64(number & UINT32_MAX);
		break;
	case IV_PLAIN64BE:
		iv[0] = 0;
		iv[1] = htobe64(number);
		break;
	case IV_ESSIV:
		gnutls_cipher_set_iv(context->essiv, zeroes, sizeof(zeroes));
		status = gnutls_cipher_encrypt2(context->essiv, iv, sizeof(iv), iv, sizeof(iv));
		break;
	case IV_PLAIN64:
	default:
		break;
	}
	gnutls_cipher_set_iv(context->data, iv, sizeof(iv));
	return status;
}

/* Wraps where the numbers of sectors do, as dm-crypt's. */
static uint64_t first_number(const struct nr_luks_context *context, uint64_t offset)
{
	return context->cipher->iv_first + (offset >> IV_UNIT_SHIFT);
}

/* gnutls_cipher_encrypt2 or gnutls_cipher_decrypt2. */
typedef int transform_fn(gnutls_cipher_hd_t cipher, const void *from, size_t from_bytes, void *to,
			 size_t to_bytes);

static int each_sector(struct nr_luks_context *context, transform_fn *transform, uint64_t offset,
		       const uint8_t *from, uint8_t *to, uint64_t length)
{
	uint32_t sector = context->cipher->sector;
	uint64_t number = first_number(context, offset);
	int status = 0;

	assert(nr_is_aligned(offset | length, sector));
	for (uint64_t at = 0; at < length && status == 0; at += sector) {
		status = set_iv(context, number + (at >> IV_UNIT_SHIFT));
		if (status == 0)
			status = transform(context->data, from + at, sector, to + at, sector);
	}
	return status == 0 ? 0 : -EIO;
}

int nr_luks_encrypt(struct nr_luks_context *context, uint64_t offset, const uint8_t *from,
		    uint8_t *to, uint64_t length)
{
	return each_sector(context, gnutls_cipher_encrypt2, offset, from, to, length);
}

int nr_luks_decrypt(struct nr_luks_context *context, uint64_t offset, const uint8_t *from,
		    uint8_t *to, uint64_t length)
{
	return each_sector(context, gnutls_cipher_decrypt2, offset, from, to, length);
}
