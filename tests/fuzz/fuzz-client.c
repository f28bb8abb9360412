/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a server's bytes into our client.
 *
 * If byte 0 is 'n', the input is a URI: it is understood or refused in words.  Otherwise
 * byte 0 chooses what is wished for, byte 1 how the input is cut.  The rest is what the
 * server sends: negotiation, and when that has come to transmission, replies to
 * requests of every kind, whose cookies are small numbers.  Fed whole and in pieces,
 * both must come to the same end.  What is agreed is possible, and what is let through
 * as an answer lies in what was asked and adds up.
 */
#include <errno.h>

#include "nbdring/checked.h"
#include "src/client/remote.h"
#include "src/protocol/client-reply.h"
#include "src/protocol/text.h"
#include "tests/fuzz/fuzz.h"

#define CHOICE_BYTES 2
#define REQUESTS 16u
#define READ_BYTES 1000u

static const char *const contexts[] = { NBD_BASE_ALLOCATION, "x-a:b" };

struct outcome {
	enum nr_client_state state;
	size_t used;
	size_t said; /* bytes */
	unsigned listed;
	int error;
	struct nr_client_agreement agreement;
};

static void listed(void *context, const char *name, const char *description)
{
	struct outcome *o = context;

	assert(nbd_text_ok((const uint8_t *)name, strlen(name)));
	assert(nbd_text_ok((const uint8_t *)description, strlen(description)));
	o->listed++;
}

/* What was said leaves at once, so that answers come after their questions. */
static void send_output(struct nr_client_handshake *h, struct outcome *o)
{
	size_t length;
	const uint8_t *output = nr_client_handshake_output(h, &length);

	for (size_t i = 0; i < length; i++)
		o->said += 1 + output[i] % 2;
	nr_client_handshake_sent(h, length);
}

static void check_agreement(const struct nr_client_agreement *a)
{
	assert(a->info.size <= NR_SIZE_MAX);
	assert(nr_is_power_of_2(a->info.block_min));
	assert(a->info.block_min <= 65536);
	assert(nr_is_power_of_2(a->info.block_preferred));
	assert(a->info.block_preferred >= a->info.block_min);
	assert(a->info.block_max >= a->info.block_min);
	assert(a->reply_style != NR_REPLY_SIMPLE || a->contexts == 0);
	assert(!(a->info.flags & NBD_FLAG_SEND_FAST_ZERO) ||
	       (a->info.flags & NBD_FLAG_SEND_WRITE_ZEROES));
}

static struct outcome negotiate(uint8_t choice, size_t cut, const uint8_t *data, size_t size)
{
	struct outcome o = { .state = NR_CLIENT_MORE };
	const struct nr_client_wish wish = {
		.export_name = choice & 1 ? "name" : "",
		.tls = (uint8_t)((choice >> 1 & 3) % 3),
		.best_style = (uint8_t)((choice >> 3 & 3) % 3),
		.contexts = contexts,
		.context_count = choice >> 5 & 2,
		.listed = choice & 0x80 ? listed : NULL,
		.listed_context = &o,
	};
	struct nr_client_handshake *h = nr_client_handshake_create(&wish);

	assert(h);
	while (o.used < size && (o.state == NR_CLIENT_MORE || o.state == NR_CLIENT_TLS)) {
		size_t part = cut && cut < size - o.used ? cut : size - o.used, used;
		uint8_t *copy = fuzz_copy(data + o.used, part);

		o.state = nr_client_handshake_feed(h, copy, part, &used);
		assert(used <= part);
		o.used += used;
		free(copy);
		if (cut == 1)
			send_output(h, &o);
		if (o.state == NR_CLIENT_TLS)
			o.state = nr_client_handshake_secured(h);
	}
	send_output(h, &o);
	o.error = nr_client_handshake_error(h);
	if (o.state == NR_CLIENT_READY) {
		o.agreement = *nr_client_handshake_agreement(h);
		check_agreement(&o.agreement);
	}
	if (o.state == NR_CLIENT_FAILED) {
		struct nr_error error;

		nr_error_set(&error, o.error, "%s", nr_client_handshake_reason(h));
		fuzz_check_error(&error);
	}
	nr_client_handshake_destroy(h);
	return o;
}

/* ---- replies ----------------------------------------------------------- */

static void make_requests(struct nr_client_request *request)
{
	for (unsigned i = 0; i < REQUESTS; i++)
		request[i] = (struct nr_client_request){
			.command = (uint16_t)(i % NBD_CMD_COUNT),
			.flags = i == NBD_CMD_BLOCK_STATUS + NBD_CMD_COUNT ? NBD_CMD_FLAG_REQ_ONE
									   : 0,
			.offset = UINT64_C(1) << (i * 4 % 62),
			.length = READ_BYTES,
			.chosen = i >= NBD_CMD_COUNT,
		};
}

static void check_chunk(const struct nr_client_request *request,
			const struct nr_client_chunk *chunk)
{
	if (chunk->kind == NR_CHUNK_DATA || chunk->kind == NR_CHUNK_HOLE) {
		assert(request->command == NBD_CMD_READ);
		assert(chunk->offset >= request->offset);
		assert(chunk->length <= READ_BYTES);
		assert(chunk->offset - request->offset <= READ_BYTES - chunk->length);
		assert(request->answered <= request->length);
	}
	if (chunk->kind == NR_CHUNK_DATA)
		assert(chunk->payload == chunk->length);
	if (chunk->kind == NR_CHUNK_STATUS) {
		assert(!(request->chosen && chunk->aside));
		assert(chunk->extents > 0);
		assert(chunk->payload == 8 * (uint64_t)chunk->extents ||
		       chunk->payload == 16 * (uint64_t)chunk->extents);
	}
	if (chunk->done && !request->error && request->command == NBD_CMD_READ)
		assert(request->answered == request->length);
}

/* Bytes of input until the end, a breach, or an answer to nothing. */
static size_t answer(const struct nr_client_agreement *agreement, size_t cut, const uint8_t *data,
		     size_t size)
{
	struct nr_client_request requests[REQUESTS];
	bool open[REQUESTS];
	size_t at = 0, have = cut ? 0 : size;

	make_requests(requests);
	memset(open, true, sizeof(open));
	for (;;) {
		struct nr_client_chunk chunk;
		const char *why = NULL;
		uint8_t *copy = fuzz_copy(data + at, have - at);
		size_t used = 0;
		uint64_t index;
		enum nr_client_parsed parsed = nr_client_parse(agreement->reply_style, copy,
							       have - at, &chunk, &used, &why);

		free(copy);
		if (parsed == NR_CLIENT_PARSE_BREACH)
			return at;
		if (parsed == NR_CLIENT_PARSE_MORE) {
			if (have == size)
				return at;
			have += nr_min(cut, size - have);
			continue;
		}
		assert(used <= have - at);
		index = be64toh(chunk.cookie);
		if (index >= REQUESTS || !open[index] ||
		    nr_client_judge(agreement, &requests[index], &chunk))
			return at;
		check_chunk(&requests[index], &chunk);
		if (chunk.done)
			open[index] = false;
		at += used;
		if (chunk.payload > size - at)
			return at;
		at += chunk.payload;
		have = have < at ? at : have;
	}
}

static void understand_uri(const uint8_t *data, size_t size)
{
	char *uri = fuzz_string(data, size);
	struct nr_error error = { .code = 0 };
	struct nr_remote remote;
	int err;

	nr_remote_init(&remote);
	err = nr_remote_set_uri(&remote, uri, &error);
	if (!err)
		err = nr_remote_complete(&remote, &error);
	if (!err) {
		assert(remote.shown);
		assert(nbd_text_ok((const uint8_t *)remote.export_name,
				   strlen(remote.export_name)));
		assert(remote.kind != NR_REMOTE_UNIX || remote.path[0]);
		assert(remote.kind != NR_REMOTE_TCP || (remote.host && remote.port));
	} else {
		assert(error.code == err);
		fuzz_check_error(&error);
	}
	nr_remote_clear(&remote);
	free(uri);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, parts;
	size_t cut;

	if (size < CHOICE_BYTES)
		return 0;
	if (data[0] == 'n') {
		understand_uri(data, size);
		return 0;
	}
	cut = 1 + data[1] % 40;
	whole = negotiate(data[0], 0, data + CHOICE_BYTES, size - CHOICE_BYTES);
	parts = negotiate(data[0], cut, data + CHOICE_BYTES, size - CHOICE_BYTES);
	assert(whole.state == parts.state);
	assert(whole.used == parts.used);
	assert(whole.error == parts.error);
	assert(whole.listed == parts.listed);
	assert(whole.said == parts.said);
	if (whole.state == NR_CLIENT_READY) {
		const uint8_t *rest = data + CHOICE_BYTES + whole.used;
		size_t left = size - CHOICE_BYTES - whole.used;

		/* Both began as zeroes: NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
		assert(memcmp(&whole.agreement, &parts.agreement, sizeof(whole.agreement)) == 0);
		assert(answer(&whole.agreement, 0, rest, left) ==
		       answer(&whole.agreement, cut, rest, left));
	}
	return 0;
}
