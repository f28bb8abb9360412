/*
 * The few numbers of the NBD protocol that a load generator and a bare answerer
 * need, and big-endian access to unaligned bytes. The tools in bench/ know only the
 * public face of a server, so this does not share the server's own headers.
 */
#ifndef BENCH_COMMON_WIRE_H
#define BENCH_COMMON_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define WIRE_GREETING 0x4e42444d41474943ULL
#define WIRE_IHAVEOPT 0x49484156454f5054ULL
#define WIRE_OPTION_REPLY 0x0003e889045565a9ULL
#define WIRE_REQUEST 0x25609513U
#define WIRE_EXTENDED_REQUEST 0x21e41c71U
#define WIRE_SIMPLE_REPLY 0x67446698U
#define WIRE_STRUCTURED_REPLY 0x668e33efU
#define WIRE_EXTENDED_REPLY 0x6e8a278cU

/* Handshake flags, the same two bits from server and client. */
#define WIRE_FIXED_NEWSTYLE 1U
#define WIRE_NO_ZEROES 2U

enum {
	WIRE_OPT_EXPORT_NAME = 1,
	WIRE_OPT_ABORT = 2,
	WIRE_OPT_STARTTLS = 5,
	WIRE_OPT_GO = 7,
	WIRE_OPT_STRUCTURED_REPLY = 8,
	WIRE_OPT_EXTENDED_HEADERS = 11,
};

#define WIRE_REP_ACK 1U
#define WIRE_REP_INFO 3U
#define WIRE_REP_ERROR 0x80000000U
#define WIRE_REP_UNSUP 0x80000001U

enum { WIRE_INFO_EXPORT = 0, WIRE_INFO_BLOCK_SIZE = 3 };

/* Transmission flags of an export. */
#define WIRE_HAS_FLAGS 0x0001U
#define WIRE_READ_ONLY 0x0002U
#define WIRE_SEND_FLUSH 0x0004U
#define WIRE_SEND_FUA 0x0008U
#define WIRE_CAN_MULTI_CONN 0x0100U

enum { WIRE_CMD_READ = 0, WIRE_CMD_WRITE = 1, WIRE_CMD_DISC = 2, WIRE_CMD_FLUSH = 3 };

#define WIRE_CMD_FLAG_FUA 0x01U
#define WIRE_CMD_FLAG_PAYLOAD_LEN 0x20U

#define WIRE_CHUNK_DONE 1U
#define WIRE_CHUNK_NONE 0U
#define WIRE_CHUNK_DATA 1U
#define WIRE_CHUNK_HOLE 2U
#define WIRE_CHUNK_ERROR_BIT 0x8000U

enum {
	WIRE_REQUEST_SIZE = 28,
	WIRE_EXTENDED_REQUEST_SIZE = 32,
	WIRE_SIMPLE_REPLY_SIZE = 16,
	WIRE_STRUCTURED_REPLY_SIZE = 20,
	WIRE_EXTENDED_REPLY_SIZE = 32,
	WIRE_DEFAULT_PORT = 10809,
	WIRE_NAME_MAX = 4096,
};

static inline void put16(uint8_t *to, uint16_t value)
{
	value = htobe16(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put32(uint8_t *to, uint32_t value)
{
	value = htobe32(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put64(uint8_t *to, uint64_t value)
{
	value = htobe64(value);
	memcpy(to, &value, sizeof(value));
}

static inline uint16_t get16(const uint8_t *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return be16toh(value);
}

static inline uint32_t get32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return be32toh(value);
}

static inline uint64_t get64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return be64toh(value);
}

#endif
