/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One rule of the filter `ip`: which clients it means.  Pure: text in, a rule out; a
 * rule and a client in, yes or no out.
 */
#ifndef FILTERS_IP_RULE_H
#define FILTERS_IP_RULE_H

#include "nbdring/layer.h"

enum nr_ip_kind {
	NR_IP_ANY,
	NR_IP_UNIX,
	NR_IP_VSOCK,
	NR_IP_NETWORK4, /* `address`, first `bits` of it; 0: any IPv4 */
	NR_IP_NETWORK6,
	NR_IP_PID, /* `number` */
	NR_IP_UID,
	NR_IP_GID,
	NR_IP_VSOCK_CID,
	NR_IP_VSOCK_PORT,
};

struct nr_ip_rule {
	enum nr_ip_kind kind;
	unsigned bits;
	uint8_t address[16]; /* network order; IPv4 in the first four */
	uint32_t number;
};

/*
 * The rule that the LENGTH bytes at TEXT stand for.  Returns NULL, or what would be
 * right instead: the end of a sentence.
 */
const char *nr_ip_rule_parse(const char *text, size_t length, struct nr_ip_rule *rule);

/* Does RULE mean the client of SESSION? */
bool nr_ip_rule_matches(const struct nr_ip_rule *rule, const struct nr_session *session);

#endif
