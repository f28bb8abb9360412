/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `blocksize-policy`: which block sizes clients are told, and what
 * happens to those that do not keep to them.
 *
 * It only describes.  The minimum is a promise to whatever is below, which sees
 * nothing smaller: requests come by here so that the core holds them to it.  Whether a client that breaks it
 * is helped (the core aligns and cuts its requests) or refused is a trait that the
 * server goes by, since by the time requests get here they are legal.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

struct policy {
	uint64_t minimum, preferred, maximum; /* bytes; 0: not given */
	unsigned on_error;                    /* enum on_error */
};

enum on_error { ALLOW, ERROR };

static const char *const error_policies[] = { "allow", "error", NULL };

static const struct nr_param policy_params[] = {
	{ .name = "blocksize-minimum",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct policy, minimum),
	  .min = 1,
	  .max = NR_BLOCK_MIN_MAX,
	  .value = "SIZE",
	  .help = "Minimum block size that clients are told",
	  .manual = "The minimum block size: a power of two up to 64K, not below the minimum of\n"
		    "what is below.  The default is that minimum." },
	{ .name = "blocksize-preferred",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct policy, preferred),
	  .min = 512,
	  .max = NR_PAYLOAD_MAX,
	  .value = "SIZE",
	  .help = "Preferred block size that clients are told",
	  .manual = "The preferred block size: a power of two from 512 to 32M, not below the\n"
		    "minimum.  The default is what is below." },
	{ .name = "blocksize-maximum",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct policy, maximum),
	  .min = 1,
	  .max = NR_PAYLOAD_MAX,
	  .value = "SIZE",
	  .help = "Maximum block size that clients are told",
	  .manual = "The longest read or write: a multiple of the minimum, up to 32M, not below\n"
		    "the preferred size.  The default is 32M." },
	{ .name = "blocksize-error-policy",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct policy, on_error),
	  .fallback = "allow",
	  .choices = error_policies,
	  .value = "POLICY",
	  .help = "What happens to clients that do not keep to the block sizes",
	  .manual = "C<allow>: requests that break the block sizes are carried out all the same;\n"
		    "what is below still sees whole blocks.  C<error>: they fail with EINVAL." },
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	const struct policy *p = layer->instance;

	if (p->minimum && !nr_is_power_of_2(p->minimum))
		return nr_error_set(error, -EINVAL,
				    "blocksize-minimum: %" PRIu64
				    " is not a power of two from 1 to %u",
				    p->minimum, NR_BLOCK_MIN_MAX);
	if (p->preferred && !nr_is_power_of_2(p->preferred))
		return nr_error_set(error, -EINVAL,
				    "blocksize-preferred: %" PRIu64
				    " is not a power of two from 512 to %u",
				    p->preferred, NR_PAYLOAD_MAX);
	if (p->minimum && p->preferred && p->preferred < p->minimum)
		return nr_error_set(error, -EINVAL,
				    "blocksize-preferred: %" PRIu64
				    " is less than blocksize-minimum, %" PRIu64,
				    p->preferred, p->minimum);
	if (p->maximum && p->minimum && p->maximum % p->minimum != 0)
		return nr_error_set(error, -EINVAL,
				    "blocksize-maximum: %" PRIu64
				    " is not a multiple of blocksize-minimum, %" PRIu64,
				    p->maximum, p->minimum);
	if (p->maximum && p->preferred && p->maximum < p->preferred)
		return nr_error_set(error, -EINVAL,
				    "blocksize-maximum: %" PRIu64
				    " is less than blocksize-preferred, %" PRIu64,
				    p->maximum, p->preferred);
	return 0;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct policy *p = layer->instance;
	uint64_t minimum = p->minimum ? p->minimum : t->block_min;
	uint64_t maximum = p->maximum ? p->maximum : NR_PAYLOAD_MAX;

	if (minimum < t->block_min)
		return nr_error_set(error, -EINVAL,
				    "blocksize-minimum: %" PRIu64 " is less than the %u-byte "
				    "blocks below; use blocksize-minimum=%u or put "
				    "--filter=blocksize below",
				    minimum, t->block_min, t->block_min);
	if (t->block_max < minimum)
		return nr_error_set(error, -EINVAL,
				    "blocksize-minimum: %" PRIu64 " is more than the %u bytes that "
				    "the layer below takes at once; put --filter=blocksize below",
				    minimum, t->block_max);
	if (maximum % minimum != 0)
		return nr_error_set(error, -EINVAL,
				    "blocksize-maximum: %" PRIu64 " is not a multiple of the "
				    "%" PRIu64 "-byte blocks below; use a multiple of %" PRIu64,
				    maximum, minimum, minimum);
	t->size = nr_round_down(t->size, minimum);
	t->block_min = (uint32_t)minimum;
	t->block_preferred =
		(uint32_t)nr_max(p->preferred ? p->preferred : t->block_preferred, minimum);
	t->block_max = (uint32_t)nr_round_down(nr_min(t->block_max, maximum), minimum);
	if (p->maximum)
		t->advertised_max = (uint32_t)maximum;
	t->refuse_unfit = p->on_error == ERROR;
	return 0;
}

const struct nr_layer_type nr_blocksize_policy_type = {
	.abi = NR_LAYER_ABI,
	.name = "blocksize-policy",
	.summary = "sets the block sizes that clients are told, and enforces them",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = policy_params,
	.instance_size = sizeof(struct policy),
	.check = check,
	.describe = describe,
	.submit = nr_pass,
	.contexts_pass = true,
};
