/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See watcher.h.  All signals are blocked in the thread: they are for others.
 */
#include "filters/watcher.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void *thread_main(void *context)
{
	struct nr_watcher *watcher = context;

	watcher->run(watcher);
	return NULL;
}

int nr_watcher_start(struct nr_watcher *watcher, void (*run)(struct nr_watcher *watcher),
		     struct nr_error *error)
{
	sigset_t all, before;
	int err;

	watcher->run = run;
	atomic_init(&watcher->ending, false);
	watcher->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watcher->wake < 0)
		return nr_error_system(error, -errno, "no descriptor to wake a thread");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&watcher->thread, NULL, thread_main, watcher);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		(void)close(watcher->wake);
		return nr_error_system(error, -err, "no thread to watch files");
	}
	return 0;
}

bool nr_watcher_wait(struct nr_watcher *watcher, struct pollfd *fds, unsigned count,
		     int milliseconds)
{
	eventfd_t ignored;

	if (atomic_load(&watcher->ending))
		return false;
	fds[0] = (struct pollfd){ .fd = watcher->wake, .events = POLLIN };
	/* Interrupted, or out of memory: it is looked once more, that is all. */
	if (poll(fds, count, milliseconds) > 0 && fds[0].revents)
		(void)eventfd_read(watcher->wake, &ignored);
	return !atomic_load(&watcher->ending);
}

void nr_watcher_wake(struct nr_watcher *watcher)
{
	(void)eventfd_write(watcher->wake, 1);
}

void nr_watcher_stop(struct nr_watcher *watcher)
{
	atomic_store(&watcher->ending, true);
	nr_watcher_wake(watcher);
	pthread_join(watcher->thread, NULL);
	(void)close(watcher->wake);
}
