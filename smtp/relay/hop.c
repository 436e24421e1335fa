/*
 * hop.c - next hops: which connection takes the next message, when a new one is opened, and
 * the circuit that opens after failures.
 */
#include "base/log.h"
#include "smtp/relay/internal.h"

#include <stdio.h>

static bool hop_usable(const struct relay_worker *w, const struct hop *h)
{
	return w->shard->now_us >= h->closed_until_us;
}

void hop_failed(struct hop *h, struct relay_worker *w, const char *why)
{
	char addr[ADDR_TEXT_BYTES];
	uint64_t us = HOP_FIRST_US;

	relay_count(w, relay_connect_failed);
	snprintf(h->last_error, sizeof(h->last_error), "%s", why);
	/* connections opened together fail together: that is one failure of the hop */
	if (!hop_usable(w, h))
		return;
	for (unsigned i = 0; i < h->failures && us < HOP_MAX_US; i++)
		us *= 2;
	if (us > HOP_MAX_US)
		us = HOP_MAX_US;
	us += shard_random(w->shard) % (us / 4 + 1);
	h->failures++;
	h->closed_until_us = w->shard->now_us + us;
	if (h->failures == 1 || h->failures % 16 == 0)
		log_warning("relay", "next hop [%s]:%u: %s; next try in %llu ms",
			    addr_text(&h->config.address, addr), h->config.port, why,
			    (unsigned long long)(us / 1000));
}

static struct client *idle_client(struct relay_worker *w)
{
	for (unsigned i = 0; i < w->config.n_hops; i++) {
		struct hop *h = &w->hops[(w->next_hop + i) % w->config.n_hops];
		list_each (it, &h->clients) {
			struct client *c = container_of(it, struct client, link);
			if (c->state == CLIENT_IDLE) {
				w->next_hop = (w->next_hop + i + 1) % w->config.n_hops;
				return c;
			}
		}
	}
	return NULL;
}

/* A hop that has failed is tried with one connection before it gets more. */
static bool hop_may_open(const struct relay_worker *w, const struct hop *h)
{
	return hop_usable(w, h) && h->n_clients < w->config.connections &&
	       (h->failures == 0 || h->n_connecting == 0);
}

static bool open_one(struct relay_worker *w)
{
	for (unsigned i = 0; i < w->config.n_hops; i++) {
		unsigned k = (w->next_hop + i) % w->config.n_hops;
		if (hop_may_open(w, &w->hops[k]) && client_open(w, &w->hops[k])) {
			w->next_hop = (k + 1) % w->config.n_hops;
			return true;
		}
	}
	return false;
}

void hops_dispatch(struct relay_worker *w)
{
	unsigned connecting = 0;
	struct client *c;

	while (w->n_ready > 0 && (c = idle_client(w)) != NULL) {
		struct message *m = message_pop(w);
		timer_cancel(w->shard->timers, &m->timer);
		m->state = MESSAGE_ACTIVE;
		c->state = CLIENT_LOADING;
		delivery_begin(m, c);
	}
	for (unsigned i = 0; i < w->config.n_hops; i++)
		connecting += w->hops[i].n_connecting;
	while (connecting < w->n_ready && open_one(w))
		connecting++;
}

void relay_each_hop(struct relay_worker *w, void (*fn)(void *arg, const struct relay_hop_info *i),
		    void *arg)
{
	for (unsigned i = 0; i < w->config.n_hops; i++) {
		const struct hop *h = &w->hops[i];
		uint64_t now = w->shard->now_us;
		struct relay_hop_info info = {
			.hop = &h->config,
			.connections = h->n_clients,
			.down = h->failures > 0,
			.retry_at_s =
				h->closed_until_us > now
					? shard_wall_s(w->shard) +
						  (int64_t)((h->closed_until_us - now) / 1000000)
					: 0,
			.last_error = h->last_error,
		};
		fn(arg, &info);
	}
}
