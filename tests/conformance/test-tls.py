#!/usr/bin/env python3
"""Conformance of TLS.

Test names start with the requirement's id, T1 to T11, as listed in
docs/protocol.md; T2, which is about servers without TLS, is in
test-handshake.py.  What needs TLS is skipped for a server that says in
--dump-config that it has none.

Only names and ids are checked by these clients, not certificates: that is
what libraries do.
"""

import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest
import warnings

import harness
from harness import Server, ServerCase
from nbdwire import (ALLOCATION, FIXED_NEWSTYLE, NO_ZEROES, OPTION_REPLY_MAGIC, PATIENCE, Client,
                     Cmd, Disconnected, Err, Mode, Opt, Rep, info_data, meta_data, option_bytes,
                     request_bytes)

# Every option a client may come with, with data that suits it; 99 is unknown.
OPTIONS = {
    Opt.LIST: b"",
    Opt.PEEK_EXPORT: b"",
    Opt.INFO: info_data(),
    Opt.STRUCTURED_REPLY: b"",
    Opt.LIST_META_CONTEXT: meta_data(),
    Opt.SET_META_CONTEXT: meta_data("", [ALLOCATION]),
    Opt.EXTENDED_HEADERS: b"",
    99: b"",
    Opt.GO: info_data(),
}


class TlsClient(Client):
    """A client that can go over to TLS in the middle of its negotiation."""

    secure = None

    def start_tls(self, context=None):
        """STARTTLS, then the TLS handshake."""
        answer = self.answer(Opt.STARTTLS)
        if answer != Rep.ACK:
            raise AssertionError(f"STARTTLS is answered by {answer:#x}")
        return self.secure_now(context)

    def secure_now(self, context=None):
        """The TLS handshake."""
        self.sock.settimeout(PATIENCE)
        self.sock = (context or client_context()).wrap_socket(
            self.sock, suppress_ragged_eofs=False)
        self.secure = self.sock
        return self

    def send(self, data):
        if not self.secure:
            super().send(data)
            return
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
            raise Disconnected(f"the server closed the connection: {error}") from error

    def _receive_some(self, most):
        if not self.secure:
            return super()._receive_some(most)
        try:
            return self.sock.recv(most)
        except ConnectionResetError:
            return b""


def client_context(newest=None, oldest=None):
    """A TLS client that trusts anybody, within these versions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if newest is not None:
            # Else this library would not offer what is out of date at all.
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = oldest or newest
            context.maximum_version = newest
    return context


def has_tls():
    """Whether the server was built with TLS."""
    command = harness.server_command()
    if command is None:
        return False
    said = subprocess.run([*command, "--dump-config"], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, text=True).stdout
    return "tls=yes" in said.splitlines()


def make_certificates(directory):
    """A certificate that signs itself, under the names the server looks for."""
    key, certificate = directory / "server-key.pem", directory / "server-cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    shutil.copy(certificate, directory / "ca-cert.pem")


class WithoutTls(ServerCase):
    """A server on which TLS is off."""

    def test_T01_the_mode_is_the_same_at_any_time(self):
        """STARTTLS is refused alike, whatever was said before and on every connection."""
        refusals = set()
        for before in ((), (Opt.LIST,), (Opt.STRUCTURED_REPLY,), (Opt.INFO,), (Opt.STARTTLS,)):
            client = self.haggler()
            for option in before:
                if client.answer(option, OPTIONS.get(option, b"")) == Rep.ACK \
                        and option == Opt.STRUCTURED_REPLY:
                    client.mode = Mode.STRUCTURED
            refusals.add(client.answer(Opt.STARTTLS))
            client.go()
            self.assert_serving(client)
        self.assertEqual(1, len(refusals), refusals)
        self.assertLessEqual(refusals, {Rep.ERR_UNSUP, Rep.ERR_POLICY})


class TlsCase(unittest.TestCase):
    """A server with TLS, either for who wants it or for everybody."""

    mode = "on"

    @classmethod
    def setUpClass(cls):
        if not has_tls():
            raise unittest.SkipTest("this server has no TLS")
        directory = pathlib.Path(tempfile.mkdtemp(prefix="nbdc-tls-"))
        cls.addClassCleanup(shutil.rmtree, directory)
        make_certificates(directory)
        cls.server = Server("memory", "1M", options=(
            f"--tls={cls.mode}", f"--tls-certificates={directory}")).start()
        cls.addClassCleanup(cls.server.stop)

    def haggler(self):
        client = TlsClient.unix(self.server.socket)
        self.addCleanup(client.close)
        return client.begin()

    def assert_serving(self, client):
        client.finish()
        self.assertEqual(512, len(client.read(0, 512)))

    def assert_over(self, client):
        """The server closes this connection without another option reply."""
        try:
            said = client.until_closed()
        except (OSError, Disconnected):
            said = b""
        self.assertNotIn(OPTION_REPLY_MAGIC.to_bytes(8, "big"), said)
        fresh = self.haggler().start_tls()
        fresh.go()
        self.assert_serving(fresh)


class Required(TlsCase):
    """FORCEDTLS: nothing goes without."""

    mode = "require"

    def test_T01_tls_stays_required(self):
        """Asking again does not help."""
        client = self.haggler()
        for _ in range(5):
            self.assertEqual(Rep.ERR_TLS_REQD, client.answer(Opt.GO, info_data()))
        client.start_tls().go()
        self.assert_serving(client)

    def test_T03_every_option_is_answered_tls_required(self):
        """All options but STARTTLS and ABORT get TLS_REQD, unknown ones as well."""
        client = self.haggler()
        for option, data in OPTIONS.items():
            with self.subTest(option):
                self.assertEqual(Rep.ERR_TLS_REQD, client.answer(option, data))
        self.assertIn(client.answer(Opt.ABORT), (Rep.ACK, Rep.ERR_TLS_REQD))

    def test_T03_export_name_ends_the_session(self):
        """EXPORT_NAME has no error reply."""
        client = self.haggler()
        client.send_option(Opt.EXPORT_NAME, b"")
        self.assert_over(client)

    def test_T03_a_client_without_fixed_newstyle_cannot_enter(self):
        """For it there is only EXPORT_NAME."""
        client = TlsClient.unix(self.server.socket)
        self.addCleanup(client.close)
        client.begin(0)
        client.send_option(Opt.EXPORT_NAME, b"")
        self.assert_over(client)

    def test_T04_only_tls_after_starttls(self):
        """Anything else after the ACK ends the session; no option is answered."""
        for words in (option_bytes(Opt.LIST), option_bytes(Opt.ABORT), bytes(500),
                      b"\x16\x03\x01\xff\xff" + bytes(500)):
            with self.subTest(words[:8]):
                client = self.haggler()
                self.assertEqual(Rep.ACK, client.answer(Opt.STARTTLS))
                client.send(words)
                client.sock.shutdown(socket.SHUT_WR)
                self.assert_over(client)

    def test_T05_never_required_once_it_is_there(self):
        """Within TLS no option gets TLS_REQD; STARTTLS again is invalid."""
        client = self.haggler().start_tls()
        for option, data in OPTIONS.items():
            if option != Opt.GO:
                self.assertNotEqual(Rep.ERR_TLS_REQD, client.answer(option, data))
            self.assertEqual(Rep.ERR_INVALID, client.answer(Opt.STARTTLS))
        self.assertEqual(Rep.ACK, client.answer(Opt.ABORT))

    def test_T09_no_information_without_tls(self):
        """INFO and GO tell nothing but TLS_REQD, for any name."""
        client = self.haggler()
        for option in (Opt.INFO, Opt.GO):
            for name in ("", "nobody knows this"):
                replies = client.option(option, info_data(name, [1, 2, 3]))
                self.assertEqual([Rep.ERR_TLS_REQD], [reply.type for reply in replies])

    def test_T10_versions(self):
        """TLS 1.2 and newer, nothing older."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version):
                client = self.haggler().start_tls(client_context(version))
                client.go()
                self.assert_serving(client)
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.subTest(version), self.assertRaises((ssl.SSLError, OSError)):
                self.haggler().start_tls(client_context(version))

    def test_T11_tls_is_shut_down_before_the_connection(self):
        """After DISC comes close_notify, so that nobody can cut the end off."""
        client = self.haggler().start_tls()
        client.go()
        self.assert_serving(client)
        client.send(request_bytes(Mode.SIMPLE, Cmd.DISC))
        # Without close_notify this is SSLEOFError.
        self.assertEqual(b"", client.sock.recv(1))


class Offered(TlsCase):
    """SELECTIVETLS: for who asks for it."""

    def test_T06_starttls_forgets_what_was_agreed(self):
        """Nothing that was agreed before TLS holds afterwards."""
        for mode in (Mode.STRUCTURED, Mode.EXTENDED):
            with self.subTest(mode):
                client = self.haggler()
                option = (Opt.STRUCTURED_REPLY if mode is Mode.STRUCTURED
                          else Opt.EXTENDED_HEADERS)
                if client.answer(option) != Rep.ACK:
                    continue
                client.option(Opt.SET_META_CONTEXT, meta_data("", [ALLOCATION]))
                client.start_tls()
                # It needs structured replies, which are gone.
                self.assertEqual(Rep.ERR_INVALID, client.answer(
                    Opt.SET_META_CONTEXT, meta_data("", [ALLOCATION])))
                client.go()
                self.assertTrue(client.call(Cmd.READ, 0, 512).simple)
                self.assertEqual(Err.EINVAL, client.call(Cmd.BLOCK_STATUS, 0, 512).error)

    def test_T06_contexts_must_be_set_again(self):
        """A set from before TLS is not there after it, with structured replies either."""
        client = self.haggler().agree(Mode.STRUCTURED)
        client.meta_contexts(Opt.SET_META_CONTEXT, "", [ALLOCATION])
        client.start_tls().agree(Mode.STRUCTURED)
        client.go()
        self.assertEqual(Err.EINVAL, client.call(Cmd.BLOCK_STATUS, 0, 512).error)

    def test_T07_words_before_tls_are_not_heard_within(self):
        """Options that came in plain text with STARTTLS are not answered inside TLS."""
        client = TlsClient.unix(self.server.socket)
        self.addCleanup(client.close)
        client.begin(FIXED_NEWSTYLE | NO_ZEROES)
        client.send(option_bytes(Opt.STARTTLS) + option_bytes(Opt.STRUCTURED_REPLY))
        self.assertEqual(Rep.ACK, client.option_reply().type)
        try:
            client.secure_now()
            # Whatever is answered now has to be what was asked now.
            self.assertEqual(Rep.ERR_UNSUP, client.answer(0x7FFFFFFF))
            client.go()
            self.assertTrue(client.call(Cmd.READ, 0, 512).simple)
        except (OSError, Disconnected):
            pass  # to hang up on such a client is fine, too

    def test_T08_only_entering_can_require_tls(self):
        """Without TLS every option works, and an open export can be entered."""
        client = self.haggler()
        for option, data in OPTIONS.items():
            if option not in (Opt.GO, Opt.STRUCTURED_REPLY, Opt.EXTENDED_HEADERS):
                self.assertNotEqual(Rep.ERR_TLS_REQD, client.answer(option, data))
        client.go()
        self.assert_serving(client)

    def test_T08_with_tls_as_well(self):
        """The same export can be entered within TLS."""
        client = self.haggler().start_tls()
        client.go()
        client.write(0, b"secret" * 100)
        self.assertEqual(b"secret" * 100, client.read(0, 600))


if __name__ == "__main__":
    harness.main()
