/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qemu-nbd's options: what each is here.  The manual's text says of every one whether it
 * is supported, accepted without effect, or refused, and why.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/qemu.h"

#define FIELD(name) offsetof(struct nr_options, name)

static int take_cache(struct nr_options *options, const char *value, struct nr_error *error)
{
	options->qemu.cache = value;
	options->qemu.cache_given++;
	return 0;
}

static int take_no_cache(struct nr_options *options, const char *value, struct nr_error *error)
{
	return take_cache(options, "none", error);
}

/* Known only to be refused: it went with qemu-nbd 6.0. */
static int take_partition(struct nr_options *options, const char *value, struct nr_error *error)
{
	return nr_error_set(error, -EINVAL,
			    "--partition is gone from qemu-nbd; write -o and the partition's "
			    "offset, or nbdring --filter=partition");
}

/* clang-format off */
static const struct nr_option rows[] = {
	{
		.name = "socket", .letter = 'k', .value = "PATH",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.socket),
		.help = "serve on this Unix socket",
		.manual =
"Serve on the Unix socket I<PATH>, which must be absolute.  A socket that another server\n"
"still answers on, or a file that is no socket, is left alone and the start fails; QEMU's\n"
"qemu-nbd removes either of them.",
	},
	{
		.name = "port", .letter = 'p', .value = "PORT",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.port),
		.help = "serve on this TCP port; 10809 by default",
		.manual = "Serve on the TCP port I<PORT>, 10809 by default.",
	},
	{
		.name = "bind", .letter = 'b', .value = "ADDRESS",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.bind),
		.help = "serve on this address; 0.0.0.0 by default",
		.manual =
"Serve the TCP port on I<ADDRESS> only.  The default is 0.0.0.0, all IPv4 addresses.",
	},
	{
		.name = "connect", .letter = 'c', .value = "DEVICE",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.connect),
		.help = "refused: nbd-client connects kernel devices",
		.manual =
"Refused.  To have the image as a kernel device, serve it on a socket, and connect the\n"
"device with L<nbd-client(8)>:\n\n"
" qemu-nbd --fork -t -k /run/disk.sock -f raw disk.img\n"
" nbd-client -unix /run/disk.sock /dev/nbd0",
	},
	{
		.name = "disconnect", .letter = 'd', .value = "DEVICE",
		.group = NR_OPTIONS_LISTENING, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.disconnect),
		.help = "refused: nbd-client -d disconnects kernel devices",
		.manual = "Refused.  C<nbd-client -d DEVICE> disconnects a kernel device.",
	},
	{
		.name = "shared", .letter = 'e', .value = "NUMBER",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.shared),
		.help = "clients at a time, 1 by default, further ones wait; 0: any number",
		.manual =
"Serve I<NUMBER> clients at a time, 1 by default; further ones wait until one has left.\n"
"0 is no limit.  Only with another number than 1 are clients told that they may use\n"
"several connections.",
	},
	{
		.name = "persistent", .letter = 't',
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(qemu.persistent),
		.help = "do not end when the last client has left",
		.manual =
"Do not end when the last client has left.  Without it the server does so, with exit\n"
"status 0; clients that only ask for the list of exports do not count.",
	},
	{
		.name = "export-name", .letter = 'x', .value = "NAME",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.export_name),
		.help = "the export's name; empty by default",
		.manual =
"What the export is called, by default nothing.  Clients that ask for another name are\n"
"refused.",
	},
	{
		.name = "description", .letter = 'D', .value = "TEXT",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.description),
		.help = "the export's description",
		.manual = "A description of the export, for those who ask for the list or for it.",
	},
	{
		.name = "handshake-limit", .value = "SECONDS",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.limit),
		.help = "how long clients may negotiate; 10 by default; 0: for ever",
		.manual =
"Close the connection of a client that has not finished its negotiation after\n"
"I<SECONDS>, 10 by default.  0 is no limit.",
	},
	{
		.name = "tls-creds", .value = "ID",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.tls_creds),
		.help = "the object with the credentials of TLS, which is required then",
		.manual = "Require TLS, with the credentials of the object I<ID> (B<--object>).",
	},
	{
		.name = "tls-authz", .value = "ID",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.tls_authz),
		.help = "the object that says which clients' certificates are let in",
		.manual =
"Let in clients that the object I<ID> allows (B<--object>).  What they are told otherwise\n"
"is that there is no such export.",
	},
	{
		.name = "tls-hostname", .value = "NAME",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.tls_hostname),
		.help = "refused: it belongs to -L",
		.manual = "Refused, since it belongs to B<--list>.",
	},
	{
		.name = "object", .value = "TYPE,id=ID,...",
		.group = NR_OPTIONS_CLIENTS, .kind = NR_OPTION_LIST, .offset = FIELD(qemu.objects),
		.help = "an object that other options refer to",
		.manual =
"An object that other options refer to by its I<ID>:\n\n"
"=over 4\n\n"
"=item B<tls-creds-x509,id=>I<ID>B<,endpoint=server,dir=>I<FOLDER>\n\n"
"For B<--tls-creds>: F<ca-cert.pem>, F<server-cert.pem>, F<server-key.pem> and, if there is\n"
"one, F<ca-crl.pem> in I<FOLDER>.  Clients have to show a certificate that the CA has\n"
"signed, unless C<verify-peer=no> is added.  C<priority> is supported, C<sanity-check>\n"
"accepted without effect, C<passwordid> refused.\n\n"
"=item B<tls-creds-psk,id=>I<ID>B<,endpoint=server,dir=>I<FOLDER>\n\n"
"For B<--tls-creds>: the keys in I<FOLDER>F</keys.psk>.\n\n"
"=item B<authz-simple,id=>I<ID>B<,identity=>I<NAME>\n\n"
"For B<--tls-authz>: only clients with this name in their certificate are let in.  Commas\n"
"in I<NAME> are doubled.\n\n"
"=item B<authz-list,id=>I<ID>B<,policy=deny,rules.0.match=>I<NAME>B<,rules.0.policy=allow>...\n\n"
"For B<--tls-authz>: the first rule with the client's name decides, or the policy behind\n"
"them.  Only C<format=exact> is supported.\n\n"
"=item B<secret>, B<tls-creds-anon>, B<authz-list-file>, B<authz-pam>\n\n"
"Accepted, and refused where an option uses them.\n\n"
"=back",
	},
	{
		.name = "format", .letter = 'f', .value = "FORMAT",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.format),
		.help = "the image's format; only raw is possible",
		.manual =
"The format of the image.  C<raw> is the only one so far, for which C<file> and\n"
"C<host_device> may stand.  QEMU's other formats (C<qcow2>, C<vmdk> and so on) are\n"
"refused.  A size that is no multiple of 512 bytes is rounded up, and the bytes that the\n"
"image does not have are zero and stay so.\n\n"
"Without it, an image that begins like one in another format is refused, and any other\n"
"is served as raw, with a warning.  Block 0 is not protected then, as it is by QEMU's\n"
"qemu-nbd: what a client writes there makes the next start fail, at worst.",
	},
	{
		.name = "image-opts",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(qemu.image_opts),
		.help = "the image's name is a list of options",
		.manual =
"I<IMAGE> is a list of options: C<driver>, C<file.driver>, C<file.filename>, C<filename>,\n"
"C<offset>, C<size>, C<read-only>, C<cache.direct>, C<cache.no-flush>, C<aio>,\n"
"C<discard>, C<detect-zeroes>, C<locking>.  C<node-name>, C<backing>, C<auto-read-only>,\n"
"C<force-share>, C<cache.writeback>, C<drop-cache> and C<aio-max-batch> are\n"
"accepted without effect; all others are refused.  The same goes for an I<IMAGE> that\n"
"begins with C<json:>.",
	},
	{
		.name = "offset", .letter = 'o', .value = "BYTES",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.offset),
		.help = "leave out so many bytes at the beginning of the image",
		.manual = "Leave out I<BYTES>, a number, at the beginning of the image.",
	},
	{
		.name = "read-only", .letter = 'r',
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(read_only),
		.help = "serve the image read-only",
		.manual =
"Serve the image read-only.  Without it, one that cannot be opened for writing is\n"
"refused.",
	},
	{
		.name = "snapshot", .letter = 's',
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(qemu.snapshot),
		.help = "keep what is written in a temporary file, not in the image",
		.manual =
"Keep what is written in a temporary file in the folder that the environment variable\n"
"C<TMPDIR> names, or in F</var/tmp>; it is gone when the server ends.  The image is only\n"
"read, by any number of servers.",
	},
	{
		.name = "load-snapshot", .letter = 'l', .value = "SNAPSHOT",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.load),
		.help = "refused: raw images have no snapshots in them",
		.manual = "Refused, as raw images have no snapshots in them.",
	},
	{
		.name = "allocation-depth", .letter = 'A',
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(qemu.depth),
		.help = "accepted without effect: a raw image has one depth only",
		.manual =
"Accepted without effect: the context C<qemu:allocation-depth> is not offered.  Of a raw\n"
"image, which has nothing below it, it would say nothing; clients that ask for it have\n"
"to do without, as with any server that does not have it.",
	},
	{
		.name = "bitmap", .letter = 'B', .value = "NAME",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_LIST, .offset = FIELD(qemu.bitmaps),
		.help = "refused: raw images have no bitmaps in them",
		.manual = "Refused, as raw images have no bitmaps in them.",
	},
	{
		.name = "cache", .value = "MODE",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_CALL, .take = take_cache,
		.help = "writeback (the default), none, writethrough, directsync or unsafe",
		.manual =
"=over 4\n\n"
"=item B<writeback>\n\nThrough the page cache.  The default.\n\n"
"=item B<none>\n\nPast the page cache, where the file system can.\n\n"
"=item B<writethrough>, B<directsync>\n\n"
"The same two, with each write on stable storage before it is answered.\n\n"
"=item B<unsafe>\n\nThrough the page cache, and flushes are not done.\n\n"
"=back",
	},
	{
		.name = "nocache", .letter = 'n',
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_CALL, .take = take_no_cache,
		.help = "the same as --cache=none",
		.manual = "The same as C<--cache=none>.",
	},
	{
		.name = "aio", .value = "MODE",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.aio),
		.help = "accepted without effect: I/O is always done by io_uring",
		.manual =
"C<threads>, C<native> or C<io_uring>, accepted without effect: I/O is always done by\n"
"io_uring.  As with QEMU, C<native> needs C<--cache=none> or C<directsync>.",
	},
	{
		.name = "discard", .value = "MODE",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_TEXT, .offset = FIELD(qemu.discard),
		.help = "whether trimming gives space back: ignore (the default) or unmap",
		.manual =
"C<ignore> or C<off>, the default: clients may trim, but the image keeps its space.\n"
"C<unmap> or C<on>: it is given back.",
	},
	{
		.name = "detect-zeroes", .value = "MODE",
		.group = NR_OPTIONS_LAYERS, .kind = NR_OPTION_TEXT,
		.offset = FIELD(qemu.detect_zeroes),
		.help = "whether writes of zeroes become requests to zero: off, on or unmap",
		.manual =
"Whether writes of zeroes become requests to zero: C<off>, the default, C<on>, or\n"
"C<unmap>, which makes holes and needs C<--discard=unmap>.",
	},
	{
		.name = "partition", .letter = 'P', .value = "NUMBER",
		.group = NR_OPTIONS_HIDDEN, .kind = NR_OPTION_CALL, .take = take_partition,
		.help = "refused: gone from qemu-nbd, too",
		.manual = "Refused, as by QEMU's qemu-nbd since version 6.0.",
	},
	{
		.name = "fork",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(qemu.fork),
		.help = "go to the background when clients can connect",
		.manual =
"Go to the background when clients can connect; until then the command waits, and its\n"
"exit status says whether the start succeeded.  Without B<-v>, messages go to the\n"
"system log from then on.",
	},
	{
		.name = "pid-file", .value = "PATH",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_PATH, .offset = FIELD(pid_file),
		.help = "write the process id here when clients can connect",
		.manual =
"Write the process id to I<PATH> when clients can connect.  The file is removed at the\n"
"end; QEMU's qemu-nbd leaves it.",
	},
	{
		.name = "selinux-label", .value = "LABEL",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_TEXT, .offset = FIELD(selinux_label),
		.help = "what SELinux calls the socket",
		.manual = "Give the socket this label of SELinux, where the build can.",
	},
	{
		.name = "verbose", .letter = 'v',
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(verbose),
		.help = "say on standard error what is going on",
		.manual = "Say on standard error what is going on, also from the background.",
	},
	{
		.name = "trace", .letter = 'T', .value = "PATTERN",
		.group = NR_OPTIONS_PROCESS, .kind = NR_OPTION_LIST, .offset = FIELD(qemu.traces),
		.help = "accepted without effect: there are no trace points",
		.manual = "Accepted without effect: there are no trace points.",
	},
	{
		.name = "list", .letter = 'L',
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .number = 1,
		.offset = FIELD(qemu.list),
		.help = "refused: nbdinfo --list shows what a server has",
		.manual =
"Refused.  C<nbdinfo --list URI> (L<nbdinfo(1)>) shows the exports of a server.",
	},
	{
		.name = "help", .letter = 'h',
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_HELP,
		.help = "this help",
		.manual = "Print a summary of the options.",
	},
	{
		.name = "version", .letter = 'V',
		.group = NR_OPTIONS_INFORMATION, .kind = NR_OPTION_SET, .offset = FIELD(action),
		.number = NR_ACTION_VERSION,
		.help = "print the version",
		.manual =
"Print the version of qemu-nbd whose options these are, and that of nbdring.",
	},
	{ .name = NULL },
};
/* clang-format on */

const struct nr_option_set nr_qemu_option_set = { .program = "qemu-nbd", .rows = rows };
