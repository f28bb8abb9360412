/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A simulated client: it speaks NBD over a simulated socket, as a well-behaved
 * program, an unlucky one or a hostile one would, and checks every answer.
 *
 *   client.c        its life: negotiating, asking, leaving
 *   client-wire.c   answers: what came, and whether it may come
 *
 * Every request gets exactly one answer; a read covers each byte once; what is read
 * is what the model allows; errors come only where there are faults, or where they
 * were asked for.
 */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "src/protocol/wire.h"
#include "tests/sim/model.h"
#include "tests/sim/sockets.h"

#define SIM_DEPTH_MAX 40u
#define NR_PAYLOAD_BOUND (64u << 20) /* no answer is that long */

enum sim_style { SIM_SIMPLE, SIM_STRUCTURED, SIM_EXTENDED };

/* How it goes. */
enum sim_leaving {
	SIM_GOODBYE,     /* DISC when all is answered */
	SIM_GOODBYE_NOW, /* DISC with requests under way */
	SIM_HALF_CLOSE,  /* sends no more, waits for its answers */
	SIM_HANG_UP,     /* closes, at any byte */
	SIM_RESET,       /* the same, rudely */
	SIM_STAYS,       /* until the server ends */
	SIM_BREACH,      /* sends what is no request */
};

struct sim_request {
	bool used, failed, illegal;
	uint16_t command, flags;
	uint64_t cookie, offset, length;
	uint64_t begun;    /* model's time */
	uint64_t asked;    /* the world's time */
	uint32_t write;    /* the model's number; 0: changes nothing */
	uint64_t answered; /* read: bytes; block status: extents */
	uint8_t *seen;     /* read: a bit per unit */
};

struct sim_buffer {
	uint8_t *data;
	uint64_t head, tail, room;
};

enum sim_client_state {
	SIM_CLIENT_WAITS, /* not connected yet */
	SIM_CLIENT_GREETING,
	SIM_CLIENT_OPTIONS,
	SIM_CLIENT_SERVING,
	SIM_CLIENT_OVER, /* has left, or was left */
};

/* What a client does; set before sim_client_begin. */
struct sim_habits {
	enum sim_style style;
	enum sim_leaving leaving;
	unsigned requests;     /* asks so many, then leaves */
	unsigned depth;        /* so many at a time */
	uint64_t grain;        /* offsets and lengths are multiples; of SIM_UNIT */
	uint64_t longest;      /* request, bytes */
	uint64_t leaves_after; /* HANG_UP, RESET: bytes sent */
	bool asks_contexts, old_way, chatters, aborts, pipelines, bound;
	bool reads_only;
	bool pauses;  /* now and then it does nothing for seconds */
	bool slow;    /* reads its answers late: the server may lose patience */
	bool naughty; /* illegal requests are among its own */
	bool checker; /* after a power cut: reads all, tells the model what is there */
};

struct sim_client {
	struct sim_peer peer;
	struct sim_event event;
	struct sim_habits habits;
	struct sim_model *model;
	unsigned group;
	const char *export;
	int listener;
	bool *stopping; /* the server is: it may leave us */
	bool faulty;    /* errors may happen */
	bool scarce;    /* memory may be short */
	bool tight;     /* so short that waiting half a minute for it may be in vain */
	bool refusable; /* the export may take one client at a time */

	enum sim_client_state state;
	struct sim_buffer in, out;
	uint64_t sent, received;
	unsigned options_pending, asked;
	bool structured, extended, contexts, said_goodbye, half_closed, excused;
	bool server_closed;
	uint16_t flags;
	uint64_t size;
	uint32_t block_min;
	struct sim_request request[SIM_DEPTH_MAX];
	unsigned outstanding;
	uint64_t checked; /* checker: bytes */
	uint64_t pause_until;
};

/* Figures. */
extern uint64_t sim_requests_answered;

struct sim_client *sim_client_new(void);
void sim_client_begin(struct sim_client *c, uint64_t delay);
/* The power went, or the run ends: it is no more. */
void sim_client_abandon(struct sim_client *c);
void sim_client_free(struct sim_client *c);
bool sim_client_is_over(const struct sim_client *c);
uint64_t sim_client_oldest_read(const struct sim_client *c); /* model's time; UINT64_MAX */

/* client-wire.c */

/* Take what is in c->in as far as it is complete. */
void sim_client_parse(struct sim_client *c);
/* All requests under way end without an answer. */
void sim_client_lose(struct sim_client *c);

/* client.c, for client-wire.c */
uint8_t *sim_client_room(struct sim_client *c, uint64_t length); /* at the end of c->out */

#endif
