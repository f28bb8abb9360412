/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One thread per socket, woken by what clients send and by the last request that
 * leaves a closed gate.  Only that thread touches the clients.  `paused` is changed
 * under the mutex, which also guards the requests that wait; while the gate is open
 * no request takes it.
 */
#include "filters/pause-control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 16

struct client {
	int fd;       /* -1: a free place */
	bool pausing; /* waits for its P; nothing more is read until then */
};

struct nr_pause_control {
	struct nr_pause_control *next;
	unsigned users;
	char *path;
	int listener, wake;
	pthread_t thread;
	atomic_bool stopping;
	struct client client[CLIENTS_MAX];
	_Atomic uint64_t inside;
	atomic_bool paused;
	pthread_mutex_t mutex;
	const struct nr_layer *speaker;  /* with the mutex; NULL: it is gone */
	struct nr_paused *first, **last; /* those who wait, in order */
};

/* All of the process: filters that name the same socket mean the same gate. */
static pthread_mutex_t controls_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct nr_pause_control *controls;

static void wake_thread(struct nr_pause_control *c)
{
	uint64_t one = 1;

	/* Full means that it is awake anyway. */
	if (write(c->wake, &one, sizeof(one)) < 0)
		return;
}

/* The gate. */

bool nr_pause_control_enter(struct nr_pause_control *c, struct nr_paused *paused,
			    struct nr_layer *layer, struct nr_request *req)
{
	bool wait;

	do {
		atomic_fetch_add(&c->inside, 1);
		if (!atomic_load(&c->paused))
			return true;
		nr_pause_control_leave(c);
		pthread_mutex_lock(&c->mutex);
		wait = atomic_load(&c->paused);
		if (wait) {
			*paused = (struct nr_paused){ layer, req, NULL };
			*c->last = paused;
			c->last = &paused->next;
		}
		pthread_mutex_unlock(&c->mutex);
	} while (!wait);
	return false;
}

void nr_pause_control_leave(struct nr_pause_control *c)
{
	if (atomic_fetch_sub(&c->inside, 1) == 1 && atomic_load(&c->paused))
		wake_thread(c);
}

/* Under the mutex, so that the speaker stays. */
static void say(struct nr_pause_control *c, const char *what)
{
	if (c->speaker)
		nr_layer_log(c->speaker, NR_LAYER_INFO, "%s by %s", what, c->path);
}

static void close_gate(struct nr_pause_control *c)
{
	pthread_mutex_lock(&c->mutex);
	if (!atomic_load(&c->paused))
		say(c, "paused");
	atomic_store(&c->paused, true);
	pthread_mutex_unlock(&c->mutex);
}

static void open_gate(struct nr_pause_control *c)
{
	struct nr_paused *waiting;

	pthread_mutex_lock(&c->mutex);
	if (atomic_load(&c->paused))
		say(c, "resumed");
	atomic_store(&c->paused, false);
	waiting = c->first;
	c->first = NULL;
	c->last = &c->first;
	pthread_mutex_unlock(&c->mutex);
	while (waiting) {
		struct nr_paused *next = waiting->next; /* gone once it is resumed */

		nr_resume(waiting->layer, waiting->req);
		waiting = next;
	}
}

/* Clients; the thread's alone. */

static void drop(struct client *client)
{
	close(client->fd);
	client->fd = -1;
}

static void answer(struct client *client, char letter)
{
	client->pausing = false;
	/* One that does not take its answers is no loss. */
	if (send(client->fd, &letter, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		drop(client);
}

static void answer_pausing(struct nr_pause_control *c, char letter)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (c->client[i].fd >= 0 && c->client[i].pausing)
			answer(&c->client[i], letter);
}

static void command(struct nr_pause_control *c, struct client *client, char letter)
{
	switch (letter) {
	case 'p':
		close_gate(c);
		client->pausing = true;
		break;
	case 'r':
		open_gate(c);
		answer_pausing(c, 'X');
		answer(client, 'R');
		break;
	case '\n':
	case '\r':
	case '\t':
	case ' ':
		break;
	default:
		answer(client, 'X');
		break;
	}
}

static void serve_client(struct nr_pause_control *c, struct client *client, short events)
{
	char letter;

	while (!client->pausing && client->fd >= 0 && (events & (POLLIN | POLLHUP))) {
		ssize_t n = recv(client->fd, &letter, 1, MSG_DONTWAIT);

		if (n == 1)
			command(c, client, letter);
		else if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		else
			drop(client);
	}
	/* Gone without waiting for its answer; the pause stays. */
	if (client->fd >= 0 && (events & (POLLHUP | POLLERR)))
		drop(client);
}

static void accept_client(struct nr_pause_control *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (unsigned i = 0; i < CLIENTS_MAX && fd >= 0; i++) {
		if (c->client[i].fd >= 0)
			continue;
		c->client[i] = (struct client){ .fd = fd };
		fd = -1;
	}
	if (fd >= 0)
		close(fd);
}

static void *serve(void *argument)
{
	struct nr_pause_control *c = argument;

	while (!atomic_load(&c->stopping)) {
		struct pollfd fd[2 + CLIENTS_MAX] = { { c->listener, POLLIN, 0 },
						      { c->wake, POLLIN, 0 } };
		uint64_t count;

		for (unsigned i = 0; i < CLIENTS_MAX; i++)
			fd[2 + i] = (struct pollfd){ c->client[i].fd,
						     c->client[i].pausing ? 0 : POLLIN, 0 };
		if (poll(fd, 2 + CLIENTS_MAX, -1) < 0)
			continue;
		if (fd[1].revents && read(c->wake, &count, sizeof(count)) < 0)
			continue;
		for (unsigned i = 0; i < CLIENTS_MAX; i++)
			if (c->client[i].fd >= 0 && fd[2 + i].revents)
				serve_client(c, &c->client[i], fd[2 + i].revents);
		if (atomic_load(&c->paused) && atomic_load(&c->inside) == 0)
			answer_pausing(c, 'P');
		if (fd[0].revents)
			accept_client(c);
	}
	return NULL;
}

/* Life. */

/* A socket that a server left behind, which nobody listens to any more. */
static bool is_stale(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool stale;

	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
		errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int listen_at(const char *path, struct nr_error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(path);
	int fd, err;

	if (length >= sizeof(address.sun_path)) {
		nr_error_set(error, -ENAMETOOLONG,
			     "pause-control: %.100s… has %zu bytes, the path of a socket can have "
			     "%zu",
			     path, length, sizeof(address.sun_path) - 1);
		return -1;
	}
	memcpy(address.sun_path, path, length);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = fd < 0 ? -errno : 0;
	if (!err && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		err = -errno;
		if (err == -EADDRINUSE && is_stale(&address) && unlink(path) == 0)
			err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno
											 : 0;
	}
	if (!err && listen(fd, CLIENTS_MAX) < 0) {
		err = -errno;
		unlink(path);
	}
	if (!err)
		return fd;
	if (fd >= 0)
		close(fd);
	nr_error_system(error, err, "pause-control: %s", path);
	return -1;
}

static int start_thread(struct nr_pause_control *c)
{
	sigset_t all, before;
	int err;

	/* Signals are for the server's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&c->thread, NULL, serve, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

static void free_control(struct nr_pause_control *c)
{
	if (c->listener >= 0) {
		unlink(c->path);
		close(c->listener);
	}
	if (c->wake >= 0)
		close(c->wake);
	pthread_mutex_destroy(&c->mutex);
	free(c->path);
	free(c);
}

static struct nr_pause_control *new_control(const char *path, const struct nr_layer *layer,
					    struct nr_error *error)
{
	struct nr_pause_control *c = calloc(1, sizeof(*c));
	int err;

	if (!c) {
		nr_error_system(error, -ENOMEM, "pause-control: %s", path);
		return NULL;
	}
	c->last = &c->first;
	c->speaker = layer;
	c->listener = -1;
	pthread_mutex_init(&c->mutex, NULL);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		c->client[i].fd = -1;
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = c->wake < 0 ? -errno : 0;
	c->path = strdup(path);
	if (!err && !c->path)
		err = -ENOMEM;
	if (!err) {
		c->listener = listen_at(path, error);
		if (c->listener >= 0) {
			err = start_thread(c);
			if (!err)
				return c;
		}
	}
	if (err)
		nr_error_system(error, err, "pause-control: %s", path);
	free_control(c);
	return NULL;
}

struct nr_pause_control *nr_pause_control_get(const char *path, const struct nr_layer *layer,
					      struct nr_error *error)
{
	struct nr_pause_control *c;

	pthread_mutex_lock(&controls_mutex);
	for (c = controls; c && strcmp(c->path, path) != 0; c = c->next)
		;
	if (!c) {
		c = new_control(path, layer, error);
		if (c) {
			c->next = controls;
			controls = c;
		}
	}
	if (c)
		c->users++;
	pthread_mutex_unlock(&controls_mutex);
	return c;
}

void nr_pause_control_put(struct nr_pause_control *control, const struct nr_layer *layer)
{
	struct nr_pause_control **at = &controls;

	pthread_mutex_lock(&controls_mutex);
	pthread_mutex_lock(&control->mutex);
	if (control->speaker == layer)
		control->speaker = NULL;
	pthread_mutex_unlock(&control->mutex);
	if (--control->users == 0) {
		while (*at != control)
			at = &(*at)->next;
		*at = control->next;
		atomic_store(&control->stopping, true);
		wake_thread(control);
		pthread_join(control->thread, NULL);
		for (unsigned i = 0; i < CLIENTS_MAX; i++)
			if (control->client[i].fd >= 0)
				close(control->client[i].fd);
		free_control(control);
	}
	pthread_mutex_unlock(&controls_mutex);
}
