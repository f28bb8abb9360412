/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From text to rules.
 *
 * The text is copied once; words are taken out of their quotes where they stand, and
 * the patterns of rules point into the copy.  A rule is put together in the parser and
 * added when its line is over.
 */
#include "src/server/access-parse.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nbdring/pattern.h"

#define BIT(kind) (UINT32_C(1) << (kind))
#define SHOWN_MAX 64 /* bytes of a wrong word in the sentence about it */

/* A line on its way to become a rule. */
struct parser {
	struct nr_access *access;
	struct nr_access_rule rule;
	struct nr_error *error;
};

/* Growing. */

/* Room for one more of SIZE bytes behind COUNT. */
static bool has_room(void **array, size_t count, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : 16;
	void *grown;

	if (count < *room)
		return true;
	grown = reallocarray(*array, more, size);
	if (!grown)
		return false;
	*array = grown;
	*room = more;
	return true;
}

static int add_condition(struct parser *p, const struct nr_access_condition *condition)
{
	struct nr_access *a = p->access;
	void *array = a->conditions;

	if (!has_room(&array, a->condition_count, &a->condition_room, sizeof(*a->conditions)))
		return nr_error_system(p->error, -ENOMEM, "the rules");
	a->conditions = array;
	a->conditions[a->condition_count++] = *condition;
	p->rule.condition_count++;
	p->rule.kinds |= BIT(condition->kind);
	return 0;
}

static int add_rule(struct parser *p)
{
	struct nr_access *a = p->access;
	void *array = a->rules;

	if (!has_room(&array, a->rule_count, &a->rule_room, sizeof(*a->rules)))
		return nr_error_system(p->error, -ENOMEM, "the rules");
	a->rules = array;
	a->rules[a->rule_count++] = p->rule;
	return 0;
}

/* A copy of TEXT that lives as long as the rules. */
static char *keep_text(struct nr_access *a, const char *text, size_t length)
{
	char **more = reallocarray(a->texts, a->text_count + 1, sizeof(*more));
	char *copy;

	if (!more)
		return NULL;
	a->texts = more;
	copy = malloc(length + 1);
	if (!copy)
		return NULL;
	if (length)
		memcpy(copy, text, length);
	copy[length] = '\0';
	a->texts[a->text_count++] = copy;
	return copy;
}

/* Words. */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/*
 * The next word of the line at *AT, which a NUL ends, out of its quotes.  NULL: there
 * is none; *FAULT then says if it is because something is wrong.
 */
static char *next_word(char **at, const char **fault)
{
	char *from = *at, *word, *to;
	bool quoted = false;

	while (is_blank(*from))
		from++;
	if (!*from || *from == '#') {
		*at = from + strlen(from);
		return NULL;
	}
	word = to = from;
	for (; *from && (quoted || !is_blank(*from)); from++) {
		if (*from != '"') {
			*to++ = *from;
		} else if (quoted && from[1] == '"') {
			*to++ = *from++;
		} else {
			quoted = !quoted;
		}
	}
	if (quoted) {
		*fault = "a quote is not closed";
		return NULL;
	}
	*at = *from ? from + 1 : from;
	*to = '\0';
	return word;
}

static int wrong(struct parser *p, const char *word, const char *sentence)
{
	return nr_error_set(p->error, -EINVAL, "'%.*s': %s", SHOWN_MAX, word, sentence);
}

/* Values. */

/* Decimal digits and nothing else. */
static bool parse_number(const char *text, size_t length, uint32_t *number)
{
	uint64_t value = 0;

	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text[i] - '0');
		if (value > UINT32_MAX)
			return false;
	}
	*number = (uint32_t)value;
	return length > 0;
}

static bool find_id(enum nr_access_kind kind, const char *name, uint32_t *id)
{
	if (kind == NR_ACCESS_UID) {
		const struct passwd *user = getpwnam(name);

		if (user)
			*id = user->pw_uid;
		return user;
	}
	const struct group *group = getgrnam(name);

	if (group)
		*id = group->gr_gid;
	return group;
}

/* A number, a range of them, or a name. */
static const char *parse_ids(struct nr_access_condition *c, const char *value)
{
	const char *dash = strchr(value, '-');
	size_t length = dash ? (size_t)(dash - value) : strlen(value);

	if (parse_number(value, length, &c->range.first)) {
		c->range.last = c->range.first;
		if (dash && !parse_number(dash + 1, strlen(dash + 1), &c->range.last))
			return "write a range as 1000-1999";
		return c->range.last < c->range.first ? "the range ends before it begins" : NULL;
	}
	if (value[strspn(value, "0123456789")] == '\0')
		return "numbers are 0 to 4294967295";
	if (!find_id(c->kind, value, &c->range.first))
		return c->kind == NR_ACCESS_UID ? "there is no user of this name here"
						: "there is no group of this name here";
	c->range.last = c->range.first;
	return NULL;
}

static const struct {
	const char *word;
	enum nr_access_proof proof;
} proofs[] = {
	{ "psk", NR_PROOF_PSK },
	{ "cn", NR_PROOF_CN },
	{ "user", NR_PROOF_USER },
	{ "uid", NR_PROOF_UID },
};

/* The proof whose name stands at TEXT; its length is put into *LENGTH. */
static enum nr_access_proof find_proof(const char *text, size_t *length)
{
	for (size_t i = 0; i < sizeof(proofs) / sizeof(proofs[0]); i++) {
		*length = strlen(proofs[i].word);
		if (strncmp(text, proofs[i].word, *length) == 0)
			return proofs[i].proof;
	}
	return NR_PROOF_NONE;
}

/*
 * Which part of a name is the proof has to be clear from the pattern, or one client's
 * names could be another's, too.
 */
static const char *check_surroundings(const struct nr_access_condition *c)
{
	size_t before = strlen(c->pattern);
	bool wild_before = nr_pattern_is_wild(c->pattern, before);
	bool wild_after = nr_pattern_is_wild(c->after, strlen(c->after));

	if (wild_before && wild_after)
		return "wildcards can be in front of what a client proves or behind it, but not "
		       "both";
	if ((wild_before && c->pattern[before - 1] != '/') || (wild_after && c->after[0] != '/'))
		return "a slash has to stand between what a client proves and wildcards";
	return NULL;
}

/* VALUE is taken apart where it stands. */
static const char *parse_export(struct nr_access *access, struct nr_access_condition *c,
				char *value)
{
	char *from = value, *to = value;

	c->pattern = value;
	while (*from) {
		size_t length;
		enum nr_access_proof proof;

		if (from[0] != '%' || from[1] == '%') {
			from += from[0] == '%';
			*to++ = *from++;
			continue;
		}
		proof = find_proof(from + 1, &length);
		if (proof == NR_PROOF_NONE)
			return "behind % comes psk, cn, uid, user or another %";
		if (c->proof)
			return "one thing that a client proves can stand in a name, not two";
		c->proof = (uint8_t)proof;
		access->wants_user = access->wants_user || proof == NR_PROOF_USER;
		*to++ = '\0';
		from += 1 + length;
		c->after = to;
	}
	*to = '\0';
	return c->proof ? check_surroundings(c) : NULL;
}

/* Conditions. */

enum value { VALUE_NONE, VALUE_EXPORT, VALUE_PATTERN, VALUE_NETWORK, VALUE_IDS };

static const struct {
	const char *word;
	enum nr_access_kind kind;
	enum value value;
} conditions[] = {
	{ "export", NR_ACCESS_EXPORT, VALUE_EXPORT },
	{ "tls", NR_ACCESS_TLS, VALUE_NONE },
	{ "plain", NR_ACCESS_PLAIN, VALUE_NONE },
	{ "psk", NR_ACCESS_PSK, VALUE_PATTERN },
	{ "subject", NR_ACCESS_SUBJECT, VALUE_PATTERN },
	{ "issuer", NR_ACCESS_ISSUER, VALUE_PATTERN },
	{ "name", NR_ACCESS_NAME, VALUE_PATTERN },
	{ "net", NR_ACCESS_NET, VALUE_NETWORK },
	{ "unix", NR_ACCESS_UNIX, VALUE_NONE },
	{ "uid", NR_ACCESS_UID, VALUE_IDS },
	{ "gid", NR_ACCESS_GID, VALUE_IDS },
};

static int take_value(struct parser *p, enum value type, struct nr_access_condition *c,
		      const char *word, char *value)
{
	const char *fault = NULL;

	if (type == VALUE_NONE && value)
		return wrong(p, word, "this takes no value");
	if (type != VALUE_NONE && !value)
		return wrong(p, word, "this needs a = and a value");
	/* The default export is called nothing. */
	if (type != VALUE_NONE && type != VALUE_EXPORT && !value[0])
		return wrong(p, word, "this needs a value behind the =");
	switch (type) {
	case VALUE_NONE:
		break;
	case VALUE_PATTERN:
		c->pattern = value;
		break;
	case VALUE_EXPORT:
		fault = parse_export(p->access, c, value);
		break;
	case VALUE_NETWORK:
		fault = nr_network_parse(value, strlen(value), &c->network);
		break;
	case VALUE_IDS:
		fault = parse_ids(c, value);
		break;
	}
	return fault ? wrong(p, word, fault) : 0;
}

static int take_condition(struct parser *p, char *word)
{
	char *equals = strchr(word, '=');

	if (strcmp(word, "read-only") == 0) {
		p->rule.read_only = true;
		return 0;
	}
	if (equals)
		*equals = '\0';
	for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
		struct nr_access_condition c = { .kind = (uint8_t)conditions[i].kind };
		int err;

		if (strcmp(word, conditions[i].word) != 0)
			continue;
		err = take_value(p, conditions[i].value, &c, word, equals ? equals + 1 : NULL);
		return err ? err : add_condition(p, &c);
	}
	return wrong(p, word,
		     "no condition; there are export=, tls, plain, psk=, subject=, issuer=, name=, "
		     "net=, unix, uid=, gid=, and read-only");
}

/* Kinds that no client has both of. */
static const struct {
	uint32_t one, other;
	const char *sentence;
} opposites[] = {
	{ BIT(NR_ACCESS_PLAIN),
	  BIT(NR_ACCESS_TLS) | BIT(NR_ACCESS_PSK) | BIT(NR_ACCESS_SUBJECT) | BIT(NR_ACCESS_ISSUER) |
		  BIT(NR_ACCESS_NAME),
	  "no client is both without TLS and with it; write two rules" },
	{ BIT(NR_ACCESS_NET), BIT(NR_ACCESS_UNIX) | BIT(NR_ACCESS_UID) | BIT(NR_ACCESS_GID),
	  "no client has both an address and a user; write two rules" },
};

static int check_rule(const struct parser *p)
{
	if (!p->rule.allow && p->rule.read_only)
		return nr_error_set(p->error, -EINVAL,
				    "read-only is a way to allow something, not to deny it");
	for (size_t i = 0; i < sizeof(opposites) / sizeof(opposites[0]); i++)
		if ((p->rule.kinds & opposites[i].one) && (p->rule.kinds & opposites[i].other))
			return nr_error_set(p->error, -EINVAL, "%s", opposites[i].sentence);
	return 0;
}

/* The rule in the line at AT, or nothing. */
static int take_line(struct parser *p, char *at)
{
	const char *fault = NULL;
	char *word = next_word(&at, &fault);
	int err = 0;

	if (!word && !fault)
		return 0;
	if (word) {
		p->rule.allow = strcmp(word, "allow") == 0;
		if (!p->rule.allow && strcmp(word, "deny") != 0)
			return wrong(p, word, "a rule begins with allow or deny");
		while (!err && (word = next_word(&at, &fault)) != NULL)
			err = take_condition(p, word);
	}
	if (!err && fault)
		err = nr_error_set(p->error, -EINVAL, "%s", fault);
	if (!err)
		err = check_rule(p);
	return err ? err : add_rule(p);
}

/* Sources. */

struct nr_access *nr_access_new(void)
{
	struct nr_access *access = calloc(1, sizeof(*access));

	if (access)
		atomic_init(&access->references, 1);
	return access;
}

/* Begin a rule in LINE of SOURCE, which is kept. */
static void begin_rule(struct parser *p, const char *source, uint32_t line)
{
	p->rule = (struct nr_access_rule){
		.first = p->access->condition_count,
		.source = source,
		.line = line,
	};
}

int nr_access_add(struct nr_access *access, const char *source, const char *text, size_t length,
		  struct nr_error *error)
{
	struct parser p = { .access = access, .error = error };
	const char *name = keep_text(access, source, strlen(source));
	char *line = name ? keep_text(access, text, length) : NULL, *end;
	uint32_t number = 1;
	int err = 0;

	if (!line)
		return nr_error_system(error, -ENOMEM, "%s", source);
	for (end = line + length; !err && line < end; number++) {
		char *newline = memchr(line, '\n', (size_t)(end - line));

		if (!newline)
			newline = end;
		*newline = '\0';
		begin_rule(&p, name, number);
		err = strlen(line) < (size_t)(newline - line)
			      ? nr_error_set(error, -EINVAL, "a byte 0 is no text")
			      : take_line(&p, line);
		if (err)
			nr_error_prefix(error, "%s:%u", source, number);
		line = newline + 1;
	}
	return err;
}

int nr_access_add_rule(struct nr_access *access, const char *text, struct nr_error *error)
{
	struct parser p = { .access = access, .error = error };
	const char *source = keep_text(access, text, strlen(text));
	char *line = source ? keep_text(access, text, strlen(text)) : NULL;
	size_t before = access->rule_count;
	int err;

	if (!line)
		return nr_error_system(error, -ENOMEM, "the rule '%s'", text);
	begin_rule(&p, source, 0);
	err = strchr(line, '\n') ? nr_error_set(error, -EINVAL, "a rule is one line")
				 : take_line(&p, line);
	if (!err && access->rule_count == before)
		err = nr_error_set(error, -EINVAL, "a rule begins with allow or deny");
	if (err)
		nr_error_prefix(error, "the rule '%.*s'", SHOWN_MAX, text);
	return err;
}

/* All of the file at FD, in memory of the caller's. */
static int read_all(int fd, const char *path, char **text, size_t *length, struct nr_error *error)
{
	size_t room = 4096;
	ssize_t count;

	*text = NULL;
	*length = 0;
	do {
		char *more = *length + 1 < room && *text ? *text : realloc(*text, room *= 2);

		if (!more)
			return nr_error_system(error, -ENOMEM, "%s", path);
		*text = more;
		count = read(fd, *text + *length, room - *length);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return nr_error_system(error, -errno, "%s", path);
		*length += (size_t)count;
		if (*length > NR_ACCESS_FILE_MAX)
			return nr_error_set(error, -EFBIG, "%s: rules of more than %u MiB", path,
					    NR_ACCESS_FILE_MAX >> 20);
	} while (count != 0);
	return 0;
}

int nr_access_add_file(struct nr_access *access, const char *path, struct nr_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat status;
	size_t length = 0;
	char *text = NULL;
	int err;

	if (fd < 0)
		return nr_error_system(error, -errno, "%s", path);
	if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode))
		err = nr_error_set(error, -EINVAL, "%s is no file", path);
	else
		err = read_all(fd, path, &text, &length, error);
	if (!err)
		err = nr_access_add(access, path, text, length, error);
	free(text);
	close(fd);
	return err;
}
