/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See sandbox.h.  Here it is decided what there is to be confined; how is in
 * sandbox-paths.c (Landlock) and sandbox-calls.c (seccomp).
 */
#include "src/cli/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "src/cli/modules.h"
#include "src/log/log.h"
#include "src/stack/params-path.h"
#include "src/stack/params-text.h"

#define NR_NEEDS_ALL (NR_NEEDS_FILES | NR_NEEDS_SOCKETS | NR_NEEDS_PROGRAMS | NR_NEEDS_READER)
#define DEPTH_MAX 8 /* of stacks within stacks */
#define REACH_SCRATCH (NR_REACH_READ | NR_REACH_WRITE | NR_REACH_MAKE | NR_REACH_REMOVE)

static int take_plan(struct nr_sandbox *sandbox, const struct nr_plan *plan, bool later,
		     unsigned depth, struct nr_error *error);

int nr_sandbox_add(struct nr_sandbox *sandbox, const char *path, unsigned how,
		   struct nr_error *error)
{
	struct nr_reach *grown;
	char *copy;

	if (!path || path[0] != '/')
		return 0;
	copy = strdup(path);
	grown = realloc(sandbox->reaches, (sandbox->reach_count + 1) * sizeof(*grown));
	if (grown)
		sandbox->reaches = grown;
	if (!copy || !grown) {
		free(copy);
		return nr_error_system(error, -ENOMEM, "the sandbox");
	}
	grown[sandbox->reach_count++] = (struct nr_reach){ .path = copy, .how = how };
	return 0;
}

static void take_needs(struct nr_sandbox *sandbox, const struct nr_layer_type *type, unsigned needs)
{
	needs &= NR_NEEDS_ALL;
	if (needs && !sandbox->needy)
		sandbox->needy = type->name;
	sandbox->needs |= needs;
}

/*
 * What the flags of a path's row come to.  AGAIN: whatever they are, it is opened again, or
 * only later, when it is there.
 */
static unsigned reach_of(const struct nr_param *row, bool read_only, bool again)
{
	unsigned how = NR_REACH_READ;

	if (row->flags & NR_PARAM_WRITTEN && (row->flags & NR_PARAM_MADE || !read_only))
		how |= NR_REACH_WRITE;
	if (row->flags & NR_PARAM_MADE)
		how |= NR_REACH_MAKE | NR_REACH_REMOVE | NR_REACH_SOCKET | NR_REACH_FOLDER;
	if (row->flags & NR_PARAM_AGAIN || again)
		how |= NR_REACH_FOLDER;
	return how;
}

static int take_path(struct nr_sandbox *sandbox, const struct nr_param *row, const char *value,
		     bool read_only, bool again, struct nr_error *error)
{
	char *path = nr_absolute_path(value);
	int err;

	if (!path)
		return nr_error_system(error, -errno, "the sandbox: %s", value);
	err = nr_sandbox_add(sandbox, path, reach_of(row, read_only, again), error);
	free(path);
	return err;
}

static int take_descriptor(struct nr_sandbox *sandbox, const struct nr_param *row,
			   const char *value, bool read_only, struct nr_error *error)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%.20s", value);
	return nr_sandbox_add(sandbox, path, reach_of(row, read_only, false), error);
}

/* LATER: the stack may be opened when the sandbox is there. */
static int take_words(struct nr_sandbox *sandbox, const struct nr_plan *outer, const char *words,
		      bool later, unsigned depth, struct nr_error *error)
{
	const struct nr_surroundings *surroundings = outer->surroundings;
	struct nr_plan plan = { .surroundings = surroundings, .read_only = outer->read_only };
	struct nr_plan_memory *memory = NULL;
	/* What is wrong with it is said when it is opened. */
	struct nr_error ignored = { .code = 0 };
	int err = 0;

	if (!surroundings || !surroundings->parse || depth >= DEPTH_MAX)
		return 0;
	if (surroundings->parse(words, &plan, &memory, &ignored) == 0)
		err = take_plan(sandbox, &plan, later, depth + 1, error);
	surroundings->forget(memory);
	return err;
}

static int take_setting(struct nr_sandbox *sandbox, const struct nr_plan *plan,
			const struct nr_layer_type *type, const struct nr_setting *setting,
			bool later, unsigned depth, struct nr_error *error)
{
	const struct nr_param *row = nr_params_find(type->params, setting->name);
	bool again = type->reopens && nr_plan_reopens(plan);

	if (!row)
		return 0;
	if (row->flags & NR_PARAM_COMMAND ||
	    (row->flags & NR_PARAM_SCRIPT && strncmp(setting->value, "script:", 7) == 0))
		take_needs(sandbox, type, NR_NEEDS_PROGRAMS);
	if (row->type == NR_PARAM_PATH || row->type == NR_PARAM_PATHS)
		return take_path(sandbox, row, setting->value, plan->read_only,
				 again || (later && access(setting->value, F_OK) != 0), error);
	/* That of a stack within a stack is read when that is opened. */
	if (depth && row->flags & NR_PARAM_SECRET && setting->value[0] == '+')
		return nr_sandbox_add(sandbox, setting->value + 1, NR_REACH_READ | NR_REACH_FOLDER,
				      error);
	if (row->flags & NR_PARAM_DESCRIPTOR)
		return take_descriptor(sandbox, row, setting->value, plan->read_only, error);
	if (row->flags & NR_PARAM_STACK)
		return take_words(sandbox, plan, setting->value,
				  later || row->flags & NR_PARAM_AGAIN, depth, error);
	return 0;
}

static int take_plan(struct nr_sandbox *sandbox, const struct nr_plan *plan, bool later,
		     unsigned depth, struct nr_error *error)
{
	int err = 0;

	for (size_t i = 0; !err && i < plan->layer_count; i++) {
		const struct nr_plan_layer *layer = &plan->layers[i];

		take_needs(sandbox, layer->type,
			   !layer->type->needs && nr_module_has(layer->type) ? NR_NEEDS_ALL
									     : layer->type->needs);
		if (layer->type->needs & NR_NEEDS_SCRATCH)
			err = nr_sandbox_add(sandbox, nr_scratch_folder(), REACH_SCRATCH, error);
		for (size_t j = 0; !err && j < layer->setting_count; j++)
			err = take_setting(sandbox, plan, layer->type, &layer->settings[j], later,
					   depth, error);
	}
	return err;
}

int nr_sandbox_init(struct nr_sandbox *sandbox, enum nr_sandbox_mode mode,
		    const struct nr_plan *plan, struct nr_error *error)
{
	*sandbox = (struct nr_sandbox){ .mode = mode };
	return take_plan(sandbox, plan, false, 0, error);
}

void nr_sandbox_free(struct nr_sandbox *sandbox)
{
	for (size_t i = 0; i < sandbox->reach_count; i++)
		free(sandbox->reaches[i].path);
	free(sandbox->reaches);
	sandbox->reaches = NULL;
	sandbox->reach_count = 0;
}

/* All or nothing was asked for, and it is not all. */
static int check_demand(const struct nr_sandbox *sandbox, int abi, struct nr_error *error)
{
	if (sandbox->mode != NR_SANDBOX_ON)
		return 0;
	if (sandbox->needs & NR_NEEDS_PROGRAMS)
		return nr_error_set(error, -EINVAL,
				    "--sandbox=on is not possible: %s runs programs, which would "
				    "be in the sandbox as well; leave it out, or write "
				    "--sandbox=auto",
				    sandbox->needy);
	if (!abi)
		return nr_error_set(error, -ENOSYS,
				    "--sandbox=on is not possible: this kernel has no Landlock, or "
				    "it is not switched on (the boot option lsm=landlock,…); write "
				    "--sandbox=auto for what there is");
	if (!nr_sandbox_has_seccomp())
		return nr_error_set(error, -ENOSYS,
				    "--sandbox=on is not possible: this server was built without "
				    "libseccomp; write --sandbox=auto for what there is");
	return 0;
}

/* What the kernel refuses is done without, unless it was demanded; not in silence. */
static int bear(const struct nr_sandbox *sandbox, int err, struct nr_error *error)
{
	if (!err || sandbox->mode == NR_SANDBOX_ON)
		return err;
	nr_log(NR_LOG_WARNING, NR_LOG_SERVER, "%s", error->text);
	*error = (struct nr_error){ .code = 0 };
	return 0;
}

static bool is_exempt(const struct nr_sandbox *sandbox)
{
	return sandbox->mode == NR_SANDBOX_OFF || sandbox->needs & NR_NEEDS_PROGRAMS;
}

int nr_sandbox_enter(struct nr_sandbox *sandbox, struct nr_error *error)
{
	int abi = nr_sandbox_landlock_abi();
	int err = check_demand(sandbox, abi, error);

	if (err || is_exempt(sandbox))
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return nr_error_system(error, -errno, "the sandbox: no_new_privs");
	if (!abi)
		return 0;
	err = nr_sandbox_restrict_paths(sandbox, abi, error);
	if (!err)
		sandbox->landlock = abi;
	return bear(sandbox, err, error);
}

static void report(const struct nr_sandbox *sandbox)
{
	if (sandbox->mode != NR_SANDBOX_OFF && sandbox->needs & NR_NEEDS_PROGRAMS)
		nr_log(NR_LOG_DEBUG, NR_LOG_SERVER,
		       "no sandbox: %s may run programs, which would be in it", sandbox->needy);
	else
		nr_log(NR_LOG_DEBUG, NR_LOG_SERVER, "sandbox: seccomp %s, landlock %d%s%s",
		       sandbox->seccomp ? "on" : "off", sandbox->landlock,
		       sandbox->needs & NR_NEEDS_FILES ? ", any file" : "",
		       sandbox->needs & NR_NEEDS_SOCKETS ? ", any socket" : "");
}

int nr_sandbox_seal(struct nr_sandbox *sandbox, struct nr_error *error)
{
	int err = 0;

	if (!is_exempt(sandbox) && nr_sandbox_has_seccomp()) {
		err = nr_sandbox_restrict_calls(sandbox, error);
		sandbox->seccomp = !err;
		err = bear(sandbox, err, error);
	}
	if (!err)
		report(sandbox);
	return err;
}
