/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every layer's description is checked here before anything relies on it, so
 * the rest of the server need not ask whether a block size is a power of two.
 */
#include "src/stack/traits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nbdring/checked.h"
#include "nbdring/layer.h"

static const char *const capability_names[NR_CAP_COUNT] = {
	[NR_CAP_FLUSH] = "flush",         [NR_CAP_FUA] = "fua",
	[NR_CAP_TRIM] = "trim",           [NR_CAP_ZERO] = "zero",
	[NR_CAP_FAST_ZERO] = "fast zero", [NR_CAP_CACHE] = "cache",
	[NR_CAP_EXTENTS] = "extents",     [NR_CAP_RESIZE] = "resize",
};

const char *nr_capability_name(enum nr_capability capability)
{
	return capability_names[capability];
}

void nr_traits_init(struct nr_traits *traits)
{
	memset(traits, 0, sizeof(*traits));
	traits->block_min = 1;
	traits->block_preferred = NR_BLOCK_PREFERRED_DEFAULT;
	traits->block_max = NR_TRANSFER_MAX;
	traits->memory_align = 1;
}

static int check_blocks(const struct nr_traits *t, struct nr_error *error)
{
	if (!nr_is_power_of_2(t->block_min) || t->block_min > NR_BLOCK_MIN_MAX)
		return nr_error_set(error, -EINVAL,
				    "the minimum block size %u is not a power of two up to %u",
				    t->block_min, NR_BLOCK_MIN_MAX);
	if (!nr_is_power_of_2(t->block_preferred) || t->block_preferred < t->block_min ||
	    t->block_preferred < 512)
		return nr_error_set(error, -EINVAL,
				    "the preferred block size %u is not a power of two from %u",
				    t->block_preferred, t->block_min < 512 ? 512 : t->block_min);
	if (t->block_max == 0 || t->block_max > NR_TRANSFER_MAX || t->block_max % t->block_min != 0)
		return nr_error_set(error, -EINVAL,
				    "the maximum block size %u is not a multiple of %u up to %u",
				    t->block_max, t->block_min, NR_TRANSFER_MAX);
	if (t->write_piece && !nr_is_power_of_2(t->write_piece))
		return nr_error_set(error, -EINVAL, "the piece of a write %u is not a power of two",
				    t->write_piece);
	if (!nr_is_power_of_2(t->memory_align) || t->memory_align > 4096)
		return nr_error_set(error, -EINVAL,
				    "the memory alignment %u is not a power of two up to 4096",
				    t->memory_align);
	return 0;
}

static int check_context(const struct nr_traits *t, uint32_t index, struct nr_error *error)
{
	const char *name = t->contexts[index];
	const char *colon = strchr(name, ':');

	if (!colon || colon == name || strlen(name) > NR_NAME_MAX)
		return nr_error_set(error, -EINVAL,
				    "a metadata context is not called NAMESPACE:NAME, or in more "
				    "than %u bytes",
				    NR_NAME_MAX);
	for (uint32_t i = 0; i < index; i++)
		if (strcmp(t->contexts[i], name) == 0)
			return nr_error_set(error, -EINVAL, "two metadata contexts of one name");
	return 0;
}

static int check_contexts(const struct nr_traits *t, struct nr_error *error)
{
	int err = 0;

	if (t->context_count > NR_CONTEXTS_LISTED_MAX)
		return nr_error_set(error, -E2BIG, "%u metadata contexts are more than %u",
				    t->context_count, NR_CONTEXTS_LISTED_MAX);
	for (uint32_t i = 0; !err && i < t->context_count; i++)
		err = check_context(t, i, error);
	return err;
}

int nr_traits_check(const struct nr_traits *t, struct nr_error *error)
{
	int err;

	if (t->size > NR_SIZE_MAX)
		return nr_error_set(error, -EFBIG, "a size of %" PRIu64 " bytes is over 2^63-1",
				    t->size);
	for (unsigned i = 0; i < NR_CAP_COUNT; i++) {
		if (t->support[i] > NR_NATIVE)
			return nr_error_set(error, -EINVAL,
					    "support for %s is none of the three values",
					    capability_names[i]);
	}
	if (t->support[NR_CAP_FAST_ZERO] == NR_EMULATE || t->support[NR_CAP_RESIZE] == NR_EMULATE)
		return nr_error_set(error, -EINVAL, "fast zero and resize cannot be emulated");
	if (t->support[NR_CAP_FAST_ZERO] == NR_NATIVE && t->support[NR_CAP_ZERO] != NR_NATIVE)
		return nr_error_set(error, -EINVAL, "fast zero is offered without zero");
	err = check_contexts(t, error);
	return err ? err : check_blocks(t, error);
}

bool nr_traits_need_emulation(const struct nr_traits *t)
{
	return memchr(t->support, NR_EMULATE, sizeof(t->support)) != NULL;
}
