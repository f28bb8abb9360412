/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See output.h.
 *
 * A stack is opened once per export, some of them long after the start, and all of
 * them may name one log file.  It must be emptied by the first of them only, so
 * the process remembers which files it has begun.  They are known by device and
 * inode; regular files only, since nothing else can be emptied.  The list has one
 * entry per file that was ever named and not given `append`.
 */
#include "filters/output.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct begun {
	struct begun *next;
	dev_t device;
	ino_t inode;
};

static pthread_mutex_t begun_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct begun *begun_files; /* guarded by begun_mutex; never shrinks */

/* Empty the file the first time it is seen.  Under the mutex. */
static int begin_file(int fd, const struct stat *st)
{
	struct begun *file;

	for (file = begun_files; file; file = file->next)
		if (file->device == st->st_dev && file->inode == st->st_ino)
			return 0;
	file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	if (ftruncate(fd, 0)) {
		int err = -errno;

		free(file);
		return err;
	}
	*file = (struct begun){ begun_files, st->st_dev, st->st_ino };
	begun_files = file;
	return 0;
}

int nr_output_open(const char *path, bool append, struct nr_error *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
	struct stat st;
	int err = 0;

	if (fd < 0)
		return nr_error_system(error, -errno, "%s", path);
	if (fstat(fd, &st)) {
		err = -errno;
	} else if (!append && S_ISREG(st.st_mode)) {
		pthread_mutex_lock(&begun_mutex);
		err = begin_file(fd, &st);
		pthread_mutex_unlock(&begun_mutex);
	}
	if (err) {
		close(fd);
		return nr_error_system(error, err, "%s", path);
	}
	return fd;
}

int nr_output_write(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

/* Text. */

static bool make_room(struct nr_text *text, size_t more)
{
	size_t room = text->room ? text->room : 4096;
	char *data;

	if (text->failed)
		return false;
	while (room - text->used < more)
		room *= 2;
	if (room == text->room)
		return true;
	data = realloc(text->data, room);
	if (!data) {
		text->failed = true;
		return false;
	}
	text->data = data;
	text->room = room;
	return true;
}

void nr_text_add(struct nr_text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0 || !make_room(text, (size_t)length + 1))
		return;
	va_start(arguments, format);
	vsnprintf(text->data + text->used, (size_t)length + 1, format, arguments);
	va_end(arguments);
	text->used += (size_t)length;
}

static bool is_continuation(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* Bytes of the character at S if it is well-formed UTF-8 and not ASCII, else 0. */
static unsigned utf8_length(const unsigned char *s)
{
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		return is_continuation(s[1]) ? 2 : 0;
	if (s[0] >= 0xe0 && s[0] <= 0xef) {
		if (!is_continuation(s[1]) || !is_continuation(s[2]))
			return 0;
		/* Neither a longer form than needed nor half of a pair. */
		if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
			return 0;
		return 3;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		if (!is_continuation(s[1]) || !is_continuation(s[2]) || !is_continuation(s[3]))
			return 0;
		if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

/*
 * In quotes.  What cannot be printed is ESCAPE and two digits: for a byte, or, if
 * LATIN1, for a character, of which the lowest 256 are those of Latin-1.
 */
static void add_string(struct nr_text *text, const char *string, const char *escape, bool latin1)
{
	const unsigned char *s = (const unsigned char *)string;

	nr_text_add(text, "\"");
	while (*s) {
		unsigned length = utf8_length(s);

		/* C2 80 to C2 9F are control characters, too: 80 to 9F. */
		if (length == 2 && s[0] == 0xc2 && s[1] < 0xa0) {
			length = 0;
			s += latin1;
		}
		if (length == 0 && *s >= 0x20 && *s < 0x7f) {
			nr_text_add(text, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
			s++;
		} else if (length == 0) {
			nr_text_add(text, "%s%02x", escape, *s);
			s++;
		} else {
			nr_text_add(text, "%.*s", (int)length, (const char *)s);
			s += length;
		}
	}
	nr_text_add(text, "\"");
}

void nr_text_add_quoted(struct nr_text *text, const char *string)
{
	add_string(text, string, "\\x", false);
}

void nr_text_add_json(struct nr_text *text, const char *string)
{
	add_string(text, string, "\\u00", true);
}

void nr_text_free(struct nr_text *text)
{
	free(text->data);
	*text = (struct nr_text){ 0 };
}
