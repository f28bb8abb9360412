/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: one line per event, cleaned, limited, and handed to a sink.
 *
 * Clients come and go by the thousand and each may misbehave, so their lines are
 * limited by a token bucket per class.  What is left out is counted, and said
 * with the next line of that class that passes, or at the end.  Debug lines are
 * asked for (-v), so they are not limited; they always go to standard error.
 *
 * The log is the process's, as standard error is, so its state is at file scope.
 * A line is put together on the caller's stack; the lock covers the bucket and
 * one write that does not block.
 */
#include "src/log/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "src/log/bucket.h"
#include "src/log/line.h"
#include "src/log/sink.h"

#define LINE_MAX_BYTES 1024u
#define SECOND_NS UINT64_C(1000000000)

static struct {
	pthread_mutex_t lock;
	struct nr_sink sink;
	struct nr_bucket bucket[NR_LOG_CLASS_COUNT];
	atomic_bool verbose;
	char who[NR_LOG_WHO_MAX + 1];
	char name[NR_LOG_WHO_MAX + 3]; /* with ": " behind it */
	bool streams;                  /* standard error leads to the journal */
} the_log = {
	.who = "nbdring",
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.sink = NR_SINK_INIT,
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/*
 * A thousand clients may vanish at once and get their line each; after that ten
 * lines a second, which is less than 100 MB a day.
 */
static void init_buckets(uint64_t now)
{
	nr_bucket_init(&the_log.bucket[NR_LOG_SERVER], 0, 0, now);
	nr_bucket_init(&the_log.bucket[NR_LOG_CLIENT], 2000, SECOND_NS / 10, now);
	nr_bucket_init(&the_log.bucket[NR_LOG_REQUEST], 200, SECOND_NS / 10, now);
	nr_bucket_init(&the_log.bucket[NR_LOG_LAYER], 200, SECOND_NS / 10, now);
}

void nr_log_identify(const char *program, const char *name)
{
	snprintf(the_log.who, sizeof(the_log.who), "%s%s%s", program, name ? "/" : "",
		 name ? name : "");
	the_log.name[0] = '\0';
	if (name)
		snprintf(the_log.name, sizeof(the_log.name), "%s: ", name);
	nr_sink_identify(the_log.who, the_log.name);
}

const char *nr_log_who(void)
{
	return the_log.who;
}

int nr_log_open(const char *target, bool verbose)
{
	int err;

	pthread_mutex_lock(&the_log.lock);
	err = nr_sink_open(&the_log.sink, target);
	if (!err) {
		the_log.streams = nr_sink_is_stream();
		init_buckets(now_ns());
	}
	pthread_mutex_unlock(&the_log.lock);
	if (!err)
		atomic_store(&the_log.verbose, verbose);
	return err;
}

/* A class's left-out lines, as a line; the lock is held. */
static void say_left_out(struct nr_bucket *bucket)
{
	char text[80];
	int length;

	if (bucket->left_out == 0)
		return;
	length = snprintf(text, sizeof(text), "%" PRIu64 " lines like this were left out",
			  bucket->left_out);
	if (nr_sink_write(&the_log.sink, NR_LOG_WARNING, text, (size_t)length))
		bucket->left_out = 0;
}

void nr_log_close(void)
{
	pthread_mutex_lock(&the_log.lock);
	for (int i = 0; i < NR_LOG_CLASS_COUNT; i++)
		say_left_out(&the_log.bucket[i]);
	nr_sink_close(&the_log.sink);
	pthread_mutex_unlock(&the_log.lock);
}

void nr_log_reopen(void)
{
	int err = nr_sink_reopen(&the_log.sink);
	char text[128];

	if (err)
		nr_log(NR_LOG_ERROR, NR_LOG_SERVER,
		       "the log file cannot be opened again, the old one stays in use: %s",
		       strerror_r(-err, text, sizeof(text)));
}

bool nr_log_reconnects(void)
{
	return the_log.sink.kind == NR_SINK_SYSLOG || the_log.sink.kind == NR_SINK_JOURNAL;
}

bool nr_log_verbose(void)
{
	return atomic_load_explicit(&the_log.verbose, memory_order_relaxed);
}

static void write_debug(const struct nr_sink_line *line)
{
	struct nr_sink standard_error = NR_SINK_INIT;

	pthread_mutex_lock(&the_log.lock);
	if (the_log.streams)
		standard_error.kind = NR_SINK_STREAM;
	nr_sink_write_line(&standard_error, line);
	pthread_mutex_unlock(&the_log.lock);
}

static void write_limited(enum nr_log_class class, const struct nr_sink_line *line)
{
	struct nr_bucket *bucket = &the_log.bucket[class];

	pthread_mutex_lock(&the_log.lock);
	if (nr_bucket_take(bucket, now_ns())) {
		/* After the line, so that "like this" has something to point at. */
		if (nr_sink_write_line(&the_log.sink, line))
			say_left_out(bucket);
		else
			bucket->left_out++;
	}
	pthread_mutex_unlock(&the_log.lock);
}

void nr_log_at(const struct nr_log_place *place, enum nr_log_level level, enum nr_log_class class,
	       const struct nr_log_fields *fields, const char *format, ...)
{
	char raw[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
	struct nr_sink_line line = {
		.level = level, .text = text, .fields = fields, .place = place
	};
	va_list args;

	if (level == NR_LOG_DEBUG && !nr_log_verbose())
		return;
	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	line.length = nr_line_escape(text, sizeof(text), raw);
	if (level == NR_LOG_DEBUG)
		write_debug(&line);
	else
		write_limited(class, &line);
}
