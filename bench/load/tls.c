/*
 * TLS for the client, out of its way: a pair of sockets stands in place of the connection,
 * and two threads carry what is said on it to and from the server, encrypted. So the load
 * is the same as without TLS, and so is the way it is measured; what the threads cost is
 * the client's, not the server's. They end when either end hangs up.
 *
 * Nobody is verified: this measures.
 */
#include "bench/load/tls.h"

#include <stddef.h>

#ifdef HAVE_GNUTLS

#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CARRIED (256U << 10)

struct tls {
	gnutls_session_t session;
	gnutls_certificate_credentials_t trust;
	int server, plain;
	atomic_uint users;
};

static void release(struct tls *t)
{
	if (atomic_fetch_sub(&t->users, 1) > 1)
		return;
	gnutls_deinit(t->session);
	gnutls_certificate_free_credentials(t->trust);
	close(t->server);
	close(t->plain);
	free(t);
}

static bool send_all(int fd, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = send(fd, data, length, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

static bool encrypt_all(struct tls *t, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = gnutls_record_send(t->session, data, length);

		if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
			continue;
		if (n < 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

static void *carry_out(void *argument)
{
	struct tls *t = argument;
	uint8_t *data = malloc(CARRIED);
	ssize_t n;

	while (data && (n = recv(t->plain, data, CARRIED, 0)) > 0)
		if (!encrypt_all(t, data, (size_t)n))
			break;
	gnutls_bye(t->session, GNUTLS_SHUT_WR);
	shutdown(t->server, SHUT_WR);
	free(data);
	release(t);
	return NULL;
}

/* All that one receive has brought goes on in one piece. */
static void *carry_in(void *argument)
{
	struct tls *t = argument;
	uint8_t *data = malloc(CARRIED);
	size_t have = 0;
	ssize_t n = 1;

	while (data && n != 0) {
		n = gnutls_record_recv(t->session, data + have, CARRIED - have);
		if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
			continue;
		if (n < 0)
			break;
		have += (size_t)n;
		if (gnutls_record_check_pending(t->session) && have < CARRIED)
			continue;
		if (!send_all(t->plain, data, have))
			break;
		have = 0;
	}
	shutdown(t->plain, SHUT_RDWR);
	free(data);
	release(t);
	return NULL;
}

static bool begin(struct tls *t, int fd, const char *priority, const char **why)
{
	int code = gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);

	if (code >= 0)
		code = gnutls_certificate_allocate_credentials(&t->trust);
	if (code >= 0)
		code = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->trust);
	if (code >= 0)
		code = gnutls_priority_set_direct(t->session, priority, NULL);
	if (code >= 0) {
		gnutls_transport_set_int(t->session, fd);
		do
			code = gnutls_handshake(t->session);
		while (code < 0 && !gnutls_error_is_fatal(code));
	}
	*why = code < 0 ? gnutls_strerror(code) : NULL;
	return code >= 0;
}

static bool start(struct tls *t)
{
	static void *(*const run[])(void *) = { carry_out, carry_in };

	for (unsigned i = 0; i < 2; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, run[i], t))
			return false;
		pthread_detach(thread);
	}
	return true;
}

int tls_open(int fd, const char *priority, const char **why)
{
	struct tls *t = calloc(1, sizeof(*t));
	int pair[2];

	*why = "no memory or descriptors";
	if (!t)
		return -1;
	if (!begin(t, fd, priority, why) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		gnutls_deinit(t->session);
		if (t->trust)
			gnutls_certificate_free_credentials(t->trust);
		free(t);
		return -1;
	}
	t->server = fd;
	t->plain = pair[1];
	atomic_init(&t->users, 2);
	if (!start(t))
		abort(); /* no threads: the machine is in no state for a measurement */
	return pair[0];
}

bool tls_available(void)
{
	return true;
}

#else

int tls_open(int fd, const char *priority, const char **why)
{
	(void)fd, (void)priority;
	*why = "this tool was built without GnuTLS";
	return -1;
}

bool tls_available(void)
{
	return false;
}

#endif
