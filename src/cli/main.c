/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command: read the options, then inform or serve.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backends/table.h"
#include "filters/filters.h"
#include "filters/table.h"
#include "src/cli/help.h"
#include "src/cli/layers.h"
#include "src/cli/options.h"
#include "src/cli/qemu.h"
#include "src/cli/secrets.h"
#include "src/cli/serve.h"
#include "src/cli/words.h"
#include "src/log/log.h"

static const struct nr_catalog catalog = { .backends = nr_backends, .filters = nr_filters };

/* A layer wants the server to end: the same way as anybody else. */
static void stop(const char *why)
{
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "stopping: %s", why);
	kill(getpid(), SIGTERM);
}

static void log_line(const struct nr_layer *layer, enum nr_layer_log_level level, const char *line)
{
	static const enum nr_log_level levels[] = {
		[NR_LAYER_ERROR] = NR_LOG_ERROR,
		[NR_LAYER_WARNING] = NR_LOG_WARNING,
		[NR_LAYER_INFO] = NR_LOG_INFO,
		[NR_LAYER_DEBUG] = NR_LOG_DEBUG,
	};

	const struct nr_log_fields about = {
		.export_name = layer->export_name,
		.layer = layer->type->name,
	};

	/* A module may pass anything. */
	if ((unsigned)level >= sizeof(levels) / sizeof(levels[0]))
		level = NR_LAYER_ERROR;
	nr_log_about(levels[level], NR_LOG_LAYER, &about, "%s", line);
}

static const struct nr_surroundings surroundings = {
	.parse = nr_words_parse,
	.forget = nr_words_forget,
	.fetch = nr_secrets_fetch_within,
	.stop = stop,
	.log = log_line,
};

/* Serve what the words say.  Returns the exit status. */
static int serve(const struct nr_options *options, struct nr_error *error)
{
	struct nr_plan plan = { .aligner = &nr_blocksize_type, .surroundings = &surroundings };
	int status = 1;
	int err;

	nr_words_set_catalog(&catalog);
	err = nr_layers_plan(&plan, &catalog, &options->filters, &options->words, error);
	if (!err)
		err = nr_secrets_fetch(&plan, error);
	if (!err)
		err = nr_serve(options, &plan, &status, error);
	nr_layers_free(&plan);
	return err ? 1 : status;
}

/* A full disk or a closed pipe must not look like success. */
static int inform(const struct nr_options *options, bool as_qemu, struct nr_error *error)
{
	int err = 0;

	if (as_qemu)
		nr_qemu_inform(stdout, options);
	else
		err = nr_inform(stdout, options, &catalog, error);

	if (!err && (fflush(stdout) || ferror(stdout)))
		err = nr_error_set(error, -1, "standard output cannot be written");
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct nr_error error = { .code = 0 };
	bool as_qemu = nr_qemu_is_name(argv[0]);
	struct nr_options options;
	int status = 1, err;

	if (as_qemu)
		nr_log_identify("qemu-nbd", NULL);
	err = as_qemu ? nr_qemu_parse(&options, argc, argv, &error)
		      : nr_options_parse(&options, argc, argv, &error);
	if (!err) {
		if (options.name)
			nr_log_identify("nbdring", options.name);
		status = options.action == NR_ACTION_SERVE ? serve(&options, &error)
							   : inform(&options, as_qemu, &error);
	}
	if (error.code)
		fprintf(stderr, "%s: %s\n", nr_log_who(), error.text);
	nr_options_free(&options);
	return status;
}
