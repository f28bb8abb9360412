/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which regions of a mirror may differ: bits in memory, and their file (mirror-bitmap.h).
 *
 * A bit is set, in memory and durably, before the write that needs it goes to any leg, and
 * cleared some time after it is no longer needed; for a bit too many costs a copy.  The
 * header, which says what legs are out, is durable before anything is acknowledged that
 * they have missed.
 *
 * The file is written by one batch at a time, on the ring of the worker, with all that has
 * changed meanwhile in the next one.  A batch is under way only while a request waits for
 * it, so none is when the instance is closed.  What the file says of a block is what was
 * last captured of it: `durable` has less than that while a batch is under way, never more.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

/* ---- bits -------------------------------------------------------------- */

static void set_bit(uint64_t *bits, uint64_t index)
{
	bits[index / 64] |= UINT64_C(1) << (index % 64);
}

static void clear_bit(uint64_t *bits, uint64_t index)
{
	bits[index / 64] &= ~(UINT64_C(1) << (index % 64));
}

static void bit_changed(struct nr_intent *intent, uint64_t region)
{
	if (intent->fd >= 0)
		set_bit(intent->dirty, region / NR_BITMAP_BITS);
}

void nr_intent_begin(struct nr_mirror *m, uint64_t offset, uint64_t end)
{
	struct nr_intent *intent = &m->intent;
	uint64_t last = nr_mirror_last_region(m, end);

	for (uint64_t r = nr_mirror_first_region(m, offset); r <= last; r++) {
		m->about[r].writing++;
		assert(m->about[r].writing);
		if (nr_bit(intent->bits, r))
			continue;
		set_bit(intent->bits, r);
		intent->count++;
		bit_changed(intent, r);
	}
}

void nr_intent_touch(struct nr_mirror *m, uint64_t region)
{
	m->about[region].tick = (uint32_t)m->tick;
	m->about[region].epoch = (uint32_t)m->epoch;
	m->last_write = m->epoch;
}

void nr_intent_end(struct nr_mirror *m, uint64_t offset, uint64_t end)
{
	uint64_t last = nr_mirror_last_region(m, end);

	for (uint64_t r = nr_mirror_first_region(m, offset); r <= last; r++) {
		assert(m->about[r].writing > 0);
		m->about[r].writing--;
		nr_intent_touch(m, r);
	}
}

void nr_intent_clean(struct nr_mirror *m)
{
	struct nr_intent *intent = &m->intent;
	uint64_t quiet = m->quiet_s * NR_MIRROR_TICKS_PER_S, words = (m->regions + 63) / 64;

	if (nr_mirror_in_count(m) < m->legs.count)
		return;
	for (uint64_t w = 0; w < words; w++) {
		for (uint64_t left = intent->bits[w]; left; left &= left - 1) {
			uint64_t r = w * 64 + (unsigned)__builtin_ctzll(left);
			const struct nr_mirror_region *about = &m->about[r];

			if (about->writing || about->epoch >= m->flushed ||
			    about->tick + quiet > m->tick || nr_mirror_stale_anywhere(m, r))
				continue;
			clear_bit(intent->bits, r);
			intent->count--;
			bit_changed(intent, r);
		}
	}
}

bool nr_intent_is_durable(const struct nr_mirror *m, uint64_t offset, uint64_t end)
{
	uint64_t last = nr_mirror_last_region(m, end);

	if (m->intent.fd < 0)
		return true;
	for (uint64_t r = nr_mirror_first_region(m, offset); r <= last; r++)
		if (!nr_bit(m->intent.durable, r))
			return false;
	return true;
}

bool nr_intent_is_recorded(const struct nr_mirror *m)
{
	return m->intent.fd < 0 || m->intent.header_durable == m->intent.header_version;
}

bool nr_intent_is_clean(const struct nr_mirror *m)
{
	const struct nr_intent *intent = &m->intent;

	if (intent->fd < 0)
		return true;
	for (uint64_t w = 0; w < (intent->blocks + 63) / 64; w++)
		if (intent->dirty[w])
			return false;
	return nr_intent_is_recorded(m) && !intent->busy;
}

void nr_intent_header_changed(struct nr_mirror *m)
{
	m->intent.header_version++;
}

/* ---- writing ----------------------------------------------------------- */

static void fill_header(const struct nr_mirror *m, struct nr_bitmap_header *header)
{
	*header = (struct nr_bitmap_header){ .size = m->size,
					     .region = m->region,
					     .legs = m->legs.count };
	for (unsigned i = 0; i < m->legs.count; i++) {
		header->name[i] = nr_bitmap_hash(m->words.item[i]);
		header->out[i] = m->leg[i].state != NR_LEG_IN;
	}
}

/* Copy what has changed, up to a batch of it. */
static void capture(struct nr_mirror *m)
{
	struct nr_intent *intent = &m->intent;
	uint64_t words = (intent->blocks + 63) / 64;
	struct nr_bitmap_header header;

	intent->batch_count = intent->batch_done = 0;
	intent->batch_version = intent->header_version;
	if (!nr_intent_is_recorded(m)) {
		fill_header(m, &header);
		nr_bitmap_put_header(intent->buffer, &header);
		intent->batch[intent->batch_count++] = 0;
	}
	for (uint64_t w = 0; w < words; w++) {
		while (intent->dirty[w] && intent->batch_count < NR_MIRROR_BATCH) {
			uint64_t block = w * 64 + (unsigned)__builtin_ctzll(intent->dirty[w]);
			uint64_t *bits = intent->bits + block * NR_BITMAP_WORDS;
			uint64_t *durable = intent->durable + block * NR_BITMAP_WORDS;
			unsigned at = intent->batch_count++;

			intent->dirty[w] &= intent->dirty[w] - 1;
			intent->batch[at] = (uint32_t)block + 1;
			memcpy(intent->captured[at], bits, sizeof(intent->captured[at]));
			nr_bitmap_put_bits(intent->buffer + (size_t)at * NR_BITMAP_BLOCK,
					   (uint32_t)block + 1, bits);
			for (unsigned i = 0; i < NR_BITMAP_WORDS; i++)
				durable[i] &= bits[i];
		}
	}
}

/* It is durable. */
static void adopt(struct nr_intent *intent)
{
	intent->header_durable = intent->batch_version;
	for (unsigned at = 0; at < intent->batch_count; at++) {
		uint64_t *durable;

		if (intent->batch[at] == 0)
			continue;
		durable = intent->durable + (uint64_t)(intent->batch[at] - 1) * NR_BITMAP_WORDS;
		for (unsigned i = 0; i < NR_BITMAP_WORDS; i++)
			durable[i] |= intent->captured[at][i];
	}
}

/* It may be in the file or not: it is neither durable nor done with. */
static void give_up(struct nr_mirror *m, int error)
{
	struct nr_intent *intent = &m->intent;

	intent->failed = true;
	for (unsigned at = 0; at < intent->batch_count; at++)
		if (intent->batch[at])
			set_bit(intent->dirty, intent->batch[at] - 1);
	nr_layer_log(m->layer, NR_LAYER_ERROR, "bitmap %s: %s; writes fail", m->bitmap_path,
		     strerror(-error));
}

static void start(struct nr_mirror *m, struct nr_ring *ring);

/* The batch is over: let those who waited look again. */
static void finish(struct nr_mirror *m, struct nr_ring *ring, int error)
{
	struct nr_intent *intent = &m->intent;
	struct nr_mirror_op *waiting = intent->waiting;

	intent->busy = false;
	intent->waiting = NULL;
	if (error)
		give_up(m, error);
	else
		adopt(intent);
	while (waiting) {
		struct nr_mirror_op *next = waiting->next;

		/* It may wait again, which starts the next batch. */
		nr_mirror_go_on(m, waiting);
		waiting = next;
	}
}

static unsigned run_length(const struct nr_intent *intent)
{
	unsigned first = intent->batch_done, count = 1;

	while (first + count < intent->batch_count &&
	       intent->batch[first + count] == intent->batch[first] + count)
		count++;
	return count;
}

static void synced(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_intent *intent =
		(struct nr_intent *)((char *)c - offsetof(struct nr_intent, completion));

	finish(intent->mirror, ring, c->result < 0 ? (int)c->result : 0);
}

static void written(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_intent *intent =
		(struct nr_intent *)((char *)c - offsetof(struct nr_intent, completion));
	unsigned count = run_length(intent);
	int error = 0;

	if (c->result != (int64_t)count * NR_BITMAP_BLOCK)
		error = c->result < 0 ? (int)c->result : -EIO;
	intent->batch_done += count;
	if (!error && intent->batch_done < intent->batch_count) {
		start(intent->mirror, ring);
	} else if (!error && count < intent->batch_count) {
		c->done = synced;
		nr_ring_fsync(ring, c, intent->fd, true);
	} else {
		finish(intent->mirror, ring, error);
	}
}

/* The next run of neighbouring blocks; the only one is durable when it is done. */
static void start(struct nr_mirror *m, struct nr_ring *ring)
{
	struct nr_intent *intent = &m->intent;
	struct nr_completion *c = &intent->completion;
	unsigned count = run_length(intent);

	c->done = written;
	if (count == intent->batch_count)
		nr_completion_set_rw_flags(c, RWF_DSYNC);
	nr_ring_write(ring, c, intent->fd,
		      intent->buffer + (size_t)intent->batch_done * NR_BITMAP_BLOCK,
		      (size_t)count * NR_BITMAP_BLOCK,
		      (uint64_t)intent->batch[intent->batch_done] * NR_BITMAP_BLOCK);
}

void nr_intent_wait(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_intent *intent = &m->intent;

	assert(intent->fd >= 0);
	op->next = intent->waiting;
	intent->waiting = op;
	if (intent->busy)
		return;
	intent->busy = true;
	intent->failed = false;
	capture(m);
	/* It waits because something has changed. */
	assert(intent->batch_count > 0);
	start(m, nr_worker_ring(op->req->worker));
}

/* ---- opening and closing ----------------------------------------------- */

static int allocate(struct nr_mirror *m, struct nr_error *error)
{
	struct nr_intent *intent = &m->intent;
	size_t words = (size_t)intent->blocks * NR_BITMAP_WORDS;

	intent->bits = calloc(words + 1, sizeof(*intent->bits));
	intent->durable = calloc(words + 1, sizeof(*intent->durable));
	intent->dirty = calloc(intent->blocks / 64 + 1, sizeof(*intent->dirty));
	intent->buffer = calloc(NR_MIRROR_BATCH, NR_BITMAP_BLOCK);
	intent->captured = calloc(NR_MIRROR_BATCH, sizeof(*intent->captured));
	m->about = calloc(m->regions + 1, sizeof(*m->about));
	for (unsigned i = 0; i < m->legs.count; i++) {
		m->leg[i].stale = calloc(words + 1, sizeof(*m->leg[i].stale));
		if (!m->leg[i].stale)
			return nr_error_system(error, -ENOMEM, "opening");
	}
	if (!intent->bits || !intent->durable || !intent->dirty || !intent->buffer ||
	    !intent->captured || !m->about)
		return nr_error_system(error, -ENOMEM, "opening");
	return 0;
}

static int write_all(int fd, const uint8_t *data, size_t length, off_t offset)
{
	while (length) {
		ssize_t n = pwrite(fd, data, length, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		offset += n;
		length -= (size_t)n;
	}
	return 0;
}

/* Blocks from FIRST on up to END, not included, of DATA; stable when it returns. */
static int write_blocks(const struct nr_intent *intent, const uint8_t *data, uint64_t first,
			uint64_t end)
{
	uint64_t at = first * NR_BITMAP_BLOCK;
	int err = write_all(intent->fd, data + at, (end - first) * NR_BITMAP_BLOCK, (off_t)at);

	if (!err && fsync(intent->fd) != 0)
		err = -errno;
	return err;
}

/* All of the file, as it is in memory; the header last, which says that there is a rest. */
static int write_file(struct nr_mirror *m)
{
	struct nr_intent *intent = &m->intent;
	size_t bytes = (size_t)(intent->blocks + 1) * NR_BITMAP_BLOCK;
	struct nr_bitmap_header header;
	uint8_t *data = malloc(bytes);
	int err;

	if (!data)
		return -ENOMEM;
	fill_header(m, &header);
	nr_bitmap_put_header(data, &header);
	for (uint64_t block = 0; block < intent->blocks; block++)
		nr_bitmap_put_bits(data + (block + 1) * NR_BITMAP_BLOCK, (uint32_t)block + 1,
				   intent->bits + block * NR_BITMAP_WORDS);
	err = write_blocks(intent, data, 1, intent->blocks + 1);
	if (!err)
		err = write_blocks(intent, data, 0, 1);
	free(data);
	if (!err) {
		memcpy(intent->durable, intent->bits,
		       (size_t)intent->blocks * NR_BITMAP_WORDS * sizeof(*intent->bits));
		intent->header_durable = intent->header_version;
	}
	return err;
}

/*
 * So that its name is there after a crash, too.  A sandbox lets files in the folder be
 * opened, but not itself: then it is up to the file system, and a name that is lost means
 * that all is copied anew.
 */
static int sync_folder(const char *path)
{
	char *folder = strdup(path), *slash;
	int fd, err = 0;

	if (!folder)
		return -ENOMEM;
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (fd < 0)
		return errno == EACCES ? 0 : -errno;
	if (fsync(fd) != 0 && errno != EINVAL)
		err = -errno;
	(void)close(fd);
	return err;
}

static void set_all_bits(struct nr_mirror *m)
{
	for (uint64_t r = 0; r < m->regions; r++)
		set_bit(m->intent.bits, r);
	m->intent.count = m->regions;
}

/*
 * A file of ours that was not there before: nobody knows whether the legs are the same.
 * Until they have a copy of the first one, the others must not take its place.
 */
static int make_file(struct nr_mirror *m, struct nr_error *error)
{
	int err;

	if (!m->assume_same)
		set_all_bits(m);
	for (unsigned i = 1; !m->assume_same && i < m->legs.count; i++)
		m->leg[i].state = NR_LEG_BACK;
	err = ftruncate(m->intent.fd, (off_t)((m->intent.blocks + 1) * NR_BITMAP_BLOCK)) != 0
		      ? -errno
		      : write_file(m);
	if (!err)
		err = sync_folder(m->bitmap_path);
	if (err) {
		(void)unlink(m->bitmap_path);
		return nr_error_system(error, err, "bitmap %s", m->bitmap_path);
	}
	if (!m->assume_same)
		nr_layer_log(m->layer, NR_LAYER_INFO,
			     "a new bitmap: all of leg 1 will be copied to the others");
	return 0;
}

/* A new file says that leg 1 is right: it has to be there. */
static int may_make_file(const struct nr_mirror *m, struct nr_error *error)
{
	if (m->assume_same || !nr_mirror_absent(&m->leg[0]))
		return 0;
	return nr_error_set(error, -ENOENT,
			    "the bitmap %s is to be made, and leg 1, which would be copied to the "
			    "others, cannot be opened: %.200s",
			    m->bitmap_path, m->leg[0].why.text);
}

/* The place of leg I in the file; its number of legs if it is not there. */
static uint32_t find_leg(const struct nr_mirror *m, const struct nr_bitmap_header *header,
			 unsigned i)
{
	uint64_t name = nr_bitmap_hash(m->words.item[i]);
	uint32_t j = 0;

	if (i < header->legs && header->name[i] == name)
		return i;
	while (j < header->legs && header->name[j] != name)
		j++;
	return j;
}

/* What the file says of legs, by their names. */
static int take_legs(struct nr_mirror *m, const struct nr_bitmap_header *header,
		     struct nr_error *error)
{
	unsigned known = 0;

	for (unsigned i = 0; i < m->legs.count; i++) {
		uint32_t j = find_leg(m, header, i);

		m->leg[i].is_new = j == header->legs;
		if (nr_mirror_absent(&m->leg[i]))
			m->leg[i].state = NR_LEG_OUT;
		else
			m->leg[i].state =
				m->leg[i].is_new || header->out[j] ? NR_LEG_BACK : NR_LEG_IN;
		known += m->leg[i].state == NR_LEG_IN;
	}
	if (known == 0)
		return nr_error_set(error, -EINVAL,
				    "of the legs that it names as whole, none is here");
	return 0;
}

static int take_file(struct nr_mirror *m, const uint8_t *data, uint64_t bytes,
		     struct nr_error *error)
{
	struct nr_intent *intent = &m->intent;
	struct nr_bitmap_header header;
	uint64_t *bits;
	int err = nr_bitmap_parse(data, bytes, &header, &bits, error);

	if (err)
		return err;
	if (header.size != m->size) {
		err = nr_error_set(error, -EINVAL,
				   "it is that of a mirror of %" PRIu64
				   " bytes, this one has %" PRIu64,
				   header.size, m->size);
	} else if (header.region != m->region) {
		err = nr_error_set(error, -EINVAL,
				   "its regions have %" PRIu64 " bytes, not %" PRIu64,
				   header.region, m->region);
	} else {
		memcpy(intent->bits, bits,
		       (size_t)intent->blocks * NR_BITMAP_WORDS * sizeof(*bits));
		for (uint64_t w = 0; w < (m->regions + 63) / 64; w++)
			intent->count += (unsigned)__builtin_popcountll(bits[w]);
		err = take_legs(m, &header, error);
	}
	free(bits);
	return err;
}

/* *UNFINISHED: there is nothing in it yet. */
static int read_file(struct nr_mirror *m, bool *unfinished, struct nr_error *error)
{
	/* No file of ours is longer, so no more is read. */
	uint64_t most = nr_bitmap_blocks(NR_BITMAP_REGIONS_MAX) * NR_BITMAP_BLOCK + 1, bytes;
	struct stat st;
	uint8_t *data;
	int err = 0;

	if (fstat(m->intent.fd, &st) != 0)
		return nr_error_system(error, -errno, "reading it");
	if (!S_ISREG(st.st_mode))
		return nr_error_set(error, -EINVAL, "it is no regular file");
	bytes = nr_min((uint64_t)st.st_size, most);
	data = malloc(bytes + 1);
	if (!data)
		return nr_error_system(error, -ENOMEM, "reading it");
	for (uint64_t done = 0; !err && done < bytes;) {
		ssize_t n = pread(m->intent.fd, data + done, bytes - done, (off_t)done);

		if (n > 0)
			done += (uint64_t)n;
		else if (n == 0 || errno != EINTR)
			err = nr_error_system(error, n ? -errno : -EIO, "reading it");
	}
	*unfinished = !err && !m->layer->read_only && nr_bitmap_is_unfinished(data, bytes);
	if (!err && !*unfinished)
		err = take_file(m, data, bytes, error);
	free(data);
	return err;
}

/* As they are at the start: what is intended is stale on all legs but the source. */
static void make_stale(struct nr_mirror *m)
{
	const struct nr_mirror_leg *source = nr_mirror_source(m);

	for (unsigned i = 0; i < m->legs.count; i++)
		if (&m->leg[i] != source)
			nr_mirror_mark_intended_stale(m, &m->leg[i]);
	/* Nothing is known of what is not there, if there is no file. */
	for (unsigned i = 0; m->intent.fd < 0 && m->size && i < m->legs.count; i++)
		if (nr_mirror_absent(&m->leg[i]))
			nr_mirror_mark_stale(m, &m->leg[i], 0, m->size);
	memcpy(m->intent.durable, m->intent.bits,
	       (size_t)m->intent.blocks * NR_BITMAP_WORDS * sizeof(uint64_t));
	if (nr_mirror_stale_total(m))
		nr_layer_log(m->layer, NR_LAYER_INFO,
			     "%" PRIu64 " of %" PRIu64 " regions may differ and will be made the "
			     "same",
			     m->intent.count, m->regions);
}

/* Legs that the file did not know have nothing, and that is to be known from now on. */
static int take_new_legs(struct nr_mirror *m, struct nr_error *error)
{
	bool any = false;
	int err;

	for (unsigned i = 0; i < m->legs.count; i++)
		any |= m->leg[i].is_new;
	if (any)
		set_all_bits(m);
	for (unsigned i = 0; i < m->legs.count; i++) {
		if (!m->leg[i].is_new)
			continue;
		nr_mirror_mark_intended_stale(m, &m->leg[i]);
		nr_layer_log(m->layer, NR_LAYER_WARNING,
			     "leg %u is not known to the bitmap: all of another leg will be copied "
			     "to it",
			     i + 1);
	}
	err = m->intent.fd < 0 || m->layer->read_only ? 0 : write_file(m);
	return err ? nr_error_system(error, err, "bitmap %s", m->bitmap_path) : 0;
}

static int open_file(struct nr_mirror *m, struct nr_error *error)
{
	struct nr_intent *intent = &m->intent;
	int flags = m->layer->read_only ? O_RDONLY : O_RDWR;
	struct nr_error why;
	bool is_new = false;
	int err;

	intent->fd = open(m->bitmap_path, flags | O_CLOEXEC | O_NONBLOCK);
	if (intent->fd < 0 && errno == ENOENT && !m->layer->read_only) {
		err = may_make_file(m, error);
		if (err)
			return err;
		intent->fd = open(m->bitmap_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		is_new = true;
	}
	if (intent->fd < 0)
		return nr_error_system(error, -errno, "bitmap %s", m->bitmap_path);
	if (flock(intent->fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK
			       ? nr_error_set(error, -EBUSY, "bitmap %s: another server has it",
					      m->bitmap_path)
			       : nr_error_system(error, -errno, "bitmap %s", m->bitmap_path);
	err = is_new ? 0 : read_file(m, &is_new, &why);
	if (is_new)
		return make_file(m, error);
	if (err)
		nr_error_set(error, err,
			     "bitmap %s: %.200s; it is left as it is: if it is not needed, remove "
			     "it, and leg 1 will be copied to the others",
			     m->bitmap_path, why.text);
	return err;
}

uint64_t nr_intent_size(const struct nr_mirror *m)
{
	int fd = m->bitmap_path ? open(m->bitmap_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	struct nr_bitmap_header header = { .size = 0 };
	uint8_t block[NR_BITMAP_BLOCK];
	struct nr_error ignored;
	struct stat st;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    pread(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block) ||
	    nr_bitmap_get_header(block, (uint64_t)st.st_size, &header, &ignored) != 0)
		header.size = 0;
	(void)close(fd);
	return header.size;
}

static void release(struct nr_mirror *m)
{
	struct nr_intent *intent = &m->intent;

	if (intent->fd >= 0)
		(void)close(intent->fd);
	intent->fd = -1;
	free(intent->bits);
	free(intent->durable);
	free(intent->dirty);
	free(intent->buffer);
	free(intent->captured);
	free(m->about);
	for (unsigned i = 0; i < m->legs.count; i++)
		free(m->leg[i].stale);
}

int nr_intent_open(struct nr_mirror *m, struct nr_error *error)
{
	struct nr_intent *intent = &m->intent;
	int err;

	*intent = (struct nr_intent){ .fd = -1, .mirror = m };
	intent->blocks = nr_bitmap_blocks(m->regions) - 1;
	err = allocate(m, error);
	if (!err && m->bitmap_path)
		err = open_file(m, error);
	if (!err) {
		make_stale(m);
		err = take_new_legs(m, error);
	}
	if (err)
		release(m);
	return err;
}

void nr_intent_close(struct nr_mirror *m)
{
	struct nr_intent *intent = &m->intent;
	int err = 0;

	assert(!intent->busy);
	assert(!intent->waiting);
	if (intent->fd >= 0 && !m->layer->read_only) {
		/* All the same, and flushed: nothing need be copied next time. */
		if (nr_mirror_in_count(m) == m->legs.count && !nr_mirror_stale_total(m) &&
		    m->last_write < m->flushed)
			memset(intent->bits, 0,
			       (size_t)intent->blocks * NR_BITMAP_WORDS * sizeof(uint64_t));
		err = write_file(m);
	}
	if (err)
		nr_layer_log(m->layer, NR_LAYER_ERROR, "bitmap %s: %s", m->bitmap_path,
			     strerror(-err));
	release(m);
}
