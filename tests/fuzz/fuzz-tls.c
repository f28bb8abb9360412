/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a peer's bytes into a TLS session.
 *
 * Byte 0 chooses what they meet, byte 1 how they are cut; the rest is what is sent:
 *   bit 0 clear  to a server in front of its handshake, as behind STARTTLS
 *   bit 0 set    to a server in an open session; with bit 1, as changes to what the
 *                client has sent: two bytes of position, one to be XORed
 * Whatever comes, the session stays open or ends with a reason; what it makes is bounded,
 * and nothing comes out that the client has not put in.
 *
 * A session holds random numbers, so two runs of an input take the same way only as far as
 * these do not decide.
 */
#include <stdio.h>
#include <unistd.h>

#include "nbdring/checked.h"
#include "src/tls/session.h"
#include "tests/fuzz/fuzz.h"

#define CHOICE_BYTES 2
#define SAID 3000u

static struct nr_tls_credentials *load(enum nr_tls_side side, const char *file)
{
	const struct nr_tls_config config = {
		.side = side,
		.psk_file = file,
		.psk_name = "alice",
		.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-GROUP-ALL:+GROUP-X25519",
	};
	struct nr_tls_credentials *credentials;
	struct nr_error error = { 0 };
	int err = nr_tls_credentials_load(&credentials, &config, &error);

	assert(!err);
	return credentials;
}

static struct nr_tls_credentials *server_side, *client_side;

static void load_both(void)
{
	char path[] = "/tmp/nbdring-fuzz.XXXXXX";
	int fd = mkstemp(path);

	assert(fd >= 0);
	dprintf(fd, "alice:00112233445566778899aabbccddeeff\n");
	close(fd);
	server_side = load(NR_TLS_SERVER, path);
	client_side = load(NR_TLS_CLIENT, path);
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

/* DATA in pieces; what comes out has to be the beginning of SAID_BYTES at SAID. */
static void feed(struct nr_tls_session *s, const uint8_t *data, size_t size, size_t piece,
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
