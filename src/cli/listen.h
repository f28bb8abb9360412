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

enum nr_socket_kind { NR_SOCKET_UNIX, NR_SOCKET_TCP, NR_SOCKET_VSOCK };

struct nr_socket {
	enum nr_socket_kind kind;
	int fd;      /* -1 when it was given to the server */
	bool extra;  /* a further socket of the same TCP port as the one before it */
	bool chosen; /* the system chose the port, or the path: nobody knows it yet */
	char *label; /* what systemd calls it, or NULL */
	char *path;  /* Unix: absolute, or the abstract name, which may hold NULs */
	size_t path_length;
	bool abstract; /* Unix: a name without a file */
	char *folder;  /* Unix: the private folder it is in, or NULL */
	dev_t device;  /* Unix: the socket file that was made; an inode of 0: none was */
	ino_t inode;
	char *host;    /* TCP: how a client may write it in a URI */
	unsigned cid;  /* vsock: the same */
	unsigned port; /* TCP, vsock */
	/* Folder of certificates and file of keys of the command line, or NULL: for URIs. */
	const char *tls_certificates, *tls_psk;
};

/* Unix sockets first, then TCP ports, then vsock ports, each in the order of the command line;
 * or what systemd has opened, in its order. */
struct nr_sockets {
	struct nr_socket *item;
	size_t count;
	bool activated; /* opened by a supervisor, which wants the server in the foreground */
};

/* All the sockets that OPTIONS ask for.  On failure nothing stays behind. */
int nr_sockets_open(struct nr_sockets *listeners, const struct nr_options *options,
		    struct nr_error *error);

/* Remove socket files, as far as they are still ours; no new client finds the server. */
void nr_sockets_remove(struct nr_sockets *listeners);
/* Close what was not given away, and free.  Does not remove. */
void nr_sockets_free(struct nr_sockets *listeners);

/* The first listener of a kind, or NULL. */
const struct nr_socket *nr_sockets_first(const struct nr_sockets *listeners,
					 enum nr_socket_kind kind);

/*
 * The NBD URI of an export on this listener; TLS: clients must encrypt.  The caller
 * frees it; NULL: no memory.
 */
char *nr_socket_uri(const struct nr_socket *listener, const char *export_name, bool tls);
/* What the log calls it: the URI, and its label.  The caller frees it; NULL: no memory. */
char *nr_socket_describe(const struct nr_socket *listener, bool tls);

#endif
