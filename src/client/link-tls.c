/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A link over TLS (link-internal.h): between the ring and the window, and between the
 * gathering and the ring, everything passes through the session.
 *
 * Ciphertext is received into a block of its own and decrypted into the window.  A
 * gathering is encrypted a block at a time, each of which is one send; its requests
 * count as being sent until the last of it is.
 */
#include <assert.h>

#include "src/client/link-internal.h"

#define CIPHER_BYTES (256u * 1024)

static bool get(struct nr_link *link, struct nr_link_cipher *cipher)
{
	if (!cipher->buffer)
		cipher->buffer = nr_buffer_get(link->worker, CIPHER_BYTES, &cipher->data);
	return cipher->buffer != NULL;
}

static void put(struct nr_link_cipher *cipher)
{
	if (cipher->buffer)
		cipher->buffer->release(cipher->buffer);
	cipher->buffer = NULL;
}

void nr_link_tls_release(struct nr_link *link)
{
	put(&link->cipher_in);
	put(&link->cipher_out);
}

/* ---- sending ----------------------------------------------------------- */

bool nr_link_tls_prepare(struct nr_link *link)
{
	link->sealed = (struct nr_tls_cursor){ 0 };
	return get(link, &link->cipher_out);
}

bool nr_link_tls_send(struct nr_link *link)
{
	size_t bytes;
	uint8_t *data = link->cipher_out.data;

	assert(link->cipher_out.buffer);
	if (link->sealed.entry >= link->vectors)
		return false;
	bytes = nr_tls_encrypt(link->tls, link->vector, link->vectors, &link->sealed, data,
			       CIPHER_BYTES);
	if (!bytes) {
		nr_link_break(link, "TLS cannot encrypt any more");
		return false;
	}
	link->cipher_vector = (struct iovec){ data, bytes };
	nr_ring_send_vec(nr_link_ring(link), &link->send, link->fd, &link->cipher_vector, 1);
	return true;
}

/* ---- receiving --------------------------------------------------------- */

/* Decrypt LENGTH bytes of DATA into the window, and what comes of it. */
static void take(struct nr_link *link, const uint8_t *data, size_t length)
{
	size_t at = 0;

	while (link->state == NR_LINK_UP && (at < length || nr_tls_pending(link->tls))) {
		struct nr_link_window *w = &link->window;
		struct iovec into;
		size_t used = 0, bytes;

		if (!link->owed || !nr_link_make_room(link))
			break;
		into = (struct iovec){ w->data + w->tail, w->size - w->tail };
		bytes = nr_tls_decrypt(link->tls, at < length ? data + at : NULL, length - at,
				       &used, &into, 1);
		at += used;
		w->tail += (uint32_t)bytes;
		nr_link_parse(link);
		if (nr_tls_state(link->tls) == NR_TLS_FAILED)
			nr_link_break(link, nr_tls_reason(link->tls));
		else if (nr_tls_state(link->tls) != NR_TLS_OPEN)
			nr_link_break(link, "it hung up");
		else if (bytes == 0 && used == 0)
			break; /* less than a record */
	}
	if (link->state == NR_LINK_UP && at < length &&
	    !nr_tls_stash(link->tls, data + at, length - at))
		nr_link_break(link, "there is no memory for what it sends");
}

static void received(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_link *link =
		(struct nr_link *)((char *)completion - offsetof(struct nr_link, receive));

	if (link->state == NR_LINK_UP && completion->result > 0) {
		take(link, link->cipher_in.data, (size_t)completion->result);
		nr_link_receive_done(link);
	} else if (completion->result <= 0) {
		nr_link_break(link, completion->result ? "receiving fails" : "it hung up");
	}
	nr_link_settle(link);
}

bool nr_link_tls_take_rest(struct nr_link *link)
{
	uint32_t owed = link->owed, tail = link->window.tail, head = link->window.head;

	if (!nr_tls_pending(link->tls))
		return false;
	take(link, NULL, 0);
	return link->owed != owed || link->window.tail != tail || link->window.head != head;
}

bool nr_link_tls_receive(struct nr_link *link)
{
	if (!get(link, &link->cipher_in))
		return false;
	link->receive.done = received;
	nr_ring_recv(nr_link_ring(link), &link->receive, link->fd, link->cipher_in.data,
		     CIPHER_BYTES);
	return true;
}
