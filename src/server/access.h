/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may use which export, and how: the one place that decides.
 *
 * Rules are read from text (access-parse.h) and never change after that.  A set of
 * them is counted: the server holds the one in force, and each question of a client
 * holds the one it is answered by, so new rules may take its place at any time.
 *
 * A rule means a client and an export when all of its conditions are met; several
 * conditions of one kind are met when one of them is.  The first rule that means both
 * decides; when none does the export is denied.  A rule that lets in who has proved
 * something by TLS, and that nothing else keeps from meaning a client without
 * encryption, makes the answer NEEDS_TLS where that client would be denied.
 *
 * Whether an export exists is not asked here, so no answer tells.
 */
#ifndef SRC_SERVER_ACCESS_H
#define SRC_SERVER_ACCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"
#include "nbdring/layer.h"
#include "nbdring/network.h"

enum nr_access_verdict {
	NR_ACCESS_DENIED,
	NR_ACCESS_NEEDS_TLS, /* ask again when the connection is encrypted */
	NR_ACCESS_READ_ONLY,
	NR_ACCESS_READ_WRITE,
};

enum nr_access_kind {
	NR_ACCESS_EXPORT, /* pattern */
	NR_ACCESS_TLS,
	NR_ACCESS_PLAIN,
	NR_ACCESS_PSK,     /* pattern */
	NR_ACCESS_SUBJECT, /* pattern for a distinguished name */
	NR_ACCESS_ISSUER,  /* the same */
	NR_ACCESS_NAME,    /* pattern */
	NR_ACCESS_NET,     /* network */
	NR_ACCESS_UNIX,
	NR_ACCESS_UID, /* range */
	NR_ACCESS_GID, /* range */
};

/* What a client has proved, and an export's name holds (%psk, …). */
enum nr_access_proof {
	NR_PROOF_NONE,
	NR_PROOF_PSK,  /* the identity of its pre-shared key */
	NR_PROOF_CN,   /* the common name of its certificate */
	NR_PROOF_UID,  /* its user, as a number */
	NR_PROOF_USER, /* the name of that user */
	NR_PROOF_COUNT
};

struct nr_access_condition {
	uint8_t kind;        /* enum nr_access_kind */
	uint8_t proof;       /* of an export; wildcards are on one side of it at most, and a
			      * slash stands between */
	const char *pattern; /* of an export with a proof: what is in front of it, */
	const char *after;   /* and what is behind it */
	union {
		struct nr_network network;
		struct {
			uint32_t first, last;
		} range;
	};
};

struct nr_access_rule {
	size_t first; /* of its conditions */
	uint32_t condition_count;
	uint32_t kinds;     /* that occur in them, a bit each */
	uint32_t line;      /* of its source; 0: the source is the rule */
	const char *source; /* for people */
	bool allow, read_only;
};

struct nr_access {
	atomic_uint references;
	bool wants_user; /* a rule has %user */
	struct nr_access_rule *rules;
	size_t rule_count, rule_room;
	struct nr_access_condition *conditions;
	size_t condition_count, condition_room;
	char **texts; /* that rules and conditions point into */
	size_t text_count;
};

struct nr_access_decision {
	enum nr_access_verdict verdict;
	const struct nr_access_rule *rule; /* that decided; NULL: none does */
};

/* What of the rules concerns one client: questions about many exports cost little then. */
struct nr_access_view {
	const struct nr_access *access;
	const struct nr_session *session;
	struct nr_access_candidate *candidates;
	size_t count;
	bool can_tls;                 /* and has not yet */
	char *proofs[NR_PROOF_COUNT]; /* NULL: not proved */
};

/*
 * The rules for SESSION, which outlives the view as ACCESS does.  CAN_TLS: an
 * encrypted connection is to be had here.  May block where a rule has %user, since the
 * system is asked for its name.  -ENOMEM: there is nothing to clear.
 */
int nr_access_view_make(struct nr_access_view *view, const struct nr_access *access,
			const struct nr_session *session, bool can_tls);
void nr_access_view_clear(struct nr_access_view *view);

/* May the view's client use the export called NAME? */
struct nr_access_decision nr_access_decide(const struct nr_access_view *view, const char *name);

/* DECISION for the log: "denied by FILE:3", in TEXT. */
void nr_access_explain(const struct nr_access_decision *decision, char *text, size_t size);

/* NULL is allowed, and stays NULL. */
struct nr_access *nr_access_ref(struct nr_access *access);
void nr_access_unref(struct nr_access *access);

#endif
