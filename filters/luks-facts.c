/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See luks-facts.h.
 *
 * LUKS1, all numbers big-endian (LUKS On-Disk Format Specification, "PHDR layout"):
 *
 *   [0..5] magic  [6] version  [8..39] cipher  [40..71] mode  [72..103] hash
 *   [104] payload, sectors  [108] bytes of the key  [112..131] digest  [132..163] its salt
 *   [164] its iterations  [168..207] UUID
 *   [208] eight slots: [0] active  [4] iterations  [8..39] salt  [40] area, sectors
 *   [44] stripes
 *
 * LUKS2 is JSON.  It is parsed by the library that libcryptsetup takes for it, so that
 * both see the same in a text that could be understood in two ways.
 */
#include "filters/luks-facts.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define SECTOR 512u
#define LUKS1_SLOTS 8
#define LUKS1_ACTIVE 0x00ac71f3u
#define LANES_MAX 16u
#define UNITS_PER_SECOND UINT64_C(1000000)

static int damaged(struct nr_error *error, const char *what)
{
	return nr_error_set(error, -EINVAL, "the LUKS header is damaged: %s", what);
}

/* Saturating: what a header says may be anything. */
static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t product;

	return nr_mul(a, b, &product) ? product : UINT64_MAX;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return nr_add(a, b, &sum) ? sum : UINT64_MAX;
}

/* Blocks of the hash NAME in LENGTH bytes; one that is not known counts as the shortest. */
static uint64_t blocks_of(const char *name, uint64_t length)
{
	static const struct {
		const char *name;
		unsigned bytes;
	} hashes[] = { { "sha256", 32 }, { "sha512", 64 }, { "sha384", 48 }, { "whirlpool", 64 } };
	uint64_t bytes = 20;

	for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
		if (strcmp(name, hashes[i].name) == 0)
			bytes = hashes[i].bytes;
	return (length + bytes - 1) / bytes;
}

/* What a cipher may be called: errors show it. */
static bool is_name(const char *text)
{
	size_t length = 0;

	while (text[length] > ' ' && text[length] <= '~')
		length++;
	return length > 0 && text[length] == '\0';
}

/* LUKS1. */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A name of 32 bytes at most; it need not end with a NUL. */
static void get_name(char *name, const uint8_t *p)
{
	size_t length = strnlen((const char *)p, 32);

	memcpy(name, p, length);
	name[length] = '\0';
}

int nr_luks_facts_1(const uint8_t *header, struct nr_luks_facts *facts, struct nr_error *error)
{
	char hash[NR_LUKS_NAME_MAX];
	uint64_t blocks;

	*facts = (struct nr_luks_facts){ .sector = SECTOR };
	get_name(facts->cipher, header + 8);
	get_name(facts->mode, header + 40);
	get_name(hash, header + 72);
	if (!is_name(facts->cipher) || !is_name(facts->mode))
		return damaged(error, "it does not say how the data is encrypted");
	facts->payload = (uint64_t)get32(header + 104) * SECTOR;
	facts->key_bytes = get32(header + 108);
	if (facts->key_bytes == 0 || facts->key_bytes > NR_LUKS_KEY_MAX)
		return damaged(error, "no key is that long");
	blocks = blocks_of(hash, facts->key_bytes);
	/* The digest has 20 bytes. */
	facts->check = times(get32(header + 164), blocks_of(hash, 20));
	for (int i = 0; i < LUKS1_SLOTS; i++) {
		const uint8_t *p = header + 208 + 48 * i;
		struct nr_luks_slot *slot = &facts->slot[i];

		slot->active = get32(p) == LUKS1_ACTIVE;
		slot->area = (uint64_t)get32(p + 40) * SECTOR;
		slot->work = times(get32(p + 4), blocks);
		if (slot->active && get32(p + 44) != NR_LUKS_STRIPES)
			return damaged(error, "a key slot has not 4000 stripes");
	}
	return 0;
}

/* LUKS2. */

static struct json_object *member(struct json_object *object, const char *name, enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

/* "" when there is none. */
static const char *text_of(struct json_object *object, const char *name)
{
	struct json_object *value = member(object, name, json_type_string);

	return value ? json_object_get_string(value) : "";
}

/* Numbers that may be over 2^31 are written as text.  False: it is none. */
static bool number_of(struct json_object *object, const char *name, uint64_t *number)
{
	struct json_object *value = member(object, name, json_type_int);
	const char *text = text_of(object, name);
	char *end;

	if (value) {
		*number = (uint64_t)json_object_get_int64(value);
		return json_object_get_int64(value) >= 0;
	}
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

/* Is the text NAME in ARRAY (NULL: no)? */
static bool lists(struct json_object *array, const char *name)
{
	size_t count = array ? json_object_array_length(array) : 0;

	for (size_t i = 0; i < count; i++) {
		struct json_object *item = json_object_array_get_idx(array, i);

		if (json_object_is_type(item, json_type_string) &&
		    strcmp(json_object_get_string(item), name) == 0)
			return true;
	}
	return false;
}

/* "aes-xts-plain64" to cipher and mode. */
static bool take_encryption(struct nr_luks_facts *facts, const char *text)
{
	size_t length = strcspn(text, "-");

	if (text[length] != '-' || length >= sizeof(facts->cipher) ||
	    strlen(text + length + 1) >= sizeof(facts->mode) || !is_name(text))
		return false;
	memcpy(facts->cipher, text, length);
	facts->cipher[length] = '\0';
	snprintf(facts->mode, sizeof(facts->mode), "%s", text + length + 1);
	return true;
}

static int take_segment(struct nr_luks_facts *facts, struct json_object *segment,
			struct nr_error *error)
{
	uint64_t sector = 0;

	if (strcmp(text_of(segment, "type"), "crypt") != 0)
		return nr_error_set(error, -ENOTSUP, "its data is not encrypted as a whole");
	if (member(segment, "integrity", json_type_object))
		return nr_error_set(error, -ENOTSUP,
				    "it has checksums of dm-integrity, which are not supported");
	if (!take_encryption(facts, text_of(segment, "encryption")))
		return damaged(error, "it does not say how the data is encrypted");
	if (!number_of(segment, "offset", &facts->payload) || facts->payload > NR_SIZE_MAX ||
	    !number_of(segment, "iv_tweak", &facts->iv_first) ||
	    !number_of(segment, "sector_size", &sector))
		return damaged(error, "it does not say where the data is");
	if (!nr_is_power_of_2(sector) || sector < SECTOR || sector > 4096)
		return damaged(error, "no sector is that long");
	facts->sector = (uint32_t)sector;
	if (strcmp(text_of(segment, "size"), "dynamic") == 0)
		return 0;
	if (!number_of(segment, "size", &facts->length) || facts->length == 0 ||
	    facts->length > NR_SIZE_MAX || !nr_is_aligned(facts->length, sector))
		return damaged(error, "it does not say how long the data is");
	return 0;
}

/* There is one, unless the disk is being encrypted anew. */
static int take_segments(struct nr_luks_facts *facts, struct json_object *root, const char **name,
			 struct nr_error *error)
{
	struct json_object *segments = member(root, "segments", json_type_object);
	struct json_object *config = member(root, "config", json_type_object);
	struct json_object *needs =
		config ? member(config, "requirements", json_type_object) : NULL;
	struct json_object *mandatory = needs ? member(needs, "mandatory", json_type_array) : NULL;

	if (!segments || json_object_object_length(segments) == 0)
		return damaged(error, "it does not say where the data is");
	if (json_object_object_length(segments) != 1 ||
	    (mandatory && json_object_array_length(mandatory) > 0))
		return nr_error_set(error, -ENOTSUP,
				    "it is being encrypted anew, or was made by something newer; "
				    "cryptsetup reencrypt finishes the former");
	json_object_object_foreach(segments, key, segment)
	{
		*name = key;
		return take_segment(facts, segment, error);
	}
	return 0;
}

/* What it takes to derive a key from the passphrase. */
static bool take_kdf(struct nr_luks_slot *slot, struct json_object *kdf, uint64_t key_bytes)
{
	const char *type = text_of(kdf, "type");
	uint64_t n, passes;

	if (strcmp(type, "pbkdf2") == 0) {
		if (!number_of(kdf, "iterations", &n))
			return false;
		slot->work = times(n, blocks_of(text_of(kdf, "hash"), key_bytes));
		return true;
	}
	if ((strcmp(type, "argon2i") != 0 && strcmp(type, "argon2id") != 0) ||
	    !number_of(kdf, "memory", &n) || !number_of(kdf, "time", &passes) ||
	    !number_of(kdf, "cpus", &slot->lanes))
		return false;
	slot->memory = times(n, 1024);
	slot->work = times(n, passes);
	return true;
}

static int take_slot(struct nr_luks_facts *facts, struct json_object *keyslots, int index,
		     struct nr_error *error)
{
	struct nr_luks_slot *slot = &facts->slot[index];
	struct json_object *keyslot, *area, *af, *kdf;
	uint64_t key_bytes, area_key, stripes, priority = 1;
	char name[12];

	snprintf(name, sizeof(name), "%d", index);
	keyslot = member(keyslots, name, json_type_object);
	area = keyslot ? member(keyslot, "area", json_type_object) : NULL;
	af = keyslot ? member(keyslot, "af", json_type_object) : NULL;
	kdf = keyslot ? member(keyslot, "kdf", json_type_object) : NULL;
	if (!area || !af || !kdf || !number_of(keyslot, "key_size", &key_bytes) ||
	    !number_of(area, "key_size", &area_key) || !number_of(area, "offset", &slot->area) ||
	    !number_of(af, "stripes", &stripes))
		return damaged(error, "a key slot is not complete");
	if (key_bytes == 0 || key_bytes > NR_LUKS_KEY_MAX || area_key == 0 ||
	    area_key > NR_LUKS_KEY_MAX)
		return damaged(error, "no key is that long");
	if (stripes != NR_LUKS_STRIPES || slot->area > NR_SIZE_MAX)
		return damaged(error, "a key slot is not where one can be");
	if (facts->key_bytes && key_bytes != facts->key_bytes)
		return damaged(error, "the keys of its slots are not equally long");
	if (!take_kdf(slot, kdf, area_key))
		return damaged(error, "a key slot does not say how its key is derived");
	facts->key_bytes = (size_t)key_bytes;
	if (number_of(keyslot, "priority", &priority))
		slot->ignored = priority == 0;
	slot->active = true;
	return 0;
}

/* The digest of the data's key, and the slots that have that key. */
static int take_digest(struct nr_luks_facts *facts, struct json_object *root, const char *segment,
		       struct nr_error *error)
{
	struct json_object *digests = member(root, "digests", json_type_object);
	struct json_object *keyslots = member(root, "keyslots", json_type_object);
	struct json_object *mine = NULL, *slots;
	uint64_t iterations;
	int err = 0;

	if (!digests || !keyslots)
		return damaged(error, "it has no key slots");
	json_object_object_foreach(digests, key, digest)
	{
		(void)key;
		if (lists(member(digest, "segments", json_type_array), segment))
			mine = digest;
	}
	slots = mine ? member(mine, "keyslots", json_type_array) : NULL;
	if (!mine || !number_of(mine, "iterations", &iterations))
		return damaged(error, "it has no digest of the key");
	for (int i = 0; i < NR_LUKS_SLOTS && !err; i++) {
		char name[12];

		snprintf(name, sizeof(name), "%d", i);
		if (lists(slots, name))
			err = take_slot(facts, keyslots, i, error);
	}
	facts->check = times(iterations, blocks_of(text_of(mine, "hash"), facts->key_bytes));
	return err;
}

int nr_luks_facts_2(const char *json, struct nr_luks_facts *facts, struct nr_error *error)
{
	struct json_object *root = json_tokener_parse(json);
	const char *segment = "";
	int err;

	*facts = (struct nr_luks_facts){ .sector = SECTOR };
	err = root ? take_segments(facts, root, &segment, error) : damaged(error, "it is no JSON");
	if (!err)
		err = take_digest(facts, root, segment, error);
	json_object_put(root);
	return err;
}

/* The verdict. */

bool nr_luks_slot_tried(const struct nr_luks_facts *facts, int asked, int slot)
{
	if (!facts->slot[slot].active)
		return false;
	return asked == slot || (asked == NR_LUKS_ANY_SLOT && !facts->slot[slot].ignored);
}

static int judge_slot(const struct nr_luks_slot *slot, int index,
		      const struct nr_luks_limits *limits, struct nr_error *error)
{
	if (slot->memory > limits->memory)
		return nr_error_set(error, -EFBIG,
				    "opening key slot %d would take %" PRIu64 " MiB of memory, by "
				    "what the header asks for; if that is right, raise "
				    "luks-max-kdf-memory=",
				    index, (slot->memory >> 20) + 1);
	if (slot->lanes > LANES_MAX)
		return nr_error_set(error, -EFBIG,
				    "opening key slot %d would take %" PRIu64 " threads, by what "
				    "the header asks for, which is over %u",
				    index, slot->lanes, LANES_MAX);
	return 0;
}

int nr_luks_judge(const struct nr_luks_facts *facts, int asked, const struct nr_luks_limits *limits,
		  struct nr_error *error)
{
	uint64_t work = 0;
	unsigned tried = 0;
	int err = 0;

	for (int i = 0; i < NR_LUKS_SLOTS && !err; i++) {
		if (!nr_luks_slot_tried(facts, asked, i))
			continue;
		tried++;
		work = plus(work, plus(facts->slot[i].work, facts->check));
		err = judge_slot(&facts->slot[i], i, limits, error);
	}
	if (err)
		return err;
	if (!tried && asked == NR_LUKS_ANY_SLOT)
		return nr_error_set(error, -ENOENT, "it has no key slot that could be opened");
	if (!tried)
		return nr_error_set(error, -ENOENT, "its key slot %d is not in use", asked);
	if (work / UNITS_PER_SECOND >= limits->seconds)
		return nr_error_set(error, -EFBIG,
				    "trying %u key slot%s would take about %" PRIu64 " seconds, by "
				    "what the header asks for; raise luks-max-kdf-time= if that is "
				    "right, or name the slot with luks-key-slot=",
				    tried, tried == 1 ? "" : "s", work / UNITS_PER_SECOND);
	return 0;
}
