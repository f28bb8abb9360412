/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server ends when something happens outside: a file appears or goes, a process
 * ends, a pipe is closed, a script says so.  From then on nobody is let in, and when
 * the last client has left the server stops.
 *
 * One thread looks, from the start of the server to its end, whether or not an export
 * is in use.  The kernel tells it at once about pipes, processes and, where the file
 * system can, files; every so often, and whenever a client comes or goes, it looks at
 * the files and runs the scripts anyway.
 *
 * "It has happened" and "how many clients are in" are of the server, whichever
 * exports they use: one word, in memory that all instances of this use of the filter
 * share.  So nobody can come in between the look at the one and the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/filters.h"
#include "filters/policy-text.h"
#include "filters/script.h"
#include "filters/watcher.h"
#include "nbdring/checked.h"

#define SCRIPT_SAYS_END 88
#define WHY_MAX 256
#define FIXED_FDS 2 /* the watcher's own and inotify's; the pipes and processes follow */

#define HAPPENED ((uint64_t)1 << 63)

/* Of all exports. */
struct server {
	_Atomic uint64_t clients;   /* how many are in, and HAPPENED */
	char why[WHY_MAX];          /* when HAPPENED is set; the watcher's to write */
	struct nr_watcher *watcher; /* NULL: nothing is watched; set at the start */
};

struct exitwhen {
	struct nr_strings created, deleted, pipes, processes, scripts;
	const char *poll_text;
	int poll_ms;
	struct nr_layer *layer;
	struct server *server;
	bool failing; /* the watcher's: the last script could not be run */
	struct nr_watcher watcher;
	struct pollfd *fds;
	unsigned fd_count;
};

/* What has happened. */

static bool has_happened(const struct server *server)
{
	return atomic_load(&server->clients) & HAPPENED;
}

/* The first one counts. */
static void note(struct exitwhen *e, const char *what, const char *value)
{
	struct server *server = e->server;

	if (has_happened(server))
		return;
	(void)snprintf(server->why, sizeof(server->why), "exitwhen: %s=%.*s", what, WHY_MAX - 64,
		       value);
	if (atomic_fetch_or(&server->clients, HAPPENED))
		nr_layer_log(e->layer, NR_LAYER_INFO,
			     "%s=%s: nobody is let in any more; the server stops when the last "
			     "client has left",
			     what, value);
}

/* Cannot be looked at (no permission): nothing is known. */
static bool is_there(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

static bool is_gone(const char *path)
{
	struct stat st;

	return stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* Look at everything but the scripts, without waiting. */
static void look(struct exitwhen *e)
{
	unsigned at = FIXED_FDS;

	for (size_t i = 0; i < e->created.count; i++)
		if (is_there(e->created.item[i]))
			note(e, "exit-when-file-created", e->created.item[i]);
	for (size_t i = 0; i < e->deleted.count; i++)
		if (is_gone(e->deleted.item[i]))
			note(e, "exit-when-file-deleted", e->deleted.item[i]);
	if (e->fd_count == at || poll(e->fds + at, e->fd_count - at, 0) <= 0)
		return;
	for (size_t i = 0; i < e->pipes.count; i++, at++)
		if (e->fds[at].revents)
			note(e, "exit-when-pipe-closed", e->pipes.item[i]);
	for (size_t i = 0; i < e->processes.count; i++, at++)
		if (e->fds[at].revents)
			note(e, "exit-when-process-exits", e->processes.item[i]);
}

/* Said once, until one does what it should again. */
static bool script_failed(struct exitwhen *e, const char *command)
{
	if (!e->failing)
		nr_layer_log(e->layer, NR_LAYER_WARNING,
			     "exit-when-script=%s fails: its exit status is neither 0, go on, nor "
			     "%d, end; it is tried again",
			     command, SCRIPT_SAYS_END);
	e->failing = true;
	return true;
}

/* Run COMMAND; false: the watcher is to end. */
static bool run_script(struct exitwhen *e, const char *command)
{
	struct nr_script script;
	struct pollfd fds[2];
	int status;

	if (nr_script_start(&script, command, NULL, -1))
		return script_failed(e, command); /* next time, perhaps */
	fds[1] = (struct pollfd){ .fd = script.ended, .events = POLLIN };
	do {
		if (!nr_watcher_wait(&e->watcher, fds, 2, -1)) {
			nr_script_kill(&script);
			return false;
		}
	} while (!fds[1].revents);
	status = nr_script_wait(&script);
	if (status != 0 && status != SCRIPT_SAYS_END)
		return script_failed(e, command);
	e->failing = false;
	if (status == SCRIPT_SAYS_END)
		note(e, "exit-when-script", command);
	return true;
}

/* The watcher. */

static void drain(int fd)
{
	char events[4096];

	while (fd >= 0 && read(fd, events, sizeof(events)) > 0)
		;
}

static bool look_and_run(struct exitwhen *e)
{
	drain(e->fds[1].fd);
	look(e);
	for (size_t i = 0; i < e->scripts.count && !has_happened(e->server); i++)
		if (!run_script(e, e->scripts.item[i]))
			return false;
	return !has_happened(e->server);
}

static void watch(struct nr_watcher *watcher)
{
	struct exitwhen *e =
		(struct exitwhen *)((char *)watcher - offsetof(struct exitwhen, watcher));
	bool polls = e->created.count || e->deleted.count || e->scripts.count;

	while (look_and_run(e))
		if (!nr_watcher_wait(watcher, e->fds, e->fd_count, polls ? e->poll_ms : -1))
			return;
	if (atomic_load(&e->server->clients) == HAPPENED)
		nr_stop_server(e->layer, e->server->why);
}

/* Clients. */

static int exitwhen_admit(struct nr_layer *layer, struct nr_session *session,
			  struct nr_error *error)
{
	struct server *server = nr_shared_data(layer);
	uint64_t clients = atomic_load(&server->clients);

	do {
		if (clients & HAPPENED)
			return nr_error_set(error, -ESHUTDOWN,
					    "the server is about to end and lets nobody in any "
					    "more");
	} while (!atomic_compare_exchange_weak(&server->clients, &clients, clients + 1));
	if (server->watcher)
		nr_watcher_wake(server->watcher);
	return 0;
}

static void exitwhen_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct server *server = nr_shared_data(layer);

	if (atomic_fetch_sub(&server->clients, 1) == (HAPPENED | 1))
		nr_stop_server(layer, server->why);
	else if (server->watcher)
		nr_watcher_wake(server->watcher);
}

/* Life. */

static bool parse_number(const char *text, unsigned long min, int *number)
{
	char *end;
	unsigned long value;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	*number = (int)value;
	return !errno && !*end && value >= min && value <= INT_MAX;
}

static int check_numbers(const struct nr_strings *list, const char *parameter, unsigned long min,
			 struct nr_error *error)
{
	int number;

	for (size_t i = 0; i < list->count; i++)
		if (!parse_number(list->item[i], min, &number))
			return nr_error_set(error, -EINVAL,
					    "%s=%.64s is not possible: it is a number, %lu to %d",
					    parameter, list->item[i], min, INT_MAX);
	return 0;
}

static int exitwhen_check(struct nr_layer *layer, struct nr_error *error)
{
	struct exitwhen *e = layer->instance;
	uint64_t interval;
	int err;

	if (!nr_policy_time(e->poll_text, &interval) || interval < 1000000 ||
	    interval / 1000000 > INT_MAX)
		return nr_error_set(error, -EINVAL,
				    "exit-when-poll=%s is not possible: it is a number of seconds, "
				    "0.001 to %d",
				    e->poll_text, INT_MAX / 1000);
	e->poll_ms = (int)(interval / 1000000);
	err = check_numbers(&e->pipes, "exit-when-pipe-closed", 0, error);
	return err ? err : check_numbers(&e->processes, "exit-when-process-exits", 1, error);
}

/* What file systems do not tell is found by looking now and then. */
static void follow_folders(int inotify, const struct nr_strings *paths)
{
	for (size_t i = 0; i < paths->count; i++) {
		const char *slash = strrchr(paths->item[i], '/');
		size_t length =
			slash && slash > paths->item[i] ? (size_t)(slash - paths->item[i]) : 1;
		char *folder = strndup(paths->item[i], length);

		if (folder)
			(void)inotify_add_watch(inotify, folder,
						IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF |
							IN_MOVE_SELF | IN_ONLYDIR);
		free(folder);
	}
}

/* Descriptors that are ours: all but the watcher's and the pipes. */
static void close_fds(struct exitwhen *e)
{
	if (!e->fds)
		return;
	if (e->fds[1].fd >= 0)
		(void)close(e->fds[1].fd);
	for (unsigned i = FIXED_FDS + (unsigned)e->pipes.count; i < e->fd_count; i++)
		(void)close(e->fds[i].fd);
	free(e->fds);
	e->fds = NULL;
}

static int open_fds(struct exitwhen *e, struct nr_error *error)
{
	int fd = -1;

	e->fds = calloc(FIXED_FDS + e->pipes.count + e->processes.count, sizeof(*e->fds));
	if (!e->fds)
		return nr_error_system(error, -ENOMEM, "no memory to watch");
	e->fds[0].fd = -1;
	e->fds[1].fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	e->fds[1].events = POLLIN;
	e->fd_count = FIXED_FDS;
	follow_folders(e->fds[1].fd, &e->created);
	follow_folders(e->fds[1].fd, &e->deleted);
	for (size_t i = 0; i < e->pipes.count; i++) {
		(void)parse_number(e->pipes.item[i], 0, &fd);
		if (fcntl(fd, F_GETFD) < 0)
			return nr_error_set(error, -EBADF,
					    "exit-when-pipe-closed=%s: the server was started "
					    "without a descriptor of that number",
					    e->pipes.item[i]);
		e->fds[e->fd_count++] = (struct pollfd){ .fd = fd, .events = POLLRDHUP };
	}
	for (size_t i = 0; i < e->processes.count; i++) {
		(void)parse_number(e->processes.item[i], 1, &fd);
		fd = pidfd_open(fd, 0);
		if (fd < 0 && errno != ESRCH)
			return nr_error_system(error, -errno, "exit-when-process-exits=%s",
					       e->processes.item[i]);
		if (fd < 0)
			note(e, "exit-when-process-exits", e->processes.item[i]);
		e->fds[e->fd_count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	return 0;
}

static int exitwhen_start(struct nr_layer *layer, struct nr_error *error)
{
	struct exitwhen *e = layer->instance;
	int err;

	e->layer = layer;
	e->server = nr_shared_data(layer);
	if (!e->created.count && !e->deleted.count && !e->pipes.count && !e->processes.count &&
	    !e->scripts.count)
		return 0;
	err = open_fds(e, error);
	if (!err) {
		look(e); /* before the first client can come */
		err = nr_watcher_start(&e->watcher, watch, error);
	}
	if (err)
		close_fds(e);
	else
		e->server->watcher = &e->watcher;
	return err;
}

static void exitwhen_stop(struct nr_layer *layer)
{
	struct exitwhen *e = layer->instance;

	if (e->server->watcher)
		nr_watcher_stop(&e->watcher);
	close_fds(e);
}

static const struct nr_param exitwhen_params[] = {
	{
		.name = "exit-when-file-created",
		.type = NR_PARAM_PATHS,
		.offset = offsetof(struct exitwhen, created),
		.value = "PATH",
		.help = "end when there is such a file",
		.manual = "End when there is such a file.  If there is one already, the server "
			  "ends as soon as it has started.",
	},
	{
		.name = "exit-when-file-deleted",
		.type = NR_PARAM_PATHS,
		.offset = offsetof(struct exitwhen, deleted),
		.value = "PATH",
		.help = "end when there is no such file",
		.manual = "End when there is no such file.",
	},
	{
		.name = "exit-when-pipe-closed",
		.type = NR_PARAM_LIST,
		.offset = offsetof(struct exitwhen, pipes),
		.value = "FD",
		.help = "end when the other end of this pipe or socket is closed",
		.manual = "The reading end of a pipe, or one end of a connected socket, as a "
			  "descriptor that the server was started with.  End when nobody has the "
			  "other end any more.  Nothing is read from it.",
	},
	{
		.name = "exit-when-process-exits",
		.type = NR_PARAM_LIST,
		.offset = offsetof(struct exitwhen, processes),
		.value = "PID",
		.help = "end when this process has ended",
		.manual = "End when this process has ended.  It need not be a child of the "
			  "server.",
	},
	{
		.name = "exit-when-script",
		.type = NR_PARAM_LIST,
		.flags = NR_PARAM_COMMAND,
		.offset = offsetof(struct exitwhen, scripts),
		.value = "COMMAND",
		.help = "end when this command ends with status 88",
		.manual = "A command for the shell, run every now and then (see "
			  "B<exit-when-poll=>) and when a client comes or goes.  End when its "
			  "exit status is 88; any other means to go on, and 0 is the one to use.",
	},
	{
		.name = "exit-when-poll",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct exitwhen, poll_text),
		.fallback = "60",
		.value = "SECONDS",
		.help = "how often scripts are run",
		.manual = "How often scripts are run.  So often the server also looks at files, "
			  "if the file system does not tell about them (network file systems do "
			  "not); otherwise it notices at once.",
	},
	{ 0 },
};

const struct nr_layer_type nr_exitwhen_type = {
	.abi = NR_LAYER_ABI,
	.name = "exitwhen",
	.summary = "ends the server when a file, pipe, process or script says so",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = exitwhen_params,
	.instance_size = sizeof(struct exitwhen),
	.shared_size = sizeof(struct server),
	.check = exitwhen_check,
	.start = exitwhen_start,
	.stop = exitwhen_stop,
	.admit = exitwhen_admit,
	.leave = exitwhen_leave,
};
