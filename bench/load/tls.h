/* A client's TLS. See tls.c. */
#ifndef BENCH_LOAD_TLS_H
#define BENCH_LOAD_TLS_H

#include <stdbool.h>

/*
 * The TLS handshake on FD, a connected socket, with the given GnuTLS priority. Returns the
 * descriptor to use in its place, on which the same is said in plain text; it owns FD from
 * then on. -1: `why` says what is wrong, FD is still the caller's.
 */
int tls_open(int fd, const char *priority, const char **why);

/* Built with GnuTLS? */
bool tls_available(void);

#endif
