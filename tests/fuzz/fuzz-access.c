/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: rules of access, and clients that they are about.
 *
 * Byte 0 chooses the client, byte 1 how long the export's name is that follows; the rest
 * are the rules.  What is refused has its line.  What is accepted decides the same as its
 * lines one by one, the first that means both; is no other for who may use TLS but has
 * not, where there is none; and lets nobody in whom a rule in front of all has denied.
 */
#include <netinet/in.h>

#include "src/server/access-parse.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = { "DNS:a.example", "EMAIL:a@b.example", "URI:urn:x" };

static const struct nr_tls_peer peers[] = {
	{ .psk_identity = NULL },
	{ .psk_identity = "alice" },
	{ .psk_identity = "a/b" },
	{ .subject = "CN=backup,O=x\\,y", .issuer = "CN=ca", .names = names, .name_count = 3 },
};

static struct nr_session client(uint8_t choice)
{
	struct nr_session s = { .export_name = "", .peer = "client" };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a010203) };

	if (choice & 1) {
		s.address.ss_family = AF_UNIX;
		s.has_credentials = true;
		s.uid = choice & 2 ? 0 : 1000;
		s.gid = 100;
	} else {
		memcpy(&s.address, &in, sizeof(in));
	}
	if (choice & 4)
		s.tls = &peers[choice >> 3 & 3];
	return s;
}

static struct nr_access_decision decide(const struct nr_access *access,
					const struct nr_session *session, bool can_tls,
					const char *name)
{
	struct nr_access_view view;
	struct nr_access_decision decision;

	assert(nr_access_view_make(&view, access, session, can_tls) == 0);
	assert(view.count <= access->rule_count);
	decision = nr_access_decide(&view, name);
	nr_access_view_clear(&view);
	return decision;
}

static struct nr_access *parse(const char *text, size_t length)
{
	struct nr_access *access = nr_access_new();
	struct nr_error error = { .code = 0 };

	assert(access);
	if (nr_access_add(access, "rules", text, length, &error)) {
		fuzz_check_error(&error);
		assert(strncmp(error.text, "rules:", 6) == 0);
		nr_access_unref(access);
		return NULL;
	}
	return access;
}

/* Each line alone, in turn: the first that has something to say. */
static struct nr_access_decision by_lines(const char *text, size_t length,
					  const struct nr_session *session, const char *name,
					  uint32_t *line)
{
	struct nr_access_decision decision = { NR_ACCESS_DENIED, NULL };
	const char *end = text + length;

	for (*line = 1; text < end; ++*line) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t bytes = (size_t)((newline ? newline : end) - text);
		struct nr_access *access = parse(text, bytes);
		bool decided;

		assert(access);
		assert(access->rule_count <= 1);
		decision = decide(access, session, false, name);
		decided = decision.rule != NULL;
		nr_access_unref(access);
		if (decided)
			return decision;
		text += bytes + 1;
	}
	*line = 0;
	return decision;
}

static void check_deny_first(const char *text, size_t length, const struct nr_session *session,
			     const char *name)
{
	static const char deny[] = "deny\n";
	char *longer = malloc(sizeof(deny) - 1 + length);
	struct nr_access *access;

	assert(longer);
	memcpy(longer, deny, sizeof(deny) - 1);
	if (length)
		memcpy(longer + sizeof(deny) - 1, text, length);
	access = parse(longer, sizeof(deny) - 1 + length);
	assert(access);
	assert(decide(access, session, true, name).verdict == NR_ACCESS_DENIED);
	nr_access_unref(access);
	free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nr_session session;
	struct nr_access *access;
	struct nr_access_decision decision, with_tls, alone;
	size_t name_length;
	char *name, *text, said[256];
	uint32_t line;

	if (size < 2)
		return 0;
	session = client(data[0]);
	name_length = data[1] % 64 < size - 2 ? data[1] % 64 : size - 2;
	name = fuzz_string(data + 2, name_length);
	size -= 2 + name_length;
	text = fuzz_copy(data + 2 + name_length, size);
	access = parse(text, size);
	if (access) {
		decision = decide(access, &session, false, name);
		with_tls = decide(access, &session, true, name);
		alone = by_lines(text, size, &session, name, &line);
		assert(decision.verdict == alone.verdict);
		assert((decision.rule ? decision.rule->line : 0) == line);
		assert(decision.verdict != NR_ACCESS_NEEDS_TLS);
		assert(with_tls.verdict == decision.verdict ||
		       (with_tls.verdict == NR_ACCESS_NEEDS_TLS && !session.tls &&
			decision.verdict == NR_ACCESS_DENIED && with_tls.rule->allow));
		nr_access_explain(&with_tls, said, sizeof(said));
		assert(said[0]);
		check_deny_first(text, size, &session, name);
		nr_access_unref(access);
	}
	free(text);
	free(name);
	return 0;
}
