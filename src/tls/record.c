/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RFC 8446, section 5, and RFC 5246, 6.2.3.3, with RFC 5288 and RFC 7905: a header, in TLS
 * 1.2 with GCM eight bytes of nonce, the encrypted data, a tag.  The nonce counts records.
 */
#include "src/tls/record.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "src/tls/session.h"

#define APPLICATION_DATA 23
#define TAG 16u

/* Data, type, padding and tag: the most that a peer may send as one record of data. */
#define BODY_MAX (NR_TLS_RECORD_MAX + 256u)

struct nr_tls_suite {
	gnutls_protocol_t version;
	gnutls_cipher_algorithm_t cipher;
	uint8_t iv;       /* bytes of the nonce that the keys come with … */
	uint8_t explicit; /* … and such as stand in the record: with `iv` the nonce, if any */
};

static const struct nr_tls_suite suites[] = {
	{ GNUTLS_TLS1_3, GNUTLS_CIPHER_AES_128_GCM, 12, 0 },
	{ GNUTLS_TLS1_3, GNUTLS_CIPHER_AES_256_GCM, 12, 0 },
	{ GNUTLS_TLS1_3, GNUTLS_CIPHER_CHACHA20_POLY1305, 12, 0 },
	{ GNUTLS_TLS1_2, GNUTLS_CIPHER_AES_128_GCM, 4, 8 },
	{ GNUTLS_TLS1_2, GNUTLS_CIPHER_AES_256_GCM, 4, 8 },
	{ GNUTLS_TLS1_2, GNUTLS_CIPHER_CHACHA20_POLY1305, 12, 0 },
};

#define SUITES (sizeof(suites) / sizeof(suites[0]))

void nr_tls_records_ciphers(char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < SUITES && suites[i].version == GNUTLS_TLS1_3 && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? " " : "",
					 gnutls_cipher_get_name(suites[i].cipher));
}

/* Numbers in network order. */

static void put_u16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put_u64(uint8_t *at, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *at)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value = value << 8 | at[i];
	return value;
}

/* Whose turn it is. */

static void forget(struct nr_tls_direction *d)
{
	if (d->cipher)
		gnutls_aead_cipher_deinit(d->cipher);
	gnutls_memset(d, 0, sizeof(*d));
}

static bool take(struct nr_tls_direction *d, const struct nr_tls_suite *suite, gnutls_session_t tls,
		 bool read)
{
	gnutls_datum_t mac, iv, key;
	uint8_t sequence[8];

	forget(d);
	if (gnutls_record_get_state(tls, read, &mac, &iv, &key, sequence) < 0 ||
	    iv.size != suite->iv || gnutls_aead_cipher_init(&d->cipher, suite->cipher, &key) < 0) {
		d->cipher = NULL;
		return false;
	}
	memcpy(d->iv, iv.data, iv.size);
	d->sequence = get_u64(sequence);
	return true;
}

void nr_tls_records_begin(struct nr_tls_records *r, gnutls_session_t tls)
{
	gnutls_protocol_t version = gnutls_protocol_get_version(tls);
	gnutls_cipher_algorithm_t cipher = gnutls_cipher_get(tls);

	assert(!r->suite);
	for (size_t i = 0; i < SUITES && !r->suite; i++)
		if (suites[i].version == version && suites[i].cipher == cipher)
			r->suite = &suites[i];
	if (!r->suite)
		return;
	r->type_inside = version == GNUTLS_TLS1_3;
	nr_tls_records_take(r, tls);
}

void nr_tls_records_take(struct nr_tls_records *r, gnutls_session_t tls)
{
	r->lent = false;
	if (!take(&r->in, r->suite, tls, true) || !take(&r->out, r->suite, tls, false))
		nr_tls_records_end(r);
}

void nr_tls_records_give(struct nr_tls_records *r, gnutls_session_t tls)
{
	uint8_t sequence[8];
	int code;

	if (r->lent)
		return;
	r->lent = true;
	/* It cannot fail: there is an epoch, or its keys had not been there. */
	put_u64(sequence, r->in.sequence);
	code = gnutls_record_set_state(tls, 1, sequence);
	assert(code == 0);
	put_u64(sequence, r->out.sequence);
	code = gnutls_record_set_state(tls, 0, sequence);
	assert(code == 0);
}

void nr_tls_records_end(struct nr_tls_records *r)
{
	forget(&r->in);
	forget(&r->out);
	r->suite = NULL;
	r->lent = false;
}

/* Records. */

size_t nr_tls_record_bytes(const uint8_t *header)
{
	return NR_TLS_HEADER + ((size_t)header[3] << 8 | header[4]);
}

/*
 * What goes into the cipher beside key and data for a record of D: HEADER with the length
 * of its body, and LENGTH, that of its data.  Returns the bytes of AAD.
 */
static size_t name_record(const struct nr_tls_records *r, const struct nr_tls_direction *d,
			  const uint8_t *header, size_t length, uint8_t nonce[NR_TLS_NONCE],
			  uint8_t aad[13])
{
	uint8_t sequence[8];

	put_u64(sequence, d->sequence);
	memcpy(nonce, d->iv, NR_TLS_NONCE);
	if (r->suite->explicit)
		memcpy(nonce + r->suite->iv, header + NR_TLS_HEADER, r->suite->explicit);
	else
		for (unsigned i = 0; i < 8; i++)
			nonce[NR_TLS_NONCE - 8 + i] ^= sequence[i];
	if (r->type_inside) {
		memcpy(aad, header, NR_TLS_HEADER);
		return NR_TLS_HEADER;
	}
	memcpy(aad, sequence, 8);
	memcpy(aad + 8, header, 3);
	put_u16(aad + 11, length);
	return 13;
}

/* The data in front of its type and padding; 0: it is none, or has none. */
static size_t strip(const uint8_t *plain, size_t length)
{
	while (length && !plain[length - 1])
		length--;
	return length && plain[length - 1] == APPLICATION_DATA ? length - 1 : 0;
}

ssize_t nr_tls_record_open(struct nr_tls_records *r, const uint8_t *record, size_t length,
			   uint8_t *into, size_t room)
{
	size_t front = NR_TLS_HEADER + r->suite->explicit, plain;
	uint8_t nonce[NR_TLS_NONCE], aad[13];

	if (record[0] != APPLICATION_DATA || record[1] != 3 || record[2] != 3 ||
	    length <= front + TAG || length > NR_TLS_HEADER + BODY_MAX)
		return -1;
	plain = length - front - TAG;
	assert(room >= plain);
	if (gnutls_aead_cipher_decrypt(r->in.cipher, nonce, NR_TLS_NONCE, aad,
				       name_record(r, &r->in, record, plain, nonce, aad), TAG,
				       record + front, length - front, into, &plain) < 0) {
		memset(into, 0, length - front - TAG);
		return -1;
	}
	if (r->type_inside)
		plain = strip(into, plain);
	if (plain == 0 || plain > NR_TLS_RECORD_MAX)
		return -1;
	r->in.sequence++;
	return (ssize_t)plain;
}

size_t nr_tls_record_seal(struct nr_tls_records *r, uint8_t *data, size_t length, uint8_t *into,
			  size_t room)
{
	size_t front = NR_TLS_HEADER + r->suite->explicit, body;
	uint8_t nonce[NR_TLS_NONCE], aad[13];

	assert(length > 0);
	assert(length <= NR_TLS_RECORD_MAX);
	if (r->type_inside)
		data[length++] = APPLICATION_DATA;
	assert(front + length + TAG <= room);
	memcpy(into, (const uint8_t[]){ APPLICATION_DATA, 3, 3 }, 3);
	put_u16(into + 3, r->suite->explicit + length + TAG);
	if (r->suite->explicit)
		put_u64(into + NR_TLS_HEADER, r->out.sequence);
	body = room - front;
	if (gnutls_aead_cipher_encrypt(r->out.cipher, nonce, NR_TLS_NONCE, aad,
				       name_record(r, &r->out, into, length, nonce, aad), TAG, data,
				       length, into + front, &body) < 0)
		return 0;
	r->out.sequence++;
	return front + body;
}
