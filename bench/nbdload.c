/*
 * nbdload: a load generator for NBD servers that costs so little itself that the server's
 * cost is what shows. io_uring, all requests of a turn in one gather send, large receive
 * windows, answers parsed in place. What it says and understands is the client's side of
 * src/protocol, which the backend nbd speaks as well; how it moves bytes is its own.
 *
 * The parts are in load/: options and target (what to do), client (handshake), conn,
 * answers and load (the measured time), idle (holding connections), report.
 */
#include "bench/load/idle.h"
#include "bench/load/load.h"
#include "bench/load/reconnect.h"
#include "bench/load/report.h"
#include "bench/common/ringsetup.h"

#include <err.h>
#include <stdlib.h>

static struct client *open_all(const struct options *o, const struct target *t)
{
	struct client *clients = calloc(o->connections, sizeof(*clients));
	struct client_error error;

	if (!clients)
		errx(1, "out of memory for %u connections", o->connections);
	for (unsigned i = 0; i < o->connections; i++) {
		if (!client_open(&clients[i], i, t, o, &error))
			errx(1, "connection %u: %s", i, error.text);
		if (clients[i].agreement.reply_style != clients[0].agreement.reply_style ||
		    clients[i].agreement.info.size != clients[0].agreement.info.size)
			errx(1, "connection %u got another size or form of replies than the first",
			     i);
	}
	return clients;
}

static void report(const struct options *o, const struct client *c, const struct load_result *r)
{
	if (o->json)
		report_json(o, c, r);
	else
		report_text(o, c, r);
}

static void load(const struct options *o, const struct target *t, struct load_result *result)
{
	struct client *clients;

	raise_file_limit();
	clients = open_all(o, t);
	load_run(o, clients, result);
	report(o, &clients[0], result);
	for (unsigned i = 0; i < o->connections; i++)
		client_close(&clients[i]);
	free(clients);
}

int main(int argc, char **argv)
{
	static struct load_result result;
	struct options options;
	struct target target;
	struct client last;

	options_parse(&options, argc, argv);
	target_parse(&target, options.target);
	if (options.idle)
		return idle_run(&options, &target);
	if (options.reconnect) {
		reconnect_run(&options, &target, &last, &result);
		report(&options, &last, &result);
	} else {
		load(&options, &target, &result);
	}
	return result.tally.errors || result.tally.mismatches ? 3 : 0;
}
