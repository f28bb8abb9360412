"""Checks of a server through libnbd's Python module, for interop-nbdsh.sh.

usage: nbdsh-checks.py CHECK URI [ARGUMENT...]

Each check is one function; what is wrong is an AssertionError or libnbd's own.
"""

import errno
import os
import sys

import nbd

MiB = 1 << 20


def connect(uri, structured=True, contexts=('base:allocation',)):
    client = nbd.NBD()
    # Who asks for block sizes has to keep to them; who is only told need not.
    client.set_request_block_size(False)
    client.set_strict_mode(client.get_strict_mode() & ~nbd.STRICT_ALIGN)
    client.set_request_structured_replies(structured)
    for context in contexts:
        client.add_meta_context(context)
    client.connect_uri(uri)
    return client


def lenient(client):
    """Let libnbd send what it knows to be wrong, and see what the server says."""
    # What newer versions set in each write is no matter of strictness.
    client.set_strict_mode(getattr(nbd, 'STRICT_AUTO_FLAG', 0))
    return client


def goes_wrong(expected, function, *arguments, **keywords):
    """The call fails with this errno, and the connection lives on."""
    try:
        function(*arguments, **keywords)
    except nbd.Error as error:
        wanted = errno.errorcode[expected]
        assert error.errno == wanted, f'{error.string}: {error.errno}, expected {wanted}'
    else:
        raise AssertionError(f'{function.__name__}{arguments} went well, expected an error')


def extents(client, count, offset, flags=0):
    """What BLOCK_STATUS says, as [(offset, length, bits)]."""
    found = []

    def collect(context, start, entries, _error):
        assert context == 'base:allocation'
        for length, bits in zip(entries[::2], entries[1::2]):
            found.append((start, length, bits))
            start += length

    client.block_status(count, offset, collect, flags)
    return found


def chunks(client, count, offset, flags=0):
    """What a structured read brings, as [(offset, length, kind)] in order of offset."""
    found = []

    def collect(buffer, start, status, _error):
        found.append((start, len(buffer), status))

    client.pread_structured(count, offset, collect, flags)
    return sorted(found)


def check_negotiation(uri):
    client = connect(uri)
    assert client.get_protocol() == 'newstyle-fixed'
    assert client.get_structured_replies_negotiated()
    assert client.can_meta_context('base:allocation')
    assert client.can_df()
    client.shutdown()

    client = connect(uri, structured=False)
    assert not client.get_structured_replies_negotiated()
    assert not client.can_df()
    assert len(client.pread(100000, 12345)) == 100000
    client.shutdown()

    # INFO, then GO, say the same; options after INFO still work.
    client = nbd.NBD()
    client.set_opt_mode(True)
    client.connect_uri(uri)
    client.opt_info()
    size, read_only = client.get_size(), client.is_read_only()
    client.opt_go()
    assert (client.get_size(), client.is_read_only()) == (size, read_only)
    client.shutdown()

    client = nbd.NBD()
    client.set_opt_mode(True)
    client.connect_uri(uri)
    client.opt_abort()

    if hasattr(client, 'get_extended_headers_negotiated'):
        client = connect(uri)
        assert client.get_extended_headers_negotiated()
        client.shutdown()


def with_name(client, name):
    client.set_export_name(name)
    return client


def check_holes(uri, path):
    """Reads of a sparse file come as data and holes, and are the file's bytes."""
    with open(path, 'rb') as file:
        content = file.read()
    client = connect(uri)
    assert client.get_size() == len(content)

    for offset, count in ((0, 16 * MiB), (65000, 2 * MiB), (MiB, 65536), (3 * MiB, 1), (511, 513)):
        assert client.pread(count, offset) == content[offset:offset + count]
        end = offset
        for start, length, kind in chunks(client, count, offset):
            assert start == end, 'chunks overlap or leave a gap'
            assert kind in (nbd.READ_DATA, nbd.READ_HOLE)
            if kind == nbd.READ_HOLE:
                assert not any(content[start:start + length]), 'a hole over data'
            end = start + length
        assert end == offset + count, 'chunks do not cover the request'

    kinds = {kind for _, _, kind in chunks(client, 16 * MiB, 0)}
    assert kinds == {nbd.READ_DATA, nbd.READ_HOLE}, 'a sparse read brought no hole chunk'
    # A read inside a hole is nothing but that hole.
    assert chunks(client, MiB, 4 * MiB) == [(4 * MiB, MiB, nbd.READ_HOLE)]
    # DF: one piece, holes filled in.
    assert chunks(client, 65536, MiB - 32768, nbd.CMD_FLAG_DF) == [(MiB - 32768, 65536, nbd.READ_DATA)]

    simple = connect(uri, structured=False)
    assert simple.pread(16 * MiB, 0) == content
    simple.shutdown()
    client.shutdown()


def check_contexts(uri):
    client = nbd.NBD()
    client.set_opt_mode(True)
    client.connect_uri(uri)
    for queries in ([], ['base:'], ['base:allocation'], ['x-nothing:here', 'base:allocation']):
        found = []
        client.clear_meta_contexts()
        for query in queries:
            client.add_meta_context(query)
        client.opt_list_meta_context(found.append)
        assert found == ['base:allocation'], f'{queries} lists {found}'
    for query in ('base:nothing', 'x-nothing:', 'qemu:dirty-bitmap:'):
        found = []
        client.clear_meta_contexts()
        client.add_meta_context(query)
        client.opt_list_meta_context(found.append)
        assert found == [], f'{query} lists {found}'
    client.opt_abort()

    client = connect(uri, contexts=('base:allocation',))
    whole = extents(client, 16 * MiB, 0)
    assert [bits for _, _, bits in whole] == [0, 3, 0, 3, 0], whole
    assert whole[0] == (0, 65536, 0)
    assert whole[2] == (MiB, 131072, 0)
    one = extents(client, 15 * MiB, 65536, nbd.CMD_FLAG_REQ_ONE)
    assert one == [(65536, MiB - 65536, 3)], one
    # REQ_ONE never tells more than was asked.
    assert extents(client, 512, 65536, nbd.CMD_FLAG_REQ_ONE) == [(65536, 512, 3)]
    client.shutdown()

    # Without a context there is nothing to ask about.
    client = lenient(connect(uri, contexts=()))
    goes_wrong(errno.EINVAL, extents, client, 4096, 0)
    client.shutdown()


def check_commands(uri):
    client = connect(uri)
    pattern = bytes(range(1, 256)) * 257

    for flags in (0, nbd.CMD_FLAG_FUA):
        client.pwrite(pattern, 100001, flags)
        assert client.pread(len(pattern), 100001) == pattern
        # Zeroes in the middle, unaligned: nothing else changes.
        for zero in (0, nbd.CMD_FLAG_NO_HOLE):
            client.zero(10000, 110000, flags | zero)
            expected = pattern[:9999] + bytes(10000) + pattern[19999:]
            assert client.pread(len(pattern), 100001) == expected
            client.pwrite(pattern, 100001)
        client.trim(4096, 8 * MiB, flags)
    client.flush()

    if client.can_fast_zero():
        client.pwrite(b'x' * 65536, 2 * MiB)
        try:
            client.zero(65536, 2 * MiB, nbd.CMD_FLAG_FAST_ZERO)
            assert client.pread(65536, 2 * MiB) == bytes(65536)
        except nbd.Error as error:
            # Too slow here: then nothing has changed.
            assert error.errno in ('ENOTSUP', 'EOPNOTSUPP'), error
            assert client.pread(65536, 2 * MiB) == b'x' * 65536
    if client.can_cache():
        client.cache(MiB, 0)

    # The largest request, there and back, and the last byte.
    large = bytes(range(256)) * (4 * MiB // 256)
    client.pwrite(large, 4 * MiB)
    assert client.pread(4 * MiB, 4 * MiB) == large
    client.pwrite(b'!', client.get_size() - 1)
    assert client.pread(1, client.get_size() - 1) == b'!'

    # Zero whole, and trim whole, in one request each.
    client.zero(16 * MiB, 0)
    assert client.pread(16 * MiB, 0) == bytes(16 * MiB)
    client.trim(16 * MiB, 0)
    client.shutdown()


def check_no_hole(uri, path=None):
    """Zeroes with NO_HOLE are provisioned: there is room for what is written there."""
    client = connect(uri)
    client.trim(4 * MiB, 8 * MiB)
    client.flush()
    before = os.stat(path).st_blocks * 512 if path else 0
    client.zero(4 * MiB, 8 * MiB, nbd.CMD_FLAG_NO_HOLE)
    client.flush()
    if path:
        # A file system may call such a range a hole, but it has taken the room.
        grown = os.stat(path).st_blocks * 512 - before
        assert grown >= 4 * MiB, f'the file has grown by {grown} bytes only'
    else:
        found = extents(client, 4 * MiB, 8 * MiB)
        assert not any(bits & nbd.STATE_HOLE for _, _, bits in found), found
    assert client.pread(4 * MiB, 8 * MiB) == bytes(4 * MiB)
    client.shutdown()


def check_limits(uri):
    """Past the end and illegal flags: the error that fits, and the next request works."""
    for structured in (True, False):
        client = lenient(connect(uri, structured=structured, contexts=()))
        size = client.get_size()
        goes_wrong(errno.EINVAL, client.pread, 2, size - 1)
        goes_wrong(errno.EINVAL, client.pread, 1, size)
        goes_wrong(errno.EINVAL, client.pread, 512, (1 << 63) - 512)
        goes_wrong(errno.ENOSPC, client.pwrite, b'xx', size - 1)
        goes_wrong(errno.ENOSPC, client.pwrite, b'x', (1 << 63) - 1)
        goes_wrong(errno.ENOSPC, client.zero, 2, size - 1)
        goes_wrong(errno.EINVAL, client.trim, 2, size - 1)
        goes_wrong(errno.EINVAL, client.pread, 512, 0, 1 << 9)
        goes_wrong(errno.EINVAL, client.pwrite, b'x' * 512, 0, nbd.CMD_FLAG_DF)
        assert len(client.pread(512, size - 512)) == 512
        client.shutdown()


def check_two_connections(uri):
    """CAN_MULTI_CONN: what one connection has written, and flushed, the other reads."""
    first, second = connect(uri), connect(uri)
    assert first.can_multi_conn()
    for round_ in range(1, 50):
        data = bytes([round_]) * 10000
        first.pwrite(data, round_ * 20000)
        second.flush()
        assert second.pread(10000, round_ * 20000) == data
        second.zero(10000, round_ * 20000)
        assert first.pread(10000, round_ * 20000) == bytes(10000)
    first.shutdown()
    second.shutdown()


def check_read_only(uri):
    client = connect(uri)
    assert client.is_read_only()
    assert not client.can_trim()
    assert not client.can_zero()
    before = client.pread(65536, 0)
    lenient(client)
    goes_wrong(errno.EPERM, client.pwrite, b'x' * 65536, 0)
    goes_wrong(errno.EPERM, client.zero, 65536, 0)
    goes_wrong(errno.EPERM, client.trim, 65536, 0)
    assert client.pread(65536, 0) == before
    client.shutdown()


def check_exports(uri, *expected):
    client = nbd.NBD()
    client.set_opt_mode(True)
    client.connect_uri(uri)
    found = []
    client.opt_list(lambda name, _description: found.append(name))
    sizes = dict(pair.split(':') for pair in expected)
    assert sorted(found) == sorted(sizes), found
    for name, size in sizes.items():
        with_name(client, name).opt_info()
        assert client.get_size() == int(size)
    # A name that is not there: told so, and the conversation goes on.
    goes_wrong(errno.ENOENT, with_name(client, 'no such export').opt_info)
    goes_wrong(errno.ENOENT, client.opt_go)
    name = next(iter(sizes))
    with_name(client, name).opt_go()
    assert client.get_size() == int(sizes[name])
    client.shutdown()


def main():
    name, arguments = sys.argv[1], sys.argv[2:]
    print(f'    {name}', flush=True)
    globals()['check_' + name.replace('-', '_')](*arguments)


main()
