/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of options: names as nbdkit's users know them, what each sets, and
 * what help and manual say about it.
 *
 * To add an option, add a field to struct nr_options and a row here; help,
 * manual, lists and the parser follow.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "src/cli/options-take.h"
#include "src/cli/options.h"
#include "src/cli/sandbox.h"
#include "src/protocol/handshake.h"
#include "src/stack/params.h"

#define FIELD(name) offsetof(struct nr_options, name)

#define WORKERS_MAX 1024
#define SPIN_MAX 10000 /* microseconds */
#define MODE_MAX 0777

static int take_workers(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--threads", value, WORKERS_MAX, &options->workers, error);
}

static int take_spin(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--spin", value, SPIN_MAX, &options->spin, error);
}

static int take_mask(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_take_number("--mask-handshake", value, UINT16_MAX, &options->handshake_mask,
			      error);
}

/* The words are nbdkit's. */
static int take_tls(struct nr_options *options, const char *value, struct nr_error *error)
{
	static const struct {
		const char *word;
		enum nr_tls_mode mode;
	} words[] = {
		{ "off", NR_TLS_OFF },          { "0", NR_TLS_OFF },
		{ "no", NR_TLS_OFF },           { "false", NR_TLS_OFF },
		{ "on", NR_TLS_OFFERED },       { "1", NR_TLS_OFFERED },
		{ "yes", NR_TLS_OFFERED },      { "true", NR_TLS_OFFERED },
		{ "require", NR_TLS_REQUIRED }, { "required", NR_TLS_REQUIRED },
		{ "force", NR_TLS_REQUIRED },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(value, words[i].word) == 0) {
			options->tls = words[i].mode;
			return 0;
		}
	}
	return nr_error_set(error, -EINVAL, "--tls=%s is not possible: write off, on or require",
			    value);
}

/*
 * Names of services are looked up when the socket is made.  What is too large for TCP
 * may be for vsock.
 */
static int take_port(struct nr_options *options, const char *value, struct nr_error *error)
{
	uint64_t number;

	if (value[0] == '\0' || (strspn(value, "-0123456789") == strlen(value) &&
				 (nr_parse_uint(value, &number) || number >= UINT32_MAX)))
		return nr_error_set(error, -EINVAL,
				    "--port=%s is not possible: write a number from 0 to %d", value,
				    UINT16_MAX);
	return nr_strings_add(&options->ports, value, error);
}

static int take_vsock(struct nr_options *options, const char *value, struct nr_error *error)
{
	if (value)
		return nr_strings_add(&options->vsocks, value, error);
	options->ports_are_vsock = 1;
	return 0;
}

static int take_unix(struct nr_options *options, const char *value, struct nr_error *error)
{
	if (value[0] == '\0')
		return nr_error_set(error, -EINVAL,
				    "--unix needs a path, or - for a private socket");
	return nr_strings_add(&options->unix_paths, value, error);
}

static int take_unix_mode(struct nr_options *options, const char *value, struct nr_error *error)
{
	unsigned mode = 0;

	for (const char *digit = value; *digit && mode <= MODE_MAX; digit++)
		mode = *digit >= '0' && *digit <= '7' ? mode * 8 + (unsigned)(*digit - '0')
						      : MODE_MAX + 1;
	if (value[0] == '\0' || mode > MODE_MAX)
		return nr_error_set(error, -EINVAL,
				    "--unix-mode=%s is not possible: write an octal number up to "
				    "0777, such as 0660",
				    value);
	options->has_unix_mode = 1;
	options->unix_mode = mode;
	return 0;
}

static int take_interface(struct nr_options *options, const char *value, struct nr_error *error)
{
	if (value[0] == '\0' || strlen(value) >= IFNAMSIZ)
		return nr_error_set(error, -EINVAL,
				    "--interface=%s is no name of a network interface: those have "
				    "from 1 to %d bytes",
				    value, IFNAMSIZ - 1);
	options->interface = value;
	return 0;
}

static int take_manual(struct nr_options *options, const char *value, struct nr_error *error)
{
	options->action = NR_ACTION_MANUAL;
	options->manual_of = value;
	return 0;
}

/* clang-format off */
const struct nr_option nr_option_table[] = {
	{
		.name = "unix", .letter = 'U', .value = "PATH",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_CALL, .take = take_unix,
		.help = "serve on a Unix socket; - makes a private one, @NAME an abstract one; may "
			"be repeated",
		.manual =
"Serve on the Unix socket I<PATH>, and remove it at the end.  May be given more\n"
"than once, and together with B<-p> and B<--vsock>.\n\n"
"A socket file that is left from a server that is gone is replaced, also when two\n"
"servers start at the same moment: one of them gets it.  One on which a server still\n"
"answers, or a file that is no socket, is left alone and the start fails.  The socket\n"
"gets the permissions that the umask leaves, or those of B<--unix-mode>.\n\n"
"With C<-> as I<PATH> the socket gets a random name in a new folder that only this\n"
"user may enter.  Both go at the end.  This is useful with B<--run> and\n"
"B<--print-uri>.\n\n"
"With C<@> and a name as I<PATH> the socket is abstract: it has no file, and goes\n"
"with the server however that ends.  It has no permissions either: every process in\n"
"the same network namespace can connect.  In an NBD URI the C<@> is C<%00>; not every\n"
"client understands that.",
	},
	{
		.name = "unix-mode", .value = "MODE",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_CALL, .take = take_unix_mode,
		.help = "permissions of Unix sockets, in octal; what the umask leaves by default",
		.manual =
"The permissions of the Unix sockets, an octal number such as 0660, whatever the\n"
"umask.  Who may write to a socket may connect to it.  The socket has them from the\n"
"moment it is there.",
	},
	{
		.name = "unix-owner", .value = "USER:GROUP",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT, .offset = FIELD(unix_owner),
		.help = "whom Unix sockets belong to: USER, USER:GROUP or :GROUP",
		.manual =
"Give the Unix sockets to I<USER> and I<GROUP>, names or numbers, either of which can\n"
"be left out (C<USER>, C<:GROUP>).  To give them to another user takes root's powers.\n"
"Nobody can connect before that is done.  The folder of a private socket (B<-U ->) is\n"
"given away too.",
	},
	{
		.name = "port", .letter = 'p', .value = "PORT",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_CALL, .take = take_port,
		.help = "serve on a TCP port; 0 lets the system choose; may be repeated",
		.manual =
"Serve on the TCP port I<PORT>, a number or the name of a service.  May be given\n"
"more than once, and together with B<-U> and B<--vsock>.  Without any of them, B<-s>,\n"
"B<--run> and sockets of systemd the port is 10809.\n\n"
"With 0 the system chooses a free port.  It is logged, and shown by B<--print-uri>\n"
"and as C<$port> in B<--run>.",
	},
	{
		.name = "ipaddr", .aliases = { "ip-addr" }, .letter = 'i', .value = "ADDRESS",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_LIST, .offset = FIELD(addresses),
		.help = "the address that TCP ports are served on; all by default; may be repeated",
		.manual =
"Serve TCP ports on I<ADDRESS> only: an IPv4 or IPv6 address, or a name that leads\n"
"to some.  Given more than once, each port is served on each of the addresses.  By\n"
"default the server listens on every address of the machine.  Without\n"
"B<--tls=require> there is no encryption and no password: choose an address then that\n"
"only the clients can reach.",
	},
	{
		.name = "interface", .value = "NAME",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_CALL, .take = take_interface,
		.help = "serve TCP ports to clients that come by this network interface only",
		.manual =
"Serve TCP ports only to clients that come by the network interface I<NAME>, whatever\n"
"addresses it has now or later.  Together with B<-i> both must fit.",
	},
	{
		.name = "ipv4-only", .letter = '4',
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_SET, .offset = FIELD(family),
		.number = AF_INET,
		.help = "TCP over IPv4 only",
		.manual = "Use IPv4 only for TCP ports.  Of B<-4> and B<-6> the last one counts.",
	},
	{
		.name = "ipv6-only", .letter = '6',
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_SET, .offset = FIELD(family),
		.number = AF_INET6,
		.help = "TCP over IPv6 only",
		.manual = "Use IPv6 only for TCP ports.  Of B<-4> and B<-6> the last one counts.",
	},
	{
		.name = "vsock", .value = "[CID:]PORT", .value_optional = true,
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_CALL, .take = take_vsock,
		.help = "serve on a vsock port, to virtual machines or to their host; may be "
			"repeated",
		.manual =
"Serve on vsock, by which a virtual machine and its host talk without a network.\n\n"
"With a value, serve on the vsock port I<PORT>, a number below 4294967295; 0 lets the\n"
"system choose.  May be given more than once, and together with B<-U> and B<-p>.\n"
"With I<CID> in front only clients that address the machine by that number are served,\n"
"for example C<--vsock=1:10809> for those on the machine itself (which takes the kernel\n"
"module vsock_loopback).\n\n"
"Without a value, it makes the ports of B<-p>, and the port 10809 where there is no\n"
"B<-p>, vsock ports instead of TCP ports.",
	},
	{
		.name = "single", .aliases = { "stdin" }, .letter = 's',
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_SET, .offset = FIELD(single),
		.number = 1,
		.help = "serve one client on standard input and output, then end",
		.manual =
"Serve one client on standard input and output, and end when it has gone.  For\n"
"inetd, for F<ssh> and for clients that start their server themselves.  The server\n"
"stays in the foreground.\n\n"
"A socket that is both standard input and output is used directly.  For anything\n"
"else, such as two pipes, two threads carry the bytes.",
	},
	{
		.name = "selinux-label", .value = "LABEL",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT,
		.offset = FIELD(selinux_label),
		.help = "the SELinux label of the sockets that are listened on",
		.manual =
"Give the sockets that the server listens on the SELinux label I<LABEL>, so that\n"
"confined clients, such as virtual machines under libvirt, may connect:\n"
"C<--selinux-label=system_u:object_r:svirt_socket_t:s0>.  The start fails where there\n"
"is no SELinux.",
	},
	{
		.name = "print-uri", .aliases = { "show-uri", "print-url", "show-url" },
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_SET, .offset = FIELD(print_uri),
		.number = 1,
		.help = "print the address of each listener when ready",
		.manual =
"When clients can connect, print the NBD URI of each listener on standard output,\n"
"one on each line, in the order of the command line (Unix sockets before TCP ports\n"
"before vsock ports).",
	},
	{
		.name = "access", .value = "FILE",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_PATH, .offset = FIELD(access_file),
		.help = "rules that say who may use which export",
		.manual =
"Read from I<FILE> who may use which export, and whether for reading only: see\n"
"L</ACCESS>.  B<SIGHUP> makes the server read it again.",
	},
	{
		.name = "access-rule", .value = "RULE",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_LIST, .offset = FIELD(access_rules),
		.help = "one such rule; may be repeated; they come before those of the file",
		.manual =
"One rule as it could stand in the file of B<--access>.  May be given more than once;\n"
"these rules come before those of the file.",
	},
	{
		.name = "max-connections", .value = "NUMBER[,wait]",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_CALL, .take = nr_take_connections,
		.help = "clients at a time; more are turned away, or wait; 0, the default: any",
		.manual =
"Let in I<NUMBER> clients at a time.  More are turned away: their connection is\n"
"closed, and the log has a line.  With C<,wait> behind the number they wait until\n"
"another one leaves, connected but not answered.  0, the default, is no limit.",
	},
	{
		.name = "max-connections-per-export", .value = "NUMBER",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_CALL, .take = nr_take_per_export,
		.help = "clients of one export at a time; more are refused; 0: any",
		.manual =
"Let in I<NUMBER> clients of an export at a time; more are refused with an error that\n"
"says so.  Asking about the export is always possible.  0, the default, is no limit.",
	},
	{
		.name = "max-connections-per-peer", .value = "NUMBER",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_CALL, .take = nr_take_per_peer,
		.help = "connections from one address or user; more are closed; 0: any",
		.manual =
"Let in I<NUMBER> connections at a time from one address, or, on Unix sockets, from\n"
"one user; more are closed, and the log has a line.  Who has an IPv6 network has many\n"
"addresses.  0, the default, is no limit.",
	},
	{
		.name = "max-handshakes", .value = "NUMBER",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_CALL, .take = nr_take_handshakes,
		.help = "clients that negotiate at a time; more wait; 0, the default: any",
		.manual =
"Negotiate with I<NUMBER> clients at a time.  More wait, connected but not answered,\n"
"until one has finished or its time (B<--handshake-timeout>) is over.  0, the default,\n"
"is no limit.",
	},
	{
		.name = "handshake-timeout", .aliases = { "handshake-limit" }, .value = "SECONDS",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_CALL,
		.take = nr_take_handshake_timeout,
		.help = "how long a client may negotiate; 60 by default; 0: for ever",
		.manual =
"Close the connection of a client that has not finished its negotiation I<SECONDS>\n"
"after it connected.  Time in which it waits for the server, while a disk is opened,\n"
"does not count.  60 by default; 0 is no limit.",
	},
	{
		.name = "keepalive", .value = "IDLE,INTERVAL,COUNT",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_CALL, .take = nr_take_keepalive,
		.help = "look whether silent TCP clients are still there",
		.manual =
"After I<IDLE> seconds in which nothing has come from a TCP client, let the kernel ask\n"
"whether it is still there, every I<INTERVAL> seconds.  When I<COUNT> such questions\n"
"have had no answer the connection is closed.  By default the kernel never asks, and a\n"
"client whose machine has lost its power stays for ever.",
	},
	{
		.name = "filter", .value = "NAME",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_LIST, .offset = FIELD(filters),
		.help = "put a filter in front of the backend; may be repeated, the first is "
			"next to the client",
		.manual =
"Put the filter I<NAME> in front of the backend.  With several, the first one named\n"
"is next to the client and the last one next to the backend.",
	},
	{
		.name = "readonly", .aliases = { "read-only" }, .letter = 'r',
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_SET, .offset = FIELD(read_only),
		.number = 1,
		.help = "serve everything read-only",
		.manual =
"Serve everything read-only: clients are told so, and whatever would change data\n"
"is refused.",
	},
	{
		.name = "foreground", .aliases = { "no-fork" }, .letter = 'f',
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET, .offset = FIELD(foreground),
		.number = 1,
		.help = "stay in the foreground",
		.manual =
"Stay in the foreground.  Without it, and without B<--run>, B<-s> and\n"
"B<--exit-with-parent>, the server goes to the background as soon as clients can\n"
"connect; until then the command waits, so its exit status says whether the start\n"
"succeeded, and messages of the start appear where it was given.",
	},
	{
		.name = "pidfile", .aliases = { "pid-file" }, .letter = 'P', .value = "PATH",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_PATH, .offset = FIELD(pid_file),
		.help = "write the process id here when clients can connect",
		.manual =
"Write the process id to I<PATH> when clients can connect, and remove the file at\n"
"the end if it is still this server's.",
	},
	{
		.name = "run", .value = "COMMAND",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_TEXT, .offset = FIELD(run),
		.help = "run a shell command with $uri set, and end with it",
		.manual =
"Run I<COMMAND> with F</bin/sh> when clients can connect, and end when it ends,\n"
"with its exit status (128 and the signal's number if a signal ended it).  Without\n"
"B<-U>, B<-p> and B<--vsock>, a private socket is used as with B<-U ->.  The server stays in\n"
"the foreground.  Ctrl-C is left to the command.\n\n"
"These shell variables are set.  They are not exported.\n\n"
"=over 4\n\n"
"=item C<$uri>, C<$nbd>\n\n"
"The NBD URI: of the first Unix socket, or else of the first TCP port, or else of the\n"
"first vsock port.  Quote it, since it can hold a C<?>.\n\n"
"=item C<$unixsocket>\n\n"
"The path of the first Unix socket (C<@> and the name of an abstract one), or nothing.\n\n"
"=item C<$port>\n\n"
"The number of the first TCP port, or else of the first vsock port, or nothing.\n\n"
"=item C<$exportname>\n\n"
"What B<-e> gave, or nothing.\n\n"
"=back",
	},
	{
		.name = "exportname", .aliases = { "export", "export-name" }, .letter = 'e',
		.value = "NAME",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_TEXT, .offset = FIELD(export_name),
		.help = "the export that $uri and $exportname name",
		.manual =
"The export that C<$uri>, C<$exportname> and B<--print-uri> name.  It does not\n"
"change what is served.",
	},
	{
		.name = "exit-with-parent",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET,
		.offset = FIELD(exit_with_parent), .number = 1,
		.help = "end when the process that started the server ends",
		.manual =
"End, in order, when the process that started the server ends for whatever reason\n"
"(more exactly: the thread that started it).  The server stays in the foreground.",
	},
	{
		.name = "user", .letter = 'u', .value = "USER",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_TEXT, .offset = FIELD(user),
		.help = "become this user, a name or a number, before disks are opened",
		.manual =
"Become the user I<USER>, a name or a number, and a member of this user's groups and\n"
"no others; only root can.  Sockets, rings, the memory that is registered with them,\n"
"the log file and the pid file are made before, as root.  What the backend and the\n"
"filters open is opened as I<USER>, so a disk that this user may not open is not\n"
"served.\n\n"
"At the end, and when the log file is opened again (B<SIGHUP>), I<USER> needs the right\n"
"to write in the folders of sockets, pid file and log file.  Without it they are left\n"
"where they are, and the log goes on in the file it had.",
	},
	{
		.name = "group", .letter = 'g', .value = "GROUP",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_TEXT, .offset = FIELD(group),
		.help = "become a member of this group, a name or a number",
		.manual =
"Become a member of I<GROUP>, a name or a number, rather than of the main group of\n"
"the user that B<-u> gives; without B<-u>, of this group only.",
	},
	{
		.name = "sandbox", .value = "MODE",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = nr_take_sandbox,
		.help = "auto, the default: as much of it as possible; on: all or no start; off",
		.manual =
"When it serves, the server can do what serving takes and no more: it reaches only\n"
"the files that its command line names (Landlock), connects to nothing, and cannot\n"
"run programs, make sockets or look into other processes (seccomp, and bounds of\n"
"the rings).\n\n"
"C<auto>, the default, does as much of it as the kernel has.  With a filter that runs\n"
"commands (C<logscript=>, C<exit-when-script=>, C<exportdesc=script:>...) there is no\n"
"sandbox, because the commands would be in it; the same goes for modules from outside\n"
"that do not say what they need.  B<-v> tells what came of it.  With C<on> the server\n"
"does not start unless it is all there; C<off> is no sandbox.  The command of B<--run> is\n"
"never in it.",
	},
	{
		.name = "swap",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET, .offset = FIELD(swap),
		.number = 1,
		.help = "lock the server into memory: this machine swaps to its disk",
		.manual =
"For a disk that the same machine swaps to.  All memory of the server is locked, so\n"
"that it never waits for itself.  That takes root, or a high limit (C<ulimit -l>), and\n"
"memory: about 260 MiB for each worker (B<-t>).",
	},
	{
		.name = "exit-last",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET, .offset = FIELD(exit_last),
		.number = 1,
		.help = "end when the last client has left",
		.manual =
"End, in order, when the last client that was served has left.  Those that only ask,\n"
"for the list of exports say, do not count.",
	},
	{
		.name = "exit-idle", .value = "SECONDS",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = nr_take_idle,
		.help = "end when there has been no client for so long; 0, the default: never",
		.manual =
"End, in order, when nobody has been connected for I<SECONDS>, also when nobody has\n"
"come at all.  Whoever connects, for whatever, begins the time anew.  0, the default,\n"
"is never.",
	},
	{
		.name = "threads", .letter = 't', .value = "NUMBER",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = take_workers,
		.help = "worker threads; 0, the default, is one per CPU",
		.manual =
"Serve with I<NUMBER> worker threads, at most 1024; 0, the default, is one for each\n"
"CPU that the server may run on.  A connection stays on one worker, which has many of\n"
"its requests under way at once, so this is no limit of the depth.",
	},
	{
		.name = "spin", .value = "MICROSECONDS",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = take_spin,
		.help = "look for requests for so long before sleeping; 0 by default",
		.manual =
"Before a worker sleeps, it looks for the next request for I<MICROSECONDS>, at most\n"
"10000.  That saves the time to fall asleep and to be woken where a client sends its\n"
"next request as soon as it has the answer to the last one, and costs processor time.\n"
"Workers whose requests come further apart soon stop looking.  20 to 50 is a good\n"
"choice for clients on the same machine or in the same rack.",
	},
	{
		.name = "log", .value = "TARGET",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = nr_take_log,
		.help = "where messages go: stderr, syslog, journal, null or an absolute path",
		.manual =
"Where messages about clients, requests and the server's life go: C<stderr>,\n"
"C<syslog>, C<journal> (systemd's, with fields), C<null> (nowhere), or a file, as a\n"
"path that begins with C</>, to which lines with the time in front are added.  The\n"
"default is standard error in the foreground, or the journal where standard error\n"
"leads to it anyhow (systemd's services), and the system log in the background.\n\n"
"Lines that clients can cause are limited in number; the log says how many were\n"
"left out.  B<SIGHUP> makes the server open its log file again.  While there is no\n"
"system log, as in many containers, what would go there is lost.",
	},
	{
		.name = "name", .value = "NAME",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = nr_take_name,
		.help = "what messages call this server, to tell it from others",
		.manual =
"Begin messages with C<nbdring/>I<NAME> instead of C<nbdring>, on standard error and in\n"
"the system log (where C<journalctl -t nbdring/>I<NAME> finds them), and with I<NAME> in\n"
"a log file, so that one server can be told from another.  I<NAME> is made of letters,\n"
"digits, dots, dashes, and C<_>, C<@>, C<+>.",
	},
	{
		.name = "verbose", .letter = 'v',
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET, .offset = FIELD(verbose),
		.number = 1,
		.help = "say on standard error what is going on",
		.manual =
"Say on standard error what is going on.  These lines go to standard error wherever\n"
"B<--log> points, also from the background, so B<-f> is often wanted with it.",
	},
	{
		.name = "debug", .letter = 'D', .value = "NAME.FLAG=N",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_CALL, .take = nr_take_debug,
		.help = "set a debug flag to a number",
		.manual =
"Set a debug flag to a number.  There are:\n\n"
"=over 4\n\n"
"=item C<nbdring.plan=1>\n\n"
"With B<-v>: name each layer of the stack and the parameters it was given.\n\n"
"=item C<nbdkit.backend.controlpath=N>, C<nbdkit.backend.datapath=N>\n\n"
"Accepted because scripts written for nbdkit use them to silence a line for each\n"
"request; this server has no such lines.\n\n"
"=back",
	},
	{
		.name = "newstyle", .aliases = { "new-style" }, .letter = 'n',
		.group = NR_OPTIONS_PROTOCOL, .kind = NR_OPTION_SET, .offset = FIELD(oldstyle),
		.number = 0,
		.help = "fixed newstyle handshake, the default",
		.manual = "Use the fixed newstyle handshake.  This is the default.",
	},
	{
		.name = "oldstyle", .aliases = { "old-style" }, .letter = 'o',
		.group = NR_OPTIONS_PROTOCOL, .kind = NR_OPTION_SET, .offset = FIELD(oldstyle),
		.number = 1,
		.help = "oldstyle handshake, for ancient clients",
		.manual =
"Use the oldstyle handshake, for ancient clients and for testing.  There are no\n"
"export names, no structured replies and no block status with it.  Port 10809, the\n"
"default, belongs to newstyle servers: name another one with B<-p>, or use B<-U>.",
	},
	{
		.name = "mask-handshake", .value = "MASK",
		.group = NR_OPTIONS_PROTOCOL, .kind = NR_OPTION_CALL, .take = take_mask,
		.help = "offer only these handshake flags",
		.manual =
"Offer only the handshake flags that are also in I<MASK>, a number (C<0x> in front\n"
"makes it hexadecimal): 1 is fixed newstyle, 2 is leaving out the zeroes after an\n"
"export's size.  For testing clients.",
	},
	{
		.name = "no-sr", .aliases = { "no-structured-replies" },
		.group = NR_OPTIONS_PROTOCOL, .kind = NR_OPTION_SET,
		.offset = FIELD(no_structured), .number = 1,
		.help = "offer neither structured replies nor extended headers",
		.manual =
"Offer neither structured replies nor extended headers, and so no block status and\n"
"no sparse reads.  For testing clients.",
	},
	{
		.name = "no-mc", .aliases = { "no-meta-contexts" },
		.group = NR_OPTIONS_PROTOCOL, .kind = NR_OPTION_SET, .offset = FIELD(no_contexts),
		.number = 1,
		.help = "offer no metadata contexts",
		.manual = "Offer no metadata contexts, and so no block status.  For testing clients.",
	},
	{
		.name = "tls", .value = "MODE",
		.group = NR_OPTIONS_TLS, .kind = NR_OPTION_CALL, .take = take_tls,
		.help = "off (the default), on (for clients that ask for it) or require",
		.manual =
"Whether connections are encrypted by TLS: C<off>, the default; C<on>, for clients that\n"
"ask for it; or C<require>, when nothing is answered without.  C<require> is what keeps\n"
"others out: with C<on> whoever is between client and server can make the client\n"
"believe that there is no TLS.\n\n"
"The server needs certificates (B<--tls-certificates>) or pre-shared keys\n"
"(B<--tls-psk>), or both.  TLS 1.2 and 1.3 are spoken.  B<SIGHUP> makes the server read\n"
"certificates and keys again, for connections that come later; if that fails, the log\n"
"says why and the old ones stay in use.",
	},
	{
		.name = "tls-certificates", .value = "FOLDER",
		.group = NR_OPTIONS_TLS, .kind = NR_OPTION_PATH,
		.offset = FIELD(tls_certificates),
		.help = "where server-cert.pem, server-key.pem and ca-cert.pem are",
		.manual =
"The folder with F<server-cert.pem> and F<server-key.pem>, and, if they exist,\n"
"F<ca-cert.pem> (who may sign clients' certificates) and F<ca-crl.pem> (which of them\n"
"are revoked).  Without this option and B<--tls-psk> the folders\n"
"F<$HOME/.pki/nbdring>, F<$HOME/.config/pki/nbdring> (not for root) and\n"
"F</etc/pki/nbdring> are looked at, and then those of nbdkit.",
	},
	{
		.name = "tls-psk", .value = "FILE",
		.group = NR_OPTIONS_TLS, .kind = NR_OPTION_PATH, .offset = FIELD(tls_psk),
		.help = "file of pre-shared keys, as psktool writes it",
		.manual =
"A file of pre-shared keys: on each line the name of a client, a colon, and its key in\n"
"hexadecimal, as L<psktool(1)> writes them.  Keep it from other users.",
	},
	{
		.name = "tls-verify-peer",
		.group = NR_OPTIONS_TLS, .kind = NR_OPTION_SET, .offset = FIELD(tls_verify_peer),
		.number = 1,
		.help = "let only clients in whose certificate a CA in ca-cert.pem has signed",
		.manual =
"Ask clients for a certificate, and end the connection if they have none, or none that\n"
"a CA in F<ca-cert.pem> has signed for a client, or one that is revoked or out of date.\n"
"Without it any client can use TLS.  Clients with a pre-shared key have proved who they\n"
"are already.",
	},
	{
		.name = "tls-priority", .value = "STRING",
		.group = NR_OPTIONS_TLS, .kind = NR_OPTION_TEXT, .offset = FIELD(tls_priority),
		.help = "which versions and ciphers, as GnuTLS writes it",
		.manual =
"Which versions of TLS and which ciphers are acceptable, as a priority string of GnuTLS.\n"
"The default is C<NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2>.  With B<--tls-psk>,\n"
"C<:+ECDHE-PSK:+DHE-PSK:+PSK> is put behind it.",
	},
	{
		.name = "tls-library-records",
		.group = NR_OPTIONS_TLS, .kind = NR_OPTION_SET,
		.offset = FIELD(tls_library_records), .number = 1,
		.help = "leave records of data to GnuTLS, whatever the cipher",
		.manual =
"With AES-GCM and ChaCha20-Poly1305 nbdring puts data into records of TLS by itself and\n"
"uses GnuTLS for the handshake, for encryption and for all other messages, which takes\n"
"less time.  With this option GnuTLS does everything, as it does with other ciphers.",
	},
	{
		.name = "help",
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_HELP,
		.help = "this help; with a backend or filters, their parameters",
		.manual =
"Print a summary of the options, or, with a backend or filters on the command line,\n"
"their parameters.",
	},
	{
		.name = "version", .letter = 'V',
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_VERSION,
		.help = "print the version",
		.manual =
"Print the version, and with a backend or filters on the command line a line for\n"
"each of them.  Fails when one of them does not exist.",
	},
	{
		.name = "list",
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_LIST,
		.help = "list all backends and filters",
		.manual = "List all backends and filters with a phrase about each.",
	},
	{
		.name = "dump-config",
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_DUMP_CONFIG,
		.help = "print what this server is and what the kernel offers, for programs",
		.manual =
"Print lines of C<key=value> for programs: version and paths, what was built in, and\n"
"what an io_uring came to on this kernel.",
	},
	{
		.name = "dump-plugin",
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_DUMP_PLUGIN,
		.help = "print what a backend is, for programs",
		.manual =
"Print lines of C<key=value> about the backend on the command line, for programs.",
	},
	{
		.name = "short-options",
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_SHORT_OPTIONS,
		.help = "list the short options, for completion in shells",
		.manual = "List all short options, one on each line.",
	},
	{
		.name = "long-options",
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_LONG_OPTIONS,
		.help = "list the long options, for completion in shells",
		.manual = "List all long options, one on each line.",
	},
	{
		.name = "manual", .value = "NAME",
		.group = NR_OPTIONS_HIDDEN, .kind = NR_OPTION_CALL, .take = take_manual,
		.help = "print the generated part of a manual page in POD",
		.manual =
"Print in POD the OPTIONS section (C<nbdring>) or the PARAMETERS section of a layer.\n"
"Used when the manual is built.",
	},
	{ .name = NULL },
};
/* clang-format on */
