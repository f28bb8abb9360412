#!/usr/bin/env python3
"""Conformance of the extensions: extended headers and RESIZE.

Test names start with the requirement's id, E1 to E7 and R1 (and H18 for the
option that starts it all), as listed in docs/protocol.md.
"""

import itertools
import subprocess
import unittest

import harness
from harness import Server, ServerCase, pattern
from nbdwire import (ALLOCATION, JUDGING_A_PEER, HOLE, PAYLOAD_LIMIT, ZERO, CFlag, Cmd,
                     Disconnected, Err, Info, Mode, Opt, Rep, Reply, TFlag, info_data, meta_data,
                     request_bytes, status_payload)

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

RANGE_COMMANDS = (Cmd.READ, Cmd.WRITE, Cmd.TRIM, Cmd.CACHE, Cmd.WRITE_ZEROES, Cmd.BLOCK_STATUS)
UNKNOWN_COMMAND = 0x4242


class Negotiating(ServerCase):
    """Getting to extended headers, and what that rules out."""

    def test_E01_extended_headers_need_nothing_before(self):
        """EXTENDED_HEADERS is granted first thing or after STRUCTURED_REPLY."""
        for before in ((), (Opt.STRUCTURED_REPLY,), (Opt.LIST,)):
            with self.subTest(before=before):
                client = self.haggler()
                for option in before:
                    self.assertIn(client.answer(option), (Rep.ACK, Rep.ERR_UNSUP)
                                  if JUDGING_A_PEER else (Rep.ACK,))
                client.agree(Mode.EXTENDED).go()
                self.assert_serving(client)
                client.disconnect()

    def test_E01_export_name_is_forbidden_afterwards(self):
        """EXPORT_NAME after EXTENDED_HEADERS ends the session without a word."""
        client = self.haggler().agree(Mode.EXTENDED)
        client.send_option(Opt.EXPORT_NAME)
        self.assert_dropped(client)

    def test_E01_structured_reply_comes_too_late_afterwards(self):
        """STRUCTURED_REPLY after EXTENDED_HEADERS is refused and changes nothing."""
        client = self.haggler().agree(Mode.EXTENDED)
        self.assertEqual(Rep.ERR_EXT_HEADER_REQD, client.answer(Opt.STRUCTURED_REPLY))
        client.go()
        self.assert_serving(client)

    def test_E01_info_and_go_are_understood_afterwards(self):
        """A server with extended headers has GO, and INFO says the same."""
        client = self.haggler().agree(Mode.EXTENDED)
        infos = [Info.BLOCK_SIZE]
        self.assertEqual(client.info("", infos).infos, client.go("", infos).infos)
        self.assert_serving(client)

    def test_E01_a_refused_starttls_resets_nothing(self):
        """Only STARTTLS that succeeds would wipe the agreement."""
        client = self.haggler().agree(Mode.EXTENDED)
        self.assertIn(client.answer(Opt.STARTTLS), (Rep.ERR_UNSUP, Rep.ERR_POLICY))
        client.go()
        self.assert_serving(client)

    def test_E01_extended_headers_include_structured_replies(self):
        """Metadata contexts can be set without STRUCTURED_REPLY before."""
        client = self.client(Mode.EXTENDED, contexts=[ALLOCATION])
        self.assertTrue(client.block_status(0, 4096))

    def test_H18_extended_headers_with_data(self):
        """EXTENDED_HEADERS with data is invalid and does not take effect."""
        client = self.haggler()
        answer = client.answer(Opt.EXTENDED_HEADERS, b"please")
        if JUDGING_A_PEER and answer == Rep.ERR_UNSUP:
            self.skipTest("this server does not know the option")
        self.assertEqual(Rep.ERR_INVALID, answer)
        self.assert_haggling(client)
        client.go()
        self.assertTrue(client.call(Cmd.READ, 0, 512).simple)

    def test_H18_extended_headers_twice(self):
        """Repeating EXTENDED_HEADERS is granted or invalid; it stays agreed."""
        client = self.haggler().agree(Mode.EXTENDED)
        self.assertIn(client.answer(Opt.EXTENDED_HEADERS), (Rep.ACK, Rep.ERR_INVALID))
        client.go()
        self.assert_serving(client)

    def test_E07_extended_headers_are_not_insisted_on(self):
        """Clients without them can enter transmission and query base:allocation."""
        for mode in (Mode.SIMPLE, Mode.STRUCTURED):
            client = self.haggler().agree(mode)
            if mode is Mode.STRUCTURED:
                for option in (Opt.LIST_META_CONTEXT, Opt.SET_META_CONTEXT):
                    self.assertEqual(Rep.ACK, client.answer(option, meta_data("", [ALLOCATION])))
            self.assertEqual(Rep.ACK, client.answer(Opt.INFO, info_data()))
            client.go()
            self.assert_serving(client)


class Extended(ServerCase):
    """Transmission with extended headers on a very large export."""

    backend = ("memory", "64T")
    size = 64 * TIB

    def extended(self):
        return self.client(Mode.EXTENDED, contexts=[ALLOCATION])

    def test_E02_all_replies_are_extended(self):
        """Success and failure of every command: 32 bytes, the request's offset.

        The client takes no simple or structured reply in this mode, and
        compares the offset of each chunk with that of the request.
        """
        client = self.extended()
        for offset in (0, 4096, 5 * GIB, self.size - 65536, self.size, (1 << 64) - 4096):
            for flags in (0, CFlag.FUA, 1 << 15):
                for command in RANGE_COMMANDS:
                    payload = bytes(8192) if command == Cmd.WRITE else None
                    client.call(command, offset, 8192, flags, payload)
                client.call(UNKNOWN_COMMAND, offset, 8192, flags)
        self.assert_ok(client.call(Cmd.FLUSH))
        client.disconnect()

    def test_E02_content_offsets_are_absolute(self):
        """OFFSET_DATA and OFFSET_HOLE tell their own offset, the header the request's."""
        client = self.extended()
        base = 7 * GIB
        client.write(base + 128 * KIB, pattern(64 * KIB))
        reply = client.call(Cmd.READ, base, 512 * KIB)
        self.assert_ok(reply)
        expected = bytes(128 * KIB) + pattern(64 * KIB) + bytes(320 * KIB)
        self.assertTrue(reply.data == expected, "data differ")

    def test_E02_many_requests_in_flight(self):
        """128 requests at once, replies in any order, all data right."""
        client = self.extended()
        data = pattern(MIB, seed=2)
        client.write(9 * GIB, data)
        reads = [client.submit(Cmd.READ, 9 * GIB + index * 8192, 8192) for index in range(128)]
        client.finish()
        for index, reply in enumerate(reads):
            self.assert_ok(reply)
            self.assertEqual(data[index * 8192:(index + 1) * 8192], reply.data)

    def test_E02_the_other_request_format_is_a_breach(self):
        """Compact requests now, or extended ones without agreement, end the session."""
        for agreed, sent in ((Mode.EXTENDED, Mode.SIMPLE), (Mode.SIMPLE, Mode.EXTENDED),
                             (Mode.STRUCTURED, Mode.EXTENDED)):
            with self.subTest(agreed=agreed):
                client = self.client(agreed)
                client.send(request_bytes(sent, Cmd.READ, 0, 512) + bytes(4))
                self.assert_dropped(client)

    def test_E03_payload_where_none_belongs_is_drained(self):
        """PAYLOAD_LEN on other commands: payload skipped, EINVAL, in sync."""
        client = self.extended()
        client.write(0, b"\x42" * 8192)
        for command in (Cmd.READ, Cmd.FLUSH, Cmd.TRIM, Cmd.CACHE, Cmd.WRITE_ZEROES, Cmd.RESIZE,
                        UNKNOWN_COMMAND):
            for length in (0, 1, 32, 4096, MIB):
                with self.subTest(command, length=length):
                    payload = request_bytes(Mode.EXTENDED, Cmd.DISC) * (length // 32 + 1)
                    reply = client.call(command, 0, length, payload=payload[:length])
                    self.assert_error(reply, Err.EINVAL)
                    self.assertEqual(b"\x42" * 512, client.read(0, 512))

    def test_E03_a_write_without_the_flag_is_never_half_taken(self):
        """WRITE without PAYLOAD_LEN is refused, or taken as a client's slip.

        The payload looks like FLUSH requests: whether the server takes it as
        payload or as requests shows in what it answers.  Either way it has to
        make sense, or the server may hang up.
        """
        client = self.extended()
        write = client.submit(Cmd.WRITE, 0, 512)
        flushes = b"".join(request_bytes(Mode.EXTENDED, Cmd.FLUSH, cookie=cookie)
                           for cookie in range(1, 17))
        for cookie in range(1, 17):
            client.pending[cookie] = Reply(Cmd.FLUSH, 0, 0, 0, {})
        replies = dict(client.pending)
        client.send(flushes)
        try:
            client.finish(write)
            last = client.submit(Cmd.READ, 0, 512)
            client.finish(last)
        except Disconnected:
            self.assert_unharmed()
            return
        answered = sum(reply.done for reply in replies.values()) - 1
        if answered or write.error is Err.EINVAL:
            self.assertEqual(Err.EINVAL, write.error)
            client.finish(*(replies[cookie] for cookie in range(1, 17) if answered))
        else:
            self.assertEqual(flushes, last.data, "neither refused nor written")

    def test_E03_too_much_payload_ends_the_session(self):
        """A payload beyond all limits is not read; the server hangs up."""
        for command in (Cmd.WRITE, Cmd.READ, Cmd.BLOCK_STATUS, UNKNOWN_COMMAND):
            for length in (1 << 32, TIB, 1 << 63, (1 << 64) - 1):
                with self.subTest(command, length=length):
                    client = self.extended()
                    client.send(request_bytes(Mode.EXTENDED, command, 0, length,
                                              CFlag.PAYLOAD_LEN))
                    self.assert_dropped(client)

    def test_E03_the_largest_payload_is_welcome(self):
        """32 MiB of payload are within the limits here too."""
        client = self.extended()
        data = pattern(4096, seed=3) * (PAYLOAD_LIMIT // 4096)
        client.write(11 * GIB, data)
        self.assertTrue(client.read(11 * GIB, PAYLOAD_LIMIT) == data, "data differ")
        self.assert_ok(client.call(Cmd.TRIM, 11 * GIB, PAYLOAD_LIMIT))

    def test_E04_effect_lengths_have_64_bits(self):
        """TRIM, WRITE_ZEROES and CACHE of many GiB work in one request."""
        client = self.extended()
        inside, outside = (1 * TIB, 3 * TIB, 5 * TIB - 4096), (1 * TIB - 4096, 5 * TIB)
        for command, flags in ((Cmd.WRITE_ZEROES, 0), (Cmd.WRITE_ZEROES, CFlag.FAST_ZERO),
                               (Cmd.WRITE_ZEROES, CFlag.FUA), (Cmd.TRIM, 0), (Cmd.CACHE, 0)):
            with self.subTest(command, flags=flags):
                for offset in inside + outside:
                    client.write(offset, b"\x65" * 4096)
                reply = client.call(command, 1 * TIB, 4 * TIB, flags)
                if command != Cmd.CACHE:
                    self.assert_ok(reply)
                for offset in outside:
                    self.assertEqual(b"\x65" * 4096, client.read(offset, 4096))
                for offset in inside:
                    if command == Cmd.WRITE_ZEROES:
                        self.assertEqual(bytes(4096), client.read(offset, 4096))
                    elif command == Cmd.CACHE:
                        self.assertEqual(b"\x65" * 4096, client.read(offset, 4096))
        for offset in inside + outside:
            self.assert_ok(client.call(Cmd.TRIM, offset, 4096))

    def test_E04_reads_beyond_32_bits(self):
        """A READ of more than 4 GiB is an error, and all stays in sync."""
        client = self.extended()
        for length in ((1 << 32) + 512, TIB, self.size):
            reply = client.call(Cmd.READ, 0, length)
            self.assert_error(reply, Err.EINVAL, Err.EOVERFLOW)
            self.assert_serving(client)

    def test_E04_past_the_end_with_64_bits(self):
        """Lengths that reach past the end or overflow are refused as ever."""
        client = self.extended()
        expected = {Cmd.WRITE_ZEROES: Err.ENOSPC}
        for command in (Cmd.READ, Cmd.TRIM, Cmd.CACHE, Cmd.WRITE_ZEROES, Cmd.BLOCK_STATUS):
            for offset, length in ((0, self.size + 1), (self.size, 1), (512, self.size),
                                   ((1 << 64) - 512, 1024), (512, (1 << 64) - 512),
                                   ((1 << 63), 1 << 63), ((1 << 64) - 1, (1 << 64) - 1)):
                with self.subTest(command, offset=offset, length=length):
                    allowed = {expected.get(command, Err.EINVAL)}
                    if command == Cmd.READ:
                        allowed.add(Err.EOVERFLOW)
                    self.assert_error(client.call(command, offset, length), *allowed)
        self.assert_serving(client)

    def test_E05_status_comes_in_64_bit_extents(self):
        """Extents of a huge, nearly empty export: few, long and right.

        That their type is BLOCK_STATUS_EXT, with zero high status bits and a
        count that fits the length, the client checks.
        """
        client = self.extended()
        client.write(20 * TIB, b"\x05" * MIB)
        offset, steps = 0, 0
        while offset < self.size:
            for length, status in client.block_status(offset, self.size - offset):
                inside = offset <= 20 * TIB < offset + length
                self.assertFalse(inside and status & ZERO, "data reported as zeroes")
                offset += length
            steps += 1
            self.assertLess(steps, 100, "extents are no longer than in 32 bits")
        self.assert_ok(client.call(Cmd.TRIM, 20 * TIB, MIB))

    def test_E05_one_extent_of_64_bits(self):
        """REQ_ONE obeys its limit with long requests too (the client checks)."""
        client = self.extended()
        for offset, length in ((0, self.size), (30 * TIB, 30 * TIB), (1, 8 * GIB), (0, 512)):
            self.assertEqual(1, len(client.block_status(offset, length, CFlag.REQ_ONE)))

    def test_E06_offered_only_where_it_can_be_used(self):
        """BLOCK_STATUS_PAYLOAD needs extended headers and selected contexts."""
        self.assertTrue(self.extended().export.flags & TFlag.BLOCK_STATUS_PAYLOAD)
        for client in (self.client(), self.client(Mode.STRUCTURED, contexts=[ALLOCATION]),
                       self.client(Mode.EXTENDED)):
            self.assertFalse(client.export.flags & TFlag.BLOCK_STATUS_PAYLOAD)

    def test_E06_contexts_named_in_the_request(self):
        """A payload with the effect length and context ids selects contexts."""
        client = self.extended()
        (context, name), = client.contexts.items()
        for offset, length in ((0, 4096), (0, self.size), (40 * TIB, 5 * GIB)):
            for flags in (0, CFlag.REQ_ONE):
                plain = client.call(Cmd.BLOCK_STATUS, offset, length, flags)
                reply = client.call(Cmd.BLOCK_STATUS, offset, length, flags,
                                    status_payload(length, [context]), contexts={context: name})
                self.assert_ok(reply)
                self.assertEqual(plain.extents, reply.extents)

    def test_E06_bad_payloads_are_drained_and_refused(self):
        """Duplicate and unknown ids, odd lengths, past the end: EINVAL, in sync."""
        client = self.extended()
        context, = client.contexts
        good = status_payload(4096, [context])
        bad = {
            "twice": status_payload(4096, [context, context]),
            "unknown": status_payload(4096, [context ^ 0x5A5A]),
            "unknown too": status_payload(4096, [context, context ^ 0x5A5A]),
            "many": status_payload(4096, range(context + 1, context + 5000)),
            "past the end": status_payload(self.size + 1, [context]),
            "overflow": status_payload((1 << 64) - 1, [context]),
            "empty": b"",
            **{f"{size} bytes": (good + good)[:size] for size in (1, 7, 9, 11, 13, 15)},
        }
        for what, payload in bad.items():
            with self.subTest(what):
                reply = client.call(Cmd.BLOCK_STATUS, 0, len(payload), payload=payload)
                self.assert_error(reply, Err.EINVAL)
                self.assert_serving(client)

    def test_E06_no_ids_select_nothing(self):
        """An effect length without ids is refused, or answered without extents."""
        client = self.extended()
        reply = client.call(Cmd.BLOCK_STATUS, 0, 4096, payload=status_payload(4096, []),
                            contexts={})
        self.assertIn(reply.error, (Err.OK, Err.EINVAL))
        self.assert_serving(client)

    def test_E06_payload_where_it_was_not_offered(self):
        """Without contexts the payload is drained and refused."""
        client = self.client(Mode.EXTENDED)
        reply = client.call(Cmd.BLOCK_STATUS, 0, 4096, payload=status_payload(4096, [0]))
        self.assert_error(reply, Err.EINVAL)
        self.assert_serving(client)


class SeveralContexts(ServerCase):
    """An export with contexts of its own, which it has from another server."""

    DEPTH = "qemu:allocation-depth"
    BITMAPS = ["qemu:dirty-bitmap:first", "qemu:dirty-bitmap:second"]
    good_name = None

    @classmethod
    def prepare(cls):
        """A disk of qemu's, written to at 1 MiB and 2 MiB; the second bitmap saw only that."""
        if JUDGING_A_PEER:
            raise unittest.SkipTest("only nbdring has contexts of another server")
        image, remote, pidfile = (cls.workdir / name for name in ("image", "remote", "pid"))

        def tool(*words):
            subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)

        tool("qemu-img", "create", "-q", "-f", "qcow2", image, "4M")
        for bitmap, place in (("first", "1M"), ("second", "2M")):
            tool("qemu-img", "bitmap", "--add", image, bitmap)
            tool("qemu-io", "-f", "qcow2", "-c", f"write {place} 64k", image)
        process = subprocess.Popen(["qemu-nbd", "-t", "-r", "-e", "0", "-f", "qcow2", "-A",
                                    "-B", "first", "-B", "second", "-k", remote,
                                    "--pid-file", pidfile, image])
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.terminate)
        harness.wait_until(pidfile.exists, "qemu-nbd")
        cls.backend = ("nbd", f"socket={remote}")

    def everything(self, mode):
        """A client of all contexts, and their ids by name."""
        names = [*self.BITMAPS, self.DEPTH, ALLOCATION]
        client = self.client(mode, contexts=names)
        ids = {name: context for context, name in client.contexts.items()}
        self.assertEqual(set(names), ids.keys())
        return client, ids

    def test_H19_all_are_listed(self):
        """By their names, and by their namespace."""
        client = self.haggler()
        every = {ALLOCATION, self.DEPTH, *self.BITMAPS}
        for queries, names in (((), every), (("qemu:",), every - {ALLOCATION}),
                               ((self.DEPTH, "x-no:"), {self.DEPTH})):
            listed = client.meta_contexts(Opt.LIST_META_CONTEXT, queries=queries)
            self.assertEqual(names, {name for _, name in listed})

    def test_C11_one_chunk_for_each(self):
        """Each selected context has its own chunk, in the order of their ids."""
        for mode in (Mode.STRUCTURED, Mode.EXTENDED):
            client, ids = self.everything(mode)
            reply = client.call(Cmd.BLOCK_STATUS, 0, 4 * MIB)
            self.assert_ok(reply)
            self.assertEqual(sorted(ids.values()), list(reply.extents))
            dirty = [(MIB, 0), (64 * KIB, 1), (MIB - 64 * KIB, 0), (64 * KIB, 1)]
            self.assertEqual(dirty, reply.extents[ids[self.BITMAPS[0]]][:4])
            self.assertEqual([(2 * MIB, 0), (64 * KIB, 1)],
                             reply.extents[ids[self.BITMAPS[1]]][:2])
            self.assertEqual(dirty, reply.extents[ids[self.DEPTH]][:4])
            self.assertEqual((MIB, HOLE | ZERO), reply.extents[ids[ALLOCATION]][0])
            self.assert_serving(client)

    def test_C12_req_one_for_each(self):
        """REQ_ONE: one extent of every context, each as long as it may be."""
        client, ids = self.everything(Mode.STRUCTURED)
        reply = client.call(Cmd.BLOCK_STATUS, MIB, 2 * MIB, CFlag.REQ_ONE)
        self.assertEqual([(64 * KIB, 1)], reply.extents[ids[self.BITMAPS[0]]])
        self.assertEqual([(MIB, 0)], reply.extents[ids[self.BITMAPS[1]]])

    def test_E06_some_of_several(self):
        """The payload names some of the selected contexts: those are answered."""
        client, ids = self.everything(Mode.EXTENDED)
        for names in ([self.BITMAPS[1]], [ALLOCATION, self.BITMAPS[0]]):
            wanted = {ids[name]: name for name in names}
            reply = client.call(Cmd.BLOCK_STATUS, 0, payload=status_payload(4 * MIB, wanted),
                                contexts=wanted)
            self.assert_ok(reply)
            self.assertEqual(wanted.keys(), reply.extents.keys())


class ReadOnly(ServerCase):
    """Extended headers and RESIZE on an export that must not be written."""

    options = ("-r",)

    def test_E03_refused_payloads_are_drained(self):
        """WRITE to a read-only export: EPERM, in sync."""
        client = self.client(Mode.EXTENDED)
        for length in (1, 4096, MIB):
            self.assert_error(client.call(Cmd.WRITE, 0, payload=bytes(length)), Err.EPERM)
        self.assert_serving(client)

    def test_R01_resize_is_not_permitted(self):
        """RESIZE of a read-only export: not offered, EPERM, size unchanged."""
        for mode in Mode:
            client = self.client(mode)
            self.assertFalse(client.export.flags & TFlag.SEND_RESIZE)
            # Who has no RESIZE may not know it either.
            self.assert_error(client.call(Cmd.RESIZE, 2 * MIB), Err.EPERM,
                              *((Err.EINVAL,) if JUDGING_A_PEER else ()))
            self.assert_serving(client)
        self.assertEqual(MIB, self.haggler().info().size)


class ResizeCases:
    """RESIZE of an export of 1 MiB, which the mixing class provides."""

    def resizer(self, mode):
        """A client that may resize, with the export at its first size."""
        client = self.client(mode)
        if JUDGING_A_PEER:
            self.need(client, TFlag.SEND_RESIZE)
        self.assertTrue(client.export.flags & TFlag.SEND_RESIZE, "RESIZE is not offered")
        self.assert_ok(client.call(Cmd.RESIZE, MIB))
        client.write(0, b"\xA1" * MIB)
        return client

    def check_stored_size(self, size):
        """Where the size can be seen from outside, it is this."""

    def test_R01_grow(self):
        """A larger export: zeroes at once here, and the size told to others."""
        for mode in Mode:
            client = self.resizer(mode)
            self.assert_ok(client.call(Cmd.RESIZE, 3 * MIB))
            self.assertEqual(b"\xA1" * 512 + bytes(2 * MIB), client.read(MIB - 512, 2 * MIB + 512))
            client.write(3 * MIB - 512, b"\xA2" * 512)
            self.assert_error(client.call(Cmd.READ, 3 * MIB, 1), Err.EINVAL)
            self.assertEqual(3 * MIB, self.client().export.size)
            self.check_stored_size(3 * MIB)
            client.disconnect()

    def test_R01_shrink(self):
        """A smaller export: what is cut off is out of bounds, and gone."""
        for mode in Mode:
            client = self.resizer(mode)
            self.assert_ok(client.call(Cmd.RESIZE, MIB // 2))
            self.assert_error(client.call(Cmd.READ, MIB // 2, 512), Err.EINVAL)
            self.assert_error(client.call(Cmd.WRITE, MIB // 2, payload=bytes(512)), Err.ENOSPC)
            self.assertEqual(MIB // 2, self.client().export.size)
            self.check_stored_size(MIB // 2)
            self.assert_ok(client.call(Cmd.RESIZE, MIB))
            expected = b"\xA1" * 512 + bytes(MIB // 2)
            self.assertTrue(client.read(MIB // 2 - 512, MIB // 2 + 512) == expected)
            client.disconnect()

    def test_R01_odd_sizes_and_the_same_size(self):
        """Any size is a size, the present one too."""
        client = self.resizer(Mode.STRUCTURED)
        for size in (MIB, MIB, 0, 1, 1000001, MIB):
            self.assert_ok(client.call(Cmd.RESIZE, size))
            self.assertEqual(size, self.client().export.size)

    def test_R01_impossible_sizes(self):
        """Sizes no export can have are refused and change nothing."""
        for mode in Mode:
            client = self.resizer(mode)
            for size in (1 << 63, (1 << 64) - 1):
                self.assert_error(client.call(Cmd.RESIZE, size), Err.EINVAL, Err.ENOSPC)
            self.assertEqual(MIB, self.client().export.size)
            self.check_stored_size(MIB)
            self.assert_serving(client)

    def test_R01_flags_that_do_not_apply(self):
        """RESIZE takes FUA at most."""
        client = self.resizer(Mode.STRUCTURED)
        for bit in range(1, 16):
            self.assert_error(client.call(Cmd.RESIZE, 2 * MIB, flags=1 << bit), Err.EINVAL)
        self.assert_ok(client.call(Cmd.RESIZE, MIB, flags=CFlag.FUA))

    def test_R01_resize_under_load(self):
        """Requests in flight elsewhere succeed, or fail for the end that moved."""
        resizer, worker = self.resizer(Mode.SIMPLE), self.client(Mode.STRUCTURED)
        for size in (MIB // 4, 2 * MIB, MIB // 2, MIB) * 4:
            replies = [worker.submit(Cmd.READ, offset, 8192)
                       for offset in range(0, MIB, 16 * KIB)]
            replies += [worker.submit(Cmd.WRITE, offset, payload=bytes(8192))
                        for offset in range(8192, MIB, 16 * KIB)]
            change = resizer.submit(Cmd.RESIZE, size)
            worker.finish()
            resizer.finish(change)
            self.assert_ok(change)
            for reply in replies:
                allowed = (Err.EINVAL, Err.EIO) if reply.command == Cmd.READ else (Err.ENOSPC,)
                self.assertIn(reply.error, (Err.OK, *allowed))
        self.assert_serving(worker)


class ResizeMemory(ResizeCases, ServerCase):
    """RESIZE of an export in memory."""


class ResizeFile(ResizeCases, ServerCase):
    """RESIZE of an export in a regular file."""

    @classmethod
    def prepare(cls):
        cls.disk = cls.workdir / "disk"
        cls.disk.write_bytes(bytes(MIB))
        cls.backend = ("file", cls.disk)

    def check_stored_size(self, size):
        self.assertEqual(size, self.disk.stat().st_size)


class ResizeNotOffered(unittest.TestCase):
    """Backends whose size is what it is."""

    def test_R01_resize_is_refused_where_it_is_not_offered(self):
        """Without the flag RESIZE is an error, and the size stays."""
        for backend, mode in itertools.product(("null", "pattern", "full"), Mode):
            with self.subTest(backend, mode=mode), Server(backend, "1M") as server, \
                    server.connect() as client:
                client.negotiate(mode=mode)
                if not client.export.flags & TFlag.SEND_RESIZE:
                    self.assertIn(client.call(Cmd.RESIZE, 2 * MIB).error, (Err.EINVAL, Err.EPERM))
                    self.assertEqual(512, len(client.read(0, 512)))
                client.disconnect()


if __name__ == "__main__":
    harness.main()
