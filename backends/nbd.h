/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the backend `nbd`: its face (nbd.c), what it opens (nbd-open.c) and how
 * requests go (nbd-requests.c).
 *
 * Links belong to workers.  A remote that cannot be written to may have links on all
 * workers, and nothing is shared on a request's way; an export of any other lives on one
 * worker, with one link or several.  With shared=false each client has a link besides, in
 * its session.
 *
 * Writes that were answered but are not known to be stable are counted for each link
 * (nr_link_account), as they may be lost when its connection is: that raises `lost`, and
 * each client's next flush reports it once.  A flush is made on each link that has such
 * writes, so that one whose connection is gone, unnoticed, is found out.  That is why they
 * are all on one worker.
 */
#ifndef BACKENDS_NBD_H
#define BACKENDS_NBD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "nbdring/layer.h"
#include "src/client/link.h"

#define NBD_CONNECTIONS_MAX 64u

/* A worker's. */
struct nr_nbd_group {
	struct nr_link **links;
	unsigned count;
};

struct nr_nbd_parameters {
	const char *uri, *socket, *hostname, *port, *vsock, *vsock_port;
	uint64_t descriptor; /* 0: not given */
	const char *command;
	struct nr_strings arguments;
	const char *export_name;
	bool dynamic, shared;
	unsigned tls; /* enum nr_client_tls */
	const char *certificates, *psk_file, *username, *tls_hostname;
	bool verify_peer;
	uint64_t connections; /* 0: as many as are useful */
	uint64_t wait_s, retry_s, pause_ms, pause_max_ms, timeout_s, connect_s;
};

struct nr_nbd {
	struct nr_nbd_parameters given;
	struct nr_layer *layer;
	struct nr_remote remote;
	struct nr_tls_credentials *credentials; /* NULL: no TLS */
	struct nr_link_settings settings;
	const char *wished[NR_CONTEXTS_MAX]; /* metadata contexts; all but the first are ours */
	unsigned wished_count;
	const char *contexts[NR_CONTEXTS_MAX];  /* of them, those granted, but for the first … */
	uint8_t context_index[NR_CONTEXTS_MAX]; /* … which by number of the contract is which */
	unsigned context_count;
	struct nr_client_agreement agreement; /* of the first connection: what was promised */
	bool counts;                          /* the remote has flushes, so it can lose */
	bool home;                            /* one group, of whichever worker it is */
	unsigned connections;
	unsigned group_count;
	struct nr_nbd_group *groups;
	_Atomic uint64_t size;
	_Atomic uint64_t lost;
	_Atomic uint64_t
		reported; /* of `lost`, to anybody: the server's own flush tells of the rest */
};

/* A client's. */
struct nr_nbd_session {
	struct nr_link *link; /* shared=false */
	uint64_t reported;    /* of `lost` */
};

/* A request's. */
struct nr_nbd_op {
	struct nr_link_op op;
	uint64_t done;  /* bytes: longer ones than the remote takes go in pieces */
	uint64_t piece; /* bytes of the one under way */
	uint64_t acked; /* flush: what it covers of the link's writes */
	uint64_t lost;  /* flush: `lost` when it began */
	unsigned next;  /* flush: the first link that may still need one */
	bool counts;    /* a success is one more that is not stable */
};

/* nbd-open.c */

/* The remote that the parameters name, for EXPORT_NAME (NULL: theirs). */
int nr_nbd_remote(const struct nr_nbd_parameters *given, const char *export_name,
		  struct nr_remote *remote, struct nr_error *error);
int nr_nbd_open(struct nr_nbd *nbd, struct nr_layer *layer, struct nr_error *error);
void nr_nbd_close(struct nr_nbd *nbd);
void nr_nbd_describe(const struct nr_nbd *nbd, struct nr_traits *traits);
int nr_nbd_list(const struct nr_nbd_parameters *given, nr_export_fn *each, void *context,
		struct nr_error *error);

/* nbd-requests.c */

void nr_nbd_submit(struct nr_nbd *nbd, struct nr_request *req);
/* Of the links. */
void nr_nbd_finished(struct nr_link *link, struct nr_link_op *op, int error);
void nr_nbd_broken(struct nr_link *link);
bool nr_nbd_again(struct nr_link *link, const struct nr_link_op *op);

#endif
