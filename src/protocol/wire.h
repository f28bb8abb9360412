/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The numbers of the NBD protocol and its byte order.
 *
 * Names are the protocol document's; sections are given by title.  Everything
 * on the wire is big-endian.
 */
#ifndef SRC_PROTOCOL_WIRE_H
#define SRC_PROTOCOL_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* "Newstyle negotiation", "Oldstyle negotiation" */
#define NBD_MAGIC UINT64_C(0x4e42444d41474943)    /* "NBDMAGIC" */
#define NBD_IHAVEOPT UINT64_C(0x49484156454F5054) /* "IHAVEOPT" */
#define NBD_OLDSTYLE_MAGIC UINT64_C(0x00420281861253)
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)

/* "Handshake flags", "Client flags" */
#define NBD_FLAG_FIXED_NEWSTYLE (1u << 0)
#define NBD_FLAG_NO_ZEROES (1u << 1)

/* "Transmission flags" */
#define NBD_FLAG_HAS_FLAGS (1u << 0)
#define NBD_FLAG_READ_ONLY (1u << 1)
#define NBD_FLAG_SEND_FLUSH (1u << 2)
#define NBD_FLAG_SEND_FUA (1u << 3)
#define NBD_FLAG_ROTATIONAL (1u << 4)
#define NBD_FLAG_SEND_TRIM (1u << 5)
#define NBD_FLAG_SEND_WRITE_ZEROES (1u << 6)
#define NBD_FLAG_SEND_DF (1u << 7)
#define NBD_FLAG_CAN_MULTI_CONN (1u << 8)
#define NBD_FLAG_SEND_RESIZE (1u << 9) /* extension-resize */
#define NBD_FLAG_SEND_CACHE (1u << 10)
#define NBD_FLAG_SEND_FAST_ZERO (1u << 11)
#define NBD_FLAG_BLOCK_STATUS_PAYLOAD (1u << 12) /* extension-ext-header */

/* "Option types" */
enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_PEEK_EXPORT = 4, /* withdrawn */
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11, /* extension-ext-header */
};

/* "Option reply types" */
#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_BIT UINT32_C(0x80000000) /* all errors have it */
#define NBD_REP_ERR_UNSUP (UINT32_C(0x80000000) + 1)
#define NBD_REP_ERR_POLICY (UINT32_C(0x80000000) + 2)
#define NBD_REP_ERR_INVALID (UINT32_C(0x80000000) + 3)
#define NBD_REP_ERR_PLATFORM (UINT32_C(0x80000000) + 4)
#define NBD_REP_ERR_TLS_REQD (UINT32_C(0x80000000) + 5)
#define NBD_REP_ERR_UNKNOWN (UINT32_C(0x80000000) + 6)
#define NBD_REP_ERR_SHUTDOWN (UINT32_C(0x80000000) + 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (UINT32_C(0x80000000) + 8)
#define NBD_REP_ERR_TOO_BIG (UINT32_C(0x80000000) + 9)
#define NBD_REP_ERR_EXT_HEADER_REQD (UINT32_C(0x80000000) + 10)

/* NBD_REP_INFO */
#define NBD_INFO_EXPORT 0u
#define NBD_INFO_NAME 1u
#define NBD_INFO_DESCRIPTION 2u
#define NBD_INFO_BLOCK_SIZE 3u

/* "Transmission phase" */
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_EXTENDED_REPLY_MAGIC UINT32_C(0x6e8a278c)

#define NBD_REQUEST_BYTES 28u
#define NBD_EXTENDED_REQUEST_BYTES 32u
#define NBD_SIMPLE_REPLY_BYTES 16u
#define NBD_STRUCTURED_REPLY_BYTES 20u
#define NBD_EXTENDED_REPLY_BYTES 32u

/* "Request types" */
enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
	NBD_CMD_RESIZE = 8, /* extension-resize */
	NBD_CMD_COUNT
};

/* "Command flags" */
#define NBD_CMD_FLAG_FUA (1u << 0)
#define NBD_CMD_FLAG_NO_HOLE (1u << 1)
#define NBD_CMD_FLAG_DF (1u << 2)
#define NBD_CMD_FLAG_REQ_ONE (1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO (1u << 4)
#define NBD_CMD_FLAG_PAYLOAD_LEN (1u << 5) /* extension-ext-header */

/* "Structured reply flags", "Structured reply types" */
#define NBD_REPLY_FLAG_DONE (1u << 0)
#define NBD_REPLY_TYPE_NONE 0u
#define NBD_REPLY_TYPE_OFFSET_DATA 1u
#define NBD_REPLY_TYPE_OFFSET_HOLE 2u
#define NBD_REPLY_TYPE_BLOCK_STATUS 5u
#define NBD_REPLY_TYPE_BLOCK_STATUS_EXT 6u /* extension-ext-header */
#define NBD_REPLY_TYPE_ERROR (UINT32_C(0x8000) + 1)
#define NBD_REPLY_TYPE_ERROR_OFFSET (UINT32_C(0x8000) + 2)

/* "Error values": nothing else may appear on the wire. */
#define NBD_SUCCESS 0u
#define NBD_EPERM 1u
#define NBD_EIO 5u
#define NBD_ENOMEM 12u
#define NBD_EINVAL 22u
#define NBD_ENOSPC 28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP 95u
#define NBD_ESHUTDOWN 108u

/* "String values" */
#define NBD_STRING_MAX 4096u

#define NBD_BASE_ALLOCATION "base:allocation"
#define NBD_EXTENTS_MAX (1u << 20) /* "Structured reply types": extents in one chunk */

static inline uint16_t nbd_get16(const uint8_t *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline uint32_t nbd_get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t nbd_get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline uint8_t *nbd_put16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static inline uint8_t *nbd_put32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static inline uint8_t *nbd_put64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

/* For logs and errors: "WRITE_ZEROES", …, "unknown command"; static strings. */
const char *nbd_command_name(uint16_t command);
const char *nbd_option_name(uint32_t option);

#endif
