/* SPDX-License-Identifier: BSD-3-Clause */
/* See luks-container.h. */
#include "luks-container.h"

#include <fcntl.h>
#include <libcryptsetup.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_MAX (UINT64_C(32) << 20)

#define MUST(condition)                                                                           \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                                 \
	} while (0)

static void be_quiet(int level, const char *message, void *context)
{
	/* That there is room for few slots only. */
}

static void format(struct crypt_device *device, const struct luks_container *c)
{
	const struct crypt_pbkdf_type kdf = {
		.type = c->kdf,
		.hash = "sha256",
		.iterations = strcmp(c->kdf, "pbkdf2") == 0 ? 1000 : 4,
		.max_memory_kb = strcmp(c->kdf, "pbkdf2") == 0 ? 0 : 64,
		.parallel_threads = strcmp(c->kdf, "pbkdf2") == 0 ? 0 : 1,
		.flags = CRYPT_PBKDF_NO_BENCHMARK,
	};
	struct crypt_params_luks1 one = { .hash = "sha256" };
	struct crypt_params_luks2 two = { .pbkdf = &kdf, .sector_size = c->sector };

	if (c->version == 1) {
		MUST(crypt_set_pbkdf_type(device, &kdf) == 0);
		MUST(crypt_format(device, CRYPT_LUKS1, "aes", c->mode, NULL, NULL, c->key_bytes,
				  &one) == 0);
	} else {
		/* Little to be wiped. */
		MUST(crypt_set_metadata_size(device, 16384, 524288) == 0);
		MUST(crypt_format(device, CRYPT_LUKS2, "aes", c->mode, NULL, NULL, c->key_bytes,
				  &two) == 0);
	}
	MUST(crypt_keyslot_add_by_volume_key(device, 0, NULL, 0, LUKS_PASSPHRASE,
					     strlen(LUKS_PASSPHRASE)) == 0);
}

uint64_t luks_container_make(const char *path, const struct luks_container *c)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct crypt_device *device;
	uint64_t payload;

	MUST(fd >= 0);
	MUST(ftruncate(fd, (off_t)(HEADER_MAX + c->data_bytes)) == 0);
	(void)crypt_metadata_locking(NULL, 0);
	MUST(crypt_init(&device, path) == 0);
	crypt_set_log_callback(device, be_quiet, NULL);
	format(device, c);
	payload = crypt_get_data_offset(device) * 512;
	crypt_free(device);
	MUST(payload <= HEADER_MAX);
	MUST(ftruncate(fd, (off_t)(payload + c->data_bytes)) == 0);
	close(fd);
	return payload;
}
