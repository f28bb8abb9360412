/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who the other side is, as text for people and policies.
 *
 * What is in a certificate was written by whoever signed it, and a CA may be careless:
 * text is made harmless here, once, and nobody behind has to think of it.
 */
#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/tls/internal.h"

#define NAMES_MAX 256u       /* of one certificate that are looked at */
#define NAME_BYTES_MAX 4096u /* longer ones are not */

/* Bytes of the UTF-8 character at TEXT; 0: it is none. */
static size_t utf8_length(const uint8_t *text, size_t left)
{
	static const struct {
		uint8_t first, last;            /* of the first byte */
		uint8_t second_min, second_max; /* no overlong forms, no surrogates */
		uint8_t length;
	} forms[] = {
		{ 0x20, 0x7e, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	/* C1 control characters. */
	if (left >= 2 && text[0] == 0xc2 && text[1] < 0xa0)
		return 0;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (text[0] < forms[i].first || text[0] > forms[i].last || left < forms[i].length)
			continue;
		if (forms[i].length > 1 &&
		    (text[1] < forms[i].second_min || text[1] > forms[i].second_max))
			return 0;
		for (size_t k = 2; k < forms[i].length; k++)
			if ((text[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

size_t nr_tls_clean(char *into, const uint8_t *text, size_t length, bool backslash)
{
	size_t made = 0;

	for (size_t at = 0; at < length;) {
		size_t bytes = utf8_length(text + at, length - at);

		if (backslash && text[at] == '\\')
			bytes = 0;
		if (into && bytes)
			memcpy(into + made, text + at, bytes);
		else if (into)
			snprintf(into + made, 4, "\\%02X", text[at]);
		made += bytes ? bytes : 3;
		at += bytes ? bytes : 1;
	}
	if (into)
		into[made] = '\0';
	return made + 1;
}

/* What a peer says of itself, before it is put into one piece of memory. */
struct facts {
	gnutls_x509_crt_t certificate;
	gnutls_datum_t subject, issuer, psk;
	struct {
		const char *kind;
		gnutls_datum_t text;
	} names[NAMES_MAX];
	size_t name_count;
};

static const char *kind_of(unsigned type)
{
	switch (type) {
	case GNUTLS_SAN_DNSNAME:
		return "DNS:";
	case GNUTLS_SAN_IPADDRESS:
		return "IP:";
	case GNUTLS_SAN_URI:
		return "URI:";
	case GNUTLS_SAN_RFC822NAME:
		return "EMAIL:";
	default:
		return NULL;
	}
}

/* One alternative name, RAW as the certificate has it; false: it is of no use. */
static bool take_name(gnutls_datum_t *text, unsigned type, const uint8_t *raw, size_t size)
{
	char address[INET6_ADDRSTRLEN];

	if (type == GNUTLS_SAN_IPADDRESS) {
		if ((size != 4 && size != 16) ||
		    !inet_ntop(size == 4 ? AF_INET : AF_INET6, raw, address, sizeof(address)))
			return false;
		raw = (const uint8_t *)address;
		size = strlen(address);
	}
	text->data = gnutls_malloc(size + 1);
	if (!text->data)
		return false;
	memcpy(text->data, raw, size);
	text->size = (unsigned)size;
	return true;
}

static void find_names(struct facts *f)
{
	for (unsigned i = 0; i < NAMES_MAX; i++) {
		uint8_t raw[NAME_BYTES_MAX];
		size_t size = sizeof(raw);
		int type =
			gnutls_x509_crt_get_subject_alt_name(f->certificate, i, raw, &size, NULL);
		const char *kind = type >= 0 ? kind_of((unsigned)type) : NULL;

		if (type < 0 && type != GNUTLS_E_SHORT_MEMORY_BUFFER)
			return;
		if (kind && take_name(&f->names[f->name_count].text, (unsigned)type, raw, size))
			f->names[f->name_count++].kind = kind;
	}
}

static void find_facts(struct facts *f, gnutls_session_t session, enum nr_tls_side side)
{
	const gnutls_datum_t *list;
	unsigned count = 0;

	if (side == NR_TLS_SERVER && gnutls_auth_client_get_type(session) == GNUTLS_CRD_PSK &&
	    gnutls_psk_server_get_username2(session, &f->psk) < 0)
		f->psk = (gnutls_datum_t){ NULL, 0 };
	if (gnutls_certificate_type_get(session) != GNUTLS_CRT_X509)
		return;
	list = gnutls_certificate_get_peers(session, &count);
	if (!list || !count || gnutls_x509_crt_init(&f->certificate) < 0)
		return;
	if (gnutls_x509_crt_import(f->certificate, &list[0], GNUTLS_X509_FMT_DER) < 0)
		return;
	gnutls_x509_crt_get_dn3(f->certificate, &f->subject, 0);
	gnutls_x509_crt_get_issuer_dn3(f->certificate, &f->issuer, 0);
	find_names(f);
}

static void free_facts(struct facts *f)
{
	for (size_t i = 0; i < f->name_count; i++)
		gnutls_free(f->names[i].text.data);
	gnutls_free(f->subject.data);
	gnutls_free(f->issuer.data);
	if (f->certificate)
		gnutls_x509_crt_deinit(f->certificate);
	free(f);
}

/* TEXT made harmless, at *AT, which moves on. */
static const char *put_text(char **at, const char *kind, const gnutls_datum_t *text, bool backslash)
{
	char *start = *at;

	*at = stpcpy(*at, kind);
	*at += nr_tls_clean(*at, text->data, text->size, backslash);
	return start;
}

struct nr_tls_peer *nr_tls_peer_create(gnutls_session_t session, enum nr_tls_side side)
{
	struct facts *f = calloc(1, sizeof(*f));
	struct nr_tls_peer *peer;
	size_t bytes = sizeof(*peer);
	const char **names;
	char *at;

	if (!f)
		return NULL;
	find_facts(f, session, side);
	bytes += f->name_count * sizeof(*names);
	bytes += nr_tls_clean(NULL, f->subject.data, f->subject.size, false);
	bytes += nr_tls_clean(NULL, f->issuer.data, f->issuer.size, false);
	bytes += nr_tls_clean(NULL, f->psk.data, f->psk.size, false);
	for (size_t i = 0; i < f->name_count; i++)
		bytes += strlen(f->names[i].kind) +
			 nr_tls_clean(NULL, f->names[i].text.data, f->names[i].text.size, true);
	peer = calloc(1, bytes);
	if (peer) {
		names = (const char **)(peer + 1);
		at = (char *)(names + f->name_count);
		if (f->psk.data)
			peer->psk_identity = put_text(&at, "", &f->psk, false);
		if (f->subject.data)
			peer->subject = put_text(&at, "", &f->subject, false);
		if (f->issuer.data)
			peer->issuer = put_text(&at, "", &f->issuer, false);
		for (size_t i = 0; i < f->name_count; i++)
			names[i] = put_text(&at, f->names[i].kind, &f->names[i].text, true);
		peer->names = names;
		peer->name_count = f->name_count;
	}
	free_facts(f);
	return peer;
}
