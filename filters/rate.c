/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * So many bits per second, for the server, for each export and for each connection.
 *
 * There are six buckets (rate-bucket.h): reading and writing have one each, of the
 * server, of the export and of the client.  A request takes from the three that
 * concern it, and sleeps until the latest of the times it is told.  Workers share the
 * words of the buckets and the rates and never wait for each other.
 *
 * What is the server's is in memory that all instances of this use of the filter
 * share, its rate too: an export that is opened later begins with the rate that holds.
 *
 * A rate can come from a file.  A thread reads it twice a second, one of the export's
 * instance, or the one that was started for the server; requests never do.  Then sleepers look up in short intervals, so that someone who
 * was made to wait for an hour profits from a higher rate, too: a time that was
 * worked out from one rate is kept together with that rate, and what is left of it
 * is converted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/filters.h"
#include "filters/policy-text.h"
#include "filters/rate-bucket.h"
#include "filters/watcher.h"
#include "nbdring/checked.h"

#define WATCH_MS 500
#define LOOK_UP_NS 250000000u /* how long a sleeper sleeps at a time when rates may change */

enum direction { READING, WRITING, DIRECTIONS };
enum scope { OF_SERVER, OF_EXPORT, OF_CONNECTION, SCOPES };

/* Of all exports. */
struct server {
	struct nr_bucket bucket[DIRECTIONS];
	_Atomic uint64_t rate; /* bits per second; 0: any */
};

struct rate {
	uint64_t start[SCOPES]; /* bits per second, as given; 0: any */
	const char *file[SCOPES];
	const char *burstiness;
	uint64_t burst;               /* nanoseconds */
	bool changes;                 /* some rate may be another one any time */
	bool watches;                 /* there is a thread */
	bool wrong[SCOPES];           /* the thread's: the file was no good when last seen */
	_Atomic uint64_t now[SCOPES]; /* bits per second; the watcher's to change; not the
				       * server's */
	struct nr_bucket bucket[DIRECTIONS];
	struct server *server;
	struct nr_layer *layer;
	enum scope first, last; /* whose rates are this instance's business */
	struct nr_watcher watcher;
};

/* Of a client. */
struct connection {
	struct nr_bucket bucket[DIRECTIONS];
};

/* Of a request that sleeps. */
struct state {
	uint64_t until[SCOPES]; /* when it may go on */
	uint64_t rate[SCOPES];  /* and the rate by which that was found; 0: no wait */
};

static const char *const file_names[SCOPES] = { "rate-file", "export-rate-file",
						"connection-rate-file" };

/* Requests. */

static uint64_t rate_now(struct rate *r, enum scope scope)
{
	if (scope == OF_SERVER)
		return atomic_load_explicit(&r->server->rate, memory_order_relaxed);
	return atomic_load_explicit(&r->now[scope], memory_order_relaxed);
}

static void set_rate(struct rate *r, enum scope scope, uint64_t rate)
{
	if (scope == OF_SERVER)
		atomic_store(&r->server->rate, rate);
	else
		atomic_store(&r->now[scope], rate);
}

/* Go on, or sleep (on). */
static void sleep_or_pass(struct nr_layer *layer, struct nr_request *req, const struct state *s,
			  uint64_t now)
{
	const struct rate *r = layer->instance;
	uint64_t until =
		nr_max(nr_max(s->until[OF_SERVER], s->until[OF_EXPORT]), s->until[OF_CONNECTION]);

	if (until <= now)
		nr_pass(layer, req);
	else
		nr_sleep(layer, req, r->changes ? nr_min(until - now, LOOK_UP_NS) : until - now);
}

static void take(struct rate *r, struct state *s, enum scope scope, struct nr_bucket *bucket,
		 uint64_t now, uint64_t length)
{
	uint64_t rate = rate_now(r, scope);

	s->rate[scope] = rate;
	s->until[scope] = rate ? nr_bucket_take(bucket, now, length * 8, rate, r->burst) : 0;
}

static void rate_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct rate *r = layer->instance;
	bool writes = req->operation == NR_WRITE;
	struct connection *connection;
	struct state *s;
	uint64_t now;

	/* What carries no data costs nothing on the wire. */
	if ((req->operation != NR_READ && req->operation != NR_WRITE) ||
	    (!rate_now(r, OF_SERVER) && !rate_now(r, OF_EXPORT) && !rate_now(r, OF_CONNECTION))) {
		nr_pass(layer, req);
		return;
	}
	s = nr_scratch(layer, req);
	memset(s, 0, sizeof(*s));
	now = nr_now(req->worker);
	take(r, s, OF_SERVER, &r->server->bucket[writes], now, req->length);
	take(r, s, OF_EXPORT, &r->bucket[writes], now, req->length);
	connection = nr_session_data(layer, req->session);
	if (connection)
		take(r, s, OF_CONNECTION, &connection->bucket[writes], now, req->length);
	sleep_or_pass(layer, req, s, now);
}

static void rate_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct rate *r = layer->instance;
	struct state *s = nr_scratch(layer, req);
	uint64_t now = nr_now(req->worker);

	for (unsigned scope = 0; scope < SCOPES; scope++) {
		uint64_t rate = rate_now(r, scope);

		s->until[scope] = nr_bucket_rescale(s->until[scope], now, s->rate[scope], rate);
		s->rate[scope] = rate;
	}
	sleep_or_pass(layer, req, s, now);
}

/* Files. */

/* 0 and the rate in the file at PATH, -ENOENT, or another error. */
static int read_rate(const char *path, uint64_t *rate)
{
	/* A pipe in its place must not stop us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err = 0;
	char text[64];
	struct stat st;
	ssize_t length;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return -EINVAL;
	}
	length = read(fd, text, sizeof(text));
	if (length < 0)
		err = -errno;
	else if ((size_t)length == sizeof(text) || !nr_policy_rate(text, (size_t)length, rate))
		err = -EINVAL;
	(void)close(fd);
	return err;
}

/* Look at a file again: gone, or no good, and what was said last holds. */
static void look(struct rate *r, enum scope scope)
{
	uint64_t rate = 0;
	int err = read_rate(r->file[scope], &rate);
	bool wrong = err && err != -ENOENT;

	if (!err && rate != rate_now(r, scope)) {
		set_rate(r, scope, rate);
		nr_layer_log(r->layer, NR_LAYER_INFO, "%s=%s: %" PRIu64 " bits per second now",
			     file_names[scope], r->file[scope], rate);
	}
	if (wrong && !r->wrong[scope])
		nr_layer_log(r->layer, NR_LAYER_WARNING,
			     "%s=%s: %s; %" PRIu64 " bits per second "
			     "stay in force",
			     file_names[scope], r->file[scope],
			     err == -EINVAL ? "does not hold a rate" : strerror(-err),
			     rate_now(r, scope));
	r->wrong[scope] = wrong;
}

static void watch(struct nr_watcher *watcher)
{
	struct rate *r = (struct rate *)((char *)watcher - offsetof(struct rate, watcher));
	struct pollfd fds[1];

	while (nr_watcher_wait(watcher, fds, 1, WATCH_MS))
		for (unsigned scope = r->first; scope <= r->last; scope++)
			if (r->file[scope])
				look(r, scope);
}

/* Life. */

static int rate_check(struct nr_layer *layer, struct nr_error *error)
{
	struct rate *r = layer->instance;

	if (!nr_policy_time(r->burstiness, &r->burst) || r->burst == 0)
		return nr_error_set(
			error, -EINVAL,
			"burstiness=%s is not possible: write seconds (2.0), or a "
			"number with ms, us or ns behind it, more than 0 and at most %u "
			"seconds",
			r->burstiness, NR_POLICY_SECONDS_MAX);
	return 0;
}

/* Begin with the rates FIRST to LAST, which are this instance's business. */
static int begin(struct nr_layer *layer, enum scope first, enum scope last, struct nr_error *error)
{
	struct rate *r = layer->instance;
	int err = 0;

	r->layer = layer;
	r->server = nr_shared_data(layer);
	r->first = first;
	r->last = last;
	for (unsigned scope = first; scope <= last; scope++) {
		uint64_t rate = r->start[scope];

		err = r->file[scope] ? read_rate(r->file[scope], &rate) : 0;
		if (err == -EINVAL)
			return nr_error_set(error, err,
					    "%s=%s does not hold a rate: write bits per second "
					    "into it, 0 to 2^63-1, as 1000000 or 1M",
					    file_names[scope], r->file[scope]);
		if (err && err != -ENOENT)
			return nr_error_system(error, err, "%s=%s", file_names[scope],
					       r->file[scope]);
		set_rate(r, scope, rate);
		r->watches = r->watches || r->file[scope];
	}
	err = r->watches ? nr_watcher_start(&r->watcher, watch, error) : 0;
	r->watches = r->watches && !err;
	return err;
}

static int rate_start(struct nr_layer *layer, struct nr_error *error)
{
	return begin(layer, OF_SERVER, OF_SERVER, error);
}

static int rate_open(struct nr_layer *layer, struct nr_error *error)
{
	struct rate *r = layer->instance;

	for (unsigned scope = 0; scope < SCOPES; scope++)
		r->changes = r->changes || r->file[scope];
	return begin(layer, OF_EXPORT, OF_CONNECTION, error);
}

static void rate_close(struct nr_layer *layer)
{
	struct rate *r = layer->instance;

	if (r->watches)
		nr_watcher_stop(&r->watcher);
}

static const struct nr_param rate_params[] = {
	{
		.name = "rate",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct rate, start[OF_SERVER]),
		.fallback = "0",
		.value = "BITSPERSEC",
		.help = "bits per second for all clients of the server together; 0: no limit",
		.manual = "How many bits per second all clients of the server together may "
			  "read, and how many they may write, whichever exports they use.  "
			  "C<K>, C<M>, C<G> and so on stand for powers of 1024.  0 is no limit.",
	},
	{
		.name = "export-rate",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct rate, start[OF_EXPORT]),
		.fallback = "0",
		.value = "BITSPERSEC",
		.help = "bits per second for all clients of an export together; 0: no limit",
		.manual = "The same for all clients of each export.",
	},
	{
		.name = "connection-rate",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct rate, start[OF_CONNECTION]),
		.fallback = "0",
		.value = "BITSPERSEC",
		.help = "bits per second for each connection; 0: no limit",
		.manual = "The same for each connection.",
	},
	{
		.name = "rate-file",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_AGAIN,
		.offset = offsetof(struct rate, file[OF_SERVER]),
		.value = "PATH",
		.help = "file that holds the rate and may change while the server runs",
		.manual = "Take the rate of the server from this file, now and whenever it "
			  "changes.  While there is no such file, what was known last holds, to "
			  "begin with B<rate=>.",
	},
	{
		.name = "export-rate-file",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_AGAIN,
		.offset = offsetof(struct rate, file[OF_EXPORT]),
		.value = "PATH",
		.help = "the same for the rate of each export",
		.manual = "The same for the rate of each export.",
	},
	{
		.name = "connection-rate-file",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_AGAIN,
		.offset = offsetof(struct rate, file[OF_CONNECTION]),
		.value = "PATH",
		.help = "the same for the rate of each connection",
		.manual = "The same for the rate of each connection.",
	},
	{
		.name = "burstiness",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct rate, burstiness),
		.fallback = "2.0",
		.value = "SECONDS",
		.help = "how many seconds' worth a client may catch up on after a pause",
		.manual = "Whoever used less than the rate allows may use more later: up to as "
			  "much as the rate gives in this many seconds.  Values smaller than the "
			  "time of one request at the given rate make the transfer uneven.",
	},
	{ 0 },
};

const struct nr_layer_type nr_rate_type = {
	.abi = NR_LAYER_ABI,
	.name = "rate",
	.summary = "limits the bandwidth of the server, exports and connections",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = rate_params,
	.instance_size = sizeof(struct rate),
	.request_size = sizeof(struct state),
	.session_size = sizeof(struct connection),
	.shared_size = sizeof(struct server),
	.check = rate_check,
	.start = rate_start,
	.stop = rate_close,
	.open = rate_open,
	.submit = rate_submit,
	.contexts_pass = true,
	.resume = rate_resume,
	.close = rate_close,
};
