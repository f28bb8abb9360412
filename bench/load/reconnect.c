/*
 * What a connection costs: connect, negotiate (with --tls the handshake of TLS, too), read one
 * block, say goodbye; then the next one. Each is a request in the report, and its latency is
 * all of that but for the goodbye. One at a time, so that every server does the same work
 * however many it would take at once.
 */
#include "bench/load/reconnect.h"

#include "bench/common/clock.h"
#include "bench/load/cpuof.h"

#include <err.h>
#include <string.h>

static bool is_over(const struct options *o, const struct load_result *result, uint64_t began)
{
	if (o->requests && result->tally.requests >= o->requests)
		return true;
	return o->seconds > 0 && (double)(clock_ns(CLOCK_MONOTONIC) - began) >= o->seconds * 1e9;
}

static void connect_once(const struct options *o, const struct target *t, struct client *client,
			 struct tally *tally)
{
	struct client_error error;
	uint64_t began = clock_ns(CLOCK_MONOTONIC);

	if (!client_open(client, 0, t, o, &error) ||
	    !client_read_once(client, o->range_offset, o->block_size, &error))
		errx(1, "connection %llu: %s", (unsigned long long)tally->requests, error.text);
	hist_add(&tally->latency, clock_ns(CLOCK_MONOTONIC) - began);
	client_close(client);
	tally->requests++;
	tally->bytes += o->block_size;
}

void reconnect_run(const struct options *o, const struct target *t, struct client *last,
		   struct load_result *result)
{
	struct cpuof server = { 0 };
	uint64_t began, client_before, server_before;

	memset(result, 0, sizeof(*result));
	if (o->cpu_of)
		cpuof_open(&server, o->cpu_of);
	client_before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	server_before = cpuof_ns(&server);
	began = clock_ns(CLOCK_MONOTONIC);
	do
		connect_once(o, t, last, &result->tally);
	while (!is_over(o, result, began));
	result->elapsed_ns = clock_ns(CLOCK_MONOTONIC) - began;
	result->server_cpu_ns = cpuof_ns(&server) - server_before;
	result->client_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client_before;
	cpuof_close(&server);
}
