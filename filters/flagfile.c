/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that looks at watched files.  It exists while anything is watched.
 *
 * Two mutexes: `life` is held by whoever begins or ends a watch, so that starting
 * and joining the thread cannot cross; `lock` guards the list and is all the
 * thread takes.  The list of watches is the only state of the process here; what
 * a watch is for is known to its owner alone.
 */
#include "filters/flagfile.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct nr_flagfile {
	struct nr_flagfile *next;
	atomic_bool is_there;
	char path[];
};

static struct {
	pthread_mutex_t life, lock;
	struct nr_flagfile *first; /* with lock */
	bool stop;                 /* with lock */
	pthread_cond_t wake;       /* with lock: `stop` was set; made when the thread is */
	pthread_t thread;          /* with life; runs while `first` is not NULL */
} watches = { .life = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER };

static void look(struct nr_flagfile *file)
{
	atomic_store_explicit(&file->is_there, access(file->path, F_OK) == 0, memory_order_release);
}

static void *keep_looking(void *unused)
{
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&watches.lock);
	while (!watches.stop) {
		for (struct nr_flagfile *file = watches.first; file; file = file->next)
			look(file);
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_nsec += NR_FLAGFILE_INTERVAL_MS * 1000000L;
		if (next.tv_nsec >= 1000000000L) {
			next.tv_nsec -= 1000000000L;
			next.tv_sec++;
		}
		while (!watches.stop &&
		       pthread_cond_timedwait(&watches.wake, &watches.lock, &next) != ETIMEDOUT)
			continue;
	}
	pthread_mutex_unlock(&watches.lock);
	return NULL;
}

/* The server's signals are for its other threads. */
static int start_thread(void)
{
	pthread_condattr_t monotonic;
	sigset_t all, before;
	int err;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	err = pthread_cond_init(&watches.wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (err)
		return -err;
	watches.stop = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&watches.thread, NULL, keep_looking, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		pthread_cond_destroy(&watches.wake);
	return -err;
}

static void stop_thread(void)
{
	pthread_mutex_lock(&watches.lock);
	watches.stop = true;
	pthread_cond_signal(&watches.wake);
	pthread_mutex_unlock(&watches.lock);
	pthread_join(watches.thread, NULL);
	pthread_cond_destroy(&watches.wake);
}

struct nr_flagfile *nr_flagfile_watch(const char *path, struct nr_error *error)
{
	size_t length = strlen(path);
	struct nr_flagfile *file = malloc(sizeof(*file) + length + 1);
	int err = 0;

	if (!file) {
		nr_error_system(error, -ENOMEM, "%s", path);
		return NULL;
	}
	memcpy(file->path, path, length + 1);
	atomic_init(&file->is_there, false);
	look(file);
	pthread_mutex_lock(&watches.life);
	if (!watches.first)
		err = start_thread();
	if (!err) {
		pthread_mutex_lock(&watches.lock);
		file->next = watches.first;
		watches.first = file;
		pthread_mutex_unlock(&watches.lock);
	}
	pthread_mutex_unlock(&watches.life);
	if (err) {
		nr_error_system(error, err, "no thread to watch %s with", path);
		free(file);
		return NULL;
	}
	return file;
}

bool nr_flagfile_set(const struct nr_flagfile *file)
{
	return atomic_load_explicit(&file->is_there, memory_order_acquire);
}

void nr_flagfile_unwatch(struct nr_flagfile *file)
{
	struct nr_flagfile **at = &watches.first;

	if (!file)
		return;
	pthread_mutex_lock(&watches.life);
	pthread_mutex_lock(&watches.lock);
	while (*at != file)
		at = &(*at)->next;
	*at = file->next;
	pthread_mutex_unlock(&watches.lock);
	if (!watches.first)
		stop_thread();
	pthread_mutex_unlock(&watches.life);
	free(file);
}
