/* Where the server is. See target.c. */
#ifndef BENCH_LOAD_TARGET_H
#define BENCH_LOAD_TARGET_H

#include "src/protocol/wire.h"

#include <sys/socket.h>

struct target {
	struct sockaddr_storage address;
	socklen_t length;
	char export_name[NBD_STRING_MAX + 1];
};

/* Understands a socket path, HOST[:PORT] or an NBD URI; exits with a sentence if it cannot. */
void target_parse(struct target *t, const char *text);

#endif
