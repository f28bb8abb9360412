/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reaching a remote (reach.h).
 *
 * All connecting is done without blocking and waited for with poll, in slices, so that
 * a deadline and a request to stop are kept.  What cannot be interrupted is the looking
 * up of names.
 */
#include "src/client/reach.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "nbdring/checked.h"

#define SLICE_MS 100u
#define NS_PER_MS UINT64_C(1000000)
#define NEXT_ADDRESS_MS 250u /* RFC 8305, "Connection Attempt Delay" */
#define ADDRESSES_MAX 16u

/* Keep-alive: a peer that is gone without a word is found out in about a minute. */
#define KEEP_IDLE_S 20
#define KEEP_INTERVAL_S 10
#define KEEP_COUNT 4

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* How long the next poll may wait, up to AT_MOST; negative errno when that is over. */
static int slice(const struct nr_patience *patience, unsigned at_most)
{
	uint64_t at = now();

	if (patience->stop && atomic_load(patience->stop))
		return -ECANCELED;
	if (at >= patience->until)
		return -ETIMEDOUT;
	return (int)nr_min(at_most, (patience->until - at) / NS_PER_MS + 1);
}

int nr_patience_poll(const struct nr_patience *patience, int fd, short events)
{
	for (;;) {
		struct pollfd wanted = { .fd = fd, .events = events };
		int wait = slice(patience, SLICE_MS);
		int ready;

		if (wait < 0)
			return wait;
		ready = poll(&wanted, 1, wait);
		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return -errno;
	}
}

/* ---- one address ------------------------------------------------------- */

static int new_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static int connect_to(int family, const struct sockaddr *address, socklen_t length,
		      const struct nr_patience *patience, int *out)
{
	int fd = new_socket(family), err = 0;
	socklen_t size = sizeof(err);

	if (fd < 0)
		return fd;
	while (connect(fd, address, length) < 0) {
		if (errno == EISCONN)
			break;
		if (errno == EAGAIN) { /* a Unix socket whose backlog is full */
			(void)nr_patience_poll(
				&(struct nr_patience){ now() + 10 * NS_PER_MS, NULL }, fd, 0);
			err = slice(patience, 1) < 0 ? slice(patience, 1) : 0;
		} else if (errno == EINPROGRESS || errno == EALREADY) {
			err = nr_patience_poll(patience, fd, POLLOUT);
			if (!err && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0)
				err = -err;
			if (!err)
				break;
		} else if (errno != EINTR) {
			err = -errno;
		}
		if (err) {
			close(fd);
			return err;
		}
	}
	*out = fd;
	return 0;
}

static int reach_unix(const struct nr_remote *remote, const struct nr_patience *patience, int *fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(remote->path);

	assert(length < sizeof(address.sun_path));
	memcpy(address.sun_path, remote->path, length);
	if (remote->path[0] == '@')
		address.sun_path[0] = '\0';
	else
		length++;
	return connect_to(AF_UNIX, (const struct sockaddr *)&address,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length), patience,
			  fd);
}

static int reach_vsock(const struct nr_remote *remote, const struct nr_patience *patience, int *fd)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK,
				       .svm_cid = remote->cid,
				       .svm_port = remote->vsock_port };

	return connect_to(AF_VSOCK, (const struct sockaddr *)&address, sizeof(address), patience,
			  fd);
}

/* ---- TCP: several addresses at once ------------------------------------ */

struct race {
	const struct addrinfo *address[ADDRESSES_MAX];
	struct pollfd runner[ADDRESSES_MAX];
	unsigned count;   /* addresses */
	unsigned started; /* of them */
	unsigned running; /* of those */
	int error;        /* of the last that fell out */
};

/* IPv6 and IPv4 in turn, in the order of the resolver otherwise. */
static void line_up(struct race *race, const struct addrinfo *list)
{
	const struct addrinfo *next[2] = { list, list };
	int families[2] = { list->ai_family, list->ai_family == AF_INET6 ? AF_INET : AF_INET6 };
	bool more = true;

	while (more && race->count < ADDRESSES_MAX) {
		more = false;
		for (unsigned i = 0; i < 2 && race->count < ADDRESSES_MAX; i++) {
			while (next[i] && next[i]->ai_family != families[i])
				next[i] = next[i]->ai_next;
			if (!next[i])
				continue;
			race->address[race->count++] = next[i];
			next[i] = next[i]->ai_next;
			more = true;
		}
	}
}

static void fall_out(struct race *race, unsigned i, int error)
{
	if (race->runner[i].fd >= 0)
		close(race->runner[i].fd);
	race->runner[i].fd = -1;
	race->running--;
	race->error = error;
}

static void start_next(struct race *race)
{
	unsigned i = race->started++;
	const struct addrinfo *a = race->address[i];
	int fd = new_socket(a->ai_family);

	race->running++;
	race->runner[i] = (struct pollfd){ .fd = fd, .events = POLLOUT };
	if (fd < 0)
		fall_out(race, i, fd);
	else if (connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
		fall_out(race, i, -errno);
}

/* The first that is connected, taken out of the race; -1: none yet. */
static int winner(struct race *race)
{
	for (unsigned i = 0; i < race->started; i++) {
		struct pollfd *runner = &race->runner[i];
		int err = 0, fd = runner->fd;
		socklen_t size = sizeof(err);

		if (fd < 0 || !runner->revents)
			continue;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
			err = errno;
		if (err) {
			fall_out(race, i, -err);
			continue;
		}
		runner->fd = -1;
		race->running--;
		return fd;
	}
	return -1;
}

static int run(struct race *race, const struct nr_patience *patience)
{
	uint64_t next_start = 0;

	for (;;) {
		int wait = slice(patience, SLICE_MS), fd;
		uint64_t at = now();

		if (wait < 0)
			return wait;
		if (race->started < race->count && (at >= next_start || race->running == 0)) {
			start_next(race);
			next_start = at + NEXT_ADDRESS_MS * NS_PER_MS;
		}
		if (race->running == 0 && race->started == race->count)
			return race->error;
		if (poll(race->runner, race->started, race->running ? wait : 0) < 0 &&
		    errno != EINTR)
			return -errno;
		fd = winner(race);
		if (fd >= 0)
			return fd;
	}
}

static int reach_tcp(const struct nr_remote *remote, const struct nr_patience *patience, int *fd,
		     struct nr_error *error)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_ADDRCONFIG };
	const struct addrinfo any = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct race race = { .error = -EHOSTUNREACH };
	struct addrinfo *list = NULL;
	int err = getaddrinfo(remote->host, remote->port, &hints, &list);

	/* A machine without a network has the loopback all the same. */
	if (err)
		err = getaddrinfo(remote->host, remote->port, &any, &list);
	if (err)
		return nr_error_set(error, err == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH, "%s: %s",
				    remote->shown, gai_strerror(err));
	line_up(&race, list);
	err = run(&race, patience);
	for (unsigned i = 0; i < race.started; i++)
		if (race.runner[i].fd >= 0)
			close(race.runner[i].fd);
	freeaddrinfo(list);
	if (err < 0)
		return nr_error_system(error, err, "%s", remote->shown);
	*fd = err;
	return 0;
}

/* ---- programs, descriptors --------------------------------------------- */

static int reach_command(const struct nr_remote *remote, int *fd, pid_t *child)
{
	posix_spawn_file_actions_t actions;
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	err = posix_spawn_file_actions_init(&actions);
	if (!err) {
		err = posix_spawn_file_actions_adddup2(&actions, pair[1], STDIN_FILENO);
		if (!err)
			err = posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
		if (!err)
			err = posix_spawnp(child, remote->command[0], &actions, NULL,
					   remote->command, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	close(pair[1]);
	if (err) {
		*child = 0;
		close(pair[0]);
		return -err;
	}
	*fd = pair[0];
	return 0;
}

static int reach_descriptor(const struct nr_remote *remote, int *fd)
{
	int copy = fcntl(remote->descriptor, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return -errno;
	*fd = copy;
	return 0;
}

static void set_options(const struct nr_remote *remote, int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT,
		  (KEEP_IDLE_S + KEEP_INTERVAL_S * KEEP_COUNT) * 1000 },
	};

	if (remote->kind != NR_REMOTE_TCP && remote->kind != NR_REMOTE_SOCKET)
		return;
	/* On an inherited socket that is not TCP they have no effect. */
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

int nr_reach(const struct nr_remote *remote, const struct nr_patience *patience, int *fd,
	     pid_t *child, struct nr_error *error)
{
	int err;

	*child = 0;
	switch (remote->kind) {
	case NR_REMOTE_UNIX:
		err = reach_unix(remote, patience, fd);
		break;
	case NR_REMOTE_TCP:
		err = reach_tcp(remote, patience, fd, error);
		if (err)
			return err;
		break;
	case NR_REMOTE_VSOCK:
		err = reach_vsock(remote, patience, fd);
		break;
	case NR_REMOTE_SOCKET:
		err = reach_descriptor(remote, fd);
		break;
	case NR_REMOTE_COMMAND:
	default:
		assert(remote->kind == NR_REMOTE_COMMAND);
		err = reach_command(remote, fd, child);
		break;
	}
	if (err)
		return nr_error_system(error, err, "%s", remote->shown);
	set_options(remote, *fd);
	(void)fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_NONBLOCK);
	return 0;
}
