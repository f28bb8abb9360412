/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol of sd_notify(3): datagrams of text on the Unix socket that NOTIFY_SOCKET
 * names.
 *
 * Spoken here rather than by libsystemd, whose function makes a socket for each message:
 * the sandbox takes the making of sockets away, and what is needed is one sendto on a
 * socket that was made in time.
 *
 * Main thread.
 */
#include "src/cli/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/log/log.h"
#include "src/stack/params.h"

/* "/path" or "@abstract"; others (vsock:…) are for managers of whole machines. */
static bool make_address(struct nr_notify *notify, const char *name)
{
	size_t length = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || length < 2 ||
	    length >= sizeof(notify->address.sun_path))
		return false;
	notify->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(notify->address.sun_path, name, length);
	if (name[0] == '@')
		notify->address.sun_path[0] = '\0';
	notify->address_length =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '/'));
	return true;
}

static uint64_t watchdog_period(void)
{
	const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t microseconds, number;

	if (!period || nr_parse_uint(period, &microseconds))
		return 0;
	/* Meant for somebody else who passed the environment on. */
	if (pid && (nr_parse_uint(pid, &number) || number != (uint64_t)getpid()))
		return 0;
	return microseconds;
}

void nr_notify_open(struct nr_notify *notify)
{
	const char *name = getenv("NOTIFY_SOCKET");

	*notify = (struct nr_notify){ .fd = -1 };
	if (name && make_address(notify, name))
		notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (name && notify->fd < 0)
		nr_log(NR_LOG_WARNING, NR_LOG_SERVER,
		       "the service manager will not hear from here: NOTIFY_SOCKET=%s is no Unix "
		       "socket",
		       name);
	if (notify->fd >= 0)
		notify->watchdog_us = watchdog_period();
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void nr_notify_close(struct nr_notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

bool nr_notify_is_abstract(const struct nr_notify *notify)
{
	return notify->fd >= 0 && notify->address.sun_path[0] == '\0';
}

bool nr_notify_has_watchdog(const struct nr_notify *notify)
{
	return notify->fd >= 0 && notify->watchdog_us > 0;
}

void nr_notify_say(const struct nr_notify *notify, const char *format, ...)
{
	char text[1024];
	va_list arguments;
	int length;

	if (notify->fd < 0)
		return;
	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	if ((size_t)length >= sizeof(text))
		length = sizeof(text) - 1;
	if (sendto(notify->fd, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&notify->address, notify->address_length) < 0)
		nr_log(NR_LOG_DEBUG, NR_LOG_SERVER, "the service manager does not listen");
}

void nr_notify_status(struct nr_notify *notify, unsigned clients, unsigned exports)
{
	char status[sizeof(notify->status)];

	snprintf(status, sizeof(status), "%u %s, %u %s open", clients,
		 clients == 1 ? "client" : "clients", exports, exports == 1 ? "export" : "exports");
	if (strcmp(status, notify->status) == 0)
		return;
	memcpy(notify->status, status, sizeof(status));
	nr_notify_say(notify, "STATUS=%s", status);
}

void nr_notify_reloading(const struct nr_notify *notify)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	nr_notify_say(notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		      (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}
