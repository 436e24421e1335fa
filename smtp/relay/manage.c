/*
 * manage.c - what an operator orders: hold, release, retry, route here; bounce and delete go the
 * way of an attempt (delivery.c).
 *
 * A decision counts at once in the queue, and is reported as done when the spool has it.  What is
 * written is the entry's state at that moment, so a later decision is never undone by an earlier
 * one that the spool refused at first.
 */
#include "smtp/relay/manage.h"

#include "base/crc32c.h"
#include "base/log.h"
#include "smtp/relay/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const relay_verb_names[RELAY_VERBS] = {
	[RELAY_HOLD] = "hold",   [RELAY_RELEASE] = "release", [RELAY_RETRY] = "retry",
	[RELAY_ROUTE] = "route", [RELAY_BOUNCE] = "bounce",   [RELAY_DELETE] = "delete",
};

/* A mark on its way into the spool. */
struct change {
	struct list link; /* in worker->changes */
	struct timer timer;
	struct spool_request request;
	struct relay_worker *worker;
	struct relay_order *order;
	unsigned target, failures;
};

uint32_t pool_mark(const char *name)
{
	uint32_t mark = crc32c(0, name, strlen(name));

	return mark != 0 ? mark : 1;
}

void order_end(struct relay_order *o, unsigned target, enum relay_result result)
{
	o->targets[target].result = result;
	atomic_fetch_sub_explicit(&o->pending, 1, memory_order_release);
}

static void change_end(struct change *c, enum relay_result result)
{
	order_end(c->order, c->target, result);
	list_del(&c->link);
	free(c);
}

static void submit(struct change *c);

static void submit_again(struct timer *t)
{
	submit(container_of(t, struct change, timer));
}

static void later(struct change *c)
{
	struct shard *s = c->worker->shard;

	c->failures += c->failures < 3;
	timer_arm(s->timers, &c->timer, s->now_us + ((uint64_t)RETRY_SPOOL_US << c->failures));
}

static void marked(struct spool_request *r)
{
	struct change *c = r->user;
	struct relay_worker *w = c->worker;

	w->spool_pending--;
	if (r->verdict == -ENOENT) {
		change_end(c, RELAY_GONE);
	} else if (r->verdict < 0) {
		relay_count(w, relay_spool_errors);
		later(c);
	} else {
		const struct message *m =
			slab_get(w->messages, c->order->targets[c->target].message);
		records_order(w, m, c->order, r->id);
		change_end(c, RELAY_DONE);
	}
}

static void submit(struct change *c)
{
	struct relay_worker *w = c->worker;
	const struct message *m = slab_get(w->messages, c->order->targets[c->target].message);

	if (m == NULL) {
		change_end(c, RELAY_GONE);
		return;
	}
	c->request = (struct spool_request){
		.op = SPOOL_DISPOSE,
		.id = m->id,
		.user = c,
		.done = marked,
		.marked = true,
		.mark = {.held = m->held,
			 .route = m->routed ? pool_mark(pool_of(m)->config.name) : 0,
			 .released_at_s = m->released ? m->released_at_s : 0},
		.retry_at_s = message_next_at_s(m),
	};
	if (relay_submit(w, &c->request) < 0)
		later(c);
}

void changes_free(struct relay_worker *w)
{
	list_each_safe (it, &w->changes) {
		struct change *c = container_of(it, struct change, link);
		timer_cancel(w->shard->timers, &c->timer);
		free(c);
	}
}

/* Out of whatever it waits for. */
static void take_out(struct message *m)
{
	message_leave(m);
	timer_cancel(worker_of(m)->shard->timers, &m->timer);
}

static bool is_held(const struct message *m)
{
	return m->held || message_status(m) == RELAY_HELD;
}

static void hold(struct message *m, const struct relay_order *o)
{
	m->held = true;
	if (m->state == MESSAGE_ACTIVE) /* held when its attempt has ended */
		return;
	take_out(m);
	message_resume(m);
}

static void be_ready(struct message *m)
{
	if (m->state == MESSAGE_ACTIVE)
		return;
	take_out(m);
	message_ready(m);
}

static void release(struct message *m, const struct relay_order *o)
{
	m->held = false;
	m->released = true;
	m->released_at_s = (uint32_t)shard_wall_s(worker_of(m)->shard);
	be_ready(m);
}

static void route(struct message *m, const struct relay_order *o)
{
	unsigned pool = (unsigned)pool_index(worker_of(m), o->pool);

	bool held = is_held(m);

	if (m->state != MESSAGE_ACTIVE)
		take_out(m);
	m->pool = (uint8_t)pool;
	m->routed = true;
	if (m->state == MESSAGE_ACTIVE)
		return;
	if (held)
		message_resume(m);
	else
		message_ready(m);
}

static void retry(struct message *m, const struct relay_order *o)
{
	be_ready(m);
	/* nor does a hop's own back-off stand between */
	for (unsigned i = 0; m->pool < worker_of(m)->n_pools && i < pool_of(m)->n_hops; i++)
		pool_of(m)->hops[i]->closed_until_us = 0;
}

/* RELAY_DONE: there is something to do. */
static enum relay_result check(const struct relay_worker *w, const struct message *m,
			       const struct relay_order *o)
{
	int pool;

	switch (o->verb) {
	case RELAY_HOLD:
		return m->held ? RELAY_SAME : RELAY_DONE;
	case RELAY_RELEASE:
		return is_held(m) ? RELAY_DONE : RELAY_SAME;
	case RELAY_RETRY:
		if (is_held(m))
			return RELAY_IS_HELD;
		return m->state == MESSAGE_ACTIVE ? RELAY_SAME : RELAY_DONE;
	case RELAY_ROUTE:
		pool = pool_index(w, o->pool);
		if (pool < 0)
			return RELAY_NO_POOL;
		return m->routed && m->pool == pool ? RELAY_SAME : RELAY_DONE;
	case RELAY_BOUNCE:
	case RELAY_DELETE:
		return m->state == MESSAGE_ACTIVE ? RELAY_BUSY : RELAY_DONE;
	case RELAY_VERBS:
		break;
	}
	return RELAY_FAILED;
}

static void each_entry(struct message *m, const struct relay_order *o,
		       void (*fn)(struct message *m, const struct relay_order *o))
{
	struct split *s = split_of(m);

	if (s == NULL) {
		fn(m, o);
		return;
	}
	for (unsigned i = 0; i < s->entries; i++)
		fn(s->entry[i], o);
}

static void change(struct message *m, struct relay_order *o, unsigned target)
{
	struct relay_worker *w = worker_of(m);
	struct change *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		order_end(o, target, RELAY_FAILED);
		return;
	}
	c->worker = w;
	c->order = o;
	c->target = target;
	timer_init(&c->timer, submit_again);
	list_push_back(&w->changes, &c->link);
	if (o->verb == RELAY_RETRY)
		retry(m, o);
	else
		each_entry(m, o,
			   o->verb == RELAY_HOLD      ? hold
			   : o->verb == RELAY_RELEASE ? release
						      : route);
	submit(c);
}

void relay_order(struct relay_worker *w, struct relay_order *o)
{
	log_info("relay", "%s of %u messages ordered by uid %u: %s", relay_verb_names[o->verb],
		 o->n, o->uid, o->reason);
	for (unsigned i = 0, n = o->n; i < n; i++) {
		struct message *m = slab_get(w->messages, o->targets[i].message);
		enum relay_result r =
			m != NULL && m->id == o->targets[i].id ? check(w, m, o) : RELAY_GONE;

		relay_count(w, relay_ordered);
		if (r != RELAY_DONE) {
			order_end(o, i, r);
		} else if (o->verb == RELAY_BOUNCE || o->verb == RELAY_DELETE) {
			take_out(m);
			m->state = MESSAGE_ACTIVE;
			delivery_ordered(m, o, i);
		} else {
			change(m, o, i);
		}
	}
}
