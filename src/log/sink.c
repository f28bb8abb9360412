/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ends of the log.  A worker that reports a broken client must not wait for
 * whoever reads the log, so nothing here blocks: a pipe or terminal is asked
 * first, files and sockets are opened without blocking, and a line that is not
 * taken is lost (log.c counts it).
 *
 * syslog(3) and sd_journal_send(3) are not used because they wait when the system log is
 * stuck.  The protocol on a local machine is one datagram: "<priority>time name[pid]:
 * text" for the one, fields (journal.c) for the other.
 *
 * One thread at a time (log.c holds a lock), except nr_sink_reopen: it puts the
 * new file in the place of the old descriptor in one step.
 */
#include "src/log/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "src/log/journal.h"

#define JOURNAL_PATH "/run/systemd/journal/socket"

/* The process's, as its standard error is. */
static struct {
	const char *who;
	const char *in_files;
} identity = { "nbdring", "" };

void nr_sink_identify(const char *who, const char *in_files)
{
	identity.who = who;
	identity.in_files = in_files;
}

static int open_file(const char *path)
{
	int fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

	return fd < 0 ? -errno : fd;
}

static int connect_local(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* Takes over FD (-1: not connected for now). */
static int use(struct nr_sink *sink, enum nr_sink_kind kind, const char *path, int fd)
{
	char *copy = strdup(path);

	if (!copy) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	nr_sink_close(sink);
	sink->kind = kind;
	sink->fd = fd;
	sink->path = copy;
	return 0;
}

/* A system log that is not there yet may come; each line looks for it again. */
static int use_local(struct nr_sink *sink, enum nr_sink_kind kind, const char *path)
{
	int fd = connect_local(path);

	tzset();
	if (fd == -ENAMETOOLONG)
		return fd;
	return use(sink, kind, path, fd < 0 ? -1 : fd);
}

int nr_sink_open_syslog(struct nr_sink *sink, const char *path)
{
	return use_local(sink, NR_SINK_SYSLOG, path);
}

int nr_sink_open_journal(struct nr_sink *sink, const char *path)
{
	return use_local(sink, NR_SINK_JOURNAL, path);
}

bool nr_sink_is_stream(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat error;
	char ours[64];

	if (!stream || fstat(STDERR_FILENO, &error) < 0)
		return false;
	snprintf(ours, sizeof(ours), "%ju:%ju", (uintmax_t)error.st_dev, (uintmax_t)error.st_ino);
	return strcmp(stream, ours) == 0;
}

static void use_standard_error(struct nr_sink *sink)
{
	nr_sink_close(sink);
	if (nr_sink_is_stream())
		sink->kind = NR_SINK_STREAM;
}

/* Fields go to the journal itself, where there is one that takes them. */
static int use_default(struct nr_sink *sink)
{
	int err = 0;

	if (nr_sink_is_stream())
		err = nr_sink_open_journal(sink, JOURNAL_PATH);
	if (err || sink->kind != NR_SINK_JOURNAL || sink->fd < 0)
		use_standard_error(sink);
	return 0;
}

static int use_file(struct nr_sink *sink, const char *path)
{
	int fd = open_file(path);

	return fd < 0 ? fd : use(sink, NR_SINK_FILE, path, fd);
}

int nr_sink_open(struct nr_sink *sink, const char *target)
{
	if (target[0] == '/')
		return use_file(sink, target);
	if (strcmp(target, "syslog") == 0)
		return nr_sink_open_syslog(sink, _PATH_LOG);
	if (strcmp(target, "journal") == 0)
		return nr_sink_open_journal(sink, JOURNAL_PATH);
	if (strcmp(target, "default") == 0)
		return use_default(sink);
	if (strcmp(target, "stderr") != 0 && strcmp(target, "null") != 0)
		return -EINVAL;
	use_standard_error(sink);
	if (strcmp(target, "null") == 0)
		sink->kind = NR_SINK_NULL;
	return 0;
}

void nr_sink_close(struct nr_sink *sink)
{
	if (sink->fd >= 0)
		close(sink->fd);
	free(sink->path);
	*sink = (struct nr_sink)NR_SINK_INIT;
}

int nr_sink_reopen(struct nr_sink *sink)
{
	int fd, err = 0;

	if (sink->kind != NR_SINK_FILE)
		return 0;
	fd = open_file(sink->path);
	if (fd < 0)
		return fd;
	if (dup3(fd, sink->fd, O_CLOEXEC) < 0)
		err = -errno;
	close(fd);
	return err;
}

static const char *level_word(enum nr_log_level level)
{
	switch (level) {
	case NR_LOG_ERROR:
		return "error: ";
	case NR_LOG_WARNING:
		return "warning: ";
	case NR_LOG_INFO:
		return "";
	case NR_LOG_DEBUG:
		return "debug: ";
	}
	return "";
}

static bool write_parts(int fd, const char *head, const char *text, size_t length)
{
	struct iovec parts[] = {
		{ .iov_base = (void *)head, .iov_len = strlen(head) },
		{ .iov_base = (void *)text, .iov_len = length },
		{ .iov_base = (void *)"\n", .iov_len = 1 },
	};
	ssize_t written;

	do
		written = writev(fd, parts, 3);
	while (written < 0 && errno == EINTR);
	return written >= 0;
}

/* Standard error is shared with others, so it cannot be made non-blocking. */
static bool stderr_is_ready(void)
{
	struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&ready, 1, 0) == 1 && ready.revents & POLLOUT;
}

static bool write_stderr(enum nr_log_level level, const char *text, size_t length)
{
	char head[128];

	if (!stderr_is_ready())
		return false;
	snprintf(head, sizeof(head), "%s: %s", identity.who, level_word(level));
	return write_parts(STDERR_FILENO, head, text, length);
}

static bool write_file(int fd, enum nr_log_level level, const char *text, size_t length)
{
	struct timespec now;
	struct tm utc;
	char when[32], head[160];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(head, sizeof(head), "%s.%03ldZ %s%s", when, now.tv_nsec / 1000000,
		 identity.in_files, level_word(level));
	return write_parts(fd, head, text, length);
}

static int priority(enum nr_log_level level)
{
	switch (level) {
	case NR_LOG_ERROR:
		return LOG_ERR;
	case NR_LOG_WARNING:
		return LOG_WARNING;
	case NR_LOG_INFO:
		return LOG_INFO;
	case NR_LOG_DEBUG:
		break;
	}
	return LOG_DEBUG;
}

/* The journal takes the priority from the front of the line and knows the program. */
static bool write_stream(enum nr_log_level level, const char *text, size_t length)
{
	char head[128];

	if (!stderr_is_ready())
		return false;
	snprintf(head, sizeof(head), "<%d>%s", priority(level), identity.in_files);
	return write_parts(STDERR_FILENO, head, text, length);
}

/* The month in English whatever the locale, as the format wants it. */
static void syslog_time(char when[32])
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t now = time(NULL);
	struct tm local;

	localtime_r(&now, &local);
	snprintf(when, 32, "%.3s %2d %02d:%02d:%02d", months + (size_t)local.tm_mon * 3,
		 local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec);
}

/* One datagram to the log at sink->path. */
static bool send_local(struct nr_sink *sink, struct iovec *parts, size_t count)
{
	const struct msghdr message = { .msg_iov = parts, .msg_iovlen = count };

	/* A system log that was started again listens on a new socket. */
	for (int attempt = 0; attempt < 2; attempt++) {
		if (sink->fd >= 0 && sendmsg(sink->fd, &message, MSG_NOSIGNAL) >= 0)
			return true;
		if (sink->fd >= 0 && (errno == EAGAIN || errno == ENOBUFS))
			return false;
		if (sink->fd >= 0)
			close(sink->fd);
		sink->fd = connect_local(sink->path);
		if (sink->fd < 0)
			break;
	}
	return false;
}

static bool write_syslog(struct nr_sink *sink, const struct nr_sink_line *line)
{
	char when[32], head[192];
	struct iovec parts[2];

	syslog_time(when);
	snprintf(head, sizeof(head), "<%d>%s %s[%d]: ", LOG_DAEMON | priority(line->level), when,
		 identity.who, (int)getpid());
	parts[0] = (struct iovec){ .iov_base = head, .iov_len = strlen(head) };
	parts[1] = (struct iovec){ .iov_base = (void *)line->text, .iov_len = line->length };
	return send_local(sink, parts, 2);
}

static bool write_journal(struct nr_sink *sink, const struct nr_sink_line *line)
{
	char entry[NR_JOURNAL_BYTES];
	struct iovec whole = {
		.iov_base = entry,
		.iov_len = nr_journal_entry(entry, identity.who, line, priority(line->level)),
	};

	return send_local(sink, &whole, 1);
}

bool nr_sink_write_line(struct nr_sink *sink, const struct nr_sink_line *line)
{
	switch (sink->kind) {
	case NR_SINK_STDERR:
		return write_stderr(line->level, line->text, line->length);
	case NR_SINK_STREAM:
		return write_stream(line->level, line->text, line->length);
	case NR_SINK_FILE:
		return write_file(sink->fd, line->level, line->text, line->length);
	case NR_SINK_SYSLOG:
		return write_syslog(sink, line);
	case NR_SINK_JOURNAL:
		return write_journal(sink, line);
	case NR_SINK_NULL:
		break;
	}
	return true;
}

bool nr_sink_write(struct nr_sink *sink, enum nr_log_level level, const char *text, size_t length)
{
	const struct nr_sink_line line = { .level = level, .text = text, .length = length };

	return nr_sink_write_line(sink, &line);
}
