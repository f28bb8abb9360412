/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files of credentials: read whole, wiped when done with, and taken apart with a
 * sentence for whatever is wrong in them.  Keys never get into a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/tls/internal.h"

#define FILE_MAX (4u * 1024 * 1024) /* a list of all the CAs there are is far below */

void nr_tls_file_free(uint8_t *memory, size_t size)
{
	if (memory)
		gnutls_memset(memory, 0, size);
	free(memory);
}

int nr_tls_file_read(const char *path, uint8_t **out, size_t *size, struct nr_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	uint8_t *memory = NULL;
	size_t used = 0, room = 0;
	ssize_t part;

	if (fd < 0)
		return nr_error_system(error, -errno, "%s", path);
	do {
		if (room - used < 2) {
			uint8_t *more;

			room = room ? 2 * room : 16384;
			more = room <= 2 * FILE_MAX ? malloc(room) : NULL;
			if (!more) {
				part = -1;
				errno = room <= 2 * FILE_MAX ? ENOMEM : EFBIG;
				break;
			}
			/* Not realloc, which would leave secrets behind. */
			if (used)
				memcpy(more, memory, used);
			nr_tls_file_free(memory, used);
			memory = more;
		}
		part = read(fd, memory + used, room - used - 1);
		used += part > 0 ? (size_t)part : 0;
	} while (part > 0 || (part < 0 && errno == EINTR));
	if (part < 0) {
		int code = -errno;

		nr_tls_file_free(memory, used);
		close(fd);
		return nr_error_system(error, code, "%s", path);
	}
	close(fd);
	memory[used] = '\0';
	*out = memory;
	if (size)
		*size = used;
	return 0;
}

void nr_tls_file_check_secret(struct nr_tls_credentials *credentials, const char *path)
{
	struct stat status;

	if (stat(path, &status) == 0 && (status.st_mode & S_IROTH))
		snprintf(credentials->warning, sizeof(credentials->warning),
			 "%.200s can be read by everybody: take that right away", path);
}

/* Pre-shared keys. */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct nr_tls_psk *)a)->name, ((const struct nr_tls_psk *)b)->name);
}

const struct nr_tls_psk *nr_tls_psk_find(const struct nr_tls_credentials *credentials,
					 const void *name, size_t length)
{
	struct nr_tls_psk wanted = { .key_bytes = 0 };

	if (length == 0 || length > NR_TLS_PSK_NAME_MAX || memchr(name, '\0', length))
		return NULL;
	memcpy(wanted.name, name, length);
	wanted.name[length] = '\0';
	return bsearch(&wanted, credentials->psk, credentials->psk_count, sizeof(wanted), by_name);
}

/* "NAME:HEX" without its newline, NUL-terminated.  NULL, or what is wrong with it. */
static const char *parse_line(struct nr_tls_psk *psk, const char *line)
{
	const char *colon = strrchr(line, ':');
	gnutls_datum_t hex;
	size_t bytes = sizeof(psk->key);

	if (!colon)
		return "has no colon: it has to be NAME:HEX, as psktool writes it";
	if (colon == line || colon - line > NR_TLS_PSK_NAME_MAX)
		return "has a name that is empty or longer than 128 bytes";
	if (nr_tls_clean(NULL, (const uint8_t *)line, (size_t)(colon - line), false) !=
	    (size_t)(colon - line) + 1)
		return "has a name with control characters in it, or that is not UTF-8";
	hex = (gnutls_datum_t){ (unsigned char *)(uintptr_t)(colon + 1),
				(unsigned)strlen(colon + 1) };
	if (gnutls_hex_decode(&hex, psk->key, &bytes) < 0 || bytes == 0)
		return "has a key that is not hexadecimal, or longer than 64 bytes";
	psk->key_bytes = (unsigned)bytes;
	memcpy(psk->name, line, (size_t)(colon - line));
	psk->name[colon - line] = '\0';
	return NULL;
}

static int parse_lines(struct nr_tls_credentials *c, char *text, const char *path,
		       struct nr_error *error)
{
	unsigned number = 0;

	for (char *next; text; text = next) {
		const char *wrong;

		next = strchr(text, '\n');
		if (next)
			*next++ = '\0';
		number++;
		text[strcspn(text, "\r")] = '\0';
		if (text[0] == '\0' || text[0] == '#')
			continue;
		wrong = parse_line(&c->psk[c->psk_count], text);
		if (wrong)
			return nr_error_set(error, -EINVAL, "%s: line %u %s", path, number, wrong);
		c->psk_count++;
	}
	qsort(c->psk, c->psk_count, sizeof(c->psk[0]), by_name);
	for (size_t i = 1; i < c->psk_count; i++)
		if (strcmp(c->psk[i - 1].name, c->psk[i].name) == 0)
			return nr_error_set(error, -EINVAL, "%s: there are two keys for '%s'", path,
					    c->psk[i].name);
	if (!c->psk_count)
		return nr_error_set(error, -EINVAL, "%s: there is no key in it", path);
	return 0;
}

int nr_tls_psk_read(struct nr_tls_credentials *c, const char *path, struct nr_error *error)
{
	size_t size, lines = 1;
	uint8_t *text;
	int err = nr_tls_file_read(path, &text, &size, error);

	if (err)
		return err;
	nr_tls_file_check_secret(c, path);
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	if (memchr(text, '\0', size))
		err = nr_error_set(error, -EINVAL, "%s: this is no file of keys", path);
	else if (!(c->psk = calloc(lines, sizeof(*c->psk))))
		err = nr_error_system(error, -ENOMEM, "%s", path);
	else
		err = parse_lines(c, (char *)text, path, error);
	nr_tls_file_free(text, size);
	return err;
}
