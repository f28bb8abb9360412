/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making a connection to a remote: reach it, negotiate.
 *
 * Blocking, with a deadline: for `open`, and for offload threads when a connection was
 * lost.  Names are looked up anew each time.  A host with several addresses is tried at
 * all of them, IPv6 and IPv4 in turn, a quarter of a second apart; the first that
 * answers is taken.
 */
#ifndef SRC_CLIENT_DIAL_H
#define SRC_CLIENT_DIAL_H

#include <stdatomic.h>
#include <sys/types.h>

#include "src/client/remote.h"
#include "src/tls/session.h"

/* A connection in transmission. */
struct nr_dialled {
	int fd;                     /* blocking, close-on-exec; -1: none */
	pid_t child;                /* COMMAND: the program, to be waited for; 0: none */
	struct nr_tls_session *tls; /* open; NULL: it is not encrypted */
	struct nr_client_agreement agreement;
};

/* What is wanted, and of whom. */
struct nr_call {
	const struct nr_remote *remote;
	/* What is wished for TLS and for the name is the remote's, unless there is a name. */
	struct nr_client_wish wish;
	struct nr_tls_credentials *credentials; /* NULL: no TLS */
	unsigned milliseconds;
	const atomic_bool *stop; /* ends it early when it becomes true; may be NULL */
};

/*
 * Connect and agree.  0, or negative errno with a sentence; nothing stays behind then.
 * Of a LIST *OUT has nothing.
 */
int nr_dial(const struct nr_call *call, struct nr_dialled *out, struct nr_error *error);

/*
 * Read the files that REMOTE names for TLS.  *CREDENTIALS is NULL if it wants none, else
 * it is to be released.
 */
int nr_dial_credentials(const struct nr_remote *remote, struct nr_tls_credentials **credentials,
			struct nr_error *error);

/* An empty one. */
void nr_dialled_init(struct nr_dialled *dialled);

/*
 * Take leave, close, and wait for the program, which is killed if it does not end by
 * itself.  May block for a few seconds.  Nothing is under way on the descriptor.
 */
void nr_dialled_close(struct nr_dialled *dialled);

#endif
