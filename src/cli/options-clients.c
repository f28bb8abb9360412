/* SPDX-License-Identifier: BSD-3-Clause */
/* Values of the options about clients: how many, and for how long. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "src/cli/options-take.h"
#include "src/stack/params.h"

#define CONNECTIONS_MAX INT32_MAX
#define KEEPALIVE_SECONDS_MAX 32767 /* the kernel's */
#define KEEPALIVE_COUNT_MAX 127

/* N, or N,wait. */
int nr_take_connections(struct nr_options *options, const char *value, struct nr_error *error)
{
	size_t length = strcspn(value, ",");
	char number[32] = "";

	if (length < sizeof(number))
		memcpy(number, value, length);
	options->max_connections_wait = strcmp(value + length, ",wait") == 0;
	if (value[length] && !options->max_connections_wait)
		return nr_error_set(error, -EINVAL,
				    "--max-connections=%s is not possible: write a number, or a "
				    "number and ,wait",
				    value);
	return nr_take_number("--max-connections", number, CONNECTIONS_MAX,
			      &options->max_connections, error);
}

int nr_take_per_export(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--max-connections-per-export", value, CONNECTIONS_MAX,
			      &options->max_per_export, error);
}

int nr_take_per_peer(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--max-connections-per-peer", value, CONNECTIONS_MAX,
			      &options->max_per_peer, error);
}

int nr_take_handshakes(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--max-handshakes", value, CONNECTIONS_MAX, &options->max_handshakes,
			      error);
}

int nr_take_handshake_timeout(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--handshake-timeout", value, INT32_MAX, &options->handshake_seconds,
			      error);
}

int nr_take_idle(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--exit-idle", value, INT32_MAX, &options->exit_idle, error);
}

int nr_take_keepalive(struct nr_options *options, const char *value, struct nr_error *error)
{
	static const uint64_t most[3] = { KEEPALIVE_SECONDS_MAX, KEEPALIVE_SECONDS_MAX,
					  KEEPALIVE_COUNT_MAX };
	const char *at = value;

	for (unsigned i = 0; i < 3; i++) {
		size_t length = strcspn(at, ",");
		char text[32];
		uint64_t number;

		if (length >= sizeof(text) || (at[length] == ',') != (i < 2))
			break;
		memcpy(text, at, length);
		text[length] = '\0';
		if (nr_parse_uint(text, &number) || number == 0 || number > most[i])
			break;
		options->keepalive[i] = (unsigned)number;
		if (i == 2)
			return 0;
		at += length + 1;
	}
	return nr_error_set(error, -EINVAL,
			    "--keepalive=%s is not possible: write the seconds before the first "
			    "probe, those between two (up to %d) and how many (up to %d), as in "
			    "--keepalive=60,10,6",
			    value, KEEPALIVE_SECONDS_MAX, KEEPALIVE_COUNT_MAX);
}

int nr_take_number(const char *option, const char *value, uint64_t max, unsigned *field,
		   struct nr_error *error)
{
	uint64_t number;

	if (nr_parse_uint(value, &number) || number > max)
		return nr_error_set(error, -EINVAL,
				    "%s=%s is not possible: write a number from 0 to %" PRIu64,
				    option, value, max);
	*field = (unsigned)number;
	return 0;
}
