/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vsock ports: between a virtual machine and its host, without a network.  A machine
 * is known by its CID: 2 is the host as its guests see it, 1 this machine itself (where
 * the kernel has vsock_loopback), a guest has the number that its host gave it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "src/cli/listen-internal.h"
#include "src/stack/params.h"

unsigned nr_vsock_local_cid(void)
{
	unsigned cid = VMADDR_CID_ANY;
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
			cid = VMADDR_CID_ANY;
		close(fd);
	}
	return cid == VMADDR_CID_ANY ? VMADDR_CID_LOCAL : cid;
}

/* A number of at most 32 bits that is not all ones, which means "any". */
static int take_part(const char *text, size_t length, unsigned *field)
{
	char digits[16];
	uint64_t number;

	if (length == 0 || length >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, length);
	digits[length] = '\0';
	if (strspn(digits, "0123456789") != length || nr_parse_uint(digits, &number) ||
	    number >= UINT32_MAX)
		return -EINVAL;
	*field = (unsigned)number;
	return 0;
}

static int parse(struct sockaddr_vm *address, const char *text, struct nr_error *error)
{
	const char *colon = strchr(text, ':');
	const char *port = colon ? colon + 1 : text;
	unsigned cid = VMADDR_CID_ANY, number = 0;

	if ((colon && take_part(text, (size_t)(colon - text), &cid)) ||
	    take_part(port, strlen(port), &number))
		return nr_error_set(error, -EINVAL,
				    "there is no vsock port '%s'; write PORT or CID:PORT, numbers "
				    "from 0 to %" PRIu32,
				    text, UINT32_MAX - 1);
	*address = (struct sockaddr_vm){
		.svm_family = AF_VSOCK,
		.svm_cid = cid,
		.svm_port = number ? number : VMADDR_PORT_ANY,
	};
	return 0;
}

static int refuse(int err, const char *text, struct nr_error *error)
{
	switch (err) {
	case -EAFNOSUPPORT:
	case -EPROTONOSUPPORT:
		return nr_error_set(error, err,
				    "this kernel has no vsock; load the module vsock, or use a "
				    "Unix socket or a TCP port");
	case -EADDRINUSE:
		return nr_error_set(error, err,
				    "another program serves on vsock port %s; end it, or give "
				    "another port",
				    text);
	case -EADDRNOTAVAIL:
		return nr_error_set(error, err,
				    "vsock port %s: this machine does not have that CID; leave "
				    "the CID out",
				    text);
	case -EACCES:
		return nr_error_set(error, err,
				    "vsock port %s is for root only; give one above 1023", text);
	default:
		return nr_error_system(error, err, "vsock port %s", text);
	}
}

int nr_listen_vsock(struct nr_sockets *listeners, const char *text, struct nr_error *error)
{
	struct sockaddr_vm address;
	socklen_t length = sizeof(address);
	struct nr_socket *listener;
	int err = parse(&address, text, error);

	if (err)
		return err;
	listener = nr_sockets_add(listeners, NR_SOCKET_VSOCK, error);
	if (!listener)
		return -ENOMEM;
	listener->chosen = address.svm_port == VMADDR_PORT_ANY;
	listener->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0 ||
	    bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener->fd, SOMAXCONN) < 0 ||
	    getsockname(listener->fd, (struct sockaddr *)&address, &length) < 0)
		return refuse(-errno, text, error);
	listener->port = address.svm_port;
	listener->cid = address.svm_cid == VMADDR_CID_ANY ? nr_vsock_local_cid() : address.svm_cid;
	return 0;
}
