/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may use which export: what patterns mean, what the rules decide, and what the
 * parser says about text that is no rule.
 */
#undef NDEBUG
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbdring/pattern.h"
#include "src/server/access-parse.h"

/* Patterns. */

static void patterns_mean_what_they_say(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool match;
	} rows[] = {
		{ "", "", true },
		{ "", "a", false },
		{ "*", "", true },
		{ "*", "a/b/c", true },
		{ "vm-*", "vm-", true },
		{ "vm-*", "vm-1", true },
		{ "vm-*", "xvm-1", false },
		{ "*-disk", "vm-1-disk", true },
		{ "*-disk", "vm-1-disk2", false },
		{ "a*b*c", "aXbYbZc", true },
		{ "a*b*c", "aXbYbZ", false },
		{ "**a**", "a", true },
		{ "?", "a", true },
		{ "?", "", false },
		{ "?", "ab", false },
		{ "?", "\xc3\xbc", true },
		{ "??", "\xc3\xbc", false },
		{ "?\xbc", "\xc3\xbc", false },
		{ "?", "\xff", true },
		{ "[abc]", "b", true },
		{ "[abc]", "d", false },
		{ "[a-c]x", "bx", true },
		{ "[!a-c]", "b", false },
		{ "[!a-c]", "d", true },
		{ "[^a-c]", "d", true },
		{ "[]x]", "]", true },
		{ "[a-]", "-", true },
		{ "[*]", "*", true },
		{ "[*]", "x", false },
		{ "[\xc3\xa0-\xc3\xbf]", "\xc3\xbc", true },
		{ "[abc", "[abc", true },
		{ "[abc", "a", false },
		{ "a\\*", "a\\b", true },
		{ "A", "a", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (nr_pattern_matches(rows[i].pattern, rows[i].text, strlen(rows[i].text)) !=
		    rows[i].match)
			fail_msg("'%s' and '%s'", rows[i].pattern, rows[i].text);
	assert_true(nr_pattern_matches("a*", "abcd", 2));
	assert_false(nr_pattern_matches("a*d", "abcd", 3));
}

/* A part of a name is never taken for two, nor two for one. */
static void distinguished_names_are_matched_part_by_part(void **state)
{
	static const struct {
		const char *pattern, *dn;
		bool match;
	} rows[] = {
		{ "CN=backup", "CN=backup", true },
		{ "CN=backup", "CN=backup,O=x", false },
		{ "CN=backup,*", "CN=backup,O=x,C=de", true },
		{ "CN=backup,*", "CN=backup", true },
		{ "CN=backup,*", "CN=backup2,O=x", false },
		{ "CN=backup,*", "CN=backup\\,O=x", false },
		{ "*,O=x", "CN=a,O=x", true },
		{ "*,O=x", "O=x", true },
		{ "*,O=x", "CN=evil\\,O=x", false },
		{ "*,O=x", "CN=evil\\,O=x,O=y", false },
		{ "*,O=x,*", "CN=a,O=x,C=de", true },
		{ "*,O=x,*", "CN=a,O=y,C=de", false },
		{ "CN=*", "CN=anybody", true },
		{ "CN=*", "CN=a,O=x", false },
		{ "CN=*", "CN=a\\,b", true },
		{ "CN=a\\,b", "CN=a\\,b", true },
		{ "CN=a, O=x", "CN=a,O=x", true },
		{ "CN=a,*,C=de", "CN=a,O=x,OU=y,C=de", true },
		{ "CN=a,*,C=de", "CN=a,C=de", true },
		{ "CN=a,*,C=de,*,L=b", "CN=a,C=de,C=de,L=b", true },
		{ "*", "", true },
		{ "*", "CN=a", true },
		{ "", "", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (nr_pattern_matches_dn(rows[i].pattern, strlen(rows[i].pattern), rows[i].dn) !=
		    rows[i].match)
			fail_msg("'%s' and '%s'", rows[i].pattern, rows[i].dn);
}

/* Doubling stars would take longer than the age of the world, if time were exponential. */
static void no_pattern_takes_for_ever(void **state)
{
	char pattern[2001], text[4001];

	for (size_t i = 0; i < 1000; i++)
		memcpy(pattern + 2 * i, "*a", 2);
	memset(text, 'a', 4000);
	pattern[2000] = text[4000] = '\0';
	assert_true(nr_pattern_matches(pattern, text, 4000));
	pattern[1999] = 'b';
	assert_false(nr_pattern_matches(pattern, text, 4000));
	for (size_t i = 0; i < 500; i++) {
		memcpy(pattern + 4 * i, "*,a,", 4);
		memcpy(text + 8 * i, "a,a,a,a,", 8);
	}
	pattern[1999] = '\0';
	pattern[1998] = 'b';
	text[3999] = '\0';
	assert_false(nr_pattern_matches_dn(pattern, 1999, text));
}

/* Clients. */

static struct nr_session unix_client(uint32_t uid, uint32_t gid)
{
	struct nr_session s = { .export_name = "", .peer = "unix", .has_credentials = true };

	s.address.ss_family = AF_UNIX;
	s.uid = uid;
	s.gid = gid;
	return s;
}

static struct nr_session tcp_client(const char *address)
{
	struct nr_session s = { .export_name = "", .peer = "tcp" };
	struct sockaddr_in in = { .sin_family = AF_INET };

	assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
	memcpy(&s.address, &in, sizeof(in));
	return s;
}

static const char *const alt_names[] = { "DNS:a.backup.example", "IP:192.0.2.1" };
static const struct nr_tls_peer anonymous = { 0 };
static const struct nr_tls_peer alice = { .psk_identity = "alice" };
static const struct nr_tls_peer al = { .psk_identity = "al" };
static const struct nr_tls_peer sly = { .psk_identity = "alice/x" };
static const struct nr_tls_peer dots = { .psk_identity = ".." };
static const struct nr_tls_peer star = { .psk_identity = "*" };
static const struct nr_tls_peer backup = {
	.subject = "CN=backup,O=Example",
	.issuer = "CN=CA 1,O=Example",
	.names = alt_names,
	.name_count = 2,
};

static struct nr_access *rules_of(const char *text)
{
	struct nr_access *access = nr_access_new();
	struct nr_error error;

	assert_non_null(access);
	if (nr_access_add(access, "rules", text, strlen(text), &error))
		fail_msg("%s", error.text);
	return access;
}

static struct nr_access_decision decide(const struct nr_access *access,
					const struct nr_session *session, bool can_tls,
					const char *name)
{
	struct nr_access_view view;
	struct nr_access_decision decision;

	assert_int_equal(nr_access_view_make(&view, access, session, can_tls), 0);
	decision = nr_access_decide(&view, name);
	nr_access_view_clear(&view);
	return decision;
}

enum who { UNIX, TCP };

#define NO NR_ACCESS_DENIED
#define TLS NR_ACCESS_NEEDS_TLS
#define RO NR_ACCESS_READ_ONLY
#define RW NR_ACCESS_READ_WRITE

static const struct {
	const char *rules;
	enum who who; /* uid 1000, gid 100; or 10.1.2.3 */
	const struct nr_tls_peer *tls;
	const char *name;
	enum nr_access_verdict verdict;
} decisions[] = {
	{ "", UNIX, NULL, "a", NO },
	{ "allow", UNIX, NULL, "a", RW },
	{ "allow", TCP, &alice, "", RW },
	{ "allow read-only", TCP, NULL, "a", RO },
	{ "deny\nallow", UNIX, NULL, "a", NO },
	{ "allow\ndeny", UNIX, NULL, "a", RW },
	{ "allow read-only\nallow", UNIX, NULL, "a", RO },
	{ "deny export=secret-*\nallow", UNIX, NULL, "secret-1", NO },
	{ "deny export=secret-*\nallow", UNIX, NULL, "open-1", RW },
	{ "allow export=a export=b", UNIX, NULL, "b", RW },
	{ "allow export=a export=b", UNIX, NULL, "c", NO },
	{ "allow export=", UNIX, NULL, "", RW },
	{ "allow export=", UNIX, NULL, "a", NO },

	{ "allow uid=1000", UNIX, NULL, "a", RW },
	{ "allow uid=1001", UNIX, NULL, "a", NO },
	{ "allow uid=999-1000", UNIX, NULL, "a", RW },
	{ "allow uid=1001-2000 uid=1000", UNIX, NULL, "a", RW },
	{ "allow uid=1000 gid=100", UNIX, NULL, "a", RW },
	{ "allow uid=1000 gid=101", UNIX, NULL, "a", NO },
	{ "allow uid=0-4294967295", TCP, NULL, "a", NO },
	{ "allow unix", UNIX, NULL, "a", RW },
	{ "allow unix", TCP, NULL, "a", NO },
	{ "allow net=10.0.0.0/8", TCP, NULL, "a", RW },
	{ "allow net=11.0.0.0/8", TCP, NULL, "a", NO },
	{ "allow net=11.0.0.0/8 net=10.1.2.3", TCP, NULL, "a", RW },
	{ "allow net=0.0.0.0/0", UNIX, NULL, "a", NO },

	{ "allow tls", TCP, &anonymous, "a", RW },
	{ "allow tls", TCP, NULL, "a", TLS },
	{ "allow plain", TCP, &anonymous, "a", NO },
	{ "allow plain", TCP, NULL, "a", RW },
	{ "allow psk=alice", TCP, &alice, "a", RW },
	{ "allow psk=al?ce", TCP, &alice, "a", RW },
	{ "allow psk=alice", TCP, &al, "a", NO },
	{ "allow psk=alice", TCP, &anonymous, "a", NO },
	{ "allow psk=alice", TCP, &backup, "a", NO },
	{ "allow psk=alice", TCP, NULL, "a", TLS },
	{ "allow psk=* subject=*", TCP, &alice, "a", NO },
	{ "allow subject=CN=backup,*", TCP, &backup, "a", RW },
	{ "allow subject=*", TCP, &alice, "a", NO },
	{ "allow issuer=\"CN=CA 1,*\"", TCP, &backup, "a", RW },
	{ "allow issuer=\"CN=CA 2,*\"", TCP, &backup, "a", NO },
	{ "allow name=DNS:*.example", TCP, &backup, "a", RW },
	{ "allow name=IP:192.0.2.1", TCP, &backup, "a", RW },
	{ "allow name=DNS:192.0.2.1", TCP, &backup, "a", NO },
	{ "allow name=*", TCP, &alice, "a", NO },

	/* Who has not encrypted is told to, if that is all. */
	{ "allow tls net=11.0.0.0/8", TCP, NULL, "a", NO },
	{ "allow tls export=b", TCP, NULL, "a", NO },
	{ "allow tls\nallow plain read-only", TCP, NULL, "a", RO },
	{ "allow tls\ndeny", TCP, NULL, "a", TLS },
	{ "deny net=10.0.0.0/8\nallow tls", TCP, NULL, "a", NO },
	{ "deny tls\nallow plain", TCP, NULL, "a", RW },
	{ "deny psk=bob\nallow psk=*", TCP, NULL, "a", TLS },
	{ "allow tls", UNIX, NULL, "a", TLS },
};

static void the_first_rule_that_means_client_and_export_decides(void **state)
{
	for (size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++) {
		struct nr_access *access = rules_of(decisions[i].rules);
		struct nr_session session =
			decisions[i].who == UNIX ? unix_client(1000, 100) : tcp_client("10.1.2.3");
		enum nr_access_verdict verdict, without;

		session.tls = decisions[i].tls;
		verdict = decide(access, &session, true, decisions[i].name).verdict;
		if (verdict != decisions[i].verdict)
			fail_msg("row %zu, '%s': %d", i, decisions[i].rules, verdict);
		/* Where there is no TLS, nobody is told to use it. */
		without = decide(access, &session, false, decisions[i].name).verdict;
		assert_int_equal(without, verdict == TLS ? NO : verdict);
		nr_access_unref(access);
	}
}

static void what_a_client_has_proved_stands_in_the_name(void **state)
{
	static const struct nr_tls_peer odd = { .subject = "CN=a\\,b,O=x" };
	static const struct nr_tls_peer two = { .subject = "CN=a,CN=b" };
	static const struct nr_tls_peer behind = { .subject = "O=x\\,CN=evil,CN=good" };
	static const struct {
		const char *rule;
		const struct nr_tls_peer *tls;
		const char *name;
		enum nr_access_verdict verdict;
	} rows[] = {
		{ "allow export=%psk/*", &alice, "alice/disk", RW },
		{ "allow export=%psk/*", &alice, "alice/deep/disk", RW },
		{ "allow export=%psk/*", &alice, "alice", NO },
		{ "allow export=%psk/*", &alice, "bob/disk", NO },
		{ "allow export=%psk/*", &alice, "bob/alice/disk", NO },
		{ "allow export=%psk/*", &al, "alice/disk", NO },
		{ "allow export=%psk/*", &sly, "alice/x/disk", NO },
		{ "allow export=%psk/*", &dots, "../disk", NO },
		{ "allow export=%psk/*", &star, "alice/disk", NO },
		{ "allow export=%psk/*", &star, "*/disk", RW },
		{ "allow export=%psk/*", &backup, "alice/disk", NO },
		{ "allow export=%psk/*", &backup, "/disk", NO },
		{ "allow export=%psk/*", NULL, "alice/disk", TLS },
		{ "allow export=%psk/*", NULL, "alice", NO },
		{ "allow export=%psk/*", NULL, "/disk", NO },
		{ "allow export=vm-%psk", &alice, "vm-alice", RW },
		{ "allow export=vm-%psk", &al, "vm-alice", NO },
		{ "allow export=vm-%psk", &sly, "vm-alice/x", NO },
		{ "allow export=vm-%psk.img", &alice, "vm-alice.img", RW },
		{ "allow export=vm-%psk.img", &alice, "vm-alice.im", NO },
		{ "allow export=vm-%psk.img", &alice, "vm-.img", NO },
		{ "allow export=vm-%psk.img", NULL, "vm-x.img", TLS },
		{ "allow export=*/%psk", &alice, "a/b/alice", RW },
		{ "allow export=*/%psk", &alice, "alice", NO },
		{ "allow export=*/%psk/disk", &alice, "a/alice/disk", RW },
		{ "allow export=*/%psk/disk", &alice, "alice/bob/disk", NO },
		{ "allow export=100%%%psk", &alice, "100%alice", RW },
		{ "allow export=%%psk", &alice, "%psk", RW },
		{ "allow export=%cn/*", &backup, "backup/disk", RW },
		{ "allow export=%cn/*", &odd, "a/disk", NO },
		{ "allow export=%cn/*", &two, "a/disk", NO },
		{ "allow export=%cn/*", &two, "b/disk", NO },
		{ "allow export=%cn/*", &behind, "evil/disk", NO },
		{ "allow export=%cn/*", &behind, "good/disk", RW },
		{ "allow export=%uid/*", NULL, "1000/disk", RW },
		{ "allow export=%uid/*", NULL, "100/disk", NO },
		{ "allow export=%uid/*", NULL, "01000/disk", NO },
	};
	struct nr_session root = unix_client(0, 0), nobody = tcp_client("10.1.2.3");
	struct nr_access *access = rules_of("allow export=%user/*");

	assert_int_equal(decide(access, &root, true, "root/disk").verdict, RW);
	assert_int_equal(decide(access, &root, true, "toor/disk").verdict, NO);
	assert_int_equal(decide(access, &nobody, true, "root/disk").verdict, NO);
	nr_access_unref(access);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nr_session session = unix_client(1000, 100);
		enum nr_access_verdict verdict;

		access = rules_of(rows[i].rule);
		session.tls = rows[i].tls;
		verdict = decide(access, &session, true, rows[i].name).verdict;
		if (verdict != rows[i].verdict)
			fail_msg("row %zu, '%s' and '%s': %d", i, rows[i].rule, rows[i].name,
				 verdict);
		nr_access_unref(access);
	}
}

/* Whatever the rule that is taken: no name belongs to two who have proved different things. */
static void no_name_belongs_to_two(void **state)
{
	static const char *const pieces[] = { "%psk", "/", "*", "a", "b", "-", "?", "[ab]", "//" };
	static const char *const people[] = { "a", "b", "ab", "a-b", "a-", "-" };
	static const char letters[] = "ab-/";
	unsigned seed = 1, taken = 0;

	for (unsigned round = 0; round < 200000; round++) {
		struct nr_access *access = nr_access_new();
		int piece_count = 1 + rand_r(&seed) % 4;
		char rule[64] = "allow export=", name[6];
		size_t length = 1 + (size_t)rand_r(&seed) % 5;
		unsigned granted = 0;

		assert_non_null(access);
		for (int i = 0; i < piece_count; i++) {
			const char *piece = pieces[(unsigned)rand_r(&seed) %
						   (sizeof(pieces) / sizeof(pieces[0]))];

			memcpy(rule + strlen(rule), piece, strlen(piece) + 1);
		}
		for (size_t i = 0; i < length; i++)
			name[i] = letters[(unsigned)rand_r(&seed) % 4];
		name[length] = '\0';
		if (strstr(rule, "%psk") && nr_access_add_rule(access, rule, NULL) == 0) {
			for (size_t i = 0; i < sizeof(people) / sizeof(people[0]); i++) {
				struct nr_tls_peer peer = { .psk_identity = people[i] };
				struct nr_session session = tcp_client("10.1.2.3");

				session.tls = &peer;
				granted += decide(access, &session, true, name).verdict == RW;
			}
			taken += granted;
		}
		if (granted > 1)
			fail_msg("%s: %u have '%s'", rule, granted, name);
		nr_access_unref(access);
	}
	assert_true(taken > 100);
}

/* The parser. */

static void lines_are_taken_apart(void **state)
{
	struct nr_access *access = rules_of("# who\n"
					    "\n"
					    "  allow\texport=a # the first\r\n"
					    "allow subject=\"CN=a b,*\"#x psk=\"#\"\n"
					    "allow export=\"say \"\"hi\"\"\"");
	struct nr_session session = unix_client(1, 1);
	struct nr_access_decision decision;
	char text[100];

	assert_int_equal(access->rule_count, 3);
	assert_int_equal(access->rules[0].line, 3);
	assert_int_equal(access->rules[0].condition_count, 1);
	assert_string_equal(access->conditions[1].pattern, "CN=a b,*#x");
	assert_string_equal(access->conditions[2].pattern, "#");
	decision = decide(access, &session, false, "say \"hi\"");
	assert_int_equal(decision.verdict, RW);
	nr_access_explain(&decision, text, sizeof(text));
	assert_string_equal(text, "granted by rules:5");
	decision = decide(access, &session, false, "b");
	nr_access_explain(&decision, text, sizeof(text));
	assert_string_equal(text, "denied: no rule allows it");
	nr_access_unref(access);
}

static void what_is_wrong_has_its_line(void **state)
{
	static const struct {
		const char *rule, *says;
	} rows[] = {
		{ "permit", "allow or deny" },
		{ "allow exports=a", "no condition" },
		{ "allow export", "needs a =" },
		{ "allow psk=", "needs a value" },
		{ "allow psk", "needs a =" },
		{ "allow tls=yes", "takes no value" },
		{ "deny read-only", "not to deny" },
		{ "allow \"export=a", "not closed" },
		{ "allow net=1.2.3", "address" },
		{ "allow net=1.2.3.4/33", "0 to 32" },
		{ "allow uid=4294967296", "4294967295" },
		{ "allow uid=2-1", "before it begins" },
		{ "allow uid=1-", "range" },
		{ "allow uid=no-such-user-here", "no user" },
		{ "allow gid=no-such-group-here", "no group" },
		{ "allow plain psk=a", "two rules" },
		{ "allow net=1.2.3.4 uid=1", "two rules" },
		{ "allow export=%x", "behind %" },
		{ "allow export=%", "behind %" },
		{ "allow export=%psk/%uid", "not two" },
		{ "allow export=*%psk", "slash" },
		{ "allow export=%psk*", "slash" },
		{ "allow export=%psk-[ab]", "slash" },
		{ "allow export=*/%psk/*", "not both" },
	};
	struct nr_error error;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nr_access *access = nr_access_new();
		char text[200];
		int length = snprintf(text, sizeof(text), "allow\n\n%s\n", rows[i].rule);

		assert_int_not_equal(nr_access_add(access, "FILE", text, (size_t)length, &error),
				     0);
		if (strncmp(error.text, "FILE:3: ", 8) != 0 || !strstr(error.text, rows[i].says))
			fail_msg("%s: %s", rows[i].rule, error.text);
		nr_access_unref(access);
		access = nr_access_new();
		assert_int_not_equal(nr_access_add_rule(access, rows[i].rule, &error), 0);
		if (!strstr(error.text, rows[i].says) || !strstr(error.text, "the rule '"))
			fail_msg("%s: %s", rows[i].rule, error.text);
		nr_access_unref(access);
	}
	for (int i = 0; i < 3; i++) {
		static const char *const no_rules[] = { "", "# allow", "allow\nallow" };
		struct nr_access *access = nr_access_new();

		assert_int_not_equal(nr_access_add_rule(access, no_rules[i], &error), 0);
		nr_access_unref(access);
	}
	struct nr_access *access = nr_access_new();

	assert_int_not_equal(nr_access_add(access, "FILE", "allow\0deny", 10, &error), 0);
	nr_access_unref(access);
}

/* As large a host as there is; the client's own rule is the last one. */
static void a_hundred_thousand_rules(void **state)
{
	size_t count = 100000, used = 0, room = count * 64;
	char *text = malloc(room);
	struct nr_access *access = nr_access_new();
	struct nr_session session = tcp_client("10.1.2.3");
	struct nr_access_view view;
	struct nr_error error;
	unsigned seen = 0;

	assert_non_null(text);
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, room - used,
					 "allow export=tenant-%zu/* psk=tenant-%zu\n", i, i);
	assert_int_equal(nr_access_add(access, "rules", text, used, &error), 0);
	free(text);
	assert_int_equal(access->rule_count, count);
	session.tls = &(struct nr_tls_peer){ .psk_identity = "tenant-99999" };
	assert_int_equal(nr_access_view_make(&view, access, &session, true), 0);
	assert_int_equal(view.count, 1);
	for (size_t i = 0; i < count; i++) {
		char name[64];

		snprintf(name, sizeof(name), "tenant-%zu/disk", i);
		seen += nr_access_decide(&view, name).verdict == RW;
	}
	assert_int_equal(seen, 1);
	nr_access_view_clear(&view);
	nr_access_unref(access);
}

static void files_are_read(void **state)
{
	char path[] = "/tmp/test-access-XXXXXX";
	int fd = mkstemp(path);
	struct nr_access *access = nr_access_new();
	struct nr_error error;

	assert_true(fd >= 0);
	for (int i = 0; i < 3000; i++)
		assert_true(write(fd, "allow uid=1\n", 12) == 12);
	assert_int_equal(nr_access_add_file(access, path, &error), 0);
	assert_int_equal(access->rule_count, 3000);
	assert_int_equal(access->rules[2999].line, 3000);
	assert_int_equal(ftruncate(fd, (off_t)NR_ACCESS_FILE_MAX + 1), 0);
	assert_int_equal(nr_access_add_file(access, path, &error), -EFBIG);
	close(fd);
	unlink(path);
	assert_int_not_equal(nr_access_add_file(access, path, &error), 0);
	assert_non_null(strstr(error.text, path));
	assert_int_not_equal(nr_access_add_file(access, "/tmp", &error), 0);
	assert_int_not_equal(nr_access_add_file(access, "/dev/zero", &error), 0);
	nr_access_unref(access);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_mean_what_they_say),
		cmocka_unit_test(distinguished_names_are_matched_part_by_part),
		cmocka_unit_test(no_pattern_takes_for_ever),
		cmocka_unit_test(the_first_rule_that_means_client_and_export_decides),
		cmocka_unit_test(what_a_client_has_proved_stands_in_the_name),
		cmocka_unit_test(no_name_belongs_to_two),
		cmocka_unit_test(lines_are_taken_apart),
		cmocka_unit_test(what_is_wrong_has_its_line),
		cmocka_unit_test(a_hundred_thousand_rules),
		cmocka_unit_test(files_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
