/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate: the core's own layer right above a backend that can be closed and opened
 * anew while the stack is open (nr_reopen in layer.h).  It is there only in stacks with
 * a filter that asks for that; others pay nothing.
 */
#ifndef SRC_STACK_GATE_H
#define SRC_STACK_GATE_H

#include "nbdring/layer.h"

extern const struct nr_layer_type nr_gate_type;

/* Backends are not to be used from outside requests while they are closed or opened. */
bool nr_gate_hold_open(struct nr_layer *gate); /* false: it is not open now */
void nr_gate_let_go(struct nr_layer *gate);

/* Was the backend left closed?  When nothing is in flight any more. */
bool nr_gate_is_down(const struct nr_layer *gate);

#endif
