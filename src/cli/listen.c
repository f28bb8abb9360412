/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The list of listening sockets: which ones, in which order, and their end.
 *
 * At the end only files are removed that are still the ones made here: another
 * server may have taken the name meanwhile.
 *
 * Main thread, before and after the others exist.
 */
#include "src/cli/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "src/cli/listen-internal.h"

struct nr_socket *nr_sockets_add(struct nr_sockets *listeners, enum nr_socket_kind kind,
				 struct nr_error *error)
{
	struct nr_socket *grown = realloc(listeners->item, (listeners->count + 1) * sizeof(*grown));

	if (!grown) {
		nr_error_system(error, -ENOMEM, "listening");
		return NULL;
	}
	listeners->item = grown;
	grown += listeners->count++;
	*grown = (struct nr_socket){ .kind = kind, .fd = -1 };
	return grown;
}

static void drop(struct nr_socket *listener)
{
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener->label);
	free(listener->path);
	free(listener->folder);
	free(listener->host);
}

void nr_sockets_drop_from(struct nr_sockets *listeners, size_t first)
{
	while (listeners->count > first)
		drop(&listeners->item[--listeners->count]);
}

void nr_listen_nap(void)
{
	const struct timespec time = { .tv_nsec = NR_LISTEN_NAP_MS * 1000000L };

	nanosleep(&time, NULL);
}

void nr_sockets_free(struct nr_sockets *listeners)
{
	nr_sockets_drop_from(listeners, 0);
	free(listeners->item);
	listeners->item = NULL;
}

void nr_sockets_remove(struct nr_sockets *listeners)
{
	for (size_t i = 0; i < listeners->count; i++) {
		struct nr_socket *listener = &listeners->item[i];
		struct stat now;

		if (!listener->inode)
			continue;
		if (lstat(listener->path, &now) == 0 && now.st_dev == listener->device &&
		    now.st_ino == listener->inode)
			unlink(listener->path);
		if (listener->folder)
			rmdir(listener->folder);
		listener->inode = 0;
	}
}

/* One port of -p on every address of -i. */
static int open_port(struct nr_sockets *listeners, const struct nr_options *options,
		     const char *port, struct nr_error *error)
{
	int err = 0;

	if (options->ports_are_vsock)
		return nr_listen_vsock(listeners, port, error);
	if (!options->addresses.count)
		return nr_listen_tcp(listeners, options, NULL, port, error);
	for (size_t i = 0; !err && i < options->addresses.count; i++)
		err = nr_listen_tcp(listeners, options, options->addresses.item[i], port, error);
	return err;
}

/* Nothing was said about where. */
static int open_default(struct nr_sockets *listeners, const struct nr_options *options,
			const char *meant, struct nr_error *error)
{
	if (options->run && !options->ports_are_vsock)
		return nr_listen_unix(listeners, options, "-", error);
	/* Never every address of the machine instead of what systemd was to open. */
	if (meant && !options->ports_are_vsock)
		return nr_error_set(error, -EINVAL,
				    "the sockets of LISTEN_FDS are for process %s (LISTEN_PID), "
				    "not for this one, %d; let systemd start the server itself, or "
				    "say with -U or -p where to serve",
				    meant, (int)getpid());
	return open_port(listeners, options, NR_DEFAULT_PORT, error);
}

static int open_all(struct nr_sockets *listeners, const struct nr_options *options,
		    struct nr_error *error)
{
	const char *meant;
	int err = 0;

	if (nr_listen_is_activated(&meant))
		return nr_listen_activated(listeners, options, error);
	if (options->single)
		return 0;
	if (!options->unix_paths.count && !options->ports.count && !options->vsocks.count)
		return open_default(listeners, options, meant, error);
	for (size_t i = 0; !err && i < options->unix_paths.count; i++)
		err = nr_listen_unix(listeners, options, options->unix_paths.item[i], error);
	for (size_t i = 0; !err && i < options->ports.count; i++)
		err = open_port(listeners, options, options->ports.item[i], error);
	for (size_t i = 0; !err && i < options->vsocks.count; i++)
		err = nr_listen_vsock(listeners, options->vsocks.item[i], error);
	return err;
}

int nr_sockets_open(struct nr_sockets *listeners, const struct nr_options *options,
		    struct nr_error *error)
{
	int err;

	*listeners = (struct nr_sockets){ .item = NULL };
	err = open_all(listeners, options, error);
	for (size_t i = 0; i < listeners->count; i++) {
		listeners->item[i].tls_certificates = options->tls_certificates;
		listeners->item[i].tls_psk = options->tls_psk;
	}
	if (err) {
		if (options->listen_error)
			nr_error_prefix(error, "%s", options->listen_error);
		nr_sockets_remove(listeners);
		nr_sockets_free(listeners);
	}
	return err;
}

const struct nr_socket *nr_sockets_first(const struct nr_sockets *listeners,
					 enum nr_socket_kind kind)
{
	for (size_t i = 0; i < listeners->count; i++)
		if (listeners->item[i].kind == kind)
			return &listeners->item[i];
	return NULL;
}

char *nr_socket_describe(const struct nr_socket *listener, bool tls)
{
	char *uri = nr_socket_uri(listener, "", tls);
	char *both;

	if (!uri || !listener->label)
		return uri;
	if (asprintf(&both, "%s (%s)", uri, listener->label) < 0)
		return uri;
	free(uri);
	return both;
}
