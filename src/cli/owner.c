/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking up users and groups.  A name that looks like a number is one, unless a user
 * has it for a name, as with chown(1).
 */
#include "src/cli/owner.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "src/stack/params.h"

/* The largest number means "as it is" to the kernel, so nobody has it. */
static int take_number(const char *text, unsigned *id)
{
	uint64_t number;

	if (text[strspn(text, "0123456789")] != '\0' || nr_parse_uint(text, &number) ||
	    number >= UINT32_MAX)
		return -EINVAL;
	*id = (unsigned)number;
	return 0;
}

static int find_user(const char *name, uid_t *user, struct nr_error *error)
{
	const struct passwd *found = getpwnam(name);

	if (found)
		*user = found->pw_uid;
	else if (take_number(name, user))
		return nr_error_set(error, -EINVAL, "there is no user '%s'", name);
	return 0;
}

static int find_group(const char *name, gid_t *group, struct nr_error *error)
{
	const struct group *found = getgrnam(name);

	if (found)
		*group = found->gr_gid;
	else if (take_number(name, group))
		return nr_error_set(error, -EINVAL, "there is no group '%s'", name);
	return 0;
}

int nr_owner_find(struct nr_owner *owner, const char *text, struct nr_error *error)
{
	const char *colon = strchr(text, ':');
	char *user = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);
	int err = 0;

	*owner = (struct nr_owner){ .user = (uid_t)-1, .group = (gid_t)-1 };
	if (!user)
		return nr_error_system(error, -ENOMEM, "%s", text);
	if (user[0] == '\0' && (!colon || colon[1] == '\0'))
		err = nr_error_set(error, -EINVAL, "write USER, USER:GROUP or :GROUP, not '%s'",
				   text);
	if (!err && user[0])
		err = find_user(user, &owner->user, error);
	if (!err && colon && colon[1])
		err = find_group(colon + 1, &owner->group, error);
	free(user);
	return err;
}
