/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix sockets: with a file, private in a folder of their own, or abstract.
 *
 * A Unix socket's file outlives a server that was killed.  Such a file refuses
 * connections, so it can be told from one that is in use, and is replaced.  Between
 * being told and being replaced, and between bind and listen, a name looks free to
 * another server that starts at the same moment; so whoever makes a socket holds a
 * lock on its folder meanwhile.
 *
 * The socket has its mode from the moment it is there, and its owner before anybody
 * can connect to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/cli/listen-internal.h"
#include "src/cli/owner.h"
#include "src/stack/params-path.h"

/* PATH, or the abstract name if it begins with '@', as an address of *LENGTH bytes. */
static int make_address(struct sockaddr_un *address, socklen_t *length, const char *path,
			struct nr_error *error)
{
	size_t bytes = strlen(path);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*length = sizeof(*address);
	if (bytes >= sizeof(address->sun_path))
		return nr_error_set(error, -ENAMETOOLONG,
				    "the path of the Unix socket is too long, it has %zu bytes and "
				    "%zu are possible; use a shorter one than %s",
				    bytes, sizeof(address->sun_path) - 1, path);
	memcpy(address->sun_path, path, bytes + 1);
	if (path[0] == '@') {
		/* The length counts: NULs behind it would be part of the name. */
		address->sun_path[0] = '\0';
		*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	}
	return 0;
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
	else if (poll(&answer, 1, NR_LISTEN_PATIENCE_MS) == 1 && recv(fd, &byte, 1, 0) <= 0)
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
	for (int waited = 0; (err = probe(address)) == -EAGAIN && waited < NR_LISTEN_PATIENCE_MS;
	     waited += NR_LISTEN_NAP_MS)
		nr_listen_nap();
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

static int own(const char *path, const char *owner, struct nr_error *error)
{
	struct nr_owner who;
	int err = nr_owner_find(&who, owner, error);

	if (err)
		return nr_error_prefix(error, "--unix-owner");
	if (lchown(path, who.user, who.group) < 0)
		return nr_error_system(error, -errno, "--unix-owner=%s: %s cannot be given away",
				       owner, path);
	return 0;
}

/* bind(2) with the mode that the socket is to have. */
static int bind_with_mode(int fd, const struct sockaddr_un *address, socklen_t length,
			  const struct nr_options *options)
{
	mode_t before = 0;
	int err;

	if (options->has_unix_mode)
		before = umask(0777 & ~options->unix_mode);
	err = bind(fd, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
	if (options->has_unix_mode)
		umask(before);
	return err;
}

/* Take the name, which is that of a file, and listen.  The folder is locked. */
static int take_file(struct nr_socket *listener, const char *path, const struct nr_options *options,
		     struct nr_error *error)
{
	struct sockaddr_un address;
	struct stat made;
	socklen_t length;
	int err = make_address(&address, &length, path, error);

	if (err)
		return err;
	err = bind_with_mode(listener->fd, &address, length, options);
	if (err == -EADDRINUSE) {
		err = make_room(&address, error);
		if (err)
			return err;
		err = bind_with_mode(listener->fd, &address, length, options);
	}
	if (err)
		return nr_error_system(error, err, "the Unix socket %s cannot be made", path);
	if (lstat(path, &made) == 0) {
		listener->device = made.st_dev;
		listener->inode = made.st_ino;
	}
	if (options->unix_owner)
		err = own(path, options->unix_owner, error);
	if (!err && listen(listener->fd, SOMAXCONN) < 0)
		err = nr_error_system(error, -errno, "Unix socket %s", path);
	return err;
}

/*
 * The lock of the folder that PATH is in, or -1 when it cannot be had: then there is
 * no more than there was before, two servers that start at once may not see each other.
 */
static int lock_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	free(folder);
	for (int waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
	     waited += NR_LISTEN_NAP_MS) {
		if (waited < 2 * NR_LISTEN_PATIENCE_MS && errno == EWOULDBLOCK) {
			nr_listen_nap();
			continue;
		}
		close(fd);
		fd = -1;
	}
	return fd;
}

static int bind_file(struct nr_socket *listener, const char *path, const struct nr_options *options,
		     struct nr_error *error)
{
	int lock, err;

	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return nr_error_system(error, -errno, "Unix socket %s", path);
	lock = lock_folder(path);
	err = take_file(listener, path, options, error);
	if (lock >= 0)
		close(lock);
	return err;
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
	listener->path_length = strlen(listener->path);
	listener->chosen = true;
	return 0;
}

static int open_private(struct nr_socket *listener, const struct nr_options *options,
			struct nr_error *error)
{
	int err = private_path(listener, error);

	if (err)
		return err;
	/* Whoever is to use the socket must be able to enter its folder. */
	if (options->unix_owner)
		err = own(listener->folder, options->unix_owner, error);
	if (!err)
		err = bind_file(listener, listener->path, options, error);
	if (err && !listener->inode)
		rmdir(listener->folder);
	return err;
}

static int open_abstract(struct nr_socket *listener, const char *name, struct nr_error *error)
{
	struct sockaddr_un address;
	socklen_t length;
	int err = make_address(&address, &length, name, error);

	if (err)
		return err;
	if (name[1] == '\0')
		return nr_error_set(error, -EINVAL,
				    "-U @ needs a name behind the @, or write -U - for a private "
				    "socket");
	listener->abstract = true;
	listener->path = strdup(name + 1);
	listener->path_length = strlen(name + 1);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0 || !listener->path)
		return nr_error_system(error, listener->path ? -errno : -ENOMEM, "Unix socket %s",
				       name);
	if (bind(listener->fd, (struct sockaddr *)&address, length) == 0 &&
	    listen(listener->fd, SOMAXCONN) == 0)
		return 0;
	if (errno == EADDRINUSE)
		return nr_error_set(error, -EADDRINUSE,
				    "another program serves on the abstract Unix socket %s; end "
				    "it, or give another name",
				    name);
	return nr_error_system(error, -errno, "the abstract Unix socket %s", name);
}

int nr_listen_unix(struct nr_sockets *listeners, const struct nr_options *options, const char *path,
		   struct nr_error *error)
{
	struct nr_socket *listener = nr_sockets_add(listeners, NR_SOCKET_UNIX, error);

	if (!listener)
		return -ENOMEM;
	if (strcmp(path, "-") == 0)
		return open_private(listener, options, error);
	if (path[0] == '@')
		return open_abstract(listener, path, error);
	listener->path = nr_absolute_path(path);
	if (!listener->path)
		return nr_error_system(error, -errno, "Unix socket %s", path);
	listener->path_length = strlen(listener->path);
	/* Bound as it was written: that may be short enough where the whole is not. */
	return bind_file(listener, path, options, error);
}
