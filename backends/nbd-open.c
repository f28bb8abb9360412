/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening the backend `nbd` (nbd.h): the remote that the parameters name, the first
 * connection, what it offers as traits, the links, and what a remote that comes back
 * has to be like.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/blocking.h"
#include "backends/nbd.h"
#include "nbdring/checked.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define WAIT_STEP_MS 100u /* between attempts at the start */

/* ---- the remote -------------------------------------------------------- */

static int set_command(struct nr_remote *remote, const struct nr_nbd_parameters *given,
		       struct nr_error *error)
{
	size_t count = given->arguments.count;

	remote->command = calloc(count + 2, sizeof(*remote->command));
	if (!remote->command)
		return nr_error_system(error, -ENOMEM, "the remote");
	for (size_t i = 0; i <= count; i++) {
		const char *word = i ? given->arguments.item[i - 1] : given->command;
		int err = nr_remote_set(&remote->command[i], word, error);

		if (err)
			return err;
	}
	return 0;
}

static int set_number(const char *text, const char *what, uint32_t *number, struct nr_error *error)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || value > UINT32_MAX)
		return nr_error_set(error, -EINVAL, "%s= is not a number up to 4294967295", what);
	*number = (uint32_t)value;
	return 0;
}

static int set_vsock(struct nr_remote *remote, const struct nr_nbd_parameters *given,
		     struct nr_error *error)
{
	int err = set_number(given->vsock, "vsock", &remote->cid, error);

	remote->vsock_port = NR_REMOTE_PORT;
	if (!err && given->port)
		err = set_number(given->port, "port", &remote->vsock_port, error);
	/* It is told from "none given" by being there. */
	return err ? err : nr_remote_set(&remote->port, "", error);
}

static int set_address(struct nr_remote *remote, const struct nr_nbd_parameters *given,
		       struct nr_error *error)
{
	int err = 0;

	if (given->uri)
		return nr_remote_set_uri(remote, given->uri, error);
	if (given->socket) {
		remote->kind = NR_REMOTE_UNIX;
		return nr_remote_set(&remote->path, given->socket, error);
	}
	if (given->hostname) {
		remote->kind = NR_REMOTE_TCP;
		err = nr_remote_set(&remote->host, given->hostname, error);
		return err ? err : nr_remote_set(&remote->port, given->port, error);
	}
	if (given->vsock) {
		remote->kind = NR_REMOTE_VSOCK;
		return set_vsock(remote, given, error);
	}
	if (given->descriptor) {
		remote->kind = NR_REMOTE_SOCKET;
		remote->descriptor = (int)given->descriptor;
		return 0;
	}
	remote->kind = NR_REMOTE_COMMAND;
	return set_command(remote, given, error);
}

static int check_alternatives(const struct nr_nbd_parameters *given, struct nr_error *error)
{
	unsigned ways = !!given->uri + !!given->socket + !!given->hostname + !!given->vsock +
			!!given->descriptor + !!given->command;

	if (ways != 1)
		return nr_error_set(error, -EINVAL,
				    ways ? "give only one of uri=, socket=, hostname=, vsock=, "
					   "socket-fd= and command="
					 : "where the remote is, is missing: give uri=, socket=, "
					   "hostname=, vsock=, socket-fd= or command=");
	if (given->port && !given->hostname && !given->vsock)
		return nr_error_set(error, -EINVAL, "port= goes with hostname= or vsock=");
	if (given->arguments.count && !given->command)
		return nr_error_set(error, -EINVAL, "arg= goes with command=");
	if (given->dynamic && given->export_name)
		return nr_error_set(error, -EINVAL,
				    "give export= or dynamic-export=true, not both");
	if (!given->shared && (given->command || given->descriptor))
		return nr_error_set(error, -EINVAL,
				    "shared=false needs a remote that can be connected to: not "
				    "command= or socket-fd=");
	return 0;
}

static int set_tls(struct nr_remote *remote, const struct nr_nbd_parameters *given,
		   struct nr_error *error)
{
	const struct {
		const char *given;
		char **field;
	} fields[] = {
		{ given->certificates, &remote->tls_certificates },
		{ given->psk_file, &remote->tls_psk_file },
		{ given->username, &remote->tls_username },
		{ given->tls_hostname, &remote->tls_hostname },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		int err = fields[i].given ? nr_remote_set(fields[i].field, fields[i].given, error)
					  : 0;

		if (err)
			return err;
	}
	if (given->tls > remote->tls)
		remote->tls = (uint8_t)given->tls;
	if (!given->verify_peer)
		remote->tls_verify_peer = false;
	if (remote->tls == NR_CLIENT_TLS_OFF && (remote->tls_certificates || remote->tls_psk_file))
		return nr_error_set(error, -EINVAL,
				    "certificates and keys are of no use without TLS: give "
				    "tls=require, or a URI that begins with nbds");
	return 0;
}

int nr_nbd_remote(const struct nr_nbd_parameters *given, const char *export_name,
		  struct nr_remote *remote, struct nr_error *error)
{
	int err = check_alternatives(given, error);

	nr_remote_init(remote);
	if (!err)
		err = set_address(remote, given, error);
	if (!err)
		err = set_tls(remote, given, error);
	if (!err && given->export_name)
		err = nr_remote_set(&remote->export_name, given->export_name, error);
	if (!err && given->dynamic)
		err = nr_remote_set(&remote->export_name, export_name ? export_name : "", error);
	if (!err)
		err = nr_remote_complete(remote, error);
	if (err)
		nr_remote_clear(remote);
	return err;
}

/* ---- the first connection ---------------------------------------------- */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Is it of use to try again? */
static bool may_pass(int err)
{
	return err != -EINVAL && err != -ENOMEM && err != -EPROTO && err != -EOPNOTSUPP &&
	       err != -EACCES;
}

/* ---- metadata contexts ------------------------------------------------- */

static void forget_contexts(struct nr_nbd *nbd)
{
	while (nbd->wished_count > 1)
		free((char *)(uintptr_t)nbd->wished[--nbd->wished_count]);
	nbd->wished[0] = NBD_BASE_ALLOCATION;
	nbd->wished_count = 1;
	nbd->context_count = 0;
}

/* The remote has a context NAME: it is asked for with base:allocation. */
static bool found_context(void *context, const char *name)
{
	struct nr_nbd *nbd = context;
	const char *copy = nbd->wished_count < NR_CONTEXTS_MAX ? strdup(name) : NULL;

	if (copy)
		nbd->wished[nbd->wished_count++] = copy;
	return copy;
}

/* What has been granted on the first connection is offered, and asked for on all others. */
static void settle_contexts(struct nr_nbd *nbd)
{
	struct nr_client_wish *wish = &nbd->settings.call.wish;

	for (unsigned i = 1; i < nbd->wished_count; i++) {
		if (!(nbd->agreement.contexts & 1u << i))
			continue;
		nbd->contexts[nbd->context_count] = nbd->wished[i];
		nbd->context_index[++nbd->context_count] = (uint8_t)i;
	}
	wish->context_count = nbd->wished_count;
	wish->found = NULL;
}

static int dial_first(struct nr_nbd *nbd, struct nr_dialled *dialled, struct nr_error *error)
{
	const struct timespec step = { .tv_nsec = WAIT_STEP_MS * 1000000L };
	uint64_t until = now() + nbd->given.wait_s * NS_PER_S;

	for (;;) {
		int err;

		forget_contexts(nbd);
		err = nr_dial(&nbd->settings.call, dialled, error);

		if (!err || !may_pass(err) || now() >= until)
			return err;
		nanosleep(&step, NULL);
	}
}

/* ---- a remote that comes back ------------------------------------------ */

#define PROMISES                                                                      \
	(NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |               \
	 NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE | \
	 NBD_FLAG_SEND_RESIZE)

/* The longest read or write for a remote that says INFO. */
static uint32_t block_max(const struct nr_export_info *info)
{
	uint64_t max = nr_min(info->block_max, NR_TRANSFER_MAX);

	return (uint32_t)nr_max(nr_round_down(max, info->block_min), info->block_min);
}

/*
 * Clients were told what the remote was; what comes back has to be at least that.  More
 * than that is not used, but for a larger size, which new clients are told.
 */
static int accept_again(struct nr_link *link, const struct nr_client_agreement *agreement,
			struct nr_error *error)
{
	struct nr_layer *layer = nr_link_layer(link);
	struct nr_nbd *nbd = layer->instance;
	const struct nr_client_agreement *was = &nbd->agreement;
	const struct nr_export_info *info = &agreement->info;
	uint64_t size = atomic_load(&nbd->size);
	unsigned promised = PROMISES | (nbd->connections > 1 ? NBD_FLAG_CAN_MULTI_CONN : 0);
	const char *what = NULL;

	if (nr_round_down(info->size, was->info.block_min) < size)
		what = "is smaller than it was";
	else if ((info->flags & NBD_FLAG_READ_ONLY) && !(was->info.flags & NBD_FLAG_READ_ONLY))
		what = "is read-only now";
	else if (was->info.flags & promised & ~(unsigned)info->flags)
		what = "can do less than it could";
	else if (info->block_min > was->info.block_min || block_max(info) < block_max(&was->info))
		what = "has other block sizes than it had";
	else if (was->contexts & ~(unsigned)agreement->contexts)
		what = "has no map any more";
	else if (was->reply_style == NR_REPLY_EXTENDED &&
		 agreement->reply_style != NR_REPLY_EXTENDED)
		what = "has no extended headers any more";
	if (what)
		return nr_error_set(error, -EPROTO, "%s came back, but it %s", nbd->remote.shown,
				    what);
	size = nr_round_down(info->size, was->info.block_min);
	if (size != atomic_exchange(&nbd->size, size))
		nr_layer_resized(layer, size);
	return 0;
}

/* ---- opening ----------------------------------------------------------- */

static void fill_settings(struct nr_nbd *nbd)
{
	const struct nr_nbd_parameters *given = &nbd->given;
	bool once = nbd->remote.kind == NR_REMOTE_SOCKET;

	nbd->settings = (struct nr_link_settings){
		.call = { .remote = &nbd->remote,
			  .wish = { .best_style = NR_REPLY_EXTENDED,
				    .contexts = nbd->wished,
				    .context_count = 1,
				    .found = found_context,
				    .found_context = nbd },
			  .credentials = nbd->credentials,
			  .milliseconds = (unsigned)given->connect_s * 1000 },
		.retry_ns = once ? 0 : given->retry_s * NS_PER_S,
		.pause_ns = given->pause_ms * NS_PER_MS,
		.pause_max_ns = nr_max(given->pause_ms, given->pause_max_ms) * NS_PER_MS,
		.timeout_ns = given->timeout_s * NS_PER_S,
		.finished = nr_nbd_finished,
		.broken = nr_nbd_broken,
		.again = nr_nbd_again,
		.accept = accept_again,
		.submit_job = nr_blocking_submit,
	};
}

/*
 * How many connections are of use, and right.  What can be written to is served by one
 * worker (nbd.h).
 */
static void plan_connections(struct nr_nbd *nbd, const struct nr_layer *layer)
{
	unsigned flags = nbd->agreement.info.flags;
	bool read_only = (flags & NBD_FLAG_READ_ONLY) || layer->read_only;
	bool several = (read_only || (flags & NBD_FLAG_CAN_MULTI_CONN)) &&
		       nbd->remote.kind != NR_REMOTE_SOCKET &&
		       nbd->remote.kind != NR_REMOTE_COMMAND;
	uint64_t wanted = nbd->given.connections;

	if (!wanted)
		wanted = read_only ? layer->worker_count : 1;
	nbd->connections = several ? (unsigned)nr_min(wanted, NBD_CONNECTIONS_MAX) : 1;
	nbd->home = !read_only || nbd->connections < layer->worker_count;
	nbd->group_count = nbd->home ? 1 : layer->worker_count;
	if (nbd->given.connections > nbd->connections)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "the remote does not say that several connections are safe, so there "
			     "is one");
}

static int make_links(struct nr_nbd *nbd, struct nr_layer *layer, struct nr_error *error)
{
	nbd->groups = calloc(nbd->group_count, sizeof(*nbd->groups));
	if (!nbd->groups)
		return nr_error_system(error, -ENOMEM, "the connections");
	for (unsigned i = 0; i < nbd->group_count; i++) {
		struct nr_nbd_group *group = &nbd->groups[i];
		unsigned count = (nbd->connections - i + nbd->group_count - 1) / nbd->group_count;

		group->links = calloc(count, sizeof(struct nr_link *));
		if (!group->links)
			return nr_error_system(error, -ENOMEM, "the connections");
		for (; group->count < count; group->count++) {
			group->links[group->count] = nr_link_create(layer, &nbd->settings);
			if (!group->links[group->count])
				return nr_error_system(error, -ENOMEM, "the connections");
		}
	}
	return 0;
}

static void free_links(struct nr_nbd *nbd)
{
	for (unsigned i = 0; nbd->groups && i < nbd->group_count; i++) {
		for (unsigned j = 0; j < nbd->groups[i].count; j++)
			nr_link_destroy(nbd->groups[i].links[j]);
		free(nbd->groups[i].links);
	}
	free(nbd->groups);
	nbd->groups = NULL;
}

static int open_first(struct nr_nbd *nbd, struct nr_layer *layer, struct nr_error *error)
{
	struct nr_dialled first;
	int err;

	fill_settings(nbd);
	err = dial_first(nbd, &first, error);
	if (err)
		return err;
	nbd->agreement = first.agreement;
	settle_contexts(nbd);
	nbd->counts = first.agreement.info.flags & NBD_FLAG_SEND_FLUSH;
	atomic_store(&nbd->size,
		     nr_round_down(first.agreement.info.size, first.agreement.info.block_min));
	plan_connections(nbd, layer);
	err = make_links(nbd, layer, error);
	if (err) {
		nr_dialled_close(&first);
		free_links(nbd);
		return err;
	}
	nr_link_give(nbd->groups[0].links[0], &first);
	if (nbd->home)
		nr_layer_needs_home(layer);
	return 0;
}

static void forget(struct nr_nbd *nbd)
{
	forget_contexts(nbd);
	nr_tls_credentials_release(nbd->credentials);
	nbd->credentials = NULL;
	nr_remote_clear(&nbd->remote);
}

static int load_credentials(struct nr_nbd *nbd, const struct nr_layer *layer,
			    struct nr_error *error)
{
	int err = nr_dial_credentials(&nbd->remote, &nbd->credentials, error);
	const char *warning =
		nbd->credentials ? nr_tls_credentials_warning(nbd->credentials) : NULL;

	if (warning)
		nr_layer_log(layer, NR_LAYER_WARNING, "%s", warning);
	return err;
}

int nr_nbd_open(struct nr_nbd *nbd, struct nr_layer *layer, struct nr_error *error)
{
	int err = nr_nbd_remote(&nbd->given, layer->export_name, &nbd->remote, error);

	if (err)
		return err;
	nbd->layer = layer;
	err = load_credentials(nbd, layer, error);
	if (!err)
		err = nr_blocking_acquire(error);
	if (err) {
		forget(nbd);
		return err;
	}
	err = open_first(nbd, layer, error);
	if (err) {
		nr_blocking_release();
		forget(nbd);
	}
	return err;
}

void nr_nbd_close(struct nr_nbd *nbd)
{
	free_links(nbd);
	nr_blocking_release();
	forget(nbd);
}

/* ---- what it is -------------------------------------------------------- */

void nr_nbd_describe(const struct nr_nbd *nbd, struct nr_traits *traits)
{
	static const struct {
		enum nr_capability capability;
		uint16_t flag;
		enum nr_support otherwise;
	} capabilities[] = {
		{ NR_CAP_FLUSH, NBD_FLAG_SEND_FLUSH, NR_NONE },
		{ NR_CAP_FUA, NBD_FLAG_SEND_FUA, NR_NONE },
		{ NR_CAP_TRIM, NBD_FLAG_SEND_TRIM, NR_NONE },
		{ NR_CAP_ZERO, NBD_FLAG_SEND_WRITE_ZEROES, NR_EMULATE },
		{ NR_CAP_FAST_ZERO, NBD_FLAG_SEND_FAST_ZERO, NR_NONE },
		{ NR_CAP_CACHE, NBD_FLAG_SEND_CACHE, NR_NONE },
		{ NR_CAP_RESIZE, NBD_FLAG_SEND_RESIZE, NR_NONE },
	};
	const struct nr_export_info *info = &nbd->agreement.info;
	bool one = nbd->connections == 1 && nbd->given.shared;

	traits->size = atomic_load(&nbd->size);
	traits->block_min = info->block_min;
	traits->block_preferred = info->block_preferred;
	traits->block_max = block_max(info);
	traits->rotational = info->flags & NBD_FLAG_ROTATIONAL;
	traits->read_only = nbd->layer->read_only || (info->flags & NBD_FLAG_READ_ONLY);
	/* All clients are one to the remote, unless they have connections of their own. */
	traits->multi_conn = one || (info->flags & NBD_FLAG_CAN_MULTI_CONN);
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
		traits->support[capabilities[i].capability] =
			info->flags & capabilities[i].flag ? NR_NATIVE : capabilities[i].otherwise;
	if (traits->support[NR_CAP_FUA] == NR_NONE && traits->support[NR_CAP_FLUSH] == NR_NATIVE)
		traits->support[NR_CAP_FUA] = NR_EMULATE;
	traits->support[NR_CAP_EXTENTS] = nbd->agreement.contexts & 1 ? NR_NATIVE : NR_EMULATE;
	traits->contexts = nbd->contexts;
	traits->context_count = nbd->context_count;
}

/* ---- which there are --------------------------------------------------- */

struct listing {
	nr_export_fn *each;
	void *context;
};

static void listed(void *context, const char *name, const char *description)
{
	const struct listing *listing = context;

	listing->each(listing->context, name, description[0] ? description : NULL);
}

int nr_nbd_list(const struct nr_nbd_parameters *given, nr_export_fn *each, void *context,
		struct nr_error *error)
{
	struct listing listing = { each, context };
	struct nr_remote remote;
	struct nr_call call = { .remote = &remote,
				.wish = { .listed = listed, .listed_context = &listing },
				.milliseconds = (unsigned)given->connect_s * 1000 };
	struct nr_dialled none;
	int err = nr_nbd_remote(given, NULL, &remote, error);

	if (err)
		return err;
	err = nr_dial_credentials(&remote, &call.credentials, error);
	if (!err)
		err = nr_dial(&call, &none, error);
	nr_tls_credentials_release(call.credentials);
	nr_remote_clear(&remote);
	return err;
}
