/*
 * fair.c - what sessions may send of message data at a time: shares of one promise.
 *
 * The windows of all sessions in a data phase together must leave room for the bodies, or
 * streams fill the pool with octets that no session finds a chunk to take up.  So a quarter of the
 * pool is divided: first among the tenants that are sending (a user without a tenant is one of his
 * own), by weight, then among the sessions of each.  A tenant that opens a thousand sessions makes
 * its own windows small and nobody else's.
 *
 * A window only grows at once; a smaller share comes into force as data is consumed.
 */
#include "smtp/internal.h"

#include <string.h>

enum { SHARE_US = 100000 };

/* The sender's place in the table; the last one is for all who find none. */
static unsigned load_of(struct smtp_worker *w, uint64_t key)
{
	unsigned free_place = SENDER_PLACES - 1;

	for (unsigned i = 0; i < SENDER_PLACES - 1; i++) {
		unsigned at = (unsigned)((key + i) % (SENDER_PLACES - 1));
		struct sender *x = &w->senders[at];
		if (x->sessions > 0 && x->key == key)
			return at;
		if (x->sessions == 0 && free_place == SENDER_PLACES - 1)
			free_place = at;
		if (x->sessions == 0 && !x->used)
			break;
	}
	return free_place;
}

static uint32_t share(const struct smtp_worker *w, unsigned place)
{
	const struct sender *x = &w->senders[place];
	uint64_t all = chunk_pool_bytes(w->shard->chunks) / 4;
	uint64_t own = all * x->weight / w->sending_weight / x->sessions;

	return own > DATA_WINDOW      ? DATA_WINDOW
	       : own < RECEIVE_WINDOW ? RECEIVE_WINDOW
				      : (uint32_t)own;
}

void fair_again(struct timer *t)
{
	struct smtp_worker *w = container_of(t, struct smtp_worker, shares);

	list_each (l, &w->sending) {
		struct smtp_session *s = container_of(l, struct smtp_session, sending);
		stream_set_receive_limit(s->conn.stream, share(w, s->place));
	}
	if (!list_empty(&w->sending))
		timer_arm(w->shard->timers, t, w->shard->now_us + SHARE_US);
}

void fair_begin(struct smtp_session *s)
{
	struct smtp_worker *w = s->worker;
	const struct smtp_class *k = session_class(s);
	const char *tenant = session_tenant(s);
	const char *name = tenant[0] != '\0' ? tenant : s->user;
	uint64_t key =
		quota_key(w->shared->quotas, tenant[0] != '\0' ? 't' : 'u', name, strlen(name));
	s->place = (uint8_t)load_of(w, key);
	struct sender *x = &w->senders[s->place];
	if (x->sessions++ == 0) {
		x->key = key;
		x->used = true;
		x->weight = k->weight != 0 ? k->weight : 1;
		w->sending_weight += x->weight;
	}
	list_push_back(&w->sending, &s->sending);
	stream_set_receive_limit(s->conn.stream, share(w, s->place));
	if (!timer_armed(&w->shares))
		timer_arm(w->shard->timers, &w->shares, w->shard->now_us + SHARE_US);
}

void fair_end(struct smtp_session *s)
{
	struct smtp_worker *w = s->worker;
	struct sender *x = &w->senders[s->place];

	if (list_empty(&s->sending))
		return;
	list_del(&s->sending);
	if (--x->sessions == 0)
		w->sending_weight -= x->weight;
	if (s->conn.stream != NULL)
		stream_set_receive_limit(s->conn.stream, RECEIVE_WINDOW);
}
