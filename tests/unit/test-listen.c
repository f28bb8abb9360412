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
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "src/cli/listen.h"
#include "src/cli/owner.h"
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
	assert_ptr_equal(nr_sockets_first(&listeners, NR_SOCKET_UNIX), &listeners.item[0]);
	assert_null(nr_sockets_first(&listeners, NR_SOCKET_TCP));
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
	assert_non_null(nr_sockets_first(&listeners, NR_SOCKET_UNIX));
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

/* The mode is exactly what was asked for, whatever the umask. */
static void unix_modes(void **state)
{
	static const unsigned modes[] = { 0, 0600, 0660, 0777 };
	const char *paths[] = { socket_path };
	struct nr_options options = { .unix_paths = { 1, paths }, .has_unix_mode = 1 };
	struct nr_sockets listeners;
	struct nr_error error;
	struct stat made;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		mode_t before = umask(i % 2 ? 0077 : 0022);

		options.unix_mode = modes[i];
		assert_int_equal(open_with(&listeners, &options, &error), 0);
		assert_int_equal(stat(socket_path, &made), 0);
		assert_int_equal(made.st_mode & 07777, modes[i]);
		assert_int_equal(umask(before), i % 2 ? 0077 : 0022);
		nr_sockets_remove(&listeners);
		nr_sockets_free(&listeners);
	}
}

static void unix_owners(void **state)
{
	const char *paths[] = { socket_path };
	char ourselves[64];
	struct nr_options options = { .unix_paths = { 1, paths }, .unix_owner = ourselves };
	struct nr_sockets listeners;
	struct nr_error error;
	struct stat made;
	bool root = geteuid() == 0;

	snprintf(ourselves, sizeof(ourselves), "%u:%u", root ? 12345 : geteuid(),
		 root ? 54321 : getegid());
	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(stat(socket_path, &made), 0);
	assert_int_equal(made.st_uid, root ? 12345 : geteuid());
	assert_int_equal(made.st_gid, root ? 54321 : getegid());
	nr_sockets_remove(&listeners);
	nr_sockets_free(&listeners);

	/* Nobody can connect to one that could not be given away, and it does not stay. */
	options.unix_owner = "nobody-of-that-name";
	assert_int_equal(open_with(&listeners, &options, &error), -EINVAL);
	assert_string_equal(error.text, "--unix-owner: there is no user 'nobody-of-that-name'");
	assert_false(exists(socket_path));
}

static void owners_as_text(void **state)
{
	static const char *const wrong[] = { "",           ":",  "root:nobody-of-that-name",
					     "4294967295", "-1", "1x" };
	struct nr_owner owner;
	struct nr_error error;

	assert_int_equal(nr_owner_find(&owner, "root", &error), 0);
	assert_int_equal(owner.user, 0);
	assert_int_equal(owner.group, (gid_t)-1);
	assert_int_equal(nr_owner_find(&owner, "root:root", &error), 0);
	assert_int_equal(owner.group, 0);
	assert_int_equal(nr_owner_find(&owner, ":77", &error), 0);
	assert_int_equal(owner.user, (uid_t)-1);
	assert_int_equal(owner.group, 77);
	assert_int_equal(nr_owner_find(&owner, "7:", &error), 0);
	assert_int_equal(owner.user, 7);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(nr_owner_find(&owner, wrong[i], &error), -EINVAL);
}

/* No file, and gone with the descriptor. */
static void abstract_sockets(void **state)
{
	char name[64];
	const char *paths[] = { name };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets first, second;
	struct nr_error error;
	char *uri, expected[128];

	snprintf(name, sizeof(name), "@nbdring-unit-%d", (int)getpid());
	assert_int_equal(open_with(&first, &options, &error), 0);
	assert_true(first.item[0].abstract);
	assert_false(exists(name));
	uri = nr_socket_uri(&first.item[0], "", false);
	snprintf(expected, sizeof(expected), "nbd+unix:///?socket=%%00%s", name + 1);
	assert_string_equal(uri, expected);
	free(uri);
	assert_int_equal(open_with(&second, &options, &error), -EADDRINUSE);
	assert_non_null(strstr(error.text, name));
	nr_sockets_remove(&first);
	nr_sockets_free(&first);
	assert_int_equal(open_with(&second, &options, &error), 0);
	nr_sockets_free(&second);

	paths[0] = "@";
	assert_int_equal(open_with(&second, &options, &error), -EINVAL);
}

/* What a server is known by; its parent ends it. */
static void greet_for_ever(int fd)
{
	for (;;) {
		int client = accept(fd, NULL, NULL);

		if (client < 0 || write(client, "N", 1) != 1)
			_exit(1);
	}
}

/*
 * Servers that start at once over what a killed one has left: one gets the name, and is
 * the one that answers.
 */
static void a_rush_for_a_leftover(void **state)
{
	enum { ROUNDS = 100, RIVALS = 4 };
	const char *paths[] = { socket_path };
	struct nr_options options = { .unix_paths = { 1, paths } };
	struct nr_sockets listeners;
	struct nr_error error;

	for (int round = 0; round < ROUNDS; round++) {
		int start[2], done[2], winners = 0;
		pid_t rivals[RIVALS];
		bool answers;
		char byte;

		assert_int_equal(open_with(&listeners, &options, &error), 0);
		nr_sockets_free(&listeners);
		assert_int_equal(pipe(start), 0);
		assert_int_equal(pipe(done), 0);
		for (int i = 0; i < RIVALS; i++) {
			rivals[i] = fork();
			if (rivals[i] != 0)
				continue;
			close(start[1]);
			close(done[0]);
			while (read(start[0], &byte, 1) > 0)
				;
			byte = open_with(&listeners, &options, &error) == 0 ? 'w' : 'l';
			if (write(done[1], &byte, 1) != 1)
				_exit(1);
			close(done[1]);
			if (byte == 'w')
				greet_for_ever(listeners.item[0].fd);
			_exit(0);
		}
		close(start[0]);
		close(done[1]);
		close(start[1]);
		for (int i = 0; i < RIVALS; i++) {
			assert_int_equal(read(done[0], &byte, 1), 1);
			winners += byte == 'w';
		}
		close(done[0]);
		answers = unix_answers(socket_path);
		for (int i = 0; i < RIVALS; i++) {
			kill(rivals[i], SIGKILL);
			assert_int_equal(waitpid(rivals[i], NULL, 0), rivals[i]);
		}
		assert_int_equal(winners, 1);
		assert_true(answers);
	}
	unlink(socket_path);
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
	const char *addresses[] = { "127.0.0.1" };
	struct nr_options options = { .ports = { 2, ports }, .addresses = { 1, addresses } };
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
	uri = nr_socket_uri(nr_sockets_first(&listeners, NR_SOCKET_TCP), "", false);
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
	const char *addresses[] = { "192.0.2.1" };
	struct nr_options options = { .ports = { 1, ports }, .addresses = { 1, addresses } };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &options, &error), -EADDRNOTAVAIL);
	assert_string_equal(error.text,
			    "192.0.2.1 is no address of this machine; give one that is");
	addresses[0] = "127.0.0.1";
	ports[0] = "no-such-service";
	assert_int_equal(open_with(&listeners, &options, &error), -EINVAL);
	assert_string_equal(error.text, "there is no port 'no-such-service'; write a number from 0 "
					"to 65535");
}

static void several_addresses(void **state)
{
	const char *ports[] = { "0" };
	const char *addresses[] = { "127.0.0.1", "127.0.0.2" };
	struct nr_options options = { .ports = { 1, ports }, .addresses = { 2, addresses } };
	struct nr_sockets listeners;
	struct nr_error error;

	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(listeners.count, 2);
	assert_string_equal(listeners.item[1].host, "127.0.0.2");
	assert_false(listeners.item[1].extra);
	assert_true(tcp_answers("127.0.0.1", listeners.item[0].port));
	assert_true(tcp_answers("127.0.0.2", listeners.item[1].port));
	assert_false(tcp_answers("127.0.0.3", listeners.item[1].port));
	nr_sockets_free(&listeners);
}

static void one_interface(void **state)
{
	const char *ports[] = { "0" };
	struct nr_options options = { .ports = { 1, ports }, .interface = "lo", .family = AF_INET };
	struct nr_sockets listeners;
	struct nr_error error;
	char name[IFNAMSIZ] = "";
	socklen_t length = sizeof(name);

	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(
		getsockopt(listeners.item[0].fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length), 0);
	assert_string_equal(name, "lo");
	assert_string_equal(listeners.item[0].host, "127.0.0.1");
	assert_true(tcp_answers("127.0.0.1", listeners.item[0].port));
	nr_sockets_free(&listeners);

	options.interface = "no-such-one";
	assert_int_equal(open_with(&listeners, &options, &error), -ENODEV);
	assert_non_null(strstr(error.text, "there is no network interface 'no-such-one'"));
}

/* vsock. */

static bool vsock_exists(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void vsock_ports(void **state)
{
	const char *vsocks[] = { "0" };
	struct nr_options options = { .vsocks = { 1, vsocks } };
	struct nr_sockets listeners, second;
	struct nr_error error;
	char number[16];

	if (!vsock_exists())
		skip();
	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(listeners.item[0].kind, NR_SOCKET_VSOCK);
	assert_true(listeners.item[0].chosen);
	assert_int_not_equal(listeners.item[0].port, 0);
	assert_int_not_equal(listeners.item[0].cid, VMADDR_CID_ANY);
	snprintf(number, sizeof(number), "%u", listeners.item[0].port);
	vsocks[0] = number;
	assert_int_equal(open_with(&second, &options, &error), -EADDRINUSE);
	assert_non_null(strstr(error.text, number));
	nr_sockets_free(&listeners);

	/* The same by way of -p. */
	options = (struct nr_options){ .ports = { 1, vsocks }, .ports_are_vsock = 1 };
	assert_int_equal(open_with(&listeners, &options, &error), 0);
	assert_int_equal(listeners.count, 1);
	assert_int_equal(listeners.item[0].kind, NR_SOCKET_VSOCK);
	nr_sockets_free(&listeners);
}

static void impossible_vsock_ports(void **state)
{
	static const char *const wrong[] = {
		"",   ":",          "1:",    ":1",           "x",
		"-1", "4294967295", "1:2:3", "4294967295:1", "12345678901234567890",
		"1 ", "0x1"
	};
	const char *vsocks[1];
	struct nr_options options = { .vsocks = { 1, vsocks } };
	struct nr_sockets listeners;
	struct nr_error error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		vsocks[0] = wrong[i];
		assert_int_equal(open_with(&listeners, &options, &error), -EINVAL);
		assert_non_null(strstr(error.text, "there is no vsock port"));
	}
	/* A CID that no machine has. */
	vsocks[0] = "4294967294:5";
	if (vsock_exists())
		assert_int_equal(open_with(&listeners, &options, &error), -EADDRNOTAVAIL);
}

/* What clients are told. */

static void is_uri(const struct nr_socket *listener, const char *export_name, const char *expected)
{
	char *uri = nr_socket_uri(listener, export_name, false);

	assert_string_equal(uri, expected);
	free(uri);
}

static void uris(void **state)
{
	char path[] = "/run/a b?.sock", name[] = "a\0b";
	struct nr_socket local = { .path = path, .path_length = strlen(path) };
	struct nr_socket abstract = { .path = name, .path_length = 3, .abstract = true };
	struct nr_socket host = { .kind = NR_SOCKET_TCP,
				  .host = (char *)"localhost",
				  .port = 10809 };
	struct nr_socket six = { .kind = NR_SOCKET_TCP, .host = (char *)"fe80::1%eth0", .port = 5 };
	struct nr_socket vm = { .kind = NR_SOCKET_VSOCK, .cid = 3, .port = 4294967294 };
	char *uri;

	is_uri(&local, "", "nbd+unix:///?socket=/run/a%20b%3F.sock");
	is_uri(&local, "disk", "nbd+unix:///disk?socket=/run/a%20b%3F.sock");
	is_uri(&abstract, "disk", "nbd+unix:///disk?socket=%00a%00b");
	is_uri(&host, "", "nbd://localhost:10809");
	is_uri(&host, "a/b c#%\xc3\xbc", "nbd://localhost:10809/a/b%20c%23%25%C3%BC");
	is_uri(&six, "x", "nbd://[fe80::1%25eth0]:5/x");
	is_uri(&vm, "", "nbd+vsock://3:4294967294");
	is_uri(&vm, "a b", "nbd+vsock://3:4294967294/a%20b");

	uri = nr_socket_uri(&local, "", true);
	assert_string_equal(uri, "nbds+unix:///?socket=/run/a%20b%3F.sock");
	free(uri);
	uri = nr_socket_uri(&host, "x", true);
	assert_string_equal(uri, "nbds://localhost:10809/x");
	free(uri);
	uri = nr_socket_uri(&vm, "", true);
	assert_string_equal(uri, "nbds+vsock://3:4294967294");
	free(uri);
	host.label = (char *)"data";
	uri = nr_socket_describe(&host, false);
	assert_string_equal(uri, "nbd://localhost:10809 (data)");
	free(uri);
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
		cmocka_unit_test(unix_modes),
		cmocka_unit_test(unix_owners),
		cmocka_unit_test(owners_as_text),
		cmocka_unit_test(abstract_sockets),
		cmocka_unit_test(a_rush_for_a_leftover),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(tcp_port),
		cmocka_unit_test(every_address),
		cmocka_unit_test(impossible_addresses),
		cmocka_unit_test(several_addresses),
		cmocka_unit_test(one_interface),
		cmocka_unit_test(vsock_ports),
		cmocka_unit_test(impossible_vsock_ports),
		cmocka_unit_test(uris),
		cmocka_unit_test(shell_quotes),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
