/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a peer's bytes into a TLS session.
 *
 * Byte 0 chooses what they meet, byte 1 how they are cut; the rest is what is sent:
 *   bit 0 clear  to a server in front of its handshake, as behind STARTTLS
 *   bit 0 set    to a server in an open session; with bit 1, as changes to what the
 *                client has sent: two bytes of position, one to be XORed
 *   bit 2 set    to a server in an open session as what records of TLS 1.3 have inside,
 *                properly encrypted: two bytes of length, data, type, padding
 * Whatever comes, the session stays open or ends with a reason; what it makes is bounded,
 * and nothing comes out that the client has not put in.  Whether the library or we open the
 * records inside makes no difference.
 *
 * A session holds random numbers, so two runs of an input take the same way only as far as
 * these do not decide.
 */
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <unistd.h>

#include "nbdring/checked.h"
#include "src/tls/session.h"
#include "tests/fuzz/fuzz.h"

#define CHOICE_BYTES 2
#define SAID 3000u

static struct nr_tls_credentials *load(enum nr_tls_side side, const char *file,
				       bool library_records)
{
	const struct nr_tls_config config = {
		.side = side,
		.psk_file = file,
		.psk_name = "alice",
		.library_records = library_records,
		.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-GROUP-ALL:+GROUP-X25519",
	};
	struct nr_tls_credentials *credentials;
	struct nr_error error = { 0 };
	int err = nr_tls_credentials_load(&credentials, &config, &error);

	assert(!err);
	return credentials;
}

static struct nr_tls_credentials *server_side, *library_side, *client_side;

static void load_both(void)
{
	char path[] = "/tmp/nbdring-fuzz.XXXXXX";
	int fd = mkstemp(path);

	assert(fd >= 0);
	dprintf(fd, "alice:00112233445566778899aabbccddeeff\n");
	close(fd);
	server_side = load(NR_TLS_SERVER, path, false);
	library_side = load(NR_TLS_SERVER, path, true);
	client_side = load(NR_TLS_CLIENT, path, false);
	unlink(path);
}

static void check(const struct nr_tls_session *s)
{
	size_t length;

	nr_tls_output(s, &length);
	assert(length <= NR_TLS_OUTPUT_MAX);
	if (nr_tls_state(s) == NR_TLS_FAILED)
		assert(nr_tls_reason(s)[0]);
}

/*
 * DATA in pieces; what comes out has to be the beginning of SAID_BYTES at SAID.  Returns how
 * much that is.
 */
static size_t feed(struct nr_tls_session *s, const uint8_t *data, size_t size, size_t piece,
		   const uint8_t *said, size_t said_bytes)
{
	size_t heard = 0;

	for (size_t at = 0; at < size;) {
		size_t n = nr_min(piece, size - at), used = n;
		uint8_t *copy = fuzz_copy(data + at, n), plain[512];
		struct iovec into = { plain, sizeof(plain) };

		if (nr_tls_state(s) == NR_TLS_HANDSHAKING) {
			nr_tls_handshake(s, copy, n);
		} else if (nr_tls_state(s) == NR_TLS_OPEN) {
			size_t got = nr_tls_decrypt(s, copy, n, &used, &into, 1);

			assert(used <= n);
			assert(got <= said_bytes - heard);
			assert(memcmp(plain, said + heard, got) == 0);
			assert(used == n || got == sizeof(plain));
			heard += got;
		}
		check(s);
		free(copy);
		at += used;
	}
	while (nr_tls_pending(s)) {
		uint8_t plain[512];
		struct iovec into = { plain, sizeof(plain) };
		size_t used, got = nr_tls_decrypt(s, NULL, 0, &used, &into, 1);

		assert(got <= said_bytes - heard);
		assert(memcmp(plain, said + heard, got) == 0);
		heard += got;
		check(s);
	}
	return heard;
}

static void carry(struct nr_tls_session *from, struct nr_tls_session *to)
{
	size_t length;
	const uint8_t *output = nr_tls_output(from, &length);

	if (length && nr_tls_state(to) == NR_TLS_HANDSHAKING)
		nr_tls_handshake(to, output, length);
	nr_tls_sent(from, length);
}

/* An open session: the client has put SAID bytes into CIPHER. */
static size_t open_session(struct nr_tls_session *s, const uint8_t *said, uint8_t *cipher,
			   size_t room)
{
	struct nr_tls_session *client = nr_tls_session_create(client_side, NULL);
	struct iovec from = { (void *)(uintptr_t)said, SAID };
	struct nr_tls_cursor cursor = { 0, 0 };
	size_t made;

	assert(client);
	for (unsigned i = 0; i < 4; i++) {
		carry(client, s);
		carry(s, client);
	}
	assert(nr_tls_state(s) == NR_TLS_OPEN);
	assert(nr_tls_state(client) == NR_TLS_OPEN);
	made = nr_tls_encrypt(client, &from, 1, &cursor, cipher, room);
	nr_tls_session_destroy(client);
	return made;
}

static void change(uint8_t *cipher, size_t length, const uint8_t *data, size_t size)
{
	for (; size >= 3; size -= 3, data += 3)
		cipher[(size_t)(data[0] << 8 | data[1]) % length] ^= data[2];
}

/* A client of the library's, whose keys can be had. */

static ssize_t push(gnutls_transport_ptr_t server, const void *data, size_t size)
{
	if (nr_tls_state(server) == NR_TLS_HANDSHAKING)
		nr_tls_handshake(server, data, size);
	return (ssize_t)size;
}

static ssize_t pull(gnutls_transport_ptr_t server, void *into, size_t size)
{
	size_t length;
	const uint8_t *output = nr_tls_output(server, &length);

	assert(length > 0);
	length = nr_min(length, size);
	memcpy(into, output, length);
	nr_tls_sent(server, length);
	return (ssize_t)length;
}

struct keys {
	gnutls_aead_cipher_hd_t cipher;
	uint8_t iv[12];
	uint64_t sequence;
};

static void open_with_keys(struct nr_tls_session *s, struct keys *keys)
{
	gnutls_psk_client_credentials_t psk;
	gnutls_session_t client;
	gnutls_datum_t mac, iv, key;
	const gnutls_datum_t secret = { (void *)"00112233445566778899aabbccddeeff", 32 };
	int code = gnutls_init(&client, GNUTLS_CLIENT);

	assert(code == 0);
	code = gnutls_psk_allocate_client_credentials(&psk);
	assert(code == 0);
	gnutls_psk_set_client_credentials(psk, "alice", &secret, GNUTLS_PSK_KEY_HEX);
	gnutls_credentials_set(client, GNUTLS_CRD_PSK, psk);
	gnutls_priority_set_direct(
		client, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519:+ECDHE-PSK", NULL);
	gnutls_transport_set_ptr(client, s);
	gnutls_transport_set_push_function(client, push);
	gnutls_transport_set_pull_function(client, pull);
	code = gnutls_handshake(client);
	assert(code == 0);
	assert(nr_tls_state(s) == NR_TLS_OPEN);
	code = gnutls_record_get_state(client, 0, &mac, &iv, &key, NULL);
	assert(code == 0);
	assert(iv.size == sizeof(keys->iv));
	memcpy(keys->iv, iv.data, iv.size);
	keys->sequence = 0;
	code = gnutls_aead_cipher_init(&keys->cipher, gnutls_cipher_get(client), &key);
	assert(code == 0);
	gnutls_deinit(client);
	gnutls_psk_free_client_credentials(psk);
}

static size_t seal(struct keys *keys, const uint8_t *inside, size_t length, uint8_t *record)
{
	uint8_t nonce[12];
	size_t body = length + 16;
	int code;

	memcpy(nonce, keys->iv, sizeof(nonce));
	for (unsigned i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(keys->sequence >> (56 - 8 * i));
	keys->sequence++;
	memcpy(record, (const uint8_t[]){ 23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body }, 5);
	code = gnutls_aead_cipher_encrypt(keys->cipher, nonce, sizeof(nonce), record, 5, 16, inside,
					  length, record + 5, &body);
	assert(code == 0);
	return 5 + body;
}

/*
 * What DATA says is inside of records, as such, to a server of SIDE.  Returns its state,
 * and in *HEARD the bytes that came out.
 */
static enum nr_tls_state feed_inside(struct nr_tls_credentials *side, const uint8_t *data,
				     size_t size, size_t piece, size_t *heard)
{
	struct nr_tls_session *s = nr_tls_session_create(side, NULL);
	uint8_t *cipher = malloc(size * 16 + 1), *said = malloc(size + 1);
	size_t made = 0, said_bytes = 0;
	enum nr_tls_state state;
	struct keys keys;

	assert(s);
	assert(cipher);
	assert(said);
	open_with_keys(s, &keys);
	while (size >= 3) {
		size_t length = nr_min((size_t)(data[0] << 8 | data[1]) % 20000, size - 2), end;

		data += 2;
		for (end = length; end && !data[end - 1]; end--)
			;
		if (end && data[end - 1] == 23) {
			memcpy(said + said_bytes, data, end - 1);
			said_bytes += end - 1;
		}
		made += seal(&keys, data, length, cipher + made);
		data += length;
		size -= 2 + length;
	}
	*heard = feed(s, cipher, made, piece, said, said_bytes);
	state = nr_tls_state(s);
	nr_tls_bye(s);
	check(s);
	gnutls_aead_cipher_deinit(keys.cipher);
	nr_tls_session_destroy(s);
	free(cipher);
	free(said);
	return state;
}

static void compare_inside(const uint8_t *data, size_t size, size_t piece)
{
	size_t heard_by_us, heard_by_library;
	enum nr_tls_state ours = feed_inside(server_side, data, size, piece, &heard_by_us);
	enum nr_tls_state librarys =
		feed_inside(library_side, data, size, piece, &heard_by_library);

	assert(ours == librarys);
	assert(heard_by_us == heard_by_library);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t said[SAID], cipher[NR_TLS_RECORD_MAX + NR_TLS_OVERHEAD_MAX + SAID];
	struct nr_tls_session *s;
	size_t piece;

	if (size <= CHOICE_BYTES)
		return 0;
	if (!server_side)
		load_both();
	piece = 1 + data[1] * 7;
	if (data[0] & 4) {
		compare_inside(data + CHOICE_BYTES, size - CHOICE_BYTES, piece);
		return 0;
	}
	s = nr_tls_session_create(server_side, NULL);
	assert(s);
	if (data[0] & 1) {
		size_t made = open_session(s, said, cipher, sizeof(cipher));

		if (data[0] & 2)
			change(cipher, made, data + CHOICE_BYTES, size - CHOICE_BYTES);
		else
			made = 0;
		feed(s, cipher, made, piece, said, SAID);
		if (!made)
			feed(s, data + CHOICE_BYTES, size - CHOICE_BYTES, piece, said, 0);
	} else {
		feed(s, data + CHOICE_BYTES, size - CHOICE_BYTES, piece, said, 0);
		assert(nr_tls_state(s) != NR_TLS_OPEN);
	}
	nr_tls_bye(s);
	check(s);
	nr_tls_session_destroy(s);
	return 0;
}
