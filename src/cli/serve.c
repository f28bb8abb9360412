/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a server process.
 *
 * The order matters.  What the command line got wrong is found first, then
 * addresses that cannot be had, both while the terminal is there.  Then comes the
 * fork to the background, and only after it threads and rings are made, because
 * neither survives a fork.  Rights go in steps: sockets, rings and the pid file are made
 * with those of the start, disks are opened with those of the user that is to serve them
 * (privileges.h) and within the sandbox (sandbox.h), and before anybody is told that the
 * server is ready, all that is left is what serving takes.
 *
 * Ready means that clients can connect: then the pid file appears, the service manager is
 * told, and the command that was typed returns.
 *
 * Signals are blocked everywhere, the main thread reads them from a descriptor.
 * The first request to end lets requests under way finish; the second one, if it
 * is not just an echo of the first, ends the process at once.
 *
 * Main thread.
 */
#include "src/cli/serve.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/cli/access.h"
#include "src/cli/daemon.h"
#include "src/cli/label.h"
#include "src/cli/listen.h"
#include "src/cli/notify.h"
#include "src/cli/pidfile.h"
#include "src/cli/privileges.h"
#include "src/cli/pump.h"
#include "src/cli/run.h"
#include "src/cli/sandbox.h"
#include "src/cli/secrets.h"
#include "src/cli/swap.h"
#include "src/cli/tls.h"
#include "src/log/log.h"
#include "src/server/server.h"

#define PUMP_GRACE_SECONDS 10
#define STATUS_MS 10000 /* how often the service manager hears of changes */

struct serving {
	const struct nr_options *options;
	const struct nr_plan *plan;
	struct nr_sockets listeners;
	struct nr_pidfile pidfile;
	struct nr_pump *pump;
	struct nr_tls_use tls;
	struct nr_server *server;
	struct nr_access *access; /* from the start until the server has it */
	struct nr_identity identity;
	struct nr_sandbox sandbox;
	struct nr_notify notify;
	struct nr_run run; /* --run */
	pid_t parent;      /* when we were started */
	bool started;
	bool stopping;
	bool ignores_hangup;      /* started by nohup */
	bool must_encrypt;        /* clients must: the addresses that they are told say so */
	int signals;              /* signalfd */
	unsigned long open_files; /* the soft limit we found, if it was raised; else 0 */
	pid_t command;            /* --run; 0: none, or ended */
	bool command_warned;      /* it was sent SIGTERM */
	int status;               /* exit status */
};

/* Before anything runs. */

static void raise_open_files(struct serving *s)
{
	struct rlimit limit;
	rlim_t found;

	/* Each client is a descriptor; the low soft limit is for select(2)'s sake. */
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	found = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		s->open_files = found;
}

static int open_signals(struct serving *s, struct nr_error *error)
{
	static const int ours[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD };
	struct sigaction hangup;
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	/* Ignored by an inattentive parent, it would keep us from waiting for --run. */
	signal(SIGCHLD, SIG_DFL);
	sigaction(SIGHUP, NULL, &hangup);
	s->ignores_hangup = hangup.sa_handler == SIG_IGN;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		sigaddset(&set, ours[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? nr_error_system(error, -errno, "signals") : 0;
}

/* Asked for anew whenever the user changes: the kernel forgets it then. */
static int follow_parent(const struct serving *s, struct nr_error *error)
{
	if (!s->options->exit_with_parent)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return nr_error_system(error, -errno, "--exit-with-parent");
	/* It may have ended before we asked. */
	if (getppid() != s->parent)
		return nr_error_set(error, -ESRCH, "--exit-with-parent: the parent has ended");
	return 0;
}

/* The listeners are open. */
static bool in_background(const struct serving *s)
{
	const struct nr_options *options = s->options;

	return !options->foreground && !options->run && !options->single &&
	       !options->exit_with_parent && !s->listeners.activated;
}

static int open_log(const struct nr_options *options, struct nr_error *error)
{
	const char *target = options->log ? options->log : "default";
	int err = nr_log_open(target, options->verbose);

	if (err)
		nr_error_system(error, err, "--log=%s", target);
	return err;
}

static unsigned count_workers(const struct nr_options *options)
{
	cpu_set_t cpus;
	int count;

	if (options->workers)
		return options->workers;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && (count = CPU_COUNT(&cpus)) > 0)
		return (unsigned)count;
	return 1;
}

static void log_plan(const struct nr_plan *plan)
{
	for (size_t i = plan->layer_count; i-- > 0;) {
		const struct nr_plan_layer *layer = &plan->layers[i];

		nr_log(NR_LOG_DEBUG, NR_LOG_SERVER, "plan: %s", layer->type->name);
		for (size_t j = 0; j < layer->setting_count; j++)
			nr_log(NR_LOG_DEBUG, NR_LOG_SERVER, "plan:   %s=%s",
			       layer->settings[j].name,
			       nr_secret_is(layer->type, layer->settings[j].name)
				       ? "(a secret)"
				       : layer->settings[j].value);
	}
}

static int check_plan(const struct serving *s, struct nr_error *error)
{
	struct nr_stack *prepared;
	int err = nr_stack_prepare(&prepared, s->plan, error);

	if (err)
		return err;
	nr_stack_discard(prepared);
	if (s->options->debug_plan)
		log_plan(s->plan);
	return 0;
}

static int open_sockets(struct serving *s, struct nr_error *error)
{
	const char *label = s->options->selinux_label;
	int err = label ? nr_label_sockets(label, error) : 0;

	if (!err)
		err = nr_sockets_open(&s->listeners, s->options, error);
	if (label)
		nr_label_sockets(NULL, error);
	return err;
}

/* Giving rights up. */

/* Rules are read again, and users in them are looked up. */
static int name_access_files(struct serving *s, struct nr_error *error)
{
	static const char *const users[] = { "/etc/passwd", "/etc/group", "/etc/nsswitch.conf" };
	int err = nr_sandbox_add(&s->sandbox, s->options->access_file,
				 NR_REACH_READ | NR_REACH_FOLDER, error);

	for (size_t i = 0; !err && s->access && i < sizeof(users) / sizeof(users[0]); i++)
		err = nr_sandbox_add(&s->sandbox, users[i], NR_REACH_READ, error);
	return err;
}

/* What is opened, made or removed while it serves, beside what the layers name. */
static int name_own_files(struct serving *s, struct nr_error *error)
{
	struct nr_sandbox *sandbox = &s->sandbox;
	int err = nr_sandbox_add(sandbox, s->options->pid_file,
				 NR_REACH_MAKE | NR_REACH_REMOVE | NR_REACH_FOLDER, error);

	if (!err)
		err = nr_sandbox_add(sandbox, s->options->log,
				     NR_REACH_WRITE | NR_REACH_MAKE | NR_REACH_FOLDER, error);
	if (!err)
		err = name_access_files(s, error);
	if (!err)
		err = nr_sandbox_add(sandbox, s->tls.folder, NR_REACH_READ, error);
	if (!err)
		err = nr_sandbox_add(sandbox, s->options->tls_psk, NR_REACH_READ | NR_REACH_FOLDER,
				     error);
	for (size_t i = 0; !err && i < s->listeners.count; i++) {
		const struct nr_socket *listener = &s->listeners.item[i];

		/* No file, or not ours to remove. */
		if (!listener->inode)
			continue;
		err = nr_sandbox_add(sandbox, listener->path, NR_REACH_REMOVE | NR_REACH_FOLDER,
				     error);
		if (!err)
			err = nr_sandbox_add(sandbox, listener->folder,
					     NR_REACH_RMDIR | NR_REACH_FOLDER, error);
	}
	return err;
}

/* Rings and their memory are there, and nothing of the layers is. */
static int settle(void *context, struct nr_error *error)
{
	struct serving *s = context;
	int err = nr_pidfile_prepare(&s->pidfile, s->options->pid_file, error);

	if (!err && s->options->swap)
		err = nr_swap_lock_memory(s->identity.wanted, error);
	if (!err)
		err = name_own_files(s, error);
	s->sandbox.commands = s->options->run;
	s->sandbox.abstract_sockets = nr_notify_is_abstract(&s->notify);
	if (!err)
		err = nr_sandbox_enter(&s->sandbox, error);
	if (!err)
		err = nr_identity_act(&s->identity, error);
	return err;
}

/* All is open.  The last thing that takes the rights of the start is the pid file. */
static int give_up_rights(struct serving *s, struct nr_error *error)
{
	int err = nr_identity_suspend(&s->identity, error);

	if (!err)
		err = nr_pidfile_publish(&s->pidfile, s->options->pid_file, error);
	if (!err)
		err = nr_identity_assume(&s->identity, error);
	return err ? err : follow_parent(s, error);
}

/* The server itself. */

static int give_listeners(struct serving *s, struct nr_error *error)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->listeners.count; i++) {
		struct nr_socket *listener = &s->listeners.item[i];
		char *text = nr_socket_describe(listener, s->must_encrypt);
		int fd = listener->fd;

		listener->fd = -1;
		err = nr_server_listen(s->server, fd, text ? text : "a listener", error);
		free(text);
	}
	return err;
}

static int start_server(struct serving *s, struct nr_error *error)
{
	const struct nr_options *options = s->options;
	const struct nr_server_config config = {
		.plan = s->plan,
		.handshake = {
			.oldstyle = options->oldstyle,
			.tls = options->oldstyle ? NR_TLS_OFF : (enum nr_tls_mode)options->tls,
			.flags_mask = (uint16_t)options->handshake_mask,
			.no_structured = options->no_structured,
			.no_contexts = options->no_contexts,
		},
		.tls = s->tls.store,
		.workers = s->plan->worker_count,
		.spin_ns = options->spin * 1000u,
		.single = options->single,
		.settle = settle,
		.settle_context = s,
		.limits = {
			.clients = options->max_connections,
			.clients_wait = options->max_connections_wait,
			.handshakes = options->max_handshakes,
			.per_peer = options->max_per_peer,
			.per_export = options->max_per_export,
		},
		.keepalive = { options->keepalive[0], options->keepalive[1], options->keepalive[2] },
		.handshake_seconds = options->handshake_seconds ? options->handshake_seconds
								: NR_HANDSHAKE_UNLIMITED,
		.exit_last = options->exit_last,
	};
	int fd, err;

	err = nr_server_create(&s->server, &config, error);
	if (err)
		return err;
	nr_server_set_access(s->server, s->access);
	err = give_listeners(s, error);
	if (err)
		return err;
	err = nr_server_start(s->server, error);
	if (err)
		return err;
	s->started = true;
	if (!options->single)
		return 0;
	err = nr_pump_open(&s->pump, &fd, error);
	return err ? err : nr_server_serve(s->server, fd, error);
}

/* Threads inherit the mask: nothing but the main thread is ever interrupted. */
static int start_undisturbed(struct serving *s, struct nr_error *error)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = start_server(s, error);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

/* Say where clients find us: to whoever asked, and where nobody can know it. */
static void announce(const struct serving *s)
{
	for (size_t i = 0; i < s->listeners.count; i++) {
		const struct nr_socket *listener = &s->listeners.item[i];
		const char *label = listener->label;
		char *uri;

		if (listener->extra)
			continue;
		uri = nr_socket_uri(listener, s->options->export_name, s->must_encrypt);
		if (!uri)
			continue;
		if (s->options->print_uri)
			printf("%s\n", uri);
		else
			nr_log(listener->chosen && !s->options->run ? NR_LOG_INFO : NR_LOG_DEBUG,
			       NR_LOG_SERVER, "serving at %s%s%s", uri, label ? ", " : "",
			       label ? label : "");
		free(uri);
	}
	fflush(stdout);
}

static int run_command(struct serving *s, struct nr_error *error)
{
	int err = s->run.pid ? nr_run_go(&s->run, error) : 0;

	if (!err)
		s->command = s->run.pid;
	return err;
}

static void tell_ready(struct serving *s)
{
	if (in_background(s))
		nr_notify_say(&s->notify, "READY=1\nMAINPID=%d", (int)getpid());
	else
		nr_notify_say(&s->notify, "READY=1");
}

static int become_ready(struct serving *s, struct nr_error *error)
{
	const struct nr_options *options = s->options;
	int err = give_up_rights(s, error);

	if (err)
		return err;
	announce(s);
	err = nr_daemon_ready(options->verbose, error);
	if (err)
		return err;
	if (in_background(s) && !options->log)
		nr_log_open("syslog", options->verbose);
	err = run_command(s, error);
	s->sandbox.local_sockets = nr_log_reconnects();
	s->sandbox.opens_later = nr_server_opens_later(s->server);
	if (!err)
		err = nr_sandbox_seal(&s->sandbox, error);
	if (!err)
		tell_ready(s);
	return err;
}

/* The end. */

/*
 * For the handler, which may do next to nothing.  Set before it is armed.
 */
static struct {
	const char *pidfile;
	time_t asked; /* CLOCK_MONOTONIC, seconds */
} hard;

static time_t monotonic_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void hard_exit(int number)
{
	(void)number;
	/* timeout(1) and others send the first signal twice; that is one wish, not two. */
	if (monotonic_seconds() - hard.asked < 2)
		return;
	if (hard.pidfile)
		unlink(hard.pidfile);
	_exit(1);
}

/* From now on a signal that asks to end ends everything at once. */
static void arm_hard_exit(const struct serving *s)
{
	const struct sigaction action = { .sa_handler = hard_exit, .sa_flags = SA_RESTART };
	static const int numbers[] = { SIGTERM, SIGINT, SIGQUIT };
	sigset_t set;

	hard.pidfile = s->pidfile.path;
	hard.asked = monotonic_seconds();
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		sigaction(numbers[i], &action, NULL);
		sigaddset(&set, numbers[i]);
	}
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* The pid file goes last: then whoever waits for it knows that all is written. */
static void remove_pidfile(struct serving *s)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	hard.pidfile = NULL;
	nr_pidfile_remove(&s->pidfile);
}

static void finish(struct serving *s)
{
	nr_notify_say(&s->notify, "STOPPING=1");
	nr_run_forget(&s->run);
	nr_sockets_remove(&s->listeners);
	arm_hard_exit(s);
	if (s->started) {
		nr_server_stop(s->server);
		if (nr_server_wait(s->server) && s->status == 0)
			s->status = 1;
	}
	nr_server_destroy(s->server);
	nr_access_unref(s->access);
	nr_tls_use_free(&s->tls);
	nr_pump_finish(s->pump, PUMP_GRACE_SECONDS);
	remove_pidfile(s);
	nr_sockets_free(&s->listeners);
	nr_sandbox_free(&s->sandbox);
	nr_identity_free(&s->identity);
	nr_notify_close(&s->notify);
	if (s->signals >= 0)
		close(s->signals);
	nr_log_close();
}

/* What happens meanwhile. */

static void take_command_end(struct serving *s)
{
	int status;

	if (!s->command || waitpid(s->command, &status, WNOHANG) != s->command)
		return;
	s->command = 0;
	s->status = nr_run_exit_status(status);
	s->stopping = true;
}

/* Someone asks the server to end. */
static void take_stop(struct serving *s, const struct signalfd_siginfo *signal)
{
	/* Typed at the terminal, it has reached the command too, whose business it is. */
	if (s->command && signal->ssi_code == SI_KERNEL)
		return;
	/* Its end is ours.  Whoever cannot wait for it asks again. */
	if (s->command && !s->command_warned) {
		s->command_warned = true;
		kill(s->command, SIGTERM);
		return;
	}
	if (s->command)
		s->status = 1;
	s->stopping = true;
}

/* What may have changed is looked at again. */
static void reload(struct serving *s)
{
	nr_notify_reloading(&s->notify);
	nr_log_reopen();
	nr_reload_access(s->server, s->options);
	nr_tls_use_reload(&s->tls, s->options);
	nr_notify_say(&s->notify, "READY=1");
}

/* By hand, or by a terminal that has gone. */
static void take_hangup(struct serving *s, const struct signalfd_siginfo *signal)
{
	if (signal->ssi_code == SI_KERNEL) {
		/* A server that is not in the background ends. */
		if (!s->ignores_hangup)
			take_stop(s, signal);
		return;
	}
	reload(s);
}

static void take_signal(struct serving *s, const struct signalfd_siginfo *signal)
{
	switch (signal->ssi_signo) {
	case SIGCHLD:
		take_command_end(s);
		break;
	case SIGHUP:
		take_hangup(s, signal);
		break;
	default:
		take_stop(s, signal);
		break;
	}
}

/*
 * Tell the service manager how we are, every now and then; how long until the next time,
 * milliseconds.  The watchdog hears from us four times in its period, as long as each
 * worker answers within half of it.
 */
static int report(struct serving *s)
{
	uint64_t period_us = s->notify.watchdog_us;

	if (s->notify.fd < 0)
		return -1;
	nr_notify_status(&s->notify, nr_server_count_clients(s->server),
			 nr_server_count_exports(s->server));
	if (!period_us)
		return STATUS_MS;
	if (nr_server_turns(s->server, period_us * 1000 / 2))
		nr_notify_say(&s->notify, "WATCHDOG=1");
	period_us = period_us / 4 + 999; /* rounded up: never a wait of nothing */
	return period_us < STATUS_MS * 1000 ? (int)(period_us / 1000) : STATUS_MS;
}

/*
 * How long to wait for something to happen before --exit-idle is to be looked at, ms;
 * -1: for ever, 0: the server is to end.
 */
static int idle_wait_ms(const struct serving *s)
{
	uint64_t most = (uint64_t)s->options->exit_idle * 1000, empty;

	if (!most)
		return -1;
	empty = nr_server_empty_ns(s->server) / 1000000;
	if (empty >= most)
		return 0;
	return most - empty < 60000 ? (int)(most - empty) : 60000;
}

/* The shorter of two waits for poll(2). */
static int sooner(int one_ms, int other_ms)
{
	if (one_ms < 0 || other_ms < 0)
		return one_ms < 0 ? other_ms : one_ms;
	return one_ms < other_ms ? one_ms : other_ms;
}

static void loop(struct serving *s)
{
	struct pollfd wait[2] = {
		{ .fd = s->signals, .events = POLLIN },
		{ .fd = nr_server_ended_fd(s->server), .events = POLLIN },
	};

	while (!s->stopping) {
		struct signalfd_siginfo signal;
		int wait_ms = idle_wait_ms(s);

		if (!wait_ms) {
			nr_log(NR_LOG_INFO, NR_LOG_SERVER,
			       "stopping: there has been no client for %u seconds",
			       s->options->exit_idle);
			break;
		}
		if (poll(wait, 2, sooner(wait_ms, report(s))) < 0 && errno != EINTR)
			break;
		while (read(s->signals, &signal, sizeof(signal)) == (ssize_t)sizeof(signal))
			take_signal(s, &signal);
		if (wait[1].revents)
			s->stopping = true;
	}
}

/* What is found out before anything is made. */
static int look(struct serving *s, struct nr_error *error)
{
	const struct nr_options *options = s->options;
	int err = nr_identity_find(&s->identity, options->user, options->group, error);

	if (!err)
		err = check_plan(s, error);
	if (!err)
		err = nr_sandbox_init(&s->sandbox, options->sandbox, s->plan, error);
	return err;
}

static int start(struct serving *s, struct nr_error *error)
{
	const struct nr_options *options = s->options;
	int err;

	raise_open_files(s);
	err = open_signals(s, error);
	if (!err)
		err = open_log(options, error);
	if (err)
		return err;
	nr_notify_open(&s->notify);
	err = follow_parent(s, error);
	if (!err)
		err = look(s, error);
	if (!err)
		err = nr_read_access(&s->access, options, error);
	if (!err)
		err = nr_tls_use_load(&s->tls, options, error);
	if (!err)
		err = open_sockets(s, error);
	if (!err && in_background(s))
		err = nr_daemon_fork(error);
	if (!err && options->run)
		err = nr_run_prepare(&s->run, options->run, &s->listeners, options->export_name,
				     s->must_encrypt, s->open_files, error);
	if (!err)
		err = start_undisturbed(s, error);
	if (!err)
		err = become_ready(s, error);
	return err;
}

/* The start has failed.  What it has made is removed with the rights it was made with. */
static void give_up(struct serving *s, const struct nr_error *why)
{
	struct nr_error ignored;

	nr_identity_suspend(&s->identity, &ignored);
	nr_notify_say(&s->notify, "STATUS=%s\nERRNO=%d", why->text, -why->code);
}

int nr_serve(const struct nr_options *options, struct nr_plan *plan, int *status,
	     struct nr_error *error)
{
	struct serving s = {
		.options = options,
		.plan = plan,
		.must_encrypt = options->tls == NR_TLS_REQUIRED,
		.signals = -1,
		.notify = { .fd = -1 },
		.run = { .go = -1 },
		.parent = getppid(),
	};
	int err;

	plan->read_only = options->read_only;
	plan->worker_count = count_workers(options);
	err = start(&s, error);
	if (err)
		give_up(&s, error);
	else
		loop(&s);
	finish(&s);
	*status = s.status;
	return err;
}
