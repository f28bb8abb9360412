/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the layers of a stack tell in numbers (figure.h), for another layer of it, and in
 * words, for the manual.
 */
#include "src/stack/figures.h"

#include "nbdring/layer.h"
#include "src/stack/params-text.h"
#include "src/stack/stack.h"

static uint64_t value_of(const struct nr_layer *layer, const struct nr_figure *row)
{
	const char *instance = layer->instance;

	if (row->value)
		return row->value(layer);
	return nr_count_get((const nr_count *)(const void *)(instance + row->offset));
}

void nr_figures(const struct nr_layer *layer, nr_figures_fn *each, void *context)
{
	const struct nr_layer *at = nr_stack_top(layer->internal.stack);

	for (; at; at = at->below)
		for (const struct nr_figure *row = at->type->figures; row && row->name; row++)
			each(context, at, row, value_of(at, row));
}

void nr_figures_manual(FILE *to, const struct nr_figure *table)
{
	if (!table)
		return;
	fprintf(to, "=head1 FIGURES\n\n"
		    "L<nbdring-stats(7)> writes down, of this layer:\n\n"
		    "=over 4\n\n");
	for (; table->name; table++) {
		fprintf(to, "=item B<%s>\n\n", table->name);
		nr_print_pod_text(to, table->help);
		fprintf(to, ".\n\n");
	}
	fprintf(to, "=back\n\n");
}
