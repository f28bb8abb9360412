/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection: one client's socket, from accept to close.
 *
 * It lives on one shard and is touched by that shard's thread only.  Six files
 * share the work, each with its part of the struct:
 *
 *   connection.c  the life: negotiation, transmission, draining, closing
 *   receive.c     the window: bytes in, requests recognised
 *   command.c     one request of the client, as pieces down the stack
 *   send.c        replies gathered into one send
 *   secure.c      TLS, between these and the socket
 *   linger.c      waits that layers have asked for
 *
 * Nothing is freed while an operation on it is under way: a connection that
 * ends cancels, waits for the completions and for its requests, then goes.
 */
#ifndef SRC_SERVER_CONNECTION_H
#define SRC_SERVER_CONNECTION_H

#include "src/protocol/handshake.h"
#include "src/protocol/reply.h"
#include "src/protocol/session.h"
#include "src/protocol/transmission.h"
#include "src/server/exports.h"
#include "src/server/shard.h"

/* The life of a connection; connection.c is the only writer. */
enum nr_connection_state {
	NR_CONNECTION_HANDSHAKE, /* negotiating; waits for input, for the output to leave, or for
				  * the export table */
	NR_CONNECTION_SERVING,   /* transmission phase */
	NR_CONNECTION_DRAINING,  /* nothing more is read; what is under way is answered */
	NR_CONNECTION_DEAD,      /* nothing more is sent either; waits for what is under way */
};

/* What the receive completion is doing. */
enum nr_receive_state {
	NR_RECEIVE_NONE,   /* not armed */
	NR_RECEIVE_POLL,   /* idle: waits for readability, holds no window */
	NR_RECEIVE_WINDOW, /* receiving into the window */
	NR_RECEIVE_DIRECT, /* receiving a payload, then the window */
	NR_RECEIVE_SECURE, /* receiving ciphertext for these, or for the TLS handshake */
};

struct nr_command;
struct nr_linger;
struct nr_secure;
struct nr_sender;

struct nr_window {
	uint8_t *block;     /* of the arena; NULL: none held */
	uint32_t size;      /* bytes of the block */
	uint32_t head;      /* first byte not looked at yet */
	uint32_t tail;      /* behind the last byte received */
	uint32_t next_size; /* how large the next one shall be */
	uint32_t last_want; /* payload of the last write, to land the next one aligned */
};

struct nr_connection {
	struct nr_shard *shard;
	struct nr_connection *next, **link; /* of the shard's list */
	struct nr_connection *next_active;  /* of the active list */
	struct nr_connection *next_starved;
	int fd;
	uint8_t state;         /* enum nr_connection_state */
	uint8_t receive_state; /* enum nr_receive_state */
	bool is_active, is_starved;
	bool stalled;            /* a request could not be begun; tried again when one ends */
	bool woken;              /* what it was stalled or starved by may be over */
	bool end_of_input;       /* the client sends nothing more */
	bool graceful;           /* ended by DISC or ABORT, or before anything was asked */
	bool reported;           /* the end has its line in the log */
	bool asking;             /* the export table has our ticket */
	bool moving;             /* on its way to another shard */
	bool single;             /* the only client of a server that ends with it (-s) */
	bool idle_candidate;     /* nothing happened since the last sweep */
	uint8_t held_up;         /* seconds for which the client held memory that others want */
	uint8_t handshake_state; /* enum nr_handshake_state, as last heard */
	uint64_t deadline;       /* negotiation or draining ends then (ring's clock); 0: none */

	/* receive.c */
	struct nr_completion receive;
	struct nr_window window;
	struct iovec receive_vector[2];
	uint64_t discard;           /* bytes of a refused payload still to come */
	struct nr_command *refused; /* the refusal, which is sent when they have come */
	struct nr_command *filling; /* a write whose payload is being received */
	struct nr_command *piece;   /* and the part of it that has memory now; NULL: waits */

	/* send.c */
	uint32_t share_min;       /* bytes from which lasting memory goes by reference */
	bool takes_pipes;         /* and data from pipes can go to the client as it is */
	struct nr_sender *sender; /* while there is something to send */
	struct nr_command *ready; /* finished, reply not sent yet; oldest first */
	struct nr_command **ready_tail;

	struct nr_secure *secure; /* secure.c; NULL: the connection is not encrypted */

	/* command.c */
	uint32_t commands; /* begun and not released */
	uint64_t charged;  /* bytes */

	/* connection.c */
	struct nr_handshake *handshake; /* NULL once agreed */
	struct nr_agreement agreement;
	struct nr_export *export; /* SERVING on: one reference */
	struct nr_stack *stack;   /* of that export */
	struct nr_ticket *ticket; /* while asking */
	struct nr_linger *linger; /* a wait that a layer has asked for; NULL: none */
	struct nr_session session;
	struct nr_peer *counted_as; /* NULL: its peer is not counted */
	struct nr_message message;  /* moving */
	uint8_t *carried;           /* moving: bytes of the window that go along */
	uint32_t carried_bytes;
	char peer[64]; /* session.peer */
};

/* Life. */

/*
 * Take over FD; the connection appears on SHARD (its thread).  -ENOMEM, or -EUSERS (its
 * peer has as many as may be; the log has its line): FD is still the caller's.
 */
int nr_connection_begin(struct nr_shard *shard, int fd, bool single);

/*
 * Everything that can be done without waiting, once per turn for active ones:
 * take requests (false: the connection has moved to another shard and is not to be
 * touched any more); then, after the requests have moved, send and receive.
 */
bool nr_connection_read(struct nr_connection *c);
void nr_connection_write(struct nr_connection *c);

/* Once a second, while it is asked for: true asks for the next time. */
bool nr_connection_sweep(struct nr_connection *c, uint64_t now);

/* The shard is stopping: finish what was begun, until the shard's patience ends. */
void nr_connection_stop(struct nr_connection *c);

/*
 * End it: the client broke a rule or is gone.  WHY (printf style) goes to the
 * log, once.  Replies not sent yet are dropped.
 */
void nr_connection_drop(struct nr_connection *c, const char *why, ...)
	__attribute__((format(printf, 2, 3)));

/* Read no more; answer what is under way; then close. */
void nr_connection_drain(struct nr_connection *c);

/* receive.c */

/* Requests out of the window, or the handshake's bytes; as far as limits allow. */
void nr_receive_parse(struct nr_connection *c);
/* Start receiving where that makes sense. */
void nr_receive_arm(struct nr_connection *c);
/* The receive that is under way, if any, shall end. */
void nr_receive_cancel(struct nr_connection *c);
/* After a move: the bytes that came along go into a window of this shard. */
void nr_receive_restore(struct nr_connection *c);
/* Give the window back; nothing is being received. */
void nr_receive_release_window(struct nr_connection *c);

/* send.c */

/* Build and start the next send if none is under way. */
void nr_send_flush(struct nr_connection *c);
bool nr_send_busy(const struct nr_connection *c);
/* Nothing waits to be sent and nothing is being sent. */
bool nr_send_idle(const struct nr_connection *c);
/* Drop replies not being sent; used when the connection is dead. */
void nr_send_discard(struct nr_connection *c);
/* Give the sender's memory back if it is not in use. */
void nr_send_release(struct nr_connection *c);

/* linger.c */

/*
 * Wait for NANOSECONDS or, with WATCH, until the client sends nothing more; then THEN
 * (or NULL) is called, and the connection is active.  False: there is no memory for
 * it, and nothing is waited for.
 */
bool nr_linger_begin(struct nr_connection *c, uint64_t nanoseconds, bool watch,
		     void (*then)(struct nr_connection *c));
/* The wait that is under way, if any, shall end soon. */
void nr_linger_end(struct nr_connection *c);

#endif
