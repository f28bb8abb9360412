#!/usr/bin/env python3
"""Conformance of the handshake: greeting and option haggling.

Test names start with the requirement's id, H1 to H25 and T2, as listed in
docs/protocol.md.
"""

import ctypes
import os
import socket
import struct
import tempfile
import unittest

import harness
import nbdwire
from harness import Server, ServerCase
from nbdwire import (ALLOCATION, FIXED_NEWSTYLE, NO_ZEROES, STRING_LIMIT, Client, Cmd,
                     Disconnected, Err, Info, Mode, Opt, Rep, TFlag, info_data, meta_data,
                     option_bytes, text_of)

# Options with payloads that break their own format.  Each must be answered
# with ERR_INVALID, and the option after it must still parse.
MALFORMED = {
    "LIST with data": (Opt.LIST, b"x"),
    "LIST with much data": (Opt.LIST, bytes(4000)),
    "STRUCTURED_REPLY with data": (Opt.STRUCTURED_REPLY, b"xy"),
    "INFO without anything": (Opt.INFO, b""),
    "INFO with half a name length": (Opt.INFO, b"\0\0"),
    "INFO without a request count": (Opt.INFO, struct.pack(">I", 0)),
    "INFO with half a request count": (Opt.INFO, struct.pack(">IB", 0, 0)),
    "INFO with a name as long as the option": (Opt.INFO, struct.pack(">I4sH", 10, b"name", 0)),
    "INFO with a name length of 4 GiB": (Opt.INFO, struct.pack(">IH", 0xFFFFFFFF, 0)),
    "INFO with fewer requests than counted": (Opt.INFO, struct.pack(">IHH", 0, 2, 3)),
    "INFO with more requests than counted": (Opt.INFO, struct.pack(">IHHH", 0, 1, 3, 3)),
    "INFO with half a request": (Opt.INFO, struct.pack(">IHB", 0, 1, 0)),
    "GO without anything": (Opt.GO, b""),
    "GO with a name length of 4 GiB - 6": (Opt.GO, struct.pack(">IH", 0xFFFFFFFA, 0)),
    "GO with fewer requests than counted": (Opt.GO, struct.pack(">IH", 0, 65535)),
    "GO with trailing bytes": (Opt.GO, info_data("", [Info.BLOCK_SIZE]) + b"zz"),
}

# The same for metadata contexts, which need structured replies first.
MALFORMED_META = {
    "empty": b"",
    "half a name length": b"\0\0\0",
    "a name longer than the option": struct.pack(">I", 100) + b"name" + struct.pack(">I", 0),
    "a name length of 4 GiB": struct.pack(">II", 0xFFFFFFFF, 0),
    "no query count": struct.pack(">I", 0),
    "half a query count": struct.pack(">IH", 0, 0),
    "fewer queries than counted": meta_data("", [ALLOCATION])[:-len(ALLOCATION) - 4],
    "a query cut short": meta_data("", [ALLOCATION])[:-1],
    "a query length of 4 GiB": struct.pack(">III", 0, 1, 0xFFFFFFFF),
    "a query count of 4 Gi": struct.pack(">II", 0, 0xFFFFFFFF),
    "trailing bytes": meta_data("", [ALLOCATION]) + b"zz",
}


class SingleExport(ServerCase):
    """Haggling with a server that answers to every export name."""

    def test_H01_greeting_has_only_the_two_defined_flags(self):
        """The server sets no handshake flag beyond FIXED_NEWSTYLE and NO_ZEROES."""
        flags = self.connect().greeting()
        self.assertEqual(FIXED_NEWSTYLE | NO_ZEROES, flags)

    def test_H02_unknown_client_flag_drops_the_connection(self):
        """Any client flag the protocol does not define ends the connection."""
        for bit in range(2, 32):
            with self.subTest(bit=bit):
                client = self.connect().begin(FIXED_NEWSTYLE | NO_ZEROES | 1 << bit)
                self.assert_dropped(client)

    def test_H03_without_fixed_newstyle_export_name_works(self):
        """A client that never heard of fixed newstyle can use EXPORT_NAME."""
        for flags in (0, NO_ZEROES):
            with self.subTest(flags=flags):
                client = self.connect().begin(flags)
                client.export_name("", padding=not flags)
                self.assertEqual(1 << 20, client.export.size)
                self.assert_serving(client)
                client.disconnect()

    def test_H03_without_fixed_newstyle_no_other_option_succeeds(self):
        """Other options are refused, by an error or by hanging up, TLS included."""
        for option in (Opt.LIST, Opt.INFO, Opt.GO, Opt.STARTTLS, Opt.STRUCTURED_REPLY):
            with self.subTest(option=option):
                client = self.connect().begin(0)
                data = info_data() if option in (Opt.INFO, Opt.GO) else b""
                try:
                    replies = client.option(option, data)
                except Disconnected:
                    self.assert_unharmed()
                    continue
                self.assertEqual(1, len(replies))
                self.assertTrue(replies[0].is_error, f"option {option} was granted")
                self.assertNotEqual(Rep.ERR_TLS_REQD, replies[0].type)
                client.export_name("", padding=True)
                self.assert_serving(client)

    def test_H04_export_name_sends_padding_unless_no_zeroes(self):
        """EXPORT_NAME is answered with 134 bytes, or 10 if NO_ZEROES was agreed."""
        for flags, padding in ((FIXED_NEWSTYLE, True), (FIXED_NEWSTYLE | NO_ZEROES, False)):
            with self.subTest(padding=padding):
                client = self.connect().begin(flags)
                client.export_name("", padding)
                self.assert_serving(client)
                client.disconnect()

    def test_H04_go_never_sends_padding(self):
        """GO ends with its ACK, whatever was agreed about zeroes."""
        for flags in (FIXED_NEWSTYLE, FIXED_NEWSTYLE | NO_ZEROES):
            with self.subTest(flags=flags):
                client = self.connect().begin(flags)
                client.go()
                self.assert_serving(client)
                client.disconnect()

    def test_H06_unknown_option_is_skipped_and_answered_unsup(self):
        """An unknown option's data is skipped, whatever it looks like."""
        client = self.haggler()
        inner = option_bytes(Opt.ABORT)
        for option, data in ((12, b""), (99, b"x"), (0, b"1234"), (0xFFFFFFFF, inner),
                             (1 << 16, bytes(STRING_LIMIT)), (12, inner * 500)):
            with self.subTest(option=option, length=len(data)):
                replies = client.option(option, data)
                self.assertEqual([Rep.ERR_UNSUP], [reply.type for reply in replies])
        client.go()
        self.assert_serving(client)

    def test_H07_every_error_drains_the_whole_option(self):
        """After any malformed option the next one is understood."""
        for what, (option, data) in MALFORMED.items():
            with self.subTest(what):
                client = self.haggler()
                replies = client.option(option, data)
                self.assertEqual([Rep.ERR_INVALID], [reply.type for reply in replies])
                self.assert_haggling(client)
                client.go()
                self.assert_serving(client)

    def test_H07_data_that_looks_like_an_option_is_not_taken_for_one(self):
        """Payload of a refused option that holds whole options stays payload."""
        client = self.haggler()
        inner = option_bytes(Opt.ABORT) * 3
        for option in (Opt.LIST, Opt.STRUCTURED_REPLY, Opt.STARTTLS, Opt.PEEK_EXPORT):
            with self.subTest(option=option):
                self.assertGreater(client.answer(option, inner), Rep.META_CONTEXT)
                self.assert_haggling(client)

    def test_H08_a_name_of_4096_bytes_is_a_legal_name(self):
        """Names up to the limit are strings like any other."""
        self.need_any_name()
        name = "\u00e9" * (STRING_LIMIT // 2)
        client = self.haggler()
        client.info(name)
        client.go(name)
        self.assert_serving(client)

    def test_H08_illegal_strings_are_refused(self):
        """Names with NUL or beyond 4096 bytes never succeed."""
        for what, name in (("too long", b"n" * (STRING_LIMIT + 1)), ("NUL", b"a\0b")):
            for option, data in ((Opt.INFO, info_data(name)), (Opt.GO, info_data(name)),
                                 (Opt.LIST_META_CONTEXT, meta_data(name))):
                with self.subTest(what, option=option):
                    client = self.haggler()
                    try:
                        replies = client.option(option, data)
                    except Disconnected:
                        self.assert_unharmed()
                        continue
                    self.assertTrue(replies[-1].is_error, f"{what} name was accepted")
                    self.assert_haggling(client)

    def test_H08_illegal_queries_are_refused_or_ignored(self):
        """A query with NUL or beyond 4096 bytes selects nothing, and sync is kept."""
        for query in (b"base:" + b"q" * STRING_LIMIT, b"base:alloc\0ation"):
            with self.subTest(length=len(query)):
                client = self.haggler().agree(Mode.STRUCTURED)
                try:
                    replies = client.option(Opt.SET_META_CONTEXT, meta_data("", [query]))
                except Disconnected:
                    self.assert_unharmed()
                    continue
                self.assertEqual(1, len(replies))
                self.assert_haggling(client)

    def test_H09_errors_do_not_end_the_haggling(self):
        """A client that only ever errs is answered with errors, not hung up on."""
        client = self.haggler()
        for option, data in list(MALFORMED.values())[:14]:
            self.assertGreater(client.answer(option, data), Rep.META_CONTEXT)
        client.go()
        self.assert_serving(client)

    def test_H11_abort_is_acknowledged_and_ends_the_session(self):
        """ABORT gets an ACK, with or without (ignored) data, then the end."""
        for data in (b"", b"because", option_bytes(Opt.LIST)):
            with self.subTest(length=len(data)):
                client = self.haggler()
                self.assertEqual(Rep.ACK, client.answer(Opt.ABORT, data))
                self.assert_dropped(client)

    def test_H11_abort_without_reading_the_answer(self):
        """A client that aborts and leaves at once does no harm."""
        for _ in range(20):
            client = self.haggler()
            client.send_option(Opt.ABORT)
            client.close()
        self.assert_unharmed()

    def test_H12_list_with_data_is_invalid(self):
        """LIST takes no data."""
        client = self.haggler()
        self.assertEqual(Rep.ERR_INVALID, client.answer(Opt.LIST, b"export"))
        self.assertIn(nbdwire.default_export.decode(), client.names())

    def test_H13_info_and_go_ignore_unknown_information_requests(self):
        """Unknown requests change nothing: success, and INFO_EXPORT is there."""
        unknown = [4, 5, 0x1234, 0x7FFF, 0xFFFF]
        client = self.haggler()
        export = client.info("", unknown)
        self.assertEqual(1 << 20, export.size)
        self.assertEqual(1 << 20, client.go("", unknown + [Info.NAME]).size)
        self.assert_serving(client)

    def test_H13_success_always_tells_the_export(self):
        """INFO_EXPORT comes whatever was asked for, even if it was not."""
        client = self.haggler()
        for infos in ((), (Info.EXPORT,), (Info.NAME,), (Info.DESCRIPTION,),
                      (Info.BLOCK_SIZE,), (3, 2, 1, 0), range(100)):
            with self.subTest(infos=infos):
                self.assertEqual(1 << 20, client.info("", infos).size)

    def test_H13_name_length_must_leave_room(self):
        """A name longer than the option less 6 bytes is invalid, by one byte too."""
        client = self.haggler()
        for option in (Opt.INFO, Opt.GO):
            for excess in (1, 2, 3, 1000):
                with self.subTest(option=option, excess=excess):
                    data = struct.pack(">I4sH", 4 + excess, b"name", 0)
                    self.assertEqual(Rep.ERR_INVALID, client.answer(option, data))
        client.go()
        self.assert_serving(client)

    def test_H15_go_repeats_what_info_said(self):
        """GO right after INFO, same parameters: the same information."""
        for mode in (Mode.SIMPLE, Mode.STRUCTURED):
            for infos in ((), (Info.BLOCK_SIZE,), (Info.NAME, Info.DESCRIPTION, 99)):
                with self.subTest(mode=mode, infos=infos):
                    client = self.haggler().agree(mode)
                    self.assertEqual(client.info("", infos).infos, client.go("", infos).infos)
                    self.assert_serving(client)

    def test_H17_the_empty_name_is_the_default_export(self):
        """GO, INFO and EXPORT_NAME reach the only export by the empty name."""
        if nbdwire.default_export:
            self.skipTest("this server has no default export")
        client = self.haggler()
        self.assertEqual(1 << 20, client.info("").size)
        self.assertEqual(1 << 20, client.go("").size)
        self.assertEqual(1 << 20, self.haggler().export_name("").size)

    def test_H18_options_without_data_refuse_data(self):
        """STRUCTURED_REPLY and LIST with data are invalid and change nothing."""
        client = self.haggler()
        self.assertEqual(Rep.ERR_INVALID, client.answer(Opt.STRUCTURED_REPLY, b"please"))
        self.assertEqual(Rep.ERR_INVALID, client.answer(Opt.LIST, b"please"))
        client.go()
        reply = client.call(Cmd.READ, 0, 512)
        self.assertTrue(reply.simple, "a refused STRUCTURED_REPLY took effect")

    def test_H18_starttls_with_data_is_an_error(self):
        """STARTTLS with data is refused (for its data or for itself)."""
        client = self.haggler()
        self.assertIn(client.answer(Opt.STARTTLS, b"x"),
                      (Rep.ERR_INVALID, Rep.ERR_UNSUP, Rep.ERR_POLICY))
        self.assert_haggling(client)

    def test_H18_structured_reply_twice(self):
        """Repeating STRUCTURED_REPLY is granted or invalid; it stays agreed."""
        client = self.haggler().agree(Mode.STRUCTURED)
        self.assertIn(client.answer(Opt.STRUCTURED_REPLY), (Rep.ACK, Rep.ERR_INVALID))
        client.go()
        self.assert_serving(client)

    def test_H19_list_meta_context_answers(self):
        """Every kind of LIST_META_CONTEXT query gets what it should."""
        everything = [(0, ALLOCATION)]
        for queries, expected in (((), everything), ((ALLOCATION,), everything),
                                  (("base:",), everything),
                                  (("x-unknown:thing", ALLOCATION), everything),
                                  (("x-unknown:thing",), []), (("base:nonsense",), []),
                                  (("qemu:dirty-bitmap:none",), [])):
            with self.subTest(queries=queries):
                client = self.haggler().agree(Mode.STRUCTURED)
                found = client.meta_contexts(Opt.LIST_META_CONTEXT, "", queries)
                self.assertEqual(expected, [pair for pair in found
                                            if pair[1].startswith("base:")])
                if queries:
                    self.assertEqual(expected, found)

    def test_H19_many_queries(self):
        """Many queries are answered, or refused as too big; sync is kept."""
        client = self.haggler().agree(Mode.STRUCTURED)
        queries = [f"x-nobody:{number}" for number in range(300)] + [ALLOCATION]
        self.assertIn(client.answer(Opt.LIST_META_CONTEXT, meta_data("", queries)),
                      (Rep.ACK, Rep.ERR_TOO_BIG))
        self.assert_haggling(client)

    def test_H19_malformed_list_meta_context(self):
        """Lengths that contradict each other are invalid and keep sync."""
        for what, data in MALFORMED_META.items():
            with self.subTest(what):
                client = self.haggler().agree(Mode.STRUCTURED)
                self.assertEqual(Rep.ERR_INVALID, client.answer(Opt.LIST_META_CONTEXT, data))
                self.assert_haggling(client)

    def test_H19_query_without_a_namespace(self):
        """A query without a colon is invalid or matches nothing."""
        client = self.haggler().agree(Mode.STRUCTURED)
        replies = client.option(Opt.LIST_META_CONTEXT, meta_data("", ["allocation"]))
        self.assertEqual(1, len(replies))
        self.assertIn(replies[0].type, (Rep.ACK, Rep.ERR_INVALID))
        self.assert_haggling(client)

    def test_H20_list_meta_context_without_structured_replies(self):
        """The list is served, or refused as invalid."""
        client = self.haggler()
        self.assertIn(client.answer(Opt.LIST_META_CONTEXT, meta_data()),
                      (Rep.ACK, Rep.ERR_INVALID, Rep.ERR_UNSUP))
        self.assert_haggling(client)

    def test_H21_set_meta_context_needs_structured_replies(self):
        """Without structured replies no context can be set."""
        client = self.haggler()
        self.assertEqual(Rep.ERR_INVALID,
                         client.answer(Opt.SET_META_CONTEXT, meta_data("", [ALLOCATION])))
        client.go()
        self.assert_error(client.call(Cmd.BLOCK_STATUS, 0, 512), Err.EINVAL)
        self.assert_serving(client)

    def test_H21_set_meta_context_selects_by_full_name_only(self):
        """Wildcards and unknown leaves select nothing; ids are unique."""
        for queries, expected in (((ALLOCATION,), [ALLOCATION]), (("base:",), []),
                                  ((), []), (("base:nonsense",), []),
                                  (("x-unknown:y", ALLOCATION, "base:"), [ALLOCATION]),
                                  ((ALLOCATION, ALLOCATION), [ALLOCATION])):
            with self.subTest(queries=queries):
                client = self.haggler().agree(Mode.STRUCTURED)
                found = client.meta_contexts(Opt.SET_META_CONTEXT, "", queries)
                self.assertEqual(expected, [name for _, name in found])
                client.go()
                reply = client.call(Cmd.BLOCK_STATUS, 0, 512)
                self.assertEqual(Err.OK if expected else Err.EINVAL, reply.error)

    def test_H21_set_meta_context_replaces_the_previous_set(self):
        """The last SET_META_CONTEXT counts, also if it selected nothing or failed."""
        last = {"zero queries": meta_data(), "no match": meta_data("", ["x-no:match"])}
        for what, data in {**last, **MALFORMED_META}.items():
            with self.subTest(what):
                client = self.haggler().agree(Mode.STRUCTURED)
                client.meta_contexts(Opt.SET_META_CONTEXT, "", [ALLOCATION])
                expected = Rep.ACK if what in last else Rep.ERR_INVALID
                self.assertEqual(expected, client.answer(Opt.SET_META_CONTEXT, data))
                client.go()
                self.assert_error(client.call(Cmd.BLOCK_STATUS, 0, 512), Err.EINVAL)
                self.assert_serving(client)

    def test_H22_block_status_needs_the_same_export_name(self):
        """Contexts set for one name do not serve another one."""
        self.need_any_name()
        for chosen, entered, expected in (("a", "a", Err.OK), ("a", "b", Err.EINVAL),
                                          ("", "a", Err.EINVAL), ("a", "", Err.EINVAL)):
            for enter in (Client.go, Client.export_name):
                with self.subTest(chosen=chosen, entered=entered, enter=enter.__name__):
                    client = self.haggler().agree(Mode.STRUCTURED)
                    client.meta_contexts(Opt.SET_META_CONTEXT, chosen, [ALLOCATION])
                    enter(client, entered)
                    reply = client.call(Cmd.BLOCK_STATUS, 0, 512)
                    self.assertEqual(expected, reply.error)
                    self.assert_serving(client)

    def test_H22_block_status_needs_a_context(self):
        """A client that never set a context gets EINVAL."""
        for mode in (Mode.SIMPLE, Mode.STRUCTURED):
            with self.subTest(mode=mode):
                client = self.client(mode)
                self.assert_error(client.call(Cmd.BLOCK_STATUS, 0, 512), Err.EINVAL)
                self.assert_serving(client)

    def test_H23_peek_export_is_not_in_use(self):
        """The withdrawn option 4 is an unknown option."""
        client = self.haggler()
        self.assertEqual(Rep.ERR_UNSUP, client.answer(Opt.PEEK_EXPORT, b"export"))
        self.assertEqual(Rep.ERR_UNSUP, client.answer(Opt.PEEK_EXPORT))
        self.assert_haggling(client)

    def test_H25_the_baseline(self):
        """What every server must have: INFO, GO, ABORT, LIST, READ, WRITE, DISC."""
        client = self.haggler()
        self.assertIsInstance(client.names(), list)
        self.assertEqual(client.info().size, client.go().size)
        client.write(4096, b"baseline" * 64)
        self.assertEqual(b"baseline" * 64, client.read(4096, 512))
        client.disconnect()
        self.assertEqual(Rep.ACK, self.haggler().answer(Opt.ABORT))

    def test_H25_maximum_interoperability(self):
        """EXPORT_NAME, FLUSH and FUA are there for clients that rely on them."""
        client = self.haggler()
        client.export_name("")
        self.assertTrue(client.export.flags & TFlag.SEND_FLUSH)
        self.assertTrue(client.export.flags & TFlag.SEND_FUA)
        client.write(0, b"interop!" * 64, flags=1)
        self.assert_ok(client.call(Cmd.FLUSH))
        client.disconnect()

    def test_T02_starttls_is_refused_and_changes_nothing(self):
        """A server without TLS says so, and what was agreed stays agreed."""
        client = self.haggler().agree(Mode.STRUCTURED)
        self.assertIn(client.answer(Opt.STARTTLS), (Rep.ERR_UNSUP, Rep.ERR_POLICY))
        client.go()
        self.assert_serving(client)

    def test_T02_no_option_is_answered_tls_required(self):
        """TLS_REQD never comes from a server without TLS."""
        client = self.haggler()
        for option in list(Opt)[2:] + [99]:
            if option == Opt.GO:
                continue
            data = info_data() if option == Opt.INFO else meta_data()
            self.assertNotEqual(Rep.ERR_TLS_REQD, client.answer(option, data))
        self.assertNotEqual(Rep.ERR_TLS_REQD, client.answer(Opt.GO, info_data()))


class ManyExports(ServerCase):
    """Haggling with a server that has named exports only."""

    good_name = "alpha"
    names = ("alpha", "beta", "n\u00e4me with spaces")

    @classmethod
    def prepare(cls):
        for number, name in enumerate(cls.names):
            (cls.workdir / name).write_bytes(bytes(1024 * (number + 1)))
        cls.backend = ("file", f"dir={cls.workdir}")

    def test_H05_unknown_export_name_ends_the_session(self):
        """EXPORT_NAME cannot be answered with an error, so nothing is said."""
        for name in ("gamma", "alpha2", "ALPHA", "../alpha", "x" * STRING_LIMIT):
            with self.subTest(name=name[:20]):
                client = self.haggler()
                client.send_option(Opt.EXPORT_NAME, name.encode())
                self.assert_dropped(client)

    def test_H08_listed_names_are_legal_strings(self):
        """A file whose name is not UTF-8 is not listed as it stands."""
        odd = os.fsencode(self.workdir) + b"/\xff\xfe-odd"
        try:
            with open(odd, "wb") as file:
                file.write(bytes(512))
        except OSError:
            self.skipTest("the file system refuses names that are not UTF-8")
        self.addCleanup(os.unlink, odd)
        self.assertLessEqual(set(self.names), set(self.haggler().names()))

    def test_H08_error_texts_are_legal_strings(self):
        """Errors that quote the client's name stay UTF-8 and within 4096 bytes."""
        client = self.haggler()
        for name in ("\u00e9" * (STRING_LIMIT // 2), "x" + "\u20ac" * 1365, "\n%s%n"):
            with self.subTest(name=name[:10]):
                reply = client.option(Opt.GO, info_data(name))[-1]
                self.assertEqual(Rep.ERR_UNKNOWN, reply.type)
                text_of(reply.data, "error message")

    def test_H08_names_that_are_not_utf8_are_answered_in_utf8(self):
        """A name in no known encoding is an error, told in a legal string."""
        client = self.haggler()
        for name in (b"\xff\xfe", b"alpha\xc3", b"\xed\xa0\x80"):
            with self.subTest(name=name):
                self.assertTrue(client.option(Opt.GO, info_data(name))[-1].is_error)
        self.assert_haggling(client)

    def test_H12_list_shows_every_export(self):
        """LIST names each file in the folder, and only those."""
        names = self.haggler().names()
        self.assertEqual(sorted(self.names), sorted(name for name in names if name))

    def test_H14_unknown_export_is_answered_unknown(self):
        """INFO and GO of an unknown export: ERR_UNKNOWN, and no information."""
        client = self.haggler()
        for option in (Opt.INFO, Opt.GO):
            for name in ("gamma", "alpha/", "./alpha", "../" + self.workdir.name + "/alpha",
                         "/etc/passwd", ".", ".."):
                with self.subTest(option=option, name=name):
                    replies = client.option(option, info_data(name, [Info.BLOCK_SIZE]))
                    self.assertEqual([Rep.ERR_UNKNOWN], [reply.type for reply in replies])
        client.go("alpha")
        self.assert_serving(client)

    def test_H21_contexts_of_an_unknown_export_replace_the_set(self):
        """Whatever a set for an unknown export is answered, the old set is gone."""
        client = self.haggler().agree(Mode.STRUCTURED)
        client.meta_contexts(Opt.SET_META_CONTEXT, "alpha", [ALLOCATION])
        for option in (Opt.LIST_META_CONTEXT, Opt.SET_META_CONTEXT):
            self.assertIn(client.answer(option, meta_data("gamma", [ALLOCATION])),
                          (Rep.ACK, Rep.ERR_UNKNOWN))
        client.go("alpha")
        self.assert_error(client.call(Cmd.BLOCK_STATUS, 0, 512), Err.EINVAL)

    def test_H15_each_export_has_its_own_size_in_info_and_go(self):
        """INFO tells the size of the export it names, the one GO then tells."""
        for number, name in enumerate(self.names):
            with self.subTest(name=name):
                client = self.haggler()
                self.assertEqual(1024 * (number + 1), client.info(name).size)
                self.assertEqual(1024 * (number + 1), client.go(name).size)

    def test_H17_the_empty_name_where_there_is_no_default(self):
        """Without a default export the empty name is unknown, or some export."""
        client = self.haggler()
        replies = client.option(Opt.INFO, info_data(""))
        self.assertIn(replies[-1].type, (Rep.ACK, Rep.ERR_UNKNOWN))
        self.assert_haggling(client)


class NoExports(ServerCase):
    """A folder without files: a server with nothing to serve."""

    good_name = None

    @classmethod
    def prepare(cls):
        cls.backend = ("file", f"dir={cls.workdir}")

    def test_H12_an_empty_list_is_just_ack(self):
        """No exports: LIST is answered by a lone ACK."""
        replies = self.haggler().option(Opt.LIST)
        self.assertEqual([Rep.ACK], [reply.type for reply in replies])


class OtherServers(unittest.TestCase):
    """Servers started with options that change the handshake."""

    def serve(self, *options, backend=("memory", "1M")):
        server = Server(*backend, options=options)
        server.start()
        self.addCleanup(server.stop)
        return server

    def connect(self, server):
        client = server.connect()
        self.addCleanup(client.close)
        return client

    def test_H01_masked_handshake_flags(self):
        """--mask-handshake takes flags away from the greeting."""
        for mask in range(4):
            with self.subTest(mask=mask):
                server = self.serve(f"--mask-handshake={mask}")
                self.assertEqual(mask, self.connect(server).greeting())

    def test_H02_no_zeroes_that_was_not_offered(self):
        """NO_ZEROES from a client is a breach if the server did not offer it."""
        server = self.serve(f"--mask-handshake={FIXED_NEWSTYLE}")
        client = self.connect(server).begin(FIXED_NEWSTYLE | NO_ZEROES)
        self.assertEqual(b"", client.until_closed())
        client = self.connect(server).begin(FIXED_NEWSTYLE)
        client.export_name("", padding=True)
        self.assertEqual(bytes(512), client.read(0, 512))

    def test_H03_a_server_without_fixed_newstyle(self):
        """Where it is not offered, fixed newstyle must not be used either."""
        server = self.serve("--mask-handshake=0")
        client = self.connect(server).begin(FIXED_NEWSTYLE)
        self.assertEqual(b"", client.until_closed())
        client = self.connect(server).begin(0)
        client.export_name("", padding=True)
        self.assertEqual(bytes(512), client.read(0, 512))

    def test_H10_options_during_shutdown(self):
        """From SIGTERM on: ERR_SHUTDOWN or the end, and ABORT still works."""
        server = self.serve()
        client = self.connect(server).begin()
        server.terminate()
        try:
            answers = {client.answer(Opt.INFO, info_data()) for _ in range(8)}
            self.assertLessEqual(answers, {Rep.ACK, Rep.ERR_SHUTDOWN})
            self.assertEqual(Rep.ACK, client.answer(Opt.ABORT))
            self.assertEqual(b"", client.until_closed())
        except Disconnected:
            pass
        client.close()
        server.check_exit()

    def test_H16_unrequested_sizes_do_not_bind_the_client(self):
        """Whoever did not ask for block sizes may send any request."""
        directory = harness.direct_directory()
        if directory is None:
            self.skipTest("no file system with O_DIRECT")
        disk = tempfile.NamedTemporaryFile(dir=directory)
        self.addCleanup(disk.close)
        disk.write(bytes(range(256)) * 256)
        disk.flush()
        client = self.connect(self.serve(backend=("file", disk.name, "cache=none"))).begin()
        export = client.info("")
        if client.answer(Opt.GO, info_data("")) == Rep.ERR_BLOCK_SIZE_REQD:
            self.skipTest("the server insists on negotiated block sizes")
        client.export = export
        self.assertEqual(bytes(range(1, 4)), client.read(1, 3))

    def test_H18_no_structured_replies(self):
        """--no-sr makes STRUCTURED_REPLY unknown, and SET_META_CONTEXT invalid."""
        client = self.connect(self.serve("--no-sr")).begin()
        self.assertEqual(Rep.ERR_UNSUP, client.answer(Opt.STRUCTURED_REPLY))
        self.assertIn(client.answer(Opt.SET_META_CONTEXT, meta_data("", [ALLOCATION])),
                      (Rep.ERR_INVALID, Rep.ERR_UNSUP))
        client.go()
        self.assertTrue(client.call(Cmd.READ, 0, 512).simple)

    def test_H21_no_meta_contexts(self):
        """--no-mc makes the metadata context options unknown."""
        client = self.connect(self.serve("--no-mc")).begin().agree(Mode.STRUCTURED)
        for option in (Opt.LIST_META_CONTEXT, Opt.SET_META_CONTEXT):
            self.assertEqual(Rep.ERR_UNSUP, client.answer(option, meta_data("", [ALLOCATION])))
        client.go()
        self.assertEqual(Err.EINVAL, client.call(Cmd.BLOCK_STATUS, 0, 512).error)

    def test_H24_tcp_is_newstyle_without_nagle(self):
        """A TCP port speaks newstyle, and the server's socket has TCP_NODELAY."""
        server = Server.start_on_tcp("memory", "1M")
        self.addCleanup(server.stop)
        client = self.connect(server).negotiate()
        self.assertEqual(bytes(512), client.read(0, 512))
        self.assertEqual([1], nodelay_of_peer(server.pid, client.sock)
                         or self.skipTest("the server's descriptors cannot be seen"))
        client.disconnect()

    def test_H24_oldstyle_only_where_asked_for(self):
        """-o speaks oldstyle: the export at once, then simple replies."""
        client = self.connect(self.serve("-o"))
        client.oldstyle_greeting()
        self.assertEqual(1 << 20, client.export.size)
        self.assertTrue(client.export.flags & TFlag.HAS_FLAGS)
        self.assertFalse(client.export.flags & TFlag.SEND_DF)
        client.write(512, b"oldstyle" * 64)
        self.assertEqual(b"oldstyle" * 64, client.read(512, 512))
        client.disconnect()

    def test_H24_no_oldstyle_on_the_newstyle_port(self):
        """On port 10809 oldstyle is refused at start, or newstyle spoken."""
        server = Server("memory", "1M", options=["-o"], port=10809)
        try:
            server.start()
        except harness.ServerError:
            return
        self.addCleanup(server.stop)
        self.connect(server).greeting()


def nodelay_of_peer(pid, sock):
    """TCP_NODELAY of the socket in process `pid` that is connected to `sock`.

    Takes a copy of each of the process's sockets with pidfd_getfd(2) to look
    at it; an empty list where that is not possible.
    """
    pidfd_getfd = 438
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(pid)
    found = []
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            copy = libc.syscall(pidfd_getfd, handle, number, 0)
            if copy < 0:
                continue
            try:
                with socket.socket(fileno=copy) as peer:
                    if peer.family == socket.AF_INET and peer.getpeername() == sock.getsockname():
                        found.append(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            except OSError:
                continue
    finally:
        os.close(handle)
    return found


if __name__ == "__main__":
    harness.main()
