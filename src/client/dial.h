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

/* A connection in transmission. */
struct nr_dialled {
	int fd;      /* blocking, close-on-exec; -1: none */
	pid_t child; /* COMMAND: the program, to be waited for; 0: none */
	struct nr_client_agreement agreement;
};

/*
 * Connect to REMOTE and agree on WISH within MILLISECONDS.  What is wished for TLS and
 * for the name is the remote's, unless WISH has a name.  STOP (may be NULL) ends it
 * early when it becomes true.  0, or negative errno with a sentence; nothing stays
 * behind then.  Of a LIST *OUT has nothing.
 */
int nr_dial(const struct nr_remote *remote, const struct nr_client_wish *wish,
	    unsigned milliseconds, const atomic_bool *stop, struct nr_dialled *out,
	    struct nr_error *error);

/* An empty one. */
void nr_dialled_init(struct nr_dialled *dialled);

/*
 * Take leave, close, and wait for the program, which is killed if it does not end by
 * itself.  May block for a few seconds.  Nothing is under way on the descriptor.
 */
void nr_dialled_close(struct nr_dialled *dialled);

#endif
