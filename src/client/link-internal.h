/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of a link: what its life (link.c), the sending (link-send.c), the
 * receiving (link-receive.c) and the putting together of answers (link-answer.c)
 * share.  Private to these.
 */
#ifndef SRC_CLIENT_LINK_INTERNAL_H
#define SRC_CLIENT_LINK_INTERNAL_H

#include "src/client/link.h"

#define NR_LINK_VECTORS 512u
#define NR_LINK_SEGMENTS_MAX 256u             /* of one write; more are copied together */
#define NR_LINK_SEND_BYTES (2u * 1024 * 1024) /* begin no further request in a send of so much */
#define NR_LINK_HUNGRY_NS 1000000u            /* between two looks for memory */

/* Where a link is; beside each, what moves it on. */
enum nr_link_state {
	NR_LINK_DOWN,     /* no connection; a request */
	NR_LINK_DIALLING, /* the job */
	NR_LINK_PAUSING,  /* the timer */
	NR_LINK_UP,       /* a break */
	NR_LINK_BREAKING, /* the end of the last operation under way */
};

struct nr_link_list {
	struct nr_link_op *first, *last;
};

struct nr_link_slot {
	struct nr_link_op *op; /* NULL: free */
	uint32_t generation;   /* so that a second answer is known for one */
};

struct nr_link_window {
	struct nr_buffer *buffer; /* NULL: none */
	uint8_t *data;
	uint32_t size, head, tail; /* bytes; what is between head and tail is not taken yet */
	bool shared;               /* answers point into it */
};

/* What TLS makes of it on the wire. */
struct nr_link_cipher {
	struct nr_buffer *buffer; /* NULL: none */
	uint8_t *data;
};

/* The payload that follows the chunk at hand. */
struct nr_link_payload {
	struct nr_link_op *op;
	uint64_t left;          /* bytes */
	uint64_t at;            /* DATA: offset on the disk */
	bool last;              /* when it is over, so is the request */
	bool full;              /* STATUS: the list takes no more, or is not the one asked for */
	bool copied;            /* DATA: it does not go through a pipe */
	struct nr_buffer *pipe; /* DATA that goes: NULL: none yet */
	int fill;               /* its end to write to */
	uint64_t piped;         /* bytes in it */
};

struct nr_link {
	const struct nr_link_settings *settings;
	struct nr_layer *layer;
	struct nr_worker *worker; /* NULL before the first request */
	uint8_t state;            /* enum nr_link_state */
	int fd;
	pid_t child;
	struct nr_tls_session *tls; /* NULL: not encrypted */
	struct nr_client_agreement agreement;

	struct nr_link_account account;

	/* Requests. */
	struct nr_link_list waiting; /* not sent, or to be sent again */
	struct nr_link_list sent;    /* an answer is owed, in the order of sending */
	unsigned ops;                /* all that have not ended */
	unsigned owed;               /* in `sent` */
	uint64_t owed_bytes;         /* data of reads in `sent` */
	struct nr_link_op *held;     /* the last one: ends when the timer has */
	struct nr_link_slot slots[NR_LINK_REQUESTS_MAX];
	uint16_t free_slots[NR_LINK_REQUESTS_MAX];
	unsigned free_count;

	/* Sending. */
	struct nr_deferred gather;
	struct nr_completion send;
	struct nr_link_op *in_send[NR_LINK_REQUESTS_MAX];
	unsigned in_send_count;
	unsigned vectors, header_bytes;
	struct iovec vector[NR_LINK_VECTORS];
	uint8_t headers[NR_LINK_REQUESTS_MAX * NR_CLIENT_REQUEST_MAX];

	/* Receiving. */
	struct nr_completion receive;
	struct nr_link_cipher cipher_in, cipher_out; /* TLS */
	struct iovec cipher_vector;
	struct nr_tls_cursor sealed; /* of `vector`, what has been encrypted */
	bool splices;                /* the kernel moves the socket's pages into pipes … */
	bool waits;                  /* … and would wait for them if it were let */
	struct nr_link_window window;
	struct nr_link_payload payload;

	/* Time. */
	struct nr_completion hungry; /* a look for memory, later */
	struct nr_completion timer;  /* a pause, or the patience with a silent remote */
	uint64_t heard_at;

	/* Coming back. */
	struct nr_job job;
	struct nr_dialled dialled; /* of the job; before it: what to get rid of first */
	struct nr_error dial_error;
	int dial_result;
	uint64_t lost_at; /* when the trouble began; 0: there is none */
	uint64_t pause_ns;
	bool progress; /* an answer has come on this connection */
	bool given_up; /* nobody waits any more until it is back */
};

static inline struct nr_ring *nr_link_ring(const struct nr_link *link)
{
	return nr_worker_ring(link->worker);
}

static inline void nr_link_append(struct nr_link_list *list, struct nr_link_op *op)
{
	op->next = NULL;
	op->prev = list->last;
	if (list->last)
		list->last->next = op;
	else
		list->first = op;
	list->last = op;
}

static inline void nr_link_remove(struct nr_link_list *list, struct nr_link_op *op)
{
	if (op->prev)
		op->prev->next = op->next;
	else
		list->first = op->next;
	if (op->next)
		op->next->prev = op->prev;
	else
		list->last = op->prev;
}

/* link.c */

/* The connection is of no use any more, for the reason WHY. */
void nr_link_break(struct nr_link *link, const char *why);

/* An operation has ended: if the link waits for that, it goes on. */
void nr_link_settle(struct nr_link *link);

/* OP's answer is complete, or it has failed. */
void nr_link_end(struct nr_link *link, struct nr_link_op *op, int error);

/* The last request may be waiting for the link to be quiet: end it if it is. */
void nr_link_release_held(struct nr_link *link);

/* Memory is short: look again in a while. */
void nr_link_starve(struct nr_link *link);

/* An answer is owed now: let the patience run. */
void nr_link_watch(struct nr_link *link);

/* link-send.c */

void nr_link_send_init(struct nr_link *link);
/* Let what waits go out before the worker next enters the kernel. */
void nr_link_send_later(struct nr_link *link);

/* link-receive.c */

/* Receive, if an answer is owed. */
void nr_link_receive_arm(struct nr_link *link);
void nr_link_receive_release(struct nr_link *link);

/* What a whole turn of receiving ends with. */
void nr_link_receive_done(struct nr_link *link);
/* The payload at hand is complete. */
void nr_link_payload_over(struct nr_link *link);

/* A window with room in it, for more of what is owed; false: not now, or a breach. */
bool nr_link_make_room(struct nr_link *link);
/* Take in what is in the window. */
void nr_link_parse(struct nr_link *link);

/* link-tls.c */

/* Memory for a send, before one is gathered; false: there is none now. */
bool nr_link_tls_prepare(struct nr_link *link);
/* Send what of `vector` has not been sent yet, as much as fits; false: that was all. */
bool nr_link_tls_send(struct nr_link *link);
/* Receive ciphertext; false: there is no memory now. */
bool nr_link_tls_receive(struct nr_link *link);
/* Take in what TLS has in its own memory; false: it has nothing to work on. */
bool nr_link_tls_take_rest(struct nr_link *link);
void nr_link_tls_release(struct nr_link *link);

/* link-splice.c */

/* Long answers: from so many bytes on. */
#define NR_LINK_SPLICE_MIN 65536u

/* Can answers of this connection go through pipes? */
void nr_link_splice_init(struct nr_link *link);

/* How many bytes of the next reply to receive into the window; 0: all there is room for. */
uint32_t nr_link_splice_header(const struct nr_link *link);

/*
 * Is the rest of the payload at hand, of which nothing is in the window, one for a
 * pipe?  Then take it there, as far as it has come.
 */
bool nr_link_splice(struct nr_link *link, bool polled);

/* The connection is lost, and what is in the pipe with it. */
void nr_link_splice_forget(struct nr_link *link);

/* link-answer.c */

/*
 * LENGTH bytes at DATA (NULL: zeroes) are what the disk has at OFFSET; memory of
 * BUFFER, which is retained if it is used.  0, -ENOMEM, or -EPROTO: they were there
 * already.
 */
int nr_link_answer(struct nr_link_op *op, uint64_t offset, uint64_t length, uint8_t *data,
		   struct nr_buffer *buffer);
/* All has come.  0 or -ENOMEM. */
int nr_link_answer_complete(struct nr_link_op *op);
/* Forget it. */
void nr_link_answer_clear(struct nr_link_op *op);

#endif
