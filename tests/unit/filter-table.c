/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See filter-table.h.
 *
 * Parameters may hold words that stand for something else: $SIZE for the size of the
 * disk below, $HALF for about half of it, $DIR for a folder of the test's own, and
 * $RESCUED and $MAPPED for files in that folder that fit the size.
 */
#include "filter-table.h"

#include <dirent.h>
#include <inttypes.h>
#include <unistd.h>

#include "backends/table.h"
#include "filters/filters.h"
#include "filters/table.h"
#include "nbdring/checked.h"
#include "src/cli/words.h"

#define TABLE_BYTES 65536u
#define HALF_UNIT 65536u

static const struct filter_row rows[] = {
	/* addresses */
	{ "offset", "offset=0", TRANSPARENT, NULL, false, false, 0 },
	{ "partition", "partition=1", TRANSPARENT, "partitioned", true, true, 2 * TABLE_BYTES },
	{ "truncate", "round-down=512", TRANSPARENT, NULL, false, false, 0 },
	{ "swab", "swab-bits=8", TRANSPARENT, NULL, false, false, 0 },
	{ "map", "map=0+$HALF:$HALF map=$HALF+$HALF:0", TRANSPARENT, NULL, true, false,
	  2 * HALF_UNIT },
	{ "scan", "scan-forever=true", TRANSPARENT, "nocache cachemode=emulate", false, false, 0 },
	{ "xva", "", APART, NULL, false, true, 0 },
	{ "zstd", "", APART, NULL, false, true, 0 },
	{ "gzip", "", APART, NULL, false, true, 0 },
	{ "xz", "", APART, NULL, false, true, 0 },
	{ "lz4", "", APART, NULL, false, true, 0 },
	{ "bzip2", "", APART, NULL, false, true, 0 },
	{ "luks", "", APART, NULL, false, true, 0 },
	{ "tar", "tar-entry=disk", TRANSPARENT, "archived", true, true, 2 * TABLE_BYTES },
	/* overlays; in memory, since most of these tests do no I/O */
	{ "cow", "cow-store=memory cow-block-size=4k", TRANSPARENT, NULL, false, false, 0 },
	{ "readahead", "", TRANSPARENT, NULL, false, false, 0 },
	{ "cacheextents", "", TRANSPARENT, NULL, false, false, 0 },
	/* masking */
	{ "readonly", "", TRANSPARENT, NULL, false, false, 0 },
	{ "protect", "protect=~0-", TRANSPARENT, NULL, false, false, 0 },
	{ "nozero", "", TRANSPARENT, NULL, false, false, 0 },
	{ "discard", "detect-zeroes=on", TRANSPARENT, NULL, false, false, 0 },
	{ "fua", "", TRANSPARENT, NULL, false, false, 0 },
	{ "noextents", "", TRANSPARENT, NULL, false, false, 0 },
	{ "nocache", "", TRANSPARENT, NULL, false, false, 0 },
	{ "noparallel", "", TRANSPARENT, NULL, false, false, 0 },
	{ "multi-conn", "", TRANSPARENT, NULL, false, false, 0 },
	{ "rotational", "", TRANSPARENT, NULL, false, false, 0 },
	{ "extentlist", "extentlist=$MAPPED", TRANSPARENT, NULL, true, false, 0 },
	{ "mask", "mask=fast-zero", TRANSPARENT, NULL, false, false, 0 },
	/* caching: so little that blocks come and go */
	{ "cache", "cache-max-size=64k cache-on-read=true", TRANSPARENT, NULL, false, false, 0 },
	/* faults, with the faults switched off */
	{ "error", "error-rate=0", TRANSPARENT, NULL, false, false, 0 },
	{ "delay", "", TRANSPARENT, NULL, false, false, 0 },
	{ "pause", "pause-control=$DIR/pause.sock", TRANSPARENT, NULL, false, false, 0 },
	{ "evil", "evil-probability=0", TRANSPARENT, NULL, false, false, 0 },
	{ "ddrescue", "ddrescue-mapfile=$RESCUED", TRANSPARENT, NULL, true, false, 0 },
	/* A window so that many are held, not few for long. */
	{ "short", "window=20us", TRANSPARENT, NULL, false, false, 0 },
	{ "checkwrite", "", REFUSES, NULL, false, false, 0 },
	{ "verify", "twin='memory $SIZE'", TRANSPARENT, NULL, true, false, 0 },
	{ "retry-request", "", TRANSPARENT, NULL, false, false, 0 },
	{ "retry", "", TRANSPARENT, NULL, false, false, 0 },
	/* policy */
	{ "limit", "limit=0", TRANSPARENT, NULL, false, false, 0 },
	{ "ip", "", TRANSPARENT, NULL, false, false, 0 },
	{ "rate", "", TRANSPARENT, NULL, false, false, 0 },
	{ "time-limit", "", TRANSPARENT, NULL, false, false, 0 },
	{ "exitlast", "", TRANSPARENT, NULL, false, false, 0 },
	{ "exitwhen", "", TRANSPARENT, NULL, false, false, 0 },
	{ "exportname", "", TRANSPARENT, NULL, false, false, 0 },
	/* observation and alignment */
	{ "log", "logfile=/dev/null", TRANSPARENT, NULL, false, false, 0 },
	{ "stats", "statsfile=/dev/null", TRANSPARENT, NULL, false, false, 0 },
	{ "count", "", TRANSPARENT, NULL, false, false, 0 },
	{ "blocksize", "minblock=4k maxdata=64k maxlen=256k", TRANSPARENT, NULL, false, false, 0 },
	{ "blocksize-policy", "blocksize-preferred=64k", TRANSPARENT, NULL, false, false, 0 },
	{ "nofilter", "", TRANSPARENT, NULL, false, false, 0 },
	{ "cache", "cache=writethrough cache-max-size=64k cache-on-read=true cache-policy=lru",
	  TRANSPARENT, NULL, false, false, 0 },
	{ "cache", "cache=unsafe cache-max-size=64k cache-policy=arc", TRANSPARENT, NULL, false,
	  false, 0 },
	{ "cache", "cache=writethrough cache-max-size=64k cache-on-write=false", TRANSPARENT, NULL,
	  false, false, 0 },
	{ "cache", "cache-max-size=256k cache-min-block-size=16k cache-dirty-max=20", TRANSPARENT,
	  NULL, false, false, 0 },
	/* Modes.  Block sizes and addresses are for those who draw them by lot. */
	{ "truncate", "round-down=4096", TRANSPARENT, NULL, false, false, 0 },
	{ "cow", "cow-store=memory", TRANSPARENT, NULL, false, false, 0 },
	{ "cow", "cow-store=memory cow-on-read=true cow-on-cache=true", TRANSPARENT, NULL, false,
	  false, 0 },
	{ "nozero", "zeromode=emulate", TRANSPARENT, NULL, false, false, 0 },
	{ "nozero", "zeromode=emulate fastzeromode=none", TRANSPARENT, NULL, false, false, 0 },
	{ "nozero", "zeromode=emulate fastzeromode=ignore", TRANSPARENT, NULL, false, false, 0 },
	{ "fua", "fuamode=pass", TRANSPARENT, NULL, false, false, 0 },
	{ "fua", "fuamode=discard", TRANSPARENT, NULL, false, false, 0 },
	{ "nocache", "cachemode=emulate", TRANSPARENT, NULL, false, false, 0 },
	{ "nocache", "cachemode=nop", TRANSPARENT, NULL, false, false, 0 },
	{ "noparallel", "serialize=requests", TRANSPARENT, NULL, false, false, 0 },
	{ "noparallel", "serialize=connections", TRANSPARENT, NULL, false, false, 0 },
	{ "multi-conn", "multi-conn-mode=disable", TRANSPARENT, NULL, false, false, 0 },
	{ "multi-conn", "multi-conn-mode=unsafe", TRANSPARENT, NULL, false, false, 0 },
	{ "log", "logfile=/dev/null log-format=json", TRANSPARENT, NULL, false, false, 0 },
	{ "stats", "statsfile=/dev/null stats-format=json", TRANSPARENT, NULL, false, false, 0 },
};

const struct filter_row *filter_row(const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	fprintf(stderr, "the filter %s has no row in tests/unit/filter-table.c\n", name);
	abort();
}

const struct filter_row *filter_row_at(size_t index)
{
	return index < sizeof(rows) / sizeof(rows[0]) ? &rows[index] : NULL;
}

/*
 * partitioned, archived: one partition, one member of an archive, is from 64 KiB to about
 * the end of the disk.  Reads of the first 64 KiB are answered with what says so.
 */

struct tabled {
	uint8_t table[TABLE_BYTES];
};

static void put_le32(uint8_t *p, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

static int make_partition(struct nr_layer *layer, struct nr_error *error)
{
	struct tabled *p = layer->instance;
	uint64_t size = nr_round_down(nr_layer_size(layer->below), 4096);
	uint8_t *entry = p->table + 446;

	LAYER_CHECK(size > TABLE_BYTES && size / 512 <= UINT32_MAX);
	entry[4] = 0x83;
	put_le32(entry + 8, TABLE_BYTES / 512);
	put_le32(entry + 12, (uint32_t)((size - TABLE_BYTES) / 512));
	p->table[510] = 0x55;
	p->table[511] = 0xaa;
	return 0;
}

/* A member called NAME of SIZE bytes: its header. */
static void put_tar_header(uint8_t *block, const char *name, uint64_t size)
{
	unsigned sum = 0;

	snprintf((char *)block, 100, "%s", name);
	snprintf((char *)block + 124, 12, "%011" PRIo64, size & UINT32_MAX);
	if (size > UINT32_MAX) {
		block[124] = 0x80;
		for (unsigned i = 0; i < 11; i++)
			block[135 - i] = i < 8 ? (uint8_t)(size >> 8 * i) : 0;
	}
	block[156] = '0';
	memset(block + 148, ' ', 8);
	for (unsigned i = 0; i < 512; i++)
		sum += block[i];
	snprintf((char *)block + 148, 8, "%06o", sum);
}

static int make_archive(struct nr_layer *layer, struct nr_error *error)
{
	struct tabled *p = layer->instance;
	uint64_t size = nr_round_down(nr_layer_size(layer->below), 4096);

	LAYER_CHECK(size > TABLE_BYTES);
	put_tar_header(p->table, "readme", TABLE_BYTES - 1024);
	put_tar_header(p->table + TABLE_BYTES - 512, "disk", size - TABLE_BYTES);
	return 0;
}

static void put_table_in(struct nr_layer *layer, struct nr_request *req)
{
	struct tabled *p = layer->instance;
	struct nr_buffer *buffer;
	uint8_t *data;

	if (req->operation != NR_READ || req->offset >= TABLE_BYTES || req->error) {
		nr_finish(layer, req, req->error);
		return;
	}
	buffer = nr_buffer_get(req->worker, req->length, &data);
	LAYER_CHECK(buffer);
	nr_request_copy_out(req, 0, req->length, data);
	memcpy(data, p->table + req->offset, nr_min(req->length, TABLE_BYTES - req->offset));
	nr_answer_clear(req);
	LAYER_CHECK(nr_answer_data(req, data, req->length, buffer));
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type partitioned_type = {
	.abi = NR_LAYER_ABI,
	.name = "partitioned",
	.summary = "has a partition",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.instance_size = sizeof(struct tabled),
	.open = make_partition,
	.done = put_table_in,
	.contexts_pass = true,
};

static const struct nr_layer_type archived_type = {
	.abi = NR_LAYER_ABI,
	.name = "archived",
	.summary = "has an archive",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.instance_size = sizeof(struct tabled),
	.open = make_archive,
	.done = put_table_in,
	.contexts_pass = true,
};

/* Files. */

static char folder[64];

static bool has_files;

void filter_table_clear(void)
{
	DIR *dir = has_files ? opendir(folder) : NULL;
	struct dirent *entry;
	char path[512];

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		unlink(path);
	}
	if (dir)
		closedir(dir);
	has_files = false;
}

static void remove_folder(void)
{
	has_files = true; /* a layer may have made one */
	filter_table_clear();
	rmdir(folder);
}

static const char *own_folder(void)
{
	if (!folder[0]) {
		snprintf(folder, sizeof(folder), "/tmp/filter-table-XXXXXX");
		LAYER_CHECK(mkdtemp(folder));
		atexit(remove_folder);
	}
	return folder;
}

/* "DIR/NAME-SIZE", which holds TEXT. */
static void write_file(char *path, size_t room, const char *name, uint64_t size, const char *text)
{
	FILE *file;

	snprintf(path, room, "%s/%s-%" PRIu64, own_folder(), name, size);
	has_files = true;
	file = fopen(path, "we");
	LAYER_CHECK(file);
	LAYER_CHECK(fputs(text, file) >= 0);
	LAYER_CHECK(fclose(file) == 0);
}

/* Plans. */

/* What the word at TEXT stands for, and its length; NULL: nothing. */
static const char *meaning(const char *text, uint64_t size, size_t *length)
{
	static const char *const words[] = { "$SIZE", "$HALF", "$DIR", "$RESCUED", "$MAPPED" };
	static char value[512];
	char content[64];

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		*length = strlen(words[i]);
		if (strncmp(text, words[i], *length) != 0)
			continue;
		switch (i) {
		case 0:
			snprintf(value, sizeof(value), "%" PRIu64, size);
			break;
		case 1:
			snprintf(value, sizeof(value), "%" PRIu64,
				 nr_round_down(size / 2, HALF_UNIT));
			break;
		case 2:
			snprintf(value, sizeof(value), "%s", own_folder());
			break;
		case 3:
			snprintf(content, sizeof(content), "0 ?\n0 0x%" PRIx64 " +\n", size);
			write_file(value, sizeof(value), "rescued", size, content);
			break;
		default:
			snprintf(content, sizeof(content), "0 %" PRIu64 "\n", size);
			write_file(value, sizeof(value), "mapped", size, content);
			break;
		}
		return value;
	}
	return NULL;
}

const char *filter_plan(const struct filter_row *row, uint64_t size)
{
	static char plan[1024];
	size_t used = (size_t)snprintf(plan, sizeof(plan), "%s ", row->name), length;

	for (const char *text = row->parameters; *text; text += length) {
		const char *value = meaning(text, size, &length);

		if (!value)
			length = 1;
		used += (size_t)snprintf(plan + used, sizeof(plan) - used, "%.*s",
					 value ? (int)strlen(value) : 1, value ? value : text);
		LAYER_CHECK(used < sizeof(plan));
	}
	if (row->below)
		used += (size_t)snprintf(plan + used, sizeof(plan) - used, " | %s", row->below);
	LAYER_CHECK(used < sizeof(plan));
	return plan;
}

void filter_table_options(struct layer_options *options)
{
	static const struct nr_layer_type *const types[] = { &partitioned_type, &archived_type,
							     NULL };
	static const struct nr_catalog catalog = { nr_backends, nr_filters };
	static const struct nr_surroundings surroundings = { .parse = nr_words_parse,
							     .forget = nr_words_forget };

	nr_words_set_catalog(&catalog);
	options->types = types;
	options->surroundings = &surroundings;
	options->aligner = &nr_blocksize_type;
	options->ring = true;
}
