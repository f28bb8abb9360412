/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images by qemu's names.
 *
 * An image is a chain of nodes: "raw", which may cut a stretch out of what is below it,
 * any number of times, and at its end a file or a device.  A setting that nobody asked
 * for is refused: it would change what is served.
 *
 * An image of which nobody has said that it is raw is looked at, and refused if it seems
 * to be in a format.  That is all that looking is good for: a guest can write what it
 * likes to the beginning of a raw image, but not make it be taken for anything but raw.
 */
#include "src/cli/qemu-image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nbdring/checked.h"
#include "src/cli/qemu-lock.h"
#include "src/cli/qemu-settings.h"
#include "src/stack/params.h"

#define SECTOR 512u

/* Formats that qemu has and that are none here yet, and how they begin. */
static const struct {
	const char *name;
	const char *magic; /* NULL: not to be told */
	size_t length, offset;
} formats[] = {
	{ "qcow2", "QFI\xfb\0\0\0\x02", 8, 0 },
	{ "qcow2", "QFI\xfb\0\0\0\x03", 8, 0 },
	{ "qcow", "QFI\xfb", 4, 0 },
	{ "qed", "QED\0", 4, 0 },
	{ "vdi", "\x7f\x10\xda\xbe", 4, 64 },
	{ "vmdk", "KDMV", 4, 0 },
	{ "vmdk", "COWD", 4, 0 },
	{ "vmdk", "# Disk DescriptorFile", 21, 0 },
	{ "vhdx", "vhdxfile", 8, 0 },
	{ "vpc", "conectix", 8, 0 },
	{ "parallels", "WithoutFreeSpace", 16, 0 },
	{ "parallels", "WithouFreSpacExt", 16, 0 },
	{ "bochs", "Bochs Virtual HD Image", 22, 0 },
	{ "luks", "LUKS\xba\xbe", 6, 0 },
	{ "cloop", NULL, 0, 0 },
	{ "dmg", NULL, 0, 0 },
	{ "vvfat", NULL, 0, 0 },
};

#define FORMAT_COUNT (sizeof(formats) / sizeof(formats[0]))

static int no_such_format(const char *format, struct nr_error *error)
{
	for (size_t i = 0; i < FORMAT_COUNT; i++)
		if (strcmp(formats[i].name, format) == 0)
			return nr_error_set(error, -ENOTSUP,
					    "the format '%s' cannot be served, only 'raw'; convert "
					    "the image (qemu-img convert -O raw), or serve it with "
					    "QEMU's own qemu-nbd",
					    format);
	return nr_error_set(error, -EINVAL, "Unknown driver '%s'", format);
}

static int take_path(struct nr_qemu_image *image, const char *path, struct nr_error *error)
{
	free(image->path);
	image->path = strdup(path);
	return image->path ? 0 : nr_error_system(error, -ENOMEM, "%s", path);
}

/* Does NAME begin with a protocol, as qemu sees it? */
static bool has_protocol(const char *name)
{
	size_t length = strcspn(name, ":/");

	return name[length] == ':' && length > 0;
}

/* A name as a person writes it. */
static int take_name(struct nr_qemu_image *image, const char *name, struct nr_error *error)
{
	static const char *const uris[] = { "nbd://",       "nbds://",      "nbd+unix://",
					    "nbds+unix://", "nbd+vsock://", "nbds+vsock://" };
	static const char *const files[] = { "file:", "host_device:" };

	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		if (strncmp(name, uris[i], strlen(uris[i])) != 0)
			continue;
		image->is_uri = true;
		return take_path(image, name, error);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (strncmp(name, files[i], strlen(files[i])) == 0)
			return take_path(image, name + strlen(files[i]), error);
	if (has_protocol(name))
		return nr_error_set(error, -ENOTSUP, "Unknown protocol '%.*s'",
				    (int)strcspn(name, ":"), name);
	return take_path(image, name, error);
}

/* Settings of a node. */

struct node {
	struct nr_qemu_settings *settings;
	char prefix[128]; /* with a dot at its end, if it has any */
	struct nr_error *error;
};

static const char *value_of(struct node *node, const char *name)
{
	struct nr_qemu_setting *one = nr_qemu_find(node->settings, node->prefix, name);

	return one ? one->value : NULL;
}

static int take_size(struct node *node, const char *name, uint64_t *size)
{
	const char *value = value_of(node, name);

	if (value && nr_parse_size(value, size))
		return nr_error_set(node->error, -EINVAL, "Parameter '%s' expects a size, not '%s'",
				    name, value);
	return 0;
}

static int take_switch(struct node *node, const char *name, int *on)
{
	const char *value = value_of(node, name);

	if (!value)
		return 0;
	*on = strcmp(value, "on") == 0 || strcmp(value, "true") == 0;
	if (*on || strcmp(value, "off") == 0 || strcmp(value, "false") == 0)
		return 0;
	return nr_error_set(node->error, -EINVAL, "Parameter '%s' expects 'on' or 'off', not '%s'",
			    name, value);
}

static int take_text(struct node *node, const char *name, char **text)
{
	const char *value = value_of(node, name);

	if (!value)
		return 0;
	free(*text);
	*text = strdup(value);
	return *text ? 0 : nr_error_system(node->error, -ENOMEM, "%s", name);
}

/* The outermost word counts. */
static int take_locking(struct nr_qemu_image *image, struct node *node)
{
	const char *value = value_of(node, "locking");

	if (!value || strcmp(value, "on") == 0 || strcmp(value, "auto") == 0)
		return 0;
	if (strcmp(value, "off") != 0)
		return nr_error_set(node->error, -EINVAL,
				    "Parameter 'locking' does not accept value '%s'", value);
	image->unlocked = true;
	return 0;
}

/* What any node may say.  The outermost is asked first, and what it says stays. */
static int take_common(struct nr_qemu_image *image, struct node *node)
{
	/* Names among nodes, and what locks and opening are to be like: nothing here. */
	static const char *const idle[] = { "node-name",       "backing",
					    "auto-read-only",  "force-share",
					    "cache.writeback", "x-check-cache-dropped",
					    "drop-cache",      "aio-max-batch" };
	int read_only = image->read_only, err;

	for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++)
		(void)value_of(node, idle[i]);
	err = take_locking(image, node);
	if (!err)
		err = take_switch(node, "read-only", &read_only);
	image->read_only = image->read_only || read_only;
	if (!err)
		err = take_switch(node, "cache.direct", &image->direct);
	if (!err)
		err = take_switch(node, "cache.no-flush", &image->no_flush);
	if (!err)
		err = take_text(node, "aio", &image->aio);
	if (!err)
		err = take_text(node, "discard", &image->discard);
	if (!err)
		err = take_text(node, "detect-zeroes", &image->detect_zeroes);
	return err;
}

/*
 * A stretch of the node below.  What those above have cut out of this one lies in it:
 * image->offset is counted from its start so far, and then from that of the node below.
 */
static int cut(struct nr_qemu_image *image, struct node *node)
{
	uint64_t offset = 0, length = 0;
	int err = take_size(node, "offset", &offset);

	if (!err)
		err = take_size(node, "size", &length);
	if (err)
		return err;
	if (length % SECTOR)
		return nr_error_set(node->error, -EINVAL, "Specified size is not multiple of %u",
				    SECTOR);
	if (length && (image->offset >= length || image->length > length - image->offset))
		return nr_error_set(node->error, -EINVAL,
				    "what is cut out of an image must lie in it, which has a size "
				    "of %s",
				    value_of(node, "size"));
	if (length && !image->length)
		image->length = length - image->offset;
	if (!nr_add(image->offset, offset, &image->offset))
		return nr_error_set(node->error, -EINVAL, "offset %s is too large",
				    value_of(node, "offset"));
	return 0;
}

static bool is_file_driver(const char *driver)
{
	return strcmp(driver, "file") == 0 || strcmp(driver, "host_device") == 0;
}

static int take_file(struct nr_qemu_image *image, struct node *node)
{
	const char *name = value_of(node, "filename");

	if (!name)
		return nr_error_set(node->error, -EINVAL, "A file needs a name: %sfilename=NAME",
				    node->prefix);
	return take_path(image, name, node->error);
}

/* Is there a node below? */
static bool has_file(const struct node *node)
{
	char prefix[sizeof(node->prefix) + sizeof("file.")];

	snprintf(prefix, sizeof(prefix), "%sfile.", node->prefix);
	return nr_qemu_has(node->settings, prefix);
}

static int no_depth(const struct node *node)
{
	return nr_error_set(node->error, -EINVAL, "images in images more than %d deep",
			    NR_QEMU_DEPTH_MAX);
}

/* The node at PREFIX, and those below it.  FORMAT: what it is if it does not say. */
static int take_node(struct nr_qemu_image *image, struct node *node, const char *format)
{
	for (unsigned depth = 0; depth < NR_QEMU_DEPTH_MAX; depth++) {
		const char *driver = value_of(node, "driver");
		size_t used = strlen(node->prefix);
		int err = take_common(image, node);

		if (err || used + sizeof("file.") > sizeof(node->prefix))
			return err ? err : no_depth(node);
		driver = driver ? driver : format;
		format = NULL;
		/* Not said what the outermost is: guess.  What is below that is a file. */
		if (depth == 0)
			image->guessed = !driver;
		if (!driver)
			driver = has_file(node) ? "raw" : "file";
		if (is_file_driver(driver))
			return take_file(image, node);
		if (strcmp(driver, "raw") != 0)
			return no_such_format(driver, node->error);
		err = cut(image, node);
		if (err)
			return err;
		memcpy(node->prefix + used, "file.", sizeof("file."));
	}
	return no_depth(node);
}

static int take_settings(struct nr_qemu_image *image, struct nr_qemu_settings *settings,
			 const char *format, struct nr_error *error)
{
	struct node node = { .settings = settings, .error = error };
	const struct nr_qemu_setting *unused;
	int err = take_node(image, &node, format);

	if (err)
		return err;
	unused = nr_qemu_unused(settings);
	if (unused)
		return nr_error_set(error, -EINVAL, "there is no option '%s' for a raw image",
				    unused->name);
	return 0;
}

int nr_qemu_image_read(struct nr_qemu_image *image, const char *name, const char *format,
		       bool as_options, struct nr_error *error)
{
	static const char json[] = "json:";
	struct nr_qemu_settings settings = { .count = 0 };
	bool is_json = !as_options && strncmp(name, json, strlen(json)) == 0;
	int err = 0;

	*image = (struct nr_qemu_image){ .direct = -1, .no_flush = -1 };
	if (is_json)
		err = nr_qemu_read_json(&settings, name + strlen(json), error);
	else if (as_options)
		err = nr_qemu_read_options(&settings, name, NULL, error);
	if (!err && (is_json || as_options)) {
		err = take_settings(image, &settings, format, error);
	} else if (!err) {
		image->guessed = !format;
		if (format && strcmp(format, "raw") != 0 && !is_file_driver(format))
			err = no_such_format(format, error);
		else
			err = take_name(image, name, error);
	}
	nr_qemu_settings_free(&settings);
	return err;
}

static int look_for_format(int fd, struct nr_error *error)
{
	char head[128] = "";
	ssize_t got = pread(fd, head, sizeof(head), 0);

	if (got < 0)
		return nr_error_system(error, -errno, "Could not read the image");
	for (size_t i = 0; i < FORMAT_COUNT; i++)
		if (formats[i].magic &&
		    memcmp(head + formats[i].offset, formats[i].magic, formats[i].length) == 0)
			return no_such_format(formats[i].name, error);
	return 0;
}

static int look_at(struct nr_qemu_image *image, int fd, struct nr_error *error)
{
	struct stat st;
	off_t end;

	if (fstat(fd, &st) < 0)
		return nr_error_system(error, -errno, "Could not open '%s'", image->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return nr_error_set(error, -EINVAL,
				    "'%s' is neither a regular file nor a block device",
				    image->path);
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return nr_error_system(error, -errno, "Could not open '%s'", image->path);
	image->size = (uint64_t)end;
	if (image->offset > image->size)
		return nr_error_set(error, -EINVAL,
				    "Offset (%llu) cannot be greater than size of the containing "
				    "file (%llu)",
				    (unsigned long long)image->offset,
				    (unsigned long long)image->size);
	if (image->length > image->size - image->offset)
		return nr_error_set(error, -EINVAL,
				    "The sum of offset (%llu) and size (%llu) has to be smaller or "
				    "equal to the actual size of the containing file (%llu)",
				    (unsigned long long)image->offset,
				    (unsigned long long)image->length,
				    (unsigned long long)image->size);
	return image->guessed ? look_for_format(fd, error) : 0;
}

int nr_qemu_image_look(struct nr_qemu_image *image, struct nr_error *error)
{
	int fd, err;

	if (image->is_uri)
		return 0;
	/* Never waits for the other end of a pipe. */
	fd = open(image->path,
		  (image->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return nr_error_system(error, -errno, "Could not open '%s'", image->path);
	err = look_at(image, fd, error);
	if (!err && !image->unlocked)
		err = nr_qemu_lock(fd, !image->read_only, image->path, error);
	/* Never one of the standard ones, which may have been closed. */
	if (!err && !image->unlocked)
		image->lock = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close(fd);
	return err;
}

void nr_qemu_image_free(struct nr_qemu_image *image)
{
	if (image->lock > 0)
		close(image->lock);
	free(image->path);
	free(image->discard);
	free(image->detect_zeroes);
	free(image->aio);
	*image = (struct nr_qemu_image){ .path = NULL };
}
