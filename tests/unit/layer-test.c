/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See layer-test.h.
 *
 * Each request has a small header in front (the server does the same) with what
 * the test needs to know of it.  A client belongs to one thread at a time;
 * nothing here is shared between clients but the stack.
 */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "backends/table.h"
#include "filters/table.h"
#include "nbdring/checked.h"
#include "ring/ring.h"
#include "src/stack/params.h"
#include "src/stack/shared.h"

#define PLAN_MAX 8192
#define LAYERS_MAX 16
#define SETTINGS_MAX 64
#define MAP_EXTENTS 64
#define MAP_TEXT 16384

struct layer_client {
	struct layer_test *test;
	struct nr_worker worker;
	char map[MAP_TEXT];
};

struct layer_test {
	struct nr_stack *stack;
	struct nr_shared *shared;
	bool shared_is_ours;
	uint64_t segment_bytes;
	bool takes_pipes;
	unsigned client_count;
	struct layer_client *client;
	struct nr_keeper keeper; /* layers may have requests of their own until the end */
	atomic_bool closing;
};

/* What stands before each request; 16 bytes aligned, as scratch must be. */
struct header {
	bool finished;
	uint8_t *data; /* of a write: our copy */
	struct nr_segment *segments;
} __attribute__((aligned(16)));

struct parsed {
	char text[PLAN_MAX];
	struct nr_plan plan;
	struct nr_plan_layer layer[LAYERS_MAX];
	struct nr_setting setting[SETTINGS_MAX];
};

static struct header *header_of(const struct nr_request *req)
{
	return (struct header *)((uintptr_t)req - sizeof(struct header));
}

/* Plans. */

static const struct nr_layer_type *find_in(const struct nr_layer_type *const *table,
					   const char *name)
{
	for (; table && *table; table++)
		if (strcmp((*table)->name, name) == 0)
			return *table;
	return NULL;
}

static const struct nr_layer_type *find_type(const struct layer_options *options, const char *name)
{
	const struct nr_layer_type *type = find_in(options->types, name);

	if (!type)
		type = find_in(nr_filters, name);
	if (!type)
		type = find_in(nr_backends, name);
	if (!type)
		fprintf(stderr, "no layer is called '%s'\n", name);
	LAYER_CHECK(type);
	return type;
}

static void parse_setting(struct nr_setting *setting, const struct nr_layer_type *type, char *word)
{
	char *equals = strchr(word, '=');
	const struct nr_param *row;

	if (equals) {
		*equals = '\0';
		*setting = (struct nr_setting){ word, equals + 1 };
		return;
	}
	row = nr_params_main(type->params);
	if (!row)
		fprintf(stderr, "%s has no main parameter for '%s'\n", type->name, word);
	LAYER_CHECK(row);
	*setting = (struct nr_setting){ row->name, word };
}

/*
 * What is in *TEXT up to SEPARATOR, which moves behind it; NULL at the end.  Quotes keep
 * separators, and are taken away with the last of them to be looked for, the space.
 */
static char *next_part(char **text, char separator)
{
	char *part, *to, *from;
	bool quoted = false;

	while (separator == ' ' && **text == ' ')
		++*text;
	if (!**text)
		return NULL;
	for (part = to = from = *text; *from && (quoted || *from != separator); from++) {
		if (*from == '\'')
			quoted = !quoted;
		if (*from != '\'' || separator != ' ')
			*to++ = *from;
	}
	LAYER_CHECK(!quoted);
	*text = *from ? from + 1 : from;
	*to = '\0';
	return part;
}

__attribute__((format(printf, 3, 0))) static void parse_plan(struct parsed *parsed,
							     const struct layer_options *options,
							     const char *format, va_list arguments)
{
	char *rest = parsed->text, *text;
	size_t settings = 0;
	int length = vsnprintf(parsed->text, sizeof(parsed->text), format, arguments);

	LAYER_CHECK(length >= 0 && (size_t)length < sizeof(parsed->text));
	parsed->plan = (struct nr_plan){
		.read_only = options->read_only,
		.worker_count = options->workers ? options->workers : 1,
		.aligner = options->aligner,
		.surroundings = options->surroundings,
	};
	/* The text goes from the client down, the plan from the backend up. */
	parsed->plan.layers = &parsed->layer[LAYERS_MAX];
	while ((text = next_part(&rest, '|'))) {
		char *word = next_part(&text, ' ');
		struct nr_plan_layer *layer;

		LAYER_CHECK(word && parsed->plan.layer_count < LAYERS_MAX);
		layer = --parsed->plan.layers;
		parsed->plan.layer_count++;
		layer->type = find_type(options, word);
		layer->settings = &parsed->setting[settings];
		layer->setting_count = 0;
		while ((word = next_part(&text, ' '))) {
			LAYER_CHECK(settings < SETTINGS_MAX);
			parse_setting(&parsed->setting[settings++], layer->type, word);
			layer->setting_count++;
		}
	}
	LAYER_CHECK(parsed->plan.layer_count > 0);
}

__attribute__((format(printf, 4, 0))) static int open_plan(struct layer_test *t,
							   const struct layer_options *options,
							   struct nr_error *error,
							   const char *format, va_list arguments)
{
	struct parsed *parsed = calloc(1, sizeof(*parsed));
	int err = 0;

	LAYER_CHECK(parsed);
	parse_plan(parsed, options, format, arguments);
	if (options->beside) {
		t->shared = options->beside->shared;
	} else {
		err = nr_shared_create(&t->shared, &parsed->plan, error);
		t->shared_is_ours = !err;
	}
	parsed->plan.shared = t->shared;
	if (!err)
		err = nr_stack_open(&t->stack, &parsed->plan,
				    options->export_name ? options->export_name : "", error);
	free(parsed);
	return err;
}

static void free_test(struct layer_test *t)
{
	if (t->shared_is_ours)
		nr_shared_destroy(t->shared);
	free(t->client);
	free(t);
}

/* Life. */

static void make_client(struct layer_test *t, unsigned index, const struct layer_options *options)
{
	struct layer_client *c = &t->client[index];
	struct nr_ring *ring = NULL;
	struct nr_error error;

	if (options->ring) {
		static const struct nr_ring_options small = {
			.entries = 64,
			.arena_bytes = (size_t)32 << 20,
			.pinned_bytes = (size_t)2 << 20,
		};

		if (nr_ring_create(&ring, &small, &error)) {
			fprintf(stderr, "%s\n", error.text);
			abort();
		}
	}
	c->test = t;
	nr_worker_init(&c->worker, ring, index, t->client_count);
	if (ring)
		nr_ring_set_context(ring, &c->worker);
	if (options->slots_max)
		c->worker.slots_max = options->slots_max;
}

static bool keep(struct nr_keeper *keeper)
{
	struct layer_test *t =
		(struct layer_test *)((char *)keeper - offsetof(struct layer_test, keeper));

	return !atomic_load(&t->closing);
}

static void let_go(struct nr_keeper *keeper, struct nr_worker *worker)
{
	/* layer_test_close sees the workers' slots. */
}

__attribute__((format(printf, 3, 0))) static struct layer_test *try_open(
	const struct layer_options *options, struct nr_error *error, const char *plan,
	va_list arguments)
{
	static const struct layer_options defaults;
	struct layer_test *t = calloc(1, sizeof(*t));

	LAYER_CHECK(t);
	if (!options)
		options = &defaults;
	if (open_plan(t, options, error, plan, arguments)) {
		free_test(t);
		return NULL;
	}
	t->keeper = (struct nr_keeper){ keep, let_go };
	nr_stack_set_keeper(t->stack, &t->keeper);
	t->segment_bytes = options->segment_bytes;
	t->takes_pipes = options->takes_pipes;
	t->client_count = options->workers ? options->workers : 1;
	t->client = calloc(t->client_count, sizeof(*t->client));
	LAYER_CHECK(t->client);
	for (unsigned i = 0; i < t->client_count; i++)
		make_client(t, i, options);
	return t;
}

struct layer_test *layer_test_open(const struct layer_options *options, const char *plan, ...)
{
	struct nr_error error = { 0 };
	struct layer_test *t;
	va_list arguments;

	va_start(arguments, plan);
	t = try_open(options, &error, plan, arguments);
	va_end(arguments);
	if (!t) {
		fprintf(stderr, "%s: %s\n", plan, error.text);
		abort();
	}
	return t;
}

struct layer_test *layer_test_try(const struct layer_options *options, struct nr_error *error,
				  const char *plan, ...)
{
	struct layer_test *t;
	va_list arguments;

	memset(error, 0, sizeof(*error));
	va_start(arguments, plan);
	t = try_open(options, error, plan, arguments);
	va_end(arguments);
	LAYER_CHECK(t || (error->code < 0 && error->text[0] && !strchr(error->text, '\n')));
	return t;
}

int layer_test_refused(const struct layer_options *options, struct nr_error *error,
		       const char *plan, ...)
{
	static const struct layer_options defaults;
	struct layer_test *t = calloc(1, sizeof(*t));
	va_list arguments;
	int err;

	LAYER_CHECK(t);
	memset(error, 0, sizeof(*error));
	va_start(arguments, plan);
	err = open_plan(t, options ? options : &defaults, error, plan, arguments);
	va_end(arguments);
	free_test(t);
	LAYER_CHECK(err < 0);
	LAYER_CHECK(error->code == err);
	LAYER_CHECK(error->text[0] && !strchr(error->text, '\n'));
	return err;
}

void layer_test_close(struct layer_test *t)
{
	atomic_store(&t->closing, true);
	for (unsigned i = 0; i < t->client_count; i++) {
		struct nr_worker *worker = &t->client[i].worker;
		struct nr_ring *ring = worker->ring;

		/* What a layer left behind (an answer nobody waits for) may end now. */
		while (ring && nr_ring_in_flight(ring))
			nr_ring_turn(ring, true);
		nr_worker_run(worker);
		/* A request of a layer's own may have parked itself for a turn. */
		for (unsigned turns = 0; worker->slots_used && turns < 20000; turns++) {
			bool idle = !worker->ready && (!ring || !nr_ring_in_flight(ring));

			/* or may be with a thread that computes, or sleep */
			if (idle && (turns > 1000 || (!ring && worker->sleeper_count)))
				usleep(1000);
			if (ring)
				nr_ring_turn(ring, !worker->ready && !idle);
			nr_worker_run(worker);
		}
		LAYER_CHECK(worker->slots_used == 0);
	}
	nr_stack_close(t->stack);
	for (unsigned i = 0; i < t->client_count; i++) {
		struct nr_ring *ring = t->client[i].worker.ring;

		nr_worker_fini(&t->client[i].worker);
		nr_ring_destroy(ring);
	}
	free_test(t);
}

struct nr_stack *layer_test_stack(struct layer_test *t)
{
	return t->stack;
}

const struct nr_traits *layer_test_traits(struct layer_test *t)
{
	return nr_stack_traits(t->stack);
}

uint64_t layer_test_size(struct layer_test *t)
{
	return nr_stack_size(t->stack);
}

struct layer_client *layer_client(struct layer_test *t, unsigned worker)
{
	LAYER_CHECK(worker < t->client_count);
	return &t->client[worker];
}

struct nr_worker *layer_client_worker(struct layer_client *c)
{
	return &c->worker;
}

struct layer_test *layer_client_test(struct layer_client *c)
{
	return c->test;
}

/* Requests. */

static void finished(struct nr_request *req)
{
	LAYER_CHECK(!header_of(req)->finished);
	header_of(req)->finished = true;
}

/* The data of a write: a copy that ends where the bytes end, cut into segments. */
static void attach_data(struct layer_client *c, struct nr_request *req, const void *data)
{
	const struct nr_traits *traits = nr_stack_traits(c->test->stack);
	uint64_t align = nr_max(traits->memory_align, sizeof(void *));
	uint64_t part = c->test->segment_bytes ? c->test->segment_bytes : req->length;
	struct header *header = header_of(req);
	void *memory;

	part = nr_max(nr_round_down(part, traits->memory_align), traits->memory_align);
	while ((req->length + part - 1) / part > NR_SEGMENTS_MAX)
		part *= 2;
	LAYER_CHECK(posix_memalign(&memory, align, req->length ? req->length : 1) == 0);
	header->data = memcpy(memory, data, req->length);
	header->segments = calloc((req->length + part - 1) / part + 1, sizeof(*header->segments));
	LAYER_CHECK(header->segments);
	for (uint64_t at = 0; at < req->length; at += part)
		header->segments[req->segment_count++] = (struct nr_segment){
			.data = header->data + at,
			.length = nr_min(part, req->length - at),
		};
	req->segments = header->segments;
}

struct nr_request *layer_start(struct layer_client *c, enum nr_operation operation, uint32_t flags,
			       uint64_t offset, uint64_t length, const void *data,
			       struct nr_extents *list)
{
	struct nr_request *req = nr_request_get(&c->worker, c->test->stack, sizeof(struct header));

	LAYER_CHECK(req);
	*header_of(req) = (struct header){ 0 };
	req->operation = operation;
	req->flags = flags;
	req->offset = offset;
	req->length = length;
	req->internal.finished = finished;
	req->internal.takes_pipe = c->test->takes_pipes;
	if (operation == NR_WRITE)
		attach_data(c, req, data);
	if (list) {
		req->extents = list;
		list->start = offset;
		list->next = offset;
		list->end = offset + length;
		list->count = 0;
	}
	nr_stack_submit(c->test->stack, req);
	LAYER_CHECK(!header_of(req)->finished);
	return req;
}

bool layer_finished(const struct nr_request *req)
{
	return header_of(req)->finished;
}

void layer_turn(struct layer_client *c)
{
	if (c->worker.ring)
		nr_ring_turn(c->worker.ring, false);
	nr_worker_run(&c->worker);
}

int layer_wait(struct layer_client *c, struct nr_request *req)
{
	nr_worker_run(&c->worker);
	while (!layer_finished(req)) {
		if (c->worker.ring)
			nr_ring_turn(c->worker.ring, !c->worker.ready);
		else if (!c->worker.ready && !atomic_load(&c->worker.resumed))
			sched_yield(); /* another thread has it */
		nr_worker_run(&c->worker);
	}
	/* A failed read has no answer, a successful one has all of it. */
	if (req->operation == NR_READ) {
		uint64_t answered = 0;

		for (uint32_t i = 0; i < req->segment_count; i++)
			answered += req->segments[i].length;
		LAYER_CHECK(answered == (req->error ? 0 : req->length));
	}
	return req->error;
}

void layer_end(struct layer_client *c, struct nr_request *req)
{
	struct header *header = header_of(req);

	LAYER_CHECK(header->finished && req->worker == &c->worker);
	if (header->data) {
		/* Layers put back what they changed. */
		LAYER_CHECK(req->operation == NR_WRITE && req->segments == header->segments);
		free(header->data);
		free(header->segments);
		req->segments = NULL;
		req->segment_count = 0;
	}
	nr_request_release(req, sizeof(struct header));
}

/* As nr_request_copy_out, and out of pipes, which are empty then. */
static void copy_answer(const struct nr_request *req, uint8_t *to)
{
	for (uint32_t i = 0; i < req->segment_count; i++) {
		const struct nr_segment *segment = &req->segments[i];
		const struct nr_buffer *owner = segment->owner;

		if (!segment->data)
			memset(to, 0, segment->length);
		else if (!owner || owner->kind != NR_BUFFER_PIPE)
			memcpy(to, segment->data, segment->length);
		else
			LAYER_CHECK(read(owner->pipe, to, segment->length) ==
				    (ssize_t)segment->length);
		to += segment->length;
	}
}

/* Start, wait, and check that a request comes back as it went. */
static int run(struct layer_client *c, enum nr_operation operation, uint32_t flags, uint64_t offset,
	       uint64_t length, const void *data, void *answer, struct nr_extents *list)
{
	struct nr_request *req = layer_start(c, operation, flags, offset, length, data, list);
	int err = layer_wait(c, req);

	LAYER_CHECK(err <= 0);
	LAYER_CHECK(req->operation == operation && req->flags == flags);
	LAYER_CHECK(req->offset == offset && req->length == length);
	if (!err && answer)
		copy_answer(req, answer);
	layer_end(c, req);
	return err;
}

int layer_read(struct layer_client *c, uint64_t offset, uint64_t length, void *data)
{
	uint64_t max = nr_stack_traits(c->test->stack)->block_max, done = 0;
	int err;

	do {
		uint64_t part = nr_min(length - done, max);

		err = run(c, NR_READ, 0, offset + done, part, NULL, (char *)data + done, NULL);
		done += part;
	} while (!err && done < length);
	return err;
}

int layer_write(struct layer_client *c, uint64_t offset, uint64_t length, const void *data,
		uint32_t flags)
{
	uint64_t max = nr_stack_traits(c->test->stack)->block_max, done = 0;
	int err;

	do {
		uint64_t part = nr_min(length - done, max);

		err = run(c, NR_WRITE, flags, offset + done, part, (const char *)data + done, NULL,
			  NULL);
		done += part;
	} while (!err && done < length);
	return err;
}

int layer_trim(struct layer_client *c, uint64_t offset, uint64_t length, uint32_t flags)
{
	return run(c, NR_TRIM, flags, offset, length, NULL, NULL, NULL);
}

int layer_zero(struct layer_client *c, uint64_t offset, uint64_t length, uint32_t flags)
{
	return run(c, NR_ZERO, flags, offset, length, NULL, NULL, NULL);
}

int layer_cache(struct layer_client *c, uint64_t offset, uint64_t length)
{
	return run(c, NR_CACHE, 0, offset, length, NULL, NULL, NULL);
}

int layer_flush(struct layer_client *c)
{
	return run(c, NR_FLUSH, 0, 0, 0, NULL, NULL, NULL);
}

int layer_resize(struct layer_client *c, uint64_t size)
{
	return run(c, NR_RESIZE, 0, size, 0, NULL, NULL, NULL);
}

int layer_extents(struct layer_client *c, uint64_t offset, uint64_t length, uint32_t flags,
		  struct nr_extents *list)
{
	int err = run(c, NR_EXTENTS, flags, offset, length, NULL, NULL, list);
	uint64_t sum = 0;

	if (err)
		return err;
	LAYER_CHECK(list->count > 0 && list->count <= list->capacity);
	for (uint32_t i = 0; i < list->count; i++) {
		LAYER_CHECK(list->extent[i].length > 0);
		LAYER_CHECK(i == 0 || list->extent[i].status != list->extent[i - 1].status);
		sum += list->extent[i].length;
	}
	LAYER_CHECK(sum <= length && list->next == offset + sum);
	return 0;
}

const char *layer_map(struct layer_client *c, uint64_t offset, uint64_t length)
{
	static const char *const names[] = { "data", "hole", "zero", "hole,zero" };
	struct nr_extent extent[MAP_EXTENTS];
	uint64_t end = offset + length, run_bytes = 0, status = 0;
	size_t used = 0;

	while (offset < end) {
		struct nr_extents list = { .extent = extent, .capacity = MAP_EXTENTS };

		LAYER_CHECK(layer_extents(c, offset, end - offset, 0, &list) == 0);
		for (uint32_t i = 0; i < list.count; i++) {
			const struct nr_extent *found = &list.extent[i];

			LAYER_CHECK(found->status < 4);
			if (run_bytes && found->status != status) {
				used += (size_t)snprintf(c->map + used, MAP_TEXT - used,
							 "%" PRIu64 ":%s ", run_bytes,
							 names[status]);
				LAYER_CHECK(used < MAP_TEXT);
				run_bytes = 0;
			}
			status = found->status;
			run_bytes += found->length;
		}
		offset = list.next;
	}
	snprintf(c->map + used, MAP_TEXT - used, "%" PRIu64 ":%s", run_bytes, names[status]);
	return c->map;
}

int layer_fill(struct layer_client *c, uint64_t offset, uint64_t length, uint8_t byte)
{
	size_t max = nr_stack_traits(c->test->stack)->block_max;
	uint8_t *data = malloc(max);
	int err = 0;

	LAYER_CHECK(data);
	memset(data, byte, max);
	while (length && !err) {
		uint64_t part = nr_min(length, max);

		err = layer_write(c, offset, part, data, 0);
		offset += part;
		length -= part;
	}
	free(data);
	return err;
}

bool layer_is(struct layer_client *c, uint64_t offset, uint64_t length, uint8_t byte)
{
	size_t max = nr_stack_traits(c->test->stack)->block_max;
	uint8_t *data = calloc(1, max);
	bool is = true;

	LAYER_CHECK(data);
	while (length && is) {
		uint64_t part = nr_min(length, max);

		LAYER_CHECK(layer_read(c, offset, part, data) == 0);
		for (uint64_t i = 0; i < part && is; i++) {
			is = data[i] == byte;
			if (!is)
				fprintf(stderr, "byte %" PRIu64 " is 0x%02x, not 0x%02x\n",
					offset + i, data[i], byte);
		}
		offset += part;
		length -= part;
	}
	free(data);
	return is;
}
