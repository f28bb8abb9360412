/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `luks`: the disk that is encrypted in the LUKS container below.
 *
 * When it is opened, the header is read and a key slot is opened with the passphrase
 * (luks-header.h); from then on requests are moved behind the header, and data is encrypted
 * on its way down and decrypted on its way up (luks-cipher.h), into a buffer of its own:
 * what is written is the client's, and what was read may be shared.  Long ones are done by
 * threads that compute, short ones at once.
 *
 * A hole below is a range of zeroes, which are decrypted like anything else, so there are
 * none above.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/filters.h"
#include "filters/luks-cipher.h"
#include "filters/luks-header.h"
#include "filters/window.h"
#include "nbdring/checked.h"
#include "nbdring/secret.h"

#define INLINE_MAX 65536u       /* bytes that are done at once */
#define MEMORY_WAIT_NS 1000000u /* between two looks for memory … */
#define MEMORY_WAITS 30000u     /* … of which there are so many: 30 s */
#define KEY_FILE_MAX ((size_t)8 << 20)
#define KEY_FILE_ROOM 65536u /* for one that does not say how long it is */
#define COMPUTERS_MAX 64u    /* threads that compute, in one process */

struct luks {
	const char *passphrase, *passphrase_file, *header;
	uint64_t slot, max_memory, max_seconds;
	bool discard;
	unsigned workers;
	struct nr_luks_facts facts;
	struct nr_luks_cipher *cipher;
};

enum step { STEP_NONE, STEP_ENCRYPT, STEP_DECRYPT };

struct state {
	enum step step; /* what is to be done, or being done */
	bool computed;  /* it has been done, with this result */
	int result;
	unsigned waits;           /* for memory */
	struct nr_buffer *buffer; /* what is made, or NULL */
	uint8_t *data;
	struct nr_segment *segments; /* write: what came from above */
	uint32_t segment_count;
	struct nr_segment segment;
};

static const struct nr_param params[] = {
	{ .name = "passphrase",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_SECRET,
	  .offset = offsetof(struct luks, passphrase),
	  .value = "SECRET",
	  .help = "the passphrase, or where it is: - asks for it, +FILE, -FD",
	  .manual = "The passphrase. On the command line itself it is seen by everybody on the "
		    "machine; better are C<passphrase=->, which asks for it on the terminal, "
		    "C<passphrase=+FILE>, which reads the first line of a file, and "
		    "C<passphrase=-FD>, which reads that from a descriptor. The end of the line "
		    "does not belong to it." },
	{ .name = "luks-passphrase-file",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_AGAIN,
	  .offset = offsetof(struct luks, passphrase_file),
	  .value = "PATH",
	  .help = "a file that is the passphrase, every byte of it",
	  .manual = "A file whose contents are the passphrase, with everything that is in it, "
		    "also the end of a line: as B<cryptsetup> has it with C<--key-file>. It is "
		    "read whenever the disk is opened. 8 MiB at most." },
	{ .name = "luks-key-slot",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct luks, slot),
	  .fallback = "32",
	  .max = 32,
	  .value = "N",
	  .help = "which key slot to try; 32: all of them",
	  .manual = "Try this key slot only (0 to 7 of LUKS1, 0 to 31 of LUKS2). Otherwise they "
		    "are tried one after the other, and each that does not fit takes its time." },
	{ .name = "luks-header",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_AGAIN,
	  .offset = offsetof(struct luks, header),
	  .value = "PATH",
	  .help = "a file with the header, if it is not on the disk itself",
	  .manual = "A file with the header, where that was made with C<cryptsetup --header>. "
		    "The disk below then begins with data, or wherever the header says." },
	{ .name = "luks-discard",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct luks, discard),
	  .fallback = "no",
	  .value = "yes|no",
	  .help = "pass trim requests on",
	  .manual = "Pass trim requests on to the disk below. Whoever sees that then sees which "
		    "parts of the disk are in use, so without this there is no trimming. What "
		    "was trimmed reads as anything." },
	{ .name = "luks-max-kdf-memory",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct luks, max_memory),
	  .fallback = "1G",
	  .min = 32768,
	  .max = (uint64_t)4 << 40,
	  .value = "SIZE",
	  .help = "memory that opening a key slot may take",
	  .manual = "Refuse headers that ask for more memory than this when a key is derived from "
		    "the passphrase. However many disks are opened, this is done for one at a "
		    "time. B<cryptsetup> makes headers that ask for 1 GiB at most." },
	{ .name = "luks-max-kdf-time",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct luks, max_seconds),
	  .fallback = "120",
	  .min = 1,
	  .max = 1000000,
	  .value = "SECONDS",
	  .help = "time that trying the key slots may take, by an estimate",
	  .manual = "Refuse headers that ask for so much work that trying the passphrase on the "
		    "key slots would take more than this. It is an estimate, by what a slow "
		    "machine does: a million iterations of PBKDF2 a second, or Argon2 over one "
		    "gigabyte." },
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	const struct luks *f = layer->instance;

	if (!f->passphrase == !f->passphrase_file)
		return nr_error_set(error, -EINVAL,
				    "write either passphrase= or luks-passphrase-file=, so that it "
				    "is known what opens the container");
	return 0;
}

/* The passphrase. */

struct passphrase {
	char *bytes; /* memory for secrets */
	size_t count;
};

static int read_passphrase_from(int fd, struct passphrase *p)
{
	struct stat st;
	size_t room = KEY_FILE_ROOM;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > KEY_FILE_MAX)
		return -EFBIG;
	if (S_ISREG(st.st_mode))
		room = (size_t)st.st_size + 1;
	p->bytes = nr_secret_alloc(room);
	if (!p->bytes)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read(fd, p->bytes + p->count, room - p->count);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			p->count += (size_t)n;
		if (p->count == room)
			return -EFBIG;
	}
}

static int get_passphrase(const struct luks *f, struct passphrase *p, struct nr_error *error)
{
	int fd, err;

	if (!f->passphrase_file) {
		p->count = strlen(f->passphrase);
		p->bytes = nr_secret_alloc(p->count + 1);
		if (!p->bytes)
			return nr_error_system(error, -ENOMEM, "the passphrase");
		memcpy(p->bytes, f->passphrase, p->count);
		return 0;
	}
	fd = open(f->passphrase_file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return nr_error_system(error, -errno, "%s", f->passphrase_file);
	err = read_passphrase_from(fd, p);
	close(fd);
	return err ? nr_error_system(error, err, "%s", f->passphrase_file) : 0;
}

/* Opening. */

static int read_from_below(void *context, uint64_t offset, uint64_t length, void *data,
			   struct nr_error *error)
{
	return nr_read_below(context, offset, length, data, error);
}

static int read_from_file(void *context, uint64_t offset, uint64_t length, void *data,
			  struct nr_error *error)
{
	const int *fd = context;
	char *to = data;

	while (length > 0) {
		ssize_t n = pread(*fd, to, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return nr_error_system(error, n < 0 ? -errno : -EIO,
					       "the header cannot be read");
		to += n;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int unlock_with(struct nr_layer *layer, const struct nr_luks_source *source,
		       struct nr_luks_volume *volume, struct nr_error *error)
{
	const struct luks *f = layer->instance;
	struct passphrase p = { .bytes = NULL };
	int err = get_passphrase(f, &p, error);
	const struct nr_luks_unlock how = {
		.passphrase = p.bytes,
		.passphrase_bytes = p.count,
		.slot = f->slot < NR_LUKS_SLOTS ? (int)f->slot : NR_LUKS_ANY_SLOT,
		.limits = { .memory = f->max_memory, .seconds = f->max_seconds },
	};

	if (!err)
		err = nr_luks_unlock(source, &how, volume, error);
	if (err == -EACCES && f->passphrase_file && p.count && p.bytes[p.count - 1] == '\n')
		nr_error_set(error, err,
			     "the passphrase in %s does not fit; it ends with the end of a line, "
			     "which is part of it: passphrase=+FILE leaves that out",
			     f->passphrase_file);
	nr_secret_free(p.bytes);
	return err;
}

/* From the file luks-header=. */
static int unlock_detached(struct nr_layer *layer, struct nr_luks_volume *volume,
			   struct nr_error *error)
{
	const struct luks *f = layer->instance;
	struct nr_luks_source source = { .read = read_from_file };
	int fd = open(f->header, O_RDONLY | O_CLOEXEC), err;
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	source.context = &fd;
	source.size = end < 0 ? 0 : (uint64_t)end;
	if (end < 0)
		err = nr_error_system(error, -errno, "%s", f->header);
	else
		err = unlock_with(layer, &source, volume, error);
	if (fd >= 0)
		close(fd);
	return err;
}

static int unlock(struct nr_layer *layer, struct nr_luks_volume *volume, struct nr_error *error)
{
	const struct luks *f = layer->instance;
	const struct nr_luks_source source = {
		.size = nr_layer_size(layer->below),
		.read = read_from_below,
		.context = layer,
	};
	int err;

	if (f->header)
		return unlock_detached(layer, volume, error);
	err = unlock_with(layer, &source, volume, error);
	if (!err && volume->facts.payload == 0) {
		nr_secret_free(volume->key);
		volume->key = NULL;
		return nr_error_set(error, -EINVAL,
				    "this is a header without data; name it with luks-header=, and "
				    "the disk with the data below");
	}
	return err;
}

static unsigned count_computers(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return (unsigned)nr_min((uint64_t)count, COMPUTERS_MAX);
}

static int open_luks(struct nr_layer *layer, struct nr_error *error)
{
	struct luks *f = layer->instance;
	struct nr_luks_volume volume = { .key = NULL };
	struct nr_luks_scheme scheme;
	int err = unlock(layer, &volume, error);

	if (err)
		return err;
	f->facts = volume.facts;
	f->workers = layer->worker_count;
	scheme = (struct nr_luks_scheme){
		.cipher = f->facts.cipher,
		.mode = f->facts.mode,
		.key = volume.key,
		.key_bytes = f->facts.key_bytes,
		.sector = f->facts.sector,
		.iv_first = f->facts.iv_first,
		.context_count = f->workers + count_computers(),
	};
	err = nr_luks_cipher_create(&f->cipher, &scheme, error);
	nr_secret_free(volume.key);
	if (err)
		return err;
	nr_layer_log(layer, NR_LAYER_DEBUG, "key slot %d, %s-%s with %zu bits, sectors of %u bytes",
		     volume.slot, f->facts.cipher, f->facts.mode, 8 * f->facts.key_bytes,
		     f->facts.sector);
	if (volume.mended)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "one of the two copies of the LUKS header is damaged; cryptsetup open "
			     "or cryptsetup repair mend it");
	return 0;
}

static void close_luks(struct nr_layer *layer)
{
	struct luks *f = layer->instance;

	nr_luks_cipher_free(f->cipher);
	f->cipher = NULL;
}

static int describe_size(const struct nr_luks_facts *facts, struct nr_traits *t,
			 struct nr_error *error)
{
	if (t->size < facts->payload || facts->length > t->size - facts->payload)
		return nr_error_set(error, -EINVAL,
				    "the container is cut off: its data begins at byte %" PRIu64
				    "%s, and the disk below has %" PRIu64 " bytes",
				    facts->payload, facts->length ? " and does not fit" : "",
				    t->size);
	if (!nr_is_aligned(facts->payload, t->block_min))
		return nr_error_set(error, -EINVAL,
				    "the data begins at byte %" PRIu64 ", which does not fit the "
				    "%u-byte blocks below; put --filter=blocksize between",
				    facts->payload, t->block_min);
	t->size = facts->length ? facts->length : t->size - facts->payload;
	t->size = nr_round_down(t->size, facts->sector);
	return 0;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct luks *f = layer->instance;
	int err = describe_size(&f->facts, t, error);

	if (err)
		return err;
	t->block_min = (uint32_t)nr_max(t->block_min, f->facts.sector);
	t->block_preferred = (uint32_t)nr_max(t->block_preferred, t->block_min);
	t->block_max -= t->block_max % t->block_min;
	t->memory_align = 1;
	t->support[NR_CAP_ZERO] = NR_EMULATE;
	t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	if (t->support[NR_CAP_EXTENTS] != NR_NATIVE || !t->context_count)
		t->support[NR_CAP_EXTENTS] = NR_EMULATE;
	if (!f->discard)
		t->support[NR_CAP_TRIM] = NR_NONE;
	if (f->facts.length)
		t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

/* Data. */

/* Where a walk through segments is. */
struct place {
	const struct nr_segment *segment;
	uint64_t from; /* bytes of it that are behind us */
};

/* LENGTH bytes from PLACE on, which moves behind them. */
static void gather(struct place *place, uint8_t *to, uint64_t length)
{
	while (length > 0) {
		const struct nr_segment *s = place->segment;
		uint64_t part = nr_min(s->length - place->from, length);

		if (s->data)
			memcpy(to, s->data + place->from, part);
		else
			memset(to, 0, part);
		to += part;
		length -= part;
		place->from += part;
		if (place->from == s->length)
			*place = (struct place){ s + 1, 0 };
	}
}

/*
 * All segments of REQ into the buffer: whole sectors from where they lie, holes and those
 * that lie in pieces by way of the buffer.  Any thread.
 */
static int transform(struct luks *f, const struct nr_request *req, struct state *s, unsigned hint)
{
	struct nr_luks_context *context = nr_luks_context_take(f->cipher, hint);
	struct place place = { req->segments, 0 };
	int err = 0;

	for (uint64_t at = 0; at < req->length && !err;) {
		const struct nr_segment *segment = place.segment;
		uint64_t part = nr_round_down(segment->length - place.from, f->facts.sector);
		uint8_t *to = s->data + at;
		const uint8_t *from = to;

		if (part && segment->data) {
			from = segment->data + place.from;
			place.from += part;
			if (place.from == segment->length)
				place = (struct place){ segment + 1, 0 };
		} else {
			part = nr_max(part, f->facts.sector);
			gather(&place, to, part);
		}
		err = s->step == STEP_ENCRYPT
			      ? nr_luks_encrypt(context, req->offset + at, from, to, part)
			      : nr_luks_decrypt(context, req->offset + at, from, to, part);
		at += part;
	}
	nr_luks_context_give(context);
	return err;
}

static void compute(struct nr_layer *layer, struct nr_request *req)
{
	struct luks *f = layer->instance;
	struct state *s = nr_scratch(layer, req);

	s->result = transform(f, req, s, f->workers + (unsigned)((uintptr_t)req >> 7));
	s->computed = true;
}

/* The data is encrypted: it goes down in the place of the client's. */
static void pass_write(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	const struct luks *f = layer->instance;

	s->step = STEP_NONE;
	s->segments = req->segments;
	s->segment_count = req->segment_count;
	s->segment = (struct nr_segment){ s->data, req->length, NULL };
	req->segments = &s->segment;
	req->segment_count = 1;
	nr_window_enter(req, f->facts.payload);
	nr_pass(layer, req);
}

static void give_buffer(struct state *s)
{
	if (s->buffer)
		s->buffer->release(s->buffer);
	s->buffer = NULL;
}

/* What was to be done is done, or could not be. */
static void go_on(struct nr_layer *layer, struct nr_request *req, int err)
{
	struct state *s = nr_scratch(layer, req);

	if (!err && s->step == STEP_ENCRYPT) {
		pass_write(layer, req, s);
		return;
	}
	if (!err) {
		nr_answer_clear(req);
		/* The answer takes the buffer over, also when it fails. */
		err = nr_answer_data(req, s->data, req->length, s->buffer) ? 0 : -EIO;
		s->buffer = NULL;
	}
	give_buffer(s);
	nr_finish(layer, req, err);
}

static void begin(struct nr_layer *layer, struct nr_request *req)
{
	struct luks *f = layer->instance;
	struct state *s = nr_scratch(layer, req);

	s->buffer = nr_buffer_get(req->worker, req->length, &s->data);
	if (!s->buffer && s->waits++ < MEMORY_WAITS)
		nr_sleep(layer, req, MEMORY_WAIT_NS);
	else if (!s->buffer)
		go_on(layer, req, -ENOMEM);
	else if (req->length > INLINE_MAX)
		nr_compute(layer, req, compute);
	else
		go_on(layer, req, transform(f, req, s, nr_worker_index(req->worker)));
}

static void resume(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	if (s->computed)
		go_on(layer, req, s->result);
	else
		begin(layer, req);
}

/* Requests. */

static void submit_resize(struct nr_layer *layer, struct nr_request *req)
{
	const struct luks *f = layer->instance;

	if (!nr_is_aligned(req->offset, f->facts.sector)) {
		nr_finish(layer, req, -EINVAL);
		return;
	}
	/* Both are below 2^63; the choke point below refuses a sum that is not. */
	req->offset += f->facts.payload;
	nr_pass(layer, req);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct luks *f = layer->instance;
	struct state *s = nr_scratch(layer, req);

	*s = (struct state){ .step = STEP_NONE };
	if (req->operation == NR_WRITE) {
		s->step = STEP_ENCRYPT;
		begin(layer, req);
	} else if (req->operation == NR_RESIZE) {
		submit_resize(layer, req);
	} else if (req->operation == NR_EXTENTS && req->metadata == 0) {
		nr_extents_add(req->extents, req->length, 0);
		nr_finish(layer, req, 0);
	} else {
		nr_window_enter(req, f->facts.payload);
		nr_pass(layer, req);
	}
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	const struct luks *f = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (req->operation == NR_RESIZE)
		req->offset -= f->facts.payload;
	else
		nr_window_leave(req, f->facts.payload);
	if (req->operation == NR_WRITE) {
		req->segments = s->segments;
		req->segment_count = s->segment_count;
		give_buffer(s);
	}
	if (req->operation == NR_READ && !req->error) {
		s->step = STEP_DECRYPT;
		begin(layer, req);
		return;
	}
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_luks_type = {
	.abi = NR_LAYER_ABI,
	.name = "luks",
	.summary = "serves what is encrypted in the LUKS container below",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct luks),
	.request_size = sizeof(struct state),
	.check = check,
	.open = open_luks,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.computes = true,
	.resume = resume,
	.close = close_luks,
};
