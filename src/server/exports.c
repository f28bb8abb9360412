/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The export table.
 *
 * The table is shared by all shards and guarded by one mutex, which is held for
 * look-ups only: what blocks (opening, refreshing, listing, closing) runs on
 * offload threads without it.  An export being opened or closed is in the table
 * in that state, and whoever wants the same name waits for the outcome on an
 * offload thread.
 *
 * An export's last user gives it back on a shard, where it is flushed before it
 * is closed.  Until the closing itself begins, on an offload thread, the export is
 * open, and whoever comes back meanwhile has it again: nobody waits on an offload
 * thread for something that still needs one.
 */
#include "src/server/exports.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/log/log.h"
#include "src/protocol/wire.h"
#include "src/server/server-internal.h"
#include "src/stack/shared.h"
#include "src/stack/worker.h"

enum export_state { EXPORT_OPENING, EXPORT_OPEN, EXPORT_CLOSING };

struct nr_export {
	struct nr_exports *table;
	struct nr_export *next;
	struct nr_stack *stack;
	char *name;
	unsigned users;   /* clients, and background requests */
	unsigned clients; /* who have been let in */
	unsigned kept;    /* of them: background requests */
	enum export_state state;
	bool permanent; /* the one disk of a plan that has one */
	bool leaving;   /* flush and close are under way, unless somebody comes back */
	bool came_back; /* somebody has, since the flush began */
	int home;
	struct nr_keeper keeper;
	struct nr_job close_job;
};

/* The flush of everything, at the end. */
struct last_flush {
	void (*done)(void *context, int error);
	void *context;
	unsigned pending;
	int error;
};

struct nr_exports {
	struct nr_plan plan; /* with what its stacks share, which is ours */
	struct nr_offload *offload;
	struct nr_stack *prepared; /* knows the names; never opened */
	bool many;
	pthread_mutex_t mutex; /* guards the list and all states and users */
	pthread_cond_t changed;
	struct nr_export *list;
	unsigned next_home;
	struct nr_server *server;
	struct last_flush last_flush;
};

/* What clients are told. */

static const struct {
	enum nr_capability capability;
	bool writes; /* of no use on a read-only export */
	uint16_t flag;
} capability_flags[] = {
	{ NR_CAP_FLUSH, false, NBD_FLAG_SEND_FLUSH },
	{ NR_CAP_FUA, false, NBD_FLAG_SEND_FUA },
	{ NR_CAP_TRIM, true, NBD_FLAG_SEND_TRIM },
	{ NR_CAP_ZERO, true, NBD_FLAG_SEND_WRITE_ZEROES },
	{ NR_CAP_FAST_ZERO, true, NBD_FLAG_SEND_FAST_ZERO },
	{ NR_CAP_CACHE, false, NBD_FLAG_SEND_CACHE },
	{ NR_CAP_RESIZE, true, NBD_FLAG_SEND_RESIZE },
};

static void make_info(const struct nr_stack *stack, bool read_only, struct nr_export_info *info)
{
	const struct nr_traits *traits = nr_stack_traits(stack);

	read_only = read_only || traits->read_only;
	*info = (struct nr_export_info){
		.size = nr_stack_size(stack),
		.flags = NBD_FLAG_HAS_FLAGS,
		.block_min = traits->block_min,
		.block_preferred = traits->block_preferred,
		.block_max = traits->advertised_max ? traits->advertised_max : NR_PAYLOAD_MAX,
	};
	if (read_only)
		info->flags |= NBD_FLAG_READ_ONLY;
	if (traits->rotational)
		info->flags |= NBD_FLAG_ROTATIONAL;
	if (traits->multi_conn)
		info->flags |= NBD_FLAG_CAN_MULTI_CONN;
	for (size_t i = 0; i < sizeof(capability_flags) / sizeof(capability_flags[0]); i++)
		if (traits->support[capability_flags[i].capability] != NR_NONE &&
		    !(capability_flags[i].writes && read_only))
			info->flags |= capability_flags[i].flag;
}

/* The table; the mutex is held. */

static struct nr_export *look_up(struct nr_exports *t, const char *name)
{
	struct nr_export *e = t->list;

	while (e && strcmp(e->name, name) != 0)
		e = e->next;
	return e;
}

bool nr_exports_many(const struct nr_exports *t)
{
	return t->many;
}

unsigned nr_exports_count(struct nr_exports *t)
{
	unsigned count = 0;

	pthread_mutex_lock(&t->mutex);
	for (const struct nr_export *e = t->list; e; e = e->next)
		count++;
	pthread_mutex_unlock(&t->mutex);
	return count;
}

static void take_out(struct nr_exports *t, struct nr_export *e)
{
	struct nr_export **at = &t->list;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	pthread_cond_broadcast(&t->changed);
}

static void free_export(struct nr_export *e)
{
	free(e->name);
	free(e);
}

static struct nr_export *put_in(struct nr_exports *t, const char *name)
{
	struct nr_export *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->name = strdup(name);
	if (!e->name) {
		free(e);
		return NULL;
	}
	e->table = t;
	e->state = EXPORT_OPENING;
	e->users = 1;
	e->permanent = !t->many;
	e->next = t->list;
	t->list = e;
	return e;
}

/* Opening; a thread that may block. */

static bool keep(struct nr_keeper *keeper);
static void let_go(struct nr_keeper *keeper, struct nr_worker *worker);

static int open_new(struct nr_exports *t, struct nr_export *e, struct nr_error *error)
{
	int err;

	pthread_mutex_unlock(&t->mutex);
	err = nr_stack_open(&e->stack, &t->plan, e->name, error);
	pthread_mutex_lock(&t->mutex);
	if (err) {
		take_out(t, e);
		free_export(e);
		return err;
	}
	e->keeper = (struct nr_keeper){ keep, let_go };
	nr_stack_set_keeper(e->stack, &e->keeper);
	e->home = -1;
	if (nr_stack_placement(e->stack) == NR_HOME)
		e->home = (int)(t->next_home++ % t->plan.worker_count);
	e->state = EXPORT_OPEN;
	pthread_cond_broadcast(&t->changed);
	return 0;
}

/* A reference to the export NAME, opened if need be. */
static int acquire(struct nr_exports *t, const char *name, struct nr_export **out,
		   struct nr_error *error)
{
	struct nr_export *e;
	int err = 0;

	pthread_mutex_lock(&t->mutex);
	while ((e = look_up(t, name)) != NULL && e->state != EXPORT_OPEN)
		pthread_cond_wait(&t->changed, &t->mutex);
	if (e) {
		e->users++;
		e->came_back = true;
		pthread_mutex_unlock(&t->mutex);
		err = nr_stack_refresh(e->stack, error);
		if (err) {
			/* Not the last user's business: others go on with what they have. */
			nr_log_about(NR_LOG_WARNING, NR_LOG_CLIENT,
				     &(struct nr_log_fields){ .export_name = name, .error = -err },
				     "export '%s': %s", name, error->text);
		}
		*out = e;
		return 0;
	}
	e = put_in(t, name);
	err = e ? open_new(t, e, error) : nr_error_system(error, -ENOMEM, "export '%s'", name);
	pthread_mutex_unlock(&t->mutex);
	*out = e;
	return err;
}

/* Closing. */

static void run_close(struct nr_job *job)
{
	struct nr_export *e =
		(struct nr_export *)((char *)job - offsetof(struct nr_export, close_job));
	bool over;

	pthread_mutex_lock(&e->table->mutex);
	/* Somebody who came back may have gone again: what he wrote is not flushed. */
	over = e->users == 0 && !e->came_back;
	if (over)
		e->state = EXPORT_CLOSING;
	pthread_mutex_unlock(&e->table->mutex);
	if (!over)
		return;
	nr_stack_close(e->stack);
	e->stack = NULL;
	pthread_mutex_lock(&e->table->mutex);
	take_out(e->table, e);
	pthread_mutex_unlock(&e->table->mutex);
}

static void let_leave(struct nr_export *e, struct nr_worker *worker);

static void closed(struct nr_job *job)
{
	struct nr_export *e =
		(struct nr_export *)((char *)job - offsetof(struct nr_export, close_job));
	struct nr_server *server = e->table->server;
	struct nr_shard *shard = nr_ring_context(job->home);
	bool again = false;

	if (!e->stack) {
		free_export(e);
	} else {
		pthread_mutex_lock(&e->table->mutex);
		again = e->users == 0;
		e->leaving = again;
		e->came_back = false;
		pthread_mutex_unlock(&e->table->mutex);
	}
	if (again)
		let_leave(e, &shard->worker);
	nr_server_let_go(server);
}

/* A flush of the server's own: in front of the request, who waits for it. */
struct flush {
	void (*done)(struct nr_export *e, struct nr_worker *worker, int error, void *context);
	struct nr_export *export;
	void *context;
	void *unused; /* keeps what follows aligned */
};

static void flushed(struct nr_request *req)
{
	struct flush *flush = (struct flush *)((char *)req - sizeof(*flush)), copy = *flush;
	struct nr_worker *worker = req->worker;
	int error = req->error;

	if (error)
		nr_log_about(NR_LOG_ERROR, NR_LOG_SERVER,
			     &(struct nr_log_fields){ .export_name = copy.export->name,
						      .error = -error },
			     "export '%s': the last flush failed: %s", copy.export->name,
			     strerror(-error));
	nr_request_release(req, sizeof(*flush));
	copy.done(copy.export, worker, error, copy.context);
}

static void flush_export(struct nr_export *e, struct nr_worker *worker,
			 void (*done)(struct nr_export *, struct nr_worker *, int, void *),
			 void *context)
{
	const struct nr_traits *traits = nr_stack_traits(e->stack);
	struct nr_request *req = NULL;
	struct flush *flush;

	static_assert(sizeof(struct flush) % 16 == 0, "the request behind it is aligned");
	if (!traits->read_only && traits->support[NR_CAP_FLUSH] != NR_NONE)
		req = nr_request_get(worker, e->stack, sizeof(*flush));
	if (!req) {
		done(e, worker, 0, context);
		return;
	}
	flush = (struct flush *)((char *)req - sizeof(*flush));
	flush->done = done;
	flush->export = e;
	flush->context = context;
	req->operation = NR_FLUSH;
	req->internal.finished = flushed;
	nr_stack_submit(e->stack, req);
}

static void close_after_flush(struct nr_export *e, struct nr_worker *worker, int error,
			      void *context)
{
	e->close_job.run = run_close;
	e->close_job.done = closed;
	e->close_job.home = worker->ring;
	nr_offload_submit(e->table->offload, &e->close_job);
}

/* Nobody uses E: flush it, then close it.  Its `leaving` is set, by the caller. */
static void let_leave(struct nr_export *e, struct nr_worker *worker)
{
	nr_server_hold(e->table->server);
	flush_export(e, worker, close_after_flush, NULL);
}

/* Give a reference back; a shard's thread. */
static void put_back(struct nr_export *e, struct nr_worker *worker)
{
	struct nr_exports *t = e->table;
	bool last;

	pthread_mutex_lock(&t->mutex);
	assert(e->users > 0);
	last = --e->users == 0 && !e->permanent && !e->leaving;
	if (last) {
		e->leaving = true;
		e->came_back = false;
	}
	pthread_mutex_unlock(&t->mutex);
	if (last)
		let_leave(e, worker);
}

/* Background requests of the layers; shards' threads. */

static struct nr_export *export_of(struct nr_keeper *keeper)
{
	return (struct nr_export *)((char *)keeper - offsetof(struct nr_export, keeper));
}

/*
 * Only while there is a client: that one holds the server, too, so that it cannot end
 * between the question and our own hold.
 */
static bool keep(struct nr_keeper *keeper)
{
	struct nr_export *e = export_of(keeper);
	bool may;

	if (nr_server_is_stopping(e->table->server))
		return false;
	pthread_mutex_lock(&e->table->mutex);
	may = e->users > e->kept;
	if (may) {
		nr_server_hold(e->table->server);
		e->users++;
		e->kept++;
	}
	pthread_mutex_unlock(&e->table->mutex);
	return may;
}

static void let_go(struct nr_keeper *keeper, struct nr_worker *worker)
{
	struct nr_export *e = export_of(keeper);
	struct nr_server *server = e->table->server;

	pthread_mutex_lock(&e->table->mutex);
	assert(e->kept > 0);
	e->kept--;
	pthread_mutex_unlock(&e->table->mutex);
	put_back(e, worker);
	nr_server_let_go(server);
}

/* Clients; only those who use the export, not those who ask about it. */

static int let_in(struct nr_export *e, struct nr_session *session, struct nr_error *error)
{
	unsigned most = nr_server_config(e->table->server)->limits.per_export;
	bool is_full;
	int err;

	pthread_mutex_lock(&e->table->mutex);
	is_full = most && e->clients >= most;
	e->clients += !is_full;
	pthread_mutex_unlock(&e->table->mutex);
	if (is_full)
		return nr_error_set(error, -EACCES,
				    "this export has as many clients as it may have");
	err = nr_stack_admit(e->stack, session, error);
	if (err) {
		pthread_mutex_lock(&e->table->mutex);
		e->clients--;
		pthread_mutex_unlock(&e->table->mutex);
	}
	return err;
}

void nr_export_leave(struct nr_export *e, struct nr_session *session, struct nr_worker *worker)
{
	nr_stack_leave(e->stack, session);
	pthread_mutex_lock(&e->table->mutex);
	assert(e->clients > 0);
	e->clients--;
	pthread_mutex_unlock(&e->table->mutex);
	put_back(e, worker);
}

struct nr_stack *nr_export_stack(const struct nr_export *e)
{
	return e->stack;
}

int nr_export_home(const struct nr_export *e)
{
	return e->home;
}

/* Tickets. */

static uint32_t refusal_of(const struct nr_ticket *ticket, int error)
{
	/* SELECTIVETLS: this answer is for INFO and GO alone. */
	if (ticket->verdict == NR_ACCESS_NEEDS_TLS)
		return ticket->purpose == NR_EXPORT_CONTEXTS ? NBD_REP_ERR_POLICY
							     : NBD_REP_ERR_TLS_REQD;
	switch (error) {
	case -ENOENT:
		return NBD_REP_ERR_UNKNOWN;
	case -EACCES:
	case -EPERM:
		return NBD_REP_ERR_POLICY;
	case -ESHUTDOWN:
		return NBD_REP_ERR_SHUTDOWN;
	default:
		return NBD_REP_ERR_PLATFORM;
	}
}

/* Names are collected for the client of a view. */
struct listing {
	struct nr_ticket *ticket;
	const struct nr_access_view *view;
};

/* A name may be another one's alias (filter exportname): then both have to be allowed. */
static bool may_see(const struct listing *l, const char *name)
{
	struct nr_exports *t = l->ticket->exports;
	const char *below;

	if (!l->view->access)
		return true;
	if (nr_access_decide(l->view, name).verdict < NR_ACCESS_READ_ONLY)
		return false;
	below = t->many ? nr_stack_backend_name(t->prepared, name) : name;
	return strcmp(below, name) == 0 ||
	       nr_access_decide(l->view, below).verdict >= NR_ACCESS_READ_ONLY;
}

static void collect_name(void *context, const char *name, const char *description)
{
	const struct listing *l = context;
	struct nr_ticket *ticket = l->ticket;

	if (!may_see(l, name))
		return;

	if (ticket->name_count == ticket->name_room) {
		size_t room = ticket->name_room ? ticket->name_room * 2 : 16;
		char **more = realloc(ticket->names, 2 * room * sizeof(*more));

		if (!more)
			return;
		ticket->names = more;
		ticket->name_room = room;
	}
	ticket->names[2 * ticket->name_count] = strdup(name);
	if (!ticket->names[2 * ticket->name_count])
		return;
	ticket->names[2 * ticket->name_count + 1] = description ? strdup(description) : NULL;
	ticket->name_count++;
}

static int list_names(struct nr_ticket *ticket, const struct nr_access_view *view)
{
	struct listing l = { ticket, view };

	return nr_stack_exports(ticket->exports->prepared, collect_name, &l, &ticket->error);
}

/*
 * Do the rules let the ticket's client use the export called NAME?  Asked more than
 * once, the strictest answer counts.  What is denied is answered in the words for
 * what does not exist (docs/decisions/0016).
 */
static int obey_rules(struct nr_ticket *ticket, const struct nr_access_view *view, const char *name)
{
	struct nr_access_decision decision;

	if (!view->access)
		return 0;
	decision = nr_access_decide(view, name);
	if (ticket->access[0] && decision.verdict >= ticket->verdict)
		return 0;
	ticket->verdict = decision.verdict;
	nr_access_explain(&decision, ticket->access, sizeof(ticket->access));
	if (decision.verdict == NR_ACCESS_DENIED)
		return -ENOENT;
	if (decision.verdict == NR_ACCESS_NEEDS_TLS)
		return nr_error_set(&ticket->error, -EACCES, "this export is served over TLS only");
	return 0;
}

/* The export that the ticket names, opened; *E holds a reference. */
static int look_for(struct nr_exports *t, struct nr_ticket *ticket,
		    const struct nr_access_view *view, struct nr_export **e)
{
	const char *name;
	int err = obey_rules(ticket, view, ticket->name);

	if (!err)
		err = nr_stack_find(t->prepared, ticket->name, &name, &ticket->error);
	if (!err && t->many && strcmp(name, ticket->name) != 0)
		err = obey_rules(ticket, view, name);
	if (!err)
		err = acquire(t, name, e, &ticket->error);
	if (err == -ENOENT && view->access)
		nr_error_set(&ticket->error, -ENOENT, "there is no such export");
	return err;
}

static int add_context(struct nr_ticket *ticket, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return nr_error_system(&ticket->error, -ENOMEM, "metadata contexts");
	ticket->contexts[ticket->context_count++] = copy;
	return 0;
}

/* The stack may be closed before they are told. */
static int copy_contexts(struct nr_ticket *ticket, const struct nr_traits *traits)
{
	int err;

	static_assert(NR_CONTEXTS_LISTED_MAX + 1 <= NR_CONTEXTS_MAX, "all have a place");
	if (traits->support[NR_CAP_EXTENTS] == NR_NONE)
		return 0;
	err = add_context(ticket, NBD_BASE_ALLOCATION);
	for (uint32_t i = 0; !err && i < traits->context_count; i++)
		err = add_context(ticket, traits->contexts[i]);
	return err;
}

/* Without memory it has none. */
static void take_description(void *context, const char *name, const char *description)
{
	struct nr_ticket *ticket = context;

	if (description && !ticket->description)
		ticket->description = strdup(description);
}

static void answer_ticket(struct nr_ticket *ticket, const struct nr_access_view *view)
{
	struct nr_exports *t = ticket->exports;
	struct nr_export *e = NULL;
	int err;

	if (ticket->listing) {
		err = list_names(ticket, view);
		ticket->refusal = err ? refusal_of(ticket, err) : 0;
		return;
	}
	err = look_for(t, ticket, view, &e);
	if (!err) {
		ticket->export = e;
		make_info(e->stack, ticket->verdict == NR_ACCESS_READ_ONLY, &ticket->info);
		err = copy_contexts(ticket, nr_stack_traits(e->stack));
		if (!err && ticket->purpose == NR_EXPORT_GO)
			err = let_in(e, ticket->session, &ticket->error);
		if (err)
			ticket->purpose = NR_EXPORT_INFO; /* not let in: nothing to leave */
		else if (ticket->describe)
			nr_stack_describe_export(t->prepared, ticket->name, take_description,
						 ticket);
	}
	ticket->refusal = err ? refusal_of(ticket, err) : 0;
}

static void run_ticket(struct nr_job *job)
{
	struct nr_ticket *ticket =
		(struct nr_ticket *)((char *)job - offsetof(struct nr_ticket, job));
	struct nr_server *server = ticket->exports->server;
	struct nr_access *access = nr_server_access(server);
	struct nr_access_view view = { .access = NULL };

	ticket->verdict = NR_ACCESS_READ_WRITE;
	if (access &&
	    nr_access_view_make(&view, access, ticket->session, nr_server_can_tls(server)) < 0) {
		nr_error_system(&ticket->error, -ENOMEM, "the rules of access");
		ticket->refusal = NBD_REP_ERR_PLATFORM;
	} else {
		answer_ticket(ticket, &view);
	}
	nr_access_view_clear(&view);
	nr_access_unref(access);
}

/* One line says what the rules have decided; that something is refused is no detail. */
static void log_access(const struct nr_ticket *ticket)
{
	const struct nr_session *session = ticket->session;
	const struct nr_tls_peer *tls = session->tls;
	const char *proof = tls && tls->psk_identity ? tls->psk_identity
			    : tls && tls->subject    ? tls->subject
						     : NULL;
	/* The options before GO ask for the same; and who may come in is not for everybody. */
	bool is_detail =
		ticket->purpose == NR_EXPORT_CONTEXTS || ticket->verdict >= NR_ACCESS_READ_ONLY;

	const struct nr_log_fields about = {
		.export_name = ticket->name,
		.client = session->peer,
	};

	nr_log_about(is_detail ? NR_LOG_DEBUG : NR_LOG_WARNING, NR_LOG_CLIENT, &about,
		     "client %s%s%s%s: export '%s': %s", session->peer, proof ? " (" : "",
		     proof ? proof : "", proof ? ")" : "", ticket->name, ticket->access);
}

static void log_refusal(const struct nr_ticket *ticket)
{
	const struct nr_log_fields about = {
		.export_name = ticket->name ? ticket->name : "",
		.client = ticket->session->peer,
		.error = ticket->error.code < 0 ? -ticket->error.code : 0,
	};

	nr_log_about(NR_LOG_WARNING, NR_LOG_CLIENT, &about, "client %s: export '%s' refused: %s",
		     about.client, about.export_name, ticket->error.text);
}

static void ticket_done(struct nr_job *job)
{
	struct nr_ticket *ticket =
		(struct nr_ticket *)((char *)job - offsetof(struct nr_ticket, job));

	if (ticket->access[0])
		log_access(ticket);
	if (ticket->refusal && ticket->refusal != NBD_REP_ERR_UNKNOWN &&
	    ticket->verdict >= NR_ACCESS_READ_ONLY)
		log_refusal(ticket);
	if (ticket->export && ticket->purpose != NR_EXPORT_GO) {
		put_back(ticket->export, &ticket->shard->worker);
		ticket->export = NULL;
	}
	ticket->answered(ticket);
}

void nr_exports_ask(struct nr_exports *t, struct nr_ticket *ticket)
{
	ticket->exports = t;
	ticket->job.run = run_ticket;
	ticket->job.done = ticket_done;
	ticket->job.home = ticket->shard->ring;
	nr_offload_submit(t->offload, &ticket->job);
}

void nr_ticket_clear(struct nr_ticket *ticket)
{
	for (size_t i = 0; i < 2 * ticket->name_count; i++)
		free(ticket->names[i]);
	for (unsigned i = 0; i < ticket->context_count; i++)
		free(ticket->contexts[i]);
	ticket->context_count = 0;
	free(ticket->names);
	free(ticket->name);
	free(ticket->description);
	ticket->description = NULL;
	ticket->names = NULL;
	ticket->name = NULL;
	ticket->name_count = ticket->name_room = 0;
}

/* The whole. */

int nr_exports_create(struct nr_exports **out, struct nr_server *server, const struct nr_plan *plan,
		      struct nr_offload *offload, struct nr_error *error)
{
	struct nr_exports *t = calloc(1, sizeof(*t));
	struct nr_export *e;
	int err;

	if (!t)
		return nr_error_system(error, -ENOMEM, "the export table");
	t->plan = *plan;
	t->plan.shared = NULL;
	t->offload = offload;
	t->server = server;
	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->changed, NULL);
	err = nr_shared_create(&t->plan.shared, plan, error);
	if (!err)
		err = nr_stack_prepare(&t->prepared, &t->plan, error);
	if (!err) {
		t->many = nr_stack_many(t->prepared);
		if (t->many) {
			/* Is there anything to list at all?  That it may not be listed is fine. */
			err = nr_stack_exports(t->prepared, NULL, NULL, error);
			if (err == -EACCES)
				err = 0;
		} else {
			err = acquire(t, "", &e, error);
			if (!err)
				e->users = 0;
		}
	}
	if (err) {
		nr_exports_destroy(t);
		return err;
	}
	*out = t;
	return 0;
}

void nr_exports_destroy(struct nr_exports *t)
{
	if (!t)
		return;
	while (t->list) {
		struct nr_export *e = t->list;

		assert(e->users == 0);
		t->list = e->next;
		nr_stack_close(e->stack);
		free_export(e);
	}
	nr_stack_discard(t->prepared);
	nr_shared_destroy(t->plan.shared);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}

static void one_flushed(struct nr_export *e, struct nr_worker *worker, int error, void *context)
{
	struct last_flush *last = context;

	if (error && !last->error)
		last->error = error;
	if (--last->pending == 0)
		last->done(last->context, last->error);
}

void nr_exports_flush(struct nr_exports *t, struct nr_worker *worker,
		      void (*done)(void *context, int error), void *context)
{
	struct last_flush *last = &t->last_flush;

	*last = (struct last_flush){ done, context, 1, 0 };
	/* No user and no closing any more: the list stands still. */
	for (struct nr_export *e = t->list; e; e = e->next) {
		last->pending++;
		flush_export(e, worker, one_flushed, last);
	}
	one_flushed(NULL, worker, 0, last);
}
