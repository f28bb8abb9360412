/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's negotiation against the server's, in memory and cut into odd pieces; and
 * against servers that are old, or that do not keep to the protocol.
 */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "nbdring/checked.h"
#include "src/protocol/client-handshake.h"
#include "src/protocol/handshake.h"
#include "src/protocol/wire.h"

static const char *const allocation[] = { NBD_BASE_ALLOCATION };

/* One negotiation of the two, CUT bytes at a time. */
struct meeting {
	struct nr_handshake_config config;
	struct nr_client_wish wish;
	const char *export_name; /* that the server has */
	bool no_contexts;
	size_t cut;
	enum nr_client_state state;
	struct nr_client_agreement agreed;
	struct nr_agreement servers;
	int error;
	char reason[512];
};

static enum nr_handshake_state answer(const struct meeting *m, struct nr_handshake *h)
{
	static const struct nr_export_info info = { 1 << 20,
						    NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
							    NBD_FLAG_SEND_WRITE_ZEROES,
						    512, 4096, 1 << 25 };
	struct nr_export_answer a = { .refusal = NBD_REP_ERR_UNKNOWN, .text = "no such disk" };
	enum nr_export_purpose purpose;

	if (strcmp(nr_handshake_wanted(h, &purpose), m->export_name) == 0)
		a = (struct nr_export_answer){ .info = &info,
					       .contexts = allocation,
					       .context_count = m->no_contexts ? 0 : 1 };
	return nr_handshake_export_is(h, &a);
}

/* The server's answers to what it has been told. */
static void serve(struct meeting *m, struct nr_handshake *h, const uint8_t *data, size_t length)
{
	enum nr_handshake_state state;
	size_t used = 0;

	do {
		state = nr_handshake_feed(h, data, length, &used);
		if (used)
			data += used;
		length -= used;
		if (state == NR_HANDSHAKE_EXPORT)
			state = answer(m, h);
		if (state == NR_HANDSHAKE_LIST) {
			nr_handshake_list_entry(h, "a", "the first");
			nr_handshake_list_entry(h, "", NULL);
			state = nr_handshake_list_end(h, 0, NULL);
		}
		if (state == NR_HANDSHAKE_READY)
			m->servers = *nr_handshake_agreement(h);
	} while (state == NR_HANDSHAKE_MORE && length);
}

static void meet(struct meeting *m)
{
	struct nr_handshake *server = nr_handshake_create(&m->config);
	struct nr_client_handshake *client = nr_client_handshake_create(&m->wish);
	bool moved = true;

	assert_non_null(server);
	assert_non_null(client);
	m->state = NR_CLIENT_MORE;
	if (m->config.oldstyle)
		serve(m, server, NULL, 0);
	while (moved) {
		size_t length, used, part;
		const uint8_t *bytes = nr_handshake_output(server, &length);

		moved = false;
		part = m->cut && m->cut < length ? m->cut : length;
		if (part && m->state == NR_CLIENT_MORE) {
			uint8_t *copy = malloc(part);

			memcpy(copy, bytes, part);
			m->state = nr_client_handshake_feed(client, copy, part, &used);
			free(copy);
			nr_handshake_sent(server, used);
			moved = used > 0;
		}
		bytes = nr_client_handshake_output(client, &length);
		part = m->cut && m->cut < length ? m->cut : length;
		if (part) {
			uint8_t *copy = malloc(part);

			memcpy(copy, bytes, part);
			nr_client_handshake_sent(client, part);
			serve(m, server, copy, part);
			free(copy);
			moved = true;
		}
	}
	if (m->state == NR_CLIENT_READY)
		m->agreed = *nr_client_handshake_agreement(client);
	m->error = nr_client_handshake_error(client);
	snprintf(m->reason, sizeof(m->reason), "%s", nr_client_handshake_reason(client));
	nr_client_handshake_destroy(client);
	nr_handshake_destroy(server);
}

static struct meeting usual(void)
{
	return (struct meeting){
		.config = { .flags_mask = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES },
		.wish = { .export_name = "",
			  .best_style = NR_REPLY_EXTENDED,
			  .contexts = allocation,
			  .context_count = 1 },
		.export_name = "",
	};
}

static void both_sides_agree_however_the_bytes_are_cut(void **state)
{
	for (size_t cut = 0; cut < 70; cut++) {
		struct meeting m = usual();

		m.cut = cut;
		meet(&m);
		assert_int_equal(m.state, NR_CLIENT_READY);
		assert_int_equal(m.agreed.reply_style, NR_REPLY_EXTENDED);
		assert_int_equal(m.agreed.reply_style, m.servers.reply_style);
		assert_int_equal(m.agreed.info.size, 1 << 20);
		assert_int_equal(m.agreed.info.flags, m.servers.info.flags);
		assert_int_equal(m.agreed.info.block_min, 512);
		assert_int_equal(m.agreed.info.block_max, 1 << 25);
		assert_int_equal(m.agreed.contexts, 1);
		assert_int_equal(m.agreed.context_id[0], 1);
	}
}

static void less_is_agreed_where_less_is_wished(void **state)
{
	struct meeting m = usual();

	m.wish.best_style = NR_REPLY_STRUCTURED;
	meet(&m);
	assert_int_equal(m.agreed.reply_style, NR_REPLY_STRUCTURED);
	assert_int_equal(m.agreed.contexts, 1);

	m.wish.best_style = NR_REPLY_SIMPLE;
	meet(&m);
	assert_int_equal(m.state, NR_CLIENT_READY);
	assert_int_equal(m.agreed.reply_style, NR_REPLY_SIMPLE);
	assert_int_equal(m.agreed.contexts, 0);
}

static void servers_that_can_less_are_taken_as_they_are(void **state)
{
	struct meeting m = usual();

	m.config.no_structured = true;
	meet(&m);
	assert_int_equal(m.state, NR_CLIENT_READY);
	assert_int_equal(m.agreed.reply_style, NR_REPLY_SIMPLE);

	m = usual();
	m.no_contexts = true;
	meet(&m);
	assert_int_equal(m.state, NR_CLIENT_READY);
	assert_int_equal(m.agreed.contexts, 0);
}

static void newstyle_that_is_not_fixed_and_oldstyle(void **state)
{
	for (size_t cut = 0; cut < 40; cut += 3) {
		struct meeting m = usual();

		m.cut = cut;
		m.config.flags_mask = cut % 2 ? NBD_FLAG_NO_ZEROES : 0;
		meet(&m);
		assert_int_equal(m.state, NR_CLIENT_READY);
		assert_int_equal(m.agreed.reply_style, NR_REPLY_SIMPLE);
		assert_int_equal(m.agreed.info.size, 1 << 20);
		assert_int_equal(m.agreed.info.block_min, 1);

		m = usual();
		m.cut = cut;
		m.config.oldstyle = true;
		meet(&m);
		assert_int_equal(m.state, NR_CLIENT_READY);
		assert_int_equal(m.agreed.info.size, 1 << 20);
		assert_true(m.agreed.info.flags & NBD_FLAG_SEND_FLUSH);
	}
}

static void an_unknown_export_is_told_from_other_refusals(void **state)
{
	struct meeting m = usual();

	m.wish.export_name = "b";
	meet(&m);
	assert_int_equal(m.state, NR_CLIENT_FAILED);
	assert_int_equal(m.error, -ENOENT);
	assert_non_null(strstr(m.reason, "no such disk"));
}

static void what_old_servers_cannot_do_is_said(void **state)
{
	struct meeting m = usual();

	m.config.oldstyle = true;
	m.wish.export_name = "named";
	meet(&m);
	assert_int_equal(m.error, -ENOENT);

	m = usual();
	m.wish.tls = NR_CLIENT_TLS_REQUIRE;
	meet(&m);
	assert_int_equal(m.state, NR_CLIENT_FAILED);
	assert_int_equal(m.error, -EOPNOTSUPP);

	m.wish.tls = NR_CLIENT_TLS_TRY;
	meet(&m);
	assert_int_equal(m.state, NR_CLIENT_READY);

	m.config.flags_mask = 0;
	m.wish.tls = NR_CLIENT_TLS_REQUIRE;
	meet(&m);
	assert_int_equal(m.error, -EOPNOTSUPP);
}

static void note_export(void *context, const char *name, const char *description)
{
	char *list = context;
	size_t length = strlen(list);

	snprintf(list + length, 100 - length, "[%s|%s]", name, description);
}

static void exports_are_listed(void **state)
{
	for (size_t cut = 0; cut < 30; cut++) {
		char list[100] = "";
		struct meeting m = usual();

		m.cut = cut;
		m.wish.listed = note_export;
		m.wish.listed_context = list;
		meet(&m);
		assert_int_equal(m.state, NR_CLIENT_LISTED);
		assert_string_equal(list, "[a|the first][|]");
	}
}

/* ---- servers that lie -------------------------------------------------- */

struct script {
	uint8_t bytes[4096];
	size_t length;
};

static void put(struct script *s, unsigned width, uint64_t value)
{
	while (width-- > 0)
		s->bytes[s->length++] = (uint8_t)(value >> 8 * width);
}

static void put_reply(struct script *s, uint32_t option, uint32_t type, uint32_t length)
{
	put(s, 8, NBD_OPTION_REPLY_MAGIC);
	put(s, 4, option);
	put(s, 4, type);
	put(s, 4, length);
}

static void begin(struct script *s)
{
	s->length = 0;
	put(s, 8, NBD_MAGIC);
	put(s, 8, NBD_IHAVEOPT);
	put(s, 2, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put_reply(s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, 0);
}

/* What becomes of a client that wishes for structured replies and meets SCRIPT. */
static int outcome(const struct script *s, enum nr_client_state *state)
{
	const struct nr_client_wish wish = { .export_name = "",
					     .best_style = NR_REPLY_STRUCTURED,
					     .contexts = allocation,
					     .context_count = 1 };
	struct nr_client_handshake *client = nr_client_handshake_create(&wish);
	size_t at = 0, used, length;
	int error;

	do {
		*state = nr_client_handshake_feed(client, s->bytes + at, s->length - at, &used);
		at += used;
		nr_client_handshake_output(client, &length);
		nr_client_handshake_sent(client, length);
	} while (used && *state == NR_CLIENT_MORE);
	error = nr_client_handshake_error(client);
	nr_client_handshake_destroy(client);
	return error;
}

static void context_reply(struct script *s, uint32_t id, const char *name)
{
	put_reply(s, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, 4 + (uint32_t)strlen(name));
	put(s, 4, id);
	memcpy(s->bytes + s->length, name, strlen(name));
	s->length += strlen(name);
}

static void go_reply(struct script *s, uint64_t size, uint32_t min, uint32_t preferred,
		     uint32_t max)
{
	put_reply(s, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, 0);
	put_reply(s, NBD_OPT_GO, NBD_REP_INFO, 12);
	put(s, 2, NBD_INFO_EXPORT);
	put(s, 8, size);
	put(s, 2, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FAST_ZERO);
	put_reply(s, NBD_OPT_GO, NBD_REP_INFO, 14);
	put(s, 2, NBD_INFO_BLOCK_SIZE);
	put(s, 4, min);
	put(s, 4, preferred);
	put(s, 4, max);
	put_reply(s, NBD_OPT_GO, NBD_REP_ACK, 0);
}

static void impossible_sizes_are_refused(void **state)
{
	static const struct {
		uint64_t size;
		uint32_t min, preferred, max;
		bool fine;
	} cases[] = {
		{ 1 << 20, 1, 4096, 1 << 25, true },  { 0, 1, 512, UINT32_MAX, true },
		{ UINT64_MAX, 1, 4096, 4096, false }, { 1, 0, 4096, 4096, false },
		{ 1, 3, 4096, 4098, false },          { 1, 131072, 131072, 131072, false },
		{ 1, 4096, 512, 4096, false },        { 1, 512, 4096, 1000, false },
		{ 1, 512, 4096, 256, false },         { 1, 1, 1000, 4096, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script s;
		enum nr_client_state end;

		begin(&s);
		go_reply(&s, cases[i].size, cases[i].min, cases[i].preferred, cases[i].max);
		assert_int_equal(outcome(&s, &end), cases[i].fine ? 0 : -EPROTO);
		assert_int_equal(end, cases[i].fine ? NR_CLIENT_READY : NR_CLIENT_FAILED);
	}
}

static void contexts_that_were_not_asked_for_end_it(void **state)
{
	static const struct {
		const char *first, *second;
	} cases[] = {
		{ "qemu:dirty-bitmap:x", NULL },
		{ NBD_BASE_ALLOCATION, NBD_BASE_ALLOCATION },
		{ "", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script s;
		enum nr_client_state end;

		begin(&s);
		context_reply(&s, 7, cases[i].first);
		if (cases[i].second)
			context_reply(&s, 8, cases[i].second);
		go_reply(&s, 1, 1, 4096, 4096);
		assert_int_equal(outcome(&s, &end), -EPROTO);
	}
}

/* Contexts that a server lists, and what of it is asked for. */

static const char *wished[NR_CONTEXTS_MAX];
static char found_names[NR_CONTEXTS_MAX][64];
static unsigned found_count;

static bool note_context(void *context, const char *name)
{
	if (strcmp(name, "x:unwanted") == 0)
		return false;
	assert_true(found_count + 1 < NR_CONTEXTS_MAX);
	snprintf(found_names[found_count], sizeof(found_names[0]), "%s", name);
	wished[1 + found_count] = found_names[found_count];
	found_count++;
	return true;
}

static void list_reply(struct script *s, const char *name)
{
	put_reply(s, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, 4 + (uint32_t)strlen(name));
	put(s, 4, 0);
	memcpy(s->bytes + s->length, name, strlen(name));
	s->length += strlen(name);
}

static enum nr_client_state ask_for_all(const struct script *s, struct nr_client_agreement *agreed)
{
	const struct nr_client_wish wish = { .export_name = "",
					     .best_style = NR_REPLY_STRUCTURED,
					     .contexts = wished,
					     .context_count = 1,
					     .found = note_context };
	struct nr_client_handshake *client = nr_client_handshake_create(&wish);
	enum nr_client_state state;
	size_t at = 0, used, length;

	wished[0] = NBD_BASE_ALLOCATION;
	found_count = 0;
	do {
		state = nr_client_handshake_feed(client, s->bytes + at, s->length - at, &used);
		at += used;
		nr_client_handshake_output(client, &length);
		nr_client_handshake_sent(client, length);
	} while (used && state == NR_CLIENT_MORE);
	if (state == NR_CLIENT_READY)
		*agreed = *nr_client_handshake_agreement(client);
	nr_client_handshake_destroy(client);
	return state;
}

static void contexts_that_are_listed_are_asked_for(void **state)
{
	struct nr_client_agreement agreed = { 0 };
	struct script s;

	begin(&s);
	list_reply(&s, "x:one");
	list_reply(&s, NBD_BASE_ALLOCATION);
	list_reply(&s, "x:one"); /* twice: once is enough */
	list_reply(&s, "x:unwanted");
	list_reply(&s, "x:");      /* any of these: not one to ask for */
	list_reply(&s, "nothing"); /* of no namespace */
	list_reply(&s, "x:two");
	put_reply(&s, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, 0);
	context_reply(&s, 9, "x:two");
	context_reply(&s, 4, NBD_BASE_ALLOCATION);
	go_reply(&s, 1, 1, 4096, 4096);
	assert_int_equal(ask_for_all(&s, &agreed), NR_CLIENT_READY);
	assert_int_equal(found_count, 2);
	assert_string_equal(wished[2], "x:two");
	assert_int_equal(agreed.contexts, 5); /* x:one was not granted */
	assert_int_equal(agreed.context_id[0], 4);
	assert_int_equal(agreed.context_id[2], 9);

	/* A server that has no list may have contexts. */
	begin(&s);
	put_reply(&s, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_UNSUP, 0);
	context_reply(&s, 4, NBD_BASE_ALLOCATION);
	go_reply(&s, 1, 1, 4096, 4096);
	assert_int_equal(ask_for_all(&s, &agreed), NR_CLIENT_READY);
	assert_int_equal(agreed.contexts, 1);

	/* Of many, as many as there is room for. */
	begin(&s);
	for (unsigned i = 0; i < 2 * NR_CONTEXTS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "x:%u", i);
		list_reply(&s, name);
	}
	put_reply(&s, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, 0);
	go_reply(&s, 1, 1, 4096, 4096);
	assert_int_equal(ask_for_all(&s, &agreed), NR_CLIENT_READY);
	assert_int_equal(found_count, NR_CONTEXTS_MAX - 1);
}

static void answers_to_nothing_end_it(void **state)
{
	struct script s;
	enum nr_client_state end;

	begin(&s);
	put_reply(&s, NBD_OPT_GO, NBD_REP_ACK, 0); /* SET_META_CONTEXT was asked */
	assert_int_equal(outcome(&s, &end), -EPROTO);

	begin(&s);
	put_reply(&s, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NR_CLIENT_REPLY_MAX + 1);
	assert_int_equal(outcome(&s, &end), -EPROTO);

	begin(&s);
	put_reply(&s, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, 0);
	put_reply(&s, NBD_OPT_GO, NBD_REP_ACK, 0); /* and the size? */
	assert_int_equal(outcome(&s, &end), -EPROTO);

	s.length = 0;
	put(&s, 8, UINT64_C(0x485454502f312e31));
	put(&s, 8, 0);
	assert_int_equal(outcome(&s, &end), -EPROTO);
}

static void an_answer_without_end_is_ended(void **state)
{
	const struct nr_client_wish wish = { .export_name = "" };
	struct nr_client_handshake *client = nr_client_handshake_create(&wish);
	struct script s = { .length = 0 };
	enum nr_client_state end;
	size_t used, length;
	unsigned replies = 0;

	put(&s, 8, NBD_MAGIC);
	put(&s, 8, NBD_IHAVEOPT);
	put(&s, 2, NBD_FLAG_FIXED_NEWSTYLE);
	end = nr_client_handshake_feed(client, s.bytes, s.length, &used);
	s.length = 0;
	put_reply(&s, NBD_OPT_GO, NBD_REP_INFO, 2);
	put(&s, 2, 1000);
	while (end == NR_CLIENT_MORE && replies++ < 2 * NR_CLIENT_REPLIES_MAX) {
		nr_client_handshake_output(client, &length);
		nr_client_handshake_sent(client, length);
		end = nr_client_handshake_feed(client, s.bytes, s.length, &used);
	}
	assert_int_equal(end, NR_CLIENT_FAILED);
	nr_client_handshake_destroy(client);
}

static void fast_zero_alone_is_no_fast_zero(void **state)
{
	struct script s;
	enum nr_client_state end;
	const struct nr_client_wish wish = { .export_name = "" };
	struct nr_client_handshake *client = nr_client_handshake_create(&wish);
	size_t used;

	s.length = 0;
	put(&s, 8, NBD_MAGIC);
	put(&s, 8, NBD_OLDSTYLE_MAGIC);
	put(&s, 8, 1 << 20);
	put(&s, 4, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FAST_ZERO);
	memset(s.bytes + s.length, 0, 124);
	s.length += 124;
	end = nr_client_handshake_feed(client, s.bytes, s.length, &used);
	assert_int_equal(end, NR_CLIENT_READY);
	assert_int_equal(nr_client_handshake_agreement(client)->info.flags, NBD_FLAG_HAS_FLAGS);
	nr_client_handshake_destroy(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides_agree_however_the_bytes_are_cut),
		cmocka_unit_test(less_is_agreed_where_less_is_wished),
		cmocka_unit_test(servers_that_can_less_are_taken_as_they_are),
		cmocka_unit_test(newstyle_that_is_not_fixed_and_oldstyle),
		cmocka_unit_test(an_unknown_export_is_told_from_other_refusals),
		cmocka_unit_test(what_old_servers_cannot_do_is_said),
		cmocka_unit_test(exports_are_listed),
		cmocka_unit_test(impossible_sizes_are_refused),
		cmocka_unit_test(contexts_that_were_not_asked_for_end_it),
		cmocka_unit_test(contexts_that_are_listed_are_asked_for),
		cmocka_unit_test(answers_to_nothing_end_it),
		cmocka_unit_test(an_answer_without_end_is_ended),
		cmocka_unit_test(fast_zero_alone_is_no_fast_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
