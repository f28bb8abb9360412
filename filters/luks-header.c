/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See luks-header.h, and docs/decisions/0045-luks-headers-are-opened-in-memory.md.
 *
 * What is copied: of LUKS1, one page; of LUKS2, its two headers, which say in their first
 * bytes how long they are, or, if the first one does not, all the places where the second
 * may be; then the areas of those key slots that will be tried.  That is 16 MiB at most.
 * Offsets are the same in both.  The copy is a sparse file that is longer than disks are,
 * so that the library does not mind one that has been cut off; that is told from here.
 *
 * The lock below is about memory: a hundred exports that are opened at once shall not take
 * a hundred times what the limit says.  It also keeps libcryptsetup's first call, in which
 * it makes its own preparations, to one thread.  Nobody who holds it waits for a disk.
 */
#include "filters/luks-header.h"

#include <errno.h>
#include <inttypes.h>
#include <libcryptsetup.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "filters/luks-cipher.h"
#include "nbdring/checked.h"
#include "nbdring/secret.h"

#define FIRST_BYTES 4096u
#define HEADER2_MIN 16384u
#define HEADER2_MAX (4u << 20) /* of one of the two */
#define AREA_ALIGN 4096u
#define COPY_BYTES (UINT64_C(1) << 50)

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

struct opening {
	const struct nr_luks_source *source;
	const struct nr_luks_unlock *how;
	struct nr_luks_volume *volume;
	struct nr_error *error;
	int copy;        /* memory file */
	uint64_t copied; /* bytes from the beginning */
	const char *type;
	uint8_t first[FIRST_BYTES];
	struct crypt_device *device;
};

/* The copy. */

static int write_all(int fd, const uint8_t *data, uint64_t length, uint64_t offset)
{
	while (length > 0) {
		ssize_t n = pwrite(fd, data, length, (off_t)offset);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		length -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* LENGTH is small: an area of a slot, or part of a header. */
static int copy_range(const struct opening *o, uint64_t offset, uint64_t length)
{
	uint8_t *data = malloc(length);
	int err;

	if (!data)
		return nr_error_system(o->error, -ENOMEM, "a copy of the header");
	err = o->source->read(o->source->context, offset, length, data, o->error);
	if (!err) {
		err = write_all(o->copy, data, length, offset);
		if (err)
			nr_error_system(o->error, err, "a copy of the header");
	}
	free(data);
	return err;
}

/* All from the beginning up to END, or to that of the disk. */
static int copy_up_to(struct opening *o, uint64_t end)
{
	int err = 0;

	end = nr_min(end, o->source->size);
	while (o->copied < end && !err) {
		uint64_t part = nr_min(end - o->copied, 1u << 20);

		err = copy_range(o, o->copied, part);
		if (!err)
			o->copied += part;
	}
	return err;
}

static int open_copy(struct opening *o)
{
	uint64_t size = COPY_BYTES;
	struct rlimit most;

	/* Going beyond it would be a signal. */
	if (getrlimit(RLIMIT_FSIZE, &most) == 0)
		size = nr_min(size, most.rlim_cur);
	o->copy = memfd_create("luks-header", MFD_CLOEXEC);
	if (o->copy < 0 || ftruncate(o->copy, (off_t)size) < 0)
		return nr_error_system(o->error, -errno, "a file in memory for the header");
	return 0;
}

/* The header. */

static uint64_t get64(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

/* Which version it is, and the part of it that is read by itself. */
static int copy_header(struct opening *o)
{
	static const uint8_t magic[] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };
	bool is_luks;
	unsigned version;
	uint64_t length;
	int err;

	if (o->source->size < FIRST_BYTES)
		return nr_error_set(o->error, -EINVAL, "this is no LUKS container");
	err = o->source->read(o->source->context, 0, FIRST_BYTES, o->first, o->error);
	if (err)
		return err;
	is_luks = memcmp(o->first, magic, sizeof(magic)) == 0;
	version = (unsigned)o->first[6] << 8 | o->first[7];
	if (is_luks && version == 1) {
		o->type = CRYPT_LUKS1;
		return copy_up_to(o, FIRST_BYTES);
	}
	if (is_luks && version != 2)
		return nr_error_set(o->error, -ENOTSUP,
				    "this is LUKS of version %u; 1 and 2 are supported", version);
	o->type = CRYPT_LUKS2;
	length = get64(o->first + 8);
	if (!is_luks || !nr_is_power_of_2(length) || length < HEADER2_MIN || length > HEADER2_MAX)
		length = HEADER2_MAX;
	return copy_up_to(o, 2 * length);
}

static void be_quiet(int level, const char *message, void *context)
{
	/* Errors come back as numbers, and what they mean to the user is said here. */
}

static int make_device(struct opening *o)
{
	char path[64];
	int err;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", o->copy);
	pthread_mutex_lock(&one_at_a_time);
	/* Nobody else sees the copy. */
	(void)crypt_metadata_locking(NULL, 0);
	err = crypt_init(&o->device, path);
	pthread_mutex_unlock(&one_at_a_time);
	if (err)
		return nr_error_system(
			o->error, err,
			"libcryptsetup cannot open a file in memory (/proc/self/fd)");
	crypt_set_log_callback(o->device, be_quiet, NULL);
	return 0;
}

static int load_copy(struct opening *o)
{
	int err;

	pthread_mutex_lock(&one_at_a_time);
	err = crypt_load(o->device, o->type, NULL);
	pthread_mutex_unlock(&one_at_a_time);
	return err;
}

static int load(struct opening *o)
{
	int err = make_device(o);

	if (err)
		return err;
	err = load_copy(o);
	if (err && o->type[4] == '2' && o->copied < nr_min(2 * HEADER2_MAX, o->source->size)) {
		/* The first header is lost; where the second one is, is not known. */
		err = copy_up_to(o, 2 * HEADER2_MAX);
		if (err)
			return err;
		err = load_copy(o);
	}
	if (err && err != -EINVAL)
		return nr_error_system(o->error, err, "libcryptsetup cannot read the header");
	if (err)
		return nr_error_set(o->error, -EINVAL,
				    memcmp(o->first, "LUKS", 4) == 0
					    ? "the LUKS header is damaged"
					    : "this is no LUKS container, or its header is lost");
	return 0;
}

/* Has the library written to its copy? */
static bool was_mended(const struct opening *o)
{
	uint8_t *now = malloc(FIRST_BYTES);
	bool mended = now && pread(o->copy, now, FIRST_BYTES, 0) == FIRST_BYTES &&
		      memcmp(now, o->first, FIRST_BYTES) != 0;

	free(now);
	return mended;
}

static int find_facts(struct opening *o)
{
	struct nr_luks_facts *facts = &o->volume->facts;
	const char *json = NULL;

	if (o->type[4] == '1')
		return nr_luks_facts_1(o->first, facts, o->error);
	o->volume->mended = was_mended(o);
	if (crypt_dump_json(o->device, &json, 0) || !json)
		return nr_error_set(o->error, -EINVAL, "the LUKS header is damaged");
	return nr_luks_facts_2(json, facts, o->error);
}

/* The key. */

static int copy_areas(struct opening *o)
{
	const struct nr_luks_facts *facts = &o->volume->facts;
	uint64_t used = facts->key_bytes * NR_LUKS_STRIPES;
	uint64_t length = nr_round_down(used + AREA_ALIGN - 1, AREA_ALIGN);
	int err = 0;

	for (int i = 0; i < NR_LUKS_SLOTS && !err; i++) {
		uint64_t area = facts->slot[i].area;

		if (!nr_luks_slot_tried(facts, o->how->slot, i))
			continue;
		if (!nr_in_range(area, used, o->source->size))
			return nr_error_set(o->error, -EINVAL,
					    "the container is cut off: key slot %d is at byte "
					    "%" PRIu64 ", and the disk ends at %" PRIu64,
					    i, area, o->source->size);
		err = copy_range(o, area, nr_min(length, o->source->size - area));
	}
	return err;
}

static int open_slot(struct opening *o)
{
	struct nr_luks_volume *v = o->volume;
	size_t length = NR_LUKS_KEY_MAX;
	int slot = o->how->slot == NR_LUKS_ANY_SLOT ? CRYPT_ANY_SLOT : o->how->slot;
	int ret;

	v->key = nr_secret_alloc(NR_LUKS_KEY_MAX);
	if (!v->key)
		return nr_error_system(o->error, -ENOMEM, "the key");
	pthread_mutex_lock(&one_at_a_time);
	ret = crypt_volume_key_get(o->device, slot, (char *)v->key, &length, o->how->passphrase,
				   o->how->passphrase_bytes);
	pthread_mutex_unlock(&one_at_a_time);
	if (ret >= 0 && length == v->facts.key_bytes) {
		v->slot = ret;
		return 0;
	}
	nr_secret_free(v->key);
	v->key = NULL;
	if (ret == -EPERM && o->how->slot == NR_LUKS_ANY_SLOT)
		return nr_error_set(o->error, -EACCES, "no key slot opens with this passphrase");
	if (ret == -EPERM)
		return nr_error_set(o->error, -EACCES,
				    "key slot %d does not open with this passphrase", o->how->slot);
	return nr_error_system(o->error, ret < 0 ? ret : -EINVAL, "the key slots cannot be read");
}

static int open_with(struct opening *o)
{
	const struct nr_luks_facts *facts = &o->volume->facts;
	int err = load(o);

	if (!err)
		err = find_facts(o);
	if (!err)
		err = nr_luks_cipher_check(facts->cipher, facts->mode, facts->key_bytes, o->error);
	if (!err)
		err = nr_luks_judge(facts, o->how->slot, &o->how->limits, o->error);
	if (!err)
		err = copy_areas(o);
	return err ? err : open_slot(o);
}

int nr_luks_unlock(const struct nr_luks_source *source, const struct nr_luks_unlock *how,
		   struct nr_luks_volume *volume, struct nr_error *error)
{
	struct opening *o = calloc(1, sizeof(*o));
	int err;

	*volume = (struct nr_luks_volume){ .key = NULL };
	if (!o)
		return nr_error_system(error, -ENOMEM, "the header");
	*o = (struct opening){
		.source = source, .how = how, .volume = volume, .error = error, .copy = -1
	};
	err = open_copy(o);
	if (!err)
		err = copy_header(o);
	if (!err)
		err = open_with(o);
	crypt_free(o->device);
	if (o->copy >= 0)
		close(o->copy);
	free(o);
	return err;
}
