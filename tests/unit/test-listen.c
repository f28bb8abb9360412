/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listening sockets: which ones, what becomes of a name that is taken, and the
 * addresses that clients are told.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/cli/listen.h"
#include "src/cli/run.h"

static char folder[] = "/tmp/nbdring-unit-XXXXXX";
static char socket_path[100];

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/sock", folder);
	return 0;
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

static int open_with(struct nr_sockets *listeners, struct nr_options *options,
		     struct nr_error *error)
{
	memset(error, 0, sizeof(*error));
	return nr_sockets_open(listeners, options, error);
}

static bool unix_answers(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool answers;

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return answers;
}

static bool tcp_answers(const char *host, unsigned port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool answers;

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET, host, &address.sin_addr), 1);
	answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return answers;
}

static bool exists(const char *path)
{
	struct stat there;

	return lstat(path, &there) == 0;
}

static void unix_socket(void **state)
{
	const char *paths[] = { socket_path };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(listeners.count, 1);
	assert_ptr_equal(nr_sockets_unix(&listeners), &listeners.item[0]);
	assert_null(nr_sockets_tcp(&listeners));
	assert_false(listeners.item[0].chosen);
	assert_true(unix_answers(socket_path));
	nr_sockets_remove(&listeners);
	assert_false(exists(socket_path));
	nr_sockets_free(&listeners);
}

static void private_socket(void **state)
{
	const char *paths[] = { "-" };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets listeners;
	struct nr_error error;
	struct stat there;
	char made[200];

	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_true(listeners.item[0].chosen);
	snprintf(made, sizeof(made), "%s", listeners.item[0].folder);
	assert_int_equal(stat(made, &there), 0);
	assert_int_equal(there.st_mode & 0777, 0700);
	assert_true(unix_answers(listeners.item[0].path));
	nr_sockets_remove(&listeners);
	assert_false(exists(made));
	nr_sockets_free(&listeners);
}

/* Without a word about it, TCP; with --run, a private socket; with -s, nothing. */
static void what_is_implied(void **state)
{
	struct nr_options run = { .run = "true" }, single = { .single = 1 };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &run, &error), 0);
	assert_int_equal(listeners.count, 1);
	assert_non_null(nr_sockets_unix(&listeners));
	nr_sockets_remove(&listeners);
	nr_sockets_free(&listeners);

	assert_int_equal(open_with(&listeners, &single, &error), 0);
	assert_int_equal(listeners.count, 0);
	nr_sockets_free(&listeners);
}

/* What a server that was killed left behind is replaced. */
static void leftover_socket(void **state)
{
	const char *paths[] = { socket_path };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets dead, alive;
	struct nr_error error;

	assert_int_equal(open_with(&dead, &options, &error), 0);
	nr_sockets_free(&dead);
	assert_true(exists(socket_path));
	assert_false(unix_answers(socket_path));

	assert_int_equal(open_with(&alive, &options, &error), 0);
	assert_true(unix_answers(socket_path));
	nr_sockets_remove(&alive);
	nr_sockets_free(&alive);
	assert_false(exists(socket_path));
}

static void taken_names(void **state)
{
	const char *paths[] = { socket_path };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets first, second;
	struct nr_error error;
	int fd;

	/* By a server. */
	assert_int_equal(open_with(&first, &options, &error), 0);
	assert_int_equal(open_with(&second, &options, &error), -EADDRINUSE);
	assert_non_null(strstr(error.text, "another program serves on the Unix socket"));
	assert_true(unix_answers(socket_path));
	nr_sockets_remove(&first);
	nr_sockets_free(&first);

	/* By a file, which stays. */
	fd = open(socket_path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_with(&first, &options, &error), -EADDRINUSE);
	assert_non_null(strstr(error.text, "is no socket"));
	assert_true(exists(socket_path));
	unlink(socket_path);
}

/* At the end only what is still ours is removed. */
static void another_server_took_over(void **state)
{
	const char *paths[] = { socket_path };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets ours, theirs;
	struct nr_error error;

	assert_int_equal(open_with(&ours, &options, &error), 0);
	assert_int_equal(unlink(socket_path), 0);
	assert_int_equal(open_with(&theirs, &options, &error), 0);
	nr_sockets_remove(&ours);
	assert_true(unix_answers(socket_path));
	nr_sockets_remove(&theirs);
	nr_sockets_free(&ours);
	nr_sockets_free(&theirs);
}

static void impossible_names(void **state)
{
	char long_path[200], below_file[200];
	const char *paths[] = { long_path };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets listeners;
	struct nr_error error;

	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(open_with(&listeners, &options, &error), -ENAMETOOLONG);
	assert_non_null(strstr(error.text, "too long"));
	snprintf(below_file, sizeof(below_file), "%s/none/sock", folder);
	paths[0] = below_file;
	assert_int_equal(open_with(&listeners, &options, &error), -ENOENT);
	assert_non_null(strstr(error.text, below_file));
}

/* When a later one fails, nothing of the earlier ones stays behind. */
static void all_or_nothing(void **state)
{
	const char *paths[] = { socket_path, "-", "/nowhere/there/is/sock" };
	struct nr_options options = { .unix_paths = { 3, paths } };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &options, &error), -ENOENT);
	assert_false(exists(socket_path));
	assert_int_equal(listeners.count, 0);
}

static void tcp_port(void **state)
{
	const char *ports[] = { "0", "0" };
	struct nr_options options = { .ports = { 2, ports }, .address = "127.0.0.1" };
	struct nr_sockets listeners, second;
	struct nr_error error;
	const char *taken[1];
	char number[16];
	char *uri;

	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(listeners.count, 2);
	assert_true(listeners.item[0].chosen);
	assert_int_not_equal(listeners.item[0].port, 0);
	assert_int_not_equal(listeners.item[0].port, listeners.item[1].port);
	assert_true(tcp_answers("127.0.0.1", listeners.item[0].port));
	assert_false(tcp_answers("127.0.0.2", listeners.item[0].port));
	uri = nr_socket_uri(nr_sockets_tcp(&listeners), "");
	snprintf(number, sizeof(number), "%u", listeners.item[0].port);
	assert_non_null(strstr(uri, "nbd://127.0.0.1:"));
	assert_non_null(strstr(uri, number));
	free(uri);

	taken[0] = number;
	options.ports = (struct nr_strings){ 1, taken };
	assert_int_equal(open_with(&second, &options, &error), -EADDRINUSE);
	assert_non_null(strstr(error.text, number));
	nr_sockets_free(&listeners);
}

/* Every address: the families that there are, all on the same port. */
static void every_address(void **state)
{
	const char *ports[] = { "0" };
	struct nr_options options = { .ports = { 1, ports } };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_true(tcp_answers("127.0.0.2", listeners.item[0].port));
	for (size_t i = 1; i < listeners.count; i++) {
		assert_int_equal(listeners.item[i].port, listeners.item[0].port);
		assert_true(listeners.item[i].extra);
	}
	assert_string_equal(listeners.item[0].host, "localhost");
	nr_sockets_free(&listeners);

	options.family = AF_INET;
	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(listeners.count, 1);
	nr_sockets_free(&listeners);
}

static void impossible_addresses(void **state)
{
	const char *ports[] = { "0" };
	struct nr_options options = { .ports = { 1, ports }, .address = "192.0.2.1" };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &options, &error), -EADDRNOTAVAIL);
	assert_string_equal(error.text, "192.0.2.1 is no address of this machine; give one that is "
					"with -i");
	options.address = "127.0.0.1";
	ports[0] = "no-such-service";
	assert_int_equal(open_with(&listeners, &options, &error), -EINVAL);
	assert_string_equal(error.text, "there is no port 'no-such-service'; write a number from 0 "
					"to 65535");
}

/* What clients are told. */

static void is_uri(const struct nr_socket *listener, const char *export_name, const char *expected)
{
	char *uri = nr_socket_uri(listener, export_name);

	assert_string_equal(uri, expected);
	free(uri);
}

static void uris(void **state)
{
	struct nr_socket local = { .path = (char *)"/run/a b?.sock" };
	struct nr_socket name = { .host = (char *)"localhost", .port = 10809 };
	struct nr_socket six = { .host = (char *)"fe80::1%eth0", .port = 5 };

	is_uri(&local, "", "nbd+unix:///?socket=/run/a%20b%3F.sock");
	is_uri(&local, "disk", "nbd+unix:///disk?socket=/run/a%20b%3F.sock");
	is_uri(&name, "", "nbd://localhost:10809");
	is_uri(&name, "a/b c#%\xc3\xbc", "nbd://localhost:10809/a/b%20c%23%25%C3%BC");
	is_uri(&six, "x", "nbd://[fe80::1%25eth0]:5/x");
}

static void shell_quotes(void **state)
{
	static const char *const cases[][2] = {
		{ "", "''" },
		{ "plain", "'plain'" },
		{ "a b\n$(x) `y` \"z\" \\", "'a b\n$(x) `y` \"z\" \\'" },
		{ "it's", "'it'\\''s'" },
		{ "'", "''\\'''" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *quoted = nr_run_quote(cases[i][0]);

		assert_string_equal(quoted, cases[i][1]);
		free(quoted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unix_socket),
		cmocka_unit_test(private_socket),
		cmocka_unit_test(what_is_implied),
		cmocka_unit_test(leftover_socket),
		cmocka_unit_test(taken_names),
		cmocka_unit_test(another_server_took_over),
		cmocka_unit_test(impossible_names),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(tcp_port),
		cmocka_unit_test(every_address),
		cmocka_unit_test(impossible_addresses),
		cmocka_unit_test(uris),
		cmocka_unit_test(shell_quotes),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
