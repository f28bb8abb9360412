/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qemu's two ways to write settings, and what is made of the names of images.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "src/cli/qemu-image.h"
#include "src/cli/qemu-objects.h"
#include "src/cli/qemu-settings.h"
#include "src/cli/qemu.h"

/* What was read, as "name=value;" each, or "!" and the error. */
static const char *as_text(struct nr_qemu_settings *settings, int err, const struct nr_error *error)
{
	static char text[1000];
	size_t used = 0;

	text[0] = '\0';
	if (err)
		snprintf(text, sizeof(text), "!%s", error->text);
	for (size_t i = 0; !err && i < settings->count; i++)
		used += (size_t)snprintf(
			text + used, sizeof(text) - used, "%s=%s;", settings->item[i].name,
			settings->item[i].value ? settings->item[i].value : "(null)");
	nr_qemu_settings_free(settings);
	return text;
}

static const char *options_of(const char *text)
{
	struct nr_qemu_settings settings;
	struct nr_error error = { .code = 0 };
	int err = nr_qemu_read_options(&settings, text, "driver", &error);

	return as_text(&settings, err, &error);
}

static const char *json_of(const char *text)
{
	struct nr_qemu_settings settings;
	struct nr_error error = { .code = 0 };
	int err = nr_qemu_read_json(&settings, text, &error);

	return as_text(&settings, err, &error);
}

static void options(void **state)
{
	assert_string_equal(options_of(""), "");
	assert_string_equal(options_of("driver=raw,offset=1M"), "driver=raw;offset=1M;");
	assert_string_equal(options_of("raw,file.filename=a,,b=c"),
			    "driver=raw;file.filename=a,b=c;");
	assert_string_equal(options_of("driver=raw,x=,y"), "driver=raw;x=;y=on;");
	assert_string_equal(options_of("driver=raw,nox,"), "driver=raw;x=off;");
	assert_string_equal(options_of("a=,,"), "a=,;");
}

static void json(void **state)
{
	assert_string_equal(json_of("{}"), "");
	assert_string_equal(
		json_of(" { \"a\" : 1 , 'b':\t-2.5e3,\n\"c\":true,\"d\":false,\"e\":null } "),
		"a=1;b=-2.5e3;c=on;d=off;e=(null);");
	assert_string_equal(
		json_of("{\"file\":{\"driver\":\"file\",\"x\":{\"y\":\"z\"}},\"a\":\"b\"}"),
		"file.driver=file;file.x.y=z;a=b;");
	assert_string_equal(json_of("{\"a\":[1,\"two\",{\"b\":3}],\"c\":[]}"),
			    "a.0=1;a.1=two;a.2.b=3;");
	assert_string_equal(json_of("{\"a\":\"\\\"\\\\\\/\\n\\u00fc\\ud83d\\ude00\"}"),
			    "a=\"\\/\n\xc3\xbc\xf0\x9f\x98\x80;");
}

static void json_faults(void **state)
{
	static const struct {
		const char *text, *what;
	} cases[] = {
		{ "", "no object at byte 1" },
		{ "[1]", "no object at byte 1" },
		{ "{", "no string at byte 2" },
		{ "{\"a\"", "no colon at byte 5" },
		{ "{\"a\":}", "no value at byte 6" },
		{ "{\"a\":1", "no end of an object or a list at byte 7" },
		{ "{\"a\":1]", "no end of an object or a list at byte 7" },
		{ "{\"a\":1,}", "no string at byte 8" },
		{ "{\"a\":1}x", "something behind the end at byte 8" },
		{ "{\"a\":maybe}", "no value at byte 6" },
		{ "{\"a\":\"x", "a string without end at byte 8" },
		{ "{\"a\":\"\\q\"}", "an unknown escape at byte 8" },
		{ "{\"a\":\"\\", "an unknown escape at byte 8" },
		{ "{\"a\":\"\\u12", "no character at byte 8" },
		{ "{\"a\":\"\\u0x1f\"}", "no character at byte 8" },
		{ "{\"a\":\"\\u0000\"}", "no character at byte 8" },
		{ "{\"a\":\"\\ud800\"}", "half a character at byte 13" },
		{ "{\"a\":\"\\ude00\"}", "half a character at byte 13" },
	};
	char expected[200], deep[100] = "{\"a\":";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(expected, sizeof(expected),
			 "!Could not parse the JSON options: JSON parse error, %s", cases[i].what);
		assert_string_equal(json_of(cases[i].text), expected);
	}
	memset(deep + 5, '[', 50);
	assert_non_null(strstr(json_of(deep), "too much nesting"));
}

/* However many there are, it ends. */
static void numbers_are_bounded(void **state)
{
	char *many = calloc(1, 10000), *at = many;

	for (int i = 0; i < 300; i++)
		at += snprintf(at, 16, "a%d=1,", i);
	assert_string_equal(options_of(many), "!there are more than 256 settings");
	at = many + snprintf(many, 16, "{\"a\":[0");
	for (int i = 0; i < 300; i++)
		at += snprintf(at, 16, ",%d", i);
	snprintf(at, 16, "]}");
	assert_string_equal(json_of(many), "!there are more than 256 settings");
	/* A name of 2,000 characters, by the width of its field. */
	(void)snprintf(many, 10000, "{\"%0*d\":1}", 2000, 0);
	assert_non_null(strstr(json_of(many), "a name that is too long"));
	free(many);
}

/* Images. */

static void read_well(struct nr_qemu_image *image, const char *name, const char *format,
		      bool as_options)
{
	struct nr_error error = { .code = 0 };
	int err = nr_qemu_image_read(image, name, format, as_options, &error);

	if (err)
		print_message("%s: %s\n", name, error.text);
	assert_int_equal(err, 0);
}

static void names_of_images(void **state)
{
	static const struct {
		const char *name, *path;
		bool is_uri;
	} cases[] = {
		{ "disk.img", "disk.img", false },
		{ "/a:b", "/a:b", false },
		{ "./a:b", "./a:b", false },
		{ "file:a:b", "a:b", false },
		{ "nbd://host/x", "nbd://host/x", true },
		{ "nbd+unix:///x?socket=/s", "nbd+unix:///x?socket=/s", true },
	};
	struct nr_qemu_image image;
	struct nr_error error;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		read_well(&image, cases[i].name, NULL, false);
		assert_string_equal(image.path, cases[i].path);
		assert_int_equal(image.is_uri, cases[i].is_uri);
		assert_true(image.guessed);
		nr_qemu_image_free(&image);
	}
	assert_int_equal(nr_qemu_image_read(&image, "ssh://h/x", "raw", false, &error), -ENOTSUP);
	assert_string_equal(error.text, "Unknown protocol 'ssh'");
	nr_qemu_image_free(&image);
}

/* Stretches of stretches, counted from the outermost in. */
static void stretches(void **state)
{
	struct nr_qemu_image image;
	struct nr_error error;

	read_well(&image,
		  "driver=raw,offset=1k,size=2k,file.driver=raw,file.offset=4k,file.size=8k,"
		  "file.file.driver=raw,file.file.offset=64k,file.file.file.filename=d",
		  NULL, true);
	assert_string_equal(image.path, "d");
	assert_int_equal(image.offset, 69 * 1024);
	assert_int_equal(image.length, 2048);
	assert_false(image.guessed);
	nr_qemu_image_free(&image);
	/* To the end of the one below. */
	read_well(&image,
		  "driver=raw,offset=1k,file.driver=raw,file.offset=4k,file.size=8k,"
		  "file.file.filename=d",
		  NULL, true);
	assert_int_equal(image.offset, 5 * 1024);
	assert_int_equal(image.length, 7 * 1024);
	nr_qemu_image_free(&image);
	assert_int_equal(
		nr_qemu_image_read(&image,
				   "driver=raw,offset=7k,size=2k,file.driver=raw,file.size=8k,"
				   "file.file.filename=d",
				   NULL, true, &error),
		-EINVAL);
	nr_qemu_image_free(&image);
	assert_int_equal(nr_qemu_image_read(&image,
					    "driver=raw,offset=15E,file.driver=raw,"
					    "file.offset=15E,file.file.filename=d",
					    NULL, true, &error),
			 -EINVAL);
	nr_qemu_image_free(&image);
}

static void settings_of_images(void **state)
{
	struct nr_qemu_image image;

	read_well(&image,
		  "json:{'driver':'raw','read-only':true,'discard':'unmap','backing':null,"
		  "'file':{'driver':'file','filename':'d','cache':{'direct':true,"
		  "'no-flush':false},'aio':'native','locking':'off'}}",
		  NULL, false);
	assert_true(image.read_only);
	assert_string_equal(image.discard, "unmap");
	assert_string_equal(image.aio, "native");
	assert_int_equal(image.direct, 1);
	assert_int_equal(image.no_flush, 0);
	nr_qemu_image_free(&image);
	/* No driver, and a file: a format is to be guessed. */
	read_well(&image, "file.filename=d", NULL, true);
	assert_true(image.guessed);
	nr_qemu_image_free(&image);
	read_well(&image, "file.filename=d", "raw", true);
	assert_false(image.guessed);
	nr_qemu_image_free(&image);
}

/* The other way round, and every character is meant as it is. */
static void rules_of_access(void **state)
{
	static const struct {
		const char *identity, *rule;
	} cases[] = {
		{ "CN=laptop", "allow subject=\"CN=laptop\"" },
		{ "C=GB,O=A b,CN=laptop", "allow subject=\"CN=laptop,O=A b,C=GB\"" },
		{ "O=Example\\, Inc.,CN=x\\\\", "allow subject=\"CN=x\\\\,O=Example\\, Inc.\"" },
		{ "CN=*.a[b]?\"", "allow subject=\"CN=[*].a[[]b][?]\"\"\"" },
		{ "", "allow subject=\"\"" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *rule = nr_qemu_rule(cases[i].identity, true);

		assert_string_equal(rule, cases[i].rule);
		free(rule);
	}
}

/* The command's name decides, wherever it stands. */
static void names_of_commands(void **state)
{
	assert_true(nr_qemu_is_name("qemu-nbd"));
	assert_true(nr_qemu_is_name("/usr/bin/qemu-nbd"));
	assert_false(nr_qemu_is_name("/usr/bin/qemu-nbd/nbdring"));
	assert_false(nr_qemu_is_name("my-qemu-nbd"));
	assert_false(nr_qemu_is_name(NULL));
}

static void every_row_says_what_it_is(void **state)
{
	for (const struct nr_option *row = nr_qemu_option_set.rows; row->name; row++) {
		assert_non_null(row->help);
		assert_true(strlen(row->manual) > 10);
		assert_int_equal(row->kind == NR_OPTION_CALL, row->take != NULL);
		assert_int_equal(row->kind == NR_OPTION_SET, row->value == NULL && !row->take);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options),
		cmocka_unit_test(json),
		cmocka_unit_test(json_faults),
		cmocka_unit_test(numbers_are_bounded),
		cmocka_unit_test(names_of_images),
		cmocka_unit_test(stretches),
		cmocka_unit_test(settings_of_images),
		cmocka_unit_test(rules_of_access),
		cmocka_unit_test(names_of_commands),
		cmocka_unit_test(every_row_says_what_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
