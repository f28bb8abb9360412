/* SPDX-License-Identifier: BSD-3-Clause */
/* Networks and the addresses in them.  Pure. */
#include "nbdring/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define TEXT_MAX 64 /* longer than any network */

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* An IPv4 address in IPv6's clothes becomes one. */
static bool unmap(struct nr_ip_address *address)
{
	if (!address->is_v6 || memcmp(address->bytes, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return false;
	memmove(address->bytes, address->bytes + sizeof(mapped_prefix), 4);
	memset(address->bytes + 4, 0, 12);
	address->is_v6 = false;
	return true;
}

/* Decimal digits and nothing else, at most MAX. */
static bool parse_bits(const char *text, unsigned max, unsigned *bits)
{
	unsigned value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (unsigned)(*text - '0');
		if (value > max)
			return false;
	}
	*bits = value;
	return true;
}

/* Bits behind the first BITS are not looked at: make them zero. */
static void mask(struct nr_ip_address *address, unsigned bits)
{
	for (unsigned i = 0; i < sizeof(address->bytes); i++) {
		unsigned keep = bits > 8 * i ? bits - 8 * i : 0;

		if (keep < 8)
			address->bytes[i] &= (uint8_t)(0xff00u >> keep);
	}
}

const char *nr_network_parse(const char *from, size_t length, struct nr_network *network)
{
	struct nr_ip_address *address = &network->address;
	unsigned bits;
	char text[TEXT_MAX], *slash;

	memset(network, 0, sizeof(*network));
	if (length >= sizeof(text) || memchr(from, '\0', length))
		return "no address is that long";
	memcpy(text, from, length);
	text[length] = '\0';
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	address->is_v6 = strchr(text, ':') != NULL;
	bits = address->is_v6 ? 128 : 32;
	if (inet_pton(address->is_v6 ? AF_INET6 : AF_INET, text, address->bytes) != 1)
		return "write an address (192.168.2.1, fe80::1) or a network (10.0.0.0/8)";
	if (slash && !parse_bits(slash + 1, bits, &bits))
		return address->is_v6 ? "the number behind the / is 0 to 128"
				      : "the number behind the / is 0 to 32";
	if (bits >= 96 && unmap(address))
		bits -= 96;
	mask(address, bits);
	network->bits = (uint8_t)bits;
	return NULL;
}

bool nr_network_has(const struct nr_network *network, const struct nr_ip_address *address)
{
	unsigned whole = network->bits / 8, rest = network->bits % 8;
	uint8_t difference;

	if (network->address.is_v6 != address->is_v6 ||
	    memcmp(network->address.bytes, address->bytes, whole) != 0)
		return false;
	if (rest == 0)
		return true;
	difference = network->address.bytes[whole] ^ address->bytes[whole];
	return difference >> (8 - rest) == 0;
}

bool nr_ip_address_of(const struct sockaddr_storage *sockaddr, struct nr_ip_address *address)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(address, 0, sizeof(*address));
	switch (sockaddr->ss_family) {
	case AF_INET:
		memcpy(&in, sockaddr, sizeof(in));
		memcpy(address->bytes, &in.sin_addr, sizeof(in.sin_addr));
		return true;
	case AF_INET6:
		memcpy(&in6, sockaddr, sizeof(in6));
		memcpy(address->bytes, &in6.sin6_addr, sizeof(in6.sin6_addr));
		address->is_v6 = true;
		unmap(address);
		return true;
	default:
		return false;
	}
}
