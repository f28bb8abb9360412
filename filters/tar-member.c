/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See tar-member.h.
 *
 * The walk goes from header to header.  Headers that describe the next one (GNU L and
 * K, pax x) leave what they say in `next`, which the member they stand before takes.
 * Bytes come through a window, so that archives of many little members are not read
 * 512 bytes at a time.
 *
 * A header, by offset: 0 name[100], 124 size[12], 148 checksum[8], 156 type, 257 magic[8],
 * 345 prefix[155] (ustar) or 386 four ranges and 482 more[1], 483 real size[12] (GNU
 * sparse).  Blocks of further ranges: 21 of them, 504 more[1].
 */
#include "filters/tar-member.h"

#include <assert.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "filters/output.h"
#include "nbdring/checked.h"

#define BLOCK 512u
#define WINDOW_BYTES 16384u
#define TEXT_MAX ((uint64_t)1 << 20) /* of a long name or a pax header, bytes */
#define LISTED_BYTES 240u            /* of names in a refusal */
#define LISTED_NAME_MAX 80u

/* What extended headers say about the member that follows. */
struct extended {
	char *name;        /* L, path, GNU.sparse.name */
	bool sparse_named; /* the latter, which no other replaces */
	bool has_size;
	uint64_t size;
	bool has_real_size;
	uint64_t real_size;
	uint64_t range_offset;   /* pax sparse 0.0: the last GNU.sparse.offset */
	bool sparse;             /* ranges came with the header: pax sparse 0.0 and 0.1 */
	bool map_in_data;        /* the data begins with them: pax sparse 1.0 */
	struct nr_ranges ranges; /* `below` counts from the member's first byte */
	uint64_t stored;         /* bytes in those ranges */
};

struct walk {
	const struct nr_tar_archive *archive;
	const char *entry;
	nr_tar_each_fn *each; /* NULL: it is `entry` that is looked for */
	void *context;
	uint64_t end; /* of what is searched */
	uint64_t at;  /* the next header */
	struct extended next;
	bool found, found_by_pattern;
	struct nr_tar_member *member;
	char *pattern_name; /* what it was that the pattern fits */
	struct nr_text listing;
	uint64_t listed, named; /* members in `listing`, and all that could be served */
	uint8_t window[WINDOW_BYTES];
	uint64_t window_at;
	uint32_t window_length;
	struct nr_error *error;
};

static int damaged(struct walk *w, const char *what)
{
	return nr_error_set(w->error, -EINVAL, "the archive is damaged: %s at byte %" PRIu64, what,
			    w->at);
}

static void forget_extended(struct extended *x)
{
	free(x->name);
	nr_ranges_free(&x->ranges);
	*x = (struct extended){ .name = NULL };
}

/* Bytes. */

static int read_bytes(struct walk *w, uint64_t offset, uint64_t length, void *data)
{
	if (!nr_in_range(offset, length, w->archive->size))
		return nr_error_set(w->error, -EINVAL,
				    "the archive is cut off: it ends after %" PRIu64 " bytes",
				    w->archive->size);
	return w->archive->read(w->archive->context, offset, length, data, w->error);
}

/* The block at OFFSET, a multiple of 512, through the window. */
static int get_block(struct walk *w, uint64_t offset, const uint8_t **block)
{
	if (!nr_in_range(offset, BLOCK, w->archive->size))
		return read_bytes(w, offset, BLOCK, w->window); /* says why not */
	if (offset < w->window_at || offset - w->window_at + BLOCK > w->window_length) {
		uint64_t length = nr_min(WINDOW_BYTES, w->archive->size - offset);
		int err = read_bytes(w, offset, length, w->window);

		w->window_at = offset;
		w->window_length = err ? 0 : (uint32_t)length;
		if (err)
			return err;
	}
	*block = w->window + (offset - w->window_at);
	return 0;
}

static bool is_zero(const uint8_t *block)
{
	return block[0] == 0 && memcmp(block, block + 1, BLOCK - 1) == 0;
}

/* Numbers: octal digits, spaces around, or base 256 with the top bit set. */
static bool get_number(const uint8_t *field, size_t length, uint64_t *number)
{
	uint64_t n = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		if (field[0] != 0x80)
			return false; /* negative, or over 2^64 */
		for (i = 1; i < length; i++) {
			if (n >> 56)
				return false;
			n = n << 8 | field[i];
		}
		*number = n;
		return n <= NR_SIZE_MAX;
	}
	while (i < length && field[i] == ' ')
		i++;
	for (; i < length && field[i] >= '0' && field[i] <= '7'; i++) {
		if (n >> 60)
			return false;
		n = n << 3 | (uint64_t)(field[i] - '0');
	}
	*number = n;
	return n <= NR_SIZE_MAX && (i == length || field[i] == ' ' || field[i] == 0);
}

/* Some tars of old have summed up bytes with signs. */
static bool has_checksum(const uint8_t *block)
{
	uint64_t unsigned_sum = 0, wanted;
	int64_t signed_sum = 0;

	for (unsigned i = 0; i < BLOCK; i++) {
		uint8_t byte = i >= 148 && i < 156 ? ' ' : block[i];

		unsigned_sum += byte;
		signed_sum += (int8_t)byte;
	}
	return get_number(block + 148, 8, &wanted) &&
	       (wanted == unsigned_sum || (int64_t)wanted == signed_sum);
}

/* Decimal digits at *TEXT up to one byte that is UNTIL, which is passed. */
static bool get_decimal(const char **text, const char *end, char until, uint64_t *number)
{
	const char *p = *text;
	uint64_t n = 0;

	for (; p < end && *p >= '0' && *p <= '9'; p++)
		if (!nr_mul(n, 10, &n) || !nr_add(n, (uint64_t)(*p - '0'), &n))
			return false;
	if (p == *text || (p < end && *p != until) || n > NR_SIZE_MAX)
		return false;
	*number = n;
	*text = p < end ? p + 1 : p;
	return true;
}

/* Sparse maps. */

/* Ranges are stored one behind the other. */
static int add_range(struct walk *w, uint64_t offset, uint64_t length)
{
	struct extended *x = &w->next;
	int err = nr_ranges_add(&x->ranges, offset, length, x->stored);

	if (err == -EINVAL || !nr_add(x->stored, length, &x->stored))
		return damaged(w, "a sparse map goes backwards");
	if (err == -E2BIG)
		return nr_error_set(w->error, err, "a sparse member has over %zu ranges",
				    NR_RANGES_MAX);
	return err ? nr_error_system(w->error, err, "a sparse map") : 0;
}

/* COUNT ranges as old GNU headers have them; an empty field ends them. */
static int add_gnu_ranges(struct walk *w, const uint8_t *field, unsigned count)
{
	for (; count > 0 && field[0]; count--, field += 24) {
		uint64_t offset, length;
		int err;

		if (!get_number(field, 12, &offset) || !get_number(field + 12, 12, &length))
			return damaged(w, "a sparse map that is not made of numbers");
		err = add_range(w, offset, length);
		if (err)
			return err;
	}
	return 0;
}

/* The map of a type S member, which may go on in blocks from *DATA on. */
static int read_gnu_map(struct walk *w, const uint8_t *header, uint64_t *data)
{
	bool more = header[482];
	int err;

	if (!get_number(header + 483, 12, &w->next.real_size))
		return damaged(w, "a sparse member without a size");
	w->next.has_real_size = w->next.sparse = true;
	err = add_gnu_ranges(w, header + 386, 4);
	while (more && !err) {
		const uint8_t *block;

		err = get_block(w, *data, &block);
		if (err)
			break;
		*data += BLOCK;
		more = block[504];
		if (more && block[0] == 0)
			return damaged(w, "a sparse map with nothing in it");
		err = add_gnu_ranges(w, block, 21);
	}
	return err;
}

/* pax sparse 0.1: offset,length,offset,length… */
static int read_map_text(struct walk *w, const char *text, const char *end)
{
	int err = 0;

	w->next.sparse = true;
	while (text < end && !err) {
		uint64_t offset, length;

		if (!get_decimal(&text, end, ',', &offset) ||
		    !get_decimal(&text, end, ',', &length))
			return damaged(w, "a sparse map that is not made of numbers");
		err = add_range(w, offset, length);
	}
	return err;
}

/* One number on a line of the map that stands before the data of pax sparse 1.0. */
static int read_map_line(struct walk *w, uint64_t *at, uint64_t end, uint64_t *number)
{
	char digits[24];
	unsigned length = 0;

	while (length < sizeof(digits) && *at < end) {
		const uint8_t *block = NULL;
		int err = get_block(w, nr_round_down(*at, BLOCK), &block);

		if (err)
			return err;
		assert(block);
		digits[length] = (char)block[*at % BLOCK];
		++*at;
		if (digits[length++] == '\n') {
			const char *text = digits;

			if (get_decimal(&text, digits + length, '\n', number))
				return 0;
			break;
		}
	}
	return damaged(w, "a sparse map that is not made of numbers");
}

/* The map takes whole blocks from *DATA on, of the *STORED bytes that there are. */
static int read_map_in_data(struct walk *w, uint64_t *data, uint64_t *stored)
{
	uint64_t at = *data, end = *data + *stored, count, taken;
	int err = read_map_line(w, &at, end, &count);

	w->next.sparse = true;
	for (; count > 0 && !err; count--) {
		uint64_t offset, length;

		err = read_map_line(w, &at, end, &offset);
		if (!err)
			err = read_map_line(w, &at, end, &length);
		if (!err)
			err = add_range(w, offset, length);
	}
	if (err)
		return err;
	if (!nr_round_up(at - *data, BLOCK, &taken) || taken > *stored)
		return damaged(w, "a sparse map that has no end");
	*data += taken;
	*stored -= taken;
	return 0;
}

/* Headers about headers. */

static int replace_name(struct walk *w, const char *text, size_t length)
{
	char *name = strndup(text, length);

	if (!name)
		return nr_error_system(w->error, -ENOMEM, "a name");
	free(w->next.name);
	w->next.name = name;
	return 0;
}

static bool key_is(const char *key, size_t length, const char *name)
{
	return length == strlen(name) && memcmp(key, name, length) == 0;
}

/* One record of a pax header: KEY, and VALUE up to END. */
static int take_record(struct walk *w, const char *key, size_t key_length, const char *value,
		       const char *end)
{
	struct extended *x = &w->next;
	uint64_t number = 0;
	bool ok = true, path = key_is(key, key_length, "path");

	if (key_is(key, key_length, "GNU.sparse.name") || (path && !x->sparse_named)) {
		x->sparse_named |= !path;
		return replace_name(w, value, (size_t)(end - value));
	}
	if (key_is(key, key_length, "GNU.sparse.map"))
		return read_map_text(w, value, end);
	if (key_is(key, key_length, "size")) {
		ok = x->has_size = get_decimal(&value, end, '\n', &x->size);
	} else if (key_is(key, key_length, "GNU.sparse.size") ||
		   key_is(key, key_length, "GNU.sparse.realsize")) {
		ok = x->has_real_size = get_decimal(&value, end, '\n', &x->real_size);
	} else if (key_is(key, key_length, "GNU.sparse.major")) {
		ok = get_decimal(&value, end, '\n', &number);
		x->map_in_data = number == 1;
		if (number > 1)
			return nr_error_set(w->error, -ENOTSUP,
					    "sparse members of form %" PRIu64 " are not known",
					    number);
	} else if (key_is(key, key_length, "GNU.sparse.offset")) {
		ok = get_decimal(&value, end, '\n', &x->range_offset);
	} else if (key_is(key, key_length, "GNU.sparse.numbytes")) {
		ok = get_decimal(&value, end, '\n', &number);
		x->sparse = true;
		if (ok)
			return add_range(w, x->range_offset, number);
	}
	return ok ? 0 : damaged(w, "a number that is none in a pax header");
}

/* "LENGTH KEY=VALUE\n", LENGTH being that of all of it, again and again. */
static int take_records(struct walk *w, const char *text, const char *end)
{
	int err = 0;

	while (text < end && *text && !err) {
		const char *record = text, *equals;
		uint64_t length;

		if (!get_decimal(&text, end, ' ', &length) || length > (uint64_t)(end - record) ||
		    length < (uint64_t)(text - record) + 2 || record[length - 1] != '\n')
			return damaged(w, "a pax header that is none");
		equals = memchr(text, '=', (size_t)(record + length - text));
		if (!equals)
			return damaged(w, "a pax header that is none");
		err = take_record(w, text, (size_t)(equals - text), equals + 1,
				  record + length - 1);
		text = record + length;
	}
	return err;
}

/* The text of SIZE bytes behind the header: a long name, or pax records. */
static int take_text(struct walk *w, uint8_t type, uint64_t data, uint64_t size)
{
	char *text;
	int err;

	if (size > TEXT_MAX)
		return damaged(w, "a header of over 1 MiB");
	text = malloc(size + 1);
	if (!text)
		return nr_error_system(w->error, -ENOMEM, "a header");
	text[size] = '\0';
	err = read_bytes(w, data, size, text);
	if (!err && type == 'L')
		err = replace_name(w, text, size);
	else if (!err)
		err = take_records(w, text, text + size);
	free(text);
	return err;
}

/* Members. */

static const char *without_dot(const char *name)
{
	while (name[0] == '.' && name[1] == '/')
		for (name += 2; *name == '/';)
			name++;
	return name;
}

/* The name in the header; ROOM is 100 + 1 + 155 + 1 bytes at least. */
static void name_of_header(const uint8_t *header, char *name)
{
	size_t length = 0;

	if (memcmp(header + 257, "ustar\0", 6) == 0 && header[345]) {
		length = strnlen((const char *)header + 345, 155);
		memcpy(name, header + 345, length);
		name[length++] = '/';
	}
	memcpy(name + length, header, 100);
	name[length + 100] = '\0';
}

static void list(struct walk *w, const char *name)
{
	w->named++;
	if (strlen(name) > LISTED_NAME_MAX || w->listing.used > LISTED_BYTES)
		return;
	if (w->listed++)
		nr_text_add(&w->listing, ", ");
	nr_text_add_quoted(&w->listing, name);
}

/* It is the one: STORED bytes from DATA on. */
static int take_member(struct walk *w, uint64_t data, uint64_t stored)
{
	struct nr_tar_member *m = w->member;
	struct extended *x = &w->next;
	int err = 0;

	if (!nr_in_range(data, stored, w->archive->size))
		return nr_error_set(w->error, -EINVAL,
				    "the archive is cut off: it ends after %" PRIu64
				    " bytes, and the member after %" PRIu64,
				    w->archive->size, data + stored);
	m->sparse = x->sparse;
	m->size = x->sparse && x->has_real_size ? x->real_size : stored;
	if (!x->sparse) {
		err = nr_ranges_add(&m->ranges, 0, stored, data);
		return err ? nr_error_system(w->error, err, "the member") : 0;
	}
	for (size_t i = 0; i < x->ranges.count && !err; i++) {
		const struct nr_range *r = &x->ranges.range[i];

		if (!nr_in_range(r->offset, r->length, m->size) ||
		    !nr_in_range(r->below, r->length, stored))
			err = damaged(w, "a sparse map that does not fit the member");
		else if (nr_ranges_add(&m->ranges, r->offset, r->length, data + r->below))
			err = nr_error_system(w->error, -ENOMEM, "a sparse map");
	}
	if (err)
		nr_ranges_free(&m->ranges);
	return err;
}

/* A regular file called NAME: is it the one? */
static int look_at(struct walk *w, const char *name, uint64_t data, uint64_t stored)
{
	const char *plain = without_dot(name), *wanted;
	int err;

	if (w->each)
		return w->next.sparse ? 0 : w->each(w->context, plain, data, stored, w->error);
	wanted = without_dot(w->entry);
	list(w, plain);
	if (strcmp(plain, wanted) == 0) {
		nr_ranges_free(&w->member->ranges); /* of one that the pattern fits */
		w->found = true;
		return take_member(w, data, stored);
	}
	if (fnmatch(wanted, plain, 0) != 0)
		return 0;
	if (w->found_by_pattern)
		return nr_error_set(w->error, -EEXIST,
				    "%.100s stands for more than one member: %.100s and %.100s",
				    w->entry, w->pattern_name, plain);
	w->found_by_pattern = true;
	w->pattern_name = strdup(plain);
	if (!w->pattern_name)
		return nr_error_system(w->error, -ENOMEM, "a name");
	err = take_member(w, data, stored);
	return err;
}

static int is_no_file(struct walk *w, const char *name, uint8_t type)
{
	if (w->each || strcmp(without_dot(name), without_dot(w->entry)) != 0)
		return 0;
	return nr_error_set(w->error, -EINVAL, "%.100s is %s, not a file", w->entry,
			    type == '1'   ? "a link to another member"
			    : type == '2' ? "a symbolic link"
			    : type == '5' ? "a folder"
			    : type == 'M' ? "the rest of a file that begins in another archive"
					  : "something else");
}

/* The header of a member, with all that the headers before it have said. */
static int take_header(struct walk *w, const uint8_t *header, uint64_t size)
{
	static const char files[] = { '0', '\0', '7', 'S' };
	uint64_t data = w->at + BLOCK, stored = w->next.has_size ? w->next.size : size;
	uint8_t type = header[156];
	char own_name[260];
	const char *name = own_name;
	bool file = memchr(files, type, sizeof(files)) != NULL;
	uint64_t length;
	int err = 0;

	name_of_header(header, own_name);
	if (w->next.name)
		name = w->next.name;
	if (type >= '1' && type <= '6')
		stored = 0;
	if (type == 'S')
		err = read_gnu_map(w, header, &data);
	/* An end that overflows is behind the end of the archive, where the walk ends. */
	if (!nr_round_up(stored, BLOCK, &length) || !nr_add(data, length, &w->at))
		w->at = UINT64_MAX;
	if (!err && file && w->next.map_in_data)
		err = read_map_in_data(w, &data, &stored);
	if (!err)
		err = file ? look_at(w, name, data, stored) : is_no_file(w, name, type);
	forget_extended(&w->next);
	return err;
}

/* The header at w->at; w->at becomes that of the next. */
static int take_block(struct walk *w, const uint8_t *header)
{
	uint8_t type = header[156];
	uint64_t size, length, next;
	int err = 0;

	if (!has_checksum(header))
		return w->at == 0 ? nr_error_set(w->error, -EINVAL,
						 "this is no tar archive: there is no header at "
						 "its beginning")
				  : damaged(w, "there is no header");
	if (!get_number(header + 124, 12, &size))
		return damaged(w, "a header without a size");
	if (type != 'L' && type != 'K' && type != 'x' && type != 'g' && type != 'X')
		return take_header(w, header, size);
	if (!nr_round_up(size, BLOCK, &length) || !nr_add(w->at + BLOCK, length, &next))
		return damaged(w, "a header of over 1 MiB");
	if (type == 'L' || type == 'x' || type == 'X')
		err = take_text(w, type, w->at + BLOCK, size);
	w->at = next;
	return err;
}

static int walk_all(struct walk *w)
{
	unsigned zeroes = 0;
	int err = 0;

	/* Two blocks of zeroes are the end; the end of the archive is one, too. */
	for (unsigned i = 0; !err && !w->found && zeroes < 2; i++) {
		const uint8_t *header;

		if (w->at >= w->archive->size || w->archive->size - w->at < BLOCK)
			break;
		if (w->at >= w->end)
			return w->found_by_pattern
				       ? 0
				       : nr_error_set(w->error, -ENOENT,
						      "there is no %.100s in the first %" PRIu64
						      " bytes; more than tar-limit= are not "
						      "searched",
						      w->entry, w->end);
		if (i == NR_TAR_MEMBERS_MAX)
			return nr_error_set(w->error, -E2BIG, "the archive has over %u headers",
					    NR_TAR_MEMBERS_MAX);
		err = get_block(w, w->at, &header);
		if (err)
			break;
		zeroes = is_zero(header) ? zeroes + 1 : 0;
		if (zeroes)
			w->at += BLOCK;
		else
			err = take_block(w, header);
	}
	return err;
}

static int not_found(struct walk *w)
{
	if (w->named == 0)
		return nr_error_set(w->error, -ENOENT,
				    "there is no %.100s: no file is in the archive", w->entry);
	if (w->listing.failed || w->listed == 0)
		return nr_error_set(w->error, -ENOENT,
				    "there is no %.100s; the archive has %" PRIu64 " files",
				    w->entry, w->named);
	if (w->named > w->listed)
		return nr_error_set(w->error, -ENOENT,
				    "there is no %.100s; the archive has %s and %" PRIu64 " more",
				    w->entry, w->listing.data, w->named - w->listed);
	return nr_error_set(w->error, -ENOENT, "there is no %.100s; the archive has %s", w->entry,
			    w->listing.data);
}

int nr_tar_find(const struct nr_tar_archive *archive, const char *entry, uint64_t limit,
		struct nr_tar_member *member, struct nr_error *error)
{
	struct walk *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return nr_error_system(error, -ENOMEM, "a window");
	*member = (struct nr_tar_member){ .size = 0 };
	*w = (struct walk){ .archive = archive, .entry = entry, .member = member, .error = error };
	w->end = limit ? limit : UINT64_MAX;
	err = walk_all(w);
	if (!err && !w->found && !w->found_by_pattern)
		err = not_found(w);
	if (err)
		nr_ranges_free(&member->ranges);
	forget_extended(&w->next);
	nr_text_free(&w->listing);
	free(w->pattern_name);
	free(w);
	return err;
}

int nr_tar_each(const struct nr_tar_archive *archive, nr_tar_each_fn *each, void *context,
		struct nr_error *error)
{
	struct walk *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return nr_error_system(error, -ENOMEM, "a window");
	*w = (struct walk){ .archive = archive, .each = each, .context = context, .error = error };
	w->end = UINT64_MAX;
	err = walk_all(w);
	forget_extended(&w->next);
	free(w);
	return err;
}
