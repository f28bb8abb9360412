/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Networks: which addresses of clients are meant.
 *
 * An IPv4 client of a socket that takes both families shows itself as an IPv6 address
 * (::ffff:a.b.c.d).  People mean the IPv4 address, so such clients, and networks that
 * are written that way, are treated as IPv4.
 */
#ifndef NBDRING_NETWORK_H
#define NBDRING_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#pragma GCC visibility push(default) /* what modules call */

/* An address without its port; IPv4 in the first four bytes, the rest zeroes. */
struct nr_ip_address {
	uint8_t bytes[16]; /* network order */
	bool is_v6;
};

struct nr_network {
	struct nr_ip_address address; /* zeroes behind the first `bits` */
	uint8_t bits;
};

/*
 * The network (10.0.0.0/8, fe80::/10) or single address that the LENGTH bytes at TEXT
 * stand for.  Returns NULL, or what is wrong: a phrase.
 */
const char *nr_network_parse(const char *text, size_t length, struct nr_network *network);

bool nr_network_has(const struct nr_network *network, const struct nr_ip_address *address);

/* The address in SOCKADDR; false if it has none (it is not of IPv4 or IPv6). */
bool nr_ip_address_of(const struct sockaddr_storage *sockaddr, struct nr_ip_address *address);

#pragma GCC visibility pop

#endif
