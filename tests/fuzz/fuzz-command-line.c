/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the command line, and the stack that it describes.
 *
 * The lines of the input are the words behind the program's name.  They go all the way
 * that a start goes before something is opened: options, layers, parameters of each
 * layer, and what its `check` makes of them; or the answer to --help and its kin.  Each
 * word is taken for a stack within a stack as well, and the whole for a file of words
 * and for one of qemu's images.
 * Modules are never loaded, files of words never opened.
 */
#include <stdio.h>
#include <sys/socket.h>

#include "backends/table.h"
#include "filters/table.h"
#include "src/cli/arguments.h"
#include "src/cli/help.h"
#include "src/cli/layers.h"
#include "src/cli/modules.h"
#include "src/cli/options.h"
#include "src/cli/qemu-image.h"
#include "src/cli/words.h"
#include "src/stack/stack.h"
#include "tests/fuzz/fuzz.h"

#define WORDS_MAX 64

static const struct nr_catalog catalog = { .backends = nr_backends, .filters = nr_filters };

struct command_line {
	int count;
	char *word[WORDS_MAX + 1]; /* each in memory of its own; NULL-terminated */
};

static void make_words(struct command_line *line, const uint8_t *data, size_t size)
{
	line->count = 0;
	line->word[line->count++] = fuzz_string((const uint8_t *)"nbdring", 7);
	while (size > 0 && line->count < WORDS_MAX) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t length = end ? (size_t)(end - data) : size;

		line->word[line->count++] = fuzz_string(data, length);
		length += end != NULL;
		data += length;
		size -= length;
	}
	line->word[line->count] = NULL;
}

static void check_plan(const struct nr_plan *plan, size_t filters)
{
	assert(plan->layer_count == filters + 1);
	assert(plan->layers[0].type->kind == NR_BACKEND);
	for (size_t i = 0; i < plan->layer_count; i++) {
		const struct nr_plan_layer *layer = &plan->layers[i];

		assert(i == 0 || layer->type->kind == NR_FILTER);
		for (size_t j = 0; j < layer->setting_count; j++) {
			assert(layer->settings[j].name);
			assert(layer->settings[j].value);
		}
	}
}

/* All there is to find wrong before something is opened. */
static void prepare(struct nr_plan *plan)
{
	struct nr_error error = { 0 };
	struct nr_stack *stack = NULL;

	plan->worker_count = 1;
	if (nr_stack_prepare(&stack, plan, &error))
		fuzz_check_error(&error);
	else
		assert(stack);
	nr_stack_discard(stack);
}

/* Would a module be loaded? */
static bool names_module(const struct nr_strings *names, size_t count)
{
	for (size_t i = 0; i < names->count && i < count; i++)
		if (nr_module_is_path(names->item[i]))
			return true;
	return false;
}

static bool loads_nothing(const struct nr_options *options)
{
	return !names_module(&options->filters, SIZE_MAX) && !names_module(&options->words, 1) &&
	       !(options->manual_of && nr_module_is_path(options->manual_of));
}

static void plan_stack(const struct nr_options *options)
{
	struct nr_error error = { 0 };
	struct nr_plan plan = { 0 };

	if (nr_layers_plan(&plan, &catalog, &options->filters, &options->words, &error)) {
		fuzz_check_error(&error);
	} else {
		check_plan(&plan, options->filters.count);
		prepare(&plan);
	}
	nr_layers_free(&plan);
}

static void inform(const struct nr_options *options)
{
	struct nr_error error = { 0 };
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	assert(to);
	if (nr_inform(to, options, &catalog, &error))
		fuzz_check_error(&error);
	assert(fclose(to) == 0);
	free(text);
}

static void check_options(const struct nr_options *options)
{
	assert(options->action <= NR_ACTION_MANUAL);
	assert(options->family == AF_UNSPEC || options->family == AF_INET ||
	       options->family == AF_INET6);
	assert(options->workers <= 1024);
	assert(options->handshake_mask <= 0xffff);
	assert(options->single <= 1);
	assert(options->read_only <= 1);
	assert(options->oldstyle <= 1);
	assert(options->export_name);
	assert(!options->pid_file || options->pid_file[0] == '/');
	if (options->action == NR_ACTION_SERVE && options->single) {
		assert(!options->run);
		assert(!options->ports.count);
		assert(!options->unix_paths.count);
	}
}

/* Words come in order and apart, none longer than what it was made from. */
static void try_file(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size), *at = text, *word, *last_end = text;
	const char *problem;
	unsigned line = 1, last_line = 1;

	while ((word = nr_arguments_next(&at, &line, &problem)) != NULL) {
		assert(word >= last_end);
		assert(word + strlen(word) <= at);
		assert(line >= last_line);
		last_end = at;
		last_line = line;
	}
	assert(problem || *at == '\0');
	free(text);
}

static void check_image(const char *text, const char *format, bool as_options)
{
	struct nr_qemu_image image;
	struct nr_error error = { 0 };

	if (nr_qemu_image_read(&image, text, format, as_options, &error))
		fuzz_check_error(&error);
	else
		assert(image.path);
	nr_qemu_image_free(&image);
}

/* As the name of an image, as options of one, and as JSON. */
static void try_image(const uint8_t *data, size_t size)
{
	static const char start[] = "json:";
	char *text = fuzz_string(data, size), *json = malloc(strlen(text) + sizeof(start));

	assert(json);
	memcpy(json, start, strlen(start)); /* NOLINT(bugprone-not-null-terminated-result) */
	memcpy(json + strlen(start), text, strlen(text) + 1);
	check_image(text, "raw", true);
	check_image(text, NULL, false);
	check_image(json, NULL, false);
	free(json);
	free(text);
}

/* Would a file of words be opened? */
static bool names_words(const struct command_line *line)
{
	for (int i = 1; i < line->count; i++)
		if (line->word[i][0] == '@')
			return true;
	return false;
}

static void try_words(const char *words)
{
	struct nr_plan_memory *memory = NULL;
	struct nr_error error = { 0 };
	struct nr_plan plan = { 0 };

	/* Quotes may hide a module's name; no name of a file ends so by chance. */
	if (strchr(words, '/'))
		return;
	if (nr_words_parse(words, &plan, &memory, &error))
		fuzz_check_error(&error);
	else
		prepare(&plan);
	nr_words_forget(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct command_line line = { 0 };
	struct nr_options options;
	struct nr_error error = { 0 };
	char *words[WORDS_MAX + 1];

	nr_words_set_catalog(&catalog);
	make_words(&line, data, size);
	for (int i = 1; i < line.count; i++)
		try_words(line.word[i]);
	try_file(data, size);
	try_image(data, size);
	/* getopt puts them into another order. */
	memcpy(words, line.word, sizeof(words));
	if (names_words(&line)) {
		options = (struct nr_options){ 0 };
	} else if (nr_options_parse(&options, line.count, words, &error)) {
		fuzz_check_error(&error);
	} else {
		check_options(&options);
		if (loads_nothing(&options) && options.action == NR_ACTION_SERVE)
			plan_stack(&options);
		else if (loads_nothing(&options))
			inform(&options);
	}
	nr_options_free(&options);
	for (int i = 0; i < line.count; i++)
		free(line.word[i]);
	return 0;
}
