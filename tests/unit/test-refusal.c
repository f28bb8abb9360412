/* SPDX-License-Identifier: BSD-3-Clause */
/* Each way io_uring is refused has a sentence with cause and remedy. */
#include "test-ring-common.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ring/refusal.h"

#define UNKNOWN NR_REFUSAL_UNKNOWN

struct refusal_case {
	int code;
	struct nr_refusal_facts facts;
	int returned;
	const char *cause, *remedy;
};

static const struct refusal_case cases[] = {
	{ -EPERM,
	  { 2, UNKNOWN, 0, UINT64_MAX, "6.8.0" },
	  -EPERM,
	  "kernel.io_uring_disabled is 2",
	  "sysctl kernel.io_uring_disabled=0" },
	{ -EPERM,
	  { 2, UNKNOWN, 2, UINT64_MAX, "6.8.0" },
	  -EPERM,
	  "kernel.io_uring_disabled is 2",
	  "sysctl kernel.io_uring_disabled=0" },
	{ -EPERM,
	  { 1, 1234, 0, UINT64_MAX, "6.8.0" },
	  -EPERM,
	  "privileged processes only",
	  "kernel.io_uring_group names (now 1234)" },
	{ -EPERM,
	  { 1, UNKNOWN, 2, UINT64_MAX, "6.8.0" },
	  -EPERM,
	  "seccomp filter",
	  "--security-opt seccomp=" },
	{ -EPERM,
	  { 0, UNKNOWN, 2, UINT64_MAX, "6.8.0" },
	  -EPERM,
	  "seccomp filter",
	  "SystemCallFilter=@aio" },
	{ -EPERM,
	  { UNKNOWN, UNKNOWN, 2, UINT64_MAX, "6.1.0" },
	  -EPERM,
	  "seccomp filter",
	  "io_uring_setup" },
	{ -EPERM,
	  { 0, UNKNOWN, 0, UINT64_MAX, "6.8.0" },
	  -EPERM,
	  "not permitted",
	  "security module" },
	{ -EACCES,
	  { UNKNOWN, UNKNOWN, UNKNOWN, UINT64_MAX, "6.1.0" },
	  -EPERM,
	  "not permitted",
	  "security module" },
	{ -ENOSYS,
	  { UNKNOWN, UNKNOWN, 0, UINT64_MAX, "4.4.0" },
	  -ENOSYS,
	  "kernel 4.4.0 has no io_uring",
	  "Linux 6.1 or newer" },
	{ -ENOSYS,
	  { 0, UNKNOWN, 2, UINT64_MAX, "6.8.0" },
	  -ENOSYS,
	  "seccomp filter",
	  "--security-opt seccomp=" },
	{ -EINVAL,
	  { UNKNOWN, UNKNOWN, 0, UINT64_MAX, "5.4.0" },
	  -ENOSYS,
	  "kernel 5.4.0 is too old",
	  "Linux 6.1 or newer" },
	{ -ENOMEM,
	  { UNKNOWN, UNKNOWN, 0, 64 * 1024, "5.10.0" },
	  -ENOMEM,
	  "limit is 64 KiB",
	  "LimitMEMLOCK=infinity" },
	{ -ENOMEM, { 0, UNKNOWN, 0, UINT64_MAX, "6.8.0" }, -ENOMEM, "not enough memory", "ring" },
	{ -EMFILE,
	  { 0, UNKNOWN, 0, UINT64_MAX, "6.8.0" },
	  -EMFILE,
	  "no descriptor left",
	  "ulimit -n" },
	{ -EIO, { 0, UNKNOWN, 0, UINT64_MAX, "6.8.0" }, -EIO, "cannot set up io_uring", "error" },
};

static void every_refusal_names_cause_and_remedy(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct refusal_case *c = &cases[i];
		struct nr_error error = { 0 };

		assert_int_equal(nr_refusal_explain(&error, c->code, &c->facts), c->returned);
		assert_int_equal(error.code, c->returned);
		if (!strstr(error.text, c->cause) || !strstr(error.text, c->remedy))
			fail_msg("case %zu: \"%s\"", i, error.text);
		assert_null(strchr(error.text, '\n'));
		assert_true(strlen(error.text) < NR_ERROR_TEXT_MAX - 1);
	}
}

static void facts_of_this_machine(void **state)
{
	struct nr_refusal_facts facts;

	(void)state;
	nr_refusal_gather(&facts);
	assert_true(facts.disabled >= UNKNOWN && facts.disabled <= 2);
	assert_true(facts.seccomp >= UNKNOWN && facts.seccomp <= 2);
	assert_true(strlen(facts.kernel) > 0);
}

/* Answers system call NUMBER with ERROR from now on. */
static int forbid(int number, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* In a child with a filter as containers have it: 0 when the answer was right. */
static int create_under_filter(int number, int error)
{
	struct nr_ring_options options = { 0 };
	struct nr_error text = { 0 };
	struct nr_ring *ring = NULL;

	if (forbid(number, error) < 0)
		return 77;
	if (nr_ring_create(&ring, &options, &text) != -error)
		return 1;
	if (!strstr(text.text, "seccomp"))
		return 2;
	return ring ? 3 : 0;
}

static void in_a_child(int number, int error)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(create_under_filter(number, error));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_container_that_forbids_setup(void **state)
{
	(void)state;
	in_a_child(SYS_io_uring_setup, EPERM);
}

static void a_container_that_hides_setup(void **state)
{
	(void)state;
	in_a_child(SYS_io_uring_setup, ENOSYS);
}

static void a_filter_that_forbids_only_entering(void **state)
{
	(void)state;
	in_a_child(SYS_io_uring_enter, EPERM);
}

static void a_filter_that_forbids_only_registering(void **state)
{
	(void)state;
	in_a_child(SYS_io_uring_register, EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_refusal_names_cause_and_remedy),
		cmocka_unit_test(facts_of_this_machine),
		cmocka_unit_test(a_container_that_forbids_setup),
		cmocka_unit_test(a_container_that_hides_setup),
		cmocka_unit_test(a_filter_that_forbids_only_entering),
		cmocka_unit_test(a_filter_that_forbids_only_registering),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
