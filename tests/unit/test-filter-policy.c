/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filters that decide who is served and how long: limit, ip, time-limit; and the
 * numbers that this family takes.
 */
#include "session-test.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/filters.h"
#include "filters/ip-rule.h"
#include "filters/policy-text.h"

static const struct nr_layer_type *const types[] = {
	&nr_limit_type,    &nr_ip_type,       &nr_rate_type,       &nr_time_limit_type,
	&nr_exitlast_type, &nr_exitwhen_type, &nr_exportname_type, NULL,
};
static const struct layer_options options = { .types = types, .workers = 2 };

static struct nr_session inet_session(const char *address)
{
	struct nr_session s = { .id = 1, .export_name = "", .peer = address };
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, address, &in.sin_addr) == 1) {
		memcpy(&s.address, &in, sizeof(in));
	} else {
		assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
		memcpy(&s.address, &in6, sizeof(in6));
	}
	return s;
}

/* limit */

static void limit_lets_in_so_many_at_once(void **state)
{
	struct layer_test *t = layer_test_open(&options, "limit limit=2 | memory 1M");
	struct nr_session s[3] = { unix_session(), unix_session(), unix_session() };

	assert_int_equal(admit(t, &s[0]), 0);
	assert_int_equal(admit(t, &s[1]), 0);
	assert_int_equal(admit(t, &s[2]), -EPERM);
	leave(t, &s[0]);
	assert_int_equal(admit(t, &s[2]), 0);
	assert_int_equal(admit(t, &s[0]), -EPERM);
	leave(t, &s[1]);
	leave(t, &s[2]);
	layer_test_close(t);
}

static void limit_is_one_unless_told_and_none_when_zero(void **state)
{
	struct layer_test *t = layer_test_open(&options, "limit | memory 1M");
	struct nr_session s[20];

	for (unsigned i = 0; i < 20; i++)
		s[i] = unix_session();
	assert_int_equal(admit(t, &s[0]), 0);
	assert_int_equal(admit(t, &s[1]), -EPERM);
	leave(t, &s[0]);
	layer_test_close(t);
	t = layer_test_open(&options, "limit limit=0 | memory 1M");
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(admit(t, &s[i]), 0);
	for (unsigned i = 0; i < 20; i++)
		leave(t, &s[i]);
	layer_test_close(t);
}

static void limit_gives_back_the_place_of_one_who_is_refused_below(void **state)
{
	struct layer_test *t =
		layer_test_open(&options, "limit limit=3 | limit limit=1 | memory 1M");
	struct nr_session s[2] = { unix_session(), unix_session() };

	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(admit(t, &s[0]), 0);
		for (unsigned j = 0; j < 5; j++)
			assert_int_equal(admit(t, &s[1]), -EPERM);
		leave(t, &s[0]);
	}
	layer_test_close(t);
}

static void limit_is_for_all_exports_and_export_limit_for_each(void **state)
{
	const char *plan = "limit limit=3 export-limit=2 | memory 1M";
	struct layer_test *a = layer_test_open(&options, "%s", plan), *b;
	struct layer_options beside = options;
	struct nr_session s[4] = { unix_session(), unix_session(), unix_session(), unix_session() };
	struct nr_error error;

	beside.beside = a;
	b = layer_test_open(&beside, "%s", plan);
	assert_int_equal(admit(a, &s[0]), 0);
	assert_int_equal(admit(a, &s[1]), 0);
	assert_int_equal(nr_stack_admit(layer_test_stack(a), &s[2], &error), -EPERM);
	assert_non_null(strstr(error.text, "export-limit=2"));
	/* The refusal took no place of the server's. */
	assert_int_equal(admit(b, &s[2]), 0);
	assert_int_equal(nr_stack_admit(layer_test_stack(b), &s[3], &error), -EPERM);
	assert_ptr_equal(strstr(error.text, "limit=3"), error.text);
	leave(a, &s[0]);
	assert_int_equal(admit(b, &s[3]), 0);
	leave(a, &s[1]);
	leave(b, &s[2]);
	leave(b, &s[3]);
	layer_test_close(b);
	layer_test_close(a);
}

static void a_limit_that_is_never_reached_is_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(&options, &error, "limit export-limit=1 | memory 1M");
	assert_non_null(strstr(error.text, "limit=0"));
	layer_test_refused(&options, &error, "limit limit=4 export-limit=4 | memory 1M");
	layer_test_close(layer_test_open(&options, "limit limit=0 export-limit=1 | memory 1M"));
}

struct crowd {
	struct layer_test *t;
	_Atomic unsigned in, most;
};

static void *come_and_go(void *context)
{
	struct crowd *crowd = context;

	for (unsigned i = 0; i < 20000; i++) {
		struct nr_session s = { .export_name = "" };
		struct nr_error error;
		unsigned in, most;

		if (nr_stack_admit(layer_test_stack(crowd->t), &s, &error))
			continue;
		in = atomic_fetch_add(&crowd->in, 1) + 1;
		most = atomic_load(&crowd->most);
		while (in > most && !atomic_compare_exchange_weak(&crowd->most, &most, in))
			;
		atomic_fetch_sub(&crowd->in, 1);
		nr_stack_leave(layer_test_stack(crowd->t), &s);
	}
	return NULL;
}

static void limit_holds_when_many_come_at_once(void **state)
{
	struct crowd crowd = { .t = layer_test_open(&options, "limit limit=3 | memory 1M") };
	pthread_t thread[8];

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, come_and_go, &crowd), 0);
	for (unsigned i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	assert_true(crowd.most >= 1 && crowd.most <= 3);
	layer_test_close(crowd.t);
}

/* ip: rules. */

static bool matches(const char *text, const struct nr_session *session)
{
	struct nr_ip_rule rule;
	const char *wrong = nr_ip_rule_parse(text, strlen(text), &rule);

	if (wrong)
		fail_msg("%s: %s", text, wrong);
	return nr_ip_rule_matches(&rule, session);
}

static void rules_for_addresses_and_networks(void **state)
{
	static const struct {
		const char *rule, *address;
		bool match;
	} rows[] = {
		{ "192.168.2.1", "192.168.2.1", true },
		{ "192.168.2.1", "192.168.2.2", false },
		{ "192.168.2.0/24", "192.168.2.255", true },
		{ "192.168.2.0/24", "192.168.3.0", false },
		{ "192.168.2.77/24", "192.168.2.1", true },
		{ "10.0.0.0/8", "10.255.0.1", true },
		{ "10.0.0.0/8", "11.0.0.1", false },
		{ "10.128.0.0/9", "10.127.255.255", false },
		{ "10.128.0.0/9", "10.128.0.0", true },
		{ "1.2.3.4/31", "1.2.3.5", true },
		{ "1.2.3.4/31", "1.2.3.6", false },
		{ "1.2.3.4/32", "1.2.3.4", true },
		{ "0.0.0.0/0", "8.8.8.8", true },
		{ "0.0.0.0/0", "::1", false },
		{ "::1", "::1", true },
		{ "::1", "::2", false },
		{ "0:0:0:0:0:0:0:1", "::1", true },
		{ "::/0", "fe80::1", true },
		{ "::/0", "1.2.3.4", false },
		{ "2001:db8::/32", "2001:db8:ffff::1", true },
		{ "2001:db8::/32", "2001:db9::1", false },
		{ "2001:db8::/33", "2001:db8:8000::", false },
		{ "2001:db8::/127", "2001:db8::1", true },
		{ "2001:db8::/128", "2001:db8::1", false },
		{ "1.2.3.4", "::ffff:1.2.3.4", true },
		{ "::ffff:1.2.3.4", "1.2.3.4", true },
		{ "::ffff:1.2.3.0/120", "::ffff:1.2.3.9", true },
		{ "anyipv4", "1.2.3.4", true },
		{ "ipv4", "::ffff:1.2.3.4", true },
		{ "anyipv4", "::1", false },
		{ "allipv6", "::1", true },
		{ "ipv6", "1.2.3.4", false },
		{ "any", "1.2.3.4", true },
		{ "all", "::1", true },
		{ "unix", "1.2.3.4", false },
		{ "anyvsock", "::1", false },
		{ "uid:0", "1.2.3.4", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nr_session s = inet_session(rows[i].address);

		if (matches(rows[i].rule, &s) != rows[i].match)
			fail_msg("%s and %s", rows[i].rule, rows[i].address);
	}
}

static void rules_for_unix_and_vsock(void **state)
{
	struct nr_session s = unix_session(), v = { .export_name = "" }, nobody = v;
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = 3, .svm_port = 99 };

	memcpy(&v.address, &vm, sizeof(vm));
	assert_true(matches("unix", &s) && matches("anyunix", &s) && matches("any", &s));
	assert_true(matches("uid:1000", &s) && matches("gid:100", &s) && matches("pid:1234", &s));
	assert_false(matches("uid:100", &s) || matches("gid:1000", &s) || matches("pid:1", &s));
	assert_false(matches("ipv4", &s) || matches("0.0.0.0/0", &s) || matches("vsock", &s));
	s.has_credentials = false;
	s.uid = 0;
	assert_false(matches("uid:0", &s));
	assert_true(matches("vsock", &v) && matches("vsock-cid:3", &v) &&
		    matches("vsock-port:99", &v));
	assert_false(matches("vsock-cid:99", &v) || matches("vsock-port:3", &v) ||
		     matches("unix", &v));
	assert_true(matches("any", &nobody));
	assert_false(matches("unix", &nobody) || matches("ipv4", &nobody) ||
		     matches("::/0", &nobody) || matches("vsock-cid:0", &nobody));
}

static void rules_for_certificates(void **state)
{
	static const struct nr_tls_peer peer = { .subject = "CN=backup,O=Example",
						 .issuer = "CN=ca,O=Example" };
	static const struct nr_tls_peer with_key = { .psk_identity = "CN=backup" };
	struct nr_session s = inet_session("192.168.2.1");
	struct layer_test *t = layer_test_open(
		&options, "ip allow=10.0.0.0/8,dn:CN=backup,* deny=any | memory 1M");

	assert_false(matches("dn:*", &s) || matches("issuer-dn:*", &s));
	assert_int_equal(admit(t, &s), -EACCES);
	s.tls = &with_key;
	assert_false(matches("dn:*", &s) || matches("issuer-dn:*", &s));
	s.tls = &peer;
	assert_true(matches("dn:CN=backup,O=Example", &s) && matches("dn:CN=b*,*", &s));
	assert_true(matches("issuer-dn:CN=ca,*", &s));
	assert_false(matches("dn:CN=backup", &s) || matches("issuer-dn:CN=backup,*", &s));
	assert_int_equal(admit(t, &s), 0);
	leave(t, &s);
	layer_test_close(t);
}

static void wrong_rules_are_named(void **state)
{
	static const char *const wrong[] = {
		"",
		"1.2.3",
		"1.2.3.4.5",
		"1.2.3.256",
		"1.2.3.4/33",
		"1.2.3.4/",
		"1.2.3.4/-1",
		"1.2.3.4/+8",
		"1.2.3.4/8x",
		"::1/129",
		":::",
		"fe80::1%lo",
		"uid:",
		"uid:-1",
		"uid:4294967296",
		"uid:root",
		"pid:1 ",
		"vsock-cid:",
		"vsock-port:99x",
		"localhost",
		" 1.2.3.4",
		"ANY",
		"any ",
		"1.2.3.4/0x8",
		"1.2.3.4/8/8",
		"gid:99999999999999999999",
		"dn:",
		"issuer-dn:",
		"DN:CN=a",
	};
	char longest[300];
	struct nr_ip_rule rule;
	struct nr_error error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!nr_ip_rule_parse(wrong[i], strlen(wrong[i]), &rule))
			fail_msg("'%s' was taken for a rule", wrong[i]);
	memset(longest, '1', sizeof(longest));
	assert_non_null(nr_ip_rule_parse(longest, sizeof(longest), &rule));
	assert_non_null(nr_ip_rule_parse("any\0x", 5, &rule));
	assert_null(nr_ip_rule_parse("uid:4294967295", 14, &rule));
	layer_test_refused(&options, &error, "ip allow=1.2.3.4,nonsense,any | memory 1M");
	assert_non_null(strstr(error.text, "allow=nonsense"));
	layer_test_refused(&options, &error, "ip deny=any,, | memory 1M");
	assert_non_null(strstr(error.text, "deny="));
}

/* Random bytes: no crash, and what is taken for a rule has bits in range. */
static void any_text_can_be_parsed(void **state)
{
	static const char letters[] = "0123456789abcdef.:/ugidpvsock-n%";
	uint64_t random = layer_seed(7);

	for (unsigned i = 0; i < 200000; i++) {
		size_t length = layer_random_below(&random, 50);
		struct nr_ip_rule rule;
		char *text = malloc(length ? length : 1);

		assert_non_null(text);
		for (size_t j = 0; j < length; j++)
			text[j] = letters[layer_random_below(&random, sizeof(letters) - 1)];
		if (!nr_ip_rule_parse(text, length, &rule))
			assert_true(rule.network.bits <= (rule.network.address.is_v6 ? 128 : 32));
		free(text);
	}
}

static void allow_comes_before_deny(void **state)
{
	struct layer_test *t = layer_test_open(
		&options, "ip deny=any allow=127.0.0.1,::1 allow=uid:1000 | memory 1M");
	struct nr_session us = inet_session("127.0.0.1"), us6 = inet_session("::1"),
			  other = inet_session("127.0.0.2"), user = unix_session();

	assert_int_equal(admit(t, &us), 0);
	assert_int_equal(admit(t, &us6), 0);
	assert_int_equal(admit(t, &user), 0);
	assert_int_equal(admit(t, &other), -EACCES);
	user.uid = 1001;
	leave(t, &us);
	leave(t, &us6);
	leave(t, &user);
	assert_int_equal(admit(t, &user), -EACCES);
	layer_test_close(t);

	t = layer_test_open(&options, "ip deny=8.0.0.0/8 | memory 1M");
	other = inet_session("8.1.2.3");
	assert_int_equal(admit(t, &other), -EACCES);
	assert_int_equal(admit(t, &us), 0);
	leave(t, &us);
	layer_test_close(t);

	t = layer_test_open(&options, "ip | ip allow=any | memory 1M");
	assert_int_equal(admit(t, &other), 0);
	leave(t, &other);
	layer_test_close(t);
}

/* Times and rates. */

static void times_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t nanoseconds;
	} good[] = {
		{ "60", 60000000000 },
		{ "1.5", 1500000000 },
		{ "0", 0 },
		{ "2s", 2000000000 },
		{ "100ms", 100000000 },
		{ "1.5ms", 1500000 },
		{ "20us", 20000 },
		{ "20µs", 20000 },
		{ "5ns", 5 },
		{ "0.5ns", 0 },
		{ "0.0000000019", 1 },
		{ "1000000000", 1000000000000000000 },
	};
	static const char *const wrong[] = { "",   "-1",  "1.",         ".5",
					     "1h", "1 s", "1.5.5",      "99999999999999999999",
					     "x",  "1s ", "1000000001", "18446744073709551616ns" };
	uint64_t time;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(nr_policy_time(good[i].text, &time));
		assert_int_equal(time, good[i].nanoseconds);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (nr_policy_time(wrong[i], &time))
			fail_msg("'%s' was taken for a time", wrong[i]);
}

static void rates_as_files_hold_them(void **state)
{
	uint64_t rate;

	assert_true(nr_policy_rate("1M\n", 3, &rate) && rate == 1 << 20);
	assert_true(nr_policy_rate("  50k", 5, &rate) && rate == 50 << 10);
	assert_true(nr_policy_rate("0", 1, &rate) && rate == 0);
	assert_true(nr_policy_rate("7E", 2, &rate));
	assert_false(nr_policy_rate("8E", 2, &rate));
	assert_false(nr_policy_rate("", 0, &rate));
	assert_false(nr_policy_rate("\n", 1, &rate));
	assert_false(nr_policy_rate("fast", 4, &rate));
	assert_false(nr_policy_rate("1 M", 3, &rate));
	assert_false(nr_policy_rate("-1", 2, &rate));
	assert_false(nr_policy_rate("1MM", 3, &rate));
	assert_false(nr_policy_rate("99999999999999999999", 20, &rate));
	assert_false(nr_policy_rate("1\0M", 3, &rate));
}

/* time-limit */

static void requests_fail_when_the_time_is_over(void **state)
{
	struct layer_test *t = layer_test_open(&options, "time-limit time-limit=200ms | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_session s = unix_session(), later = unix_session();
	double start;

	assert_int_equal(admit(t, &s), 0);
	assert_int_equal(ask(t, 0, &s, NR_READ, 4096), 0);
	for (start = seconds(); seconds() - start < 0.3;)
		layer_turn(c);
	assert_int_equal(ask(t, 0, &s, NR_READ, 4096), -ESHUTDOWN);
	assert_int_equal(ask(t, 0, &s, NR_WRITE, 4096), -ESHUTDOWN);
	/* The server itself may, and who comes later has his own time. */
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(admit(t, &later), 0);
	assert_int_equal(ask(t, 0, &later, NR_READ, 4096), 0);
	leave(t, &s);
	leave(t, &later);
	layer_test_close(t);
}

static void no_time_limit_when_zero_and_nonsense_refused(void **state)
{
	struct layer_test *t = layer_test_open(&options, "time-limit time-limit=0 | memory 1M");
	struct nr_session s = unix_session();
	struct nr_error error;

	assert_int_equal(admit(t, &s), 0);
	assert_int_equal(ask(t, 0, &s, NR_READ, 4096), 0);
	leave(t, &s);
	layer_test_close(t);
	layer_test_refused(&options, &error, "time-limit time-limit=-1 | memory 1M");
	assert_non_null(strstr(error.text, "time-limit=-1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_lets_in_so_many_at_once),
		cmocka_unit_test(limit_is_one_unless_told_and_none_when_zero),
		cmocka_unit_test(limit_gives_back_the_place_of_one_who_is_refused_below),
		cmocka_unit_test(limit_is_for_all_exports_and_export_limit_for_each),
		cmocka_unit_test(a_limit_that_is_never_reached_is_refused),
		cmocka_unit_test(limit_holds_when_many_come_at_once),
		cmocka_unit_test(rules_for_addresses_and_networks),
		cmocka_unit_test(rules_for_unix_and_vsock),
		cmocka_unit_test(rules_for_certificates),
		cmocka_unit_test(wrong_rules_are_named),
		cmocka_unit_test(any_text_can_be_parsed),
		cmocka_unit_test(allow_comes_before_deny),
		cmocka_unit_test(times_as_people_write_them),
		cmocka_unit_test(rates_as_files_hold_them),
		cmocka_unit_test(requests_fail_when_the_time_is_over),
		cmocka_unit_test(no_time_limit_when_zero_and_nonsense_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
