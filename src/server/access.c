/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Deciding by the rules.
 *
 * It goes in two steps.  What does not depend on the export is looked at once for each
 * question and leaves the candidates; what does is looked at for each name.  A list
 * of many exports under many rules costs their sum rather than their product, where
 * most rules are about other clients.
 *
 * What a name has in the place of %psk is determined by the name and the pattern alone
 * (the parser sees to that) and compared with what the client has proved.  So no two
 * clients who have proved different things are meant by the same rule and name.
 */
#include "src/server/access.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/pattern.h"

#define BIT(kind) (UINT32_C(1) << (kind))

/* Kinds of condition that only a client with TLS can meet. */
#define TLS_KINDS                                                           \
	(BIT(NR_ACCESS_TLS) | BIT(NR_ACCESS_PSK) | BIT(NR_ACCESS_SUBJECT) | \
	 BIT(NR_ACCESS_ISSUER) | BIT(NR_ACCESS_NAME))

struct nr_access_candidate {
	const struct nr_access_rule *rule;
	bool needs_tls; /* nothing but the missing encryption is in the way */
};

/* How a rule stands to a client. */
enum meaning { MEANS_NOT, MEANS_WITH_TLS, MEANS };

/* Conditions about the client. */

static bool matches(const struct nr_access_condition *c, const char *text)
{
	return text && nr_pattern_matches(c->pattern, text, strlen(text));
}

static bool matches_dn(const struct nr_access_condition *c, const char *dn)
{
	return dn && nr_pattern_matches_dn(c->pattern, strlen(c->pattern), dn);
}

static bool has_name(const struct nr_access_condition *c, const struct nr_tls_peer *tls)
{
	for (size_t i = 0; i < tls->name_count; i++)
		if (matches(c, tls->names[i]))
			return true;
	return false;
}

static bool in_range(const struct nr_access_condition *c, const struct nr_session *session,
		     uint32_t number)
{
	return session->has_credentials && c->range.first <= number && number <= c->range.last;
}

static bool is_met(const struct nr_access_condition *c, const struct nr_session *session,
		   const struct nr_ip_address *address)
{
	const struct nr_tls_peer *tls = session->tls;

	switch ((enum nr_access_kind)c->kind) {
	case NR_ACCESS_EXPORT:
		return true; /* looked at later */
	case NR_ACCESS_TLS:
		return tls != NULL;
	case NR_ACCESS_PLAIN:
		return tls == NULL;
	case NR_ACCESS_PSK:
		return tls && matches(c, tls->psk_identity);
	case NR_ACCESS_SUBJECT:
		return tls && matches_dn(c, tls->subject);
	case NR_ACCESS_ISSUER:
		return tls && matches_dn(c, tls->issuer);
	case NR_ACCESS_NAME:
		return tls && has_name(c, tls);
	case NR_ACCESS_NET:
		return address && nr_network_has(&c->network, address);
	case NR_ACCESS_UNIX:
		return session->address.ss_family == AF_UNIX;
	case NR_ACCESS_UID:
		return in_range(c, session, session->uid);
	case NR_ACCESS_GID:
		return in_range(c, session, session->gid);
	}
	return false;
}

static enum meaning means_client(const struct nr_access *access, const struct nr_access_rule *rule,
				 const struct nr_session *session,
				 const struct nr_ip_address *address)
{
	uint32_t unmet = rule->kinds;

	for (uint32_t i = 0; i < rule->condition_count; i++) {
		const struct nr_access_condition *c = &access->conditions[rule->first + i];

		if ((unmet & BIT(c->kind)) && is_met(c, session, address))
			unmet &= ~BIT(c->kind);
	}
	if (!unmet)
		return MEANS;
	return !session->tls && !(unmet & ~TLS_KINDS) ? MEANS_WITH_TLS : MEANS_NOT;
}

/* What the client has proved. */

/* As one part of a name that is a path, it can be nothing else than that part. */
static bool is_one_part(const char *text, size_t length)
{
	bool only_dots = length <= 2 && strspn(text, ".") >= length;

	return length > 0 && !only_dots && !memchr(text, '/', length);
}

static char *copy_part(const char *text, size_t length)
{
	return is_one_part(text, length) ? strndup(text, length) : NULL;
}

/* The one common name in SUBJECT, if it is written without escapes. */
static char *common_name(const char *subject)
{
	const char *found = NULL;
	size_t found_length = 0;

	for (const char *at = subject;; at++) {
		size_t length = strcspn(at, ",+\\");

		if (strncmp(at, "CN=", 3) == 0) {
			if (found || at[length] == '\\')
				return NULL;
			found = at + 3;
			found_length = length - 3;
		}
		while (at[length] == '\\' && at[length + 1])
			length += 2 + strcspn(at + length + 2, ",+\\");
		at += length;
		if (!*at || *at == '\\')
			return found ? copy_part(found, found_length) : NULL;
	}
}

static char *user_name(uint32_t uid)
{
	struct passwd entry, *result = NULL;
	char room[4096], *name = NULL;

	if (getpwuid_r(uid, &entry, room, sizeof(room), &result) == 0 && result)
		name = copy_part(result->pw_name, strlen(result->pw_name));
	return name;
}

static void collect_proofs(struct nr_access_view *view)
{
	const struct nr_session *session = view->session;
	const struct nr_tls_peer *tls = session->tls;
	char number[16];

	if (tls && tls->psk_identity)
		view->proofs[NR_PROOF_PSK] =
			copy_part(tls->psk_identity, strlen(tls->psk_identity));
	if (tls && tls->subject)
		view->proofs[NR_PROOF_CN] = common_name(tls->subject);
	if (!session->has_credentials)
		return;
	snprintf(number, sizeof(number), "%u", session->uid);
	view->proofs[NR_PROOF_UID] = strdup(number);
	if (view->access->wants_user)
		view->proofs[NR_PROOF_USER] = user_name(session->uid);
}

/* The view. */

int nr_access_view_make(struct nr_access_view *view, const struct nr_access *access,
			const struct nr_session *session, bool can_tls)
{
	struct nr_ip_address room, *address = &room;
	size_t capacity = 0;

	*view = (struct nr_access_view){ .access = access, .session = session };
	if (!nr_ip_address_of(&session->address, &room))
		address = NULL;
	for (size_t i = 0; i < access->rule_count; i++) {
		const struct nr_access_rule *rule = &access->rules[i];
		enum meaning meaning = means_client(access, rule, session, address);

		if (meaning == MEANS_NOT || (meaning == MEANS_WITH_TLS && !can_tls))
			continue;
		if (view->count == capacity) {
			size_t more = capacity ? 2 * capacity : 16;
			void *grown = realloc(view->candidates, more * sizeof(*view->candidates));

			if (!grown) {
				nr_access_view_clear(view);
				return -ENOMEM;
			}
			view->candidates = grown;
			capacity = more;
		}
		view->candidates[view->count++] =
			(struct nr_access_candidate){ rule, meaning == MEANS_WITH_TLS };
	}
	view->can_tls = can_tls && !session->tls;
	collect_proofs(view);
	return 0;
}

void nr_access_view_clear(struct nr_access_view *view)
{
	for (int i = 0; i < NR_PROOF_COUNT; i++)
		free(view->proofs[i]);
	free(view->candidates);
	memset(view, 0, sizeof(*view));
}

/* Conditions about the export. */

/*
 * The part of NAME that stands where condition C has its proof, if all around it is as
 * C has it.  LENGTH is that of NAME, and becomes that of the part.  NULL: it is not so.
 */
static const char *find_part(const struct nr_access_condition *c, const char *name, size_t *length)
{
	size_t before = strlen(c->pattern), after = strlen(c->after), total = *length, end;
	const char *part = name + before;

	if (nr_pattern_is_wild(c->pattern, before)) {
		if (total < after || memcmp(name + total - after, c->after, after) != 0)
			return NULL;
		end = total - after;
		part = memrchr(name, '/', end);
		if (!part || !nr_pattern_matches(c->pattern, name, (size_t)(++part - name)))
			return NULL;
		*length = end - (size_t)(part - name);
		return part;
	}
	if (total < before || memcmp(name, c->pattern, before) != 0)
		return NULL;
	if (nr_pattern_is_wild(c->after, after)) {
		*length = strcspn(part, "/");
		return nr_pattern_matches(c->after, part + *length, total - before - *length)
			       ? part
			       : NULL;
	}
	if (total - before < after || memcmp(name + total - after, c->after, after) != 0)
		return NULL;
	*length = total - before - after;
	return part;
}

static enum meaning means_name(const struct nr_access_view *view,
			       const struct nr_access_condition *c, const char *name)
{
	size_t length = strlen(name);
	const char *proof = view->proofs[c->proof], *part;
	bool by_tls = c->proof == NR_PROOF_PSK || c->proof == NR_PROOF_CN;

	if (c->proof == NR_PROOF_NONE)
		return nr_pattern_matches(c->pattern, name, length) ? MEANS : MEANS_NOT;
	if (!proof && !(by_tls && view->can_tls))
		return MEANS_NOT;
	part = find_part(c, name, &length);
	if (!part || !is_one_part(part, length))
		return MEANS_NOT;
	if (!proof)
		return MEANS_WITH_TLS;
	return strlen(proof) == length && memcmp(proof, part, length) == 0 ? MEANS : MEANS_NOT;
}

/* A rule that names no export means all of them. */
static enum meaning means_export(const struct nr_access_view *view,
				 const struct nr_access_rule *rule, const char *name)
{
	enum meaning best = rule->kinds & BIT(NR_ACCESS_EXPORT) ? MEANS_NOT : MEANS;

	for (uint32_t i = 0; best != MEANS && i < rule->condition_count; i++) {
		const struct nr_access_condition *c = &view->access->conditions[rule->first + i];
		enum meaning meaning;

		if (c->kind != NR_ACCESS_EXPORT)
			continue;
		meaning = means_name(view, c, name);
		if (meaning > best)
			best = meaning;
	}
	return best;
}

struct nr_access_decision nr_access_decide(const struct nr_access_view *view, const char *name)
{
	struct nr_access_decision decision = { NR_ACCESS_DENIED, NULL };
	const struct nr_access_rule *with_tls = NULL;

	for (size_t i = 0; i < view->count; i++) {
		const struct nr_access_candidate *candidate = &view->candidates[i];
		const struct nr_access_rule *rule = candidate->rule;
		enum meaning meaning;

		if (candidate->needs_tls && (!rule->allow || with_tls))
			continue;
		meaning = means_export(view, rule, name);
		if (meaning == MEANS_NOT)
			continue;
		if (candidate->needs_tls || meaning == MEANS_WITH_TLS) {
			if (rule->allow && !with_tls)
				with_tls = rule;
			continue;
		}
		decision.rule = rule;
		if (rule->allow)
			decision.verdict =
				rule->read_only ? NR_ACCESS_READ_ONLY : NR_ACCESS_READ_WRITE;
		break;
	}
	if (decision.verdict == NR_ACCESS_DENIED && with_tls)
		decision = (struct nr_access_decision){ NR_ACCESS_NEEDS_TLS, with_tls };
	return decision;
}

void nr_access_explain(const struct nr_access_decision *decision, char *text, size_t size)
{
	static const char *const phrases[] = {
		[NR_ACCESS_DENIED] = "denied by",
		[NR_ACCESS_NEEDS_TLS] = "needs TLS by",
		[NR_ACCESS_READ_ONLY] = "granted read-only by",
		[NR_ACCESS_READ_WRITE] = "granted by",
	};
	const struct nr_access_rule *rule = decision->rule;

	if (!rule)
		snprintf(text, size, "denied: no rule allows it");
	else if (rule->line)
		snprintf(text, size, "%s %s:%u", phrases[decision->verdict], rule->source,
			 rule->line);
	else
		snprintf(text, size, "%s %s", phrases[decision->verdict], rule->source);
}

/* Life. */

struct nr_access *nr_access_ref(struct nr_access *access)
{
	if (access)
		atomic_fetch_add_explicit(&access->references, 1, memory_order_relaxed);
	return access;
}

void nr_access_unref(struct nr_access *access)
{
	if (!access || atomic_fetch_sub_explicit(&access->references, 1, memory_order_acq_rel) > 1)
		return;
	for (size_t i = 0; i < access->text_count; i++)
		free(access->texts[i]);
	free(access->texts);
	free(access->conditions);
	free(access->rules);
	free(access);
}
