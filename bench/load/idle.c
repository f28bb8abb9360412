/*
 * Idle mode: whoever measures a server's memory per connection reads it before and after
 * the line "ready N". When the server takes no more, N is how far it got, the reason goes
 * to standard error, and the ones that are open are held all the same.
 *
 * At the end "alive N" tells how many the server still held.
 */
#include "bench/load/idle.h"

#include "bench/load/client.h"
#include "bench/common/ringsetup.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned open_all(struct client *clients, const struct options *o, const struct target *t)
{
	struct client_error error;

	for (unsigned i = 0; i < o->idle; i++) {
		if (!client_open(&clients[i], i, t, o, &error)) {
			warnx("connection %u: %s", i, error.text);
			return i;
		}
		if (o->idle_warm &&
		    !client_read_once(&clients[i], o->range_offset, o->block_size, &error)) {
			warnx("connection %u: %s", i, error.text);
			close(clients[i].fd);
			return i;
		}
	}
	return o->idle;
}

/* Until standard input ends or the time is over. */
static void hold(double seconds)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	int limit = seconds > 0 && seconds < 2e6 ? (int)(seconds * 1000) : -1;
	char sink[256];

	while (poll(&in, 1, limit) != 0) {
		ssize_t n = read(STDIN_FILENO, sink, sizeof(sink));

		if (n == 0 || (n < 0 && errno != EINTR))
			return;
	}
}

static unsigned count_alive(const struct client *clients, unsigned opened)
{
	unsigned alive = 0;

	for (unsigned i = 0; i < opened; i++) {
		char byte;
		ssize_t n = recv(clients[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			alive++;
	}
	return alive;
}

int idle_run(const struct options *o, const struct target *t)
{
	struct client *clients = calloc(o->idle, sizeof(*clients));
	unsigned opened, alive;

	if (!clients)
		err(1, "%u connections", o->idle);
	raise_file_limit();
	opened = open_all(clients, o, t);
	printf("ready %u\n", opened);
	fflush(stdout);
	hold(o->seconds);
	alive = count_alive(clients, opened);
	printf("alive %u\n", alive);
	for (unsigned i = 0; i < opened; i++)
		client_close(&clients[i]);
	free(clients);
	return opened == o->idle && alive == opened ? 0 : 1;
}
