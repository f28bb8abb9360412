/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket of the filter pause, and the gate it moves.
 *
 * Commands are single characters, each answered by one: p closes the gate and is
 * answered P when nothing is inside any more; r opens it and is answered R; white
 * space is passed over; anything else is answered X.  A p whose pause is ended by
 * another client before it took hold is answered X as well.
 */
#ifndef FILTERS_PAUSE_CONTROL_H
#define FILTERS_PAUSE_CONTROL_H

#include "nbdring/layer.h"

struct nr_pause_control;

/* In the scratch of a request; the gate's while the request waits. */
struct nr_paused {
	struct nr_layer *layer;
	struct nr_request *req;
	struct nr_paused *next;
};

/*
 * The gate with the socket PATH; made when there is none in this process yet, and then
 * LAYER is the one that speaks for it.  May block; any thread but a worker.
 */
struct nr_pause_control *nr_pause_control_get(const char *path, const struct nr_layer *layer,
					      struct nr_error *error);
/* LAYER's share is given back.  May block; any thread but a worker. */
void nr_pause_control_put(struct nr_pause_control *control, const struct nr_layer *layer);

/*
 * True: inside, and nr_pause_control_leave follows.  False: parked, and resumed when
 * the gate opens, to try again.
 */
bool nr_pause_control_enter(struct nr_pause_control *control, struct nr_paused *paused,
			    struct nr_layer *layer, struct nr_request *req);
void nr_pause_control_leave(struct nr_pause_control *control);

#endif
