/*
 * floor: the least a server of this design can cost. One thread, one ring, a block of
 * memory or a file, and NO checks: it believes every offset and length a client sends. It
 * exists to be measured against, never to serve anything.
 *
 * Rules: a connection has one receive and one gather send in flight; answers collect in the
 * second batch meanwhile. Reads point into the memory, writes are copied out of the window
 * (what does not fit in it is received straight into the memory). With a file each request
 * is one plain read or write of the ring, with a buffer of its own; a flush answers at once
 * and does nothing. The handshake knows
 * EXPORT_NAME, GO, STRUCTURED_REPLY and ABORT; it blocks, so a client that stops in the
 * middle of it stops everybody, for up to two seconds.
 */
#include "bench/common/gather.h"
#include "bench/common/ringsetup.h"
#include "bench/common/wire.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define WINDOW_SIZE (256U << 10)
#define DIRECT_MIN (32U << 10) /* payload still to come from which it skips the window */

enum event { EVENT_ACCEPT, EVENT_RECV, EVENT_SEND, EVENT_FILE };

#define EVENT_MASK 3U

#define USAGE                                                                                      \
	"usage: floor -U SOCKET | -p PORT (on 127.0.0.1) [-s SIZE, default 256M | -f FILE [-d]]\n" \
	"-d: O_DIRECT"

struct conn;

/* One request to the file: under way, waiting to be answered, or in a batch until it is sent. */
struct op {
	struct op *next;
	struct conn *conn;
	bool write;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
	uint32_t room; /* bytes of data */
	uint8_t *data;
};

struct conn {
	int fd;
	bool structured;
	bool closing;
	bool sending;
	bool receiving;
	struct gather batch[2];
	unsigned filling;
	uint8_t *window;
	size_t used, have; /* window bytes parsed, and received */
	uint8_t *write_to; /* where the payload of the current write goes next */
	size_t write_left;
	size_t direct;      /* how much of it the receive in flight takes */
	struct op *writing; /* file: what the payload belongs to */
	struct op *done;    /* file: to be answered */
	struct op *held[2]; /* file: their data is in that batch */
	unsigned file_ops;  /* under way */
	uint64_t cookie;
	struct iovec receive_iov[2];
	struct msghdr receive_msg;
	bool touched;
	struct conn *next_touched;
};

struct server {
	struct io_uring ring;
	int listener;
	bool tcp;
	uint8_t *memory;
	int file; /* -1: memory */
	struct op *free_ops;
	uint64_t size;
	struct conn *touched;
};

static void touch(struct server *s, struct conn *c)
{
	if (c->touched)
		return;
	c->touched = true;
	c->next_touched = s->touched;
	s->touched = c;
}

static void set_event(struct io_uring_sqe *sqe, void *object, enum event event)
{
	sqe->user_data = (uint64_t)(uintptr_t)object | event;
}

static bool recv_all(int fd, void *to, size_t length)
{
	return length == 0 || recv(fd, to, length, MSG_WAITALL) == (ssize_t)length;
}

static bool send_all(int fd, const void *from, size_t length)
{
	return send(fd, from, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool option_reply(int fd, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
	uint8_t reply[20 + 16];

	put64(reply, WIRE_OPTION_REPLY);
	put32(reply + 8, option);
	put32(reply + 12, type);
	put32(reply + 16, length);
	if (length)
		memcpy(reply + 20, data, length);
	return send_all(fd, reply, 20 + length);
}

static void put_export(uint8_t to[10], uint64_t size)
{
	put64(to, size);
	put16(to + 8, WIRE_HAS_FLAGS | WIRE_SEND_FLUSH | WIRE_SEND_FUA | WIRE_CAN_MULTI_CONN);
}

static bool answer_go(int fd, uint64_t size)
{
	uint8_t info[12];

	put16(info, WIRE_INFO_EXPORT);
	put_export(info + 2, size);
	return option_reply(fd, WIRE_OPT_GO, WIRE_REP_INFO, info, sizeof(info)) &&
	       option_reply(fd, WIRE_OPT_GO, WIRE_REP_ACK, NULL, 0);
}

static bool answer_export_name(int fd, uint64_t size, bool no_zeroes)
{
	uint8_t answer[10 + 124] = { 0 };

	put_export(answer, size);
	return send_all(fd, answer, no_zeroes ? 10 : sizeof(answer));
}

/* Options until one of them begins the transmission (true) or the client is gone (false). */
static bool options(struct conn *c, uint64_t size, bool no_zeroes)
{
	uint8_t header[16];
	uint8_t data[WIRE_NAME_MAX + 256];

	while (recv_all(c->fd, header, sizeof(header))) {
		uint32_t option = get32(header + 8);
		uint32_t length = get32(header + 12);

		if (length > sizeof(data) || !recv_all(c->fd, data, length))
			return false;
		if (option == WIRE_OPT_GO)
			return answer_go(c->fd, size);
		if (option == WIRE_OPT_EXPORT_NAME)
			return answer_export_name(c->fd, size, no_zeroes);
		if (option == WIRE_OPT_STRUCTURED_REPLY)
			c->structured = true;
		if (!option_reply(c->fd, option,
				  option == WIRE_OPT_STRUCTURED_REPLY || option == WIRE_OPT_ABORT
					  ? WIRE_REP_ACK
					  : WIRE_REP_UNSUP,
				  NULL, 0) ||
		    option == WIRE_OPT_ABORT)
			return false;
	}
	return false;
}

static bool handshake(struct conn *c, uint64_t size)
{
	struct timeval patience = { .tv_sec = 2 }, none = { 0 };
	uint8_t greeting[18];
	uint8_t flags[4];
	bool through;

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	put64(greeting, WIRE_GREETING);
	put64(greeting + 8, WIRE_IHAVEOPT);
	put16(greeting + 16, WIRE_FIXED_NEWSTYLE | WIRE_NO_ZEROES);
	through = send_all(c->fd, greeting, sizeof(greeting)) &&
		  recv_all(c->fd, flags, sizeof(flags)) &&
		  options(c, size, get32(flags) & WIRE_NO_ZEROES);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	return through;
}

static void release_ops(struct server *s, struct op **list)
{
	struct op *op;

	while ((op = *list)) {
		*list = op->next;
		op->next = s->free_ops;
		s->free_ops = op;
	}
}

static void destroy(struct server *s, struct conn *c)
{
	release_ops(s, &c->writing);
	release_ops(s, &c->done);
	for (unsigned i = 0; i < 2; i++)
		release_ops(s, &c->held[i]);
	close(c->fd);
	for (unsigned i = 0; i < 2; i++)
		gather_close(&c->batch[i]);
	free(c->window);
	free(c);
}

static void arm_accept(struct server *s)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	io_uring_prep_accept(sqe, s->listener, NULL, NULL, SOCK_CLOEXEC);
	set_event(sqe, s, EVENT_ACCEPT);
}

static void on_accept(struct server *s, int fd)
{
	struct conn *c;
	int on = 1;

	arm_accept(s);
	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		errx(1, "out of memory for a connection");
	c->fd = fd;
	if (s->tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!handshake(c, s->size)) {
		destroy(s, c);
		return;
	}
	c->window = malloc(WINDOW_SIZE);
	if (!c->window)
		errx(1, "out of memory for a connection");
	for (unsigned i = 0; i < 2; i++)
		gather_open(&c->batch[i], GATHER_MAX, WIRE_STRUCTURED_REPLY_SIZE + 8);
	touch(s, c);
}

static void answer_simple(struct conn *c, uint64_t cookie)
{
	uint8_t *reply = gather_header(&c->batch[c->filling], WIRE_SIMPLE_REPLY_SIZE);

	put32(reply, WIRE_SIMPLE_REPLY);
	put32(reply + 4, 0);
	put64(reply + 8, cookie);
}

static void answer_read(struct conn *c, uint64_t cookie, uint64_t offset, const uint8_t *data,
			uint32_t length)
{
	struct gather *batch = &c->batch[c->filling];
	uint8_t *reply;

	if (c->structured) {
		reply = gather_header(batch, WIRE_STRUCTURED_REPLY_SIZE + 8);
		put32(reply, WIRE_STRUCTURED_REPLY);
		put16(reply + 4, WIRE_CHUNK_DONE);
		put16(reply + 6, WIRE_CHUNK_DATA);
		put64(reply + 8, cookie);
		put32(reply + 16, length + 8);
		put64(reply + 20, offset);
	} else {
		answer_simple(c, cookie);
	}
	gather_payload(batch, data, length);
}

static struct op *take_op(struct server *s, struct conn *c, uint64_t offset, uint32_t length)
{
	struct op *op = s->free_ops;

	if (op)
		s->free_ops = op->next;
	else
		op = calloc(1, sizeof(*op));
	if (op && op->room < length) {
		free(op->data);
		op->data = aligned_alloc(4096, (length + 4095UL) & ~4095UL);
		op->room = length;
	}
	if (!op || !op->data)
		errx(1, "out of memory for a request of %u bytes", length);
	op->next = NULL;
	op->conn = c;
	op->cookie = c->cookie;
	op->offset = offset;
	op->length = length;
	return op;
}

static void start_op(struct server *s, struct op *op, bool write)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	op->write = write;
	if (write)
		io_uring_prep_write(sqe, s->file, op->data, op->length, op->offset);
	else
		io_uring_prep_read(sqe, s->file, op->data, op->length, op->offset);
	set_event(sqe, op, EVENT_FILE);
	op->conn->file_ops++;
}

static void on_file(struct server *s, struct op *op, int result)
{
	struct conn *c = op->conn;

	c->file_ops--;
	if (result != (int)op->length)
		c->closing = true; /* there are no errors here, only figures */
	op->next = c->done;
	c->done = op;
	touch(s, c);
}

/* Answers what the file is done with, as far as there is room for answers. */
static void answer_ops(struct server *s, struct conn *c)
{
	while (c->done && !gather_full(&c->batch[c->filling])) {
		struct op *op = c->done;

		c->done = op->next;
		op->next = NULL;
		if (op->write) {
			answer_simple(c, op->cookie);
			release_ops(s, &op);
			continue;
		}
		answer_read(c, op->cookie, op->offset, op->data, op->length);
		op->next = c->held[c->filling];
		c->held[c->filling] = op;
	}
}

static void take_request(struct server *s, struct conn *c, const uint8_t *request)
{
	unsigned command = get16(request + 6);
	uint64_t offset = get64(request + 16);
	uint32_t length = get32(request + 24);

	c->cookie = get64(request + 8);
	if (command == WIRE_CMD_READ && s->file >= 0) {
		start_op(s, take_op(s, c, offset, length), false);
	} else if (command == WIRE_CMD_READ) {
		answer_read(c, c->cookie, offset, s->memory + offset, length);
	} else if (command == WIRE_CMD_WRITE) {
		c->writing = s->file >= 0 ? take_op(s, c, offset, length) : NULL;
		c->write_to = c->writing ? c->writing->data : s->memory + offset;
		c->write_left = length;
	} else if (command == WIRE_CMD_DISC) {
		c->closing = true;
	} else {
		answer_simple(c, c->cookie);
	}
}

/* Copies what has arrived of a write; false: the rest is still to come. */
static bool take_payload(struct server *s, struct conn *c)
{
	size_t n = c->have - c->used;

	if (n > c->write_left)
		n = c->write_left;
	memcpy(c->write_to, c->window + c->used, n);
	c->used += n;
	c->write_to += n;
	c->write_left -= n;
	if (c->write_left)
		return false;
	if (c->writing)
		start_op(s, c->writing, true);
	else
		answer_simple(c, c->cookie);
	c->writing = NULL;
	c->write_to = NULL;
	return true;
}

/* Answers all that has arrived, as far as there is room for answers. */
static void parse(struct server *s, struct conn *c)
{
	while (!c->closing && !gather_full(&c->batch[c->filling])) {
		if (c->write_to) {
			if (!take_payload(s, c))
				break;
			continue;
		}
		if (c->have - c->used < WIRE_REQUEST_SIZE)
			break;
		take_request(s, c, c->window + c->used);
		c->used += WIRE_REQUEST_SIZE;
	}
}

static void start_send(struct server *s, struct conn *c, struct gather *batch)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	gather_prepare(batch, sqe, c->fd);
	set_event(sqe, c, EVENT_SEND);
	c->sending = true;
}

static void start_receive(struct server *s, struct conn *c)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);
	unsigned first = 1;

	c->have -= c->used;
	memmove(c->window, c->window + c->used, c->have);
	c->used = 0;
	c->direct = c->write_left >= DIRECT_MIN ? c->write_left : 0;
	c->receive_iov[1] = (struct iovec){ c->window + c->have, WINDOW_SIZE - c->have };
	if (c->direct) {
		c->receive_iov[0] = (struct iovec){ c->write_to, c->direct };
		first = 0;
	}
	c->receive_msg =
		(struct msghdr){ .msg_iov = &c->receive_iov[first], .msg_iovlen = 2 - first };
	if (first)
		io_uring_prep_recv(sqe, c->fd, c->receive_iov[1].iov_base,
				   c->receive_iov[1].iov_len, 0);
	else
		io_uring_prep_recvmsg(sqe, c->fd, &c->receive_msg, 0);
	sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	set_event(sqe, c, EVENT_RECV);
	c->receiving = true;
}

static void on_receive(struct server *s, struct conn *c, int result)
{
	size_t n = result > 0 ? (size_t)result : 0;
	size_t direct = n < c->direct ? n : c->direct;

	c->receiving = false;
	if (result <= 0 && result != -EINTR && result != -EAGAIN)
		c->closing = true;
	if (direct) {
		c->write_to += direct;
		c->write_left -= direct;
	}
	c->have += n - direct;
	touch(s, c);
}

static void on_send(struct server *s, struct conn *c, int result)
{
	struct gather *batch = &c->batch[!c->filling];

	c->sending = false;
	if (result < 0 && result != -EINTR && result != -EAGAIN)
		c->closing = true;
	else if (!gather_sent(batch, result > 0 ? (size_t)result : 0))
		start_send(s, c, batch);
	else
		release_ops(s, &c->held[!c->filling]);
	touch(s, c);
}

static void serve(struct server *s, struct conn *c)
{
	c->touched = false;
	answer_ops(s, c);
	parse(s, c);
	if (c->closing) {
		if (c->receiving)
			shutdown(c->fd, SHUT_RDWR); /* ends the receive, then we are back here */
		else if (!c->sending && !c->file_ops)
			destroy(s, c);
		return;
	}
	if (!c->sending && !gather_empty(&c->batch[c->filling])) {
		start_send(s, c, &c->batch[c->filling]);
		c->filling = !c->filling;
		answer_ops(s, c);
		parse(s, c);
	}
	if (!c->receiving && !gather_full(&c->batch[c->filling]))
		start_receive(s, c);
}

static void dispatch(struct server *s, const struct io_uring_cqe *cqe)
{
	void *object = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)EVENT_MASK);

	switch ((enum event)(cqe->user_data & EVENT_MASK)) {
	case EVENT_ACCEPT:
		on_accept(s, cqe->res);
		break;
	case EVENT_RECV:
		on_receive(s, object, cqe->res);
		break;
	case EVENT_SEND:
		on_send(s, object, cqe->res);
		break;
	case EVENT_FILE:
		on_file(s, object, cqe->res);
		break;
	}
}

static _Noreturn void run(struct server *s)
{
	arm_accept(s);
	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int ret = io_uring_submit_and_wait(&s->ring, 1);

		if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
			errx(1, "io_uring enter: %s", strerror(-ret));
		io_uring_for_each_cqe(&s->ring, head, cqe)
		{
			dispatch(s, cqe);
			seen++;
		}
		io_uring_cq_advance(&s->ring, seen);
		while (s->touched) {
			struct conn *c = s->touched;

			s->touched = c->next_touched;
			serve(s, c);
		}
	}
}

static int listen_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		errx(2, "socket path is too long: %s", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 1024) < 0)
		err(1, "%s", path);
	return fd;
}

static int listen_tcp(const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 1024) < 0)
		err(1, "port %s", port);
	return fd;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t size = strtoull(text, &end, 10);

	switch (toupper((unsigned char)*end)) {
	case 'G':
		return size << 30;
	case 'M':
		return size << 20;
	case 'K':
		return size << 10;
	default:
		return size;
	}
}

static void open_disk(struct server *s, const char *path, bool direct)
{
	off_t end;

	s->file = -1;
	if (path) {
		s->file = open(path, O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
		end = s->file < 0 ? -1 : lseek(s->file, 0, SEEK_END);
		if (end < 0)
			err(1, "%s", path);
		s->size = (uint64_t)end;
		return;
	}
	s->memory = mmap(NULL, s->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->memory == MAP_FAILED)
		err(1, "%llu bytes of memory", (unsigned long long)s->size);
}

int main(int argc, char **argv)
{
	static struct server server = { .listener = -1, .size = 256U << 20 };
	const char *path = NULL;
	bool direct = false;
	int option;

	while ((option = getopt(argc, argv, "U:p:s:f:d")) != -1) {
		if (option == 'U')
			server.listener = listen_unix(optarg);
		else if (option == 'p')
			server.listener = listen_tcp(optarg);
		else if (option == 's')
			server.size = parse_size(optarg);
		else if (option == 'f')
			path = optarg;
		else if (option == 'd')
			direct = true;
		else
			errx(2, USAGE);
		server.tcp = server.tcp || option == 'p';
	}
	if (server.listener < 0 || optind != argc)
		errx(2, USAGE);
	raise_file_limit();
	open_disk(&server, path, direct);
	ring_open(&server.ring, 4096);
	run(&server);
}
