/* SPDX-License-Identifier: BSD-3-Clause */
/* The locks by which QEMU's programs keep out of each other's way on an image. */
#ifndef SRC_CLI_QEMU_LOCK_H
#define SRC_CLI_QEMU_LOCK_H

#include <stdbool.h>

#include "nbdring/error.h"

/*
 * Say that the image PATH, open as FD, is read and perhaps written, and that its size is
 * to stay as it is; -EAGAIN when others have said that they do not share it.  It holds
 * until FD, and what was copied or inherited of it, is closed.
 */
int nr_qemu_lock(int fd, bool writes, const char *path, struct nr_error *error);

#endif
