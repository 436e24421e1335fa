/*
 * watch.c - whether everything in the queue still waits for something.
 *
 * A look of its own at every entry, a few at a time, that trusts no other file to have armed what
 * it should: a lost timer, list or connection costs minutes, not the message.
 */
#include "base/log.h"
#include "smtp/relay/internal.h"

enum {
	WATCH_US = 4000, /* between two looks; a million entries take about a minute */
	WATCH_ENTRIES = 64,
	OVERDUE_US = 60 * 1000000,    /* a timer of ours that has not fired */
	SPOOL_US = 10 * 60 * 1000000, /* a request that has not come back */
};

static void found(const struct message *m, const char *what)
{
	char id[SPOOL_ID_TEXT];

	relay_count(worker_of(m), relay_stuck);
	log_error("relay", "%s: %s", spool_id_text(m->id, id), what);
}

static bool ticks(const struct relay_worker *w, const struct timer *t)
{
	return timer_armed(t) && t->due_us + OVERDUE_US > w->shard->now_us;
}

static void watch_delivery(struct message *m, struct delivery *d)
{
	struct relay_worker *w = worker_of(m);
	uint64_t now = w->shard->now_us;

	/* its envelope came from memory: it goes on this turn */
	if (!list_empty(&d->loaded))
		return;
	if (d->asked) {
		/* its memory is the spool's, and it may hold an outcome: nothing but to wait */
		if (!d->stuck && now - d->asked_us > SPOOL_US) {
			d->stuck = true;
			found(m, "the spool has not answered for ten minutes");
		}
	} else if (d->client != NULL && d->client->delivery == d) {
		if (ticks(w, &d->client->timer))
			return;
		found(m, "its connection waited without end");
		client_arm(d->client, 0);
	} else if (timer_armed(&d->timer)) {
		if (ticks(w, &d->timer))
			return;
		found(m, "its attempt was not taken up in time");
		timer_arm(w->shard->timers, &d->timer, now);
	} else {
		found(m, "its attempt stood still");
		delivery_adrift(d);
	}
}

static bool attended(const struct message *m)
{
	struct delivery *d = m->delivery;

	return d != NULL && slab_get(worker_of(m)->deliveries, d->handle) == d && d->message == m;
}

static void watch(struct message *m)
{
	const struct relay_worker *w = worker_of(m);

	switch (m->state) {
	case MESSAGE_READY:
		if (ticks(w, &m->timer) && !list_empty(&m->link))
			return;
		found(m, "ready, but out of the list or without a timer");
		message_leave(m);
		message_ready(m);
		return;
	case MESSAGE_DEFERRED:
		if (ticks(w, &m->timer))
			return;
		found(m, "deferred, but without a timer or long due");
		message_resume(m);
		return;
	case MESSAGE_DUE:
		if (!list_empty(&m->link))
			return;
		found(m, "due, but out of the list");
		message_resume(m);
		return;
	case MESSAGE_HELD:
		if (m->held)
			return;
		found(m, "held by nobody");
		message_resume(m);
		return;
	case MESSAGE_ACTIVE:
		if (attended(m)) {
			watch_delivery(m, m->delivery);
			return;
		}
		found(m, "being delivered by nobody");
		message_defer(m, "the attempt was lost", RETRY_PROBE_US);
		return;
	}
}

void queue_watch(struct relay_worker *w)
{
	uint64_t now = w->shard->now_us;

	if (now < w->watch_us)
		return;
	w->watch_us = now + WATCH_US;
	if (w->watched >= slab_extent(w->messages))
		w->watched = 0;
	for (unsigned i = 0; i < WATCH_ENTRIES && w->watched < slab_extent(w->messages); i++) {
		struct message *m = slab_at(w->messages, w->watched++, NULL);
		if (m != NULL)
			watch(m);
	}
}
