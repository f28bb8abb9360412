/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What layers may ask of the server around their stack: to stop, and to say something.
 * The stack knows neither the server nor its log; it passes on to whoever made the plan.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/stack/gate.h"
#include "src/stack/stack.h"

#define LINE_MAX_BYTES 1024u /* as the log cuts them */

void nr_stop_server(struct nr_layer *layer, const char *why)
{
	const struct nr_surroundings *surroundings = layer->internal.plan->surroundings;

	if (surroundings && surroundings->stop)
		surroundings->stop(why);
}

bool nr_identity_below(struct nr_layer *layer, uint8_t identity[NR_IDENTITY_BYTES])
{
	struct nr_stack *stack = layer->internal.stack;
	struct nr_layer *backend = nr_stack_bottom(stack), *gate = nr_stack_gate(stack);
	bool told;

	if (!backend->type->identify || (gate && !nr_gate_hold_open(gate)))
		return false;
	told = backend->type->identify(backend, identity);
	if (gate)
		nr_gate_let_go(gate);
	return told;
}

const char *nr_scratch_folder(void)
{
	const char *folder = getenv("TMPDIR");

	return folder && folder[0] == '/' ? folder : "/var/tmp";
}

void nr_layer_log(const struct nr_layer *layer, enum nr_layer_log_level level, const char *format,
		  ...)
{
	const struct nr_surroundings *surroundings = layer->internal.plan->surroundings;
	const char *name = layer->export_name;
	char line[LINE_MAX_BYTES];
	va_list arguments;
	int used;

	if (!surroundings || !surroundings->log)
		return;
	/* A long name must not hide what is said. */
	used = name[0] ? snprintf(line, sizeof(line), "export '%.256s': %.64s: ", name,
				  layer->type->name)
		       : snprintf(line, sizeof(line), "%.64s: ", layer->type->name);
	va_start(arguments, format);
	if (used > 0)
		(void)vsnprintf(line + used, sizeof(line) - (size_t)used, format, arguments);
	va_end(arguments);
	if (used > 0)
		surroundings->log(layer, level, line);
}
