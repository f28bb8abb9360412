/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files of certificates and keys: what is wrong with them is said in one sentence that
 * names the file, and never ends the program.
 */
#include <sys/stat.h>

#include "tests/unit/tls-test.h"

static void assert_refused(const struct nr_tls_config *config, const char *const words[])
{
	struct nr_tls_credentials *credentials;
	struct nr_error error = { 0 };

	assert_true(nr_tls_credentials_load(&credentials, config, &error) < 0);
	assert_int_not_equal(error.code, 0);
	assert_null(strchr(error.text, '\n'));
	for (; *words; words++)
		if (!strstr(error.text, *words))
			fail_msg("'%s' is not in: %s", *words, error.text);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void refused_folder(const char *folder, const char *const words[])
{
	assert_refused(&(struct nr_tls_config){ .side = NR_TLS_SERVER,
						.directory = tls_path(folder),
						.verify_peer = true },
		       words);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

/* A copy of good/ in which FILE has this TEXT, or does not exist. */
static void refused_with(const char *name, const char *text, const char *const words[])
{
	char command[256], path[128];

	snprintf(command, sizeof(command), "cd %s && rm -rf changed && cp -r good changed",
		 tls_folder);
	assert_int_equal(system(command), 0);
	snprintf(path, sizeof(path), "%s/changed/%s", tls_folder, name);
	if (text)
		write_file(path, text);
	else
		assert_int_equal(unlink(path), 0);
	refused_folder("changed", words);
}

static void what_is_wrong_with_certificates_is_said(void **state)
{
	refused_folder("expired", WORDS("expired/server-cert.pem", "expired on 2020-01-02"));
	refused_folder("wrong", WORDS("wrong/server-key.pem", "not the key of server-cert.pem"));
	refused_folder("nowhere", WORDS("nowhere/server-cert.pem", "No such file"));
	/* Clients are to be verified, and there is no CA to do it with. */
	refused_folder("plain", WORDS("plain/ca-cert.pem", "No such file"));
	refused_with("server-cert.pem", NULL, WORDS("server-cert.pem", "No such file"));
	refused_with("server-key.pem", NULL, WORDS("server-key.pem", "No such file"));
	refused_with("server-cert.pem", "no PEM at all", WORDS("server-cert.pem"));
	refused_with("server-key.pem", "", WORDS("server-key.pem"));
	refused_with("ca-cert.pem", "", WORDS("ca-cert.pem"));
	refused_with("ca-crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n", WORDS("ca-crl.pem"));
	refused_with("server-cert.pem",
		     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		     WORDS("server-cert.pem"));
}

static void a_folder_is_no_file(void **state)
{
	assert_refused(
		&(struct nr_tls_config){ .side = NR_TLS_SERVER, .psk_file = tls_path("good") },
		WORDS("good", "directory"));
}

static void refused_keys(const char *text, const char *const words[])
{
	write_file(tls_path("bad.psk"), text);
	assert_refused(
		&(struct nr_tls_config){ .side = NR_TLS_SERVER, .psk_file = tls_path("bad.psk") },
		words);
}

static void what_is_wrong_with_keys_is_said(void **state)
{
	char line[400];

	refused_keys("", WORDS("bad.psk", "no key"));
	refused_keys("# nothing\n\n", WORDS("bad.psk", "no key"));
	refused_keys("alice:00\nbob\n", WORDS("bad.psk", "line 2", "colon"));
	refused_keys("alice:0g\n", WORDS("line 1", "hexadecimal"));
	refused_keys("alice:\n", WORDS("line 1", "hexadecimal"));
	refused_keys(":0011\n", WORDS("line 1", "name"));
	refused_keys("a\tb:0011\n", WORDS("line 1", "control characters"));
	refused_keys("\xff:0011\n", WORDS("line 1", "UTF-8"));
	refused_keys("alice:00\nalice:01\n", WORDS("two keys", "alice"));
	memset(line, 'a', sizeof(line));
	memcpy(line + 129, ":0011", sizeof(":0011"));
	refused_keys(line, WORDS("line 1", "longer than 128"));
	memset(line, 'a', sizeof(line));
	line[1] = ':';
	line[132] = '\0';
	refused_keys(line, WORDS("line 1", "longer than 64"));
	assert_refused(&(struct nr_tls_config){ .side = NR_TLS_CLIENT,
						.psk_file = tls_path("good/keys.psk"),
						.psk_name = "carol" },
		       WORDS("keys.psk", "carol"));
}

static void a_key_never_gets_into_a_message(void **state)
{
	struct nr_tls_credentials *credentials;
	struct nr_error error = { 0 };

	write_file(tls_path("bad.psk"), "alice:5ec5e75ec5e7zz\n");
	assert_true(
		nr_tls_credentials_load(&credentials,
					&(struct nr_tls_config){ .side = NR_TLS_SERVER,
								 .psk_file = tls_path("bad.psk") },
					&error) < 0);
	assert_null(strstr(error.text, "5ec5e7"));
}

static void what_is_wrong_with_a_priority_is_said(void **state)
{
	assert_refused(&(struct nr_tls_config){ .side = NR_TLS_SERVER,
						.directory = tls_path("good"),
						.priority = "NORMAL:+NOSUCHTHING" },
		       WORDS("priority", "NOSUCHTHING"));
	assert_refused(&(struct nr_tls_config){ .side = NR_TLS_SERVER,
						.directory = tls_path("good"),
						.priority = "" },
		       WORDS("priority"));
}

static void secrets_that_everybody_may_read_are_warned_of(void **state)
{
	const struct nr_tls_config config = { .side = NR_TLS_SERVER,
					      .psk_file = tls_path("good/keys.psk") };
	struct nr_tls_credentials *credentials = tls_load(&config);

	assert_null(nr_tls_credentials_warning(credentials));
	nr_tls_credentials_release(credentials);
	chmod(config.psk_file, 0644);
	credentials = tls_load(&config);
	assert_non_null(strstr(nr_tls_credentials_warning(credentials), "keys.psk"));
	nr_tls_credentials_release(credentials);
	chmod(config.psk_file, 0600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_wrong_with_certificates_is_said),
		cmocka_unit_test(a_folder_is_no_file),
		cmocka_unit_test(what_is_wrong_with_keys_is_said),
		cmocka_unit_test(a_key_never_gets_into_a_message),
		cmocka_unit_test(what_is_wrong_with_a_priority_is_said),
		cmocka_unit_test(secrets_that_everybody_may_read_are_warned_of),
	};

	return cmocka_run_group_tests(tests, tls_make_folder, tls_remove_folder);
}
