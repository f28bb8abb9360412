/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading ova.xml (xva-facts.h) with libexpat.
 *
 * Members of three levels of structures count: the whole, an object, and the object's
 * fields.  What expat is given is bounded: elements are those of XML-RPC, so that there are
 * few names; they are not nested deeply; there is no document type, so that there are no
 * entities; and what expat has to hold before it says anything of it (a tag, a comment) is
 * not long, for which it gets the bytes in pieces.
 */
#include <errno.h>
#include <expat.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "filters/xva-facts.h"
#include "nbdring/checked.h"
#include "nbdring/limits.h"

#define DEPTH_MAX 64u
#define LEVELS 3u /* of structures whose members are looked at */
#define PIECE 65536u
#define HELD_MAX ((XML_Index)2 * PIECE) /* bytes */

enum field { CLASS, ID, UUID, NAME, SIZE, SNAPSHOT, VDI, TYPE, USERDEVICE, DEVICE, FIELDS };

static const struct {
	const char *name;
	unsigned level;
} fields[FIELDS] = {
	[CLASS] = { "class", 2 },
	[ID] = { "id", 2 },
	[UUID] = { "uuid", 3 },
	[NAME] = { "name_label", 3 },
	[SIZE] = { "virtual_size", 3 },
	[SNAPSHOT] = { "is_a_snapshot", 3 },
	[VDI] = { "VDI", 3 },
	[TYPE] = { "type", 3 },
	[USERDEVICE] = { "userdevice", 3 },
	[DEVICE] = { "device", 3 },
};

/* What may be inside a value, and whether that is text. */
static const struct {
	const char *name;
	bool text;
} elements[] = {
	{ "value", false },
	{ "struct", false },
	{ "member", false },
	{ "name", true },
	{ "array", false },
	{ "data", false },
	{ "string", true },
	{ "i4", true },
	{ "i8", true },
	{ "int", true },
	{ "boolean", true },
	{ "double", true },
	{ "nil", true },
	{ "base64", true },
	{ "ex:i8", true },
	{ "ex:nil", true },
	{ "dateTime.iso8601", true },
};

struct attachment {
	char ref[NR_XVA_REF_MAX];
	uint32_t device;
	bool cd;
};

struct reader {
	XML_Parser xml;
	struct nr_xva_facts *facts;
	struct attachment *attachment;
	size_t attachments;
	unsigned depth, level;
	char member[LEVELS + 1][32];
	char value[FIELDS][NR_XVA_TEXT_MAX]; /* of the object */
	char text[NR_XVA_TEXT_MAX];
	size_t used;
	bool over;   /* the text is longer than that */
	bool closed; /* what follows is not of it */
	struct nr_error *error;
	int code; /* of what stopped it */
};

static void stop(struct reader *r, int code, const char *why)
{
	if (r->code == 0)
		r->code = nr_error_set(r->error, code, "%s", why);
	(void)XML_StopParser(r->xml, XML_FALSE);
}

static void begin_text(struct reader *r)
{
	r->used = 0;
	r->over = r->closed = false;
}

static void take_text(const struct reader *r, char *to, size_t size)
{
	bool fits = !r->over && r->used < size;

	if (fits)
		memcpy(to, r->text, r->used);
	to[fits ? r->used : 0] = '\0';
}

/* Objects. */

static uint32_t device_of(const struct reader *r)
{
	const char *number = r->value[USERDEVICE], *name = r->value[DEVICE];
	size_t digits = strspn(number, "0123456789"), length = strlen(name);

	if (digits > 0 && digits < 6 && !number[digits])
		return (uint32_t)strtoul(number, NULL, 10);
	/* xvda, sda, hda */
	if (length >= 3 && length <= 4 && name[length - 2] == 'd' && name[length - 1] >= 'a' &&
	    name[length - 1] <= 'z')
		return (uint32_t)(name[length - 1] - 'a');
	return NR_XVA_NO_DEVICE;
}

static enum nr_xva_size size_of(const char *text, uint64_t *size)
{
	size_t digits = strspn(text, "0123456789");

	if (!text[0])
		return NR_XVA_NO_SIZE;
	if (text[digits])
		return NR_XVA_BAD_SIZE;
	errno = 0;
	*size = strtoull(text, NULL, 10);
	return errno || *size == 0 || *size > NR_SIZE_MAX ? NR_XVA_BAD_SIZE : NR_XVA_SIZE;
}

static void add_disk(struct reader *r)
{
	struct nr_xva_disk *d;

	if (!nr_xva_is_ref(r->value[ID]))
		return;
	if (r->facts->count == NR_XVA_DISKS_MAX) {
		stop(r, -E2BIG, "there are too many disks");
		return;
	}
	d = &r->facts->disk[r->facts->count++];
	*d = (struct nr_xva_disk){ .device = NR_XVA_NO_DEVICE };
	memcpy(d->ref, r->value[ID], sizeof(d->ref));
	memcpy(d->uuid, r->value[UUID], sizeof(d->uuid));
	memcpy(d->name, r->value[NAME], sizeof(d->name));
	d->has_size = size_of(r->value[SIZE], &d->size);
	d->snapshot = strcmp(r->value[SNAPSHOT], "1") == 0;
}

static void add_attachment(struct reader *r)
{
	struct attachment *a;

	if (!nr_xva_is_ref(r->value[VDI]))
		return;
	if (r->attachments == NR_XVA_DISKS_MAX) {
		stop(r, -E2BIG, "there are too many devices");
		return;
	}
	a = &r->attachment[r->attachments++];
	memcpy(a->ref, r->value[VDI], sizeof(a->ref));
	a->device = device_of(r);
	a->cd = strcmp(r->value[TYPE], "CD") == 0;
}

static void end_object(struct reader *r)
{
	if (strcmp(r->value[CLASS], "VDI") == 0)
		add_disk(r);
	if (strcmp(r->value[CLASS], "VBD") == 0)
		add_attachment(r);
}

static void end_value(struct reader *r)
{
	unsigned level = r->level;

	if (level < 2 || level > LEVELS || strcmp(r->member[1], "objects") != 0 ||
	    (level == 3 && strcmp(r->member[2], "snapshot") != 0))
		return;
	for (unsigned i = 0; i < FIELDS; i++)
		if (fields[i].level == level && strcmp(r->member[level], fields[i].name) == 0)
			take_text(r, r->value[i], sizeof(r->value[i]));
}

/* Elements. */

static void XMLCALL begin_element(void *context, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *r = context;
	unsigned i = 0;

	while (i < sizeof(elements) / sizeof(elements[0]) && strcmp(elements[i].name, name) != 0)
		i++;
	if (i == sizeof(elements) / sizeof(elements[0]) || attributes[0])
		stop(r, -EINVAL, "it is no XML-RPC");
	else if (++r->depth > DEPTH_MAX)
		stop(r, -EINVAL, "it is nested too deeply");
	if (r->code)
		return;
	begin_text(r);
	if (strcmp(name, "struct") == 0 && ++r->level == 2)
		memset(r->value, 0, sizeof(r->value));
	if (strcmp(name, "struct") == 0 || strcmp(name, "member") == 0)
		if (r->level <= LEVELS)
			r->member[r->level][0] = '\0';
}

static void XMLCALL end_element(void *context, const XML_Char *name)
{
	struct reader *r = context;

	if (r->code)
		return;
	r->depth--;
	if (strcmp(name, "name") == 0 && r->level <= LEVELS)
		take_text(r, r->member[r->level], sizeof(r->member[0]));
	if (strcmp(name, "value") == 0)
		end_value(r);
	if (strcmp(name, "struct") == 0 && r->level-- == 2)
		end_object(r);
	for (unsigned i = 0; i < sizeof(elements) / sizeof(elements[0]); i++)
		if (strcmp(elements[i].name, name) == 0 && !elements[i].text)
			begin_text(r);
	r->closed = true;
}

static void XMLCALL add_text(void *context, const XML_Char *text, int length)
{
	struct reader *r = context;

	if (r->closed || r->over)
		return;
	if ((size_t)length > sizeof(r->text) - r->used) {
		r->over = true;
		return;
	}
	memcpy(r->text + r->used, text, (size_t)length);
	r->used += (size_t)length;
}

static void XMLCALL refuse_doctype(void *context, const XML_Char *name, const XML_Char *system,
				   const XML_Char *public, int internal)
{
	stop(context, -EINVAL, "it has a document type, which may declare entities");
}

/* All of it. */

static int feed(struct reader *r, const char *xml, size_t length)
{
	for (size_t at = 0; at < length && !r->code;) {
		size_t piece = (size_t)nr_min(PIECE, length - at);
		bool last = at + piece == length;

		if (XML_Parse(r->xml, xml + at, (int)piece, last) != XML_STATUS_OK && !r->code)
			return nr_error_set(r->error, -EINVAL, "it is no XML: %s in line %lu",
					    XML_ErrorString(XML_GetErrorCode(r->xml)),
					    (unsigned long)XML_GetCurrentLineNumber(r->xml));
		at += piece;
		if (!r->code && !last && (XML_Index)at - XML_GetCurrentByteIndex(r->xml) > HELD_MAX)
			stop(r, -EINVAL, "a tag is too long");
	}
	return r->code;
}

static int compare_attachments(const void *left, const void *right)
{
	const struct attachment *a = left, *b = right;

	return strcmp(a->ref, b->ref);
}

/* The first device of each disk; CDs go. */
static void attach(struct reader *r)
{
	struct nr_xva_facts *facts = r->facts;
	size_t kept = 0;

	if (r->attachments > 0)
		qsort(r->attachment, r->attachments, sizeof(*r->attachment), compare_attachments);
	for (size_t i = 0; i < facts->count; i++) {
		struct nr_xva_disk *d = &facts->disk[i];
		struct attachment key = { .cd = false }, *a = NULL;

		memcpy(key.ref, d->ref, sizeof(key.ref));
		if (r->attachments > 0)
			a = bsearch(&key, r->attachment, r->attachments, sizeof(key),
				    compare_attachments);
		while (a && a > r->attachment && strcmp(a[-1].ref, d->ref) == 0)
			a--;
		d->cd = a != NULL;
		for (; a && a < r->attachment + r->attachments && strcmp(a->ref, d->ref) == 0;
		     a++) {
			d->cd &= a->cd;
			d->device = (uint32_t)nr_min(d->device, a->device);
		}
		if (!d->cd)
			facts->disk[kept++] = *d;
	}
	facts->count = kept;
}

int nr_xva_facts_parse(const char *xml, size_t length, struct nr_xva_facts *facts,
		       struct nr_error *error)
{
	struct reader *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;

	*facts = (struct nr_xva_facts){ .disk = NULL };
	if (!r)
		return nr_error_system(error, err, "ova.xml");
	r->facts = facts;
	r->error = error;
	r->xml = XML_ParserCreate(NULL);
	facts->disk = malloc(NR_XVA_DISKS_MAX * sizeof(*facts->disk));
	r->attachment = malloc(NR_XVA_DISKS_MAX * sizeof(*r->attachment));
	if (!r->xml || !facts->disk || !r->attachment) {
		nr_error_system(error, err, "ova.xml");
	} else {
		XML_SetUserData(r->xml, r);
		XML_SetElementHandler(r->xml, begin_element, end_element);
		XML_SetCharacterDataHandler(r->xml, add_text);
		XML_SetStartDoctypeDeclHandler(r->xml, refuse_doctype);
		err = length ? feed(r, xml, length) : nr_error_set(error, -EINVAL, "it is empty");
		if (!err) {
			attach(r);
			err = nr_xva_facts_sort(facts, error);
		}
		if (err)
			nr_error_prefix(error, "ova.xml");
	}
	if (r->xml)
		XML_ParserFree(r->xml);
	free(r->attachment);
	free(r);
	if (err)
		nr_xva_facts_free(facts);
	return err;
}
