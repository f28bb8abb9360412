/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See privileges.h.
 *
 * Three steps rather than one, because rights are needed for both ends of the start:
 * sockets, rings and locked memory are made as the user who started the server; what
 * layers open is opened with the rights of the other one, so that a disk which that one
 * must not touch is not served; and the pid file, which says that all this went well, is
 * put into a folder of the first one's again.  Then there is no way back.
 *
 * The C library changes all threads of the process together.  Main thread.
 */
#include "src/cli/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/stack/params.h"

#define GROUPS_MAX 65536 /* the kernel's own limit */

static bool as_number(const char *text, uint32_t *number)
{
	uint64_t value;

	/* The largest one means "none" in the calls below. */
	if (nr_parse_uint(text, &value) || value >= UINT32_MAX)
		return false;
	*number = (uint32_t)value;
	return true;
}

static int find_group(struct nr_identity *identity, const char *group, struct nr_error *error)
{
	const struct group *entry;
	uint32_t number;

	if (as_number(group, &number)) {
		identity->group = number;
		return 0;
	}
	errno = 0;
	entry = getgrnam(group);
	if (!entry && errno)
		return nr_error_system(error, -errno, "--group=%s", group);
	if (!entry)
		return nr_error_set(error, -EINVAL,
				    "--group=%s: there is no such group; write a name from "
				    "getent group, or a number",
				    group);
	identity->group = entry->gr_gid;
	return 0;
}

/* The groups that NAME is in, beside GROUP. */
static int find_groups(struct nr_identity *identity, const char *name, struct nr_error *error)
{
	int room = 32;

	for (;;) {
		gid_t *grown = realloc(identity->groups, (size_t)room * sizeof(*grown));

		if (!grown)
			return nr_error_system(error, -ENOMEM, "--user");
		identity->groups = grown;
		identity->group_count = room;
		if (getgrouplist(name, identity->group, grown, &identity->group_count) >= 0)
			return 0;
		if (room >= GROUPS_MAX)
			return nr_error_set(error, -E2BIG, "--user=%s is in too many groups", name);
		room *= 2;
	}
}

static int only_this_group(struct nr_identity *identity, struct nr_error *error)
{
	identity->groups = malloc(sizeof(*identity->groups));
	if (!identity->groups)
		return nr_error_system(error, -ENOMEM, "--group");
	identity->groups[0] = identity->group;
	identity->group_count = 1;
	return 0;
}

static int find_user(struct nr_identity *identity, const char *user, const char *group,
		     struct nr_error *error)
{
	const struct passwd *entry;
	uint32_t number;
	char *name;
	int err;

	errno = 0;
	entry = as_number(user, &number) ? getpwuid(number) : getpwnam(user);
	if (!entry && !as_number(user, &number))
		return errno ? nr_error_system(error, -errno, "--user=%s", user)
			     : nr_error_set(error, -EINVAL,
					    "--user=%s: there is no such user; write a name from "
					    "getent passwd, or a number",
					    user);
	if (!entry && !group)
		return nr_error_set(error, -EINVAL,
				    "--user=%s: nothing says which group this user is in; give "
				    "one with -g",
				    user);
	identity->user = entry ? entry->pw_uid : number;
	if (!entry)
		return only_this_group(identity, error);
	if (!group)
		identity->group = entry->pw_gid;
	/* The entry is the library's, and asking for groups may change it. */
	name = strdup(entry->pw_name);
	if (!name)
		return nr_error_system(error, -ENOMEM, "--user");
	err = find_groups(identity, name, error);
	free(name);
	return err;
}

int nr_identity_find(struct nr_identity *identity, const char *user, const char *group,
		     struct nr_error *error)
{
	int err = 0;

	*identity = (struct nr_identity){ .user = geteuid(), .group = getegid() };
	if (!user && !group)
		return 0;
	identity->wanted = true;
	if (group)
		err = find_group(identity, group, error);
	if (!err)
		err = user ? find_user(identity, user, group, error)
			   : only_this_group(identity, error);
	if (!err && geteuid() != 0)
		err = nr_error_set(error, -EPERM,
				   "only root can become another user with -u and -g; start the "
				   "server as root, or as that user");
	return err;
}

void nr_identity_free(struct nr_identity *identity)
{
	free(identity->groups);
	identity->groups = NULL;
}

static int refuse(struct nr_error *error)
{
	return nr_error_system(error, -errno, "becoming another user (-u, -g)");
}

int nr_identity_act(const struct nr_identity *identity, struct nr_error *error)
{
	if (!identity->wanted)
		return 0;
	if (setgroups((size_t)identity->group_count, identity->groups) < 0 ||
	    setegid(identity->group) < 0 || seteuid(identity->user) < 0)
		return refuse(error);
	return 0;
}

int nr_identity_suspend(const struct nr_identity *identity, struct nr_error *error)
{
	if (!identity->wanted)
		return 0;
	return seteuid(0) < 0 ? refuse(error) : 0;
}

int nr_identity_assume(const struct nr_identity *identity, struct nr_error *error)
{
	if (!identity->wanted)
		return 0;
	if (seteuid(0) < 0 || setresgid(identity->group, identity->group, identity->group) < 0 ||
	    setresuid(identity->user, identity->user, identity->user) < 0)
		return refuse(error);
	/* A way back would be worse than not to start. */
	if (identity->user != 0 && (setuid(0) == 0 || seteuid(0) == 0))
		return nr_error_set(error, -EPERM,
				    "becoming another user: the system let us go back to root");
	return 0;
}
