/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The contract for people who write layers.
 *
 * A layer is a backend (the bottom: it has the bytes) or a filter (in the
 * middle: it changes requests on the way down, answers on the way up).  A
 * stack is a chain of filters over one backend.  A stack is opened once per
 * export and shared by that export's connections; all state of a layer is in
 * its instance, so the same layer may stand twice in one stack and in any
 * number of exports.  What concerns the server as a whole is in memory that the
 * instances of one use of the layer share (nr_shared_data).
 *
 * A layer is data and a few functions: one `struct nr_layer_type`, listed in
 * backends/table.c or filters/table.c.  A slot that is NULL means "nothing to
 * do here": the core passes by at no cost.
 *
 * Rules:
 *
 * 1. `submit`, `done`, `child_done` and `resume` run on the request's worker
 *    and never block.  Each ends in exactly one of three ways:
 *      nr_pass(layer, req)           down to the layer below,
 *      nr_finish(layer, req, error)  up towards the client,
 *      nothing                       the request is parked: the layer has
 *                                    handed it to a ring operation, a job or a
 *                                    list of its own, whose completion calls
 *                                    nr_pass or nr_finish on the same worker,
 *                                    or nr_resume from any thread.
 * 2. Every request is finished exactly once per layer.  nr_finish never calls
 *    back: it queues, and the worker's loop goes on from there.
 * 3. A filter that changes a request in place puts back in `done` what it
 *    changed.  A filter that splits or fans out makes children (nr_child).
 * 4. Instances of NR_SPREAD layers are used by several workers at once; what
 *    they share, they protect.  Instances of NR_HOME layers are used by one.
 */
#ifndef NBDRING_LAYER_H
#define NBDRING_LAYER_H

#include <sys/socket.h>

#include "nbdring/error.h"
#include "nbdring/figure.h"
#include "nbdring/limits.h"
#include "nbdring/param.h"
#include "nbdring/request.h"

#pragma GCC visibility push(default) /* what modules call */

/* Raised whenever a structure or a rule here changes. */
#define NR_LAYER_ABI 12

#define NR_NAME_MAX 4096 /* bytes of an export name (protocol, "String values") */

enum nr_layer_kind { NR_BACKEND, NR_FILTER };

/* Which threads may be inside an instance. */
enum nr_placement {
	NR_SPREAD, /* any worker, several at once */
	NR_HOME,   /* one worker, chosen at open; the export's connections move there */
};

/*
 * What a layer does besides opening the files that its parameters name (param.h), for the
 * sandbox (docs/operations.md), which would not let it.  A layer that is built in and says
 * nothing needs nothing.  A module that says nothing needs all of it, so one that needs
 * nothing says NR_NEEDS_STATED.
 */
#define NR_NEEDS_STATED (1u << 0)
#define NR_NEEDS_FILES (1u << 1)    /* opens files that no parameter names */
#define NR_NEEDS_SOCKETS (1u << 2)  /* makes sockets: connects, listens, asks name servers */
#define NR_NEEDS_PROGRAMS (1u << 3) /* runs other programs, which inherit any restriction */
#define NR_NEEDS_SCRATCH (1u << 4)  /* makes temporary files in nr_scratch_folder() */
#define NR_NEEDS_READER (1u << 5)   /* calls nr_read_below */

/*
 * What a client has proved by TLS.  Text is UTF-8 without NUL and control characters
 * (escaped as RFC 4514 has it); it belongs to the connection and lives as long as it.
 */
struct nr_tls_peer {
	const char *psk_identity; /* NULL: no pre-shared key */
	const char *subject;      /* of its certificate, RFC 4514; NULL: it showed none */
	const char *issuer;       /* the same of who issued it */
	const char *const *names; /* the certificate's alternative names: "DNS:a.example",
				   * "IP:192.0.2.1", "URI:urn:x", "EMAIL:a@b.example" */
	size_t name_count;
};

/*
 * The client that wants in, or is in.  Read-only for layers, but for the two times
 * that `admit` may raise, and what nr_session_data gives them.
 */
struct nr_session {
	uint64_t id;                     /* counts up from 1 in this process */
	const char *export_name;         /* as the client wrote it */
	const char *peer;                /* "unix:pid=12,uid=0" or "127.0.0.1:40022"; for logs */
	struct sockaddr_storage address; /* of the peer; ss_family AF_UNIX for Unix sockets,
					  * AF_UNSPEC when unknown */
	bool has_credentials;            /* the three below are known (Unix sockets) */
	bool gone;              /* the connection is over: long work for it may stop.  For the
				  * worker of its requests only */
	bool admitted;          /* all layers have let it in; false in the `leave` that
				  * follows another layer's refusal */
	uint32_t pid, uid, gid; /* of the peer when it connected */
	const struct nr_tls_peer *tls; /* NULL: the connection is not encrypted */
	/*
	 * How long the client waits, nanoseconds: until it is told that it is in; and, when
	 * it has said goodbye and all is answered, until its connection is closed and
	 * `leave` is called.  0 before `admit`, which may add to them.  Neither keeps the
	 * server from stopping, and one that goes away before it is in is not waited for.
	 */
	uint64_t admit_after, leave_after;
	void *data; /* the core's: room for nr_session_data */
};

/*
 * Bytes that stand for the state of what a backend serves; what they are made of is its
 * own affair.
 */
#define NR_IDENTITY_BYTES 32u

/* Called by `exports` once per export: its name and, or NULL, a description. */
typedef void nr_export_fn(void *context, const char *name, const char *description);

struct nr_layer_type {
	unsigned abi;        /* NR_LAYER_ABI */
	const char *name;    /* as on the command line */
	const char *summary; /* one phrase, no full stop */
	enum nr_layer_kind kind;
	enum nr_placement placement;
	unsigned needs;                /* NR_NEEDS_* */
	const struct nr_param *params; /* NULL: takes none */
	size_t instance_size;          /* state of one use of the layer; zeroed before the
					* parameters are stored */
	size_t request_size;           /* scratch per request, bytes; see nr_scratch */
	size_t session_size;           /* state per client, bytes; see nr_session_data */
	size_t shared_size;            /* state of all exports, bytes; see nr_shared_data */

	const struct nr_figure *figures; /* what it tells of its work; NULL: nothing */

	/* Are the parameters legal together?  No I/O.  Main thread, at start. */
	int (*check)(struct nr_layer *layer, struct nr_error *error);

	/*
	 * The server begins, and ends: called once for this use of the layer, whichever
	 * exports are opened meanwhile; `start` before the first `open`, `stop` after the
	 * last `close`.  For an instance with its parameters that is no export's: it is
	 * never opened and has nothing below.  What the others are to know of it goes
	 * into nr_shared_data.  May block.  On failure nothing stays behind; `stop` is
	 * not called.
	 */
	int (*start)(struct nr_layer *layer, struct nr_error *error);
	void (*stop)(struct nr_layer *layer);

	/*
	 * Get ready to serve the export layer->export_name.  May block; runs on an
	 * offload thread or the main thread, never on a worker.  The layer below
	 * is open already.  On failure nothing stays behind; `close` is not called.
	 */
	int (*open)(struct nr_layer *layer, struct nr_error *error);

	/*
	 * Fill in (backend) or adapt (filter) the traits; after `open`, same thread.
	 * A filter's answer depends on `inout` and its parameters alone: it is asked
	 * again, on any thread, when the size below has changed.
	 */
	int (*describe)(struct nr_layer *layer, struct nr_traits *inout, struct nr_error *error);

	/*
	 * Backends: look again at what may have changed outside, the size.  Called
	 * for each new connection, on a thread that may block, while requests are
	 * under way elsewhere.  NULL: the size is what it was.
	 */
	int (*refresh)(struct nr_layer *layer, uint64_t *size, struct nr_error *error);

	/*
	 * Backends: bytes that are others as soon as the disk is another one or somebody has
	 * changed it, as far as that can be told without reading it; the layer's own writes
	 * change them, too.  While nothing is in flight, as in `open` and `close` of a layer
	 * above.  May block.  False: it cannot tell.  NULL: it never can.
	 */
	bool (*identify)(struct nr_layer *layer, uint8_t identity[NR_IDENTITY_BYTES]);

	/*
	 * Backends that serve several disks (file dir=…): say which, or whether
	 * NAME is one of them (0, or -ENOENT).  May block.  NULL, or -ENOSYS: one
	 * disk, and every name leads to it.
	 *
	 * Filters that find several in the one disk below (xva), too: these calls are for an
	 * instance that is never opened, but nr_below_open opens what is below.  A filter that
	 * says nothing of its own hands on what the nearest layer below with `find` says.  The
	 * name is told to all layers of the stack.
	 */
	int (*exports)(struct nr_layer *layer, nr_export_fn *each, void *context,
		       struct nr_error *error);
	int (*find)(struct nr_layer *layer, const char *name, struct nr_error *error);

	/*
	 * Layers with `find` that have descriptions of exports: EACH is called once, for
	 * NAME, which `find` has accepted.  May block.  NULL: there is none.
	 */
	void (*describe_export)(struct nr_layer *layer, const char *name, nr_export_fn *each,
				void *context);

	/*
	 * Filters that rename exports: the name that the layers below know for NAME,
	 * which `find` has accepted; the filter's memory, or NAME itself.  NULL: the
	 * same.
	 */
	const char *(*name_below)(struct nr_layer *layer, const char *name);

	/*
	 * May this client come in?  Filters of policy refuse with an error whose
	 * text the client is shown.  `leave` follows each successful `admit`.
	 * May not block; any thread.
	 */
	int (*admit)(struct nr_layer *layer, struct nr_session *session, struct nr_error *error);
	void (*leave)(struct nr_layer *layer, struct nr_session *session);

	void (*submit)(struct nr_layer *layer, struct nr_request *req); /* NULL: pass down */
	void (*done)(struct nr_layer *layer, struct nr_request *req);   /* NULL: pass up */
	/*
	 * Filters with `submit` or `done`: NR_EXTENTS goes down and its answer comes up whichever
	 * context it is for (request.h), moved if addresses are, with every status as it is.
	 * Where this is not said, traits.contexts end at the filter.
	 */
	bool contexts_pass;
	bool data_passes; /* `done` neither looks at the data of reads nor changes it: it need
			   * not be in memory (request.h, nr_answer_pipe) */
	bool computes;    /* it calls nr_compute: its stacks have a share of the threads */
	void (*child_done)(struct nr_layer *layer, struct nr_request *child);
	void (*resume)(struct nr_layer *layer, struct nr_request *req); /* after nr_resume */

	/* Nothing is in flight any more.  May block; never on a worker. */
	void (*close)(struct nr_layer *layer);

	/*
	 * Filters: it calls nr_reopen.  Backends: what it serves is outside and stays when it
	 * is closed, so that `close` and `open` may follow each other while the layers above
	 * stay open; `open` finds the instance as `check` has left it.  Such a backend answers
	 * reads with buffers of the core only, has no `admit`, opens no stack and does not
	 * call nr_layer_needs_home.
	 */
	bool reopens;
};

struct nr_layer {
	const struct nr_layer_type *type;
	void *instance;          /* type->instance_size bytes */
	const char *export_name; /* which export this stack serves; "" is the default one */
	bool read_only;          /* the server was told to serve read-only (-r) */
	unsigned worker_count;   /* workers of the server; sizes per-worker data in `open` */
	struct nr_traits traits; /* of this layer, after `describe`; read-only for layers */
	struct nr_layer *below;  /* NULL for the backend */

	/* The core's own. */
	struct {
		struct nr_layer *above;     /* NULL for the topmost */
		struct nr_layer *submit_to; /* nearest below with a submit slot */
		struct nr_layer *done_to;   /* nearest above with a done slot; NULL: the top */
		size_t scratch_offset;
		size_t session_offset;
		void *shared;
		const struct nr_plan *plan;
		unsigned depth;        /* 0: the backend */
		_Atomic uint64_t size; /* traits.size, kept up by refresh and resize */
		struct nr_stack *stack;
		void *parameters; /* memory of the parameters */
		void *image;      /* the instance before `open`, to open it again; NULL: it
				   * stays open */
	} internal;
};

/* Down to the layer below.  Ends submit, done (a second try) or resume. */
void nr_pass(struct nr_layer *layer, struct nr_request *req);

/* Up: ERROR is 0 or negative errno.  A failed read gives its answer back. */
void nr_finish(struct nr_layer *layer, struct nr_request *req, int error);

/*
 * The layer parked REQ; let its worker call type->resume(layer, req) soon.
 * Any thread; never blocks.
 */
void nr_resume(struct nr_layer *layer, struct nr_request *req);

/*
 * The layer's scratch in REQ: type->request_size bytes, aligned to 16, not
 * zeroed; the layer's own from its submit to its last finish.
 */
void *nr_scratch(const struct nr_layer *layer, struct nr_request *req);

/*
 * A child of PARENT for OPERATION on [OFFSET, OFFSET + LENGTH), without data or
 * flags; the caller sets those and ends with nr_pass(layer, child).  When it
 * comes back, type->child_done(layer, child) reads child->error and answer, and
 * ends with nr_child_release(child).  Returns NULL when the worker's pool is
 * exhausted.  Children come from a pool: nothing is allocated.
 */
struct nr_request *nr_child(struct nr_layer *layer, struct nr_request *parent,
			    enum nr_operation operation, uint64_t offset, uint64_t length);
struct nr_request *nr_child_parent(const struct nr_request *child);
void nr_child_release(struct nr_request *child);

/*
 * A request of the layer's own, for no client (session and nr_child_parent are NULL):
 * reading ahead, writing back.  Otherwise like a child: the caller sets data and flags
 * and ends with nr_pass(layer, req); type->child_done(layer, req) follows on the same
 * worker and ends with nr_child_release(req), or parks it first (nr_resume, nr_sleep).
 * Only on WORKER's thread: from submit, done, child_done or resume of a request there.
 *
 * While one exists the export stays open and the server's threads run, so neither
 * should be kept waiting for long.  Returns NULL when memory is short, when the server
 * is stopping, and when the export has no client any more: whoever does background
 * work ends it then, and may begin again with a later request.
 *
 * Releasing may be what the closing of the export waits for, on another thread: let
 * nr_child_release be the last thing done with a background request, and touch
 * neither layer nor instance after it.
 */
struct nr_request *nr_background(struct nr_layer *layer, struct nr_worker *worker,
				 enum nr_operation operation, uint64_t offset, uint64_t length);

/*
 * Park REQ: type->resume(layer, req) is called on its worker when NANOSECONDS have
 * passed.  The request's worker only.
 */
void nr_sleep(struct nr_layer *layer, struct nr_request *req, uint64_t nanoseconds);

/*
 * The layer parked REQ, for a computation that would hold up its worker
 * (decompression): COMPUTE(layer, req) runs on another thread, and may take its time;
 * then type->resume(layer, req) is called on the request's worker.  Until then the
 * request, what it holds and the layer's scratch in it are that thread's.  One
 * computation at a time per request.  There is a thread for each processor, for all
 * layers of the server; further computations wait in order.  The layer's type says
 * `computes`.  The request's worker only; never blocks.
 */
typedef void nr_compute_fn(struct nr_layer *layer, struct nr_request *req);
void nr_compute(struct nr_layer *layer, struct nr_request *req, nr_compute_fn *compute);

/*
 * In `open`: COMPUTE(context, n) for each N below COUNT, on the threads of nr_compute,
 * several at a time and in no order; returns when all have.  Like nr_compute, for layers
 * that `computes`; never on a worker.
 */
void nr_compute_each(struct nr_layer *layer, void (*compute)(void *context, size_t n),
		     void *context, size_t count);

/* Monotonic time of a worker, nanoseconds; cheap.  The worker's thread. */
uint64_t nr_now(struct nr_worker *worker);

/*
 * Park REQ until the backend has been closed and opened anew; then type->resume(layer,
 * req), whether that went well or not.  What other requests have under way in the backend
 * comes back first, and those that come meanwhile wait.  If it cannot be opened, or is not
 * what it was (smaller, or without something that its traits offered), it stays closed and
 * requests fail with -EIO until somebody calls this again.  The layers between stay as
 * they are.
 *
 * SEEN is what nr_reopenings said when REQ went down: where the backend has been opened
 * since, or that was tried, and where it does not reopen, REQ goes on at once.  READ_ONLY:
 * from now on it is opened for reading, and writes fail with -EROFS.
 */
void nr_reopen(struct nr_layer *layer, struct nr_request *req, uint64_t seen, bool read_only);
uint64_t nr_reopenings(const struct nr_layer *layer);

/*
 * The layer's state for SESSION: type->session_size bytes, zeroed before `admit`,
 * there until `leave` has returned.  NULL for the server's own requests (SESSION
 * NULL), and in a stack within a stack, whose layers admit nobody.  Aligned to 16.
 */
void *nr_session_data(const struct nr_layer *layer, const struct nr_session *session);

/*
 * What the instances of this use of the layer have in common, whichever export they
 * are of: type->shared_size bytes, zeroed before `start`, there until `stop` has
 * returned.  Another use of the layer, also in the same stack, has other memory, and
 * so has a stack within a stack.  Several threads use it at once, also in `open` and
 * `close`: atomics protect it.  NULL in `check`.  Aligned to 16.
 */
void *nr_shared_data(const struct nr_layer *layer);

/*
 * Read [OFFSET, OFFSET + LENGTH) of the layer below, waiting for it: for `open`
 * and `describe`-time knowledge such as partition tables.  On the thread of those; never
 * on a worker.  Need not be aligned.  0, or negative errno with a sentence.
 */
int nr_read_below(struct nr_layer *layer, uint64_t offset, uint64_t length, void *data,
		  struct nr_error *error);

/*
 * In `exports`, `find` and `describe_export` of a filter: what is below it, as a stack that is
 * opened for this, with "" for the export's name, and read by nr_below_read, waiting, on the
 * same thread.  That takes as long as opening takes, so what has been found is better kept
 * (nr_shared_data).  Ends with nr_substack_close.  NULL with a sentence.
 */
struct nr_stack *nr_below_open(struct nr_layer *layer, struct nr_error *error);
uint64_t nr_below_size(const struct nr_stack *below);
int nr_below_read(struct nr_stack *below, uint64_t offset, uint64_t length, void *data,
		  struct nr_error *error);

/*
 * What the backend of the layer's stack says of its identity (`identify`), in `open` and
 * `close`: whoever keeps something about a disk beside it can see at the next `open` whether
 * it still fits.  Filters between may show another part of the same disk than then.  False:
 * nobody can tell.
 */
bool nr_identity_below(struct nr_layer *layer, uint8_t identity[NR_IDENTITY_BYTES]);

/*
 * A stack of the layer's own beside the one it is in (a twin to compare with, a
 * leg of a mirror), from words in the grammar of the command line:
 * "--filter=delay rdelay=1 memory 1M".  Opened in `open`, or later on a thread that may
 * block if the layer's placement is NR_HOME; closed in `close`, or where it was opened.
 * Requests to it are children: nr_child_in, then nr_enter; they come back to the
 * layer's child_done.
 */
struct nr_stack *nr_substack_open(struct nr_layer *layer, const char *words,
				  struct nr_error *error);
void nr_substack_close(struct nr_stack *substack);
/*
 * Are WORDS a stack, with parameters that its layers take?  Nothing is opened; if it is not
 * so, opening it later will not do either.
 */
int nr_substack_check(struct nr_layer *layer, const char *words, struct nr_error *error);
const struct nr_traits *nr_substack_traits(const struct nr_stack *substack);
struct nr_request *nr_child_in(struct nr_layer *layer, struct nr_stack *substack,
			       struct nr_request *parent, enum nr_operation operation,
			       uint64_t offset, uint64_t length);
void nr_enter(struct nr_stack *substack, struct nr_request *child);

/*
 * In `open`: this instance is used by one worker, as if its type were NR_HOME.  For a
 * layer that finds out there whether it can be spread.
 */
void nr_layer_needs_home(struct nr_layer *layer);

/*
 * EACH for every figure of every layer of the stack that LAYER is in, from the client's side
 * to the backend's.  Any thread, while LAYER is open or being closed.
 */
typedef void nr_figures_fn(void *context, const struct nr_layer *layer,
			   const struct nr_figure *figure, uint64_t value);
void nr_figures(const struct nr_layer *layer, nr_figures_fn *each, void *context);

/*
 * Where temporary files belong: $TMPDIR if that is set to an absolute path, else /var/tmp.
 * The environment's memory.  Not on a worker.
 */
const char *nr_scratch_folder(void);

/*
 * Ask the server to stop as if by SIGTERM; WHY goes to its log.  Any thread; the
 * first one counts.
 */
void nr_stop_server(struct nr_layer *layer, const char *why);

enum nr_layer_log_level { NR_LAYER_ERROR, NR_LAYER_WARNING, NR_LAYER_INFO, NR_LAYER_DEBUG };

/*
 * Say something to the person who runs the server, in its log: one line (printf
 * style), without the layer's name or the export's, which are put in front.  For what
 * no error tells: something outside has changed, or is not as it should be; not once
 * per request, unless that went wrong.  Lines of layers are limited like those about
 * clients; debug lines are written with -v only.  Any thread; never blocks.
 */
void nr_layer_log(const struct nr_layer *layer, enum nr_layer_log_level level, const char *format,
		  ...) __attribute__((format(printf, 3, 4)));

/* The layer's size changed (NR_RESIZE done): tell the core.  Any thread. */
void nr_layer_resized(struct nr_layer *layer, uint64_t size);

/* The size now, bytes.  Any thread. */
uint64_t nr_layer_size(const struct nr_layer *layer);

#pragma GCC visibility pop

#endif
