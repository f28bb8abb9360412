/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where an NBD server is, and how to come to it: what a person wrote, as a struct.
 *
 * NBD URIs are those of the NBD project's doc/uri.md:
 *
 *	nbd://[USER@]HOST[:PORT]/[EXPORT]        nbds://…
 *	nbd+unix:///[EXPORT]?socket=PATH         nbds+unix://…
 *	nbd+vsock://CID[:PORT]/[EXPORT]          nbds+vsock://…
 *
 * with the queries socket, tls-certificates, tls-psk-file, tls-hostname, tls-username,
 * tls-verify-peer.  Text only: nothing is looked up or opened here.
 *
 * A remote owns its strings; read-only once it is made, then for any thread.
 */
#ifndef SRC_CLIENT_REMOTE_H
#define SRC_CLIENT_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"
#include "src/protocol/client-handshake.h"

#define NR_REMOTE_PORT 10809u

enum nr_remote_kind {
	NR_REMOTE_NONE, /* nothing was said yet */
	NR_REMOTE_UNIX,
	NR_REMOTE_TCP,
	NR_REMOTE_VSOCK,
	NR_REMOTE_SOCKET,  /* a descriptor that is connected already: once */
	NR_REMOTE_COMMAND, /* a program that speaks NBD on its standard input and output */
};

struct nr_remote {
	uint8_t kind; /* enum nr_remote_kind */
	uint8_t tls;  /* enum nr_client_tls */
	bool tls_verify_peer;
	char *path;        /* UNIX; "@name" is an abstract one */
	char *host, *port; /* TCP */
	uint32_t cid;      /* VSOCK */
	uint32_t vsock_port;
	int descriptor;    /* SOCKET */
	char **command;    /* COMMAND: argv, NULL-terminated */
	char *export_name; /* never NULL once the remote is complete */
	char *tls_certificates, *tls_psk_file, *tls_hostname, *tls_username;
	char *shown; /* for logs and errors */
};

/* Empty, for what follows; nr_remote_clear gives everything back. */
void nr_remote_init(struct nr_remote *remote);
void nr_remote_clear(struct nr_remote *remote);

/* Fill in what URI says, on top of an empty remote. */
int nr_remote_set_uri(struct nr_remote *remote, const char *uri, struct nr_error *error);

/* *FIELD = a copy of TEXT (which may be NULL). */
int nr_remote_set(char **field, const char *text, struct nr_error *error);

/* All is said: `shown` and what was left out.  -EINVAL when it does not fit together. */
int nr_remote_complete(struct nr_remote *remote, struct nr_error *error);

#endif
