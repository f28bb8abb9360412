/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets that somebody else has opened: systemd's socket activation, whose protocol
 * is three variables.  LISTEN_FDS is how many descriptors there are, from 3 on;
 * LISTEN_PID is the process that they are for, so that children who inherit the
 * variables do not take them for theirs; LISTEN_FDNAMES are names, parted by colons,
 * which serve here to tell the sockets apart in the log.
 *
 * The variables go when they have been read: what this process starts is not meant.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "src/cli/listen-internal.h"
#include "src/stack/params.h"

#define FIRST_FD 3
#define SOCKETS_MAX 1024 /* more is no number of sockets but a mistake */

bool nr_listen_is_activated(const char **other)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	uint64_t number;

	*other = NULL;
	if (!pid || !count || strcmp(count, "0") == 0)
		return false;
	if (nr_parse_uint(pid, &number) == 0 && number == (uint64_t)getpid())
		return true;
	*other = pid;
	return false;
}

/* What was also said, about listening, or NULL. */
static const char *contradiction(const struct nr_options *options)
{
	const struct {
		bool given;
		const char *option;
	} rows[] = {
		{ options->unix_paths.count > 0, "-U" },
		{ options->ports.count > 0, "-p" },
		{ options->addresses.count > 0, "-i" },
		{ options->family != AF_UNSPEC, options->family == AF_INET ? "-4" : "-6" },
		{ options->vsocks.count || options->ports_are_vsock, "--vsock" },
		{ options->interface != NULL, "--interface" },
		{ options->has_unix_mode, "--unix-mode" },
		{ options->unix_owner != NULL, "--unix-owner" },
		{ options->single, "-s" },
		{ options->run != NULL, "--run" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].given)
			return rows[i].option;
	return NULL;
}

/* What is wrong with the descriptor, as the end of a sentence; or NULL. */
static const char *fault(int fd)
{
	int type = 0, listens = 0, domain = 0;
	socklen_t length = sizeof(int);
	struct stat what;

	/* What is not open by then may be a file of the server's own meanwhile. */
	if (fstat(fd, &what) < 0 || !S_ISSOCK(what.st_mode) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0)
		return "is no socket; LISTEN_FDS must be the number of sockets that are passed";
	if (type == SOCK_DGRAM)
		return "is a datagram socket; NBD needs streams (ListenStream= in systemd)";
	if (type != SOCK_STREAM)
		return "is no stream socket; NBD needs streams (ListenStream= in systemd)";
	if (!listens)
		return "does not listen; set Accept=no, or serve a single connection with -s";
	if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6 && domain != AF_VSOCK)
		return "is neither a Unix, nor a TCP, nor a vsock socket";
	return NULL;
}

static char *copy(const char *from, size_t length)
{
	char *text = malloc(length + 1);

	if (text) {
		memcpy(text, from, length);
		text[length] = '\0';
	}
	return text;
}

static int name_unix(struct nr_socket *listener, const struct sockaddr_un *address,
		     socklen_t length)
{
	const char *path = address->sun_path;
	size_t bytes = length - offsetof(struct sockaddr_un, sun_path);

	listener->kind = NR_SOCKET_UNIX;
	listener->abstract = bytes > 0 && path[0] == '\0';
	/* The NUL behind a path is counted, the one before an abstract name is not its. */
	if (listener->abstract) {
		path++;
		bytes--;
	} else {
		bytes = strnlen(path, bytes);
	}
	listener->path = copy(path, bytes);
	listener->path_length = bytes;
	return listener->path ? 0 : -ENOMEM;
}

static int name_tcp(struct nr_socket *listener, const struct sockaddr *address, socklen_t length)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];
	uint64_t number = 0;
	int err = getnameinfo(address, length, host, sizeof(host), port, sizeof(port),
			      NI_NUMERICHOST | NI_NUMERICSERV);

	if (err || nr_parse_uint(port, &number))
		return -EINVAL;
	listener->kind = NR_SOCKET_TCP;
	listener->port = (unsigned)number;
	listener->host = strdup(nr_listen_is_wildcard(host) ? "localhost" : host);
	return listener->host ? 0 : -ENOMEM;
}

static int name_vsock(struct nr_socket *listener, const struct sockaddr_vm *address)
{
	listener->kind = NR_SOCKET_VSOCK;
	listener->port = address->svm_port;
	listener->cid =
		address->svm_cid == VMADDR_CID_ANY ? nr_vsock_local_cid() : address->svm_cid;
	return 0;
}

static int name_socket(struct nr_socket *listener)
{
	union {
		struct sockaddr any;
		struct sockaddr_un local;
		struct sockaddr_vm vm;
		struct sockaddr_storage room;
	} address;
	socklen_t length = sizeof(address);

	if (getsockname(listener->fd, &address.any, &length) < 0)
		return -errno;
	if (address.any.sa_family == AF_UNIX)
		return name_unix(listener, &address.local, length);
	if (address.any.sa_family == AF_VSOCK)
		return name_vsock(listener, &address.vm);
	return name_tcp(listener, &address.any, length);
}

static int take(struct nr_sockets *listeners, int fd, const char *label, struct nr_error *error)
{
	const char *what = fault(fd);
	struct nr_socket *listener;
	int flags, err;

	if (what)
		return nr_error_set(error, -EINVAL, "descriptor %d%s%s, passed by LISTEN_FDS, %s",
				    fd, label[0] ? ", " : "", label, what);
	listener = nr_sockets_add(listeners, NR_SOCKET_TCP, error);
	if (!listener)
		return -ENOMEM;
	listener->fd = fd;
	flags = fcntl(fd, F_GETFL);
	/* A ring need not wait for clients on a socket that says it does not wait. */
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || flags < 0 ||
	    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return nr_error_system(error, -errno, "descriptor %d of LISTEN_FDS", fd);
	err = label[0] && !(listener->label = strdup(label)) ? -ENOMEM : 0;
	if (!err)
		err = name_socket(listener);
	return err ? nr_error_system(error, err, "descriptor %d of LISTEN_FDS", fd) : 0;
}

/* Cut the next name off *NAMES; "" when there are no more. */
static const char *next_label(char **names)
{
	const char *label = strsep(names, ":");

	return label ? label : "";
}

static int take_all(struct nr_sockets *listeners, uint64_t count, char *names,
		    struct nr_error *error)
{
	int err = 0;

	for (uint64_t i = 0; !err && i < count; i++)
		err = take(listeners, FIRST_FD + (int)i, next_label(&names), error);
	return err;
}

int nr_listen_activated(struct nr_sockets *listeners, const struct nr_options *options,
			struct nr_error *error)
{
	const char *wrong = contradiction(options);
	const char *given = getenv("LISTEN_FDS"), *labels = getenv("LISTEN_FDNAMES");
	uint64_t count;
	char *names;
	int err;

	if (wrong)
		return nr_error_set(error, -EINVAL,
				    "the sockets come from systemd (LISTEN_FDS is set), so %s does "
				    "not go with them; leave one of them out",
				    wrong);
	if (!given || nr_parse_uint(given, &count) || count > SOCKETS_MAX)
		return nr_error_set(error, -EINVAL,
				    "LISTEN_FDS=%s is no number of sockets from 1 to %d",
				    given ? given : "", SOCKETS_MAX);
	names = strdup(labels ? labels : "");
	if (!names)
		return nr_error_system(error, -ENOMEM, "LISTEN_FDNAMES");
	err = take_all(listeners, count, names, error);
	free(names);
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	listeners->activated = true;
	return err;
}
