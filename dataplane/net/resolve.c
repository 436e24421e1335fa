/*
 * resolve.c - next hops of both families: who is known, who is asked, who is waited for.
 *
 * Worker 0 owns the tables: all ARP and ND packets are handed to it, and it asks for everybody.
 * Every worker keeps its own few packets while it waits for an answer.
 */
#include "base/log.h"
#include "dataplane/net/internal.h"

enum {
	REQUESTS = 3,
	REQUEST_INTERVAL_US = 1000000,
	FRESH_US = 60 * 1000000,
	FAILED_US = 1000000, /* not asked again for so long */
	WAIT_LIMIT_US = 4000000,
};

static void ask(struct net_worker *w, struct net_port *p, struct neighbor *n,
		const struct ip_addr *ip)
{
	n->requests++;
	n->changed_us = w->shard->now_us;
	if (ip->family == 6)
		ndp_ask(w, p, ip);
	else
		arp_ask(w, p, ip);
}

static void want(struct net_worker *w, struct net_port *p, const struct ip_addr *ip)
{
	struct neighbor *n = neighbor_entry(p->neighbors, ip, true);
	enum neighbor_state s = neighbor_state(n);

	if (s == NEIGHBOR_WANTED || s == NEIGHBOR_REACHABLE)
		return;
	if (s == NEIGHBOR_FAILED && w->shard->now_us - n->changed_us < FAILED_US)
		return;
	n->requests = 0;
	neighbor_set(n, NEIGHBOR_WANTED, NULL);
	ask(w, p, n, ip);
}

void resolve_learn(struct net_worker *w, struct neighbor *n, const uint8_t mac[MAC_BYTES])
{
	neighbor_set(n, NEIGHBOR_REACHABLE, mac);
	n->changed_us = w->shard->now_us;
	n->requests = 0;
}

/* Unanswered questions are repeated, then given up; old answers are confirmed. */
static void sweep(struct net_worker *w, struct net_port *p)
{
	uint64_t now = w->shard->now_us;

	for (unsigned i = 0; i < NEIGHBOR_SLOTS; i++) {
		struct neighbor *n = &p->neighbors->slots[i];
		enum neighbor_state s = neighbor_state(n);
		uint64_t age = now - n->changed_us;
		struct ip_addr ip;

		if (s != NEIGHBOR_WANTED && s != NEIGHBOR_REACHABLE)
			continue;
		if (age <
		    (s == NEIGHBOR_WANTED || n->requests > 0 ? REQUEST_INTERVAL_US : FRESH_US))
			continue;
		if (n->requests >= REQUESTS || !neighbor_address(n, &ip)) {
			neighbor_set(n, NEIGHBOR_FAILED, NULL);
			n->changed_us = now;
		} else {
			ask(w, p, n, &ip);
		}
	}
}

static void sweep_tick(struct timer *t)
{
	struct net_worker *w = container_of(t, struct net_worker, sweep_timer);

	if (w->dad_rounds <= 2)
		w->dad_rounds++;
	for (unsigned i = 0; i < w->net->n_ports; i++) {
		if (w->dad_rounds <= 2) {
			ndp_detect_duplicates(w, &w->net->ports[i], w->dad_rounds);
			mld_report(w, &w->net->ports[i], true);
		}
		sweep(w, &w->net->ports[i]);
	}
	timer_arm(w->shard->timers, t, w->shard->now_us + REQUEST_INTERVAL_US);
}

void resolve_start(struct net_worker *w)
{
	mld_start(w);
	timer_init(&w->sweep_timer, sweep_tick);
	timer_arm(w->shard->timers, &w->sweep_timer, w->shard->now_us + REQUEST_INTERVAL_US);
	for (unsigned i = 0; i < w->net->n_ports; i++) {
		arp_announce(w, &w->net->ports[i]);
		mld_report(w, &w->net->ports[i], true);
		ndp_detect_duplicates(w, &w->net->ports[i], 0);
	}
}

static void ask_owner(struct net_worker *w, struct net_port *p, const struct ip_addr *ip)
{
	if (w->shard->index == 0) {
		want(w, p, ip);
		return;
	}
	for (unsigned i = 0; i < WANT_SLOTS; i++) {
		struct want *q = &w->wants[i];
		if (atomic_load_explicit(&q->busy, memory_order_acquire))
			continue;
		q->port = p;
		q->ip = *ip;
		atomic_store_explicit(&q->busy, true, memory_order_release);
		/* a full ring loses the question only until the packet's next look */
		if (!ring_push(w->net->wants, q))
			atomic_store_explicit(&q->busy, false, memory_order_release);
		return;
	}
}

unsigned resolve_serve_wants(struct net_worker *w)
{
	struct want *q;
	unsigned n = 0;

	while (n < BURST && (q = ring_pop(w->net->wants)) != NULL) {
		want(w, q->port, &q->ip);
		atomic_store_explicit(&q->busy, false, memory_order_release);
		n++;
	}
	return n;
}

static uint16_t ethertype(const struct ip_addr *next_hop)
{
	return next_hop->family == 6 ? ETHERTYPE_IP6 : ETHERTYPE_IP4;
}

void resolve_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
		    const struct ip_addr *next_hop)
{
	uint8_t mac[MAC_BYTES];

	if (neighbor_get(p->neighbors, next_hop, mac) == NEIGHBOR_REACHABLE) {
		frame_output(w, p, m, mac, ethertype(next_hop));
		return;
	}
	if (w->n_waiting == WAITING_PACKETS) {
		net_count(w, net_resolve_queue_full);
		rte_pktmbuf_free(m);
		return;
	}
	w->waiting[w->n_waiting++] = (struct waiting){m, p, *next_hop, w->shard->now_us};
	ask_owner(w, p, next_hop);
}

/* Tells the transport which flow has no way to its peer. */
static void give_up(struct net_worker *w, struct rte_mbuf *m)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	bool six = p[0] >> 4 == 6;
	const uint8_t *ports = p + (six ? IP6_BYTES : (p[0] & 15) * 4);
	struct ip_addr local = six ? addr_of(p + 8, 16) : addr_of(p + 12, 4);
	struct ip_addr peer = six ? addr_of(p + 24, 16) : addr_of(p + 16, 4);

	net_count(w, net_resolve_failed);
	if ((six ? p[6] : p[9]) == PROTOCOL_TCP)
		w->upper.unreachable(w->upper.arg, &local, read_be16(ports), &peer,
				     read_be16(ports + 2));
	rte_pktmbuf_free(m);
}

unsigned resolve_retry_waiting(struct net_worker *w)
{
	unsigned kept = 0, n = w->n_waiting, done = 0;

	w->n_waiting = 0;
	for (unsigned i = 0; i < n; i++) {
		struct waiting x = w->waiting[i];
		uint8_t mac[MAC_BYTES];
		enum neighbor_state s = neighbor_get(x.port->neighbors, &x.next_hop, mac);
		uint64_t age = w->shard->now_us - x.since_us;

		if (s == NEIGHBOR_REACHABLE) {
			frame_output(w, x.port, x.mbuf, mac, ethertype(&x.next_hop));
			done++;
		} else if ((s == NEIGHBOR_FAILED && age > FAILED_US) || age > WAIT_LIMIT_US) {
			give_up(w, x.mbuf);
			done++;
		} else {
			if (s == NEIGHBOR_NONE)
				ask_owner(w, x.port, &x.next_hop);
			w->waiting[kept++] = x;
		}
	}
	w->n_waiting = kept;
	return done;
}
