/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --selinux-label as the kernel gets it.  SELinux itself is not needed: its library's
 * function is defined here again.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "src/cli/label.h"

int setsockcreatecon_raw(const char *label);
int is_selinux_enabled(void);

static struct {
	char label[128];
	unsigned calls;
	int error;
	int enabled;
} kernel;

int setsockcreatecon_raw(const char *label)
{
	kernel.calls++;
	snprintf(kernel.label, sizeof(kernel.label), "%s", label ? label : "default");
	errno = kernel.error;
	return kernel.error ? -1 : 0;
}

int is_selinux_enabled(void)
{
	return kernel.enabled;
}

static int skip_without(void)
{
	if (!nr_label_possible())
		skip();
	memset(&kernel, 0, sizeof(kernel));
	return 0;
}

static void the_label_is_given_as_it_is_and_taken_back(void **state)
{
	struct nr_error error = { .code = 0 };

	skip_without();
	assert_int_equal(nr_label_sockets("a:b:c:s0", &error), 0);
	assert_string_equal(kernel.label, "a:b:c:s0");
	assert_int_equal(nr_label_sockets(NULL, &error), 0);
	assert_string_equal(kernel.label, "default");
	assert_int_equal(kernel.calls, 2);
	assert_int_equal(error.code, 0);
}

static void a_refusal_says_whether_there_is_selinux(void **state)
{
	struct nr_error error = { .code = 0 };

	skip_without();
	kernel.error = EINVAL;
	assert_int_equal(nr_label_sockets("a:b:c:s0", &error), -EINVAL);
	assert_non_null(strstr(error.text, "no SELinux"));
	kernel.enabled = 1;
	assert_int_equal(nr_label_sockets("a:b:c:s0", &error), -EINVAL);
	assert_non_null(strstr(error.text, "a:b:c:s0: the label is refused"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_label_is_given_as_it_is_and_taken_back),
		cmocka_unit_test(a_refusal_says_whether_there_is_selinux),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
