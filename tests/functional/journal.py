#!/usr/bin/env python3
"""
As the journal: take entries at a socket and write them down, one as JSON on each line,
while a command runs whose standard error is said to lead here.

    journal.py FILE SOCKET -- COMMAND...

An empty SOCKET: there is no journal behind standard error. Standard error goes to FILE.err.
Exit status: the command's.
"""
import json
import os
import socket
import struct
import subprocess
import sys


def fields(data):
    """The native protocol, as systemd describes it."""
    entry = {}
    while data:
        line, _, rest = data.partition(b'\n')
        if b'=' in line:
            name, _, value = line.partition(b'=')
            data = rest
        else:
            name = line
            length = struct.unpack('<Q', rest[:8])[0]
            value = rest[8:8 + length]
            assert rest[8 + length:9 + length] == b'\n', data
            data = rest[9 + length:]
        entry[name.decode()] = value.decode()
    return entry


file, name = sys.argv[1:3]
assert sys.argv[3] == '--'
ear = None
if name:
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(name)
    ear.settimeout(0.02)
with open(file, 'w') as out, open(file + '.err', 'w') as err:
    facts = os.fstat(err.fileno())
    stream = '%d:%d' % (facts.st_dev, facts.st_ino)
    command = subprocess.Popen(sys.argv[4:], stderr=err,
                               env={**os.environ, 'JOURNAL_STREAM': stream})
    while ear:
        ended = command.poll() is not None
        try:
            while True:
                print(json.dumps(fields(ear.recv(65536))), file=out, flush=True)
        except socket.timeout:
            pass
        if ended:
            break
    status = command.wait()
sys.exit(status if status >= 0 else 128 - status)
