/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `luks`: what is in a container is a disk like any other, nothing of it is
 * below in the clear, and containers that are not what they should be are refused.
 */
#include "layer-test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/filters.h"
#include "luks-container.h"

#define MIB (UINT64_C(1) << 20)
#define OPEN "luks passphrase='" LUKS_PASSPHRASE "' "

static char folder[] = "/tmp/nbdring-unit-XXXXXX";
static char path[64];

static const struct layer_options io = { .ring = true };
static const struct layer_options aligned = { .ring = true, .aligner = &nr_blocksize_type };

static const struct luks_container luks1 = { 1, "xts-plain64", 64, 512, 2 * MIB, "pbkdf2" };
static const struct luks_container luks2 = { 2, "xts-plain64", 64, 4096, 2 * MIB, "pbkdf2" };

static void overwrite(uint64_t offset, const void *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, length, (off_t)offset), length);
	close(fd);
}

static uint8_t byte_at(uint64_t offset)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
	return byte;
}

/* A disk like any other. */

static void test_each_cipher_is_a_disk(void **state)
{
	static const struct luks_container containers[] = {
		{ 1, "xts-plain64", 64, 512, MIB, "pbkdf2" },
		{ 1, "xts-plain64", 32, 512, MIB, "pbkdf2" },
		{ 1, "cbc-essiv:sha256", 32, 512, MIB, "pbkdf2" },
		{ 1, "cbc-plain", 16, 512, MIB, "pbkdf2" },
		{ 2, "xts-plain64", 64, 512, MIB, "argon2id" },
		{ 2, "xts-plain64", 64, 4096, MIB, "pbkdf2" },
		{ 2, "cbc-plain64be", 24, 2048, MIB, "pbkdf2" },
	};
	/* Writes lie in pieces that end within sectors. */
	static const uint64_t pieces[] = { 0, 700, 100000 };

	for (size_t i = 0; i < sizeof(containers) / sizeof(containers[0]); i++) {
		struct layer_options options = aligned;
		struct layer_model model = { .seed = layer_seed(i),
					     .requests = 200,
					     .length_max = 200000 };
		struct layer_test *t;

		options.segment_bytes = pieces[i % 3];
		luks_container_make(path, &containers[i]);
		t = layer_test_open(&options, OPEN "| file %s", path);
		assert_int_equal(layer_test_size(t), MIB);
		layer_zero(layer_client(t, 0), 0, MIB, 0);
		layer_model_run(layer_client(t, 0), &model);
		layer_test_close(t);
	}
}

/* Long requests are computed elsewhere than short ones; the bytes are the same. */
static void test_long_and_short_requests_agree(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t *data = malloc(MIB), *back = malloc(MIB);
	uint64_t seed = 7;

	for (size_t i = 0; i < MIB; i++)
		data[i] = (uint8_t)layer_random(&seed);
	luks_container_make(path, &luks1);
	t = layer_test_open(&io, OPEN "| file %s", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_write(c, 512, MIB, data, NR_FUA), 0);
	for (uint64_t at = 0; at < MIB; at += 4096)
		assert_int_equal(layer_read(c, 512 + at, 4096, back + at), 0);
	assert_memory_equal(back, data, MIB);
	layer_test_close(t);

	t = layer_test_open(&io, OPEN "| file %s", path);
	assert_int_equal(layer_read(layer_client(t, 0), 512, MIB, back), 0);
	assert_memory_equal(back, data, MIB);
	layer_test_close(t);
	free(data);
	free(back);
}

static void test_nothing_is_below_in_the_clear(void **state)
{
	uint64_t payload = luks_container_make(path, &luks2);
	struct layer_test *t = layer_test_open(&io, OPEN "| file %s", path);
	uint8_t below[8192];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(layer_fill(layer_client(t, 0), 0, 4096, 'x'), 0);
	assert_int_equal(layer_zero(layer_client(t, 0), 4096, 4096, 0), 0);
	layer_test_close(t);
	assert_int_equal(pread(fd, below, sizeof(below), (off_t)payload), sizeof(below));
	for (size_t i = 0; i + 16 <= sizeof(below); i += 16) {
		assert_memory_not_equal(below + i, "xxxxxxxxxxxxxxxx", 16);
		assert_memory_not_equal(below + i, (const uint8_t[16]){ 0 }, 16);
	}
	close(fd);
}

/* Zeroes below are noise here, whether they are a hole or were written. */
static void test_holes_below_are_data(void **state)
{
	static const uint8_t zeroes[4096];
	uint64_t payload = luks_container_make(path, &luks1);
	struct layer_test *t = layer_test_open(&io, OPEN "| file %s", path);
	struct layer_client *c = layer_client(t, 0);
	uint8_t hole[4096], written[4096];

	assert_string_equal(layer_map(c, 0, 2 * MIB), "2097152:data");
	assert_int_equal(layer_read(c, 8192, 4096, hole), 0);
	overwrite(payload + 8192, zeroes, 4096);
	assert_int_equal(layer_read(c, 8192, 4096, written), 0);
	assert_memory_equal(hole, written, 4096);
	assert_memory_not_equal(hole, zeroes, 4096);
	layer_test_close(t);
}

/* Below the filter: a metadata context that says where on the disk a byte is, in MiB. */

static const char *const places[] = { "x:places" };

static int places_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->contexts = places;
	t->context_count = 1;
	return 0;
}

static void places_submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation != NR_EXTENTS || !req->metadata) {
		nr_pass(layer, req);
		return;
	}
	nr_extents_add(req->extents, MIB - req->offset % MIB, req->offset / MIB);
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type places_type = {
	.abi = NR_LAYER_ABI,
	.name = "places",
	.summary = "has a metadata context",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.describe = places_describe,
	.submit = places_submit,
	.contexts_pass = true,
};

static void ended(struct nr_request *req)
{
	/* Who asks sees the state. */
}

static void test_other_contexts_are_moved(void **state)
{
	static const struct nr_layer_type *const types[] = { &places_type, NULL };
	const struct layer_options options = { .ring = true, .types = types };
	uint64_t payload = luks_container_make(path, &luks1);
	struct layer_test *t = layer_test_open(&options, OPEN "| places | file %s", path);
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[4];
	struct nr_extents list = {
		.start = 65536, .next = 65536, .end = 2 * MIB, .capacity = 4, .extent = extent
	};
	struct nr_request *req = nr_request_get(layer_client_worker(c), layer_test_stack(t), 0);

	assert_string_equal(layer_map(c, 0, 2 * MIB), "2097152:data");
	assert_int_equal(layer_test_traits(t)->context_count, 1);
	assert_non_null(req);
	req->operation = NR_EXTENTS;
	req->offset = 65536;
	req->length = 2 * MIB - 65536;
	req->extents = &list;
	req->metadata = 1;
	req->internal.finished = ended;
	nr_stack_submit(layer_test_stack(t), req);
	while (req->internal.state != NR_REQUEST_IDLE)
		layer_turn(c);
	assert_int_equal(req->error, 0);
	assert_int_equal(list.start, 65536);
	assert_int_equal(extent[0].status, (payload + 65536) / MIB);
	assert_int_equal(extent[0].length, MIB - (payload + 65536) % MIB);
	nr_request_release(req, 0);
	layer_test_close(t);
}

static void test_trimming_has_to_be_asked_for(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	luks_container_make(path, &luks2);
	t = layer_test_open(&io, OPEN "| file %s", path);
	assert_int_equal(layer_test_traits(t)->support[NR_CAP_TRIM], NR_NONE);
	layer_test_close(t);

	t = layer_test_open(&aligned, OPEN "luks-discard=yes | file %s", path);
	c = layer_client(t, 0);
	assert_int_not_equal(layer_test_traits(t)->support[NR_CAP_TRIM], NR_NONE);
	assert_int_equal(layer_fill(c, 0, 16384, 5), 0);
	/* Not whole sectors: what is around keeps its contents, and so do they. */
	assert_int_equal(layer_trim(c, 4000, 4200, 0), 0);
	assert_int_equal(layer_trim(c, 100, 100, 0), 0);
	assert_true(layer_is(c, 0, 4096, 5));
	assert_true(layer_is(c, 8192, 8192, 5));
	layer_test_close(t);
}

static void test_sizes(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint64_t payload = luks_container_make(path, &luks2);

	t = layer_test_open(&io, OPEN "| file %s", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_test_traits(t)->block_min, 4096);
	assert_int_equal(layer_test_traits(t)->memory_align, 1);
	assert_int_equal(layer_fill(c, 512, 512, 1), -EINVAL);
	layer_test_close(t);

	/* Half a sector at the end is left out. */
	assert_int_equal(truncate(path, (off_t)(payload + 10000)), 0);
	t = layer_test_open(&io, OPEN "| file %s", path);
	assert_int_equal(layer_test_size(t), 8192);
	layer_test_close(t);

	assert_int_equal(truncate(path, (off_t)payload), 0);
	t = layer_test_open(&io, OPEN "| file %s", path);
	assert_int_equal(layer_test_size(t), 0);
	layer_test_close(t);
}

static void test_a_new_size_reaches_the_disk_below(void **state)
{
	uint64_t payload = luks_container_make(path, &luks1);
	struct layer_test *t = layer_test_open(&io, OPEN "| file %s", path);
	struct layer_client *c = layer_client(t, 0);
	struct nr_error error;

	if (layer_test_traits(t)->support[NR_CAP_RESIZE] == NR_NATIVE) {
		assert_int_equal(layer_resize(c, 3 * MIB), 0);
		assert_int_equal(nr_stack_refresh(layer_test_stack(t), &error), 0);
		assert_int_equal(layer_test_size(t), 3 * MIB);
		assert_int_equal(layer_resize(c, MIB + 1), -EINVAL);
	}
	layer_test_close(t);
	assert_true(payload > 0);
}

/* Containers that are not what they should be. */

static void refused(const char *parameters, int code, const char *text)
{
	struct nr_error error;

	assert_int_equal(layer_test_refused(&io, &error, "luks %s | file %s", parameters, path),
			 code);
	if (!strstr(error.text, text))
		fail_msg("\"%s\" is not in: %s", text, error.text);
}

static void test_what_does_not_open(void **state)
{
	uint64_t payload = luks_container_make(path, &luks2);

	refused("passphrase=sesame", -EACCES, "no key slot opens with this passphrase");
	refused("passphrase=''", -EACCES, "no key slot opens");
	refused("passphrase='" LUKS_PASSPHRASE "' luks-key-slot=3", -ENOENT,
		"key slot 3 is not in use");
	refused("passphrase=x luks-key-slot=0", -EACCES, "key slot 0 does not open");
	refused("", -EINVAL, "either passphrase= or luks-passphrase-file=");
	refused("luks-passphrase-file=/does/not/exist", -ENOENT, "/does/not/exist");

	assert_int_equal(truncate(path, (off_t)payload - 512), 0);
	refused("passphrase='" LUKS_PASSPHRASE "'", -EINVAL, "is cut off");
	assert_int_equal(truncate(path, 32768), 0);
	refused("passphrase='" LUKS_PASSPHRASE "'", -EINVAL, "is cut off");
	assert_int_equal(truncate(path, 5000), 0);
	refused("passphrase=x", -EINVAL, "is cut off");
	assert_int_equal(truncate(path, 4095), 0);
	refused("passphrase=x", -EINVAL, "no LUKS container");
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(truncate(path, 2 * MIB), 0);
	refused("passphrase=x", -EINVAL, "no LUKS container");
	overwrite(0, "LUKS\xba\xbe\0\3", 8);
	refused("passphrase=x", -ENOTSUP, "LUKS of version 3");
}

static void test_what_asks_for_too_much(void **state)
{
	static const struct luks_container argon2 = { 2, "xts-plain64", 64, 512, MIB, "argon2id" };
	static const struct luks_container other = { 1, "cbc-null", 32, 512, MIB, "pbkdf2" };
	static const uint8_t most[4] = { 0xff, 0xff, 0xff, 0xff };

	luks_container_make(path, &argon2);
	refused("passphrase=x luks-max-kdf-memory=32k", -EFBIG, "raise luks-max-kdf-memory=");
	/* Iterations of the first slot of LUKS1, and of its digest. */
	luks_container_make(path, &luks1);
	overwrite(212, most, 4);
	refused("passphrase=x", -EFBIG, "about 8589 seconds");
	luks_container_make(path, &luks1);
	overwrite(164, most, 4);
	refused("passphrase=x", -EFBIG, "raise luks-max-kdf-time=");
	/* Bytes of the key. */
	luks_container_make(path, &luks1);
	overwrite(108, most, 4);
	refused("passphrase=x", -EINVAL, "damaged");

	luks_container_make(path, &other);
	refused("passphrase='" LUKS_PASSPHRASE "'", -ENOTSUP, "what is: aes-xts");
}

/* LUKS2 has its header twice, and either will do. */
static void test_the_other_copy_of_the_header_will_do(void **state)
{
	static const uint8_t zeroes[4096];
	static const uint64_t lost[] = { 0, 448, 4096, 16384, 16384 + 4096 };

	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		struct layer_test *t;

		luks_container_make(path, &luks2);
		overwrite(lost[i], zeroes, 64);
		t = layer_test_open(&io, OPEN "| file %s", path);
		assert_int_equal(layer_test_size(t), 2 * MIB);
		layer_test_close(t);
	}
	overwrite(0, zeroes, 4096);
	overwrite(16384, zeroes, 4096);
	refused("passphrase=x", -EINVAL, "its header is lost");
}

/* Whatever is wrong with a header: it opens, or is refused; and if it opens, it is right. */
static void test_damage_anywhere_in_the_header(void **state)
{
	uint64_t seed = layer_seed(11);

	for (unsigned i = 0; i < 120; i++) {
		struct nr_error error = { .code = 0 };
		struct layer_test *t;
		uint8_t byte = (uint8_t)layer_random(&seed), before;
		uint64_t where = layer_random_below(&seed, i < 60 ? 592 : 32768);

		if (i % 60 == 0)
			luks_container_make(path, i < 60 ? &luks1 : &luks2);
		before = byte_at(where);
		overwrite(where, &byte, 1);
		t = layer_test_try(&io, &error, OPEN "luks-max-kdf-time=1 | file %s", path);
		overwrite(where, &before, 1);
		if (t) {
			assert_true(layer_test_size(t) <= 64 * MIB);
			layer_test_close(t);
		} else {
			assert_true(error.code < 0);
			assert_true(error.text[0]);
		}
	}
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/container", folder);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_cipher_is_a_disk),
		cmocka_unit_test(test_long_and_short_requests_agree),
		cmocka_unit_test(test_nothing_is_below_in_the_clear),
		cmocka_unit_test(test_holes_below_are_data),
		cmocka_unit_test(test_other_contexts_are_moved),
		cmocka_unit_test(test_trimming_has_to_be_asked_for),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_a_new_size_reaches_the_disk_below),
		cmocka_unit_test(test_what_does_not_open),
		cmocka_unit_test(test_what_asks_for_too_much),
		cmocka_unit_test(test_the_other_copy_of_the_header_will_do),
		cmocka_unit_test(test_damage_anywhere_in_the_header),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
