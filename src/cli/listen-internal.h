/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the families of listening sockets share.  Each has a file of its own; each
 * adds to the list what it makes, so that whatever happens the list knows what is
 * to be closed and removed.
 */
#ifndef SRC_CLI_LISTEN_INTERNAL_H
#define SRC_CLI_LISTEN_INTERNAL_H

#include "src/cli/listen.h"

#define NR_DEFAULT_PORT "10809"    /* IANA's for NBD */
#define NR_LISTEN_PATIENCE_MS 1000 /* with the remains of a server that was killed */
#define NR_LISTEN_NAP_MS 20

/* A new entry at the end, or NULL.  Earlier entries may move. */
struct nr_socket *nr_sockets_add(struct nr_sockets *listeners, enum nr_socket_kind kind,
				 struct nr_error *error);
/* Close and forget all entries from FIRST on. */
void nr_sockets_drop_from(struct nr_sockets *listeners, size_t first);
/* Sleep for NR_LISTEN_NAP_MS. */
void nr_listen_nap(void);

/* -U: a path, "@" and an abstract name, or "-" for a private socket. */
int nr_listen_unix(struct nr_sockets *listeners, const struct nr_options *options, const char *path,
		   struct nr_error *error);
/* -p, on one of -i's addresses (NULL: all). */
int nr_listen_tcp(struct nr_sockets *listeners, const struct nr_options *options,
		  const char *address, const char *port, struct nr_error *error);
/* --vsock: PORT or CID:PORT. */
int nr_listen_vsock(struct nr_sockets *listeners, const char *address, struct nr_error *error);
/*
 * Has this process been given sockets?  If not, *OTHER is the process (LISTEN_PID) that
 * inherited variables name, or NULL.
 */
bool nr_listen_is_activated(const char **other);
/* What systemd, or another program that follows its protocol, has opened. */
int nr_listen_activated(struct nr_sockets *listeners, const struct nr_options *options,
			struct nr_error *error);

/* Does TEXT mean every address of its family? */
bool nr_listen_is_wildcard(const char *text);
/* The CID by which others know this machine; VMADDR_CID_LOCAL when there is none. */
unsigned nr_vsock_local_cid(void);

#endif
