/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may come in, by where he comes from.
 *
 * The rules are read at open into one array, the allowing ones first, and only read
 * after that.  The first that matches decides; when none does the client is let in.
 * Requests pass by.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/ip-rule.h"

#define SHOWN_MAX 64 /* bytes of a wrong rule in the sentence about it */

struct ip {
	struct nr_strings allow, deny;
	struct nr_ip_rule *rules;
	size_t count;
	size_t allowing; /* the first so many allow, the rest deny */
};

/*
 * The rules in LISTS: counted, and stored from *RULES on where that is not NULL.
 */
static int read_rules(const struct nr_strings *lists, const char *parameter,
		      struct nr_ip_rule *rules, size_t *count, struct nr_error *error)
{
	for (size_t i = 0; i < lists->count; i++) {
		const char *text = lists->item[i];

		for (;;) {
			size_t length = nr_ip_rule_length(text);
			struct nr_ip_rule rule;
			const char *wrong = nr_ip_rule_parse(text, length, &rule);

			if (wrong)
				return nr_error_set(error, -EINVAL, "%s=%.*s is no rule: %s",
						    parameter,
						    (int)(length < SHOWN_MAX ? length : SHOWN_MAX),
						    text, wrong);
			if (rules)
				rules[*count] = rule;
			++*count;
			if (!text[length])
				break;
			text += length + 1;
		}
	}
	return 0;
}

static int read_both(struct ip *ip, struct nr_error *error)
{
	int err;

	ip->count = 0;
	err = read_rules(&ip->allow, "allow", ip->rules, &ip->count, error);
	ip->allowing = ip->count;
	return err ? err : read_rules(&ip->deny, "deny", ip->rules, &ip->count, error);
}

static int ip_check(struct nr_layer *layer, struct nr_error *error)
{
	return read_both(layer->instance, error);
}

static int ip_open(struct nr_layer *layer, struct nr_error *error)
{
	struct ip *ip = layer->instance;

	if (ip->count == 0)
		return 0;
	ip->rules = calloc(ip->count, sizeof(*ip->rules));
	if (!ip->rules)
		return nr_error_system(error, -ENOMEM, "%zu rules", ip->count);
	return read_both(ip, error); /* as in ip_check: cannot fail */
}

static void ip_close(struct nr_layer *layer)
{
	struct ip *ip = layer->instance;

	free(ip->rules);
}

static int ip_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	const struct ip *ip = layer->instance;

	for (size_t i = 0; i < ip->count; i++) {
		if (!nr_ip_rule_matches(&ip->rules[i], session))
			continue;
		if (i < ip->allowing)
			return 0;
		return nr_error_set(error, -EACCES,
				    "this server does not let in clients from where you are");
	}
	return 0;
}

static const struct nr_param ip_params[] = {
	{
		.name = "allow",
		.type = NR_PARAM_LIST,
		.offset = offsetof(struct ip, allow),
		.value = "RULE[,RULE...]",
		.help = "clients that are let in, whatever deny= says",
		.manual = "Clients that match one of these rules are let in, whatever B<deny=> "
			  "says.  May be given more than once.",
	},
	{
		.name = "deny",
		.type = NR_PARAM_LIST,
		.offset = offsetof(struct ip, deny),
		.value = "RULE[,RULE...]",
		.help = "clients that are refused unless a rule of allow= matches",
		.manual = "Clients that match one of these rules, and none of B<allow=>, are "
			  "refused.  May be given more than once.",
	},
	{ 0 },
};

const struct nr_layer_type nr_ip_type = {
	.abi = NR_LAYER_ABI,
	.name = "ip",
	.summary = "lets clients in by address, user, group, process or certificate",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = ip_params,
	.instance_size = sizeof(struct ip),
	.check = ip_check,
	.open = ip_open,
	.admit = ip_admit,
	.close = ip_close,
};
