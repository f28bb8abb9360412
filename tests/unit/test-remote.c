/* SPDX-License-Identifier: BSD-3-Clause */
/* NBD URIs: what each part of them means, and which are none. */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "src/client/remote.h"

static struct nr_remote understood(const char *uri)
{
	struct nr_remote remote;
	struct nr_error error = { .code = 0 };

	nr_remote_init(&remote);
	assert_int_equal(nr_remote_set_uri(&remote, uri, &error), 0);
	assert_int_equal(nr_remote_complete(&remote, &error), 0);
	return remote;
}

static void tcp(void **state)
{
	static const struct {
		const char *uri, *host, *port, *export_name, *shown;
	} cases[] = {
		{ "nbd://example.org", "example.org", "10809", "", "example.org:10809" },
		{ "NBD://example.org/", "example.org", "10809", "", "example.org:10809" },
		{ "nbd://127.0.0.1:99/a/b", "127.0.0.1", "99", "a/b", "127.0.0.1:99" },
		{ "nbd://[::1]/x", "::1", "10809", "x", "[::1]:10809" },
		{ "nbd://[fe80::1%25eth0]:7/", "fe80::1%eth0", "7", "", "[fe80::1%eth0]:7" },
		{ "nbd://h:/gr%C3%BC%C3%9Fe", "h", "10809",
		  "gr\xc3\xbc\xc3\x9f"
		  "e",
		  "h:10809" },
		{ "nbd:///only", "localhost", "10809", "only", "localhost:10809" },
		{ "nbd://h/e#fragment", "h", "10809", "e", "h:10809" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nr_remote remote = understood(cases[i].uri);

		assert_int_equal(remote.kind, NR_REMOTE_TCP);
		assert_int_equal(remote.tls, NR_CLIENT_TLS_OFF);
		assert_string_equal(remote.host, cases[i].host);
		assert_string_equal(remote.port, cases[i].port);
		assert_string_equal(remote.export_name, cases[i].export_name);
		assert_string_equal(remote.shown, cases[i].shown);
		nr_remote_clear(&remote);
	}
}

static void unix_sockets(void **state)
{
	struct nr_remote remote = understood("nbd+unix:///e?socket=/run/a%20b&unknown=1");

	assert_int_equal(remote.kind, NR_REMOTE_UNIX);
	assert_string_equal(remote.path, "/run/a b");
	assert_string_equal(remote.export_name, "e");
	nr_remote_clear(&remote);

	remote = understood("nbd+unix:///?socket=%00abstract");
	assert_string_equal(remote.path, "@abstract");
	nr_remote_clear(&remote);
}

static void vsock(void **state)
{
	struct nr_remote remote = understood("nbd+vsock://2:1234/e");

	assert_int_equal(remote.kind, NR_REMOTE_VSOCK);
	assert_int_equal(remote.cid, 2);
	assert_int_equal(remote.vsock_port, 1234);
	nr_remote_clear(&remote);

	remote = understood("nbd+vsock://4294967295");
	assert_int_equal(remote.cid, UINT32_MAX);
	assert_int_equal(remote.vsock_port, NR_REMOTE_PORT);
	nr_remote_clear(&remote);
}

static void tls(void **state)
{
	struct nr_remote remote = understood("nbds+unix://alice@/?socket=/s&tls-psk-file=/k"
					     "&tls-certificates=/c&tls-hostname=h");

	assert_int_equal(remote.kind, NR_REMOTE_UNIX);
	assert_int_equal(remote.tls, NR_CLIENT_TLS_REQUIRE);
	assert_string_equal(remote.tls_username, "alice");
	assert_string_equal(remote.tls_psk_file, "/k");
	assert_string_equal(remote.tls_certificates, "/c");
	assert_string_equal(remote.tls_hostname, "h");
	assert_true(remote.tls_verify_peer);
	nr_remote_clear(&remote);

	remote = understood("nbds://h/?tls-verify-peer=false;tls-username=bob");
	assert_int_equal(remote.kind, NR_REMOTE_TCP);
	assert_false(remote.tls_verify_peer);
	assert_string_equal(remote.tls_username, "bob");
	nr_remote_clear(&remote);
	remote = understood("nbds+vsock://1/");
	assert_int_equal(remote.tls, NR_CLIENT_TLS_REQUIRE);
	nr_remote_clear(&remote);
}

static void what_is_no_uri_is_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"nbd",
		"nbd:/h",
		"http://h",
		"nbd+unix:///e",
		"nbd+unix:///?socket=",
		"nbd+unix://host/?socket=/s",
		"nbd://[::1",
		"nbd://[::1]x",
		"nbd://h/%",
		"nbd://h/%0",
		"nbd://h/%gg",
		"nbd://h/%00",
		"nbd+vsock://",
		"nbd+vsock://x",
		"nbd+vsock://-1",
		"nbd+vsock://4294967296",
		"nbd+vsock://1:x",
		"nbd://h/?tls-verify-peer=perhaps",
		"nbd://h/%ff",
		"nbd+unix:///?socket=/a%00b",
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nr_error error = { .code = 0 };
		struct nr_remote remote;
		int err;

		nr_remote_init(&remote);
		err = nr_remote_set_uri(&remote, cases[i], &error);
		if (!err)
			err = nr_remote_complete(&remote, &error);
		assert_int_equal(err, -EINVAL);
		assert_true(error.text[0]);
		nr_remote_clear(&remote);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp),
		cmocka_unit_test(unix_sockets),
		cmocka_unit_test(vsock),
		cmocka_unit_test(tls),
		cmocka_unit_test(what_is_no_uri_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
