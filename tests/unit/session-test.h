/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients for tests of filters that care who asks: sessions, requests of a session,
 * and a folder of the test's own.
 *
 * Uses cmocka's asserts, so for the main thread.
 */
#ifndef TESTS_UNIT_SESSION_TEST_H
#define TESTS_UNIT_SESSION_TEST_H

#include "tests/unit/layer-test.h"

#include <setjmp.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static inline struct nr_session unix_session(void)
{
	struct nr_session s = { .id = 1, .export_name = "", .peer = "unix" };

	s.address.ss_family = AF_UNIX;
	s.has_credentials = true;
	s.pid = 1234;
	s.uid = 1000;
	s.gid = 100;
	return s;
}

static inline int admit(struct layer_test *t, struct nr_session *s)
{
	struct nr_error error = { 0 };
	int err = nr_stack_admit(layer_test_stack(t), s, &error);

	assert_int_equal(err, error.code);
	assert_true(!err || (error.text[0] && !strchr(error.text, '\n')));
	return err;
}

static inline void leave(struct layer_test *t, struct nr_session *s)
{
	nr_stack_leave(layer_test_stack(t), s);
}

static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Requests of a session: as layer_start and its like, which know of none. */

static inline void came_back(struct nr_request *req)
{
	*(bool *)((char *)req - 16) = true;
}

static inline bool is_back(const struct nr_request *req)
{
	return *(const bool *)((const char *)req - 16);
}

static inline struct nr_request *start_as(struct layer_test *t, unsigned worker,
					  struct nr_session *session, enum nr_operation operation,
					  uint64_t length)
{
	static uint8_t zeroes[1 << 20];
	struct nr_request *req = nr_request_get(layer_client_worker(layer_client(t, worker)),
						layer_test_stack(t), 16);

	assert_non_null(req);
	*(bool *)((char *)req - 16) = false;
	req->operation = operation;
	req->length = length;
	req->session = session;
	req->internal.finished = came_back;
	if (operation == NR_WRITE) {
		req->segments[0] = (struct nr_segment){ zeroes, length, NULL };
		req->segment_count = 1;
	}
	nr_stack_submit(layer_test_stack(t), req);
	return req;
}

static inline int wait_for(struct nr_request *req)
{
	int error;

	while (!is_back(req))
		nr_worker_run(req->worker);
	error = req->error;
	nr_request_release(req, 16);
	return error;
}

static inline int ask(struct layer_test *t, unsigned worker, struct nr_session *session,
		      enum nr_operation operation, uint64_t length)
{
	return wait_for(start_as(t, worker, session, operation, length));
}

/* Files, in a folder of the test's own. */

static char here[64];

static inline void write_file(const char *name, const char *text)
{
	char path[128], path_new[140];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", here, name);
	snprintf(path_new, sizeof(path_new), "%s.new", path);
	file = fopen(path_new, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(path_new, path), 0);
}

static inline void remove_file(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", here, name);
	assert_int_equal(unlink(path), 0);
}

static inline int set_up(void **state)
{
	snprintf(here, sizeof(here), "/tmp/test-policy-XXXXXX");
	return mkdtemp(here) ? 0 : -1;
}

static inline int tear_down(void **state)
{
	return rmdir(here);
}

#endif
