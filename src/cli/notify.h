/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Telling the service manager how the server is: ready, reloading, stopping, alive.
 */
#ifndef SRC_CLI_NOTIFY_H
#define SRC_CLI_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct nr_notify {
	int fd; /* -1: nobody is to be told */
	struct sockaddr_un address;
	socklen_t address_length;
	uint64_t watchdog_us; /* killed when nothing is heard for so long; 0: no */
	char status[128];     /* the last one told */
};

/*
 * Find out from the environment whether somebody listens, and take it out of there, so
 * that programs which the server starts do not speak for it.  Main thread, before others.
 */
void nr_notify_open(struct nr_notify *notify);
void nr_notify_close(struct nr_notify *notify);

/* Is it told by a name that any other process could be meant by (an abstract socket)? */
bool nr_notify_is_abstract(const struct nr_notify *notify);

/* Does a manager that kills what is silent expect to hear from this process? */
bool nr_notify_has_watchdog(const struct nr_notify *notify);

/* Lines of VARIABLE=VALUE, printf style.  Does not block; what cannot be told is not. */
void nr_notify_say(const struct nr_notify *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* STATUS=, when it is not what was told last. */
void nr_notify_status(struct nr_notify *notify, unsigned clients, unsigned exports);

/* RELOADING=1, with the time that goes with it; READY=1 is to follow. */
void nr_notify_reloading(const struct nr_notify *notify);

#endif
