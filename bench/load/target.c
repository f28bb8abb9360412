/*
 * From the word the user typed to a socket address: a path, HOST[:PORT], or an NBD URI
 * (nbd://host:port/export, nbd+unix:///export?socket=path; %XX is undone). TLS is
 * an option, not a scheme.
 */
#include "bench/load/target.h"

#include <ctype.h>
#include <err.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define DEFAULT_PORT 10809

static void set_unix(struct target *t, const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(un.sun_path))
		errx(2, "socket path is longer than %zu bytes: %s", sizeof(un.sun_path) - 1, path);
	memcpy(un.sun_path, path, strlen(path) + 1);
	memcpy(&t->address, &un, sizeof(un));
	t->length = sizeof(un);
}

/* "host", "host:port", "[v6]", "[v6]:port"; `text` is changed. */
static void set_host(struct target *t, char *text)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	char default_port[8];
	char *host = text;
	char *port = NULL;
	char *end = text;
	int ret;

	if (*host == '[') {
		host++;
		end = strchr(host, ']');
		if (!end)
			errx(2, "no ] in the address %s", text);
		*end++ = '\0';
	}
	port = strrchr(end, ':');
	if (port)
		*port++ = '\0';
	snprintf(default_port, sizeof(default_port), "%d", DEFAULT_PORT);
	ret = getaddrinfo(*host ? host : NULL, port && *port ? port : default_port, &hints, &found);
	if (ret)
		errx(1, "host \"%s\": %s", host, gai_strerror(ret));
	memcpy(&t->address, found->ai_addr, found->ai_addrlen);
	t->length = found->ai_addrlen;
	freeaddrinfo(found);
}

static void percent_decode(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++, to++) {
		*to = *from;
		if (*from == '%' && isxdigit((unsigned char)from[1]) &&
		    isxdigit((unsigned char)from[2])) {
			char hex[3] = { from[1], from[2], '\0' };

			*to = (char)strtoul(hex, NULL, 16);
			from += 2;
		}
	}
	*to = '\0';
}

static char *find_socket(char *query)
{
	char *state;

	for (char *pair = strtok_r(query, "&", &state); pair; pair = strtok_r(NULL, "&", &state))
		if (strncmp(pair, "socket=", 7) == 0)
			return pair + 7;
	return NULL;
}

static void set_export(struct target *t, char *name)
{
	percent_decode(name);
	if (strlen(name) > NBD_STRING_MAX)
		errx(2, "export name is longer than %u bytes", NBD_STRING_MAX);
	memcpy(t->export_name, name, strlen(name) + 1);
}

static void set_uri(struct target *t, char *text)
{
	char *rest = strstr(text, "://");
	char *slash, *query, *path;

	*rest = '\0';
	rest += 3;
	query = strchr(rest, '?');
	if (query)
		*query++ = '\0';
	slash = strchr(rest, '/');
	if (slash) {
		*slash = '\0';
		set_export(t, slash + 1);
	}
	if (strcmp(text, "nbd") == 0) {
		set_host(t, rest);
	} else if (strcmp(text, "nbd+unix") == 0) {
		path = query ? find_socket(query) : NULL;
		if (!path)
			errx(2, "an nbd+unix URI needs ?socket=PATH");
		percent_decode(path);
		set_unix(t, path);
	} else {
		errx(2, "URI scheme \"%s\" is not one of nbd, nbd+unix", text);
	}
}

void target_parse(struct target *t, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		errx(1, "out of memory");
	*t = (struct target){ .length = 0 };
	if (strstr(text, "://"))
		set_uri(t, copy);
	else if (strchr(text, '/'))
		set_unix(t, text);
	else
		set_host(t, copy);
	free(copy);
}
