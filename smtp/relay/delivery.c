/*
 * delivery.c - one attempt at a message: its envelope out of the spool, then what became of
 * each recipient into the spool.  The message leaves the queue only after that is durable.
 */
#include "base/log.h"
#include "smtp/relay/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void give_back(struct delivery *d)
{
	if (d->copy != NULL)
		memory_give_back(d->worker->memory, d->copy);
	d->copy = NULL;
}

void delivery_free(struct delivery *d)
{
	struct relay_worker *w = d->worker;
	struct chunk_pool *p = w->shard->chunks;

	if (d->hop != NULL)
		hop_unuse(w, d->hop);
	if (d->order != NULL)
		order_end(d->order, d->target, d->last ? RELAY_DONE : RELAY_FAILED);
	w->routing -= d->route;
	w->ending -= d->due;

	timer_cancel(w->shard->timers, &d->timer);
	list_del(&d->loaded);
	give_back(d);
	chunk_free_list(p, d->envelope);
	chunk_free_list(p, d->report);
	chunk_free_list(p, d->report_envelope);
	chunk_free_list(p, d->head);
	free(d->recipients);
	free(d->dispositions);
	slab_free(w->deliveries, d->handle);
}

static int ask(struct delivery *d)
{
	int rc = relay_submit(d->worker, &d->request);

	d->asked = rc == 0;
	d->asked_us = d->worker->shard->now_us;
	return rc;
}

static struct delivery *answered(struct spool_request *r)
{
	struct delivery *d = r->user;

	d->worker->spool_pending--;
	d->asked = d->stuck = false;
	return d;
}

/* The attempt never came to an outcome: nothing is recorded, the message waits. */
static void delivery_drop(struct delivery *d, const char *why)
{
	struct message *m = d->message;
	struct client *c = d->client;

	uint64_t us = message_retry_us(m);
	bool notice = d->notice;

	delivery_free(d);
	if (notice) { /* looked for again with the next attempt's memory */
		m->noticed = false;
		us = RETRY_SPOOL_US * 60ull;
	}
	/* an expired message is due at once, but not in every round while the spool fails */
	message_defer(m, why, us > RETRY_SPOOL_US ? us : RETRY_SPOOL_US);
	if (c != NULL)
		client_idle(c, false);
}

static void conclude(struct timer *t);

static bool is_silent(const struct delivery *d)
{
	return d->order != NULL && d->order->verb == RELAY_DELETE;
}

/* The order's end of everybody who is still to be served. */
static void carry_out(struct delivery *d)
{
	const struct relay_order *o = d->order;
	char text[ERROR_TEXT];

	snprintf(text, sizeof(text), "%s by the administrator%s%.100s",
		 o->verb == RELAY_BOUNCE ? "returned" : "deleted", o->reason[0] != '\0' ? ": " : "",
		 o->reason);
	delivery_outcome(d, RECIPIENT_TODO, 554, "5.3.0", text);
	if (o->verb == RELAY_BOUNCE)
		delivery_end(d);
	else
		conclude(&d->timer);
}

/* The envelope is there. */
static void loaded(struct delivery *d, bool good)
{
	struct relay_worker *w = d->worker;
	struct message *m = d->message;

	if (!good || envelope_decode(d->envelope->data, d->envelope->end, &d->e) < 0 ||
	    d->e.recipients != m->recipients) {
		relay_count(w, relay_spool_errors);
		delivery_drop(d, "the spool cannot read the envelope");
		return;
	}
	if (d->route) {
		route_message(d);
		return;
	}
	d->recipients = calloc(m->recipients + 1, sizeof(*d->recipients));
	if (d->recipients == NULL) {
		delivery_drop(d, "out of memory");
		return;
	}
	for (uint32_t i = 0; i < m->recipients; i++)
		d->recipients[i].state = message_done(m, i) ? RECIPIENT_DONE : RECIPIENT_TODO;
	/* the envelope is the truth; after a restart the queue entry knows less */
	if (d->order != NULL) {
		carry_out(d);
	} else if (d->notice) {
		delivery_outcome(d, RECIPIENT_TODO, 450, "4.0.0",
				 message_error(m) != NULL ? message_error(m) : "not tried yet");
		conclude(&d->timer);
	} else if (d->expired) {
		bool deadline =
			d->e.by == ENVELOPE_BY_RETURN && shard_wall_s(w->shard) >= d->e.by_at_s;
		delivery_outcome(d, RECIPIENT_TODO, 554, deadline ? "5.4.7" : "4.4.7",
				 message_error(m) != NULL ? message_error(m)
				 : deadline               ? "delivery deadline passed"
							  : "delivery time expired");
		delivery_end(d);
	} else if (d->client == NULL) {
		/* its connection went away meanwhile; the message has lost nothing */
		m->attempts--;
		delivery_free(d);
		message_ready(m);
	} else {
		client_transact(d->client);
	}
}

static void envelope_loaded(struct spool_request *r)
{
	struct delivery *d = answered(r);

	d->envelope->end = (uint32_t)r->read_bytes;
	loaded(d, r->verdict == 0);
}

unsigned deliveries_loaded(struct relay_worker *w)
{
	struct list *l;
	unsigned n = 0;

	while ((l = list_pop_front(&w->loaded)) != NULL) {
		loaded(container_of(l, struct delivery, loaded), true);
		n++;
	}
	return n;
}

static struct delivery *begin(struct message *m, struct client *c)
{
	struct relay_worker *w = worker_of(m);
	handle_t h;
	struct delivery *d = slab_alloc(w->deliveries, &h);
	uint32_t bytes = m->envelope_units * ENVELOPE_UNIT;
	enum chunk_size size = bytes <= chunk_capacity(CHUNK_4K)    ? CHUNK_4K
			       : bytes <= chunk_capacity(CHUNK_16K) ? CHUNK_16K
								    : CHUNK_64K;
	if (d == NULL) {
		message_defer(m, "too many deliveries at once", RETRY_SPOOL_US);
		if (c != NULL)
			client_idle(c, false);
		return NULL;
	}
	*d = (struct delivery){.worker = w, .message = m, .client = c, .handle = h};
	timer_init(&d->timer, NULL);
	m->delivery = d;
	list_init(&d->loaded);
	d->copy = memory_take(w->memory, m->id);
	if (c != NULL)
		c->delivery = d;
	d->envelope = chunk_alloc(w->shard->chunks, size, true);
	d->request = (struct spool_request){
		.op = SPOOL_READ,
		.id = m->id,
		.user = d,
		.done = envelope_loaded,
		.chunks = d->envelope,
		.read_envelope = true,
		.read_bytes = bytes,
	};
	return d;
}

static void load_envelope(struct delivery *d)
{
	if (d->envelope != NULL && d->copy != NULL && memory_envelope(d->copy, d->envelope))
		list_push_back(&d->worker->loaded, &d->loaded);
	else if (d->envelope == NULL || ask(d) < 0)
		delivery_drop(d, "out of memory");
}

void delivery_begin(struct message *m, struct client *c)
{
	struct delivery *d = begin(m, c);

	if (d == NULL)
		return;
	m->attempts += m->attempts < ATTEMPTS_MOST;
	d->expired = d->due = c == NULL;
	worker_of(m)->ending += d->due;
	if (c != NULL)
		relay_count(worker_of(m),
			    d->copy != NULL ? relay_memory_hits : relay_memory_misses);
	load_envelope(d);
}

void delivery_notice(struct message *m)
{
	struct delivery *d = begin(m, NULL);

	if (d == NULL) {
		m->noticed = false;
		return;
	}
	d->notice = d->due = true;
	worker_of(m)->ending++;
	load_envelope(d);
}

void delivery_ordered(struct message *m, struct relay_order *o, unsigned target)
{
	struct delivery *d = begin(m, NULL);

	if (d == NULL) {
		order_end(o, target, RELAY_FAILED);
		return;
	}
	d->order = o;
	d->target = target;
	load_envelope(d);
}

void delivery_route(struct message *m)
{
	struct delivery *d = begin(m, NULL);

	if (d == NULL)
		return;
	d->route = true;
	worker_of(m)->routing++;
	load_envelope(d);
}

void delivery_outcome(struct delivery *d, enum recipient_state from, unsigned code,
		      const char *status, const char *text)
{
	enum recipient_state to = code / 100 == 2   ? RECIPIENT_DELIVERED
				  : code / 100 == 5 ? RECIPIENT_FAILED
						    : RECIPIENT_DEFERRED;

	for (uint32_t i = 0; i < d->e.recipients; i++) {
		struct recipient *r = &d->recipients[i];
		if (r->state != from)
			continue;
		r->state = to;
		r->stage = (uint8_t)d->stage;
		snprintf(r->status, sizeof(r->status), "%s", status);
		snprintf(r->text, sizeof(r->text), "%u %.140s", code, text);
	}
}

/* 3xx is no answer: later, perhaps, the hop makes sense again. */
void recipient_answered(struct delivery *d, uint32_t i, const struct reply_parser *reply)
{
	struct recipient *r = &d->recipients[i];

	r->state = reply->code / 100 == 2   ? RECIPIENT_DELIVERED
		   : reply->code / 100 == 5 ? RECIPIENT_FAILED
					    : RECIPIENT_DEFERRED;
	r->stage = (uint8_t)d->stage;
	reply_status(reply, r->status);
	snprintf(r->text, sizeof(r->text), "%u %.140s", reply->code, reply_text(reply));
}

static void mark_done(struct delivery *d)
{
	struct message *m = d->message;

	for (uint32_t i = 0; i < d->request.n_dispositions; i++) {
		uint32_t k = d->dispositions[i].recipient;
		if (d->dispositions[i].outcome != SPOOL_DEFERRED)
			m->more->done[k / 8] |= (uint8_t)(1u << k % 8);
	}
}

/* Why the message is still here: the first deferral. */
static const char *deferral(const struct delivery *d)
{
	for (uint32_t i = 0; i < d->e.recipients; i++) {
		if (d->recipients[i].state == RECIPIENT_DEFERRED)
			return d->recipients[i].text;
	}
	return NULL;
}

/* What the attempt came to is kept, whatever the spool says: forgetting it would deliver again. */
static void spool_later(struct delivery *d, void (*again)(struct timer *t))
{
	struct shard *s = d->worker->shard;
	uint64_t us = (uint64_t)RETRY_SPOOL_US << (d->spool_failures < 3 ? d->spool_failures : 3);

	d->spool_failures++;
	timer_init(&d->timer, again);
	timer_arm(s->timers, &d->timer, s->now_us + us);
}

static void dispose_again(struct timer *t)
{
	struct delivery *d = container_of(t, struct delivery, timer);

	if (ask(d) < 0)
		spool_later(d, dispose_again);
}

static void disposed(struct spool_request *r)
{
	struct delivery *d = answered(r);
	struct relay_worker *w = d->worker;
	struct message *m = d->message;

	/* the spool no longer knows the message: its end was recorded before */
	if (r->verdict == -ENOENT) {
		d->last = true;
	} else if (r->verdict < 0) {
		relay_count(w, relay_spool_errors);
		spool_later(d, dispose_again);
		return;
	}
	records_outcomes(d);
	if (d->hop != NULL)
		m->hop = d->hop->number;
	if (d->last) {
		message_free(m);
	} else {
		mark_done(d);
		message_defer(m, deferral(d), d->retry_us);
	}
	delivery_free(d);
}

/* Some recipients are served, and others not yet. */
static bool some_end(const struct delivery *d)
{
	bool ends = false, waits = false;

	for (uint32_t i = 0; i < d->e.recipients; i++) {
		unsigned s = d->recipients[i].state;
		ends |= s == RECIPIENT_DELIVERED || s == RECIPIENT_FAILED;
		waits |= s == RECIPIENT_DEFERRED;
	}
	return ends && waits;
}

static void dispose(struct delivery *d)
{
	struct relay_worker *w = d->worker;
	struct message *m = d->message;
	static const struct {
		enum spool_outcome outcome;
		enum relay_counter counter;
	} outcomes[] = {
		[RECIPIENT_DELIVERED] = {SPOOL_DELIVERED, relay_delivered},
		[RECIPIENT_DEFERRED] = {SPOOL_DEFERRED, relay_deferred},
		[RECIPIENT_FAILED] = {SPOOL_BOUNCED, relay_bounced},
	};
	uint32_t n = 0;
	bool deleted = is_silent(d);

	if (d->dispositions == NULL)
		d->dispositions = calloc(d->e.recipients + 1, sizeof(*d->dispositions));
	/* what mark_done() will need: without it the next attempt would serve again */
	if (d->dispositions == NULL || (some_end(d) && message_more(m) == NULL)) {
		spool_later(d, conclude);
		return;
	}
	d->last = true;
	d->retry_us = message_retry_us(m);
	if (d->probe && d->retry_us > RETRY_PROBE_US)
		d->retry_us = RETRY_PROBE_US;
	for (uint32_t i = 0; i < d->e.recipients; i++) {
		unsigned s = d->recipients[i].state;
		/* one without an outcome would be lost with the message */
		assert(s != RECIPIENT_TODO && s != RECIPIENT_ACCEPTED);
		if (s != RECIPIENT_DELIVERED && s != RECIPIENT_DEFERRED && s != RECIPIENT_FAILED)
			continue;
		d->dispositions[n++] = (struct spool_disposition){
			.recipient = i,
			.outcome = outcomes[s].outcome,
			.retry_at_s = shard_wall_s(w->shard) + (int64_t)(d->retry_us / 1000000),
		};
		relay_count(w, deleted ? relay_deleted : outcomes[s].counter);
		if (s == RECIPIENT_DEFERRED)
			d->last = false;
	}
	d->request = (struct spool_request){
		.op = SPOOL_DISPOSE,
		.id = m->id,
		.user = d,
		.done = disposed,
		.dispositions = d->dispositions,
		.n_dispositions = n,
		.attempts = m->attempts,
		.last = d->last && (split_of(m) == NULL || --split_of(m)->open == 0),
	};
	dispose_again(&d->timer);
}

/* A notice has no outcome to record: the message goes on waiting. */
static void finish(struct delivery *d)
{
	struct message *m = d->message;

	if (!d->notice) {
		dispose(d);
		return;
	}
	records_outcomes(d);
	delivery_free(d);
	message_resume(m);
}

static void reported(struct spool_request *r)
{
	struct delivery *d = answered(r);
	struct relay_worker *w = d->worker;

	if (r->verdict < 0) {
		/* no report, no disposition */
		relay_count(w, relay_spool_errors);
		spool_later(d, conclude);
		return;
	}
	struct spool_found f = {
		.id = r->id,
		.place = r->place,
		.content_bytes = r->body_bytes + r->prefix_bytes,
		.accepted_at_s = shard_wall_s(w->shard),
		.retry_at_s = shard_wall_s(w->shard),
		.recipients = 1,
	};
	relay_count(w, relay_reports);
	d->reported = true;
	d->spool_failures = 0;
	relay_accept(w, &f, r);
	finish(d);
}

static void report(struct delivery *d)
{
	if (!report_build(d, &d->request)) {
		spool_later(d, conclude);
		return;
	}
	d->request.user = d;
	d->request.done = reported;
	if (ask(d) < 0)
		spool_later(d, conclude);
}

/* A report without a piece of the message is better than none. */
static void head_read(struct spool_request *r)
{
	struct delivery *d = answered(r);

	d->head->end = r->verdict < 0 ? 0 : (uint32_t)r->read_bytes;
	d->head_read = true;
	report(d);
}

/* What a report returns of the message: its header, or all of it while it is small. */
static void read_head(struct delivery *d)
{
	struct relay_worker *w = d->worker;
	uint64_t all = d->message->content_bytes;

	if (d->head == NULL)
		d->head = chunk_alloc(w->shard->chunks, CHUNK_64K, true);
	if (d->head == NULL) /* a shorter header is better than to wait for memory */
		d->head = chunk_alloc(w->shard->chunks, CHUNK_4K, true);
	if (d->head == NULL) {
		spool_later(d, conclude);
		return;
	}
	d->request = (struct spool_request){
		.op = SPOOL_READ,
		.id = d->message->id,
		.user = d,
		.done = head_read,
		.chunks = d->head,
		.read_bytes = all < d->head->size ? all : d->head->size,
	};
	if (ask(d) < 0)
		spool_later(d, conclude);
}

static bool report_owed(const struct delivery *d)
{
	struct envelope_recipient to;
	size_t cursor = 0;

	for (uint32_t i = 0;
	     !d->reported &&
	     envelope_next_recipient(d->envelope->data, d->envelope->end, &cursor, &to);
	     i++) {
		if (report_action(d, &d->recipients[i], &to) != REPORT_NONE)
			return true;
	}
	return false;
}

static void conclude(struct timer *t)
{
	struct delivery *d = container_of(t, struct delivery, timer);

	/* a report about a report would be the beginning of a loop (RFC 5321 section 6.1) */
	if (d->e.reverse_path.bytes == 0 || is_silent(d) || !report_owed(d))
		finish(d);
	else if (!d->head_read)
		read_head(d);
	else
		report(d);
}

static void log_outcome(const struct delivery *d)
{
	char id[SPOOL_ID_TEXT];
	uint32_t count[RECIPIENT_FAILED + 1] = {0};
	const char *text = "";

	for (uint32_t i = 0; i < d->e.recipients; i++) {
		count[d->recipients[i].state]++;
		if (d->recipients[i].text[0] != '\0')
			text = d->recipients[i].text;
	}
	log_info("relay", "%s: delivered %u, deferred %u, failed %u: %s",
		 spool_id_text(d->message->id, id), count[RECIPIENT_DELIVERED],
		 count[RECIPIENT_DEFERRED], count[RECIPIENT_FAILED], text);
}

static bool any_failed(const struct delivery *d)
{
	for (uint32_t i = 0; i < d->e.recipients; i++) {
		if (d->recipients[i].state == RECIPIENT_FAILED)
			return true;
	}
	return false;
}

void delivery_end(struct delivery *d)
{
	d->attempt.ended_us = d->worker->shard->now_us;
	/* sent, or put off; the entries of other pools may still want it */
	give_back(d);
	if (split_of(d->message) == NULL)
		memory_forget(d->worker->memory, d->message->id);
	log_outcome(d);
	if (any_failed(d) && d->e.reverse_path.bytes == 0)
		relay_count(d->worker, relay_reports_suppressed);
	else if (any_failed(d) && !report_owed(d))
		relay_count(d->worker, relay_reports_unwanted);
	conclude(&d->timer);
}

void delivery_adrift(struct delivery *d)
{
	if (d->recipients == NULL) {
		delivery_drop(d, "the attempt stood still");
		return;
	}
	delivery_outcome(d, RECIPIENT_TODO, 451, "4.3.0", "the attempt stood still");
	delivery_outcome(d, RECIPIENT_ACCEPTED, 451, "4.3.0", "the attempt stood still");
	conclude(&d->timer);
}
