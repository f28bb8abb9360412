/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is not known of a client (its credentials, its address, its certificate) matches
 * no rule but "any".
 */
#include "filters/ip-rule.h"

#include <linux/vm_sockets.h>
#include <string.h>

#include "nbdring/pattern.h"

#define RULE_TEXT_MAX 64 /* longer than any address */

/* Parsing. */

static const struct {
	const char *word;
	enum nr_ip_kind kind;
	bool is_v6; /* NR_IP_NETWORK: any address of IPv4, or of this */
} words[] = {
	{ "all", NR_IP_ANY, false },         { "any", NR_IP_ANY, false },
	{ "allipv4", NR_IP_NETWORK, false }, { "anyipv4", NR_IP_NETWORK, false },
	{ "ipv4", NR_IP_NETWORK, false },    { "allipv6", NR_IP_NETWORK, true },
	{ "anyipv6", NR_IP_NETWORK, true },  { "ipv6", NR_IP_NETWORK, true },
	{ "allunix", NR_IP_UNIX, false },    { "anyunix", NR_IP_UNIX, false },
	{ "unix", NR_IP_UNIX, false },       { "allvsock", NR_IP_VSOCK, false },
	{ "anyvsock", NR_IP_VSOCK, false },  { "vsock", NR_IP_VSOCK, false },
};

static const struct {
	const char *prefix;
	enum nr_ip_kind kind;
} named[] = {
	{ "dn:", NR_IP_DN },
	{ "issuer-dn:", NR_IP_ISSUER_DN },
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

static const char *parse_network(const char *text, struct nr_ip_rule *rule)
{
	const char *wrong = nr_network_parse(text, strlen(text), &rule->network);

	rule->kind = NR_IP_NETWORK;
	/* That it is a network was a guess. */
	if (wrong && !strchr(text, '/'))
		return "write an address (192.168.2.1, fe80::1), a network (10.0.0.0/8), any, "
		       "anyipv4, anyipv6, anyunix, anyvsock, pid:, uid:, gid:, vsock-cid: or "
		       "vsock-port: and a number, or dn: or issuer-dn: and a pattern";
	return wrong;
}

/* Is it a rule about distinguished names?  Then RULE is it. */
static bool take_named(const char *text, size_t length, struct nr_ip_rule *rule)
{
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		size_t prefix = strlen(named[i].prefix);

		if (length < prefix || memcmp(text, named[i].prefix, prefix) != 0)
			continue;
		rule->kind = named[i].kind;
		rule->pattern = text + prefix;
		rule->pattern_length = length - prefix;
		return true;
	}
	return false;
}

size_t nr_ip_rule_length(const char *text)
{
	struct nr_ip_rule ignored;

	return take_named(text, strlen(text), &ignored) ? strlen(text) : strcspn(text, ",");
}

const char *nr_ip_rule_parse(const char *from, size_t length, struct nr_ip_rule *rule)
{
	char text[RULE_TEXT_MAX];

	memset(rule, 0, sizeof(*rule));
	if (length == 0)
		return "a rule between the commas is missing";
	if (take_named(from, length, rule))
		return rule->pattern_length ? NULL : "the pattern behind the colon is missing";
	if (length >= sizeof(text) || memchr(from, '\0', length))
		return "no address is that long";
	memcpy(text, from, length);
	text[length] = '\0';
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i].word) == 0) {
			rule->kind = words[i].kind;
			rule->network.address.is_v6 = words[i].is_v6;
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

static bool in_network(const struct nr_ip_rule *rule, const struct nr_session *session)
{
	struct nr_ip_address address;

	return nr_ip_address_of(&session->address, &address) &&
	       nr_network_has(&rule->network, &address);
}

/* DN is NULL if the client has shown no certificate. */
static bool is_named(const struct nr_ip_rule *rule, const char *dn)
{
	return dn && nr_pattern_matches_dn(rule->pattern, rule->pattern_length, dn);
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
	case NR_IP_NETWORK:
		return in_network(rule, session);
	case NR_IP_DN:
		return session->tls && is_named(rule, session->tls->subject);
	case NR_IP_ISSUER_DN:
		return session->tls && is_named(rule, session->tls->issuer);
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
