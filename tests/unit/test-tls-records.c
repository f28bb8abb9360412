/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Records of TLS, whoever opens and seals them: every cipher, both ways of doing it against
 * each other, records as only a hostile or odd peer makes them, and when keys change.
 */
#include "tests/unit/tls-test.h"

#include <gnutls/crypto.h>

#define APPLICATION_DATA 23
#define ALERT 21
#define HANDSHAKE 22

static struct nr_tls_credentials *side(enum nr_tls_side side, const char *priority,
				       bool library_records)
{
	return tls_load(&(struct nr_tls_config){ .side = side,
						 .directory = tls_path("good"),
						 .priority = priority,
						 .library_records = library_records });
}

static void assert_open(struct nr_tls_session *s)
{
	if (nr_tls_state(s) == NR_TLS_FAILED)
		fail_msg("%s", nr_tls_reason(s));
	assert_int_equal(nr_tls_state(s), NR_TLS_OPEN);
}

/* Ciphers. */

static const char *const priorities[] = {
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM",
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM",
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305",
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-CCM",
	"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM",
	"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM",
	"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305",
	"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC",
};

#define PRIORITIES (sizeof(priorities) / sizeof(priorities[0]))
#define DATA 200000u

/* DATA bytes from one to the other, in records of all lengths around their limits. */
static void send_all(struct nr_tls_session *from, struct nr_tls_session *to)
{
	static uint8_t data[DATA], plain[DATA], cipher[2 * DATA];
	static const size_t lengths[] = { 1, 63, 64, 65, 16383, 1, 16384, 16385, 40000, 0 };
	size_t made = 0, at = 0, used;

	for (size_t i = 0; i < DATA; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	for (unsigned i = 0; at < DATA; i++) {
		struct iovec entries[2];
		struct nr_tls_cursor cursor = { 0, 0 };
		size_t length = i < 10 ? lengths[i] : DATA - at;

		entries[0] = (struct iovec){ data + at, length / 3 };
		entries[1] = (struct iovec){ data + at + length / 3, length - length / 3 };
		while (cursor.entry < 2) {
			size_t bytes = nr_tls_encrypt(from, entries, 2, &cursor, cipher + made,
						      sizeof(cipher) - made);

			assert_open(from);
			made += bytes;
		}
		at += length;
	}
	assert_int_equal(
		nr_tls_decrypt(to, cipher, made, &used, &(struct iovec){ plain, sizeof(plain) }, 1),
		DATA);
	assert_int_equal(used, made);
	assert_open(to);
	assert_memory_equal(data, plain, DATA);
}

static void every_cipher_gets_data_across(void **state)
{
	for (size_t i = 0; i < 4 * PRIORITIES; i++) {
		const char *priority = priorities[i / 4];
		struct tls_pair pair = tls_pair(side(NR_TLS_SERVER, priority, i & 1),
						side(NR_TLS_CLIENT, priority, i & 2), NULL);

		tls_talk(&pair, SIZE_MAX);
		assert_open(pair.server);
		for (unsigned times = 0; times < 2; times++) {
			send_all(pair.client, pair.server);
			send_all(pair.server, pair.client);
		}
		tls_pair_end(&pair);
	}
}

/* Odd peers. */

static struct nr_tls_session *open_raw(struct tls_raw *raw, struct nr_tls_credentials *credentials,
				       const char *priority)
{
	struct nr_tls_session *server = nr_tls_session_create(credentials, NULL);

	tls_raw_begin(raw, server, priority);
	nr_tls_credentials_release(credentials);
	return server;
}

static void the_length_that_a_peer_asks_for_is_kept(void **state)
{
	static uint8_t data[100000], cipher[200000];
	static struct tls_raw raw;

	for (size_t i = 0; i < PRIORITIES; i++) {
		struct nr_tls_session *server =
			open_raw(&raw, side(NR_TLS_SERVER, priorities[i], false), priorities[i]);
		struct iovec entries[2] = { { data, 600 }, { data, sizeof(data) } };
		struct nr_tls_cursor cursor = { 0, 0 };
		size_t made, records = 0;

		assert_int_equal(gnutls_record_set_max_recv_size(raw.session, 1024), 0);
		assert_int_equal(gnutls_handshake(raw.session), 0);
		made = nr_tls_encrypt(server, entries, 2, &cursor, cipher, sizeof(cipher));
		assert_int_equal(cursor.entry, 2);
		for (size_t at = 0; at < made; records++) {
			size_t length = (size_t)(cipher[at + 3] << 8 | cipher[at + 4]);

			assert_in_range(length, 1, 1024 + 100);
			at += 5 + length;
		}
		assert_in_range(records, 99, 101);
		tls_raw_end(&raw);
		nr_tls_session_destroy(server);
	}
}

static void padding_is_taken_off(void **state)
{
	static const size_t padding[] = { 0, 1, 100, 16000 };
	static struct tls_raw raw;
	struct nr_tls_session *server =
		open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);

	assert_int_equal(gnutls_handshake(raw.session), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(gnutls_record_send2(raw.session, "hello", 5, padding[i], 0), 5);
		assert_int_equal(raw.received_bytes, 5 * (i + 1));
	}
	assert_memory_equal(raw.received, "hellohellohellohello", 20);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

/* The record number SEQUENCE of RAW with LENGTH bytes of INNER, type and padding included. */
static size_t craft(struct tls_raw *raw, uint64_t sequence, const uint8_t *inner, size_t length,
		    uint8_t *record)
{
	gnutls_datum_t mac, iv, key;
	gnutls_aead_cipher_hd_t cipher;
	uint8_t nonce[12];
	size_t body = length + 16;

	assert_int_equal(gnutls_record_get_state(raw->session, 0, &mac, &iv, &key, NULL), 0);
	assert_int_equal(iv.size, 12);
	memcpy(nonce, iv.data, 12);
	for (unsigned i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(sequence >> (56 - 8 * i));
	memcpy(record, (const uint8_t[]){ 23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body }, 5);
	assert_int_equal(gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_AES_128_GCM, &key), 0);
	assert_int_equal(gnutls_aead_cipher_encrypt(cipher, nonce, 12, record, 5, 16, inner, length,
						    record + 5, &body),
			 0);
	gnutls_aead_cipher_deinit(cipher);
	return 5 + body;
}

/* What the server has said last is an alert, properly encrypted. */
static void assert_told(struct tls_raw *raw)
{
	ssize_t got;

	assert_int_equal(nr_tls_state(raw->server), NR_TLS_FAILED);
	do
		got = gnutls_record_recv(raw->session, (uint8_t[16]){ 0 }, 16);
	while (got == GNUTLS_E_AGAIN && nr_tls_output(raw->server, &(size_t){ 0 }));
	assert_int_equal(got, GNUTLS_E_FATAL_ALERT_RECEIVED);
}

static void records_of_odd_content_are_judged(void **state)
{
	static uint8_t big[16384 + 257];
	static const struct {
		const char *what;
		size_t data, zeroes; /* bytes; type behind the one, in front of the other */
		uint8_t type, fill;
		enum nr_tls_state becomes;
		bool arrives;
	} rows[] = {
		{ "data", 5, 0, APPLICATION_DATA, 7, NR_TLS_OPEN, true },
		{ "nothing", 0, 0, APPLICATION_DATA, 0, NR_TLS_OPEN, false },
		{ "nothing, padded", 0, 99, APPLICATION_DATA, 0, NR_TLS_OPEN, false },
		{ "data that ends in zeroes", 5, 3, APPLICATION_DATA, 0, NR_TLS_OPEN, true },
		{ "as much as there can be", 16384, 0, APPLICATION_DATA, 7, NR_TLS_OPEN, true },
		{ "a byte more", 16385, 0, APPLICATION_DATA, 7, NR_TLS_FAILED, false },
		{ "only padding", 0, 99, 0, 0, NR_TLS_FAILED, false },
		{ "goodbye", 2, 0, ALERT, 0, NR_TLS_CLOSED, false },
		{ "an alert that is none", 1, 0, ALERT, 2, NR_TLS_FAILED, false },
		{ "a fatal alert", 2, 0, ALERT, 2, NR_TLS_FAILED, false },
		{ "a handshake", 40, 0, HANDSHAKE, 1, NR_TLS_FAILED, false },
		{ "an unknown type", 5, 0, 77, 1, NR_TLS_FAILED, false },
	};
	static uint8_t record[20000], plain[20000];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct tls_raw raw;
		struct nr_tls_session *server =
			open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);
		size_t made, used, got, inner = rows[i].data + 1 + rows[i].zeroes;

		assert_int_equal(gnutls_handshake(raw.session), 0);
		memset(big, 0, sizeof(big));
		memset(big, rows[i].fill, rows[i].data);
		if (rows[i].type == ALERT && rows[i].data == 2 && rows[i].fill == 0)
			big[0] = 1; /* a warning, as goodbye is */
		big[rows[i].data] = rows[i].type;
		made = craft(&raw, 0, big, inner, record);
		made += craft(&raw, 1, (const uint8_t *)"next\x17", 5, record + made);
		got = nr_tls_decrypt(server, record, made, &used,
				     &(struct iovec){ plain, sizeof(plain) }, 1);
		if (nr_tls_state(server) != rows[i].becomes)
			fail_msg("%s: state %d", rows[i].what, (int)nr_tls_state(server));
		assert_int_equal(got, (rows[i].arrives ? rows[i].data : 0) +
					      (rows[i].becomes == NR_TLS_OPEN ? 4 : 0));
		assert_memory_equal(plain, big, rows[i].arrives ? rows[i].data : 0);
		if (rows[i].becomes == NR_TLS_OPEN)
			assert_memory_equal(plain + got - 4, "next", 4);
		if (rows[i].becomes == NR_TLS_FAILED && strcmp(rows[i].what, "a fatal alert") != 0)
			assert_told(&raw);
		tls_raw_end(&raw);
		nr_tls_session_destroy(server);
	}
}

/* It is work without end only for who sends without end. */
static void empty_records_hold_nothing_up(void **state)
{
	static uint8_t records[40000], plain[64];
	static struct tls_raw raw;
	struct nr_tls_session *server =
		open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);
	size_t made = 0, used, waiting, waited;
	unsigned count = 0;

	assert_int_equal(gnutls_handshake(raw.session), 0);
	nr_tls_output(server, &waited);
	for (; count < 1500; count++)
		made += craft(&raw, count, (const uint8_t *)"\x17", 1, records + made);
	made += craft(&raw, count, (const uint8_t *)"data\x17", 5, records + made);
	assert_int_equal(nr_tls_decrypt(server, records, made, &used,
					&(struct iovec){ plain, sizeof(plain) }, 1),
			 4);
	assert_int_equal(used, made);
	assert_open(server);
	nr_tls_output(server, &waiting);
	assert_int_equal(waiting, waited);
	assert_false(nr_tls_pending(server));
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

/* There is nothing to do with it, and nobody may wait for that to change. */
static void a_part_of_a_record_is_not_pending(void **state)
{
	static struct tls_raw raw;
	struct nr_tls_session *server =
		open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);
	uint8_t record[64], plain[64] = { 0 };
	size_t made, used;

	assert_int_equal(gnutls_handshake(raw.session), 0);
	made = craft(&raw, 0, (const uint8_t *)"data\x17", 5, record);
	for (size_t at = 0; at < made; at++) {
		size_t got = nr_tls_decrypt(server, record + at, 1, &used,
					    &(struct iovec){ plain, sizeof(plain) }, 1);

		assert_int_equal(used, 1);
		assert_false(nr_tls_pending(server));
		assert_int_equal(got, at + 1 == made ? 4 : 0);
	}
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

static void a_record_that_cannot_be_so_long_is_refused_at_once(void **state)
{
	static struct tls_raw raw;
	struct nr_tls_session *server =
		open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);
	uint8_t plain[64];
	size_t used;

	assert_int_equal(gnutls_handshake(raw.session), 0);
	assert_int_equal(nr_tls_decrypt(server, (const uint8_t *)"\x17\3\3\xff\xff\0", 6, &used,
					&(struct iovec){ plain, sizeof(plain) }, 1),
			 0);
	assert_told(&raw);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

/* Keys. */

#define REKEY_AFTER 3

static void a_key_is_changed_when_it_has_done_its_part(void **state)
{
	struct nr_tls_config config = { .side = NR_TLS_SERVER,
					.directory = tls_path("good"),
					.rekey_after = REKEY_AFTER };
	static struct tls_raw raw;
	struct nr_tls_session *server = open_raw(&raw, tls_load(&config), priorities[0]);
	struct iovec from = { (char[]){ "hello" }, 5 };
	uint8_t cipher[40000], plain[16];
	unsigned changes = 0;

	assert_int_equal(gnutls_handshake(raw.session), 0);
	for (unsigned i = 0; i < 12; i++) {
		struct nr_tls_cursor cursor = { 0, 0 };
		ssize_t got;

		raw.pending = cipher;
		raw.pending_bytes =
			nr_tls_encrypt(server, &from, 1, &cursor, cipher, sizeof(cipher));
		changes += i > 0 && raw.pending_bytes > 27;
		do
			got = gnutls_record_recv(raw.session, plain, sizeof(plain));
		while (got == GNUTLS_E_AGAIN && raw.pending_bytes);
		assert_int_equal(got, 5);
		assert_int_equal(gnutls_record_send(raw.session, "back", 4), 4);
		assert_int_equal(raw.received_bytes, 4 * (i + 1));
	}
	/* The library counts to 2^24 and cannot be told. */
	assert_in_range(changes, getenv("NBDRING_TLS_LIBRARY_RECORDS") ? 0 : 3, 6);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

static void a_key_is_changed_when_the_peer_asks(void **state)
{
	static struct tls_raw raw;
	static uint8_t cipher[40000];
	struct nr_tls_session *server =
		open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);
	struct iovec from = { (char[]){ "hello" }, 5 };
	size_t made[3];

	assert_int_equal(gnutls_handshake(raw.session), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct nr_tls_cursor cursor = { 0, 0 };

		if (i == 2)
			assert_int_equal(gnutls_session_key_update(raw.session, GNUTLS_KU_PEER), 0);
		made[i] = nr_tls_encrypt(server, &from, 1, &cursor, cipher, sizeof(cipher));
	}
	assert_int_equal(made[1], 27);
	assert_int_equal(made[2], 27 + 27);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

/* Goodbye is said once, numbered behind all data, and data still comes in. */
static void data_comes_in_after_our_goodbye(void **state)
{
	static struct tls_raw raw;
	struct nr_tls_session *server =
		open_raw(&raw, side(NR_TLS_SERVER, NULL, false), priorities[0]);
	struct iovec from = { (char[]){ "hello" }, 5 };
	struct nr_tls_cursor cursor = { 0, 0 };
	static uint8_t cipher[40000];
	uint8_t plain[16];

	assert_int_equal(gnutls_handshake(raw.session), 0);
	assert_int_equal(gnutls_record_send(raw.session, "one", 3), 3);
	raw.pending = cipher;
	raw.pending_bytes = nr_tls_encrypt(server, &from, 1, &cursor, cipher, sizeof(cipher));
	nr_tls_bye(server);
	assert_int_equal(gnutls_record_send(raw.session, "two", 3), 3);
	assert_memory_equal(raw.received, "onetwo", 6);
	while (raw.pending_bytes)
		(void)gnutls_record_recv(raw.session, plain, sizeof(plain));
	assert_int_equal(gnutls_record_recv(raw.session, plain, sizeof(plain)), 0);
	assert_int_equal(gnutls_bye(raw.session, GNUTLS_SHUT_WR), 0);
	assert_int_equal(nr_tls_state(server), NR_TLS_CLOSED);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cipher_gets_data_across),
		cmocka_unit_test(the_length_that_a_peer_asks_for_is_kept),
		cmocka_unit_test(padding_is_taken_off),
		cmocka_unit_test(records_of_odd_content_are_judged),
		cmocka_unit_test(empty_records_hold_nothing_up),
		cmocka_unit_test(a_part_of_a_record_is_not_pending),
		cmocka_unit_test(a_record_that_cannot_be_so_long_is_refused_at_once),
		cmocka_unit_test(a_key_is_changed_when_it_has_done_its_part),
		cmocka_unit_test(a_key_is_changed_when_the_peer_asks),
		cmocka_unit_test(data_comes_in_after_our_goodbye),
	};

	return cmocka_run_group_tests(tests, tls_make_folder, tls_remove_folder);
}
