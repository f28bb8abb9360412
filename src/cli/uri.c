/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD URIs, as the NBD project's doc/uri.md defines them:
 *
 *	nbd://HOST:PORT/EXPORT
 *	nbd+unix:///EXPORT?socket=PATH
 *
 * Pure; any thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/listen.h"

/* TEXT with everything escaped that means something in a URI. */
static void print_escaped(FILE *to, const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~/";

	for (; *text; text++) {
		if (strchr(plain, *text))
			fputc(*text, to);
		else
			fprintf(to, "%%%02X", (unsigned)(unsigned char)*text);
	}
}

static void print_tcp(FILE *to, const struct nr_socket *listener, const char *export_name)
{
	const char *host = listener->host;

	fputs("nbd://", to);
	if (strchr(host, ':')) {
		/* An IPv6 address; the % in front of an interface's name is escaped. */
		fputc('[', to);
		for (; *host; host++)
			fputs(*host == '%' ? "%25" : (char[]){ *host, '\0' }, to);
		fputc(']', to);
	} else {
		fputs(host, to);
	}
	fprintf(to, ":%u", listener->port);
	if (export_name[0])
		fputc('/', to);
	print_escaped(to, export_name);
}

static void print_unix(FILE *to, const struct nr_socket *listener, const char *export_name)
{
	fputs("nbd+unix:///", to);
	print_escaped(to, export_name);
	fputs("?socket=", to);
	print_escaped(to, listener->path);
}

char *nr_socket_uri(const struct nr_socket *listener, const char *export_name)
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (!to)
		return NULL;
	if (listener->path)
		print_unix(to, listener, export_name);
	else
		print_tcp(to, listener, export_name);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}
