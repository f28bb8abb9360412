/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A table of parameters in words: help for the terminal, POD for the manual, and
 * the phrases that error messages use too, so that all three say the same.
 *
 * Pure: reads tables, writes to the stream it is given.
 */
#include "src/stack/params-text.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/stack/params.h"

#define HELP_WIDTH 80
#define HELP_COLUMN 26 /* where the right-hand column begins */

const char *nr_size_text(uint64_t bytes, char text[NR_SIZE_TEXT_MAX])
{
	static const char letters[] = "KMGTPE";
	int power = 0;

	while (bytes && bytes % 1024 == 0 && power < (int)sizeof(letters) - 1) {
		bytes /= 1024;
		power++;
	}
	if (power)
		snprintf(text, NR_SIZE_TEXT_MAX, "%" PRIu64 "%c", bytes, letters[power - 1]);
	else
		snprintf(text, NR_SIZE_TEXT_MAX, "%" PRIu64, bytes);
	return text;
}

/* The largest value there is, as far as the row or its type sets a limit. */
static uint64_t largest(const struct nr_param *row)
{
	uint64_t most = row->type == NR_PARAM_SIZE ? NR_SIZE_MAX : UINT64_MAX;

	return row->max && row->max < most ? row->max : most;
}

/* Did anyone set an upper limit, or is it only that of the type? */
static bool is_bounded(const struct nr_param *row)
{
	return row->max && (row->type != NR_PARAM_SIZE || row->max < NR_SIZE_MAX);
}

static const char *number_text(const struct nr_param *row, uint64_t n, char text[NR_SIZE_TEXT_MAX])
{
	if (row->type == NR_PARAM_SIZE)
		return nr_size_text(n, text);
	snprintf(text, NR_SIZE_TEXT_MAX, "%" PRIu64, n);
	return text;
}

const char *nr_param_range(const struct nr_param *row, char text[NR_RANGE_TEXT_MAX])
{
	char low[NR_SIZE_TEXT_MAX], high[NR_SIZE_TEXT_MAX];

	snprintf(text, NR_RANGE_TEXT_MAX, "from %s to %s", number_text(row, row->min, low),
		 number_text(row, largest(row), high));
	return text;
}

void nr_param_choices(const struct nr_param *row, char *text, size_t room)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; row->choices[i] && used < room; i++) {
		const char *between = ", ";

		if (i == 0)
			between = "";
		else if (!row->choices[i + 1])
			between = " or ";
		used += (size_t)snprintf(text + used, room - used, "%s%s", between,
					 row->choices[i]);
	}
}

void nr_print_help_row(FILE *to, const char *left, const char *text)
{
	int column = fprintf(to, "  %s", left);

	/* A left side that is too long gets a line for itself. */
	if (column > HELP_COLUMN - 2) {
		fputc('\n', to);
		column = 0;
	}
	column += fprintf(to, "%*s", HELP_COLUMN - column, "");
	while (*text) {
		int length = (int)strcspn(text, " ");

		if (column > HELP_COLUMN && column + 1 + length > HELP_WIDTH)
			column = fprintf(to, "\n%*s", HELP_COLUMN, "") - 1;
		column += fprintf(to, "%s%.*s", column > HELP_COLUMN ? " " : "", length, text);
		text += length;
		text += strspn(text, " ");
	}
	fputc('\n', to);
}

void nr_print_pod_text(FILE *to, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			fputs("E<lt>", to);
			break;
		case '>':
			fputs("E<gt>", to);
			break;
		default:
			fputc(*text, to);
			break;
		}
	}
}

static const char *value_name(const struct nr_param *row)
{
	return row->value ? row->value : "VALUE";
}

/* Does the row say more about its numbers than that they are numbers? */
static bool has_range(const struct nr_param *row)
{
	return (row->type == NR_PARAM_SIZE || row->type == NR_PARAM_UINT) &&
	       (row->min || is_bounded(row));
}

static void print_range(FILE *to, const struct nr_param *row)
{
	char text[NR_RANGE_TEXT_MAX];

	if (is_bounded(row))
		fputs(nr_param_range(row, text), to);
	else
		fprintf(to, "at least %s", number_text(row, row->min, text));
}

/*
 * What follows from the row, in the order a reader asks for it: "required; from 1
 * to 64K".  Empty when nothing does.
 */
static void make_facts(const struct nr_param *row, bool pod, char *facts, size_t room)
{
	FILE *to = fmemopen(facts, room, "w");
	const char *between = "";
	char choices[512];

	facts[0] = '\0';
	if (!to)
		return;
	if (row->flags & NR_PARAM_REQUIRED) {
		fprintf(to, "required");
		between = "; ";
	}
	if (row->type == NR_PARAM_CHOICE) {
		nr_param_choices(row, choices, sizeof(choices));
		fprintf(to, "%scan be %s", between, choices);
		between = "; ";
	}
	if (has_range(row)) {
		fputs(between, to);
		print_range(to, row);
		between = "; ";
	}
	if (nr_param_repeats(row)) {
		fprintf(to, "%smay be given more than once", between);
		between = "; ";
	}
	if (row->fallback && row->fallback[0])
		fprintf(to, pod ? "%sdefault C<<< %s >>>" : "%sdefault %s", between, row->fallback);
	fclose(to);
}

static void help_row(FILE *to, const struct nr_param *row)
{
	char left[128], facts[1024], text[2048];

	snprintf(left, sizeof(left), row->flags & NR_PARAM_MAIN ? "[%s=]%s" : "%s=%s", row->name,
		 value_name(row));
	make_facts(row, false, facts, sizeof(facts));
	snprintf(text, sizeof(text), facts[0] ? "%s (%s)" : "%s", row->help, facts);
	nr_print_help_row(to, left, text);
}

void nr_params_help(FILE *to, const struct nr_param *table)
{
	for (; table && table->name; table++)
		help_row(to, table);
}

void nr_params_manual(FILE *to, const struct nr_param *table)
{
	char facts[1024];

	if (!table || !table->name) {
		fprintf(to, "This layer takes no parameters.\n\n");
		return;
	}
	fprintf(to, "=over 4\n\n");
	for (; table->name; table++) {
		fprintf(to,
			table->flags & NR_PARAM_MAIN ? "=item [B<%s=>]I<%s>\n\n"
						     : "=item B<%s=>I<%s>\n\n",
			table->name, value_name(table));
		if (table->manual) {
			fprintf(to, "%s\n\n", table->manual);
		} else {
			nr_print_pod_text(to, table->help);
			fprintf(to, ".\n\n");
		}
		make_facts(table, true, facts, sizeof(facts));
		if (facts[0])
			fprintf(to, "%c%s.\n\n", toupper((unsigned char)facts[0]), facts + 1);
	}
	fprintf(to, "=back\n\n");
}
