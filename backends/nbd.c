/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `nbd`: a disk that another NBD server has.
 *
 * This is the face: parameters, names, clients.  How the remote is opened and how
 * requests go is in nbd-*.c (see nbd.h), connections are links (src/client/link.h).
 */
#include "backends/nbd.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "backends/backends.h"

static const char *const tls_names[] = { "off", "on", "require", NULL };

#define AT(field) offsetof(struct nr_nbd, given.field)

static const struct nr_param params[] = {
	{ .name = "uri",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_MAIN,
	  .offset = AT(uri),
	  .value = "URI",
	  .help = "the remote as an NBD URI",
	  .manual = "The remote as an NBD URI: C<nbd://HOST[:PORT]/EXPORT>, "
		    "C<nbd+unix:///EXPORT?socket=PATH>, C<nbd+vsock://CID[:PORT]/EXPORT>, and the "
		    "same with C<nbds> for TLS. The queries C<tls-certificates>, C<tls-psk-file>, "
		    "C<tls-hostname>, C<tls-username> and C<tls-verify-peer> are understood." },
	{ .name = "socket",
	  .type = NR_PARAM_STRING,
	  .offset = AT(socket),
	  .value = "PATH",
	  .help = "the Unix socket of the remote",
	  .manual = "The Unix socket of the remote. C<@NAME> is an abstract one." },
	{ .name = "hostname",
	  .type = NR_PARAM_STRING,
	  .offset = AT(hostname),
	  .value = "HOST",
	  .help = "the name or address of the remote",
	  .manual = "The name or address of the remote, which is reached over TCP. If it has "
		    "several addresses, IPv6 and IPv4 are tried in turn, a quarter of a second "
		    "apart, and the first that answers is used." },
	{ .name = "port",
	  .type = NR_PARAM_STRING,
	  .offset = AT(port),
	  .value = "PORT",
	  .help = "the port of the remote, by default 10809" },
	{ .name = "vsock",
	  .type = NR_PARAM_STRING,
	  .offset = AT(vsock),
	  .value = "CID",
	  .help = "the context ID of the remote, which is reached over AF_VSOCK" },
	{ .name = "socket-fd",
	  .type = NR_PARAM_UINT,
	  .offset = AT(descriptor),
	  .min = 3,
	  .max = INT_MAX,
	  .value = "NUMBER",
	  .help = "the descriptor of a connection to the remote that is there already",
	  .manual = "A descriptor, 3 or higher, that the server inherited, and that is connected "
		    "to the remote. It cannot be connected again: when it breaks, requests fail." },
	{ .name = "command",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_COMMAND,
	  .offset = AT(command),
	  .value = "PROGRAM",
	  .help = "a program that is started and speaks NBD on its standard input and output",
	  .manual = "A program to be started, which speaks NBD on its standard input and output, "
		    "as C<nbdkit -s> and C<nbdring --single> do. It is looked for in C<PATH>. When "
		    "it ends, it is started again (C<retry=>)." },
	{ .name = "arg",
	  .type = NR_PARAM_LIST,
	  .offset = AT(arguments),
	  .value = "WORD",
	  .help = "an argument of the program; may be given more than once" },
	{ .name = "export",
	  .type = NR_PARAM_STRING,
	  .offset = AT(export_name),
	  .value = "NAME",
	  .help = "the remote's export to use, by default its default one" },
	{ .name = "dynamic-export",
	  .type = NR_PARAM_BOOL,
	  .offset = AT(dynamic),
	  .fallback = "false",
	  .value = "BOOL",
	  .help = "clients choose among the remote's exports",
	  .manual = "Clients choose among the remote's exports: the name that a client asks for "
		    "is passed on, and a list of exports is the remote's." },
	{ .name = "shared",
	  .type = NR_PARAM_BOOL,
	  .offset = AT(shared),
	  .fallback = "true",
	  .value = "BOOL",
	  .help = "clients share the connections; if not, each has one of its own",
	  .manual = "Clients share the connections to the remote. With C<false>, each client has "
		    "a connection of its own besides, made when it first asks for something." },
	{ .name = "connections",
	  .type = NR_PARAM_UINT,
	  .offset = AT(connections),
	  .min = 0,
	  .max = NBD_CONNECTIONS_MAX,
	  .fallback = "0",
	  .value = "N",
	  .help = "how many connections to spread requests over; 0: as many as are of use",
	  .manual = "How many connections to the remote to spread requests over. There are "
		    "several only if the remote says that this is safe (it offers multi-conn, or "
		    "is read-only). With 0, there is one, or one for each worker if the disk is "
		    "read-only. The first is made when the export is opened, the others when they "
		    "are first used." },
	{ .name = "tls",
	  .type = NR_PARAM_CHOICE,
	  .offset = AT(tls),
	  .fallback = "off",
	  .choices = tls_names,
	  .value = "MODE",
	  .help = "whether to talk to the remote by TLS; on: if it can",
	  .manual = "Whether to talk to the remote by TLS: C<off>, C<on> (if the remote can, which "
		    "somebody in between can prevent), C<require>. A URI that begins with C<nbds> "
		    "requires it." },
	{ .name = "tls-certificates",
	  .type = NR_PARAM_PATH,
	  .offset = AT(certificates),
	  .value = "FOLDER",
	  .help = "the folder with ca-cert.pem, client-cert.pem and client-key.pem",
	  .manual = "The folder with F<ca-cert.pem>, which the remote's certificate has to be "
		    "signed by, and F<client-cert.pem> and F<client-key.pem>, which the remote "
		    "may ask for. Without F<ca-cert.pem>, what the system trusts is trusted." },
	{ .name = "tls-psk",
	  .type = NR_PARAM_PATH,
	  .offset = AT(psk_file),
	  .value = "FILE",
	  .help = "the file of pre-shared keys" },
	{ .name = "tls-username",
	  .type = NR_PARAM_STRING,
	  .offset = AT(username),
	  .value = "NAME",
	  .help = "which line of it" },
	{ .name = "tls-hostname",
	  .type = NR_PARAM_STRING,
	  .offset = AT(tls_hostname),
	  .value = "NAME",
	  .help = "the name that the remote's certificate is for, if not hostname=" },
	{ .name = "tls-verify-peer",
	  .type = NR_PARAM_BOOL,
	  .offset = AT(verify_peer),
	  .fallback = "true",
	  .value = "BOOL",
	  .help = "the remote has to prove who it is" },
	{ .name = "wait",
	  .type = NR_PARAM_UINT,
	  .offset = AT(wait_s),
	  .fallback = "0",
	  .max = 86400,
	  .value = "SECONDS",
	  .help = "how long to go on trying when the remote is not there at the start" },
	{ .name = "retry",
	  .type = NR_PARAM_UINT,
	  .offset = AT(retry_s),
	  .fallback = "60",
	  .max = 86400,
	  .value = "SECONDS",
	  .help = "how long requests wait for a remote that has gone away; 0: they fail",
	  .manual = "How long requests wait for a remote that has gone away while it is tried to "
		    "reach it again. If it comes back in that time, clients notice no more than "
		    "the delay; if not, requests fail with EIO, and each later one makes another "
		    "attempt. With 0, requests that were under way fail at once." },
	{ .name = "retry-pause",
	  .type = NR_PARAM_UINT,
	  .offset = AT(pause_ms),
	  .fallback = "100",
	  .min = 1,
	  .max = 3600000,
	  .value = "MILLISECONDS",
	  .help = "the pause after the first attempt to reach it again; doubled each time" },
	{ .name = "retry-pause-max",
	  .type = NR_PARAM_UINT,
	  .offset = AT(pause_max_ms),
	  .fallback = "2000",
	  .min = 1,
	  .max = 3600000,
	  .value = "MILLISECONDS",
	  .help = "the longest such pause" },
	{ .name = "timeout",
	  .type = NR_PARAM_UINT,
	  .offset = AT(timeout_s),
	  .fallback = "0",
	  .max = 86400,
	  .value = "SECONDS",
	  .help = "a remote that owes answers and is silent for so long has gone; 0: it has time",
	  .manual = "A remote that owes answers and is silent for so long is taken to have gone "
		    "away: the connection is given up and made again. With 0 it may take its "
		    "time. Independently of this, a network that is dead is found out by "
		    "keep-alive in about a minute." },
	{ .name = "connect-timeout",
	  .type = NR_PARAM_UINT,
	  .offset = AT(connect_s),
	  .fallback = "10",
	  .min = 1,
	  .max = 3600,
	  .value = "SECONDS",
	  .help = "how long one attempt to connect and negotiate may take" },
	{ .name = NULL },
};

static int nbd_check(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_nbd *nbd = layer->instance;
	struct nr_remote remote;
	int err = nr_nbd_remote(&nbd->given, NULL, &remote, error);

	if (!err)
		nr_remote_clear(&remote);
	return err;
}

static int nbd_open(struct nr_layer *layer, struct nr_error *error)
{
	return nr_nbd_open(layer->instance, layer, error);
}

static int nbd_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	nr_nbd_describe(layer->instance, traits);
	return 0;
}

/* What a client, or a remote that came back, has made of it. */
static int nbd_refresh(struct nr_layer *layer, uint64_t *size, struct nr_error *error)
{
	struct nr_nbd *nbd = layer->instance;

	*size = atomic_load(&nbd->size);
	return 0;
}

static int nbd_exports(struct nr_layer *layer, nr_export_fn *each, void *context,
		       struct nr_error *error)
{
	const struct nr_nbd *nbd = layer->instance;

	return nbd->given.dynamic ? nr_nbd_list(&nbd->given, each, context, error) : -ENOSYS;
}

/* The remote knows which there are: whoever opens one is told. */
static int nbd_find(struct nr_layer *layer, const char *name, struct nr_error *error)
{
	const struct nr_nbd *nbd = layer->instance;

	return nbd->given.dynamic ? 0 : -ENOSYS;
}

static int nbd_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct nr_nbd *nbd = layer->instance;
	struct nr_nbd_session *mine = nr_session_data(layer, session);

	/* What was lost before it came is not this client's. */
	mine->reported = atomic_load(&nbd->lost);
	if (nbd->given.shared)
		return 0;
	mine->link = nr_link_create(layer, &nbd->settings);
	return mine->link ? 0 : nr_error_system(error, -ENOMEM, "a connection");
}

static void nbd_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct nr_nbd_session *mine = nr_session_data(layer, session);

	nr_link_destroy(mine->link);
	mine->link = NULL;
}

static void nbd_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_nbd_submit(layer->instance, req);
}

static void nbd_close(struct nr_layer *layer)
{
	nr_nbd_close(layer->instance);
}

const struct nr_layer_type nr_nbd_type = {
	.abi = NR_LAYER_ABI,
	.name = "nbd",
	.summary = "serves the disk of another NBD server",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	/* Certificates are named inside of URIs, too, and by the system. */
	.needs = NR_NEEDS_SOCKETS | NR_NEEDS_FILES,
	.params = params,
	.instance_size = sizeof(struct nr_nbd),
	.request_size = sizeof(struct nr_nbd_op),
	.session_size = sizeof(struct nr_nbd_session),
	.check = nbd_check,
	.open = nbd_open,
	.describe = nbd_describe,
	.refresh = nbd_refresh,
	.exports = nbd_exports,
	.find = nbd_find,
	.admit = nbd_admit,
	.leave = nbd_leave,
	.submit = nbd_submit,
	.close = nbd_close,
};
