/*
 * pool.c - the pools and hops of this moment.  A reload keeps what stays: hops are the same by
 * address and port, pools by name.  A hop that is configured no more ends its connections one by
 * one and is freed when nobody uses it.
 */
#include "smtp/relay/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct pool *pool_of(const struct message *m)
{
	const struct relay_worker *w = worker_of(m);

	return w->pools[m->pool < w->n_pools ? m->pool : 0];
}

void hop_settle(struct relay_worker *w, struct hop *h)
{
	if (!h->retired || h->uses > 0 || h->n_clients > 0)
		return;
	list_del(&h->link);
	free(h);
}

void hop_unuse(struct relay_worker *w, struct hop *h)
{
	h->uses--;
	hop_settle(w, h);
}

int pool_index(const struct relay_worker *w, const char *name)
{
	for (unsigned i = 0; i < w->n_pools; i++) {
		if (strcmp(w->pools[i]->config.name, name) == 0)
			return (int)i;
	}
	return -1;
}

static void hop_retire(struct relay_worker *w, struct hop *h)
{
	h->retired = true;
	list_push_back(&w->retired, &h->link);
	hop_use(h);
	list_each_safe (it, &h->clients) {
		struct client *c = container_of(it, struct client, link);
		if (c->state <= CLIENT_AUTH)
			client_close(c, false);
		else if (c->state == CLIENT_IDLE)
			client_quit(c);
	}
	hop_unuse(w, h);
}

static struct hop *hop_create(struct relay_worker *w, const struct relay_hop *config)
{
	struct hop *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->config = *config;
	h->number = ++w->hop_numbers != 0 ? w->hop_numbers : ++w->hop_numbers;
	list_init(&h->link);
	list_init(&h->clients);
	return h;
}

static bool same_pins(const struct relay_hop *a, const struct relay_hop *b)
{
	return a->n_pins == b->n_pins &&
	       memcmp(a->pins, b->pins, a->n_pins * sizeof(a->pins[0])) == 0;
}

/* With other pins it is another hop: what a pin taken away had let in ends. */
static bool same_hop(const struct relay_hop *a, const struct relay_hop *b)
{
	return addr_equal(&a->address, &b->address) && a->port == b->port && a->tls == b->tls &&
	       a->lmtp == b->lmtp && same_pins(a, b) && strcmp(a->name, b->name) == 0 &&
	       strcmp(a->user, b->user) == 0;
}

static struct hop *hop_of(const struct pool *p, const struct relay_hop *config)
{
	for (unsigned i = 0; p != NULL && i < p->n_hops; i++) {
		if (same_hop(&p->hops[i]->config, config))
			return p->hops[i];
	}
	return NULL;
}

static struct pool *pool_named(struct pool *const *pools, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(pools[i]->config.name, name) == 0)
			return pools[i];
	}
	return NULL;
}

/* A hop that is there twice, by two names of one address perhaps, is one. */
static void drop_twins(struct relay_pool *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_hops; i++) {
		unsigned k = 0;
		while (k < n && !same_hop(&c->hops[k], &c->hops[i]))
			k++;
		if (k < n)
			continue;
		if (n != i)
			c->hops[n] = c->hops[i];
		n++;
	}
	c->n_hops = n;
}

/* A pool of the new configuration with only those hops that before has not; NULL: no memory. */
static struct pool *pool_draft(struct relay_worker *w, const struct relay_pool *c,
			       const struct pool *before)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->config = *c;
	drop_twins(&p->config);
	for (unsigned i = 0; i < PRIORITIES; i++)
		list_init(&p->ready.list[i]);
	for (p->n_hops = 0; p->n_hops < p->config.n_hops; p->n_hops++) {
		const struct relay_hop *config = &p->config.hops[p->n_hops];
		if (hop_of(before, config) != NULL)
			continue;
		p->hops[p->n_hops] = hop_create(w, config);
		if (p->hops[p->n_hops] == NULL)
			return p; /* short: pools_update() gives up */
	}
	return p;
}

static void draft_free(struct pool *p)
{
	for (unsigned i = 0; p != NULL && i < p->n_hops; i++)
		free(p->hops[i]);
	free(p);
}

/* The hops that stay move over, the others retire. */
static void pool_replace(struct relay_worker *w, struct pool *p, struct pool *before)
{
	for (unsigned i = 0; i < p->n_hops; i++) {
		struct hop *h = p->hops[i] == NULL ? hop_of(before, &p->config.hops[i]) : NULL;
		if (h == NULL)
			continue;
		struct relay_hop fresh = p->config.hops[i];
		/* a password file that could not be read just now */
		if (fresh.user[0] != '\0' && fresh.password[0] == '\0')
			memcpy(fresh.password, h->config.password, sizeof(fresh.password));
		h->config = fresh;
		p->hops[i] = h;
	}
	for (unsigned i = 0; before != NULL && i < before->n_hops; i++) {
		if (hop_of(p, &before->hops[i]->config) != before->hops[i])
			hop_retire(w, before->hops[i]);
	}
}

static bool same_pools(const struct relay_worker *w, const struct relay_config *c)
{
	if (w->n_pools != c->n_pools || w->n_routes != c->n_routes)
		return false;
	for (unsigned i = 0; i < c->n_pools; i++) {
		if (strcmp(w->pools[i]->config.name, c->pools[i].name) != 0)
			return false;
	}
	for (unsigned i = 0; i < c->n_routes; i++) {
		if (w->routes[i].pool != c->routes[i].pool ||
		    strcmp(w->routes[i].match, c->routes[i].match) != 0)
			return false;
	}
	return true;
}

/* What waits may keep its timers. */
static bool same_times(const struct relay_worker *w, const struct relay_config *c)
{
	for (unsigned i = 0; i < c->n_pools; i++) {
		const struct relay_pool *p = &w->pools[i]->config;
		if (p->give_up_us != c->pools[i].give_up_us ||
		    p->notice_us != c->pools[i].notice_us)
			return false;
	}
	return true;
}

/* Whatever the length of the queue: new addresses of hops come as often as name servers like. */
static void wait_on(struct pool *p, struct pool *before)
{
	for (unsigned i = 0; i < PRIORITIES; i++)
		list_splice_back(&p->ready.list[i], &before->ready.list[i]);
	p->ready.n = before->ready.n;
}

/* By the new routes, or to the pool of the operator's choice, while there is one. */
static void route_anew(struct relay_worker *w, struct message *m, struct pool *const *before)
{
	int pool = m->routed ? pool_index(w, before[m->pool]->config.name) : -1;

	m->routed = pool >= 0;
	m->pool = m->routed ? (uint8_t)pool : routes_trivial(w) ? 0 : POOL_UNROUTED;
}

/* Those that wait stand in lists of pools that go. */
static void wait_again(struct relay_worker *w, bool reroute, struct pool *const *before)
{
	w->unrouted.n = 0;
	for (uint32_t i = 0; i < slab_extent(w->messages); i++) {
		struct message *m = slab_at(w->messages, i, NULL);
		if (m == NULL)
			continue;
		if (reroute)
			route_anew(w, m, before);
		if (m->state != MESSAGE_READY)
			continue;
		list_del(&m->link);
		message_ready(m);
	}
}

int pools_update(struct relay_worker *w, const struct relay_config *c)
{
	struct pool *fresh[RELAY_POOLS], *before[RELAY_POOLS];
	unsigned n_before = w->n_pools;
	bool same = same_pools(w, c), keep = same && same_times(w, c), whole = true;

	for (unsigned i = 0; i < c->n_pools; i++) {
		const struct pool *old = pool_named(w->pools, n_before, c->pools[i].name);
		fresh[i] = pool_draft(w, &c->pools[i], old);
		whole = whole && fresh[i] != NULL && fresh[i]->n_hops == fresh[i]->config.n_hops;
	}
	if (!whole) {
		for (unsigned i = 0; i < c->n_pools; i++)
			draft_free(fresh[i]);
		return -ENOMEM;
	}
	memcpy(before, w->pools, sizeof(before));
	for (unsigned i = 0; i < c->n_pools; i++)
		pool_replace(w, fresh[i], pool_named(before, n_before, c->pools[i].name));
	for (unsigned i = 0; i < n_before; i++) {
		if (pool_named(fresh, c->n_pools, before[i]->config.name) == NULL) {
			for (unsigned k = 0; k < before[i]->n_hops; k++)
				hop_retire(w, before[i]->hops[k]);
		}
	}
	memcpy(w->pools, fresh, sizeof(w->pools));
	memcpy(w->routes, c->routes, sizeof(w->routes));
	w->n_pools = c->n_pools;
	w->n_routes = c->n_routes;
	snprintf(w->hostname, sizeof(w->hostname), "%s", c->hostname);
	for (unsigned i = 0; keep && i < n_before; i++)
		wait_on(fresh[i], before[i]);
	if (!keep)
		wait_again(w, !same, before);
	for (unsigned i = 0; i < n_before; i++)
		free(before[i]);
	return 0;
}

void pools_free(struct relay_worker *w)
{
	for (unsigned i = 0; i < w->n_pools; i++)
		draft_free(w->pools[i]);
	list_each_safe (it, &w->retired)
		free(container_of(it, struct hop, link));
}
