/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From qemu-nbd's command line to nbdring's: what comes out are the same options, filters
 * and words that could have been given to nbdring, so that there is one server.
 *
 * Sentences that scripts look for are qemu-nbd's; others say what to do instead.  The
 * image is looked at here, before it is opened by its backend, because qemu-nbd's
 * messages about it are expected, and because its size decides on how it is served.
 */
#include "src/cli/qemu.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nbdring/checked.h"
#include "src/cli/listen-internal.h"
#include "src/cli/qemu-image.h"
#include "src/cli/qemu-objects.h"
#include "src/stack/params-path.h"
#include "src/stack/params.h"

#define VERSION "10.0.0" /* of qemu-nbd, whose options these are */
#define HANDSHAKE_SECONDS 10
#define NAME_MAX_BYTES 4096 /* the protocol's limit of names and descriptions */

bool nr_qemu_is_name(const char *program)
{
	const char *slash = program ? strrchr(program, '/') : NULL;

	return program && strcmp(slash ? slash + 1 : program, "qemu-nbd") == 0;
}

/* Building options. */

/* A text that belongs to OPTIONS, at the end of LIST. */
__attribute__((format(printf, 4, 5))) static int add(struct nr_options *options,
						     struct nr_strings *list,
						     struct nr_error *error, const char *format,
						     ...)
{
	va_list args;
	char *text;
	int length, err;

	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	if (length < 0)
		return nr_error_system(error, -ENOMEM, "the command line");
	err = nr_strings_add(&options->owned, text, error);
	if (err) {
		free(text);
		return err;
	}
	return nr_strings_add(list, text, error);
}

#define ADD_WORD(...) add(options, &options->words, error, __VA_ARGS__)

static int add_filter(struct nr_options *options, const char *name, struct nr_error *error)
{
	return nr_strings_add(&options->filters, name, error);
}

/* What does not go together, or at all. */

static int refuse_modes(const struct nr_qemu_options *q, struct nr_error *error)
{
	bool device = q->connect || q->disconnect;

	if (q->list && (q->export_name || q->offset || q->description || q->bitmaps.count ||
			q->depth || q->snapshot || q->load || q->format || q->image_opts))
		return nr_error_set(error, -EINVAL,
				    "List mode is incompatible with per-device settings");
	if (q->tls_authz && !q->tls_creds)
		return nr_error_set(error, -EINVAL,
				    "--tls-authz is not permitted without --tls-creds");
	if (q->tls_hostname && !q->tls_creds)
		return nr_error_set(error, -EINVAL,
				    "--tls-hostname is not permitted without --tls-creds");
	if (q->tls_hostname && !q->list)
		return nr_error_set(error, -EINVAL,
				    "TLS hostname is only supported with list mode");
	if (q->tls_creds && device)
		return nr_error_set(error, -EINVAL, "TLS is not supported with a host device");
	if (q->list)
		return nr_error_set(error, -ENOTSUP,
				    "-L is not possible here; nbdinfo --list URI shows what a "
				    "server has");
	if (q->disconnect)
		return nr_error_set(error, -ENOTSUP,
				    "-d is not possible here; nbd-client -d %s disconnects the "
				    "device",
				    q->disconnect);
	if (q->connect)
		return nr_error_set(error, -ENOTSUP,
				    "-c is not possible here; serve on a socket with -t -k SOCKET, "
				    "and connect the device with nbd-client -unix SOCKET %s",
				    q->connect);
	return 0;
}

static int refuse_image(const struct nr_qemu_options *q, struct nr_error *error)
{
	if (q->image_opts && q->format)
		return nr_error_set(error, -EINVAL, "--image-opts and -f are mutually exclusive");
	if (q->cache_given > 1)
		return nr_error_set(error, -EINVAL, "-n and --cache can only be specified once");
	if (q->load)
		return nr_error_set(error, -ENOTSUP,
				    "Failed to load snapshot: Block format 'raw' used by device '' "
				    "does not support temporarily loading internal snapshots");
	if (q->bitmaps.count)
		return nr_error_set(error, -ENOENT, "Bitmap '%s' is not found", q->bitmaps.item[0]);
	return 0;
}

/* Where to listen. */

static int set_activated(const struct nr_qemu_options *q, struct nr_error *error)
{
	const char *what = q->socket ? "Unix socket"
			   : q->bind ? "Interface"
			   : q->port ? "TCP port"
				     : NULL;

	return what ? nr_error_set(error, -EINVAL, "%s can't be set when using socket activation",
				   what)
		    : 0;
}

static int set_listeners(struct nr_options *options, struct nr_error *error)
{
	const struct nr_qemu_options *q = &options->qemu;
	const char *other;
	int err;

	if (nr_listen_is_activated(&other))
		return set_activated(q, error);
	if (q->socket && q->socket[0] != '/')
		return nr_error_set(error, -EINVAL, "socket path must be absolute");
	if (q->socket)
		return nr_strings_add(&options->unix_paths, q->socket, error);
	err = nr_strings_add(&options->addresses, q->bind ? q->bind : "0.0.0.0", error);
	if (err)
		return err;
	return nr_strings_add(&options->ports, q->port ? q->port : NR_DEFAULT_PORT, error);
}

/* Who may come in. */

static int set_number(unsigned *to, const char *text, unsigned fallback, const char *what,
		      struct nr_error *error)
{
	uint64_t number = fallback;

	if (text && (nr_parse_uint(text, &number) || number > INT32_MAX))
		return nr_error_set(error, -EINVAL, "Invalid %s '%s'", what, text);
	*to = (unsigned)number;
	return 0;
}

static int set_clients(struct nr_options *options, struct nr_error *error)
{
	const struct nr_qemu_options *q = &options->qemu;
	int err =
		set_number(&options->max_connections, q->shared, 1, "shared device number", error);

	options->max_connections_wait = 1;
	if (!err)
		err = set_number(&options->handshake_seconds, q->limit, HANDSHAKE_SECONDS,
				 "handshake limit", error);
	options->exit_last = !q->persistent;
	return err;
}

static int set_name(struct nr_options *options, struct nr_error *error)
{
	const struct nr_qemu_options *q = &options->qemu;
	const char *name = q->export_name ? q->export_name : "";
	int err;

	if (strlen(name) > NAME_MAX_BYTES)
		return nr_error_set(error, -EINVAL, "export name '%.40s...' is too long", name);
	if (q->description && strlen(q->description) > NAME_MAX_BYTES)
		return nr_error_set(error, -EINVAL, "description '%.40s...' is too long",
				    q->description);
	options->export_name = name;
	err = add_filter(options, "exportname", error);
	if (!err)
		err = ADD_WORD("exportname=%s", name);
	if (!err)
		err = ADD_WORD("exportname-list=explicit");
	if (!err)
		err = ADD_WORD("exportname-strict=true");
	if (!err && q->description)
		err = ADD_WORD("exportdesc=fixed:%s", q->description);
	/* One client at a time has no use for several connections, and would wait for itself. */
	if (!err && options->max_connections == 1)
		err = add_filter(options, "multi-conn", error);
	if (!err && options->max_connections == 1)
		err = ADD_WORD("multi-conn-mode=disable");
	return err;
}

/* What is served. */

static const struct {
	const char *name;
	bool direct, through, unsafe;
} cache_modes[] = {
	{ "writeback", false, false, false }, { "none", true, false, false },
	{ "off", true, false, false },        { "writethrough", false, true, false },
	{ "directsync", true, true, false },  { "unsafe", false, false, true },
};

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

/* Of the command line, and of what the image itself says. */
static int check_modes(const char *cache, const char *aio, const char *discard,
		       const char *detect_zeroes, struct nr_error *error)
{
	static const char *const aios[] = { "threads", "native", "io_uring", NULL };
	static const char *const discards[] = { "ignore", "off", "unmap", "on", NULL };
	static const char *const detects[] = { "off", "on", "unmap", NULL };
	bool known = !cache;

	for (size_t i = 0; !known && i < sizeof(cache_modes) / sizeof(cache_modes[0]); i++)
		known = strcmp(cache_modes[i].name, cache) == 0;
	if (!known)
		return nr_error_set(error, -EINVAL, "Invalid cache mode `%s'", cache);
	if (aio && !is_one_of(aio, aios))
		return nr_error_set(error, -EINVAL, "Invalid aio mode '%s'", aio);
	if (discard && !is_one_of(discard, discards))
		return nr_error_set(error, -EINVAL, "Invalid discard mode `%s'", discard);
	if (detect_zeroes && !is_one_of(detect_zeroes, detects))
		return nr_error_set(error, -EINVAL, "Invalid detect-zeroes mode '%s'",
				    detect_zeroes);
	return 0;
}

/* Past the page cache? */
static bool is_direct(const struct nr_options *options, const struct nr_qemu_image *image)
{
	const char *mode = options->qemu.cache;

	if (image->direct >= 0)
		return image->direct;
	for (size_t i = 0; mode && i < sizeof(cache_modes) / sizeof(cache_modes[0]); i++)
		if (strcmp(cache_modes[i].name, mode) == 0)
			return cache_modes[i].direct;
	return false;
}

static int check_aio(const struct nr_options *options, const struct nr_qemu_image *image,
		     struct nr_error *error)
{
	const char *aio = image->aio ? image->aio : options->qemu.aio;

	if (aio && strcmp(aio, "native") == 0 && !is_direct(options, image))
		return nr_error_set(error, -EINVAL,
				    "aio=native was specified, but it requires cache.direct=on, "
				    "which was not specified.");
	return 0;
}

static int set_cache(struct nr_options *options, const struct nr_qemu_image *image,
		     struct nr_error *error)
{
	const char *mode = options->qemu.cache ? options->qemu.cache : "writeback";
	bool unsafe;
	size_t i = 0;
	int err = 0;

	/* Checked before. */
	while (strcmp(cache_modes[i].name, mode) != 0)
		i++;
	unsafe = image->no_flush >= 0 ? image->no_flush : cache_modes[i].unsafe;
	if (is_direct(options, image) && !image->is_uri)
		err = ADD_WORD("cache=none");
	if (err || !(unsafe || cache_modes[i].through))
		return err;
	err = add_filter(options, "fua", error);
	return err ? err : ADD_WORD("fuamode=%s", unsafe ? "discard" : "force");
}

static int set_discard(struct nr_options *options, const struct nr_qemu_image *image,
		       struct nr_error *error)
{
	const char *discard = image->discard ? image->discard : options->qemu.discard;
	const char *detect =
		image->detect_zeroes ? image->detect_zeroes : options->qemu.detect_zeroes;
	bool unmaps;
	int err;

	discard = discard ? discard : "ignore";
	detect = detect ? detect : "off";
	unmaps = strcmp(discard, "unmap") == 0 || strcmp(discard, "on") == 0;
	if (strcmp(detect, "unmap") == 0 && !unmaps)
		return nr_error_set(error, -EINVAL,
				    "setting detect-zeroes to unmap is not allowed without setting "
				    "discard operation to unmap");
	/* What nobody changes is not to be kept from anything. */
	if (options->read_only || (unmaps && strcmp(detect, "off") == 0))
		return 0;
	err = add_filter(options, "discard", error);
	if (!err)
		err = ADD_WORD("discard=%s", discard);
	return err ? err : ADD_WORD("detect-zeroes=%s", detect);
}

static int set_stretch(struct nr_options *options, struct nr_qemu_image *image,
		       struct nr_error *error)
{
	uint64_t length = image->length ? image->length : image->size - image->offset;
	bool whole = image->offset == 0 && length == image->size;
	int err = 0;

	if (image->is_uri && !image->offset && !image->length)
		return 0;
	/* Whole sectors, as qemu-nbd has it. */
	if (length % 512 && !image->is_uri) {
		err = add_filter(options, "truncate", error);
		if (!err)
			err = ADD_WORD("round-up=512");
	}
	if (err || whole)
		return err;
	err = add_filter(options, "offset", error);
	if (!err)
		err = ADD_WORD("offset=%llu", (unsigned long long)image->offset);
	if (!err && image->length)
		err = ADD_WORD("range=%llu", (unsigned long long)image->length);
	return err;
}

/* -o, in front of what the image is already. */
static int set_offset(const struct nr_qemu_options *q, struct nr_qemu_image *image,
		      struct nr_error *error)
{
	uint64_t offset = 0;
	uint64_t room = image->length ? image->length : image->size - image->offset;

	if (q->offset && nr_parse_uint(q->offset, &offset))
		return nr_error_set(error, -EINVAL, "Invalid offset '%s'", q->offset);
	if (offset == 0)
		return 0;
	if (image->is_uri)
		return nr_error_set(error, -ENOTSUP,
				    "-o does not go with an image on another server");
	if (offset > room || (image->length && offset == room))
		return nr_error_set(error, -EINVAL,
				    "Offset (%llu) cannot be greater than size of the containing "
				    "file (%llu)",
				    (unsigned long long)offset, (unsigned long long)room);
	image->offset += offset;
	if (image->length)
		image->length -= offset;
	return 0;
}

static int set_backend(struct nr_options *options, struct nr_qemu_image *image,
		       struct nr_error *error)
{
	int err = ADD_WORD("%s=%s", image->is_uri ? "uri" : "file", image->path);

	if (!err)
		err = set_cache(options, image, error);
	if (!err)
		err = set_discard(options, image, error);
	if (!err)
		err = set_stretch(options, image, error);
	/* Next to the image: all that is written is kept apart from it. */
	if (!err && options->qemu.snapshot)
		err = add_filter(options, "cow", error);
	return err;
}

static int look_at_image(struct nr_options *options, struct nr_qemu_image *image, const char *name,
			 struct nr_error *error)
{
	int err = nr_qemu_image_read(image, name, options->qemu.format, options->qemu.image_opts,
				     error);

	options->read_only = options->read_only || image->read_only;
	/* Under a temporary overlay the image is only read. */
	image->read_only = options->read_only || options->qemu.snapshot;
	if (!err)
		err = check_modes(NULL, image->aio, image->discard, image->detect_zeroes, error);
	if (!err)
		err = check_aio(options, image, error);
	if (!err)
		err = nr_qemu_image_look(image, error);
	if (err)
		nr_error_prefix(error, "Failed to blk_new_open '%.200s'", name);
	return err ? err : set_offset(&options->qemu, image, error);
}

/* The first word is the backend; the first filter is next to the clients. */
static int set_image(struct nr_options *options, const char *name, struct nr_error *error)
{
	struct nr_qemu_image image;
	int err = look_at_image(options, &image, name, error);

	if (!err)
		err = nr_strings_add(&options->words, image.is_uri ? "nbd" : "file", error);
	if (!err)
		err = set_name(options, error);
	if (!err)
		err = set_backend(options, &image, error);
	if (!err && image.guessed)
		fprintf(stderr,
			"WARNING: Image format was not specified for '%s' and probing guessed "
			"raw.\n",
			name);
	/* Locked until the end. */
	options->qemu.lock = image.lock;
	image.lock = 0;
	nr_qemu_image_free(&image);
	return err;
}

static int translate(struct nr_options *options, struct nr_error *error)
{
	const struct nr_qemu_options *q = &options->qemu;
	struct nr_strings given = options->words;
	int err = refuse_modes(q, error);

	if (!err)
		err = refuse_image(q, error);
	if (!err && given.count != 1)
		err = nr_error_set(error, -EINVAL,
				   "Invalid number of arguments: name one image; qemu-nbd --help "
				   "shows all options");
	if (!err)
		err = check_modes(q->cache, q->aio, q->discard, q->detect_zeroes, error);
	if (!err)
		err = nr_qemu_set_tls(options, error);
	if (!err)
		err = set_listeners(options, error);
	if (!err)
		err = set_clients(options, error);
	options->foreground = !options->qemu.fork;
	options->listen_error = "Failed to bind socket";
	if (err)
		return err;
	options->words = (struct nr_strings){ .count = 0 };
	err = set_image(options, given.item[0], error);
	free(given.item);
	return err;
}

int nr_qemu_parse(struct nr_options *options, int argc, char **argv, struct nr_error *error)
{
	int err;

	*options = (struct nr_options){
		.action = NR_ACTION_SERVE,
		.family = AF_UNSPEC,
		.export_name = "",
		.handshake_mask = 0xffff,
	};
	err = nr_options_read(options, &nr_qemu_option_set, argc, argv, error);
	if (err || options->action != NR_ACTION_SERVE)
		return err;
	return translate(options, error);
}

void nr_qemu_inform(FILE *to, const struct nr_options *options)
{
	if (options->action == NR_ACTION_VERSION) {
		fprintf(to, "qemu-nbd " VERSION " (nbdring " NR_VERSION ")\n");
		return;
	}
	fprintf(to, "usage: qemu-nbd [OPTION]... IMAGE\n\n"
		    "Serve a disk image over NBD.  This is nbdring in the place of qemu-nbd.\n\n");
	nr_options_help(to, &nr_qemu_option_set);
}
