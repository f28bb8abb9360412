/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCP ports.  One port can be several sockets (IPv4 and IPv6, or all addresses that
 * a name leads to).  All of them have the same port, also when the system chose it.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/cli/listen-internal.h"

#define NEWSTYLE_PORT 10809u /* which is for newstyle only (protocol, "Newstyle negotiation") */
#define CHOICES 8            /* attempts at a port that is free on all addresses */

static unsigned port_of(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
	return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

static void set_port(struct sockaddr *address, unsigned port)
{
	if (address->sa_family == AF_INET6)
		((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
	else
		((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
}

/* What the system made of it: the port, if the system chose it. */
static unsigned bound_port(int fd)
{
	struct sockaddr_storage bound;
	socklen_t length = sizeof(bound);

	if (getsockname(fd, (struct sockaddr *)&bound, &length) < 0)
		return 0;
	return port_of((struct sockaddr *)&bound);
}

/* A socket that listens on ADDRESS, through INTERFACE only (NULL: any), or -errno. */
static int listen_on(const struct addrinfo *address, const char *interface)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;
	int err;

	if (fd < 0)
		return -errno;
	/* Of a server that has just ended, connections linger; they are no obstacle. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* IPv4 gets a socket of its own. */
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if ((!interface || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface,
				      (socklen_t)strlen(interface) + 1) == 0) &&
	    bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* The same, with patience: the kernel may not be done yet with a server that was killed. */
static int listen_patiently(const struct addrinfo *address, const char *interface)
{
	int fd = listen_on(address, interface);

	for (int waited = 0; fd == -EADDRINUSE && waited < NR_LISTEN_PATIENCE_MS;
	     waited += NR_LISTEN_NAP_MS) {
		nr_listen_nap();
		fd = listen_on(address, interface);
	}
	return fd;
}

/* Does this only mean that the machine does not speak this family? */
static bool no_such_family(int err)
{
	return err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL;
}

/*
 * The sockets of one port, on all of FOUND.  *PORT is 0 while the system is to
 * choose, and then what it chose.  Returns 0 or the error of the first address
 * that failed and should not have.
 */
static int listen_on_all(struct nr_sockets *listeners, struct addrinfo *found,
			 const char *interface, unsigned *port, struct nr_error *error)
{
	size_t first = listeners->count;
	int skipped = 0;

	for (struct addrinfo *address = found; address; address = address->ai_next) {
		struct nr_socket *listener;
		int fd;

		if (*port)
			set_port(address->ai_addr, *port);
		fd = listen_patiently(address, interface);
		/* "Every address" means those of the families that there are. */
		if (fd < 0 && no_such_family(fd)) {
			skipped = fd;
			continue;
		}
		if (fd < 0)
			return fd;
		listener = nr_sockets_add(listeners, NR_SOCKET_TCP, error);
		if (!listener) {
			close(fd);
			return -ENOMEM;
		}
		listener->fd = fd;
		listener->port = *port = bound_port(fd);
	}
	return listeners->count > first ? 0 : skipped;
}

static int refuse(int err, const char *host, const char *port, const char *interface,
		  struct nr_error *error)
{
	if (err == -ENODEV && interface)
		return nr_error_set(error, err,
				    "there is no network interface '%s'; \"ip link\" shows those "
				    "there are",
				    interface);
	if (err == -EADDRINUSE)
		return nr_error_set(error, err,
				    "another program serves on TCP port %s of %s; end it, or give "
				    "another port with -p",
				    port, host);
	if (err == -EADDRNOTAVAIL)
		return nr_error_set(error, err,
				    "%s is no address of this machine; give one that is", host);
	if (err == -EACCES)
		return nr_error_set(error, err,
				    "TCP port %s of %s is for root only; give one above 1023 with "
				    "-p",
				    port, host);
	return nr_error_system(error, err, "TCP port %s of %s", port, host);
}

bool nr_listen_is_wildcard(const char *text)
{
	return !text || strcmp(text, "0.0.0.0") == 0 || strcmp(text, "::") == 0;
}

/* An address of INTERFACE as text, or "localhost". */
static char *interface_host(const char *interface, int family)
{
	struct ifaddrs *all = NULL;
	char text[NI_MAXHOST] = "localhost";

	if (getifaddrs(&all) < 0)
		return strdup(text);
	for (struct ifaddrs *one = all; one; one = one->ifa_next) {
		bool is_v6 = one->ifa_addr && one->ifa_addr->sa_family == AF_INET6;
		bool is_v4 = one->ifa_addr && one->ifa_addr->sa_family == AF_INET;

		if (strcmp(one->ifa_name, interface) != 0 || !(is_v4 || is_v6) ||
		    (family != AF_UNSPEC && family != one->ifa_addr->sa_family))
			continue;
		if (getnameinfo(one->ifa_addr,
				is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
				text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
			break;
	}
	freeifaddrs(all);
	return strdup(text);
}

/* How clients write the address: as it was given, or what fits "all". */
static int name_hosts(struct nr_sockets *listeners, size_t first, const char *address,
		      const struct nr_options *options, bool chosen, struct nr_error *error)
{
	for (size_t i = first; i < listeners->count; i++) {
		struct nr_socket *listener = &listeners->item[i];

		listener->extra = i > first;
		listener->chosen = chosen;
		if (!nr_listen_is_wildcard(address))
			listener->host = strdup(address);
		else if (options->interface)
			listener->host = interface_host(options->interface, (int)options->family);
		else
			listener->host = strdup("localhost");
		if (!listener->host)
			return nr_error_system(error, -ENOMEM, "listening");
	}
	return 0;
}

static int find_addresses(struct addrinfo **found, const struct nr_options *options,
			  const char *address, const char *port, struct nr_error *error)
{
	const struct addrinfo wanted = {
		.ai_family = (int)options->family,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE,
	};
	int err = getaddrinfo(address, port, &wanted, found);

	if (err == EAI_SERVICE)
		return nr_error_set(error, -EINVAL,
				    "there is no port '%s'; write a number from 0 to 65535", port);
	if (err)
		return nr_error_set(error, -EADDRNOTAVAIL, "the address %s cannot be used: %s",
				    address ? address : "of any kind", gai_strerror(err));
	if (options->oldstyle && port_of((*found)->ai_addr) == NEWSTYLE_PORT) {
		freeaddrinfo(*found);
		return nr_error_set(error, -EINVAL,
				    "port %u is for newstyle servers only; give -o another one "
				    "with -p, or use -U",
				    NEWSTYLE_PORT);
	}
	return 0;
}

int nr_listen_tcp(struct nr_sockets *listeners, const struct nr_options *options,
		  const char *address, const char *port, struct nr_error *error)
{
	size_t first = listeners->count;
	struct addrinfo *found;
	unsigned given, bound;
	int err;

	err = find_addresses(&found, options, address, port, error);
	if (err)
		return err;
	given = port_of(found->ai_addr);
	for (int attempt = 0; attempt < CHOICES; attempt++) {
		bound = given;
		err = listen_on_all(listeners, found, options->interface, &bound, error);
		if (!err)
			break;
		nr_sockets_drop_from(listeners, first);
		/* A port that was free on one address only: choose again. */
		if (given || err != -EADDRINUSE)
			break;
		for (struct addrinfo *one = found; one; one = one->ai_next)
			set_port(one->ai_addr, 0);
	}
	freeaddrinfo(found);
	if (err)
		return refuse(err, address ? address : "all addresses", port, options->interface,
			      error);
	return name_hosts(listeners, first, address, options, given == 0, error);
}
