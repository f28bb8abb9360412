/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS sessions back to back in memory: who is let in and what is known of him, data cut
 * into odd pieces, what a hostile peer can do, and how it ends.
 */
#include "tests/unit/tls-test.h"

static struct nr_tls_credentials *server_for_all(void)
{
	return tls_load(
		&(struct nr_tls_config){ .side = NR_TLS_SERVER, .directory = tls_path("good") });
}

static struct nr_tls_credentials *psk(enum nr_tls_side side, const char *file, const char *name)
{
	return tls_load(&(struct nr_tls_config){
		.side = side, .psk_file = tls_path(file), .psk_name = name });
}

static void assert_open(const struct tls_pair *pair)
{
	if (nr_tls_state(pair->server) == NR_TLS_FAILED)
		fail_msg("server: %s", nr_tls_reason(pair->server));
	if (nr_tls_state(pair->client) == NR_TLS_FAILED)
		fail_msg("client: %s", nr_tls_reason(pair->client));
	assert_int_equal(nr_tls_state(pair->server), NR_TLS_OPEN);
	assert_int_equal(nr_tls_state(pair->client), NR_TLS_OPEN);
}

static struct tls_pair open_pair(void)
{
	struct tls_pair pair =
		tls_pair(server_for_all(), tls_x509(NR_TLS_CLIENT, "good"), "localhost");

	tls_talk(&pair, SIZE_MAX);
	assert_open(&pair);
	return pair;
}

/* Identity. */

static bool has_name(const struct nr_tls_peer *peer, const char *name)
{
	for (size_t i = 0; i < peer->name_count; i++)
		if (strcmp(peer->names[i], name) == 0)
			return true;
	return false;
}

static void a_certificate_tells_who_the_client_is(void **state)
{
	struct tls_pair pair = tls_pair(tls_x509(NR_TLS_SERVER, "good"),
					tls_x509(NR_TLS_CLIENT, "good"), "localhost");
	const struct nr_tls_peer *peer;

	tls_talk(&pair, SIZE_MAX);
	assert_open(&pair);
	peer = nr_tls_peer(pair.server);
	assert_string_equal(peer->subject, "CN=tenant 7,O=Example\\, Inc.");
	assert_string_equal(peer->issuer, "CN=good CA");
	assert_null(peer->psk_identity);
	assert_int_equal(peer->name_count, 4);
	assert_true(has_name(peer, "DNS:c.example"));
	assert_true(has_name(peer, "IP:192.0.2.1"));
	assert_true(has_name(peer, "URI:urn:x"));
	assert_true(has_name(peer, "EMAIL:a@b.example"));
	assert_string_equal(nr_tls_peer(pair.client)->subject, "CN=localhost");
	assert_non_null(strstr(nr_tls_description(pair.server), "TLS1.3"));
	tls_pair_end(&pair);
}

static void without_verification_nobody_is_asked(void **state)
{
	struct tls_pair pair = open_pair();

	assert_null(nr_tls_peer(pair.server)->subject);
	assert_int_equal(nr_tls_peer(pair.server)->name_count, 0);
	tls_pair_end(&pair);
}

static void a_key_tells_who_the_client_is(void **state)
{
	struct tls_pair pair = tls_pair(psk(NR_TLS_SERVER, "good/keys.psk", NULL),
					psk(NR_TLS_CLIENT, "good/keys.psk", "bob"), NULL);

	tls_talk(&pair, SIZE_MAX);
	assert_open(&pair);
	assert_string_equal(nr_tls_peer(pair.server)->psk_identity, "bob");
	assert_null(nr_tls_peer(pair.server)->subject);
	tls_pair_end(&pair);
}

static void keys_and_certificates_go_together(void **state)
{
	const struct nr_tls_config both = { .side = NR_TLS_SERVER,
					    .directory = tls_path("good"),
					    .psk_file = tls_path("good/keys.psk"),
					    .verify_peer = true };
	struct tls_pair with_key =
		tls_pair(tls_load(&both), psk(NR_TLS_CLIENT, "good/keys.psk", "alice"), NULL);
	struct tls_pair with_certificate =
		tls_pair(tls_load(&both), tls_x509(NR_TLS_CLIENT, "good"), "localhost");

	tls_talk(&with_key, SIZE_MAX);
	assert_open(&with_key);
	tls_talk(&with_certificate, SIZE_MAX);
	assert_open(&with_certificate);
	assert_string_equal(nr_tls_peer(with_key.server)->psk_identity, "alice");
	assert_non_null(nr_tls_peer(with_certificate.server)->subject);
	tls_pair_end(&with_key);
	tls_pair_end(&with_certificate);
}

/* Refusals. */

/* The server's folder, the client's, the host, and who complains about what. */
static void refused(const char *server, const char *client, const char *host, bool by_server,
		    const char *word)
{
	struct tls_pair pair =
		tls_pair(tls_x509(NR_TLS_SERVER, server), tls_x509(NR_TLS_CLIENT, client), host);
	struct nr_tls_session *who = by_server ? pair.server : pair.client;

	tls_talk(&pair, SIZE_MAX);
	if (nr_tls_state(who) != NR_TLS_FAILED)
		fail_msg("%s let %s in", server, client);
	if (!strstr(nr_tls_reason(who), word))
		fail_msg("'%s' is not in: %s", word, nr_tls_reason(who));
	/* The other one is told by an alert. */
	assert_int_equal(nr_tls_state(by_server ? pair.client : pair.server), NR_TLS_FAILED);
	tls_pair_end(&pair);
}

static void who_is_not_trusted_does_not_get_in(void **state)
{
	refused("good", "stranger", "localhost", true, "issuer is unknown");
	refused("revoked", "good", "localhost", true, "revoked");
	refused("other", "good", "localhost", false, "issuer is unknown");
	refused("good", "good", "example.com", false, "does not match");
	refused("good", "plain-client", "localhost", true, "Certificate is required");
	/* A server's certificate is none for a client. */
	refused("good", "posing", "localhost", true, "purpose");
}

static void a_wrong_key_does_not_get_in(void **state)
{
	FILE *file = fopen(tls_path("forged.psk"), "w");
	struct tls_pair pair;

	assert_non_null(file);
	fprintf(file, "# made up\n\nalice:00112233445566778899aabbccddeeff\nmallory:0011\n");
	fclose(file);
	for (unsigned i = 0; i < 2; i++) {
		pair = tls_pair(psk(NR_TLS_SERVER, "good/keys.psk", NULL),
				psk(NR_TLS_CLIENT, "forged.psk", i ? "mallory" : "alice"), NULL);
		tls_talk(&pair, SIZE_MAX);
		assert_int_equal(nr_tls_state(pair.server), NR_TLS_FAILED);
		assert_int_not_equal(nr_tls_state(pair.client), NR_TLS_OPEN);
		tls_pair_end(&pair);
	}
}

/* T10 */
static void versions_before_1_2_are_refused(void **state)
{
	static const struct {
		const char *priority;
		bool good;
	} rows[] = {
		{ "NORMAL:-VERS-ALL:+VERS-TLS1.3", true },
		{ "NORMAL:-VERS-ALL:+VERS-TLS1.2", true },
		{ "NORMAL:-VERS-ALL:+VERS-TLS1.1", false },
		{ "NORMAL:-VERS-ALL:+VERS-TLS1.0", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nr_tls_credentials *client =
			tls_load(&(struct nr_tls_config){ .side = NR_TLS_CLIENT,
							  .directory = tls_path("good"),
							  .priority = rows[i].priority });
		struct tls_pair pair = tls_pair(server_for_all(), client, "localhost");

		tls_talk(&pair, SIZE_MAX);
		assert_int_equal(nr_tls_state(pair.server),
				 rows[i].good ? NR_TLS_OPEN : NR_TLS_FAILED);
		tls_pair_end(&pair);
	}
}

/* Data. */

#define DATA_BYTES 1000003u

static uint64_t seed = 88172645463325252u;

static size_t draw(size_t most)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (size_t)(seed % most) + 1;
}

/* DATA as a list of entries of odd lengths; returns how many. */
static unsigned cut(uint8_t *data, size_t length, struct iovec *entries, unsigned most)
{
	static const size_t longest[] = { 40, 5000, 100000 };
	unsigned count = 0;

	while (length && count + 1 < most) {
		size_t part = draw(longest[draw(3) - 1]) - 1;

		if (part > length)
			part = length;
		entries[count++] = (struct iovec){ data, part };
		data += part;
		length -= part;
	}
	entries[count++] = (struct iovec){ data, length };
	return count;
}

/* All of CIPHER into TO in pieces, plaintext into odd memory; returns the bytes of plaintext. */
static size_t decrypt_all(struct nr_tls_session *to, const uint8_t *cipher, size_t length,
			  uint8_t *plain, size_t piece)
{
	size_t done = 0, got = 0;

	while (done < length || nr_tls_pending(to)) {
		size_t part = draw(piece), room = draw(30000), split = draw(room), used, bytes;

		if (part > length - done)
			part = length - done;
		bytes = nr_tls_decrypt(to, cipher + done, part, &used,
				       (struct iovec[]){ { plain + got, split },
							 { plain + got + split, room - split } },
				       2);
		assert_true(used <= part && bytes <= room);
		assert_true(used == part || bytes == room);
		assert_int_equal(nr_tls_state(to), NR_TLS_OPEN);
		done += used;
		got += bytes;
	}
	return got;
}

static void transfer(struct nr_tls_session *from, struct nr_tls_session *to)
{
	static const size_t pieces[] = { 7, 1400, 40000, 300000 };
	static uint8_t data[DATA_BYTES], plain[DATA_BYTES + 30000], cipher[400000];
	struct iovec entries[300];
	struct nr_tls_cursor cursor = { 0, 0 };
	unsigned count = cut(data, DATA_BYTES, entries, 300);
	size_t got = 0, piece = pieces[draw(4) - 1];

	for (size_t i = 0; i < DATA_BYTES; i++)
		data[i] = (uint8_t)draw(256);
	while (cursor.entry < count) {
		size_t room = NR_TLS_RECORD_MAX + NR_TLS_OVERHEAD_MAX + draw(300000);
		size_t made = nr_tls_encrypt(from, entries, count, &cursor, cipher, room);

		assert_true(made > 0 && made <= room);
		got += decrypt_all(to, cipher, made, plain + got, piece);
	}
	assert_int_equal(got, DATA_BYTES);
	assert_memory_equal(data, plain, DATA_BYTES);
}

static void data_survives_any_cut(void **state)
{
	for (unsigned i = 0; i < 8; i++) {
		struct tls_pair pair =
			tls_pair(server_for_all(), tls_x509(NR_TLS_CLIENT, "good"), "localhost");

		tls_talk(&pair, i % 2 ? draw(100) : 1);
		assert_open(&pair);
		transfer(pair.client, pair.server);
		transfer(pair.server, pair.client);
		tls_pair_end(&pair);
	}
}

/* A record for each long stretch, and small parts share one. */
static void records_are_filled(void **state)
{
	static uint8_t data[65536], cipher[2 * 65536];
	struct tls_pair pair = open_pair();
	struct iovec small[64], large[] = { { data, 20 }, { data, 65536 } };
	struct nr_tls_cursor cursor = { 0, 0 };

	for (unsigned i = 0; i < 64; i++)
		small[i] = (struct iovec){ data, 256 };
	assert_in_range(nr_tls_encrypt(pair.server, small, 64, &cursor, cipher, sizeof(cipher)),
			16384, 16384 + 64);
	cursor = (struct nr_tls_cursor){ 0, 0 };
	assert_in_range(nr_tls_encrypt(pair.server, large, 2, &cursor, cipher, sizeof(cipher)),
			65556, 65556 + 5 * 64);
	tls_pair_end(&pair);
}

/* What came together with the end of the handshake is not lost. */
static void data_behind_the_handshake_is_kept(void **state)
{
	struct tls_pair pair =
		tls_pair(server_for_all(), tls_x509(NR_TLS_CLIENT, "good"), "localhost");
	struct iovec from = { (char[]){ "hello" }, 5 };
	struct nr_tls_cursor cursor = { 0, 0 };
	uint8_t cipher[40000], plain[16];
	size_t made, used;

	tls_carry(pair.client, pair.server, SIZE_MAX);
	tls_carry(pair.server, pair.client, SIZE_MAX);
	assert_int_equal(nr_tls_state(pair.client), NR_TLS_OPEN);
	/* The client's Finished goes out in front of its data. */
	made = nr_tls_encrypt(pair.client, &from, 1, &cursor, cipher, sizeof(cipher));
	assert_int_equal(nr_tls_handshake(pair.server, cipher, made), NR_TLS_OPEN);
	assert_true(nr_tls_pending(pair.server));
	assert_int_equal(nr_tls_decrypt(pair.server, NULL, 0, &used,
					&(struct iovec){ plain, sizeof(plain) }, 1),
			 5);
	assert_memory_equal(plain, "hello", 5);
	assert_false(nr_tls_pending(pair.server));
	tls_pair_end(&pair);
}

static void ciphertext_can_be_kept_for_later(void **state)
{
	struct tls_pair pair = open_pair();
	struct iovec from = { (char[]){ "hello" }, 5 };
	struct nr_tls_cursor cursor = { 0, 0 };
	uint8_t cipher[40000], plain[16];
	size_t made = nr_tls_encrypt(pair.client, &from, 1, &cursor, cipher, sizeof(cipher));
	size_t used;

	assert_true(nr_tls_stash(pair.server, cipher, 3));
	assert_true(nr_tls_stash(pair.server, cipher + 3, 4));
	assert_int_equal(nr_tls_decrypt(pair.server, cipher + 7, made - 7, &used,
					&(struct iovec){ plain, sizeof(plain) }, 1),
			 5);
	assert_int_equal(used, made - 7);
	assert_memory_equal(plain, "hello", 5);
	tls_pair_end(&pair);
}

/* Hostile peers. */

static void a_changed_byte_ends_the_session(void **state)
{
	struct iovec from = { (char[]){ "hello" }, 5 };
	uint8_t cipher[40000], plain[16] = { 0 };

	for (size_t at = 0; at < 27; at++) {
		struct tls_pair pair = open_pair();
		struct nr_tls_cursor cursor = { 0, 0 };
		size_t made =
			nr_tls_encrypt(pair.client, &from, 1, &cursor, cipher, sizeof(cipher));
		size_t used, waiting;

		assert_int_equal(made, 27);
		cipher[at] ^= 0x41;
		/* The length in the header may ask for more; that never comes. */
		assert_int_equal(nr_tls_decrypt(pair.server, cipher, made, &used,
						&(struct iovec){ plain, sizeof(plain) }, 1),
				 0);
		assert_int_equal(used, made);
		if (at != 3 && at != 4)
			assert_int_equal(nr_tls_state(pair.server), NR_TLS_FAILED);
		if (nr_tls_state(pair.server) == NR_TLS_FAILED) {
			assert_int_equal(strncmp(nr_tls_reason(pair.server), "TLS: ", 5), 0);
			nr_tls_output(pair.server, &waiting);
			assert_true(waiting > 0);
		}
		tls_pair_end(&pair);
	}
}

static void garbage_ends_the_handshake(void **state)
{
	static const char *const words[] = {
		"IHAVEOPT\0\0\0\3\0\0\0\0",  "GET / HTTP/1.0\r\n\r\n",
		"\x16\x03\x01\x00\x05zzzzz", "\x17\x03\x03\x00\x05zzzzz",
		"\x80\x80\x01\x03\x01zzzzz",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct tls_pair pair =
			tls_pair(server_for_all(), tls_x509(NR_TLS_CLIENT, "good"), NULL);
		uint8_t bytes[600] = { 0 };

		memcpy(bytes, words[i], i ? strlen(words[i]) : 16);
		assert_int_equal(nr_tls_handshake(pair.server, bytes, sizeof(bytes)),
				 NR_TLS_FAILED);
		assert_non_null(nr_tls_reason(pair.server));
		tls_pair_end(&pair);
	}
}

/* Keys may be changed, both ways, but not without end. */
static void key_updates_are_answered_and_limited(void **state)
{
	struct nr_tls_credentials *credentials = server_for_all();
	struct nr_tls_session *server = nr_tls_session_create(credentials, NULL);
	struct iovec from = { (char[]){ "hello" }, 5 };
	uint8_t cipher[40000], plain[16];
	static struct tls_raw raw;
	int updates = 0;

	tls_raw_begin(&raw, server, "NORMAL:-VERS-ALL:+VERS-TLS1.3");
	assert_int_equal(gnutls_handshake(raw.session), 0);
	assert_int_equal(nr_tls_state(server), NR_TLS_OPEN);
	for (unsigned i = 0; i < 3; i++) {
		struct nr_tls_cursor cursor = { 0, 0 };
		ssize_t got;

		assert_int_equal(gnutls_session_key_update(raw.session, GNUTLS_KU_PEER), 0);
		assert_int_equal(gnutls_record_send(raw.session, "after", 5), 5);
		assert_int_equal(raw.received_bytes, 5 * (i + 1));
		/* Sent by nr_tls_encrypt, taken in as if it were output. */
		size_t made = nr_tls_encrypt(server, &from, 1, &cursor, cipher, sizeof(cipher));

		assert_true(made > 0);
		raw.pending = cipher;
		raw.pending_bytes = made;
		do
			got = gnutls_record_recv(raw.session, plain, sizeof(plain));
		while (got == GNUTLS_E_AGAIN && raw.pending_bytes);
		assert_int_equal(got, 5);
	}
	raw.pending = NULL; /* `cipher` ends before it does */
	while (nr_tls_state(server) == NR_TLS_OPEN && updates++ < 10000)
		assert_int_equal(gnutls_session_key_update(raw.session, 0), 0);
	assert_int_equal(nr_tls_state(server), NR_TLS_FAILED);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
	nr_tls_credentials_release(credentials);
}

static void renegotiation_ends_the_session(void **state)
{
	struct nr_tls_credentials *credentials = server_for_all();
	struct nr_tls_session *server = nr_tls_session_create(credentials, NULL);
	static struct tls_raw raw;

	tls_raw_begin(&raw, server, "NORMAL:-VERS-ALL:+VERS-TLS1.2");
	assert_int_equal(gnutls_handshake(raw.session), 0);
	assert_int_equal(nr_tls_state(server), NR_TLS_OPEN);
	assert_true(gnutls_handshake(raw.session) < 0);
	assert_int_equal(nr_tls_state(server), NR_TLS_FAILED);
	assert_non_null(strstr(nr_tls_reason(server), "renegotiation"));
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
	nr_tls_credentials_release(credentials);
}

/* The end. */

static void a_goodbye_is_heard_behind_all_data(void **state)
{
	struct tls_pair pair = open_pair();
	struct iovec from = { (char[]){ "hello" }, 5 };
	struct nr_tls_cursor cursor = { 0, 0 };
	uint8_t cipher[40000], plain[16];
	size_t made = nr_tls_encrypt(pair.server, &from, 1, &cursor, cipher, sizeof(cipher));
	size_t used, length;
	const uint8_t *output;

	nr_tls_bye(pair.server);
	nr_tls_bye(pair.server);
	output = nr_tls_output(pair.server, &length);
	assert_true(length > 0 && length < 100);
	memcpy(cipher + made, output, length);
	assert_int_equal(nr_tls_decrypt(pair.client, cipher, made + length, &used,
					&(struct iovec){ plain, sizeof(plain) }, 1),
			 5);
	assert_int_equal(nr_tls_state(pair.client), NR_TLS_CLOSED);
	tls_pair_end(&pair);
}

/* Resumption. */

/* Does a client with this ticket go on with its session? */
static bool resumes(struct nr_tls_credentials *credentials, const gnutls_datum_t *ticket,
		    gnutls_datum_t *next)
{
	struct nr_tls_session *server = nr_tls_session_create(credentials, NULL);
	static struct tls_raw raw;
	bool resumed;

	tls_raw_begin(&raw, server, "NORMAL:-VERS-ALL:+VERS-TLS1.3");
	if (ticket)
		assert_int_equal(gnutls_session_set_data(raw.session, ticket->data, ticket->size),
				 0);
	assert_int_equal(gnutls_handshake(raw.session), 0);
	assert_int_equal(nr_tls_state(server), NR_TLS_OPEN);
	resumed = gnutls_session_is_resumed(raw.session);
	assert_int_equal(resumed, nr_tls_resumed(server));
	/* The ticket comes after the handshake. */
	assert_int_equal(gnutls_record_recv(raw.session, (uint8_t[16]){ 0 }, 16), GNUTLS_E_AGAIN);
	if (next)
		assert_int_equal(gnutls_session_get_data2(raw.session, next), 0);
	tls_raw_end(&raw);
	nr_tls_session_destroy(server);
	return resumed;
}

static void a_session_is_resumed_until_the_credentials_change(void **state)
{
	struct nr_tls_store *store = nr_tls_store_create(server_for_all());
	struct nr_tls_credentials *old = nr_tls_store_get(store), *new;
	gnutls_datum_t ticket;

	assert_false(resumes(old, NULL, &ticket));
	assert_true(resumes(old, &ticket, NULL));
	nr_tls_store_put(store, server_for_all());
	new = nr_tls_store_get(store);
	assert_ptr_not_equal(old, new);
	assert_false(resumes(new, &ticket, NULL));
	/* Who has them may go on with the old ones. */
	assert_true(resumes(old, &ticket, NULL));
	gnutls_free(ticket.data);
	nr_tls_credentials_release(old);
	nr_tls_credentials_release(new);
	nr_tls_store_destroy(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_certificate_tells_who_the_client_is),
		cmocka_unit_test(without_verification_nobody_is_asked),
		cmocka_unit_test(a_key_tells_who_the_client_is),
		cmocka_unit_test(keys_and_certificates_go_together),
		cmocka_unit_test(who_is_not_trusted_does_not_get_in),
		cmocka_unit_test(a_wrong_key_does_not_get_in),
		cmocka_unit_test(versions_before_1_2_are_refused),
		cmocka_unit_test(data_survives_any_cut),
		cmocka_unit_test(records_are_filled),
		cmocka_unit_test(data_behind_the_handshake_is_kept),
		cmocka_unit_test(ciphertext_can_be_kept_for_later),
		cmocka_unit_test(a_changed_byte_ends_the_session),
		cmocka_unit_test(garbage_ends_the_handshake),
		cmocka_unit_test(key_updates_are_answered_and_limited),
		cmocka_unit_test(renegotiation_ends_the_session),
		cmocka_unit_test(a_goodbye_is_heard_behind_all_data),
		cmocka_unit_test(a_session_is_resumed_until_the_credentials_change),
	};

	return cmocka_run_group_tests(tests, tls_make_folder, tls_remove_folder);
}
