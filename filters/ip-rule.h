/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One rule of the filter `ip`: which clients it means.  Pure: text in, a rule out; a
 * rule and a client in, yes or no out.
 */
#ifndef FILTERS_IP_RULE_H
#define FILTERS_IP_RULE_H

#include "nbdring/layer.h"
#include "nbdring/network.h"

enum nr_ip_kind {
	NR_IP_ANY,
	NR_IP_UNIX,
	NR_IP_VSOCK,
	NR_IP_NETWORK, /* `network` */
	NR_IP_PID,     /* `number` */
	NR_IP_UID,
	NR_IP_GID,
	NR_IP_VSOCK_CID,
	NR_IP_VSOCK_PORT,
	NR_IP_DN, /* `pattern`, for the subject of its certificate */
	NR_IP_ISSUER_DN,
};

struct nr_ip_rule {
	enum nr_ip_kind kind;
	struct nr_network network;
	uint32_t number;
	const char *pattern; /* a part of the text that was parsed */
	size_t pattern_length;
};

/*
 * The bytes of the first rule in TEXT, a list with commas.  Distinguished names have
 * commas, so a rule about them is the last of its list.
 */
size_t nr_ip_rule_length(const char *text);

/*
 * The rule that the LENGTH bytes at TEXT stand for; one about distinguished names points
 * to them.  Returns NULL, or what would be right instead: the end of a sentence.
 */
const char *nr_ip_rule_parse(const char *text, size_t length, struct nr_ip_rule *rule);

/* Does RULE mean the client of SESSION? */
bool nr_ip_rule_matches(const struct nr_ip_rule *rule, const struct nr_session *session);

#endif
