#!/usr/bin/env python3
"""
As a service manager: run a command with NOTIFY_SOCKET in its environment and write down
what it tells, one message on each line (their own newlines as spaces), until it ends.

    service-manager.py FILE SOCKET [VARIABLE=VALUE]... -- COMMAND...

A SOCKET that begins with @ is an abstract one. Exit status: the command's.
"""
import os
import socket
import subprocess
import sys

log, name = sys.argv[1:3]
separator = sys.argv.index('--')
settings = dict(setting.split('=', 1) for setting in sys.argv[3:separator])
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.bind('\0' + name[1:] if name[0] == '@' else name)
ear.settimeout(0.02)
command = subprocess.Popen(sys.argv[separator + 1:],
                           env={**os.environ, **settings, 'NOTIFY_SOCKET': name})
with open(log, 'w') as out:
    while True:
        ended = command.poll() is not None
        try:
            while True:
                print(ear.recv(65536).decode().replace('\n', ' '), file=out, flush=True)
        except socket.timeout:
            pass
        if ended:
            break
sys.exit(command.returncode if command.returncode >= 0 else 128 - command.returncode)
