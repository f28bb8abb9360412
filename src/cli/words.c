/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Words to a plan.  Words are parted by blanks; '…' and "…" keep blanks together and
 * may hold the other kind, so that a leg of a leg can be written.  There are no
 * variables and no backslashes: what the shell has left is taken as it is.
 */
#include "src/cli/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const struct nr_catalog *catalog;

struct nr_plan_memory {
	char *text; /* cut into words */
	struct nr_strings filters, words;
	struct nr_plan plan; /* owns the layers that were handed out */
};

void nr_words_set_catalog(const struct nr_catalog *c)
{
	catalog = c;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

/*
 * Take the next word off *AT, without its quotes, in place.  NULL: no more; *AT is
 * NULL when a quote was not closed.
 */
static char *next_word(char **at)
{
	char *in = *at, *start, *out, quote = 0;

	while (is_blank(*in))
		in++;
	start = out = in;
	if (!*in)
		return NULL;
	for (; *in && (quote || !is_blank(*in)); in++) {
		if (quote && *in == quote)
			quote = 0;
		else if (!quote && (*in == '\'' || *in == '"'))
			quote = *in;
		else
			*out++ = *in;
	}
	if (quote) {
		*at = NULL;
		return NULL;
	}
	*at = *in ? in + 1 : in;
	*out = '\0';
	return start;
}

static int add(struct nr_strings *list, const char *word)
{
	const char **more = realloc(list->item, (list->count + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	list->item = more;
	list->item[list->count++] = word;
	return 0;
}

static int split(struct nr_plan_memory *memory, const char *words, struct nr_error *error)
{
	static const char filter[] = "--filter=";
	char *at, *word;

	memory->text = strdup(words);
	if (!memory->text)
		return nr_error_system(error, -ENOMEM, "'%s'", words);
	at = memory->text;
	while ((word = next_word(&at)) != NULL) {
		int err;

		if (strncmp(word, filter, sizeof(filter) - 1) == 0)
			err = add(&memory->filters, word + sizeof(filter) - 1);
		else if (strncmp(word, "--", 2) == 0)
			return nr_error_set(error, -EINVAL,
					    "'%s' is no part of a stack; only --filter=NAME is",
					    word);
		else
			err = add(&memory->words, word);
		if (err)
			return nr_error_system(error, err, "'%s'", words);
	}
	if (!at)
		return nr_error_set(error, -EINVAL, "a quote is not closed in: %s", words);
	return 0;
}

/*
 * Parameters of a filter may stand behind it, before the backend: bring the backend,
 * the first word that is no key=value, to the front.
 */
static void backend_first(struct nr_strings *words)
{
	for (size_t i = 0; i < words->count; i++) {
		const char *backend = words->item[i];

		if (nr_layers_key_length(backend))
			continue;
		memmove(&words->item[1], &words->item[0], i * sizeof(words->item[0]));
		words->item[0] = backend;
		return;
	}
}

int nr_words_parse(const char *words, struct nr_plan *plan, struct nr_plan_memory **out,
		   struct nr_error *error)
{
	struct nr_plan_memory *memory = calloc(1, sizeof(*memory));
	int err;

	*out = memory;
	if (!memory)
		return nr_error_system(error, -ENOMEM, "'%s'", words);
	err = split(memory, words, error);
	backend_first(&memory->words);
	if (!err)
		err = nr_layers_plan(&memory->plan, catalog, &memory->filters, &memory->words,
				     error);
	if (err)
		return err;
	plan->layers = memory->plan.layers;
	plan->layer_count = memory->plan.layer_count;
	return 0;
}

void nr_words_forget(struct nr_plan_memory *memory)
{
	if (!memory)
		return;
	nr_layers_free(&memory->plan);
	free(memory->filters.item);
	free(memory->words.item);
	free(memory->text);
	free(memory);
}
