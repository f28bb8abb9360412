/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines of key=value for programs that look before they start a server.  The
 * keys are nbdkit's where they mean the same here; a key is left out rather than
 * given a value that is not true.
 *
 * A ring is made and given back to see what the kernel offers.  Main thread.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ring/ring.h"
#include "src/cli/help.h"
#include "src/cli/label.h"
#include "src/cli/sandbox.h"
#include "src/stack/params.h"
#include "src/tls/credentials.h"

static const char *yes_no(bool truth)
{
	return truth ? "yes" : "no";
}

static void print_binary(FILE *to, const char *key)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (length > 0)
		fprintf(to, "%s=%.*s\n", key, (int)length, path);
}

static void print_names(FILE *to, const char *key, const struct nr_layer_type *const *layers)
{
	fprintf(to, "%s=", key);
	for (const struct nr_layer_type *const *layer = layers; *layer; layer++)
		fprintf(to, "%s%s", layer == layers ? "" : " ", (*layer)->name);
	fputc('\n', to);
}

static void print_version(FILE *to)
{
	static const char *const parts[] = { "major", "minor", "patch" };
	const char *text = NR_VERSION;

	fprintf(to, "version=%s\n", text);
	for (int i = 0; i < 3 && *text; i++) {
		size_t length = strcspn(text, ".");

		fprintf(to, "version_%s=%.*s\n", parts[i], (int)length, text);
		text += length;
		text += *text == '.';
	}
}

static void print_ring(FILE *to)
{
	const struct nr_ring_options options = { .engine = NULL };
	struct nr_error error = { .code = 0 };
	const struct nr_ring_report *report;
	struct nr_ring *ring;

	if (nr_ring_create(&ring, &options, &error)) {
		fprintf(to, "io_uring=no\nio_uring_error=%s\n", error.text);
		return;
	}
	report = nr_ring_report(ring);
	fprintf(to, "io_uring=yes\n");
	fprintf(to, "ring_discard=%s\n", yes_no(report->discard));
	fprintf(to, "ring_share_unix=%s\n", yes_no(report->share_unix));
	fprintf(to, "ring_engine=%s\n", report->engine);
	fprintf(to, "ring_fixed_files=%s\n", yes_no(report->fixed_files));
	fprintf(to, "ring_flags=%s\n", report->flags);
	fprintf(to, "ring_registered_bytes=%zu\n", report->registered_bytes);
	fprintf(to, "ring_restricted=%s\n", yes_no(report->restricted));
	nr_ring_destroy(ring);
}

void nr_dump_config(FILE *to, const struct nr_catalog *catalog)
{
	struct utsname host;

	print_names(to, "backends", catalog->backends);
	print_binary(to, "binary");
	fprintf(to, "bindir=%s\n", NR_BINDIR);
	fprintf(to, "cpus=%ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	fprintf(to, "exit_with_parent=yes\n");
	print_names(to, "filters", catalog->filters);
	if (uname(&host) == 0)
		fprintf(to, "host_cpu=%s\nhost_os=linux\nkernel=%s\n", host.machine, host.release);
	/* Encryption by the kernel; the same sends and receives serve it, but it is not used. */
	fprintf(to, "ktls=no\n");
	fprintf(to, "landlock_abi=%d\n", nr_sandbox_landlock_abi());
	fprintf(to, "layer_abi=%d\n", NR_LAYER_ABI);
	fprintf(to, "mandir=%s\n", NR_MANDIR);
	fprintf(to, "name=nbdring\n");
	print_ring(to);
	fprintf(to, "selinux=no\n");
	fprintf(to, "tls=%s\n", yes_no(nr_tls_library()));
	if (nr_tls_library()) {
		char own[128];

		fprintf(to, "tls_library=%s\n", nr_tls_library());
		/* The library opens and seals the records of all other ciphers. */
		nr_tls_records_ciphers(own, sizeof(own));
		fprintf(to, "tls_own_records=%s\n", own);
	}
	fprintf(to, "sandbox=%s\n", yes_no(nr_sandbox_has_seccomp() || nr_sandbox_landlock_abi()));
	fprintf(to, "sandbox_seccomp=%s\n", yes_no(nr_sandbox_has_seccomp()));
	fprintf(to, "selinux=%s\n", yes_no(nr_label_possible()));
	print_version(to);
}

void nr_dump_backend(FILE *to, const struct nr_layer_type *type)
{
	const struct nr_param *row = nr_params_main(type->params);

	print_binary(to, "path");
	fprintf(to, "name=%s\n", type->name);
	fprintf(to, "version=%s\n", NR_VERSION);
	fprintf(to, "api_version=%u\n", type->abi);
	/* Requests of one connection are always under way together. */
	fprintf(to, "max_thread_model=parallel\n");
	fprintf(to, "thread_model=parallel\n");
	fprintf(to, "errno_is_preserved=1\n");
	if (row)
		fprintf(to, "magic_config_key=%s\n", row->name);
	fprintf(to, "has_longname=1\n");
	if (type->params && type->params->name)
		fprintf(to, "has_config=1\nhas_config_help=1\n");
	if (type->check)
		fprintf(to, "has_config_complete=1\n");
	if (type->exports)
		fprintf(to, "has_list_exports=1\n");
	if (type->open)
		fprintf(to, "has_open=1\n");
	if (type->close)
		fprintf(to, "has_close=1\n");
	fprintf(to, "has_get_size=1\n");
	fprintf(to, "has_pread=1\n");
}
