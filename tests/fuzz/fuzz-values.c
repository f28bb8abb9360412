/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: values as people write them, and what is made of texts for others.
 *
 * Byte 0 chooses the parser, the rest is the text.  What is accepted lies in the range
 * that is promised, and comes out the same when it is written down and read again; two
 * parsers of the same thing agree.  What is made for others (a URI, a word for the
 * shell) gives the text back to who takes it apart.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "filters/ip-rule.h"
#include "filters/output.h"
#include "filters/policy-text.h"
#include "filters/value.h"
#include "nbdring/checked.h"
#include "src/cli/listen.h"
#include "src/cli/run.h"
#include "src/log/line.h"
#include "src/protocol/text.h"
#include "src/stack/params-text.h"
#include "src/stack/params.h"
#include "tests/fuzz/fuzz.h"

#define SECOND UINT64_C(1000000000)

/* Numbers. */

static void try_size(const char *text, size_t length)
{
	char again[NR_SIZE_TEXT_MAX];
	uint64_t bytes, reread;
	int err = nr_parse_size(text, &bytes);

	if (err) {
		assert(err == -EINVAL || err == -ERANGE);
		return;
	}
	assert(bytes <= NR_SIZE_MAX);
	assert(nr_parse_size(nr_size_text(bytes, again), &reread) == 0);
	assert(reread == bytes);
}

static void try_uint(const char *text, size_t length)
{
	uint64_t value, reread;
	int err = nr_parse_uint(text, &value);
	char again[32];

	if (err) {
		assert(err == -EINVAL || err == -ERANGE);
		return;
	}
	snprintf(again, sizeof(again), "0X%" PRIx64, value);
	assert(nr_parse_uint(again, &reread) == 0);
	assert(reread == value);
	snprintf(again, sizeof(again), "%" PRIu64, value);
	assert(nr_parse_uint(again, &reread) == 0);
	assert(reread == value);
	/* A number that is no size is too large for one. */
	if (isdigit((unsigned char)text[0]) && strspn(text, "0123456789") == strlen(text))
		assert(nr_parse_size(text, &reread) == (value <= NR_SIZE_MAX ? 0 : -ERANGE));
}

static void try_bool(const char *text, size_t length)
{
	bool truth = false;

	if (nr_parse_bool(text, &truth) == 0)
		assert(strchr(truth ? "tToOyY1" : "fFoOnN0", text[0]));
}

static void try_probability(const char *text, size_t length)
{
	struct nr_error error = { 0 };
	double chance = -1;

	if (nr_value_probability("rate", text, &chance, &error))
		fuzz_check_error(&error);
	else {
		assert(chance >= 0);
		assert(chance <= 1);
	}
}

static void try_time(const char *text, size_t length)
{
	struct nr_error error = { 0 };
	uint64_t duration = 0, time = 0;
	bool is_duration = nr_value_duration("time", text, &duration, &error) == 0;
	bool is_time = nr_policy_time(text, &time);
	char again[32];

	if (is_duration)
		assert(duration <= NR_DURATION_MAX_SECONDS * SECOND);
	else
		fuzz_check_error(&error);
	if (!is_time)
		return;
	assert(time <= NR_POLICY_SECONDS_MAX * SECOND);
	/* One counts in floating point: to 53 bits they agree. */
	if (is_duration)
		assert((duration > time ? duration - time : time - duration) <= 1 + (time >> 50));
	snprintf(again, sizeof(again), "%" PRIu64 ".%09" PRIu64, time / SECOND, time % SECOND);
	assert(nr_policy_time(again, &duration));
	assert(duration == time);
}

static void try_rate(const char *text, size_t length)
{
	uint64_t rate, reread;
	char again[32];
	int n;

	if (!nr_policy_rate(text, length, &rate))
		return;
	assert(rate <= NR_SIZE_MAX);
	n = snprintf(again, sizeof(again), " %" PRIu64 "\n", rate);
	assert(nr_policy_rate(again, (size_t)n, &reread));
	assert(reread == rate);
}

/* Rules of the filter ip. */

/* A client with an address that the rule for a network names. */
static struct nr_session client_of(const struct nr_ip_rule *rule)
{
	struct nr_session session = { 0 };
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	memcpy(&in.sin_addr, rule->network.address.bytes, sizeof(in.sin_addr));
	memcpy(&in6.sin6_addr, rule->network.address.bytes, sizeof(in6.sin6_addr));
	if (rule->network.address.is_v6)
		memcpy(&session.address, &in6, sizeof(in6));
	else
		memcpy(&session.address, &in, sizeof(in));
	return session;
}

static void check_network(const struct nr_ip_rule *rule)
{
	const struct nr_network *network = &rule->network;
	const uint8_t *bytes = network->address.bytes;
	bool is_v6 = network->address.is_v6;
	char address[INET6_ADDRSTRLEN], again[INET6_ADDRSTRLEN + 8];
	struct nr_session session = client_of(rule), nobody = { 0 };
	struct nr_ip_rule reread;
	bool mapped = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)bytes);

	assert(network->bits <= (is_v6 ? 128 : 32));
	assert(!nr_ip_rule_matches(rule, &nobody));
	/* ::ffff:0:0/90 and its like: a client that is shown so counts as IPv4. */
	if (!is_v6 || !mapped)
		assert(nr_ip_rule_matches(rule, &session));
	assert(inet_ntop(is_v6 ? AF_INET6 : AF_INET, bytes, address, sizeof(address)));
	snprintf(again, sizeof(again), "%s/%u", address, network->bits);
	assert(nr_ip_rule_parse(again, strlen(again), &reread) == NULL);
	/* Both began as zeroes: NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
	assert(memcmp(&reread, rule, sizeof(reread)) == 0);
}

static const struct nr_tls_peer peer = { .subject = "CN=a,O=b\\,c", .issuer = "CN=ca" };

static void try_rule(const char *text, size_t length)
{
	struct nr_ip_rule rule;
	const char *wrong = nr_ip_rule_parse(text, length, &rule);

	if (wrong) {
		assert(wrong[0]);
		return;
	}
	assert(rule.kind <= NR_IP_ISSUER_DN);
	if (rule.kind == NR_IP_NETWORK)
		check_network(&rule);
	else
		(void)nr_ip_rule_matches(&rule, &(struct nr_session){ .tls = &peer });
}

/* Names that are nearly right: the first line is wrong, the others are what there is. */

#define NAMES_MAX 16

struct names {
	size_t count;
	const char *name[NAMES_MAX];
};

static const char *name_at(void *context, size_t index)
{
	struct names *names = context;

	assert(index <= names->count);
	return index < names->count ? names->name[index] : NULL;
}

/* Cut TEXT into lines; what is over NAMES_MAX stays in the last. */
static void cut_lines(char *text, struct names *lines)
{
	lines->count = 0;
	while (text && lines->count < NAMES_MAX) {
		char *next = strchr(text, '\n');

		if (next)
			*next++ = '\0';
		lines->name[lines->count++] = text;
		text = next;
	}
}

static void try_nearest(const char *text, size_t length)
{
	char *copy = fuzz_string((const uint8_t *)text, length);
	struct names names;
	const char *wrong, *nearest;
	bool is_one = false;

	cut_lines(copy, &names);
	wrong = names.name[0];
	names.name[0] = "";
	nearest = nr_nearest(wrong, name_at, &names);
	for (size_t i = 0; i < names.count; i++) {
		is_one = is_one || nearest == names.name[i];
		/* A name that is right is nearest to itself. */
		if (wrong[0] && strlen(wrong) <= 63 && strcmp(wrong, names.name[i]) == 0) {
			assert(nearest);
			assert(strcasecmp(nearest, wrong) == 0);
		}
	}
	assert(!nearest || is_one);
	free(copy);
}

/* Parameters of every type. */

struct thing {
	const char *text, *path;
	uint64_t size, free_size, count;
	bool quick;
	unsigned mode;
	struct nr_strings words, paths;
};

static const char *const modes[] = { "writeback", "none", "dontcache", NULL };

#define ROW(key, kind, field) .name = key, .type = kind, .offset = offsetof(struct thing, field)

static const struct nr_param table[] = {
	{ ROW("p", NR_PARAM_PATH, path), .flags = NR_PARAM_MAIN },
	{ ROW("t", NR_PARAM_STRING, text) },
	{ ROW("s", NR_PARAM_SIZE, size), .fallback = "64K", .min = 512, .max = 1 << 20 },
	{ ROW("free", NR_PARAM_SIZE, free_size), .min = 1, .fallback = "1" },
	{ ROW("n", NR_PARAM_UINT, count), .fallback = "3", .min = 1, .max = 10 },
	{ ROW("b", NR_PARAM_BOOL, quick) },
	{ ROW("cache", NR_PARAM_CHOICE, mode), .choices = modes },
	{ ROW("word", NR_PARAM_LIST, words), .fallback = "one" },
	{ ROW("also", NR_PARAM_PATHS, paths) },
	{ .name = NULL },
};

static void check_thing(const struct thing *thing)
{
	assert(!thing->path || thing->path[0] == '/');
	assert(thing->size >= 512);
	assert(thing->size <= 1 << 20);
	assert(thing->free_size >= 1);
	assert(thing->free_size <= NR_SIZE_MAX);
	assert(thing->count >= 1);
	assert(thing->count <= 10);
	assert(thing->mode < 3);
	assert(thing->words.count >= 1);
	for (size_t i = 0; i < thing->words.count; i++)
		assert(thing->words.item[i]);
	for (size_t i = 0; i < thing->paths.count; i++)
		assert(thing->paths.item[i][0] == '/');
}

static void try_parameters(const char *text, size_t length)
{
	char *copy = fuzz_string((const uint8_t *)text, length);
	struct nr_setting settings[NAMES_MAX];
	struct nr_param_memory memory = { 0 };
	struct nr_error error = { 0 };
	struct thing thing = { 0 };
	struct names lines;
	size_t count = 0;

	cut_lines(copy, &lines);
	for (size_t i = 0; i < lines.count; i++) {
		char *equals = strchr(lines.name[i], '=');

		if (!equals)
			continue;
		*equals = '\0';
		settings[count++] = (struct nr_setting){ lines.name[i], equals + 1 };
	}
	if (nr_params_apply(table, "thing", &thing, settings, count, &memory, &error)) {
		fuzz_check_error(&error);
		assert(strncmp(error.text, "thing: ", 7) == 0);
	} else {
		check_thing(&thing);
	}
	nr_param_memory_free(&memory);
	free(copy);
}

/* Texts for others. */

/* Take the escapes out of a part of a URI, and look at what stands in it. */
static char *unescaped(const char *from, const char *end)
{
	char *text = malloc((size_t)(end - from) + 1), *to = text;

	assert(text);
	while (from < end) {
		unsigned value = 0;

		if (*from == '%') {
			assert(end - from >= 3);
			assert(isxdigit((unsigned char)from[1]) &&
			       isxdigit((unsigned char)from[2]));
			assert(sscanf(from + 1, "%2x", &value) == 1);
			from += 3;
		} else {
			assert(isalnum((unsigned char)*from) || strchr("-._~/", *from));
			value = (unsigned char)*from++;
		}
		*to++ = (char)value;
	}
	*to = '\0';
	return text;
}

/* The first line is the path of a socket, the rest an export's name. */
static void try_uri(const char *text, size_t length)
{
	static const char unix_start[] = "nbd+unix:///", unix_middle[] = "?socket=";
	static const char tcp_start[] = "nbd://[fe80::1%25eth0]:10809";
	char *path = fuzz_string((const uint8_t *)text, length), *name = strchr(path, '\n');
	char host[] = "fe80::1%eth0";
	struct nr_socket local = { .fd = -1, .path = path };
	struct nr_socket remote = { .kind = NR_SOCKET_TCP, .fd = -1, .host = host, .port = 10809 };
	char *uri, *middle, *part;

	if (name)
		*name++ = '\0';
	else
		name = path + strlen(path);
	local.path_length = strlen(path);
	uri = nr_socket_uri(&local, name, false);
	assert(uri);
	assert(strncmp(uri, unix_start, strlen(unix_start)) == 0);
	middle = strstr(uri, unix_middle);
	assert(middle);
	part = unescaped(uri + strlen(unix_start), middle);
	assert(strcmp(part, name) == 0);
	free(part);
	middle += strlen(unix_middle);
	part = unescaped(middle, middle + strlen(middle));
	assert(strcmp(part, path) == 0);
	free(part);
	free(uri);

	uri = nr_socket_uri(&remote, name, false);
	assert(uri);
	assert(strncmp(uri, tcp_start, strlen(tcp_start)) == 0);
	middle = uri + strlen(tcp_start);
	assert(*middle == (name[0] ? '/' : '\0'));
	middle += name[0] != '\0';
	part = unescaped(middle, middle + strlen(middle));
	assert(strcmp(part, name) == 0);
	free(part);
	free(uri);
	free(path);
}

/* As the shell reads a word: '…' holds anything but ', and \' is one. */
static void try_quote(const char *text, size_t length)
{
	char *quoted = nr_run_quote(text), *read, *to;
	const char *from = quoted;

	assert(quoted);
	read = to = calloc(1, strlen(quoted) + 1);
	assert(read);
	while (*from) {
		if (*from == '\\') {
			assert(from[1] == '\'');
			*to++ = '\'';
			from += 2;
			continue;
		}
		assert(*from == '\'');
		for (from++; *from != '\''; from++) {
			assert(*from);
			*to++ = *from;
		}
		from++;
	}
	*to = '\0';
	assert(strcmp(read, text) == 0);
	free(read);
	free(quoted);
}

/* What stands in a log: nothing in it moves a cursor, ends a line or is no UTF-8. */
static void check_harmless(const char *text, size_t length)
{
	/* In parts that are short enough for the protocol, which has the same rules. */
	for (size_t at = 0; at < length;) {
		size_t part = nbd_text_cut(text + at, 1024);

		assert(part > 0);
		assert(nbd_text_ok((const uint8_t *)text + at, part));
		at += part;
	}
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i], next = (unsigned char)text[i + 1];

		assert(c >= 0x20);
		assert(c != 0x7f);
		assert(c != 0xc2 || next >= 0xa0);
	}
}

/* The first byte is how much room there is. */
static void try_line(const char *text, size_t length)
{
	size_t room = length ? 1 + (unsigned char)text[0] : 1, used;
	char *out = malloc(room), again[257];

	assert(out);
	text += length != 0;
	used = nr_line_escape(out, room, text);
	assert(used < room);
	assert(strlen(out) == used);
	check_harmless(out, used);
	/* What is harmless stays as it is. */
	assert(nr_line_escape(again, sizeof(again), out) == used);
	assert(strcmp(out, again) == 0);
	free(out);
}

static char *put_latin1(char *to, unsigned char c)
{
	if (c < 0x80) {
		*to++ = (char)c;
		return to;
	}
	*to++ = (char)(0xc0 | c >> 6);
	*to++ = (char)(0x80 | (c & 0x3f));
	return to;
}

/* TEXT with what is no UTF-8 in it taken for Latin-1; free() it. */
static char *as_utf8(const char *text)
{
	char *utf8 = malloc(2 * strlen(text) + 1), *to = utf8;

	assert(utf8);
	while (*text) {
		size_t bytes = 1;

		while (bytes <= 4 &&
		       (bytes > strlen(text) || !nbd_text_ok((const uint8_t *)text, bytes)))
			bytes++;
		if (bytes > 4) {
			to = put_latin1(to, (unsigned char)*text++);
			continue;
		}
		memcpy(to, text, bytes);
		to += bytes;
		text += bytes;
	}
	*to = '\0';
	return utf8;
}

/* The string in quotes, with ESCAPE and two digits for a byte; JSON: for a character. */
static char *unquoted(const struct nr_text *quoted, const char *escape, bool json)
{
	const char *from = quoted->data + 1, *end = quoted->data + quoted->used - 1;
	char *text = malloc(quoted->used * 2), *to = text;

	assert(text);
	assert(quoted->used >= 2);
	assert(quoted->data[0] == '"');
	assert(*end == '"');
	while (from < end) {
		unsigned value;

		assert(*from != '"');
		if (*from != '\\') {
			*to++ = *from++;
		} else if (from[1] == '"' || from[1] == '\\') {
			*to++ = from[1];
			from += 2;
		} else {
			assert(strncmp(from, escape, strlen(escape)) == 0);
			from += strlen(escape);
			assert(isxdigit((unsigned char)from[0]) &&
			       isxdigit((unsigned char)from[1]));
			assert(sscanf(from, "%2x", &value) == 1);
			from += 2;
			if (json)
				to = put_latin1(to, (unsigned char)value);
			else
				*to++ = (char)value;
		}
	}
	assert(from == end);
	*to = '\0';
	return text;
}

static void try_output(const char *text, size_t length)
{
	struct nr_text json = { 0 }, quoted = { 0 };
	char *read, *wanted = as_utf8(text);

	nr_text_add_json(&json, text);
	assert(!json.failed);
	check_harmless(json.data, json.used);
	read = unquoted(&json, "\\u00", true);
	assert(strcmp(read, wanted) == 0);
	free(read);
	free(wanted);
	nr_text_free(&json);

	nr_text_add_quoted(&quoted, text);
	assert(!quoted.failed);
	check_harmless(quoted.data, quoted.used);
	read = unquoted(&quoted, "\\x", false);
	assert(strcmp(read, text) == 0);
	free(read);
	nr_text_free(&quoted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parsers[])(const char *text, size_t length) = {
		try_size,  try_uint, try_bool,   try_probability, try_time,
		try_rate,  try_rule, try_uri,    try_parameters,  try_nearest,
		try_quote, try_line, try_output,
	};
	char *text;

	if (size < 1)
		return 0;
	text = fuzz_string(data + 1, size - 1);
	parsers[data[0] % (sizeof(parsers) / sizeof(parsers[0]))](text, strlen(text));
	free(text);
	return 0;
}
