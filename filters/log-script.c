/* SPDX-License-Identifier: BSD-3-Clause */
/* See log-script.h. */
#include "filters/log-script.h"

#include <poll.h>
#include <string.h>

#include "filters/operations.h"
#include "filters/script.h"

#define LOOK_MS 50
#define VARIABLES_MAX 32u /* of a line; the longest has 18 */

static size_t split(char *words, const char *variables[VARIABLES_MAX])
{
	size_t count = 0;
	char *rest;

	for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		if (strchr(word, '=') && count < VARIABLES_MAX - 3)
			variables[count++] = word;
	return count;
}

/* Is the last moment over? */
static bool too_late(struct nr_log_script *script)
{
	uint64_t now;

	if (!atomic_load(script->closing))
		return false;
	now = nr_precise_now();
	if (!script->until)
		script->until = now + LOG_SCRIPT_END_NS;
	return now >= script->until;
}

bool nr_log_script_run(struct nr_log_script *script, char *words, const char *const further[2])
{
	const char *variables[VARIABLES_MAX];
	size_t count = split(words, variables);
	struct nr_script run;
	struct pollfd ended;
	bool failed;

	if (too_late(script)) {
		script->untold++;
		return true;
	}
	for (unsigned i = 0; further && i < 2 && further[i]; i++)
		variables[count++] = further[i];
	variables[count] = NULL;
	if (nr_script_start(&run, script->command, variables, -1)) {
		failed = script->failing;
		script->failing = true;
		script->untold++;
		return failed;
	}
	script->failing = false;
	ended = (struct pollfd){ .fd = run.ended, .events = POLLIN };
	while (poll(&ended, 1, LOOK_MS) <= 0) {
		if (too_late(script)) {
			nr_script_kill(&run);
			return true;
		}
	}
	(void)nr_script_wait(&run); /* what it thinks of it makes no difference */
	return true;
}
