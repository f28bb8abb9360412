/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An IPv4 client of a socket that takes both families shows itself as an IPv6
 * address (::ffff:a.b.c.d).  People mean the IPv4 address, so such clients, and
 * rules written that way, are treated as IPv4.
 *
 * What is not known of a client (its credentials, its address) matches no rule but
 * "any".
 */
#include "filters/ip-rule.h"

#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <string.h>

#define RULE_TEXT_MAX 64 /* longer than any address */

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* Parsing. */

static const struct {
	const char *word;
	enum nr_ip_kind kind;
} words[] = {
	{ "all", NR_IP_ANY },          { "any", NR_IP_ANY },       { "allipv4", NR_IP_NETWORK4 },
	{ "anyipv4", NR_IP_NETWORK4 }, { "ipv4", NR_IP_NETWORK4 }, { "allipv6", NR_IP_NETWORK6 },
	{ "anyipv6", NR_IP_NETWORK6 }, { "ipv6", NR_IP_NETWORK6 }, { "allunix", NR_IP_UNIX },
	{ "anyunix", NR_IP_UNIX },     { "unix", NR_IP_UNIX },     { "allvsock", NR_IP_VSOCK },
	{ "anyvsock", NR_IP_VSOCK },   { "vsock", NR_IP_VSOCK },
};

static const struct {
	const char *prefix;
	enum nr_ip_kind kind;
} numbered[] = {
	{ "pid:", NR_IP_PID },
	{ "uid:", NR_IP_UID },
	{ "gid:", NR_IP_GID },
	{ "vsock-cid:", NR_IP_VSOCK_CID },
	{ "vsock-port:", NR_IP_VSOCK_PORT },
};

/* Decimal digits and nothing else, at most MAX. */
static bool parse_number(const char *text, uint64_t max, uint32_t *number)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value > max)
			return false;
	}
	*number = (uint32_t)value;
	return true;
}

/* Bits behind the first BITS are not looked at: make them zero. */
static void mask(uint8_t *address, unsigned size, unsigned bits)
{
	for (unsigned i = 0; i < size; i++) {
		unsigned keep = bits > 8 * i ? bits - 8 * i : 0;

		if (keep < 8)
			address[i] &= (uint8_t)(0xff00u >> keep);
	}
}

static const char *parse_network(char *text, struct nr_ip_rule *rule)
{
	char *slash = strchr(text, '/');
	bool is_v6 = strchr(text, ':') != NULL;
	unsigned max = is_v6 ? 128 : 32;
	uint32_t bits = max;

	if (slash)
		*slash = '\0';
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, text, rule->address) != 1)
		return "write an address (192.168.2.1, fe80::1), a network (10.0.0.0/8), any, "
		       "anyipv4, anyipv6, anyunix, anyvsock, or pid:, uid:, gid:, vsock-cid: or "
		       "vsock-port: and a number";
	if (slash && !parse_number(slash + 1, max, &bits))
		return is_v6 ? "the number behind the / is 0 to 128"
			     : "the number behind the / is 0 to 32";
	rule->kind = is_v6 ? NR_IP_NETWORK6 : NR_IP_NETWORK4;
	rule->bits = bits;
	if (is_v6 && bits >= 96 && memcmp(rule->address, mapped_prefix, 12) == 0) {
		rule->kind = NR_IP_NETWORK4;
		rule->bits = bits - 96;
		memmove(rule->address, rule->address + 12, 4);
		memset(rule->address + 4, 0, 12);
	}
	mask(rule->address, sizeof(rule->address), rule->bits);
	return NULL;
}

const char *nr_ip_rule_parse(const char *from, size_t length, struct nr_ip_rule *rule)
{
	char text[RULE_TEXT_MAX];

	memset(rule, 0, sizeof(*rule));
	if (length == 0)
		return "a rule between the commas is missing";
	if (length >= sizeof(text) || memchr(from, '\0', length))
		return "no address is that long";
	memcpy(text, from, length);
	text[length] = '\0';
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i].word) == 0) {
			rule->kind = words[i].kind;
			return NULL;
		}
	}
	for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
		size_t prefix = strlen(numbered[i].prefix);

		if (strncmp(text, numbered[i].prefix, prefix) == 0) {
			rule->kind = numbered[i].kind;
			return parse_number(text + prefix, UINT32_MAX, &rule->number)
				       ? NULL
				       : "the number behind the colon is 0 to 4294967295";
		}
	}
	return parse_network(text, rule);
}

/* Matching. */

static bool same_bits(const uint8_t *network, const uint8_t *address, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	uint8_t difference;

	if (memcmp(network, address, whole) != 0)
		return false;
	if (rest == 0)
		return true;
	difference = network[whole] ^ address[whole];
	return difference >> (8 - rest) == 0;
}

static bool in_network(const struct nr_ip_rule *rule, const struct nr_session *session)
{
	const uint8_t *address;
	bool is_v4;

	if (session->address.ss_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, &session->address, sizeof(in));
		return rule->kind == NR_IP_NETWORK4 &&
		       same_bits(rule->address, (const uint8_t *)&in.sin_addr, rule->bits);
	}
	if (session->address.ss_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, &session->address, sizeof(in6));
		address = in6.sin6_addr.s6_addr;
		is_v4 = memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0;
		if (is_v4)
			address += sizeof(mapped_prefix);
		return is_v4 == (rule->kind == NR_IP_NETWORK4) &&
		       same_bits(rule->address, address, rule->bits);
	}
	return false;
}

static bool is_vsock(const struct nr_ip_rule *rule, const struct nr_session *session)
{
	struct sockaddr_vm vm;

	if (session->address.ss_family != AF_VSOCK)
		return false;
	memcpy(&vm, &session->address, sizeof(vm));
	return rule->number == (rule->kind == NR_IP_VSOCK_CID ? vm.svm_cid : vm.svm_port);
}

bool nr_ip_rule_matches(const struct nr_ip_rule *rule, const struct nr_session *session)
{
	switch (rule->kind) {
	case NR_IP_ANY:
		return true;
	case NR_IP_UNIX:
		return session->address.ss_family == AF_UNIX;
	case NR_IP_VSOCK:
		return session->address.ss_family == AF_VSOCK;
	case NR_IP_NETWORK4:
	case NR_IP_NETWORK6:
		return in_network(rule, session);
	case NR_IP_PID:
		return session->has_credentials && session->pid == rule->number;
	case NR_IP_UID:
		return session->has_credentials && session->uid == rule->number;
	case NR_IP_GID:
		return session->has_credentials && session->gid == rule->number;
	case NR_IP_VSOCK_CID:
	case NR_IP_VSOCK_PORT:
		return is_vsock(rule, session);
	}
	return false;
}
