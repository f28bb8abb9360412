/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD URIs, as the NBD project's doc/uri.md defines them:
 *
 *	nbd://HOST:PORT/EXPORT
 *	nbd+unix:///EXPORT?socket=PATH
 *	nbd+vsock://CID:PORT/EXPORT (libnbd's; the document leaves room for it)
 *
 * and nbds instead of nbd where clients have to encrypt.  The name of an abstract
 * socket stands for a path, with the NUL that it begins with.
 *
 * Pure; any thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/listen.h"

/* LENGTH bytes of TEXT with everything escaped that means something in a URI. */
static void print_escaped(FILE *to, const char *text, size_t length)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~/";

	for (size_t i = 0; i < length; i++) {
		if (text[i] && strchr(plain, text[i]))
			fputc(text[i], to);
		else
			fprintf(to, "%%%02X", (unsigned)(unsigned char)text[i]);
	}
}

static void print_host(FILE *to, const char *host)
{
	if (!strchr(host, ':')) {
		fputs(host, to);
		return;
	}
	/* An IPv6 address; the % in front of an interface's name is escaped. */
	fputc('[', to);
	for (; *host; host++)
		fputs(*host == '%' ? "%25" : (char[]){ *host, '\0' }, to);
	fputc(']', to);
}

/* Behind an authority: nothing, or a slash and the name. */
static void print_export(FILE *to, const char *name)
{
	if (name[0])
		fputc('/', to);
	print_escaped(to, name, strlen(name));
}

/* For clients on this machine: what the command line says of certificates and keys. */
static void print_tls(FILE *to, const struct nr_socket *listener)
{
	const struct {
		const char *name, *value;
	} rows[] = {
		{ "tls-certificates", listener->tls_certificates },
		{ "tls-psk-file", listener->tls_psk },
	};
	char sign = listener->kind == NR_SOCKET_UNIX ? '&' : '?';

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!rows[i].value)
			continue;
		fprintf(to, "%c%s=", sign, rows[i].name);
		print_escaped(to, rows[i].value, strlen(rows[i].value));
		sign = '&';
	}
}

static void print(FILE *to, const struct nr_socket *listener, const char *export_name, bool tls)
{
	fputs(tls ? "nbds" : "nbd", to);
	switch (listener->kind) {
	case NR_SOCKET_UNIX:
		fputs("+unix:///", to);
		print_escaped(to, export_name, strlen(export_name));
		fputs(listener->abstract ? "?socket=%00" : "?socket=", to);
		print_escaped(to, listener->path, listener->path_length);
		break;
	case NR_SOCKET_TCP:
		fputs("://", to);
		print_host(to, listener->host);
		fprintf(to, ":%u", listener->port);
		print_export(to, export_name);
		break;
	case NR_SOCKET_VSOCK:
		fprintf(to, "+vsock://%u:%u", listener->cid, listener->port);
		print_export(to, export_name);
		break;
	}
	if (tls)
		print_tls(to, listener);
}

char *nr_socket_uri(const struct nr_socket *listener, const char *export_name, bool tls)
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (!to)
		return NULL;
	print(to, listener, export_name, tls);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}
