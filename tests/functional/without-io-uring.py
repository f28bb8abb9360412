"""Run a command that may not set up io_uring.

usage: without-io-uring.py ERRNO COMMAND [ARGUMENT...]

Installs a seccomp filter, as container runtimes do, that lets io_uring_setup
fail with that error (a name, such as EPERM) and everything else through.
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000

# The number is the same on every architecture that has the call.
IO_URING_SETUP = 425

# struct sock_filter: load the system call's number; if it is that one, fail.
BPF_LOAD_WORD, BPF_JUMP_EQUAL, BPF_RETURN = 0x20, 0x15, 0x06


def instruction(code, jump_true, jump_false, value):
    return struct.pack('HBBI', code, jump_true, jump_false, value)


def main():
    number = getattr(errno, sys.argv[1])
    program = b''.join((
        instruction(BPF_LOAD_WORD, 0, 0, 0),
        instruction(BPF_JUMP_EQUAL, 0, 1, IO_URING_SETUP),
        instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | number),
        instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ))
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack('HP', len(program) // 8, ctypes.addressof(buffer))

    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                      (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments) != 0:
            print('cannot install a seccomp filter:', os.strerror(ctypes.get_errno()))
            sys.exit(77)
    os.execvp(sys.argv[2], sys.argv[2:])


main()
