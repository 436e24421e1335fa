/*
 * transaction.c - a message from MAIL to the spool's verdict.
 *
 * A body up to 64 KiB waits in chunks and becomes one record with its envelope; a larger one
 * streams to the spool in appends, at most two in flight, so a session's memory is bounded
 * whatever the size of its message.  When chunks run short, what all sessions hold goes to the
 * spool early: memory comes back with the verdict.  Otherwise half-filled bodies could keep the
 * pool over the watermark at which streams stop moving their windows, and none would ever fill.
 */
#include "base/log.h"
#include "smtp/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { BODY_ROOM_LEAST = 32 };

static void body_free(struct transaction *tx)
{
	chunk_free_list(tx->worker->shard->chunks, tx->first);
	tx->first = tx->last = NULL;
	tx->held = 0;
}

/* Text and a NUL, which none of these texts holds. */
static void digest_text(struct transaction *tx, const void *text, size_t n)
{
	if (tx->digest == NULL)
		return;
	digest_add(tx->digest, text, n);
	digest_add(tx->digest, "", 1);
}

static void transaction_release(struct transaction *tx)
{
	struct smtp_worker *w = tx->worker;

	digest_end(tx->digest, NULL);
	body_free(tx);
	chunk_free_list(w->shard->chunks, tx->envelope);
	chunk_free_list(w->shard->chunks, tx->prefix);
	if (tx->session != NULL)
		tx->session->tx = NULL;
	slab_free(w->transactions, tx->handle);
}

static struct envelope_text stored(struct text t)
{
	return (struct envelope_text){t.at, (uint32_t)t.n};
}

static ptrdiff_t write_envelope(const struct transaction *tx, struct text reverse)
{
	const struct smtp_session *s = tx->session;
	const struct mail_parameters *m = &tx->parameters;
	char clause[128];
	/* without the word that says in Received what follows */
	const char *tls = conn_tls_clause(&s->conn, clause, sizeof(clause));
	struct envelope e = {
		.reverse_path = stored(reverse),
		.user = {s->user, (uint32_t)strlen(s->user)},
		.mechanism = {s->mechanism, (uint32_t)strlen(s->mechanism)},
		.envid = stored(m->envid),
		.client = s->peer,
		.accepted_at_s = tx->accepted_at_s,
		.hold_until_s = m->hold_until_s,
		.by = m->by,
		.by_at_s = m->by_at_s,
		.by_trace = m->by_trace,
		.declared_bytes = m->size,
		.body = m->body,
		.ret = m->ret,
		.smtputf8 = m->smtputf8,
		.require_tls = m->require_tls,
		.priority = m->priority,
	};

	if (strncmp(tls, "tls ", 4) == 0)
		tls += 4;
	e.tls = (struct envelope_text){tls, (uint32_t)strlen(tls)};
	return envelope_begin(tx->envelope->data, tx->envelope->size, &e);
}

struct transaction *transaction_begin(struct smtp_session *s, struct text reverse,
				      const struct mail_parameters *m)
{
	struct smtp_worker *w = s->worker;
	handle_t h;
	struct transaction *tx = slab_alloc(w->transactions, &h);

	if (tx == NULL)
		return NULL;
	*tx = (struct transaction){.session = s,
				   .worker = w,
				   .handle = h,
				   .parameters = *m,
				   .began_us = w->shard->now_us,
				   .max_bytes = session_max_size(s)};
	tx->envelope = chunk_alloc(w->shard->chunks, CHUNK_4K, false);
	if (tx->envelope == NULL) {
		slab_free(w->transactions, h);
		return NULL;
	}
	tx->accepted_at_s = shard_wall_s(w->shard);
	ptrdiff_t n = write_envelope(tx, reverse);
	if (n < 0) {
		transaction_release(tx);
		return NULL;
	}
	if (w->shared->duplicates != NULL && s->listener->duplicates_us > 0)
		tx->digest = digest_begin();
	digest_text(tx, s->user, strlen(s->user));
	digest_text(tx, reverse.at, reverse.n);
	/* the line it pointed into goes */
	tx->parameters.envid = (struct text){NULL, 0};
	tx->envelope_bytes = (size_t)n;
	s->tx = tx;
	return tx;
}

/* The envelope moves to a chunk of the next size. */
static bool envelope_grow(struct transaction *tx)
{
	struct chunk *old = tx->envelope, *c = NULL;

	if (old->size < chunk_capacity(CHUNK_16K))
		c = chunk_alloc(tx->worker->shard->chunks, CHUNK_16K, false);
	else if (old->size < chunk_capacity(CHUNK_64K))
		c = chunk_alloc(tx->worker->shard->chunks, CHUNK_64K, false);
	if (c == NULL)
		return false;
	memcpy(c->data, old->data, tx->envelope_bytes);
	chunk_free(tx->worker->shard->chunks, old);
	tx->envelope = c;
	return true;
}

int transaction_recipient(struct transaction *tx, struct text path, const struct rcpt_parameters *r)
{
	struct envelope_recipient recipient = {
		.path = stored(path),
		.orcpt = stored(r->orcpt),
		.notify = r->notify,
	};
	int rc;

	do {
		rc = envelope_add_recipient(tx->envelope->data, tx->envelope->size,
					    &tx->envelope_bytes, &recipient);
	} while (rc == -ENOSPC && envelope_grow(tx));
	if (rc == 0) {
		tx->recipients++;
		digest_text(tx, path.at, path.n);
	}
	return rc;
}

void transaction_begin_content(struct transaction *tx, bool dots)
{
	const struct smtp_listener *l = tx->session->listener;

	tx->started_data = true;
	tx->data_us = tx->worker->shard->now_us;
	digest_text(tx, "", 0);
	content_begin(&tx->content, &(struct content_rules){
					    .dots = dots,
					    .binary = tx->parameters.body == ENVELOPE_BINARY,
					    .normalize = dots && l->policy.normalize,
					    .remove_bcc = l->policy.remove_bcc,
				    });
}

void transaction_poison(struct transaction *tx)
{
	tx->poisoned = tx->chunked = true;
	body_free(tx);
}

static void abort_done(struct spool_request *r)
{
	struct transaction *tx = r->user;

	tx->worker->spool_pending--;
	transaction_release(tx);
}

/* Nobody wants the message: its large body, if any, is forgotten once no append is in flight. */
static void drop_body(struct transaction *tx)
{
	struct smtp_worker *w = tx->worker;

	body_free(tx);
	if (tx->appends > 0)
		return;
	if (!tx->large) {
		transaction_release(tx);
		return;
	}
	tx->request = (struct spool_request){
		.op = SPOOL_BODY_ABORT, .id = tx->id, .user = tx, .done = abort_done};
	if (spool_submit(w->env.spool_client, &tx->request) == 0)
		w->spool_pending++;
	else /* recovery removes a large body without a commit record */
		transaction_release(tx);
}

void transaction_abandon(struct transaction *tx)
{
	/* what the spool has may still become a message */
	if (tx->session != NULL && !tx->committing)
		policy_forget(tx);
	if (tx->session != NULL)
		tx->session->tx = NULL;
	tx->session = NULL;
	if (!tx->committing)
		drop_body(tx);
}

static void append_done(struct spool_request *r)
{
	struct append *a = container_of(r, struct append, request);
	struct transaction *tx = a->tx;
	struct smtp_worker *w = tx->worker;

	w->spool_pending--;
	tx->appends--;
	chunk_free_list(w->shard->chunks, r->chunks);
	if (r->verdict < 0 && tx->failure == 0)
		tx->failure = r->verdict;
	slab_free(w->appends, a->handle);
	if (tx->session == NULL && !tx->committing)
		drop_body(tx);
	else if (tx->session != NULL &&
		 (tx->session->phase == PHASE_DATA || tx->session->phase == PHASE_CHUNK))
		session_run(tx->session);
}

/* Gives the chunks held to the spool; false: not now. */
static bool append_held(struct transaction *tx, bool last)
{
	struct smtp_worker *w = tx->worker;
	handle_t h;

	if (tx->first == NULL)
		return true;
	if (!last && tx->appends >= APPENDS_IN_FLIGHT)
		return false;
	struct append *a = slab_alloc(w->appends, &h);
	if (a == NULL)
		return false;
	if (!tx->large)
		tx->id = spool_new_id(w->env.spool);
	*a = (struct append){.tx = tx, .handle = h};
	a->request = (struct spool_request){
		.op = SPOOL_BODY_APPEND, .id = tx->id, .chunks = tx->first, .done = append_done};
	if (spool_submit(w->env.spool_client, &a->request) < 0) {
		slab_free(w->appends, h);
		return false;
	}
	w->spool_pending++;
	tx->large = true;
	tx->appends++;
	tx->first = tx->last = NULL;
	tx->held = 0;
	return true;
}

static bool pressed(const struct smtp_worker *w)
{
	return chunk_pool_percent(w->shard->chunks) >= RELIEF_PERCENT;
}

void transactions_relieve(struct timer *t)
{
	struct smtp_worker *w = container_of(t, struct smtp_worker, relief);
	bool held = false;

	if (!pressed(w))
		return;
	for (uint32_t i = 0; i < slab_extent(w->sessions); i++) {
		struct smtp_session *s = slab_at(w->sessions, i, NULL);
		/* between two chunks of BDAT a body waits as well */
		if (s == NULL || s->tx == NULL || !s->tx->started_data || s->tx->committing)
			continue;
		/* what will be refused is forgotten, not stored */
		if (s->tx->held > 0 && !s->tx->too_big && s->tx->failure == 0)
			append_held(s->tx, false);
		held = true;
	}
	if (held)
		timer_arm(w->shard->timers, t, w->shard->now_us + RETRY_US);
}

/* Octets of input that the chunk surely has room for; a few left over are none. */
static size_t body_room(const struct transaction *tx, const struct chunk *c)
{
	size_t n = content_fits(&tx->content.rules, c->size - c->end);

	return n >= BODY_ROOM_LEAST ? n : 0;
}

static struct chunk *body_chunk(struct transaction *tx)
{
	struct chunk_pool *p = tx->worker->shard->chunks;
	enum chunk_size size = tx->body_bytes == 0 || pressed(tx->worker) ? CHUNK_4K : CHUNK_64K;
	struct chunk *c = chunk_alloc(p, size, false);

	return c != NULL ? c : chunk_alloc(p, CHUNK_4K, true);
}

size_t transaction_room(struct transaction *tx)
{
	/* what will be refused is read to its end and forgotten */
	if (tx->too_big || tx->failure != 0)
		body_free(tx);
	size_t fits = tx->last != NULL ? body_room(tx, tx->last) : 0;
	if (fits > 0)
		return fits;
	if (tx->held >= SMALL_BODY && !append_held(tx, false))
		return 0;
	struct chunk *c = body_chunk(tx);
	if (c == NULL) {
		smtp_count(tx->worker, smtp_throttled);
		append_held(tx, false);
		return 0;
	}
	if (tx->last != NULL)
		tx->last->next = c;
	else
		tx->first = c;
	tx->last = c;
	return body_room(tx, c);
}

uint8_t *transaction_tail(struct transaction *tx)
{
	return tx->last->data + tx->last->end;
}

void transaction_added(struct transaction *tx, size_t n)
{
	if (tx->digest != NULL)
		digest_add(tx->digest, transaction_tail(tx), n);
	tx->last->end += (uint32_t)n;
	tx->held += n;
	tx->body_bytes += n;
	if (tx->body_bytes > tx->max_bytes)
		tx->too_big = true;
	if (pressed(tx->worker) && !timer_armed(&tx->worker->relief))
		timer_arm(tx->worker->shard->timers, &tx->worker->relief,
			  tx->worker->shard->now_us + RETRY_US);
}

static void tell_accepted(struct transaction *tx)
{
	struct smtp_worker *w = tx->worker;
	struct spool_found f = {
		.id = tx->id,
		.place = tx->request.place,
		.content_bytes = tx->request.prefix_bytes + tx->body_bytes,
		.accepted_at_s = tx->accepted_at_s,
		.retry_at_s = tx->parameters.hold_until_s,
		.hold_until_s = tx->parameters.hold_until_s,
		.by_at_s = tx->parameters.by_at_s,
		.by = (uint8_t)tx->parameters.by,
		.priority = tx->parameters.priority,
		.recipients = tx->recipients,
	};

	smtp_count(w, smtp_messages);
	if (tx->content.lone_lf && tx->content.rules.normalize)
		smtp_count(w, smtp_message_normalized);
	if (tx->content.header.bcc_removed)
		smtp_count(w, smtp_message_bcc_removed);
	counter_add(&w->counters[smtp_message_bytes], f.content_bytes);
	counter_add(&w->counters[smtp_recipients], f.recipients);
	w->env.accepted(w->env.accepted_arg, &f, &tx->request);
}

enum smtp_reply transaction_failure(struct smtp_worker *w, int failure)
{
	if (failure == -ENOSPC) {
		smtp_count(w, smtp_message_no_space);
		return REPLY_NO_SPACE;
	}
	smtp_count(w, smtp_message_failed);
	return REPLY_SPOOL_FAILED;
}

static void commit_done(struct spool_request *r)
{
	struct transaction *tx = r->user;
	struct smtp_session *s = tx->session;
	struct smtp_worker *w = tx->worker;
	char id[SPOOL_ID_TEXT], changes[160];

	w->spool_pending--;
	tx->committing = false;
	spool_id_text(tx->id, id);
	if (r->verdict == 0) {
		/* also, and above all, when the client has gone */
		if (tx->known_us > 0)
			duplicates_note(w->shared->duplicates, tx->name, tx->id, w->shard->now_us,
					w->shard->now_us + tx->known_us);
		if (s != NULL) {
			session_reply(s, REPLY_QUEUED, id);
			s->messages++;
			log_info("smtp", "%s: %s accepted, %llu octets, %u recipients, user %s%s",
				 s->tag, id, (unsigned long long)tx->body_bytes, tx->recipients,
				 s->user, prefix_changes(tx, changes, sizeof(changes)));
		}
		records_reception(tx);
		tell_accepted(tx);
		transaction_release(tx);
	} else {
		log_warning("smtp", "%s: not stored: %s", id, strerror(-r->verdict));
		enum smtp_reply reply = transaction_failure(w, r->verdict);
		if (s != NULL)
			session_reply(s, reply, NULL);
		transaction_abandon(tx);
	}
	if (s != NULL && s->phase == PHASE_COMMIT) {
		s->phase = PHASE_COMMAND;
		session_arm_deadline(s);
		session_run(s);
	}
}

static int submit_commit(struct transaction *tx)
{
	struct smtp_worker *w = tx->worker;

	if (tx->large && !append_held(tx, true))
		return -EOVERFLOW;
	if (!tx->large)
		tx->id = spool_new_id(w->env.spool);
	tx->prefix = chunk_alloc(w->shard->chunks, CHUNK_4K, true);
	if (tx->prefix == NULL)
		return -ENOMEM;
	size_t n = prefix_build(tx, (char *)tx->prefix->data, tx->prefix->size);
	if (n == 0)
		return -ENOMEM;
	tx->request = (struct spool_request){
		.op = SPOOL_COMMIT,
		.id = tx->id,
		.user = tx,
		.done = commit_done,
		.chunks = tx->first,
		.envelope = tx->envelope->data,
		.envelope_bytes = (uint32_t)tx->envelope_bytes,
		.prefix = tx->prefix->data,
		.prefix_bytes = (uint32_t)n,
		.body_bytes = tx->body_bytes,
		.large = tx->large,
	};
	return spool_submit(w->env.spool_client, &tx->request);
}

/* What a header that ends without a line end kept waiting. */
static void finish_content(struct transaction *tx)
{
	uint8_t rest[CONTENT_SLACK];
	size_t n = content_finish(&tx->content, rest);

	if (n == 0)
		return;
	if (transaction_room(tx) == 0) {
		tx->failure = -ENOMEM;
		return;
	}
	memcpy(transaction_tail(tx), rest, n);
	transaction_added(tx, n);
}

/* The message has been accepted before: its 250 got lost, not the message. */
static bool accepted_before(struct transaction *tx)
{
	struct smtp_session *s = tx->session;
	struct smtp_worker *w = tx->worker;
	char id[SPOOL_ID_TEXT];
	spool_id_t first;

	struct digest *digest = tx->digest;
	tx->digest = NULL;
	if (!digest_end(digest, digest != NULL ? tx->name : NULL) ||
	    tx->content.header.count[HEADER_MESSAGE_ID] != 1)
		return false;
	tx->known_us = s->listener->duplicates_us;
	if (!duplicates_find(w->shared->duplicates, tx->name, w->shard->now_us, &first))
		return false;
	spool_id_text(first, id);
	smtp_count(w, smtp_duplicates);
	log_info("smtp", "%s: %s submitted again by user %s", s->tag, id, s->user);
	session_reply(s, REPLY_QUEUED, id);
	transaction_abandon(tx);
	return true;
}

void transaction_end_of_data(struct transaction *tx)
{
	struct smtp_session *s = tx->session;

	s->phase = PHASE_COMMAND;
	fair_end(s);
	finish_content(tx);
	if (verdict_refuses(tx, true)) {
		bool doubtful = tx->content.rules.dots && tx->content.line_doubtful;
		transaction_abandon(tx);
		/* what follows may be the rest of the message in its sender's eyes */
		if (doubtful) {
			smtp_count(s->worker, smtp_doubtful_end);
			session_finish(s, REPLY_UNEXPECTED);
		}
		return;
	}
	if (accepted_before(tx))
		return;
	const struct header *h = &tx->content.header;
	/* RFC 8689: REQUIRETLS outweighs the field */
	if (h->tls_optional && !tx->parameters.require_tls)
		envelope_set_tls_optional(tx->envelope->data);
	follow_event(s, "%llu octets of data", (unsigned long long)tx->body_bytes);
	tx->charged = tx->body_bytes;
	policy_content(s, tx->charged);
	tx->submitted_us = tx->worker->shard->now_us;
	int rc = submit_commit(tx);
	if (rc < 0) {
		session_reply(s, transaction_failure(tx->worker, rc), NULL);
		transaction_abandon(tx);
		return;
	}
	tx->worker->spool_pending++;
	tx->committing = true;
	s->phase = PHASE_COMMIT;
}
