/*
 * queue.c - the messages of one worker: ready, deferred, under way.
 *
 * A message has its own timer in every waiting state (next attempt, or expiry), so none can
 * stay without delivery, report or expiry.
 */
#include "base/log.h"
#include "smtp/relay/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

COUNTER_TABLE(relay, RELAY_COUNTERS)

/* One a connection, and expiries, notices and look-ups on top; memory is taken as they come. */
enum { DELIVERIES = 65536 };

enum { DUE_A_TURN = 16, DUE_AT_ONCE = 128 };

static uint64_t us_until(const struct relay_worker *w, int64_t unix_s)
{
	int64_t left = unix_s - shard_wall_s(w->shard);

	return left > 0 ? (uint64_t)left * 1000000 : 0;
}

static uint64_t longer(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t message_give_up_us(const struct message *m)
{
	const struct relay_worker *w = worker_of(m);
	uint64_t us = 0;

	if (m->pool < w->n_pools)
		return w->pools[m->pool]->config.give_up_us;
	for (unsigned i = 0; i < w->n_pools; i++)
		us = longer(us, w->pools[i]->config.give_up_us);
	return us;
}

static uint64_t notice_after_us(const struct message *m)
{
	const struct relay_worker *w = worker_of(m);
	uint64_t us = 0;

	if (m->pool < w->n_pools)
		return w->pools[m->pool]->config.notice_us;
	for (unsigned i = 0; i < w->n_pools; i++)
		us = longer(us, w->pools[i]->config.notice_us);
	return us;
}

static uint64_t us_to_expiry(const struct message *m)
{
	const struct relay_worker *w = worker_of(m);
	int64_t age_s = shard_wall_s(w->shard) - m->released_at_s;
	uint64_t age_us = age_s > 0 ? (uint64_t)age_s * 1000000 : 0;
	uint64_t give_up = message_give_up_us(m);
	uint64_t left = age_us < give_up ? give_up - age_us : 0;

	if (m->by != ENVELOPE_BY_RETURN)
		return left;
	uint64_t deadline = us_until(w, m->more->by_at_s);
	return deadline < left ? deadline : left;
}

static uint64_t us_to_notice_at(const struct message *m, uint64_t notice_us)
{
	const struct relay_worker *w = worker_of(m);
	uint64_t left = us_until(w, m->released_at_s + (int64_t)(notice_us / 1000000));

	if (m->by != ENVELOPE_BY_NOTIFY)
		return left;
	uint64_t deadline = us_until(w, m->more->by_at_s);
	return deadline < left ? deadline : left;
}

/* Until the sender may want to hear that it is not delivered yet; UINT64_MAX: never more. */
static uint64_t us_to_notice(const struct message *m)
{
	return m->noticed ? UINT64_MAX : us_to_notice_at(m, notice_after_us(m));
}

/* By the times of its pool, or of any while nobody has looked which that is. */
static bool notice_was_due(const struct message *m)
{
	const struct relay_worker *w = worker_of(m);

	for (unsigned i = 0; i < w->n_pools; i++) {
		if ((m->pool == i || m->pool >= w->n_pools) &&
		    us_to_notice_at(m, w->pools[i]->config.notice_us) == 0)
			return true;
	}
	return false;
}

/* Whatever happens to the hops: at the next of these times something becomes of it. */
static void arm_ready(struct message *m)
{
	struct relay_worker *w = worker_of(m);
	uint64_t expiry = us_to_expiry(m), notice = us_to_notice(m);

	timer_arm(w->shard->timers, &m->timer,
		  w->shard->now_us + (notice < expiry ? notice : expiry));
}

static void be_due(struct message *m, uint64_t us)
{
	m->due_ms = (us + 999) / 1000;
}

static bool is_due(const struct message *m)
{
	return m->due_ms <= (worker_of(m)->shard->now_us + 999) / 1000;
}

int64_t message_next_at_s(const struct message *m)
{
	return ((int64_t)m->due_ms * 1000 + worker_of(m)->shard->wall_offset_us) / 1000000;
}

const char *message_error(const struct message *m)
{
	return error_text(worker_of(m)->errors, m->error);
}

struct message_more *message_more(struct message *m)
{
	if (m->more == NULL)
		m->more = calloc(1, sizeof(*m->more) + (m->recipients + 7) / 8 + 1);
	return m->more;
}

/* What is due already waits for the time as well: it could not be dealt with just now. */
static void arm_deferred(struct message *m)
{
	struct relay_worker *w = worker_of(m);
	uint64_t now = w->shard->now_us, due = m->due_ms * 1000, us = due > now ? due - now : 0;
	uint64_t expiry = us_to_expiry(m), notice = us_to_notice(m);

	us = expiry > 0 && expiry < us ? expiry : us;
	us = notice > 0 && notice < us ? notice : us;
	timer_arm(w->shard->timers, &m->timer, now + us);
}

static struct ready *ready_list(const struct message *m)
{
	struct relay_worker *w = worker_of(m);

	return m->pool < w->n_pools ? &w->pools[m->pool]->ready : &w->unrouted;
}

void message_leave(struct message *m)
{
	if (m->state != MESSAGE_READY && m->state != MESSAGE_DUE)
		return;
	list_del(&m->link);
	if (m->state == MESSAGE_READY)
		ready_list(m)->n--;
}

/* A restart, a reload or a clock may make very many due at once. */
static void message_due(struct message *m)
{
	struct relay_worker *w = worker_of(m);

	m->state = MESSAGE_DUE;
	list_push_back(&w->due, &m->link);
}

static void see_to(struct message *m)
{
	struct relay_worker *w = worker_of(m);

	if (us_to_expiry(m) == 0) {
		relay_count(w, relay_expired);
		if (m->by == ENVELOPE_BY_RETURN && us_until(w, m->more->by_at_s) == 0)
			relay_count(w, relay_deadline_passed);
		m->state = MESSAGE_ACTIVE;
		delivery_begin(m, NULL);
	} else if (us_to_notice(m) == 0) {
		relay_count(w, relay_notices);
		m->noticed = true;
		m->state = MESSAGE_ACTIVE;
		delivery_notice(m);
	} else { /* a reload gave it more time */
		message_resume(m);
	}
}

static void due_dispatch(struct relay_worker *w)
{
	for (unsigned i = 0; i < DUE_A_TURN && w->ending < DUE_AT_ONCE; i++) {
		struct list *l = list_pop_front(&w->due);
		if (l == NULL)
			return;
		see_to(container_of(l, struct message, link));
	}
}

static void message_timer(struct timer *t)
{
	struct message *m = container_of(t, struct message, timer);

	if (us_to_expiry(m) == 0 || us_to_notice(m) == 0) {
		message_leave(m);
		message_due(m);
	} else if (m->state == MESSAGE_DEFERRED && is_due(m)) {
		message_ready(m);
	} else { /* the wall clock has seconds only */
		if (m->state == MESSAGE_DEFERRED)
			arm_deferred(m);
		else
			arm_ready(m);
	}
}

/* Held: nothing becomes of it until it is released. */
static bool parked(struct message *m)
{
	if (!m->held)
		return false;
	m->state = MESSAGE_HELD;
	return true;
}

void message_ready(struct message *m)
{
	struct relay_worker *w = worker_of(m);
	struct ready *r = ready_list(m);

	if (parked(m))
		return;
	be_due(m, w->shard->now_us);
	if (us_to_expiry(m) == 0 || us_to_notice(m) == 0) {
		message_due(m);
		return;
	}
	m->state = MESSAGE_READY;
	list_push_back(&r->list[PRIORITIES / 2 - m->priority], &m->link);
	r->n++;
	arm_ready(m);
}

struct message *message_pop(struct relay_worker *w, struct ready *r)
{
	for (unsigned i = 0; i < PRIORITIES; i++) {
		struct list *l = list_pop_front(&r->list[i]);
		if (l == NULL)
			continue;
		struct message *m = container_of(l, struct message, link);
		r->n--;
		timer_cancel(w->shard->timers, &m->timer);
		return m;
	}
	return NULL;
}

void message_resume(struct message *m)
{
	if (is_due(m)) {
		message_ready(m);
		return;
	}
	if (parked(m))
		return;
	m->state = MESSAGE_DEFERRED;
	arm_deferred(m);
}

uint64_t message_retry_us(const struct message *m)
{
	const struct relay_pool *c = &pool_of(m)->config;
	uint64_t us = c->retry_first_us, most = us_to_expiry(m);

	for (uint32_t i = 1; i < m->attempts && us < c->retry_max_us; i++)
		us *= c->retry_factor;
	if (us > c->retry_max_us)
		us = c->retry_max_us;
	/* a fifth of jitter either way */
	us = us - us / 5 + shard_random(worker_of(m)->shard) % (us / 5 * 2 + 1);
	return us < most ? us : most;
}

void message_defer(struct message *m, const char *why, uint64_t us)
{
	struct relay_worker *w = worker_of(m);

	memory_forget(w->memory, m->id);
	error_drop(w->errors, m->error);
	m->error = error_take(w->errors, why);
	be_due(m, w->shard->now_us + us);
	if (parked(m))
		return;
	m->state = MESSAGE_DEFERRED;
	arm_deferred(m);
}

void message_free(struct message *m)
{
	struct relay_worker *w = worker_of(m);

	timer_cancel(w->shard->timers, &m->timer);
	if (m->state == MESSAGE_READY || m->state == MESSAGE_DUE)
		list_del(&m->link);
	error_drop(w->errors, m->error);
	if (split_of(m) == NULL || split_of(m)->entries == 1)
		memory_forget(w->memory, m->id);
	split_leave(m);
	free(m->more);
	slab_free(w->messages, slab_dense_handle(m));
	counter_set(&w->counters[relay_queue_entries], slab_used(w->messages));
}

struct message *message_alloc(struct relay_worker *w)
{
	struct message *m = slab_alloc(w->messages, NULL);

	if (m == NULL) {
		relay_count(w, relay_queue_full);
		return NULL;
	}
	list_init(&m->link);
	timer_init(&m->timer, message_timer);
	counter_set(&w->counters[relay_queue_entries], slab_used(w->messages));
	return m;
}

/* What an operator decided before the restart. */
static void recall(struct message *m, const struct spool_mark *mark)
{
	const struct relay_worker *w = worker_of(m);

	m->held = mark->held;
	m->released = mark->released_at_s != 0;
	if (m->released)
		m->released_at_s = (uint32_t)mark->released_at_s;
	for (unsigned i = 0; mark->route != 0 && i < w->n_pools && !m->routed; i++) {
		if (pool_mark(w->pools[i]->config.name) != mark->route)
			continue;
		m->pool = (uint8_t)i;
		m->routed = true;
	}
}

/* Rounded up; one longer than a chunk cannot be read anyway. */
static uint8_t envelope_units(uint32_t bytes)
{
	uint32_t units = (bytes + ENVELOPE_UNIT - 1) / ENVELOPE_UNIT;

	return (uint8_t)(units < UINT8_MAX ? units : UINT8_MAX);
}

static bool any_bit(const uint8_t *bits, size_t n)
{
	for (size_t i = 0; bits != NULL && i < n; i++) {
		if (bits[i] != 0)
			return true;
	}
	return false;
}

int relay_add(struct relay_worker *w, const struct spool_found *f)
{
	struct message *m = message_alloc(w);
	size_t bits = (f->recipients + 7) / 8;

	if (m == NULL)
		return -ENOMEM;
	m->pool = routes_trivial(w) ? 0 : POOL_UNROUTED;
	m->id = f->id;
	m->content_bytes = f->content_bytes;
	m->envelope_units = envelope_units(f->place.envelope_bytes);
	m->accepted_at_s = (uint32_t)f->accepted_at_s;
	m->released_at_s =
		(uint32_t)(f->hold_until_s > f->accepted_at_s ? f->hold_until_s : f->accepted_at_s);
	recall(m, &f->mark);
	m->recipients = f->recipients;
	/* without its bits a recipient would get the message again */
	bool rare = f->by != 0 || any_bit(f->done, bits);
	if (rare && message_more(m) == NULL) {
		message_free(m);
		relay_count(w, relay_queue_full);
		return -ENOMEM;
	}
	if (rare && f->done != NULL)
		memcpy(m->more->done, f->done, bits);
	if (rare)
		m->more->by_at_s = f->by_at_s;
	m->by = f->by;
	m->priority = f->priority;
	/* after a restart: who wanted to hear of it has heard, rather than twice */
	m->noticed = f->attempts > 0 && notice_was_due(m);
	m->attempts = f->attempts < ATTEMPTS_MOST ? f->attempts : ATTEMPTS_MOST;
	be_due(m, w->shard->now_us + us_until(w, f->retry_at_s));
	message_resume(m);
	return 0;
}

int relay_accept(struct relay_worker *w, const struct spool_found *f,
		 const struct spool_request *commit)
{
	int rc = relay_add(w, f);

	/* one that is not tried yet would only be in the way */
	if (rc == 0 && us_until(w, f->retry_at_s) == 0)
		memory_keep(w->memory, commit);
	return rc;
}

int relay_submit(struct relay_worker *w, struct spool_request *r)
{
	int rc = spool_submit(w->env.spool_client, r);

	if (rc == 0)
		w->spool_pending++;
	else
		relay_count(w, relay_spool_errors);
	return rc;
}

static void ready_init(struct ready *r)
{
	for (unsigned i = 0; i < PRIORITIES; i++)
		list_init(&r->list[i]);
}

struct relay_worker *relay_worker_create(const struct relay_env *env, const struct relay_config *c)
{
	struct relay_worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->env = *env;
	w->shard = env->shard;
	ready_init(&w->unrouted);
	list_init(&w->due);
	list_init(&w->retired);
	list_init(&w->changes);
	list_init(&w->loaded);
	w->memory = memory_create(w->shard->chunks, c->memory, w->counters);
	w->messages = slab_create_dense(sizeof(struct message), c->max_messages, w);
	w->errors = errors_create();
	w->deliveries = slab_create(sizeof(struct delivery), DELIVERIES);
	if (w->memory == NULL || w->messages == NULL || w->errors == NULL ||
	    w->deliveries == NULL || pools_update(w, c) < 0) {
		relay_worker_destroy(w);
		return NULL;
	}
	return w;
}

void relay_worker_configure(struct relay_worker *w, const struct relay_config *c)
{
	memory_limit(w->memory, c->memory);
	if (pools_update(w, c) < 0)
		log_error("relay", "no memory for the new pools: the old ones stay");
}

static void each_client(struct relay_worker *w, void (*fn)(struct client *c))
{
	for (unsigned i = 0; i < w->n_pools; i++) {
		for (unsigned k = 0; k < w->pools[i]->n_hops; k++) {
			list_each_safe (it, &w->pools[i]->hops[k]->clients)
				fn(container_of(it, struct client, link));
		}
	}
	/* the last client of a retired hop takes it along */
	list_each_safe (at, &w->retired) {
		struct hop *h = container_of(at, struct hop, link);
		hop_use(h);
		list_each_safe (it, &h->clients)
			fn(container_of(it, struct client, link));
		hop_unuse(w, h);
	}
}

static void abort_client(struct client *c)
{
	client_close(c, false);
}

void relay_worker_destroy(struct relay_worker *w)
{
	if (w == NULL)
		return;
	each_client(w, abort_client);
	changes_free(w);
	for (uint32_t i = 0; w->deliveries != NULL && i < slab_extent(w->deliveries); i++) {
		struct delivery *d = slab_at(w->deliveries, i, NULL);
		if (d == NULL)
			continue;
		timer_cancel(w->shard->timers, &d->timer);
		if (d->copy != NULL)
			memory_give_back(w->memory, d->copy);
		free(d->recipients);
		free(d->dispositions);
	}
	for (uint32_t i = 0; w->messages != NULL && i < slab_extent(w->messages); i++) {
		struct message *m = slab_at(w->messages, i, NULL);
		if (m != NULL)
			message_free(m);
	}
	pools_free(w);
	memory_destroy(w->memory);
	slab_destroy(w->messages);
	slab_destroy(w->deliveries);
	errors_destroy(w->errors);
	free(w);
}

unsigned relay_poll(void *relay_worker)
{
	struct relay_worker *w = relay_worker;
	unsigned work = spool_poll(w->env.spool_client) + memory_relieve(w->memory);

	if (w->draining)
		return work + deliveries_loaded(w);
	queue_watch(w);
	if (!list_empty(&w->due))
		due_dispatch(w);
	if (w->unrouted.n > 0)
		routes_dispatch(w);
	for (unsigned i = 0; i < w->n_pools; i++) {
		if (w->pools[i]->ready.n > 0)
			pool_dispatch(w, w->pools[i]);
	}
	return work + deliveries_loaded(w);
}

static void end_client(struct client *c)
{
	if (c->state <= CLIENT_AUTH)
		client_close(c, false);
	else if (c->state == CLIENT_IDLE)
		client_quit(c);
}

void relay_drain(struct relay_worker *w)
{
	w->draining = true;
	memory_limit(w->memory, 0);
	each_client(w, end_client);
}

bool relay_idle(const struct relay_worker *w)
{
	return slab_used(w->deliveries) == 0 && w->spool_pending == 0;
}

bool relay_settled(const struct relay_worker *w)
{
	return w->spool_pending == 0;
}

unsigned relay_queued(const struct relay_worker *w)
{
	return slab_used(w->messages);
}

const uint64_t *relay_counters(const struct relay_worker *w)
{
	return w->counters;
}
