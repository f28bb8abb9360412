/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making listening sockets.
 *
 * A Unix socket's file outlives a server that was killed.  Such a file refuses
 * connections, so it can be told from one that is in use, and is replaced.  At
 * the end only files are removed that are still the ones made here: another
 * server may have taken the name meanwhile.
 *
 * One TCP port can be several sockets (IPv4 and IPv6, or all addresses that a
 * name leads to).  All of them have the same port, also when the system chose it.
 *
 * Main thread, before and after the others exist.
 */
#include "src/cli/listen.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "src/stack/params-path.h"

#define DEFAULT_PORT "10809" /* IANA's for NBD */
#define NEWSTYLE_PORT 10809u /* which is for newstyle only (protocol, "Newstyle negotiation") */
#define CHOICES 8            /* attempts at a port that is free on all addresses */
#define PATIENCE_MS 1000     /* with the remains of a server that was killed */
#define NAP_MS 20

static struct nr_socket *add(struct nr_sockets *listeners, struct nr_error *error)
{
	struct nr_socket *grown = realloc(listeners->item, (listeners->count + 1) * sizeof(*grown));

	if (!grown) {
		nr_error_system(error, -ENOMEM, "listening");
		return NULL;
	}
	listeners->item = grown;
	grown += listeners->count++;
	*grown = (struct nr_socket){ .fd = -1 };
	return grown;
}

static void drop(struct nr_socket *listener)
{
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener->path);
	free(listener->folder);
	free(listener->host);
}

void nr_sockets_free(struct nr_sockets *listeners)
{
	for (size_t i = 0; i < listeners->count; i++)
		drop(&listeners->item[i]);
	free(listeners->item);
	listeners->item = NULL;
	listeners->count = 0;
}

void nr_sockets_remove(struct nr_sockets *listeners)
{
	for (size_t i = 0; i < listeners->count; i++) {
		struct nr_socket *listener = &listeners->item[i];
		struct stat now;

		/* An inode of 0: no file was made. */
		if (!listener->inode)
			continue;
		if (lstat(listener->path, &now) == 0 && now.st_dev == listener->device &&
		    now.st_ino == listener->inode)
			unlink(listener->path);
		if (listener->folder)
			rmdir(listener->folder);
		listener->inode = 0;
	}
}

/* Unix sockets. */

static int unix_address(struct sockaddr_un *address, const char *path, struct nr_error *error)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return nr_error_set(error, -ENAMETOOLONG,
				    "the path of the Unix socket is too long, it has %zu bytes and "
				    "%zu are possible; use a shorter one than %s",
				    strlen(path), sizeof(address->sun_path) - 1, path);
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

static void nap(void)
{
	const struct timespec time = { .tv_nsec = NAP_MS * 1000000L };

	nanosleep(&time, NULL);
}

/*
 * One try at finding out whether somebody serves at ADDRESS.  A server that was
 * killed may seem to be there for a moment, until the kernel has taken its ring
 * apart, but then it hangs up without a word: -EAGAIN, ask again.
 */
static int probe(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd answer = { .fd = fd, .events = POLLIN };
	char byte;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		err = errno == ECONNREFUSED ? -ECONNREFUSED : 0;
	else if (poll(&answer, 1, PATIENCE_MS) == 1 && recv(fd, &byte, 1, 0) <= 0)
		err = -EAGAIN;
	close(fd);
	return err;
}

/* The name is taken.  0 when it was only a leftover and is free now. */
static int make_room(const struct sockaddr_un *address, struct nr_error *error)
{
	const char *path = address->sun_path;
	struct stat there;
	int err;

	if (lstat(path, &there) < 0)
		return errno == ENOENT ? 0 : nr_error_system(error, -errno, "%s", path);
	if (!S_ISSOCK(there.st_mode))
		return nr_error_set(error, -EADDRINUSE,
				    "%s is there and is no socket; give another path, or remove it",
				    path);
	for (int waited = 0; (err = probe(address)) == -EAGAIN && waited < PATIENCE_MS;
	     waited += NAP_MS)
		nap();
	if (err != -ECONNREFUSED)
		return nr_error_set(error, -EADDRINUSE,
				    "another program serves on the Unix socket %s; end it, or give "
				    "another path",
				    path);
	if (unlink(path) < 0 && errno != ENOENT)
		return nr_error_system(error, -errno, "the socket %s, left by another server",
				       path);
	return 0;
}

static int bind_unix(struct nr_socket *listener, const char *path, struct nr_error *error)
{
	struct sockaddr_un address;
	struct stat made;
	int err = unix_address(&address, path, error);

	if (err)
		return err;
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return nr_error_system(error, -errno, "Unix socket %s", path);
	err = bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	if (err == -EADDRINUSE) {
		err = make_room(&address, error);
		if (err)
			return err;
		if (bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			err = -errno;
	}
	if (err)
		return nr_error_system(error, err, "the Unix socket %s cannot be made", path);
	if (lstat(path, &made) == 0) {
		listener->device = made.st_dev;
		listener->inode = made.st_ino;
	}
	if (listen(listener->fd, SOMAXCONN) < 0)
		return nr_error_system(error, -errno, "Unix socket %s", path);
	return 0;
}

/* A new folder that only this user may enter, and a name in it. */
static int private_path(struct nr_socket *listener, struct nr_error *error)
{
	const char *parent = getenv("TMPDIR");
	char folder[128];

	/* Room for what is put behind it, in the little that a socket's path may have. */
	if (!parent || parent[0] != '/' || strlen(parent) > 70)
		parent = "/tmp";
	snprintf(folder, sizeof(folder), "%s/nbdring-XXXXXX", parent);
	if (!mkdtemp(folder))
		return nr_error_system(error, -errno, "a folder for the private socket in %s",
				       parent);
	listener->folder = strdup(folder);
	if (!listener->folder || asprintf(&listener->path, "%s/socket", folder) < 0) {
		listener->path = NULL;
		rmdir(folder);
		return nr_error_system(error, -ENOMEM, "private socket");
	}
	listener->chosen = true;
	return 0;
}

static int open_unix(struct nr_sockets *listeners, const char *path, struct nr_error *error)
{
	struct nr_socket *listener = add(listeners, error);
	int err;

	if (!listener)
		return -ENOMEM;
	if (strcmp(path, "-") == 0) {
		err = private_path(listener, error);
		if (!listener->path)
			return err;
		err = bind_unix(listener, listener->path, error);
		if (err && !listener->inode)
			rmdir(listener->folder);
		return err;
	}
	listener->path = nr_absolute_path(path);
	if (!listener->path)
		return nr_error_system(error, -errno, "Unix socket %s", path);
	/* Bound as it was written: that may be short enough where the whole is not. */
	return bind_unix(listener, path, error);
}

/* TCP. */

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

/* A socket that listens on ADDRESS, or -errno. */
static int listen_on(const struct addrinfo *address)
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
	if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* The same, with patience: the kernel may not be done yet with a server that was killed. */
static int listen_patiently(const struct addrinfo *address)
{
	int fd = listen_on(address);

	for (int waited = 0; fd == -EADDRINUSE && waited < PATIENCE_MS; waited += NAP_MS) {
		nap();
		fd = listen_on(address);
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
static int listen_on_all(struct nr_sockets *listeners, struct addrinfo *found, unsigned *port,
			 struct nr_error *error)
{
	size_t first = listeners->count;
	int skipped = 0;

	for (struct addrinfo *address = found; address; address = address->ai_next) {
		struct nr_socket *listener;
		int fd;

		if (*port)
			set_port(address->ai_addr, *port);
		fd = listen_patiently(address);
		/* "Every address" means those of the families that there are. */
		if (fd < 0 && no_such_family(fd)) {
			skipped = fd;
			continue;
		}
		if (fd < 0)
			return fd;
		listener = add(listeners, error);
		if (!listener) {
			close(fd);
			return -ENOMEM;
		}
		listener->fd = fd;
		listener->port = *port = bound_port(fd);
	}
	return listeners->count > first ? 0 : skipped;
}

static void drop_from(struct nr_sockets *listeners, size_t first)
{
	while (listeners->count > first)
		drop(&listeners->item[--listeners->count]);
}

static int refuse_port(int err, const char *host, const char *port, struct nr_error *error)
{
	if (err == -EADDRINUSE)
		return nr_error_set(error, err,
				    "another program serves on TCP port %s of %s; end it, or give "
				    "another port with -p",
				    port, host);
	if (err == -EADDRNOTAVAIL)
		return nr_error_set(error, err,
				    "%s is no address of this machine; give one that is with -i",
				    host);
	if (err == -EACCES)
		return nr_error_set(error, err,
				    "TCP port %s of %s is for root only; give one above 1023 with "
				    "-p",
				    port, host);
	return nr_error_system(error, err, "TCP port %s of %s", port, host);
}

/* How clients write the address: as it was given, or a name that fits "all". */
static int name_hosts(struct nr_sockets *listeners, size_t first, const char *host, bool chosen,
		      struct nr_error *error)
{
	for (size_t i = first; i < listeners->count; i++) {
		listeners->item[i].extra = i > first;
		listeners->item[i].chosen = chosen;
		listeners->item[i].host = strdup(host);
		if (!listeners->item[i].host)
			return nr_error_system(error, -ENOMEM, "listening");
	}
	return 0;
}

static bool is_wildcard(const char *address)
{
	return !address || strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

static int open_tcp(struct nr_sockets *listeners, const struct nr_options *options,
		    const char *port, struct nr_error *error)
{
	const struct addrinfo wanted = {
		.ai_family = (int)options->family,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE,
	};
	const char *host = options->address ? options->address : "all addresses";
	size_t first = listeners->count;
	struct addrinfo *found;
	unsigned given, bound;
	int err;

	err = getaddrinfo(options->address, port, &wanted, &found);
	if (err == EAI_SERVICE)
		return nr_error_set(error, -EINVAL,
				    "there is no port '%s'; write a number from 0 to 65535", port);
	if (err)
		return nr_error_set(error, -EADDRNOTAVAIL, "the address %s cannot be used: %s",
				    host, gai_strerror(err));
	given = port_of(found->ai_addr);
	if (options->oldstyle && given == NEWSTYLE_PORT) {
		freeaddrinfo(found);
		return nr_error_set(error, -EINVAL,
				    "port %u is for newstyle servers only; give -o another one "
				    "with -p, or use -U",
				    given);
	}
	for (int attempt = 0; attempt < CHOICES; attempt++) {
		bound = given;
		err = listen_on_all(listeners, found, &bound, error);
		if (!err)
			break;
		drop_from(listeners, first);
		/* A port that was free on one address only: choose again. */
		if (given || err != -EADDRINUSE)
			break;
		for (struct addrinfo *address = found; address; address = address->ai_next)
			set_port(address->ai_addr, 0);
	}
	freeaddrinfo(found);
	if (err)
		return refuse_port(err, host, port, error);
	return name_hosts(listeners, first,
			  is_wildcard(options->address) ? "localhost" : options->address,
			  given == 0, error);
}

static int open_all(struct nr_sockets *listeners, const struct nr_options *options,
		    struct nr_error *error)
{
	bool nothing_said = !options->unix_paths.count && !options->ports.count;
	int err = 0;

	if (options->single)
		return 0;
	if (nothing_said && options->run)
		return open_unix(listeners, "-", error);
	if (nothing_said)
		return open_tcp(listeners, options, DEFAULT_PORT, error);
	for (size_t i = 0; !err && i < options->unix_paths.count; i++)
		err = open_unix(listeners, options->unix_paths.item[i], error);
	for (size_t i = 0; !err && i < options->ports.count; i++)
		err = open_tcp(listeners, options, options->ports.item[i], error);
	return err;
}

int nr_sockets_open(struct nr_sockets *listeners, const struct nr_options *options,
		    struct nr_error *error)
{
	int err;

	*listeners = (struct nr_sockets){ .item = NULL };
	err = open_all(listeners, options, error);
	if (err) {
		nr_sockets_remove(listeners);
		nr_sockets_free(listeners);
	}
	return err;
}

const struct nr_socket *nr_sockets_unix(const struct nr_sockets *listeners)
{
	for (size_t i = 0; i < listeners->count; i++)
		if (listeners->item[i].path)
			return &listeners->item[i];
	return NULL;
}

const struct nr_socket *nr_sockets_tcp(const struct nr_sockets *listeners)
{
	for (size_t i = 0; i < listeners->count; i++)
		if (!listeners->item[i].path)
			return &listeners->item[i];
	return NULL;
}
