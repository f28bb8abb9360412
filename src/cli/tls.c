/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From options to credentials.
 *
 * Without --tls-certificates and --tls-psk, certificates are looked for in the folders
 * of this table.  nbdkit's names are there too, so that who comes from it need not move
 * files.  The first folder that has a server's certificate counts.
 */
#include "src/cli/tls.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/log/log.h"
#include "src/protocol/handshake.h"

static const struct {
	const char *variable; /* of the environment, put in front; NULL: none */
	const char *folder;
} places[] = {
	{ "HOME", "/.pki/nbdring" },       { "HOME", "/.config/pki/nbdring" },
	{ NULL, "/etc/pki/nbdring" },      { "HOME", "/.pki/nbdkit" },
	{ "HOME", "/.config/pki/nbdkit" }, { NULL, "/etc/pki/nbdkit" },
};

/* False: there is none. */
static bool find_folder(char folder[PATH_MAX])
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const char *front = places[i].variable ? getenv(places[i].variable) : "";
		char path[PATH_MAX];

		/* The system's own services have no home. */
		if (!front || (places[i].variable && (geteuid() == 0 || front[0] != '/')))
			continue;
		if (snprintf(folder, PATH_MAX, "%s%s", front, places[i].folder) >= PATH_MAX ||
		    snprintf(path, PATH_MAX, "%s/server-cert.pem", folder) >= PATH_MAX)
			continue;
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static int check(const struct nr_options *options, struct nr_error *error)
{
	const struct {
		bool given;
		const char *name;
	} rows[] = {
		{ options->tls_certificates, "--tls-certificates" },
		{ options->tls_psk, "--tls-psk" },
		{ options->tls_priority, "--tls-priority" },
		{ options->tls_verify_peer, "--tls-verify-peer" },
		{ options->tls_library_records, "--tls-library-records" },
	};

	if (options->tls == NR_TLS_REQUIRED && options->oldstyle)
		return nr_error_set(error, -EINVAL,
				    "--tls=require and --oldstyle exclude each other: the oldstyle "
				    "handshake has no TLS");
	for (size_t i = 0; options->tls == NR_TLS_OFF && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].given)
			return nr_error_set(error, -EINVAL,
					    "%s does nothing without TLS: add --tls=require or "
					    "--tls=on",
					    rows[i].name);
	return 0;
}

static int load(struct nr_tls_credentials **credentials, const struct nr_tls_use *use,
		const struct nr_options *options, struct nr_error *error)
{
	const struct nr_tls_config config = {
		.side = NR_TLS_SERVER,
		.directory = use->folder,
		.psk_file = options->tls_psk,
		.verify_peer = options->tls_verify_peer,
		.priority = options->tls_priority,
		.library_records = options->tls_library_records,
	};

	return nr_tls_credentials_load(credentials, &config, error);
}

static void warn(const struct nr_tls_credentials *credentials)
{
	const char *warning = nr_tls_credentials_warning(credentials);

	if (warning)
		nr_log(NR_LOG_WARNING, NR_LOG_SERVER, "TLS: %s", warning);
}

/* Found once: who the server is when it reads them again, and so its home, may be another. */
static int choose_folder(struct nr_tls_use *use, const struct nr_options *options,
			 struct nr_error *error)
{
	char found[PATH_MAX];
	const char *folder = options->tls_certificates;

	if (!folder && !options->tls_psk && nr_tls_library()) {
		if (!find_folder(found))
			return nr_error_set(
				error, -ENOENT,
				"--tls needs certificates or keys: say where they are with "
				"--tls-certificates=FOLDER or --tls-psk=FILE");
		folder = found;
	}
	if (!folder)
		return 0;
	use->folder = strdup(folder);
	return use->folder ? 0 : nr_error_system(error, -ENOMEM, "TLS");
}

int nr_tls_use_load(struct nr_tls_use *use, const struct nr_options *options,
		    struct nr_error *error)
{
	struct nr_tls_credentials *credentials;
	int err = check(options, error);

	*use = (struct nr_tls_use){ NULL, NULL };
	if (err || options->tls == NR_TLS_OFF)
		return err;
	err = choose_folder(use, options, error);
	if (!err)
		err = load(&credentials, use, options, error);
	if (err)
		return err;
	warn(credentials);
	use->store = nr_tls_store_create(credentials);
	if (use->store)
		return 0;
	nr_tls_credentials_release(credentials);
	return nr_error_system(error, -ENOMEM, "TLS");
}

void nr_tls_use_free(struct nr_tls_use *use)
{
	nr_tls_store_destroy(use->store);
	free(use->folder);
}

void nr_tls_use_reload(struct nr_tls_use *use, const struct nr_options *options)
{
	struct nr_tls_credentials *credentials;
	struct nr_error error;

	if (!use->store)
		return;
	if (load(&credentials, use, options, &error)) {
		nr_log(NR_LOG_ERROR, NR_LOG_SERVER,
		       "TLS: the old certificates and keys stay in use: %s", error.text);
		return;
	}
	warn(credentials);
	nr_tls_store_put(use->store, credentials);
	nr_log(NR_LOG_INFO, NR_LOG_SERVER,
	       "TLS: certificates and keys were read again, for new connections");
}
