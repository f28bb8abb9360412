/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects that other options refer to by their id.
 *
 * Credentials become the files that --tls-certificates and --tls-psk name, which have
 * qemu's names for them already.  Who may come in becomes rules of access.  qemu writes
 * the name of a certificate in the order in which it is encoded ("O=Example,CN=laptop"),
 * rules have it as RFC 4514 does, the other way round.
 */
#include "src/cli/qemu-objects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/qemu-settings.h"
#include "src/protocol/handshake.h"
#include "src/stack/params-path.h"

#define RULES_MAX 200 /* of one object */

static const char *const types[] = {
	"secret",       "tls-creds-x509", "tls-creds-psk",   "tls-creds-anon",
	"authz-simple", "authz-list",     "authz-list-file", "authz-pam",
};

static const char *value_of(struct nr_qemu_settings *object, const char *name)
{
	struct nr_qemu_setting *one = nr_qemu_find(object, "", name);

	return one ? one->value : NULL;
}

static int read_object(struct nr_qemu_settings *object, const char *text, struct nr_error *error)
{
	const char *type;
	int err = text[0] == '{' ? nr_qemu_read_json(object, text, error)
				 : nr_qemu_read_options(object, text, "qom-type", error);

	if (err)
		return err;
	type = value_of(object, "qom-type");
	if (!type)
		return nr_error_set(error, -EINVAL, "Parameter 'qom-type' is missing");
	if (!value_of(object, "id"))
		return nr_error_set(error, -EINVAL, "Parameter 'id' is missing");
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i], type) == 0)
			return 0;
	return nr_error_set(error, -EINVAL, "Parameter 'qom-type' does not accept value '%s'",
			    type);
}

/* The object ID; 1 when there is one, 0 when there is none.  To be freed in any case. */
static int find_object(struct nr_qemu_settings *object, const struct nr_strings *objects,
		       const char *id, struct nr_error *error)
{
	for (size_t i = 0; i < objects->count; i++) {
		int err = read_object(object, objects->item[i], error);

		if (err)
			return err;
		if (strcmp(value_of(object, "id"), id) == 0)
			return 1;
		nr_qemu_settings_free(object);
	}
	*object = (struct nr_qemu_settings){ .count = 0 };
	return 0;
}

/* What nobody has asked for would have changed something. */
static int refuse_unused(struct nr_qemu_settings *object, struct nr_error *error)
{
	const struct nr_qemu_setting *unused;

	(void)value_of(object, "sanity-check");
	unused = nr_qemu_unused(object);
	if (!unused)
		return 0;
	return nr_error_set(error, -ENOTSUP, "'%s' of the object '%s' is not possible here",
			    unused->name, value_of(object, "id"));
}

/* Credentials. */

/* FOLDER/NAME, or FOLDER, absolute, and owned by OPTIONS. */
static int set_path(struct nr_options *options, const char **field, const char *folder,
		    const char *name, struct nr_error *error)
{
	char *path, *whole;
	int err;

	if (asprintf(&path, "%s%s%s", folder, name ? "/" : "", name ? name : "") < 0)
		return nr_error_system(error, -ENOMEM, "credentials");
	whole = nr_absolute_path(path);
	free(path);
	if (!whole)
		return nr_error_system(error, -errno, "%s", folder);
	err = nr_strings_add(&options->owned, whole, error);
	if (err)
		free(whole);
	else
		*field = whole;
	return err;
}

static int set_text(struct nr_options *options, const char **field, const char *text,
		    struct nr_error *error)
{
	char *copy = text ? strdup(text) : NULL;
	int err;

	if (!text)
		return 0;
	if (!copy)
		return nr_error_system(error, -ENOMEM, "credentials");
	err = nr_strings_add(&options->owned, copy, error);
	if (err)
		free(copy);
	else
		*field = copy;
	return err;
}

static int set_credentials(struct nr_options *options, struct nr_qemu_settings *object,
			   struct nr_error *error)
{
	const char *type = value_of(object, "qom-type"), *endpoint = value_of(object, "endpoint");
	const char *folder = value_of(object, "dir"), *verify = value_of(object, "verify-peer");
	const char *id = value_of(object, "id");
	int err;

	if (strncmp(type, "tls-creds-", strlen("tls-creds-")) != 0)
		return nr_error_set(error, -EINVAL, "Object with id '%s' is not TLS credentials",
				    id);
	if (!endpoint || strcmp(endpoint, "server") != 0)
		return nr_error_set(error, -EINVAL,
				    "Expecting TLS credentials with a server endpoint: add "
				    "endpoint=server to the object '%s'",
				    id);
	if (!folder)
		return nr_error_set(error, -EINVAL, "Missing property 'dir' of the object '%s'",
				    id);
	options->tls = NR_TLS_REQUIRED;
	err = set_text(options, &options->tls_priority, value_of(object, "priority"), error);
	if (err)
		return err;
	if (strcmp(type, "tls-creds-psk") == 0)
		return set_path(options, &options->tls_psk, folder, "keys.psk", error);
	if (strcmp(type, "tls-creds-x509") != 0)
		return nr_error_set(error, -ENOTSUP,
				    "%s proves nothing to nobody; use tls-creds-x509 or "
				    "tls-creds-psk",
				    type);
	/* As in qemu, clients have to show a certificate unless it is said that they need not. */
	options->tls_verify_peer = !verify || strcmp(verify, "on") == 0 ||
				   strcmp(verify, "yes") == 0 || strcmp(verify, "true") == 0;
	return set_path(options, &options->tls_certificates, folder, NULL, error);
}

/* Who may come in. */

/* The part of a name that ends at END, its first byte: commas that are escaped belong to it. */
static const char *part_before(const char *start, const char *end)
{
	const char *at = start, *last = start;

	for (; at < end; at++) {
		if (*at == '\\' && at + 1 < end)
			at++;
		else if (*at == ',')
			last = at + 1;
	}
	return last;
}

/* As a pattern that means itself, within double quotes. */
static void print_plain(FILE *to, const char *from, const char *end)
{
	for (; from < end; from++) {
		if (strchr("*?[", *from))
			fprintf(to, "[%c]", *from);
		else
			fprintf(to, *from == '"' ? "\"\"" : "%c", *from);
	}
}

char *nr_qemu_rule(const char *identity, bool allows)
{
	const char *end = identity + strlen(identity);
	char *rule = NULL;
	size_t length;
	FILE *to = open_memstream(&rule, &length);

	if (!to)
		return NULL;
	fprintf(to, "%s subject=\"", allows ? "allow" : "deny");
	for (;;) {
		const char *part = part_before(identity, end);

		print_plain(to, part, end);
		if (part == identity)
			break;
		fputc(',', to);
		end = part - 1;
	}
	fputc('"', to);
	if (fclose(to) == 0)
		return rule;
	free(rule);
	return NULL;
}

/* IDENTITY NULL: everybody. */
static int add_rule(struct nr_options *options, const char *identity, bool allows,
		    struct nr_error *error)
{
	char *rule = identity ? nr_qemu_rule(identity, allows) : strdup(allows ? "allow" : "deny");
	int err;

	if (!rule)
		return nr_error_system(error, -ENOMEM, "--tls-authz");
	/* Rules are lines. */
	if (strchr(rule, '\n')) {
		free(rule);
		return nr_error_set(error, -EINVAL, "--tls-authz: a name of more than one line");
	}
	err = nr_strings_add(&options->owned, rule, error);
	if (err) {
		free(rule);
		return err;
	}
	return nr_strings_add(&options->access_rules, rule, error);
}

static int take_policy(const char *text, bool *allows, struct nr_error *error)
{
	*allows = text && strcmp(text, "allow") == 0;
	if (!text || *allows || strcmp(text, "deny") == 0)
		return 0;
	return nr_error_set(error, -EINVAL, "Parameter 'policy' does not accept value '%s'", text);
}

static int add_list(struct nr_options *options, struct nr_qemu_settings *object,
		    struct nr_error *error)
{
	bool allows;
	int err = 0;

	for (unsigned i = 0; !err && i < RULES_MAX; i++) {
		struct nr_qemu_setting *match, *policy, *format;
		char prefix[32];

		snprintf(prefix, sizeof(prefix), "rules.%u.", i);
		match = nr_qemu_find(object, prefix, "match");
		policy = nr_qemu_find(object, prefix, "policy");
		format = nr_qemu_find(object, prefix, "format");
		if (!match || !match->value)
			break;
		if (format && format->value && strcmp(format->value, "exact") != 0)
			return nr_error_set(error, -ENOTSUP,
					    "--tls-authz: format=%s is not possible here, only "
					    "exact; nbdring --access has patterns",
					    format->value);
		err = take_policy(policy ? policy->value : NULL, &allows, error);
		if (!err)
			err = add_rule(options, match->value, allows, error);
	}
	if (!err)
		err = take_policy(value_of(object, "policy"), &allows, error);
	return err ? err : add_rule(options, NULL, allows, error);
}

static int set_access(struct nr_options *options, struct nr_qemu_settings *object,
		      struct nr_error *error)
{
	const char *type = value_of(object, "qom-type"), *identity = value_of(object, "identity");

	if (strcmp(type, "authz-list") == 0)
		return add_list(options, object, error);
	if (strcmp(type, "authz-simple") != 0)
		return nr_error_set(error, -ENOTSUP,
				    "--tls-authz: '%s' is not possible here; use authz-simple or "
				    "authz-list, or nbdring --access",
				    type);
	if (!identity)
		return nr_error_set(error, -EINVAL,
				    "Missing property 'identity' of the object '%s'",
				    value_of(object, "id"));
	return add_rule(options, identity, true, error);
}

static int use_object(struct nr_options *options, const char *id, const char *missing,
		      int (*set)(struct nr_options *options, struct nr_qemu_settings *object,
				 struct nr_error *error),
		      struct nr_error *error)
{
	struct nr_qemu_settings object = { .count = 0 };
	int err = find_object(&object, &options->qemu.objects, id, error);

	if (err == 0)
		err = nr_error_set(error, -ENOENT, "%s '%s'", missing, id);
	if (err == 1)
		err = set(options, &object, error);
	if (!err)
		err = refuse_unused(&object, error);
	nr_qemu_settings_free(&object);
	return err;
}

int nr_qemu_set_tls(struct nr_options *options, struct nr_error *error)
{
	const struct nr_qemu_options *q = &options->qemu;
	int err = 0;

	/* Those that nobody uses have to be right as well. */
	for (size_t i = 0; !err && i < q->objects.count; i++) {
		struct nr_qemu_settings object;

		err = read_object(&object, q->objects.item[i], error);
		nr_qemu_settings_free(&object);
	}
	if (!err && q->tls_creds) {
		err = use_object(options, q->tls_creds, "No TLS credentials with id",
				 set_credentials, error);
		if (err)
			nr_error_prefix(error, "Failed to get TLS creds");
	}
	if (!err && q->tls_authz)
		err = use_object(options, q->tls_authz, "--tls-authz: there is no object",
				 set_access, error);
	return err;
}
