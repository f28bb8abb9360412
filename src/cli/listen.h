/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listening sockets: made before the process goes to the background, so that an
 * address that cannot be had is reported where the command was given.
 */
#ifndef SRC_CLI_LISTEN_H
#define SRC_CLI_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "nbdring/error.h"
#include "src/cli/options.h"

struct nr_socket {
	int fd;       /* -1 when it was given to the server */
	bool extra;   /* a further socket of the same TCP port as the one before it */
	bool chosen;  /* the system chose the port, or the path: nobody knows it yet */
	char *path;   /* Unix: absolute; NULL for TCP */
	char *folder; /* Unix: the private folder it is in, or NULL */
	dev_t device; /* Unix: the socket file that was made */
	ino_t inode;
	char *host;    /* TCP: how a client may write it in a URI */
	unsigned port; /* TCP */
};

/* Unix sockets first, then TCP ports, each in the order of the command line. */
struct nr_sockets {
	struct nr_socket *item;
	size_t count;
};

/* All the sockets that OPTIONS ask for.  On failure nothing stays behind. */
int nr_sockets_open(struct nr_sockets *listeners, const struct nr_options *options,
		    struct nr_error *error);

/* Remove socket files, as far as they are still ours; no new client finds the server. */
void nr_sockets_remove(struct nr_sockets *listeners);
/* Close what was not given away, and free.  Does not remove. */
void nr_sockets_free(struct nr_sockets *listeners);

/* The first listener of a kind, or NULL. */
const struct nr_socket *nr_sockets_unix(const struct nr_sockets *listeners);
const struct nr_socket *nr_sockets_tcp(const struct nr_sockets *listeners);

/* The NBD URI of an export on this listener.  The caller frees it; NULL: no memory. */
char *nr_socket_uri(const struct nr_socket *listener, const char *export_name);

#endif
