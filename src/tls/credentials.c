/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading credentials, and keeping the present ones.
 *
 * Each file is read and looked at by itself before GnuTLS gets it, so that a sentence
 * can say which one is wrong, and in what.
 */
#include "src/tls/credentials.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/tls/internal.h"

/* "TLS versions": 1.2 and newer; the library's own choice of ciphers. */
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK ":+ECDHE-PSK:+DHE-PSK:+PSK"

static int no_memory(struct nr_error *error)
{
	return nr_error_system(error, -ENOMEM, "TLS");
}

/* What GnuTLS says about PATH, without its full stop. */
static int library_error(struct nr_error *error, const char *path, int code)
{
	const char *text = gnutls_strerror(code);
	size_t length = strlen(text);

	while (length && (text[length - 1] == '.' || text[length - 1] == ' '))
		length--;
	return nr_error_set(error, -EINVAL, "%s: %.*s", path, (int)length, text);
}

static char *path_in(const char *directory, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* Certificates. */

static int check_times(gnutls_x509_crt_t certificate, const char *path, struct nr_error *error)
{
	time_t now = time(NULL), from = gnutls_x509_crt_get_activation_time(certificate),
	       until = gnutls_x509_crt_get_expiration_time(certificate);
	time_t shown = now > until ? until : from;
	struct tm calendar;
	char date[32] = "";

	if (now >= from && now <= until)
		return 0;
	if (gmtime_r(&shown, &calendar))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", &calendar);
	if (now > until)
		return nr_error_set(error, -EINVAL, "%s: the certificate expired on %s", path,
				    date);
	return nr_error_set(error, -EINVAL, "%s: the certificate is not valid before %s", path,
			    date);
}

static int check_certificate(const gnutls_datum_t *pem, const char *path, struct nr_error *error)
{
	gnutls_x509_crt_t *list = NULL;
	unsigned count = 0;
	int err = gnutls_x509_crt_list_import2(&list, &count, pem, GNUTLS_X509_FMT_PEM, 0);

	if (err < 0)
		return library_error(error, path, err);
	err = count ? check_times(list[0], path, error) : 0;
	for (unsigned i = 0; i < count; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
	return err;
}

static int check_key(const gnutls_datum_t *pem, const char *path, struct nr_error *error)
{
	gnutls_x509_privkey_t key;
	int err;

	if (gnutls_x509_privkey_init(&key) < 0)
		return no_memory(error);
	err = gnutls_x509_privkey_import2(key, pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	gnutls_x509_privkey_deinit(key);
	return err < 0 ? library_error(error, path, err) : 0;
}

/* A file of PEM, whatever is in it. */
struct pem {
	char *path;
	gnutls_datum_t datum;
};

static int pem_read(struct pem *pem, const char *directory, const char *name,
		    struct nr_error *error)
{
	uint8_t *memory = NULL;
	size_t size = 0;
	int err;

	*pem = (struct pem){ path_in(directory, name), { NULL, 0 } };
	if (!pem->path)
		return no_memory(error);
	err = nr_tls_file_read(pem->path, &memory, &size, error);
	if (!err)
		pem->datum = (gnutls_datum_t){ memory, (unsigned)size };
	return err;
}

static void pem_free(struct pem *pem)
{
	nr_tls_file_free(pem->datum.data, pem->datum.size);
	free(pem->path);
}

/* Our own certificate and key: PREFIX-cert.pem, PREFIX-key.pem. */
static int load_own(struct nr_tls_credentials *c, const char *directory, const char *const name[2],
		    struct nr_error *error)
{
	struct pem certificate, key = { NULL, { NULL, 0 } };
	int err = pem_read(&certificate, directory, name[0], error);

	if (!err)
		err = check_certificate(&certificate.datum, certificate.path, error);
	if (!err)
		err = pem_read(&key, directory, name[1], error);
	if (!err)
		err = check_key(&key.datum, key.path, error);
	if (!err) {
		int code = gnutls_certificate_set_x509_key_mem(c->certificates, &certificate.datum,
							       &key.datum, GNUTLS_X509_FMT_PEM);

		nr_tls_file_check_secret(c, key.path);
		if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
			err = nr_error_set(error, -EINVAL, "%s: this is not the key of %s",
					   key.path, name[0]);
		else if (code < 0)
			err = library_error(error, certificate.path, code);
	}
	pem_free(&certificate);
	pem_free(&key);
	return err;
}

/* Certificates of CAs, or lists of what they have revoked. */
static int load_trust(struct nr_tls_credentials *c, const char *directory, const char *name,
		      int (*set)(gnutls_certificate_credentials_t, const gnutls_datum_t *,
				 gnutls_x509_crt_fmt_t),
		      struct nr_error *error)
{
	struct pem pem;
	int err = pem_read(&pem, directory, name, error);

	if (!err) {
		int code = set(c->certificates, &pem.datum, GNUTLS_X509_FMT_PEM);

		if (code < 0)
			err = library_error(error, pem.path, code);
		else if (code == 0)
			err = nr_error_set(error, -EINVAL, "%s: there is nothing in it", pem.path);
	}
	pem_free(&pem);
	return err;
}

/* Exists, as far as we can see: what we may not look at is to be an error later. */
static bool has_file(const char *directory, const char *name)
{
	char *path = path_in(directory, name);
	bool has = path && (access(path, F_OK) == 0 || errno != ENOENT);

	free(path);
	return has;
}

static int load_certificates(struct nr_tls_credentials *c, const struct nr_tls_config *config,
			     struct nr_error *error)
{
	static const char *const names[][2] = {
		[NR_TLS_SERVER] = { "server-cert.pem", "server-key.pem" },
		[NR_TLS_CLIENT] = { "client-cert.pem", "client-key.pem" },
	};
	const char *directory = config->directory, *const *own = names[config->side];
	bool needs_ca = config->side == NR_TLS_SERVER && config->verify_peer;
	int err = 0;

	if (gnutls_certificate_allocate_credentials(&c->certificates) < 0)
		return no_memory(error);
	if (config->side == NR_TLS_SERVER || has_file(directory, own[0]))
		err = load_own(c, directory, own, error);
	if (!err && (needs_ca || has_file(directory, "ca-cert.pem")))
		err = load_trust(c, directory, "ca-cert.pem", gnutls_certificate_set_x509_trust_mem,
				 error);
	else if (!err && config->side == NR_TLS_CLIENT)
		gnutls_certificate_set_x509_system_trust(c->certificates);
	if (!err && has_file(directory, "ca-crl.pem"))
		err = load_trust(c, directory, "ca-crl.pem", gnutls_certificate_set_x509_crl_mem,
				 error);
	return err;
}

/* Pre-shared keys. */

/* Called by the handshake: a client says it is NAME. */
static int give_key(gnutls_session_t session, const gnutls_datum_t *name, gnutls_datum_t *key)
{
	const struct nr_tls_credentials *c = gnutls_session_get_ptr(session);
	const struct nr_tls_psk *psk = nr_tls_psk_find(c, name->data, name->size);

	if (!psk)
		return 1; /* unknown: the library goes on with a random key, and fails later */
	key->data = gnutls_malloc(psk->key_bytes);
	if (!key->data)
		return -1;
	memcpy(key->data, psk->key, psk->key_bytes);
	key->size = psk->key_bytes;
	return 0;
}

static int load_psk(struct nr_tls_credentials *c, const struct nr_tls_config *config,
		    struct nr_error *error)
{
	const char *name = config->psk_name ? config->psk_name : "";
	const struct nr_tls_psk *psk;
	gnutls_datum_t key;
	int err = nr_tls_psk_read(c, config->psk_file, error);

	if (err)
		return err;
	if (config->side == NR_TLS_SERVER) {
		if (gnutls_psk_allocate_server_credentials(&c->psk_server) < 0)
			return no_memory(error);
		gnutls_psk_set_server_credentials_function2(c->psk_server, give_key);
		gnutls_psk_set_server_known_dh_params(c->psk_server, GNUTLS_SEC_PARAM_MEDIUM);
		return 0;
	}
	psk = nr_tls_psk_find(c, name, strlen(name));
	if (!psk)
		return nr_error_set(error, -EINVAL, "%s: there is no key for '%s'",
				    config->psk_file, name);
	key = (gnutls_datum_t){ (unsigned char *)(uintptr_t)psk->key, psk->key_bytes };
	if (gnutls_psk_allocate_client_credentials(&c->psk_client) < 0 ||
	    gnutls_psk_set_client_credentials(c->psk_client, psk->name, &key, GNUTLS_PSK_KEY_RAW) <
		    0)
		return no_memory(error);
	return 0;
}

/* All together. */

static int load_priority(struct nr_tls_credentials *c, const struct nr_tls_config *config,
			 struct nr_error *error)
{
	const char *wrong = NULL;
	char *text;
	int code;

	if (asprintf(&text, "%s%s", config->priority ? config->priority : PRIORITY,
		     config->psk_file ? PRIORITY_PSK : "") < 0)
		return no_memory(error);
	code = gnutls_priority_init(&c->priority, text, &wrong);
	if (code < 0 && wrong && *wrong)
		nr_error_set(error, -EINVAL, "the TLS priority '%s' is not understood from '%s' on",
			     text, wrong);
	else if (code < 0)
		library_error(error, "the TLS priority", code);
	free(text);
	return code < 0 ? -EINVAL : 0;
}

int nr_tls_credentials_load(struct nr_tls_credentials **out, const struct nr_tls_config *config,
			    struct nr_error *error)
{
	struct nr_tls_credentials *c = calloc(1, sizeof(*c));
	int err = 0;

	if (!c)
		return no_memory(error);
	atomic_init(&c->references, 1);
	c->side = config->side;
	c->verify_peer = config->verify_peer;
	c->library_records = config->library_records;
	c->rekey_after = config->rekey_after ? config->rekey_after : NR_TLS_REKEY_AFTER;
	err = load_priority(c, config, error);
	if (!err && config->directory)
		err = load_certificates(c, config, error);
	if (!err && config->psk_file)
		err = load_psk(c, config, error);
	if (!err && config->side == NR_TLS_SERVER &&
	    gnutls_session_ticket_key_generate(&c->ticket_key) < 0)
		err = no_memory(error);
	if (err) {
		nr_tls_credentials_release(c);
		return err;
	}
	*out = c;
	return 0;
}

void nr_tls_credentials_retain(struct nr_tls_credentials *c)
{
	atomic_fetch_add(&c->references, 1);
}

void nr_tls_credentials_release(struct nr_tls_credentials *c)
{
	if (!c || atomic_fetch_sub(&c->references, 1) > 1)
		return;
	if (c->certificates)
		gnutls_certificate_free_credentials(c->certificates);
	if (c->psk_server)
		gnutls_psk_free_server_credentials(c->psk_server);
	if (c->psk_client)
		gnutls_psk_free_client_credentials(c->psk_client);
	if (c->psk)
		gnutls_memset(c->psk, 0, c->psk_count * sizeof(*c->psk));
	free(c->psk);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	if (c->ticket_key.data)
		gnutls_memset(c->ticket_key.data, 0, c->ticket_key.size);
	gnutls_free(c->ticket_key.data);
	free(c);
}

const char *nr_tls_credentials_warning(const struct nr_tls_credentials *c)
{
	return c->warning[0] ? c->warning : NULL;
}

const char *nr_tls_library(void)
{
	static char text[48];

	if (!text[0])
		snprintf(text, sizeof(text), "GnuTLS %s", gnutls_check_version(NULL));
	return text;
}

/* The store. */

struct nr_tls_store {
	pthread_mutex_t lock;
	struct nr_tls_credentials *credentials;
};

struct nr_tls_store *nr_tls_store_create(struct nr_tls_credentials *credentials)
{
	struct nr_tls_store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	pthread_mutex_init(&store->lock, NULL);
	store->credentials = credentials;
	return store;
}

void nr_tls_store_destroy(struct nr_tls_store *store)
{
	if (!store)
		return;
	nr_tls_credentials_release(store->credentials);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

struct nr_tls_credentials *nr_tls_store_get(struct nr_tls_store *store)
{
	struct nr_tls_credentials *c;

	pthread_mutex_lock(&store->lock);
	c = store->credentials;
	nr_tls_credentials_retain(c);
	pthread_mutex_unlock(&store->lock);
	return c;
}

void nr_tls_store_put(struct nr_tls_store *store, struct nr_tls_credentials *credentials)
{
	struct nr_tls_credentials *old;

	pthread_mutex_lock(&store->lock);
	old = store->credentials;
	store->credentials = credentials;
	pthread_mutex_unlock(&store->lock);
	nr_tls_credentials_release(old);
}
