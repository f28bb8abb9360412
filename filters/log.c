/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `log`: a line for every request with its outcome, and for every client
 * that comes and goes.
 *
 * A worker that has a request back puts a record of fixed size into a ring of its
 * own and goes on; a thread of the instance makes lines of the records and writes
 * them.  The worker never writes, never waits and takes no lock.  When its ring is
 * full the record is dropped, and the thread says in the log how many were.
 *
 * A ring has one producer (the worker moves `head`) and one consumer (the thread
 * moves `tail`).  The thread sleeps while there is nothing: it says so in
 * `sleeping`, looks once more, and waits for the semaphore; who puts something into
 * a ring looks at `sleeping` after that, and posts if it was the first to clear it.
 * While it is busy it looks every few milliseconds by itself, so that a steady
 * stream of requests causes no wake-ups.
 *
 * Clients come and go on any thread and seldom: their events are a list under a
 * mutex.  See `round_of` for how their lines get their place among the requests'.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "filters/filters.h"
#include "filters/log-script.h"
#include "filters/operations.h"
#include "filters/output.h"
#include "nbdring/checked.h"

#define RECORDS 4096u /* of a worker; a power of two */
#define ROUND_NANOSECONDS 2000000
#define ROUNDS_BEFORE_SLEEP 50
#define WRITE_BYTES 65536u

struct record {
	uint64_t ended, took; /* nanoseconds */
	uint64_t offset, length;
	uint64_t session; /* 0: the server itself */
	int32_t error;
	uint16_t flags;
	uint8_t operation;
};

struct ring {
	_Atomic uint64_t head; /* records ever put in; the worker's */
	_Atomic uint64_t dropped;
	_Atomic uint64_t tail __attribute__((aligned(64))); /* ever taken; the thread's */
	uint64_t limit;    /* the thread's: head at the beginning of this round */
	uint64_t reported; /* the thread's: of `dropped` */
	struct record record[RECORDS];
} __attribute__((aligned(64)));

/* A client came or went. */
struct event {
	struct event *next;
	uint64_t when;
	uint64_t session;
	bool came;
	uint64_t requests; /* gone: how many there were */
	char *names;       /* came: export and peer, each NUL-ended */
};

/* Of each client. */
struct client {
	_Atomic uint64_t requests;
};

struct log {
	const char *file;
	bool append;
	unsigned format; /* enum format */
	int fd;
	struct ring *ring; /* layer->worker_count of them */
	pthread_t thread;
	sem_t wake;
	_Atomic bool sleeping, stop;
	pthread_mutex_t mutex; /* guards the two below */
	struct event *events, **events_end;
	_Atomic uint64_t lost_events; /* no memory for them */

	/* The thread's own. */
	struct event *left; /* went during the last round */
	struct nr_text text;
	char second_text[32]; /* of `second` */
	time_t second;
	uint64_t lost_lines;    /* could not be written, not said yet */
	uint64_t pending_lines; /* in `text` */
	struct nr_log_script script;
	struct nr_text words; /* for it */
	int64_t real_offset;  /* CLOCK_REALTIME minus CLOCK_MONOTONIC */
};

struct state {
	uint64_t began;
};

enum format { TEXT, JSON };

static const char *const formats[] = { "text", "json", NULL };

static const struct nr_param log_params[] = {
	{ .name = "logfile",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE,
	  .offset = offsetof(struct log, file),
	  .value = "FILE",
	  .help = "File that the log is written to",
	  .manual = "The file that the log is written to.  Several exports, and several C<log>\n"
		    "filters of one stack, may share it.  Without a file and a script, the filter\n"
		    "does nothing." },
	{ .name = "logscript",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_COMMAND,
	  .offset = offsetof(struct log, script.command),
	  .value = "COMMAND",
	  .help = "Command that is run for every line",
	  .manual = "A command for the shell that is run for every line, with what it says in\n"
		    "variables; see L</THE SCRIPT>.  With or without a B<logfile=>." },
	{ .name = "logappend",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct log, append),
	  .fallback = "false",
	  .value = "BOOL",
	  .help = "Keep what is in the file already",
	  .manual = "Write behind what is in the file already, rather than replace it." },
	{ .name = "log-format",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct log, format),
	  .fallback = "text",
	  .choices = formats,
	  .value = "FORMAT",
	  .help = "How lines look",
	  .manual = "C<text>, or C<json>: one JSON object per line." },
	{ .name = NULL },
};

/* On a worker. */

static void wake_thread(struct log *log)
{
	/* Between what was put in and the look at `sleeping`; the thread has its twin. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&log->sleeping, memory_order_relaxed) &&
	    atomic_exchange(&log->sleeping, false))
		sem_post(&log->wake);
}

static void log_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *state = nr_scratch(layer, req);

	state->began = nr_precise_now();
	nr_pass(layer, req);
}

static void log_done(struct nr_layer *layer, struct nr_request *req)
{
	struct log *log = layer->instance;
	const struct state *state = nr_scratch(layer, req);
	struct client *client = nr_session_data(layer, req->session);
	struct ring *ring;
	uint64_t head;
	uint64_t now;

	if (!log->ring) {
		nr_finish(layer, req, req->error);
		return;
	}
	ring = &log->ring[nr_worker_index(req->worker)];
	head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	now = nr_precise_now();
	if (client)
		atomic_fetch_add_explicit(&client->requests, 1, memory_order_relaxed);
	if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) == RECORDS) {
		atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
	} else {
		ring->record[head % RECORDS] = (struct record){
			.ended = now,
			.took = now - state->began,
			.offset = req->offset,
			.length = req->length,
			.session = req->session ? req->session->id : 0,
			.error = req->error,
			.flags = (uint16_t)req->flags,
			.operation = (uint8_t)req->operation,
		};
		atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	}
	wake_thread(log);
	nr_finish(layer, req, req->error);
}

/* Clients.  Any thread. */

static void add_event(struct log *log, const struct event *like, const char *export_name,
		      const char *peer)
{
	size_t names = strlen(export_name) + 1, bytes = names + strlen(peer) + 1;
	struct event *event = log->ring ? malloc(sizeof(*event) + bytes) : NULL;

	if (!log->ring)
		return;
	if (!event) {
		atomic_fetch_add(&log->lost_events, 1);
		return;
	}
	*event = *like;
	event->names = (char *)(event + 1);
	memcpy(event->names, export_name, names);
	memcpy(event->names + names, peer, bytes - names);
	event->next = NULL;
	pthread_mutex_lock(&log->mutex);
	*log->events_end = event;
	log->events_end = &event->next;
	pthread_mutex_unlock(&log->mutex);
	wake_thread(log);
}

static int log_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	const struct event event = { .when = nr_precise_now(),
				     .session = session->id,
				     .came = true };

	add_event(layer->instance, &event, session->export_name ? session->export_name : "",
		  session->peer ? session->peer : "");
	return 0;
}

static void log_leave(struct nr_layer *layer, struct nr_session *session)
{
	const struct client *client = nr_session_data(layer, session);
	const struct event event = {
		.when = nr_precise_now(),
		.session = session->id,
		.requests =
			client ? atomic_load_explicit(&client->requests, memory_order_relaxed) : 0,
	};

	add_event(layer->instance, &event, "", "");
}

/* Lines.  The thread. */

/* The beginning of every line: when. */
static void begin_line(struct log *log, uint64_t when)
{
	int64_t real = (int64_t)when + log->real_offset;
	time_t second = real / 1000000000;
	unsigned micro = (unsigned)(real % 1000000000 / 1000);
	struct tm tm;

	if (second != log->second) {
		log->second = second;
		gmtime_r(&second, &tm);
		strftime(log->second_text, sizeof(log->second_text),
			 log->format == JSON ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &tm);
	}
	if (log->format == JSON)
		nr_text_add(&log->text, "{\"time\":\"%s.%06uZ\"", log->second_text, micro);
	else
		nr_text_add(&log->text, "%s.%06u", log->second_text, micro);
}

static void end_line(struct log *log)
{
	nr_text_add(&log->text, log->format == JSON ? "}\n" : "\n");
	log->pending_lines++;
}

static void add_flags_text(struct nr_text *text, const struct record *r)
{
	unsigned fua = !!(r->flags & NR_FUA);

	if (r->operation == NR_WRITE || r->operation == NR_TRIM)
		nr_text_add(text, " fua=%u", fua);
	if (r->operation == NR_ZERO)
		nr_text_add(text, " trim=%u fua=%u fast=%u", !(r->flags & NR_NO_HOLE), fua,
			    !!(r->flags & NR_FAST_ZERO));
	if (r->operation == NR_EXTENTS)
		nr_text_add(text, " req_one=%u", !!(r->flags & NR_REQ_ONE));
}

static const char *error_name(int error)
{
	const char *name = strerrorname_np(-error);

	return name ? name : "unknown";
}

static const char *const actions[NR_OPERATION_COUNT] = {
	[NR_READ] = "Read", [NR_WRITE] = "Write", [NR_FLUSH] = "Flush",     [NR_TRIM] = "Trim",
	[NR_ZERO] = "Zero", [NR_CACHE] = "Cache", [NR_EXTENTS] = "Extents", [NR_RESIZE] = "Resize",
};

static void request_text(struct nr_text *text, const struct record *r)
{
	nr_text_add(text, " connection=%" PRIu64 " %s", r->session, actions[r->operation]);
	if (r->operation == NR_RESIZE)
		nr_text_add(text, " size=0x%" PRIx64, r->offset);
	else if (r->operation != NR_FLUSH)
		nr_text_add(text, " offset=0x%" PRIx64 " count=0x%" PRIx64, r->offset, r->length);
	add_flags_text(text, r);
	if (r->error)
		nr_text_add(text, " return=-1 error=%s", error_name(r->error));
	else
		nr_text_add(text, " return=0");
	nr_text_add(text, " us=%.1f", (double)r->took / 1000);
}

static void request_json(struct log *log, const struct record *r)
{
	static const char *const flag_names[] = { "fua", "no_hole", "fast_zero", "req_one" };
	struct nr_text *text = &log->text;
	const char *comma = "";

	nr_text_add(text, ",\"event\":\"request\",\"connection\":%" PRIu64 ",\"operation\":\"%s\"",
		    r->session, nr_operation_names[r->operation]);
	if (r->operation == NR_RESIZE)
		nr_text_add(text, ",\"size\":%" PRIu64, r->offset);
	else if (r->operation != NR_FLUSH)
		nr_text_add(text, ",\"offset\":%" PRIu64 ",\"length\":%" PRIu64, r->offset,
			    r->length);
	nr_text_add(text, ",\"flags\":[");
	for (unsigned i = 0; i < 4; i++) {
		if (!(r->flags & 1u << i))
			continue;
		nr_text_add(text, "%s\"%s\"", comma, flag_names[i]);
		comma = ",";
	}
	if (r->error)
		nr_text_add(text, "],\"error\":\"%s\"", error_name(r->error));
	else
		nr_text_add(text, "],\"error\":null");
	nr_text_add(text, ",\"microseconds\":%.3f", (double)r->took / 1000);
}

static bool offers(const struct nr_traits *t, enum nr_capability capability)
{
	return t->support[capability] != NR_NONE;
}

static void came_text(const struct nr_layer *layer, const struct event *e)
{
	struct log *log = layer->instance;
	const struct nr_traits *t = &layer->traits;

	nr_text_add(&log->text, " connection=%" PRIu64 " Connect export=", e->session);
	nr_text_add_quoted(&log->text, e->names);
	nr_text_add(&log->text, " peer=");
	nr_text_add_quoted(&log->text, e->names + strlen(e->names) + 1);
	nr_text_add(&log->text,
		    " size=0x%" PRIx64 " minsize=0x%x prefsize=0x%x maxsize=0x%x write=%d flush=%d "
		    "rotational=%d trim=%d zero=%d fua=%d extents=%d cache=%d fast_zero=%d",
		    nr_layer_size(layer), t->block_min, t->block_preferred, t->block_max,
		    !t->read_only, offers(t, NR_CAP_FLUSH), t->rotational, offers(t, NR_CAP_TRIM),
		    offers(t, NR_CAP_ZERO), offers(t, NR_CAP_FUA), offers(t, NR_CAP_EXTENTS),
		    offers(t, NR_CAP_CACHE), offers(t, NR_CAP_FAST_ZERO));
}

static void came_json(const struct nr_layer *layer, const struct event *e)
{
	struct log *log = layer->instance;

	nr_text_add(&log->text,
		    ",\"event\":\"connect\",\"connection\":%" PRIu64 ",\"export\":", e->session);
	nr_text_add_json(&log->text, e->names);
	nr_text_add(&log->text, ",\"peer\":");
	nr_text_add_json(&log->text, e->names + strlen(e->names) + 1);
	nr_text_add(&log->text, ",\"size\":%" PRIu64 ",\"read_only\":%s", nr_layer_size(layer),
		    layer->traits.read_only ? "true" : "false");
}

/* The script. */

static void tell(const struct nr_layer *layer, const char *const further[2])
{
	struct log *log = layer->instance;

	nr_text_add(&log->words, "%c", '\0');
	if (log->words.failed)
		log->script.untold++;
	else if (!nr_log_script_run(&log->script, log->words.data, further))
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "logscript=%s cannot be run; it is tried again with the next line",
			     log->script.command);
	log->words.used = 0;
	log->words.failed = false;
}

static void tell_record(const struct nr_layer *layer, const struct record *r)
{
	struct log *log = layer->instance;

	if (!log->script.command)
		return;
	nr_text_add(&log->words, "type=LEAVE act=%s", actions[r->operation]);
	request_text(&log->words, r);
	tell(layer, NULL);
}

static void tell_event(const struct nr_layer *layer, const struct event *e)
{
	struct log *log = layer->instance;
	char *names[2] = { NULL, NULL };

	if (!log->script.command)
		return;
	nr_text_add(&log->words, "type=PRINT act=%s connection=%" PRIu64,
		    e->came ? "Connect" : "Disconnect", e->session);
	if (!e->came)
		nr_text_add(&log->words, " transactions=%" PRIu64, e->requests);
	else
		nr_text_add(&log->words, " size=0x%" PRIx64 " write=%d", nr_layer_size(layer),
			    !layer->traits.read_only);
	if (e->came && asprintf(&names[0], "export=%s", e->names) < 0)
		names[0] = NULL;
	if (names[0] && asprintf(&names[1], "peer=%s", e->names + strlen(e->names) + 1) < 0)
		names[1] = NULL;
	tell(layer, (const char *const *)names);
	free(names[0]);
	free(names[1]);
}

static void add_event_line(const struct nr_layer *layer, const struct event *e)
{
	struct log *log = layer->instance;

	begin_line(log, e->when);
	if (e->came && log->format == JSON)
		came_json(layer, e);
	else if (e->came)
		came_text(layer, e);
	else if (log->format == JSON)
		nr_text_add(&log->text,
			    ",\"event\":\"disconnect\",\"connection\":%" PRIu64
			    ",\"requests\":%" PRIu64,
			    e->session, e->requests);
	else
		nr_text_add(&log->text, " connection=%" PRIu64 " Disconnect transactions=%" PRIu64,
			    e->session, e->requests);
	end_line(log);
	tell_event(layer, e);
}

static void add_dropped_line(struct log *log, uint64_t lines)
{
	begin_line(log, nr_precise_now());
	if (log->format == JSON)
		nr_text_add(&log->text, ",\"event\":\"dropped\",\"lines\":%" PRIu64, lines);
	else
		nr_text_add(&log->text, " Dropped lines=%" PRIu64, lines);
	end_line(log);
	log->pending_lines--; /* not a line that could be lost */
}

static void write_out(struct log *log)
{
	if (log->text.failed || (log->text.used && log->fd >= 0 &&
				 nr_output_write(log->fd, log->text.data, log->text.used)))
		log->lost_lines += log->pending_lines;
	log->text.used = 0;
	log->text.failed = false;
	log->pending_lines = 0;
}

/* One round of the thread. */

static struct event *take_events(struct log *log)
{
	struct event *events;

	pthread_mutex_lock(&log->mutex);
	events = log->events;
	log->events = NULL;
	log->events_end = &log->events;
	pthread_mutex_unlock(&log->mutex);
	return events;
}

static void append(struct event **list, struct event *more)
{
	while (*list)
		list = &(*list)->next;
	*list = more;
}

/*
 * Which events belong to this round, and up to where the rings do (`limit`).  A
 * client's coming must not be later than its first request, so events are taken
 * once more after the rings were looked at; its going must not be earlier than its
 * last one, so what went after the first look waits for the next round.
 */
static struct event *round_of(struct nr_layer *layer)
{
	struct log *log = layer->instance;
	struct event *events = log->left, *late;

	log->left = NULL;
	append(&events, take_events(log));
	for (unsigned i = 0; i < layer->worker_count; i++)
		log->ring[i].limit = atomic_load_explicit(&log->ring[i].head, memory_order_acquire);
	late = take_events(log);
	while (late) {
		struct event *event = late;

		late = event->next;
		event->next = NULL;
		append(event->came ? &events : &log->left, event);
	}
	return events;
}

/* The ring whose next record is the oldest of this round; NULL: there is none. */
static struct ring *oldest_ring(struct nr_layer *layer)
{
	struct log *log = layer->instance;
	struct ring *oldest = NULL;
	uint64_t when = UINT64_MAX;

	for (unsigned i = 0; i < layer->worker_count; i++) {
		struct ring *ring = &log->ring[i];
		uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

		if (tail != ring->limit && ring->record[tail % RECORDS].ended < when) {
			when = ring->record[tail % RECORDS].ended;
			oldest = ring;
		}
	}
	return oldest;
}

static void add_record(struct nr_layer *layer, struct ring *ring)
{
	struct log *log = layer->instance;
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	struct record record = ring->record[tail % RECORDS];

	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
	begin_line(log, record.ended);
	if (log->format == JSON)
		request_json(log, &record);
	else
		request_text(&log->text, &record);
	end_line(log);
	tell_record(layer, &record);
}

static void add_what_is_missing(struct nr_layer *layer)
{
	struct log *log = layer->instance;
	uint64_t missing = log->lost_lines + atomic_exchange(&log->lost_events, 0);

	for (unsigned i = 0; i < layer->worker_count; i++) {
		struct ring *ring = &log->ring[i];
		uint64_t dropped = atomic_load_explicit(&ring->dropped, memory_order_relaxed);

		missing += dropped - ring->reported;
		ring->reported = dropped;
	}
	log->lost_lines = 0;
	if (missing) {
		add_dropped_line(log, missing);
		log->pending_lines += missing; /* said again if this line is lost */
	}
}

/* Write what there is, in order of time.  True: there was something. */
static bool do_round(struct nr_layer *layer)
{
	struct log *log = layer->instance;
	struct event *events = round_of(layer);
	struct timespec real;
	bool some = false;

	clock_gettime(CLOCK_REALTIME, &real);
	log->real_offset =
		(int64_t)real.tv_sec * 1000000000 + real.tv_nsec - (int64_t)nr_precise_now();
	for (;;) {
		struct ring *ring = oldest_ring(layer);
		uint64_t tail = ring ? atomic_load_explicit(&ring->tail, memory_order_relaxed) : 0;

		if (events && (!ring || events->when <= ring->record[tail % RECORDS].ended)) {
			struct event *event = events;

			events = event->next;
			add_event_line(layer, event);
			free(event);
		} else if (ring) {
			add_record(layer, ring);
		} else {
			break;
		}
		some = true;
		if (log->text.used >= WRITE_BYTES)
			write_out(log);
	}
	add_what_is_missing(layer);
	write_out(log);
	return some;
}

static bool is_something_there(struct nr_layer *layer)
{
	struct log *log = layer->instance;
	bool some = log->left || atomic_load(&log->stop);

	for (unsigned i = 0; i < layer->worker_count; i++)
		if (atomic_load(&log->ring[i].head) != atomic_load(&log->ring[i].tail) ||
		    atomic_load(&log->ring[i].dropped) != log->ring[i].reported)
			some = true;
	pthread_mutex_lock(&log->mutex);
	if (log->events)
		some = true;
	pthread_mutex_unlock(&log->mutex);
	return some;
}

static void sleep_until_woken(struct nr_layer *layer)
{
	struct log *log = layer->instance;

	atomic_store(&log->sleeping, true);
	atomic_thread_fence(memory_order_seq_cst);
	/* Someone who has cleared `sleeping` already posts, too: that post is waited for. */
	if (is_something_there(layer) && atomic_exchange(&log->sleeping, false))
		return;
	while (sem_wait(&log->wake) && errno == EINTR)
		;
}

static void *log_thread(void *argument)
{
	static const struct timespec pause = { .tv_nsec = ROUND_NANOSECONDS };
	struct nr_layer *layer = argument;
	struct log *log = layer->instance;
	unsigned empty = 0;

	while (!atomic_load(&log->stop)) {
		empty = do_round(layer) ? 0 : empty + 1;
		if (empty < ROUNDS_BEFORE_SLEEP) {
			nanosleep(&pause, NULL);
		} else {
			sleep_until_woken(layer);
			empty = 0;
		}
	}
	do_round(layer);
	do_round(layer); /* those who went late in the last one */
	return NULL;
}

/* Life. */

static size_t ring_bytes(const struct nr_layer *layer)
{
	return layer->worker_count * sizeof(struct ring);
}

/* The thread takes no signals: they are the server's. */
static int start_thread(struct nr_layer *layer)
{
	struct log *log = layer->instance;
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&log->thread, NULL, log_thread, layer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

static void close_file(const struct log *log)
{
	if (log->fd >= 0)
		close(log->fd);
}

static int log_open(struct nr_layer *layer, struct nr_error *error)
{
	struct log *log = layer->instance;
	void *rings;
	int err;

	if (!log->file && !log->script.command)
		return 0;
	log->events_end = &log->events;
	log->second = -1;
	log->script.closing = &log->stop;
	log->fd = log->file ? nr_output_open(log->file, log->append, error) : -1;
	if (log->file && log->fd < 0)
		return nr_error_prefix(error, "logfile");
	rings = mmap(NULL, ring_bytes(layer), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (rings == MAP_FAILED) {
		err = nr_error_system(error, -errno, "rings of %u workers", layer->worker_count);
		close_file(log);
		return err;
	}
	log->ring = rings;
	pthread_mutex_init(&log->mutex, NULL);
	sem_init(&log->wake, 0, 0);
	err = start_thread(layer);
	if (err) {
		sem_destroy(&log->wake);
		pthread_mutex_destroy(&log->mutex);
		munmap(rings, ring_bytes(layer));
		close_file(log);
		return nr_error_system(error, err, "the thread that writes the log");
	}
	return 0;
}

static void log_close(struct nr_layer *layer)
{
	struct log *log = layer->instance;

	if (!log->ring)
		return;
	atomic_store(&log->stop, true);
	sem_post(&log->wake);
	pthread_join(log->thread, NULL);
	if (log->lost_lines)
		nr_layer_log(layer, NR_LAYER_ERROR, "%s: %" PRIu64 " lines could not be written",
			     log->file ? log->file : "logscript", log->lost_lines);
	if (log->script.untold)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "logscript: it was not told of %" PRIu64
			     " requests or clients; it is too slow, or cannot be run",
			     log->script.untold);
	nr_text_free(&log->words);
	nr_text_free(&log->text);
	sem_destroy(&log->wake);
	pthread_mutex_destroy(&log->mutex);
	munmap(log->ring, ring_bytes(layer));
	close_file(log);
}

const struct nr_layer_type nr_log_type = {
	.abi = NR_LAYER_ABI,
	.name = "log",
	.summary = "writes a line per request and client to a file",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = log_params,
	.instance_size = sizeof(struct log),
	.request_size = sizeof(struct state),
	.session_size = sizeof(struct client),
	.open = log_open,
	.admit = log_admit,
	.leave = log_leave,
	.submit = log_submit,
	.done = log_done,
	.contexts_pass = true,
	.data_passes = true,
	.close = log_close,
};
