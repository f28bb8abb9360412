/* SPDX-License-Identifier: BSD-3-Clause */
/* Traits: where they start, and whether an answer is sane. */
#ifndef SRC_STACK_TRAITS_H
#define SRC_STACK_TRAITS_H

#include "nbdring/error.h"
#include "nbdring/limits.h"

/* What a backend finds in `inout`: no size, byte access, nothing supported. */
void nr_traits_init(struct nr_traits *traits);

/* Are these values legal and consistent?  The error names the value. */
int nr_traits_check(const struct nr_traits *traits, struct nr_error *error);

/* Does any capability ask for emulation? */
bool nr_traits_need_emulation(const struct nr_traits *traits);

/* "flush", "fast zero", …; static strings. */
const char *nr_capability_name(enum nr_capability capability);

#endif
