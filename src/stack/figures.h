/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables of figures (figure.h) in words. */
#ifndef SRC_STACK_FIGURES_H
#define SRC_STACK_FIGURES_H

#include <stdio.h>

#include "nbdring/figure.h"

/* The FIGURES section of the man page, in POD; nothing where TABLE is NULL. */
void nr_figures_manual(FILE *to, const struct nr_figure *table);

#endif
