/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated sockets: a connection is two streams of bytes, one each way, with room,
 * latency, and ways to end.
 *
 * Bytes that were sent arrive later, in order.  A stream holds so many bytes, sent
 * and not taken yet, and not more.  Descriptors are numbers that no kernel gave out;
 * the system calls that the server makes on them are in calls.c.
 */
#ifndef TESTS_SIM_SOCKETS_H
#define TESTS_SIM_SOCKETS_H

#include <sys/socket.h>

#include "tests/sim/engine.h"

#define SIM_FD_BASE (1 << 20) /* no descriptor of the process is that high */

enum sim_fd_kind {
	SIM_FD_NONE,
	SIM_FD_SOCKET,
	SIM_FD_LISTENER,
	SIM_FD_DISK,
	SIM_FD_PATH,   /* a disk, but only to be looked at */
	SIM_FD_FOLDER, /* of disks */
};

struct sim_socket;

/* The client's end: who is told when something has changed there. */
struct sim_peer {
	void (*changed)(struct sim_peer *peer);
	void (*closed)(struct sim_peer *peer); /* the server has closed its end */
	struct sim_socket *socket;
};

/* Before the first of a world. */
void sim_sockets_begin(void);

/* ---- descriptors ------------------------------------------------------- */

int sim_fd_new(enum sim_fd_kind kind, void *object);
enum sim_fd_kind sim_fd_kind(int fd); /* NONE: not one of ours, or closed */
void *sim_fd_object(int fd);
void sim_fd_free(int fd);
unsigned sim_fd_count(void); /* open ones */
/* A number for SIM_FD_DISK and its like: flags of open(2). */
int *sim_fd_flags(int fd);

/* ---- the server's side, for calls.c ------------------------------------ */

int sim_listener_new(void);
void sim_socket_close(int fd);
void sim_socket_shutdown(int fd, int how);
void sim_socket_name(int fd, struct sockaddr *address, socklen_t *length);

/* ---- the client's side ------------------------------------------------- */

/* A connection to LISTENER (its descriptor), which the server will accept, or not. */
struct sim_socket *sim_connect(int listener, struct sim_peer *peer);
/* A connection that is there already; *FD is the server's end. */
struct sim_socket *sim_connected(struct sim_peer *peer, int *fd);

/* How many of LENGTH bytes were taken: 0, there is no room; -1: nobody will read them. */
int64_t sim_send(struct sim_socket *s, const void *data, uint64_t length);
/* How many bytes came, at most LENGTH; 0: none now; -1: no more will; -2: reset. */
int64_t sim_receive(struct sim_socket *s, void *data, uint64_t length);
void sim_half_close(struct sim_socket *s); /* nothing more will be sent */
void sim_hang_up(struct sim_socket *s, bool reset);
bool sim_server_has_left(const struct sim_socket *s);
/* Both ends are closed: the memory goes. */
void sim_socket_free(struct sim_socket *s);

#endif
