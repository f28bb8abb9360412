/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client on standard input and output.
 *
 * inetd and clients that start their server hand over one socket as both, which
 * the server can use as it is.  Anything else (two pipes of a shell, ssh's
 * sockets) goes through a socket pair: one thread carries bytes in, another one
 * carries them out.  Two threads because either may have to wait while the other
 * must go on; nothing is made non-blocking, for the descriptors may be shared
 * with other processes.
 *
 * The thread that reads may sit in read(2) for ever when the client stays silent;
 * it is detached and goes with the process.  So the memory they share is not
 * given back before that.
 */
#include "src/cli/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "src/cli/daemon.h"

#define CHUNK_BYTES 65536 /* what a pipe holds */

struct nr_pump {
	int in, out; /* copies of 0 and 1 */
	int near;    /* our end of the socket pair */
	pthread_t writer;
};

static bool write_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, data, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		data += written;
		length -= (size_t)written;
	}
	return true;
}

/* Until the end of FROM, or until TO takes no more. */
static void carry(int from, int to)
{
	char *chunk = malloc(CHUNK_BYTES);

	while (chunk) {
		ssize_t got = read(from, chunk, CHUNK_BYTES);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || !write_all(to, chunk, (size_t)got))
			break;
	}
	free(chunk);
}

static void *carry_in(void *context)
{
	struct nr_pump *pump = context;

	carry(pump->in, pump->near);
	/* The client has no more to say, but replies may be under way. */
	shutdown(pump->near, SHUT_WR);
	return NULL;
}

static void *carry_out(void *context)
{
	struct nr_pump *pump = context;

	carry(pump->near, pump->out);
	/* The other way ends too: nobody answers any more. */
	shutdown(pump->near, SHUT_RDWR);
	close(pump->out);
	return NULL;
}

/* Are 0 and 1 one and the same connected stream socket? */
static bool is_one_socket(void)
{
	struct stat in, out;
	int type = 0, listening = 0;
	socklen_t length = sizeof(type);

	if (fstat(0, &in) < 0 || fstat(1, &out) < 0 || !S_ISSOCK(in.st_mode) ||
	    in.st_dev != out.st_dev || in.st_ino != out.st_ino)
		return false;
	if (getsockopt(0, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM)
		return false;
	length = sizeof(listening);
	return getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0 || !listening;
}

static int start_threads(struct nr_pump *pump)
{
	pthread_t reader;
	int err = pthread_create(&pump->writer, NULL, carry_out, pump);

	if (err)
		return -err;
	err = pthread_create(&reader, NULL, carry_in, pump);
	if (err) {
		shutdown(pump->near, SHUT_RDWR);
		pthread_join(pump->writer, NULL);
		return -err;
	}
	pthread_detach(reader);
	return 0;
}

static int open_pair(struct nr_pump **out, int *fd, struct nr_error *error)
{
	static struct nr_pump pump; /* standard input exists once, and threads may outlive us */
	int ends[2];
	int err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return nr_error_system(error, -errno, "-s: a socket pair");
	pump.near = ends[0];
	pump.in = fcntl(0, F_DUPFD_CLOEXEC, 3);
	pump.out = pump.in < 0 ? -1 : fcntl(1, F_DUPFD_CLOEXEC, 3);
	err = pump.out < 0 ? -errno : start_threads(&pump);
	if (err) {
		close(ends[0]);
		close(ends[1]);
		return nr_error_system(error, err, "-s: standard input and output");
	}
	*out = &pump;
	*fd = ends[1];
	return 0;
}

int nr_pump_open(struct nr_pump **pump, int *fd, struct nr_error *error)
{
	int err;

	*pump = NULL;
	if (is_one_socket()) {
		*fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
		err = *fd < 0 ? nr_error_system(error, -errno, "-s: standard input") : 0;
	} else {
		err = open_pair(pump, fd, error);
	}
	return err ? err : nr_daemon_null_stdio(false, error);
}

void nr_pump_finish(struct nr_pump *pump, unsigned grace_seconds)
{
	struct timespec until;

	if (!pump)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += grace_seconds;
	/* A client that does not take its replies is not waited for any longer. */
	pthread_timedjoin_np(pump->writer, NULL, &until);
}
