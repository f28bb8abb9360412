/* SPDX-License-Identifier: BSD-3-Clause */
/* See label.h.  Main thread. */
#include "src/cli/label.h"

#include <errno.h>

#ifdef NR_HAVE_SELINUX

#include <selinux/selinux.h>

bool nr_label_possible(void)
{
	return true;
}

int nr_label_sockets(const char *label, struct nr_error *error)
{
	int err = setsockcreatecon_raw(label) < 0 ? -errno : 0;

	/* Back to the default: there was something to go back from, or all is well. */
	if (!err || !label)
		return 0;
	if (is_selinux_enabled() <= 0)
		return nr_error_set(error, err,
				    "--selinux-label=%s: this kernel has no SELinux, or it is not "
				    "switched on",
				    label);
	return nr_error_system(error, err, "--selinux-label=%s: the label is refused", label);
}

#else

bool nr_label_possible(void)
{
	return false;
}

int nr_label_sockets(const char *label, struct nr_error *error)
{
	if (!label)
		return 0;
	return nr_error_set(error, -ENOSYS,
			    "--selinux-label: this server was built without libselinux");
}

#endif
