/*
 * hop.c - next hops: which connection takes the next message, when a new one is opened, and
 * the circuit that opens after failures.
 */
#include "base/log.h"
#include "smtp/relay/internal.h"

#include <limits.h>
#include <stdio.h>

enum {
	INTERRUPTIONS = 3,      /* attempts in a row that end with their connection */
	RATE_AHEAD_US = 100000, /* what a rate lets go at once */
};

static bool hop_usable(const struct relay_worker *w, const struct hop *h)
{
	return w->shard->now_us >= h->closed_until_us;
}

static uint64_t back_off(struct relay_worker *w, unsigned failures)
{
	uint64_t us = HOP_FIRST_US;

	for (unsigned i = 0; i < failures && us < HOP_MAX_US; i++)
		us *= 2;
	if (us > HOP_MAX_US)
		us = HOP_MAX_US;
	return us + shard_random(w->shard) % (us / 4 + 1);
}

void hop_failed(struct hop *h, struct relay_worker *w, const char *why)
{
	char addr[ADDR_TEXT_BYTES];

	relay_count(w, relay_connect_failed);
	snprintf(h->last_error, sizeof(h->last_error), "%s", why);
	/* connections opened together fail together: that is one failure of the hop */
	if (!hop_usable(w, h))
		return;
	uint64_t us = back_off(w, h->failures);
	h->failures++;
	h->closed_until_us = w->shard->now_us + us;
	if (h->failures == 1 || h->failures % 16 == 0)
		log_warning("relay", "next hop [%s]:%u: %s; next try in %llu ms",
			    addr_text(&h->config.address, addr), h->config.port, why,
			    (unsigned long long)(us / 1000));
}

bool hop_interrupted(struct hop *h, struct relay_worker *w, const char *why)
{
	uint64_t now = w->shard->now_us;

	/* connections that break together are one failure of the hop */
	if (h->interrupted > 0 && now - h->interrupted_us < HOP_FIRST_US)
		return h->interrupted >= INTERRUPTIONS;
	h->interrupted_us = now;
	if (++h->interrupted < INTERRUPTIONS)
		return false;
	h->closed_until_us = w->shard->now_us + back_off(w, h->interrupted - INTERRUPTIONS);
	snprintf(h->last_error, sizeof(h->last_error), "%s", why);
	if (h->interrupted > INTERRUPTIONS)
		return true;
	relay_count(w, relay_circuits_opened);
	log_warning("relay", "next hop %s breaks off every message: %s", h->config.name, why);
	/* what is open to it is no better */
	hop_use(h);
	list_each_safe (it, &h->clients) {
		struct client *c = container_of(it, struct client, link);
		if (c->state == CLIENT_IDLE)
			client_quit(c);
	}
	hop_unuse(w, h);
	return true;
}

void hop_answered(struct hop *h)
{
	/* the time was that of the circuit, not of connections that failed */
	if (h->interrupted >= INTERRUPTIONS && h->failures == 0)
		h->closed_until_us = 0;
	h->interrupted = 0;
}

/* Those that are idle stand in front. */
static struct client *idle_client(const struct hop *h)
{
	struct client *c = container_of(h->clients.next, struct client, link);

	return !list_empty(&h->clients) && c->state == CLIENT_IDLE ? c : NULL;
}

static bool rate_allows(const struct relay_worker *w, const struct hop *h)
{
	return h->next_us <= w->shard->now_us + RATE_AHEAD_US;
}

static bool may_open(const struct relay_worker *w, const struct pool *p, const struct hop *h)
{
	return h->failures == 0 && h->interrupted < INTERRUPTIONS && hop_usable(w, h) &&
	       rate_allows(w, h) && h->n_clients < p->config.connections;
}

static bool has_idle(const struct relay_worker *w, const struct pool *p, const struct hop *h)
{
	return h->interrupted < INTERRUPTIONS && rate_allows(w, h) && idle_client(h) != NULL;
}

static bool can_take(const struct relay_worker *w, const struct pool *p, const struct hop *h)
{
	return has_idle(w, p, h) || may_open(w, p, h);
}

/* Its last connection came about, or it has one: a hop may refuse more than it likes to have. */
static bool works(const struct relay_worker *w, const struct hop *h)
{
	return h->interrupted < INTERRUPTIONS &&
	       ((h->failures == 0 && hop_usable(w, h)) || h->n_clients > h->n_connecting);
}

/* The lowest priority with a hop that works; UINT_MAX: none does. */
static unsigned best_priority(const struct relay_worker *w, const struct pool *p)
{
	unsigned best = UINT_MAX;

	for (unsigned i = 0; i < p->n_hops; i++) {
		const struct hop *h = p->hops[i];
		if (works(w, h) && h->config.priority < best)
			best = h->config.priority;
	}
	return best;
}

static int weight(const struct hop *h)
{
	return h->config.weight > 0 ? (int)h->config.weight : 1;
}

/* Smooth weighted round robin over the hops of the priority that can. */
static struct hop *next_hop(struct relay_worker *w, struct pool *p, unsigned priority,
			    bool (*can)(const struct relay_worker *w, const struct pool *p,
					const struct hop *h))
{
	struct hop *best = NULL;
	int sum = 0;

	for (unsigned i = 0; i < p->n_hops; i++) {
		struct hop *h = p->hops[i];
		if (h->config.priority != priority || !can(w, p, h))
			continue;
		h->share += weight(h);
		sum += weight(h);
		if (best == NULL || h->share > best->share)
			best = h;
	}
	if (best != NULL)
		best->share -= sum;
	return best;
}

static void give(struct relay_worker *w, struct pool *p, struct hop *h)
{
	struct message *m = message_pop(w, &p->ready);
	struct client *c = idle_client(h);
	uint64_t now = w->shard->now_us;

	h->next_us = (h->next_us > now ? h->next_us : now) + h->config.gap_us;
	m->state = MESSAGE_ACTIVE;
	c->state = CLIENT_LOADING;
	list_del(&c->link);
	list_push_back(&h->clients, &c->link);
	delivery_begin(m, c);
}

/* A hop that has failed is tried with one connection, and one message if it failed with messages,
 * beside those that work: nothing waits for it. */
static void try_failed(struct relay_worker *w, struct pool *p)
{
	for (unsigned i = 0; i < p->n_hops && p->ready.n > 0; i++) {
		struct hop *h = p->hops[i];
		bool breaks = h->interrupted >= INTERRUPTIONS;
		if ((h->failures == 0 && !breaks) || !hop_usable(w, h))
			continue;
		if (breaks && idle_client(h) != NULL) {
			h->closed_until_us = w->shard->now_us + HOP_MAX_US;
			give(w, p, h);
		} else if (h->n_connecting == 0 &&
			   h->n_clients < (breaks ? 1 : p->config.connections)) {
			client_open(w, h);
		}
	}
}

void pool_dispatch(struct relay_worker *w, struct pool *p)
{
	unsigned priority = best_priority(w, p), connecting = 0;
	struct hop *h;

	try_failed(w, p);
	for (unsigned i = 0; i < p->n_hops; i++)
		connecting += p->hops[i]->failures == 0 ? p->hops[i]->n_connecting : 0;
	/* the share decides first; who has no connection yet gets one, and a message later on */
	while (connecting < p->ready.n && (h = next_hop(w, p, priority, can_take)) != NULL) {
		if (has_idle(w, p, h))
			give(w, p, h);
		else if (client_open(w, h))
			connecting++;
		else if (h->failures == 0)
			break; /* for want of memory */
	}
	while (p->ready.n > 0 && (h = next_hop(w, p, priority, has_idle)) != NULL)
		give(w, p, h);
}

static void describe(const struct relay_worker *w, const struct pool *p, const struct hop *h,
		     void (*fn)(void *arg, const struct relay_hop_info *i), void *arg)
{
	uint64_t now = w->shard->now_us;
	struct relay_hop_info info = {
		.hop = &h->config,
		.pool = p->config.name,
		.connections = h->n_clients,
		.down = h->failures > 0 || h->interrupted >= INTERRUPTIONS,
		.retry_at_s = h->closed_until_us > now
				      ? shard_wall_s(w->shard) +
						(int64_t)((h->closed_until_us - now) / 1000000)
				      : 0,
		.last_error = h->last_error,
	};

	fn(arg, &info);
}

void relay_each_hop(struct relay_worker *w, void (*fn)(void *arg, const struct relay_hop_info *i),
		    void *arg)
{
	for (unsigned i = 0; i < w->n_pools; i++) {
		for (unsigned k = 0; k < w->pools[i]->n_hops; k++)
			describe(w, w->pools[i], w->pools[i]->hops[k], fn, arg);
	}
}
