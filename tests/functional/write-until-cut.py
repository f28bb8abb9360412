"""A client that writes until its server goes, and knows what was acknowledged.

usage: write-until-cut.py URI               prints the number of each block whose
                                            write was acknowledged
       write-until-cut.py --check IMAGE     reads those numbers, checks IMAGE

Block N is BLOCK bytes that say N; 64 of them are in flight at any time.
"""

import struct
import sys

BLOCK = 16384
DEPTH = 64


def content(number):
    return struct.pack('>Q', number + 1) * (BLOCK // 8)


def write(uri):
    import nbd

    client = nbd.NBD()
    client.connect_uri(uri)
    blocks = client.get_size() // BLOCK
    in_flight = {}
    number = 0
    try:
        while number < blocks or in_flight:
            while len(in_flight) < DEPTH and number < blocks:
                buffer = nbd.Buffer.from_bytearray(bytearray(content(number)))
                in_flight[client.aio_pwrite(buffer, number * BLOCK)] = number
                number += 1
            client.poll(-1)
            for cookie in [c for c in in_flight if client.aio_command_completed(c)]:
                print(in_flight.pop(cookie), flush=True)
    except nbd.Error as error:
        # The server has gone, as it was told to. Replies that had arrived count.
        print(f'    cut off after {number} writes: {error.string}', file=sys.stderr)


def check(path):
    acknowledged = [int(line) for line in sys.stdin if line.endswith('\n')]
    assert len(acknowledged) >= 100, 'too few writes to tell anything'
    with open(path, 'rb') as image:
        for number in acknowledged:
            image.seek(number * BLOCK)
            assert image.read(BLOCK) == content(number), f'block {number} is not in the file'
    print(f'    {len(acknowledged)} acknowledged writes are in the file')


if sys.argv[1] == '--check':
    check(sys.argv[2])
else:
    write(sys.argv[1])
