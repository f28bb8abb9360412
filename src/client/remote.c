/* SPDX-License-Identifier: BSD-3-Clause */
/* Remotes and URIs (remote.h).  Pure but for memory; any thread. */
#include "src/client/remote.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "src/protocol/text.h"
#include "src/protocol/wire.h"

#define UNIX_PATH_MAX_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

void nr_remote_init(struct nr_remote *remote)
{
	*remote = (struct nr_remote){ .descriptor = -1, .tls_verify_peer = true };
}

void nr_remote_clear(struct nr_remote *remote)
{
	for (char **word = remote->command; word && *word; word++)
		free(*word);
	free(remote->command);
	free(remote->path);
	free(remote->host);
	free(remote->port);
	free(remote->export_name);
	free(remote->tls_certificates);
	free(remote->tls_psk_file);
	free(remote->tls_hostname);
	free(remote->tls_username);
	free(remote->shown);
	nr_remote_init(remote);
}

static int no_memory(struct nr_error *error)
{
	return nr_error_system(error, -ENOMEM, "the remote");
}

int nr_remote_set(char **field, const char *text, struct nr_error *error)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		return no_memory(error);
	free(*field);
	*field = copy;
	return 0;
}

/* ---- URIs -------------------------------------------------------------- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * [FROM, END) with its escapes resolved, to *FIELD.  LEADING_NUL: a %00 in front is
 * kept as '@', the way abstract sockets are written elsewhere.
 */
static int unescape(char **field, const char *from, const char *end, bool leading_nul,
		    struct nr_error *error)
{
	char *text = malloc((size_t)(end - from) + 1), *to = text;

	if (!text)
		return no_memory(error);
	while (from < end) {
		int value = (unsigned char)*from++;

		if (value == '%') {
			int high = end - from >= 2 ? hex(from[0]) : -1;
			int low = high >= 0 ? hex(from[1]) : -1;

			if (low < 0) {
				free(text);
				return nr_error_set(error, -EINVAL,
						    "in the URI a %% is not followed by two hex "
						    "digits");
			}
			value = high * 16 + low;
			from += 2;
			if (value == 0 && leading_nul && to == text)
				value = '@';
		}
		if (value == 0) {
			free(text);
			return nr_error_set(error, -EINVAL, "in the URI there is a %%00");
		}
		*to++ = (char)value;
	}
	*to = '\0';
	free(*field);
	*field = text;
	return 0;
}

static const struct scheme {
	const char *name;
	uint8_t kind;
	bool tls;
} schemes[] = {
	{ "nbd", NR_REMOTE_TCP, false },         { "nbds", NR_REMOTE_TCP, true },
	{ "nbd+unix", NR_REMOTE_UNIX, false },   { "nbds+unix", NR_REMOTE_UNIX, true },
	{ "nbd+vsock", NR_REMOTE_VSOCK, false }, { "nbds+vsock", NR_REMOTE_VSOCK, true },
};

static const struct scheme *find_scheme(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strlen(schemes[i].name) == length &&
		    strncasecmp(schemes[i].name, name, length) == 0)
			return &schemes[i];
	return NULL;
}

static int parse_number(const char *text, uint32_t max, const char *what, uint32_t *number,
			struct nr_error *error)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end || errno || value > max)
		return nr_error_set(error, -EINVAL, "%s is not a number up to %u", what, max);
	*number = (uint32_t)value;
	return 0;
}

/* HOST[:PORT], or [ADDRESS][:PORT]; what is left out stays NULL. */
static int parse_host(struct nr_remote *r, const char *at, const char *end, struct nr_error *error)
{
	const char *host = at, *host_end, *port = NULL;

	if (at < end && *at == '[') {
		host = at + 1;
		host_end = memchr(at, ']', (size_t)(end - at));
		if (!host_end || (host_end + 1 < end && host_end[1] != ':'))
			return nr_error_set(error, -EINVAL,
					    "in the URI the address in brackets has no end");
		if (host_end + 1 < end)
			port = host_end + 2;
	} else {
		host_end = memchr(at, ':', (size_t)(end - at));
		if (host_end)
			port = host_end + 1;
		else
			host_end = end;
	}
	if (host_end > host) {
		int err = unescape(&r->host, host, host_end, false, error);

		if (err)
			return err;
	}
	return port && port < end ? unescape(&r->port, port, end, false, error) : 0;
}

static int parse_authority(struct nr_remote *r, const char *at, const char *end,
			   struct nr_error *error)
{
	const char *user = memchr(at, '@', (size_t)(end - at));
	int err = 0;

	if (user) {
		err = unescape(&r->tls_username, at, user, false, error);
		at = user + 1;
	}
	if (err || r->kind == NR_REMOTE_UNIX) {
		if (!err && at < end)
			err = nr_error_set(error, -EINVAL,
					   "a URI for a Unix socket names no host: write "
					   "nbd+unix:///EXPORT?socket=PATH");
		return err;
	}
	err = parse_host(r, at, end, error);
	if (err || r->kind != NR_REMOTE_VSOCK)
		return err;
	err = parse_number(r->host ? r->host : "", UINT32_MAX, "the vsock CID", &r->cid, error);
	if (!err && r->port)
		err = parse_number(r->port, UINT32_MAX, "the vsock port", &r->vsock_port, error);
	return err;
}

static int set_verify(struct nr_remote *r, const char *value, struct nr_error *error)
{
	static const char *const no[] = { "0", "false", "no", "off" };
	static const char *const yes[] = { "1", "true", "yes", "on" };

	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		if (strcasecmp(value, no[i]) == 0 || strcasecmp(value, yes[i]) == 0) {
			r->tls_verify_peer = strcasecmp(value, yes[i]) == 0;
			return 0;
		}
	}
	return nr_error_set(error, -EINVAL, "tls-verify-peer in the URI is true or false");
}

static int set_query(struct nr_remote *r, const char *name, size_t length, const char *value,
		     const char *end, struct nr_error *error)
{
	const struct {
		const char *name;
		char **field;
	} fields[] = {
		{ "socket", &r->path },
		{ "tls-certificates", &r->tls_certificates },
		{ "tls-psk-file", &r->tls_psk_file },
		{ "tls-hostname", &r->tls_hostname },
		{ "tls-username", &r->tls_username },
	};
	char *text = NULL;
	int err;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strlen(fields[i].name) == length && memcmp(fields[i].name, name, length) == 0)
			return unescape(fields[i].field, value, end, i == 0, error);
	if (length != strlen("tls-verify-peer") || memcmp(name, "tls-verify-peer", length) != 0)
		return 0; /* uri.md: unknown ones are passed over */
	err = unescape(&text, value, end, false, error);
	if (!err)
		err = set_verify(r, text, error);
	free(text);
	return err;
}

static int parse_queries(struct nr_remote *r, const char *at, struct nr_error *error)
{
	int err = 0;

	while (*at && !err) {
		const char *end = at + strcspn(at, "&;");
		const char *equals = memchr(at, '=', (size_t)(end - at));
		const char *name_end = equals ? equals : end;

		err = set_query(r, at, (size_t)(name_end - at), equals ? equals + 1 : end, end,
				error);
		at = *end ? end + 1 : end;
	}
	return err;
}

int nr_remote_set_uri(struct nr_remote *r, const char *uri, struct nr_error *error)
{
	const char *colon = strstr(uri, "://"), *authority, *path, *query;
	const struct scheme *scheme = colon ? find_scheme(uri, (size_t)(colon - uri)) : NULL;
	int err;

	if (!scheme)
		return nr_error_set(error, -EINVAL,
				    "this is no NBD URI: it begins with nbd://, nbds://, "
				    "nbd+unix://, nbds+unix://, nbd+vsock:// or nbds+vsock://");
	r->kind = scheme->kind;
	r->tls = scheme->tls ? NR_CLIENT_TLS_REQUIRE : NR_CLIENT_TLS_OFF;
	authority = colon + 3;
	path = authority + strcspn(authority, "/?#");
	query = path + strcspn(path, "?#");
	err = parse_authority(r, authority, path, error);
	if (!err)
		err = unescape(&r->export_name, *path == '/' ? path + 1 : path, query, false,
			       error);
	if (!err && *query == '?')
		err = parse_queries(r, query + 1, error);
	return err;
}

/* ---- completing -------------------------------------------------------- */

static int complete_unix(struct nr_remote *r, struct nr_error *error)
{
	if (!r->path || !r->path[0])
		return nr_error_set(error, -EINVAL, "the path of the Unix socket is missing");
	if (strlen(r->path) > UNIX_PATH_MAX_BYTES)
		return nr_error_set(error, -EINVAL,
				    "the path of a Unix socket has at most %zu bytes",
				    UNIX_PATH_MAX_BYTES);
	return 0;
}

static int show(struct nr_remote *r)
{
	const char *port = r->port ? r->port : "10809";

	switch (r->kind) {
	case NR_REMOTE_UNIX:
		return asprintf(&r->shown, "unix:%s", r->path);
	case NR_REMOTE_TCP:
		return asprintf(&r->shown, strchr(r->host, ':') ? "[%s]:%s" : "%s:%s", r->host,
				port);
	case NR_REMOTE_VSOCK:
		return asprintf(&r->shown, "vsock:%u:%u", r->cid, r->vsock_port);
	case NR_REMOTE_SOCKET:
		return asprintf(&r->shown, "descriptor %d", r->descriptor);
	case NR_REMOTE_COMMAND:
	default:
		return asprintf(&r->shown, "command %s", r->command[0]);
	}
}

int nr_remote_complete(struct nr_remote *r, struct nr_error *error)
{
	int err = 0;

	if (r->kind == NR_REMOTE_NONE)
		return nr_error_set(error, -EINVAL, "no remote was named");
	if (r->kind == NR_REMOTE_UNIX)
		err = complete_unix(r, error);
	if (!err && r->kind == NR_REMOTE_TCP && !r->host)
		err = nr_remote_set(&r->host, "localhost", error);
	if (!err && r->kind == NR_REMOTE_TCP && !r->port)
		err = nr_remote_set(&r->port, "10809", error);
	if (!err && r->kind == NR_REMOTE_VSOCK && !r->port)
		r->vsock_port = NR_REMOTE_PORT;
	if (!err && !r->export_name)
		err = nr_remote_set(&r->export_name, "", error);
	if (err)
		return err;
	if (!nbd_text_ok((const uint8_t *)r->export_name, strlen(r->export_name)))
		return nr_error_set(error, -EINVAL,
				    "the name of an export is UTF-8 and has at most %u bytes",
				    NBD_STRING_MAX);
	free(r->shown);
	r->shown = NULL;
	if (show(r) < 0) {
		r->shown = NULL;
		return no_memory(error);
	}
	return 0;
}
