/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a LUKS header says, and whether that can be borne.
 *
 * libcryptsetup reads headers and opens key slots; it does what they ask for.  A header
 * can ask for any amount of memory and time, so before a slot is opened the server looks
 * itself at what that would take.  Pure: no file, no library of LUKS.
 */
#ifndef FILTERS_LUKS_FACTS_H
#define FILTERS_LUKS_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

#define NR_LUKS_SLOTS 32      /* of LUKS2; LUKS1 has eight */
#define NR_LUKS_KEY_MAX 64u   /* bytes; two keys for AES-256 in XTS mode */
#define NR_LUKS_ANY_SLOT (-1) /* all that there are, one after the other */
#define NR_LUKS1_HEADER 592u  /* bytes */
#define NR_LUKS_STRIPES 4000u /* a key is spread over so many times its length */
#define NR_LUKS_NAME_MAX 64u  /* of a cipher, bytes with the NUL */

struct nr_luks_slot {
	bool active;     /* has a key for the data */
	bool ignored;    /* not to be tried unless it is named */
	uint64_t area;   /* where its key is, bytes; key_bytes * NR_LUKS_STRIPES of it */
	uint64_t memory; /* that deriving a key takes, bytes */
	uint64_t work;   /* see nr_luks_judge */
	uint64_t lanes;  /* threads that deriving a key takes */
};

struct nr_luks_facts {
	char cipher[NR_LUKS_NAME_MAX]; /* "aes" */
	char mode[NR_LUKS_NAME_MAX];   /* "xts-plain64" */
	size_t key_bytes;
	uint64_t payload;  /* where the data begins, bytes */
	uint64_t length;   /* of the data, bytes; 0: all that there is */
	uint64_t iv_first; /* number of the first sector, in units of 512 bytes */
	uint32_t sector;   /* bytes */
	uint64_t check;    /* work to see whether a slot's key is the right one */
	struct nr_luks_slot slot[NR_LUKS_SLOTS];
};

/* From the header of LUKS1, NR_LUKS1_HEADER bytes; 0, or -EINVAL or -ENOTSUP. */
int nr_luks_facts_1(const uint8_t *header, struct nr_luks_facts *facts, struct nr_error *error);

/* From the JSON text of LUKS2; the same. */
int nr_luks_facts_2(const char *json, struct nr_luks_facts *facts, struct nr_error *error);

/* The most that opening may take. */
struct nr_luks_limits {
	uint64_t memory;  /* bytes */
	uint64_t seconds; /* by an estimate: a machine does a million units of work a second */
};

/* Will SLOT be tried, if this one, or any, is asked for? */
bool nr_luks_slot_tried(const struct nr_luks_facts *facts, int asked, int slot);

/*
 * Is what it takes to open the slot ASKED for (or any) within LIMITS?  A unit of work is
 * one iteration of PBKDF2 for one block, or one pass of Argon2 over a kilobyte.
 */
int nr_luks_judge(const struct nr_luks_facts *facts, int asked, const struct nr_luks_limits *limits,
		  struct nr_error *error);

#endif
