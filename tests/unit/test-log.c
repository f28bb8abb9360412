/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: clean lines, limits, and the places lines go to.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/log/bucket.h"
#include "src/log/journal.h"
#include "src/log/line.h"
#include "src/log/log.h"
#include "src/log/sink.h"

static char folder[] = "/tmp/nbdring-unit-XXXXXX";

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

/* The path NAME in the test's folder; valid until the next but one call. */
static const char *in_folder(const char *name)
{
	static char paths[2][100];
	static int turn;

	turn = !turn;
	snprintf(paths[turn], sizeof(paths[turn]), "%s/%s", folder, name);
	return paths[turn];
}

/* Lines. */

static void escapes(const char *text, const char *expected)
{
	char out[200];
	size_t length = nr_line_escape(out, sizeof(out), text);

	assert_string_equal(out, expected);
	assert_int_equal(length, strlen(expected));
}

static void clean_lines(void **state)
{
	escapes("", "");
	escapes("export 'disk' 100% ok \\ \"x\"", "export 'disk' 100% ok \\ \"x\"");
	escapes("Grüße, 日本, 😀", "Grüße, 日本, 😀");
	escapes("two\nlines\r\tand \x1b[31mred\x7f", "two\\nlines\\r\\tand \\x1b[31mred\\x7f");
	escapes("\x01\x1f", "\\x01\\x1f");
	/* What UTF-8 forbids: alone, cut short, overlong, surrogates, beyond the end. */
	escapes("\xff\x80 \xc3", "\\xff\\x80 \\xc3");
	escapes("\xe2\x82", "\\xe2\\x82");
	escapes("\xc0\xaf \xe0\x80\xaf", "\\xc0\\xaf \\xe0\\x80\\xaf");
	escapes("\xed\xa0\x80", "\\xed\\xa0\\x80");
	escapes("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
	/* Controls that terminals take in UTF-8 too, and what turns the writing direction. */
	escapes("\xc2\x9b"
		"31m",
		"\\xc2\\x9b31m");
	escapes("\xe2\x80\xae", "\\xe2\\x80\\xae");
	escapes("\xe2\x80\xa8", "\\xe2\\x80\\xa8");
}

/* Cut where there is no more room, but never inside a character or an escape. */
static void cut_lines(void **state)
{
	char out[8];

	assert_int_equal(nr_line_escape(out, 1, "x"), 0);
	assert_string_equal(out, "");
	assert_int_equal(nr_line_escape(out, 4, "abcdef"), 3);
	assert_string_equal(out, "abc");
	assert_int_equal(nr_line_escape(out, 4, "abü"), 2);
	assert_string_equal(out, "ab");
	assert_int_equal(nr_line_escape(out, 5, "abü"), 4);
	assert_string_equal(out, "abü");
	assert_int_equal(nr_line_escape(out, 5, "a\x01"), 1);
	assert_string_equal(out, "a");
}

/* Limits. */

static void bucket_limits(void **state)
{
	struct nr_bucket bucket;

	nr_bucket_init(&bucket, 3, 100, 1000);
	assert_true(nr_bucket_take(&bucket, 1000));
	assert_true(nr_bucket_take(&bucket, 1000));
	assert_true(nr_bucket_take(&bucket, 1000));
	assert_false(nr_bucket_take(&bucket, 1000));
	assert_false(nr_bucket_take(&bucket, 1099));
	assert_int_equal(bucket.left_out, 2);
	/* One comes back each 100; parts of it are not lost between takes. */
	assert_true(nr_bucket_take(&bucket, 1100));
	assert_false(nr_bucket_take(&bucket, 1150));
	assert_true(nr_bucket_take(&bucket, 1201));
	assert_false(nr_bucket_take(&bucket, 1299));
	assert_true(nr_bucket_take(&bucket, 1300));
	/* However long nothing happens, no more than a burst is saved. */
	for (int i = 0; i < 3; i++)
		assert_true(nr_bucket_take(&bucket, UINT64_C(1) << 60));
	assert_false(nr_bucket_take(&bucket, UINT64_C(1) << 60));
}

static void bucket_without_limit(void **state)
{
	struct nr_bucket bucket;

	nr_bucket_init(&bucket, 0, 0, 0);
	for (int i = 0; i < 10000; i++)
		assert_true(nr_bucket_take(&bucket, 5));
	assert_int_equal(bucket.left_out, 0);
}

/* Places. */

static char *contents(const char *path)
{
	static char text[4 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t length;

	assert_true(fd >= 0);
	length = read(fd, text, sizeof(text) - 1);
	assert_true(length >= 0);
	text[length] = '\0';
	close(fd);
	return text;
}

static size_t count_lines(const char *text)
{
	size_t lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

/* "2026-01-31T23:59:59.123Z " and then TEXT. */
static void is_stamped(const char *line, const char *text)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ ";

	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] == 'd')
			assert_in_range(line[i], '0', '9');
		else
			assert_int_equal(line[i], form[i]);
	}
	assert_string_equal(line + sizeof(form) - 1, text);
}

static void file_lines(void **state)
{
	const char *path = in_folder("log");

	assert_int_equal(nr_log_open(path, false), 0);
	nr_log(NR_LOG_ERROR, NR_LOG_SERVER, "export '%s' %d", "a\nb", 7);
	is_stamped(contents(path), "error: export 'a\\nb' 7\n");
	/* Not without -v. */
	assert_false(nr_log_verbose());
	nr_log(NR_LOG_DEBUG, NR_LOG_SERVER, "detail");
	nr_log(NR_LOG_WARNING, NR_LOG_CLIENT, "gone");
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "ready");
	assert_int_equal(count_lines(contents(path)), 3);
	assert_non_null(strstr(contents(path), "Z warning: gone\n"));
	assert_non_null(strstr(contents(path), "Z ready\n"));
	nr_log_close();
	/* The same file is added to, not begun anew. */
	assert_int_equal(nr_log_open(path, false), 0);
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "again");
	nr_log_close();
	assert_int_equal(count_lines(contents(path)), 4);
	unlink(path);
}

static void long_lines_are_cut(void **state)
{
	const char *path = in_folder("log");
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(nr_log_open(path, false), 0);
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "%s", text);
	nr_log_close();
	assert_in_range(strlen(contents(path)), 1000, 1100);
	assert_int_equal(count_lines(contents(path)), 1);
	unlink(path);
}

static void rotation(void **state)
{
	const char *path = in_folder("log"), *old = in_folder("log.1");

	assert_int_equal(nr_log_open(path, false), 0);
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "before");
	assert_int_equal(rename(path, old), 0);
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "meanwhile");
	nr_log_reopen();
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "after");
	assert_int_equal(count_lines(contents(old)), 2);
	assert_int_equal(count_lines(contents(path)), 1);
	assert_non_null(strstr(contents(path), "after"));
	nr_log_close();
	unlink(path);
	unlink(old);
}

/* The file cannot be opened again: the old one goes on, and says so. */
static void rotation_fails(void **state)
{
	const char *path = in_folder("log"), *old = in_folder("log.1");

	assert_int_equal(nr_log_open(path, false), 0);
	assert_int_equal(rename(path, old), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	nr_log_reopen();
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "after");
	assert_int_equal(count_lines(contents(old)), 2);
	assert_non_null(strstr(contents(old), "cannot be opened again"));
	nr_log_close();
	rmdir(path);
	unlink(old);
}

static void wrong_targets(void **state)
{
	assert_int_equal(nr_log_open("nowhere", false), -EINVAL);
	assert_int_equal(nr_log_open("", false), -EINVAL);
	assert_int_equal(nr_log_open("/nowhere/there/is/log", false), -ENOENT);
	assert_int_equal(nr_log_open("null", false), 0);
	nr_log(NR_LOG_ERROR, NR_LOG_SERVER, "into nothing");
	nr_log_close();
}

/* Clients cannot fill a disk, and what they do not get to say is counted. */
static void floods_are_limited(void **state)
{
	const char *path = in_folder("log");
	size_t lines, said = 0;
	char *text;

	assert_int_equal(nr_log_open(path, false), 0);
	for (int i = 0; i < 20000; i++)
		nr_log(NR_LOG_WARNING, NR_LOG_CLIENT, "client %d", i);
	/* Other classes are not touched by it. */
	nr_log(NR_LOG_WARNING, NR_LOG_REQUEST, "a request");
	nr_log(NR_LOG_WARNING, NR_LOG_SERVER, "the server");
	nr_log_close();
	text = contents(path);
	lines = count_lines(text);
	assert_in_range(lines, 2000, 4000);
	assert_non_null(strstr(text, "client 1999\n"));
	assert_non_null(strstr(text, "a request\n"));
	assert_non_null(strstr(text, "the server\n"));
	/* All of them are accounted for. */
	for (char *line = text; *line; line += strcspn(line, "\n") + 1) {
		char *number = strstr(line, "warning: ");
		unsigned long left_out;

		assert_non_null(number);
		if (sscanf(number, "warning: %lu lines like this were left out", &left_out) == 1 &&
		    strcspn(number, "\n") > 30) {
			said += left_out;
			lines--;
		}
	}
	assert_int_equal(said + lines, 20002);
	unlink(path);
}

/* A reader that does not read must not hold the server up. */
static void a_full_pipe_does_not_block(void **state)
{
	int ends[2], saved = dup(STDERR_FILENO);
	size_t got = 0;
	char chunk[4096], *text = calloc(1, 1 << 20);

	assert_int_equal(pipe(ends), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	close(ends[1]);
	assert_int_equal(nr_log_open("stderr", true), 0);
	for (int i = 0; i < 10000; i++)
		nr_log(NR_LOG_INFO, NR_LOG_SERVER, "line %d", i);
	assert_true(read(ends[0], chunk, sizeof(chunk)) > 0);
	nr_log(NR_LOG_DEBUG, NR_LOG_SERVER, "debug is on");
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "the last");
	nr_log_close();
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	while (got < (1 << 20) - 1) {
		ssize_t more = read(ends[0], text + got, (1 << 20) - 1 - got);

		if (more <= 0)
			break;
		got += (size_t)more;
	}
	close(ends[0]);
	assert_non_null(strstr(text, "nbdring: debug: debug is on\n"));
	assert_non_null(strstr(text, "nbdring: the last\n"));
	assert_non_null(strstr(text, " lines like this were left out\n"));
	free(text);
}

static int listen_as_syslog(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void expect_datagram(int fd, const char *head, const char *tail)
{
	char text[2000], pid[200];
	ssize_t length = recv(fd, text, sizeof(text) - 1, 0);

	assert_true(length > 0);
	text[length] = '\0';
	snprintf(pid, sizeof(pid), " %s[%d]: ", nr_log_who(), (int)getpid());
	assert_memory_equal(text, head, strlen(head));
	assert_non_null(strstr(text, pid));
	assert_string_equal(strstr(text, pid) + strlen(pid), tail);
}

static void system_log(void **state)
{
	struct nr_sink sink = NR_SINK_INIT;
	const char *path = in_folder("syslog");
	int fd;

	/* Not there yet. */
	assert_int_equal(nr_sink_open_syslog(&sink, path), 0);
	assert_false(nr_sink_write(&sink, NR_LOG_ERROR, "early", 5));
	fd = listen_as_syslog(path);
	/* LOG_DAEMON is 3 << 3; errors are 3, warnings 4. */
	assert_true(nr_sink_write(&sink, NR_LOG_ERROR, "bad", 3));
	expect_datagram(fd, "<27>", "bad");
	assert_true(nr_sink_write(&sink, NR_LOG_WARNING, "so-so", 5));
	expect_datagram(fd, "<28>", "so-so");

	/* The system log goes away, and comes back. */
	close(fd);
	unlink(path);
	assert_false(nr_sink_write(&sink, NR_LOG_ERROR, "lost", 4));
	fd = listen_as_syslog(path);
	assert_true(nr_sink_write(&sink, NR_LOG_ERROR, "back", 4));
	expect_datagram(fd, "<27>", "back");

	/* It does not read: lines are refused, nobody waits. */
	for (int i = 0; nr_sink_write(&sink, NR_LOG_ERROR, "more", 4); i++)
		assert_true(i < 100000);
	nr_sink_close(&sink);
	close(fd);
	unlink(path);
}

/* A server among many, in the system log and in a file that they share. */
static void names(void **state)
{
	struct nr_sink sink = NR_SINK_INIT;
	const char *path = in_folder("syslog"), *file = in_folder("log");
	int fd = listen_as_syslog(path);

	assert_string_equal(nr_log_who(), "nbdring");
	nr_log_identify("nbdring", "disk7");
	assert_string_equal(nr_log_who(), "nbdring/disk7");
	assert_int_equal(nr_sink_open_syslog(&sink, path), 0);
	assert_true(nr_sink_write(&sink, NR_LOG_ERROR, "bad", 3));
	expect_datagram(fd, "<27>", "bad");
	nr_sink_close(&sink);
	close(fd);
	unlink(path);

	assert_int_equal(nr_log_open(file, false), 0);
	nr_log(NR_LOG_WARNING, NR_LOG_SERVER, "text");
	nr_log_close();
	is_stamped(contents(file), "disk7: warning: text\n");
	unlink(file);

	/* Longer than there is room for: cut. */
	nr_log_identify("nbdring",
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	assert_int_equal(strlen(nr_log_who()), NR_LOG_WHO_MAX);
	nr_log_identify("nbdring", NULL);
}

/* The fields are apart from the text, as they are; a newline in one makes no field. */
static void journal(void **state)
{
	static const char entry[] = "PRIORITY=4\nSYSLOG_IDENTIFIER=nbdring\nMESSAGE=so-so\n"
				    "CODE_FILE=here.c\nCODE_LINE=7\nCODE_FUNC=do_it\n"
				    "EXPORT\n\x09\0\0\0\0\0\0\0a\nLAYER=b\n"
				    "CLIENT=unix:pid=1\nLAYER=file\nERRNO=5\n";
	const struct nr_log_fields fields = {
		.export_name = "a\nLAYER=b",
		.client = "unix:pid=1",
		.layer = "file",
		.error = EIO,
	};
	const struct nr_log_place place = { .file = "here.c", .line = 7, .function = "do_it" };
	const struct nr_sink_line line = {
		.level = NR_LOG_WARNING,
		.text = "so-so",
		.length = 5,
		.fields = &fields,
		.place = &place,
	};
	struct nr_sink sink = NR_SINK_INIT;
	const char *path = in_folder("journal");
	char got[20000];
	int fd;

	assert_int_equal(nr_sink_open_journal(&sink, path), 0);
	assert_false(nr_sink_write_line(&sink, &line));
	fd = listen_as_syslog(path);
	assert_true(nr_sink_write_line(&sink, &line));
	assert_int_equal(recv(fd, got, sizeof(got), 0), sizeof(entry) - 1);
	assert_memory_equal(got, entry, sizeof(entry) - 1);

	/* Of a line of which nothing is known. */
	assert_true(nr_sink_write(&sink, NR_LOG_ERROR, "bad", 3));
	got[recv(fd, got, sizeof(got) - 1, 0)] = '\0';
	assert_string_equal(got, "PRIORITY=3\nSYSLOG_IDENTIFIER=nbdring\nMESSAGE=bad\n");
	nr_sink_close(&sink);
	close(fd);
	unlink(path);
}

/* The longest names there can be fit; beyond, they are cut. */
static void journal_of_long_names(void **state)
{
	static char name[10000], text[1024], entry[NR_JOURNAL_BYTES + 8];
	const struct nr_log_fields fields = { .export_name = name, .client = name, .layer = name };
	const struct nr_sink_line line = {
		.text = text,
		.length = sizeof(text),
		.fields = &fields,
	};
	size_t length;

	memset(name, 'n', sizeof(name) - 1);
	memset(text, 't', sizeof(text));
	memset(entry, 'x', sizeof(entry));
	length = nr_journal_entry(entry, "nbdring", &line, 3);
	assert_in_range(length, 3 * 4096, NR_JOURNAL_BYTES);
	assert_memory_equal(entry + NR_JOURNAL_BYTES, "xxxxxxxx", 8);
	assert_int_equal(entry[length - 1], '\n');
}

static void *log_much(void *context)
{
	for (int i = 0; i < 1000; i++)
		nr_log(NR_LOG_INFO, NR_LOG_SERVER, "thread %d line %d", *(int *)context, i);
	return NULL;
}

/* Lines of several threads do not mix, also while the file changes. */
static void many_threads(void **state)
{
	const char *path = in_folder("log");
	pthread_t thread[4];
	int number[4];
	char *text;

	assert_int_equal(nr_log_open(path, false), 0);
	for (int i = 0; i < 4; i++) {
		number[i] = i;
		assert_int_equal(pthread_create(&thread[i], NULL, log_much, &number[i]), 0);
	}
	for (int i = 0; i < 50; i++)
		nr_log_reopen();
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	nr_log_close();
	text = contents(path);
	assert_int_equal(count_lines(text), 4000);
	for (char *line = text; *line; line += strcspn(line, "\n") + 1) {
		int thread_number, line_number;

		assert_int_equal(
			sscanf(line + 25, "thread %d line %d\n", &thread_number, &line_number), 2);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clean_lines),
		cmocka_unit_test(cut_lines),
		cmocka_unit_test(bucket_limits),
		cmocka_unit_test(bucket_without_limit),
		cmocka_unit_test(file_lines),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(rotation),
		cmocka_unit_test(rotation_fails),
		cmocka_unit_test(wrong_targets),
		cmocka_unit_test(floods_are_limited),
		cmocka_unit_test(a_full_pipe_does_not_block),
		cmocka_unit_test(system_log),
		cmocka_unit_test(names),
		cmocka_unit_test(journal),
		cmocka_unit_test(journal_of_long_names),
		cmocka_unit_test(many_threads),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
