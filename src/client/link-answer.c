/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Putting together the answer of a read (link-internal.h).
 *
 * Pieces that come in order of offset, which is how most servers send them, become
 * segments as they are.  With the first one out of order everything moves to memory of
 * the request's length, and a bit for each byte says what has come, so that a remote
 * that sends some bytes twice and others never is found out, and memory that it did
 * not fill is never shown.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/client/link-internal.h"

/* Are some of bits [FROM, FROM + COUNT) set?  Then they all are. */
static bool mark(uint8_t *bits, uint64_t from, uint64_t count)
{
	uint64_t end = from + count;
	bool set = false;

	while (from < end && from % 8) {
		set |= bits[from / 8] >> from % 8 & 1;
		bits[from / 8] |= (uint8_t)(1u << from % 8);
		from++;
	}
	for (; end - from >= 8; from += 8) {
		set |= bits[from / 8] != 0;
		bits[from / 8] = 0xff;
	}
	while (from < end) {
		set |= bits[from / 8] >> from % 8 & 1;
		bits[from / 8] |= (uint8_t)(1u << from % 8);
		from++;
	}
	return set;
}

static bool begin_whole(struct nr_link_op *op)
{
	struct nr_request *req = op->req;
	uint64_t bytes = req->length / 8 + 1;

	op->whole = nr_buffer_get(req->worker, req->length, &op->whole_data);
	if (!op->whole)
		return false;
	op->marks = nr_buffer_get(req->worker, bytes, &op->marks_data);
	if (!op->marks)
		return false;
	memset(op->marks_data, 0, bytes);
	if (op->placed) {
		nr_request_copy_out(req, 0, op->placed, op->whole_data);
		(void)mark(op->marks_data, 0, op->placed);
	}
	nr_answer_clear(req);
	return true;
}

static int answer_whole(struct nr_link_op *op, uint64_t from, uint64_t length, const uint8_t *data)
{
	if (mark(op->marks_data, from, length))
		return -EPROTO;
	if (data)
		memcpy(op->whole_data + from, data, length);
	else
		memset(op->whole_data + from, 0, length);
	return 0;
}

int nr_link_answer(struct nr_link_op *op, uint64_t offset, uint64_t length, uint8_t *data,
		   struct nr_buffer *buffer)
{
	struct nr_request *req = op->req;
	uint64_t from = offset - req->offset;

	assert(offset >= req->offset);
	assert(nr_in_range(from, length, req->length));
	if (!op->whole && from == op->placed) {
		op->placed += length;
		if (!data)
			return nr_answer_hole(req, length) ? 0 : -ENOMEM;
		nr_buffer_retain(buffer);
		return nr_answer_data(req, data, length, buffer) ? 0 : -ENOMEM;
	}
	if (!op->whole && from < op->placed)
		return -EPROTO;
	if (!op->whole && !begin_whole(op))
		return -ENOMEM;
	return answer_whole(op, from, length, data);
}

int nr_link_answer_complete(struct nr_link_op *op)
{
	struct nr_buffer *whole = op->whole;

	if (!whole)
		return 0;
	op->whole = NULL;
	return nr_answer_data(op->req, op->whole_data, op->req->length, whole) ? 0 : -ENOMEM;
}

void nr_link_answer_clear(struct nr_link_op *op)
{
	if (op->whole)
		op->whole->release(op->whole);
	if (op->marks)
		op->marks->release(op->marks);
	op->whole = op->marks = NULL;
	op->placed = 0;
}
