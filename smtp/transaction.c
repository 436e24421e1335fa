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

static void body_free(struct transaction *tx)
{
	chunk_free_list(tx->worker->shard->chunks, tx->first);
	tx->first = tx->last = NULL;
	tx->held = 0;
}

static void transaction_release(struct transaction *tx)
{
	struct smtp_worker *w = tx->worker;

	body_free(tx);
	chunk_free_list(w->shard->chunks, tx->envelope);
	chunk_free_list(w->shard->chunks, tx->prefix);
	if (tx->session != NULL)
		tx->session->tx = NULL;
	slab_free(w->transactions, tx->handle);
}

struct transaction *transaction_begin(struct smtp_session *s, const struct path *reverse,
				      bool body_8bit)
{
	struct smtp_worker *w = s->worker;
	handle_t h;
	struct transaction *tx = slab_alloc(w->transactions, &h);
	struct envelope e = {
		.reverse_path = {reverse->mailbox.at, (uint32_t)reverse->mailbox.n},
		.user = {s->user, (uint32_t)strlen(s->user)},
		.client = s->peer,
		.accepted_at_s = shard_wall_s(w->shard),
		.body_8bit = body_8bit,
	};

	if (tx == NULL)
		return NULL;
	*tx = (struct transaction){.session = s, .worker = w, .handle = h};
	tx->envelope = chunk_alloc(w->shard->chunks, CHUNK_4K, false);
	if (tx->envelope == NULL) {
		slab_free(w->transactions, h);
		return NULL;
	}
	tx->accepted_at_s = e.accepted_at_s;
	ptrdiff_t n = envelope_begin(tx->envelope->data, tx->envelope->size, &e);
	if (n < 0) {
		transaction_release(tx);
		return NULL;
	}
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

int transaction_recipient(struct transaction *tx, struct text path)
{
	int rc;

	do {
		rc = envelope_add_recipient(tx->envelope->data, tx->envelope->size,
					    &tx->envelope_bytes, path.at, (uint32_t)path.n);
	} while (rc == -ENOSPC && envelope_grow(tx));
	if (rc == 0)
		tx->recipients++;
	return rc;
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
	else if (tx->session != NULL && tx->session->phase == PHASE_DATA)
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
		if (s == NULL || s->phase != PHASE_DATA)
			continue;
		/* what will be refused is forgotten, not stored */
		if (s->tx->held > 0 && !s->tx->too_big && s->tx->failure == 0)
			append_held(s->tx, false);
		held = true;
	}
	if (held)
		timer_arm(w->shard->timers, t, w->shard->now_us + RETRY_US);
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
	if (tx->last != NULL && tx->last->size - tx->last->end > 1)
		return tx->last->size - tx->last->end - 1;
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
	return c->size - 1;
}

uint8_t *transaction_tail(struct transaction *tx)
{
	return tx->last->data + tx->last->end;
}

void transaction_added(struct transaction *tx, size_t n)
{
	tx->last->end += (uint32_t)n;
	tx->held += n;
	tx->body_bytes += n;
	if (tx->body_bytes > tx->worker->config->max_message_size)
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
		.retry_at_s = tx->accepted_at_s,
		.recipients = tx->recipients,
	};

	smtp_count(w, smtp_messages);
	counter_add(&w->counters[smtp_message_bytes], f.content_bytes);
	counter_add(&w->counters[smtp_recipients], f.recipients);
	w->env.accepted(w->env.accepted_arg, &f);
}

static enum smtp_reply failure_reply(struct smtp_worker *w, int failure)
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
	char id[SPOOL_ID_TEXT];

	w->spool_pending--;
	tx->committing = false;
	spool_id_text(tx->id, id);
	if (r->verdict == 0) {
		if (s != NULL) {
			session_reply(s, REPLY_QUEUED, id);
			s->messages++;
			log_info("smtp", "%s: %s accepted, %llu octets, %u recipients, user %s",
				 s->tag, id, (unsigned long long)tx->body_bytes, tx->recipients,
				 s->user);
		}
		tell_accepted(tx);
		transaction_release(tx);
	} else {
		log_warning("smtp", "%s: not stored: %s", id, strerror(-r->verdict));
		enum smtp_reply reply = failure_reply(w, r->verdict);
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

/* A reply instead of a commit; counts why. */
static bool refused(struct transaction *tx)
{
	struct smtp_session *s = tx->session;
	struct smtp_worker *w = tx->worker;
	char limit[24];

	if (tx->too_big) {
		smtp_count(w, smtp_message_too_big);
		snprintf(limit, sizeof(limit), "%llu",
			 (unsigned long long)w->config->max_message_size);
		session_reply(s, REPLY_TOO_BIG, limit);
	} else if (tx->content.bad_line_end) {
		smtp_count(w, smtp_message_bare_newline);
		session_error(s, REPLY_CONTENT_LINE_ENDS, NULL);
	} else if (tx->content.received > RECEIVED_LIMIT) {
		smtp_count(w, smtp_message_loop);
		session_error(s, REPLY_LOOP, NULL);
	} else if (tx->failure != 0) {
		session_reply(s, failure_reply(w, tx->failure), NULL);
	} else {
		return false;
	}
	return true;
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

void transaction_end_of_data(struct transaction *tx)
{
	struct smtp_session *s = tx->session;

	s->phase = PHASE_COMMAND;
	stream_set_receive_limit(s->conn.stream, RECEIVE_WINDOW);
	if (refused(tx)) {
		transaction_abandon(tx);
		return;
	}
	int rc = submit_commit(tx);
	if (rc < 0) {
		session_reply(s, failure_reply(tx->worker, rc), NULL);
		transaction_abandon(tx);
		return;
	}
	tx->worker->spool_pending++;
	tx->committing = true;
	s->phase = PHASE_COMMIT;
}
