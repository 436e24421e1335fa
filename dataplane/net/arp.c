/*
 * arp.c - ARP for IPv4 (RFC 826, RFC 1122 section 2.3.2).
 *
 * Worker 0 owns the tables: all ARP packets are handed to it, and it asks for everybody.
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

static const uint8_t broadcast[MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[MAC_BYTES];

static void arp_send(struct net_worker *w, struct net_port *p, uint16_t operation,
		     const uint8_t *sender_ip, const uint8_t target_mac[MAC_BYTES],
		     const uint8_t *target_ip)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->net->control);

	if (m == NULL) {
		net_count(w, net_no_buffer);
		return;
	}
	arp_build((uint8_t *)rte_pktmbuf_append(m, ARP_BYTES), operation, p->mac, sender_ip,
		  operation == 1 ? nobody : target_mac, target_ip);
	frame_output(w, p, m, target_mac, ETHERTYPE_ARP);
	if (operation == 1)
		net_count(w, net_arp_requests_out);
}

/* Our address on the link of ip: what an ARP request carries as sender. */
static const uint8_t *sender_for(const struct net_port *p, uint32_t ip)
{
	for (unsigned i = 0; i < p->config.n_addresses; i++) {
		const struct net_address *a = &p->config.addresses[i];
		uint32_t mask = a->prefix == 0 ? 0 : htonl(~0u << (32 - a->prefix));
		if (((read_ip4(a->addr.byte) ^ ip) & mask) == 0)
			return a->addr.byte;
	}
	return p->config.addresses[0].addr.byte;
}

static void ask(struct net_worker *w, struct net_port *p, struct neighbor *n, uint32_t ip,
		const uint8_t *mac)
{
	n->requests++;
	n->changed_us = w->shard->now_us;
	arp_send(w, p, 1, sender_for(p, ip), mac, (const uint8_t *)&ip);
}

static void want(struct net_worker *w, struct net_port *p, uint32_t ip)
{
	struct neighbor *n = neighbor_entry(p->neighbors, ip, true);
	enum neighbor_state s = neighbor_state(n);

	if (s == NEIGHBOR_WANTED || s == NEIGHBOR_REACHABLE)
		return;
	if (s == NEIGHBOR_FAILED && w->shard->now_us - n->changed_us < FAILED_US)
		return;
	n->requests = 0;
	neighbor_set(n, NEIGHBOR_WANTED, NULL);
	ask(w, p, n, ip, broadcast);
}

static void learn(struct net_worker *w, struct neighbor *n, const uint8_t mac[MAC_BYTES])
{
	neighbor_set(n, NEIGHBOR_REACHABLE, mac);
	n->changed_us = w->shard->now_us;
	n->requests = 0;
}

void arp_input(struct net_worker *w, struct net_port *p, const uint8_t *packet, size_t bytes)
{
	struct arp_view v;

	if (!arp_parse(packet, bytes, &v)) {
		net_count(w, net_arp_bad);
		return;
	}
	uint32_t sender = read_ip4(v.sender_ip);
	bool for_us = port_address(p, read_ip4(v.target_ip)) != NULL;
	if (port_address(p, sender) != NULL) {
		net_count(w, net_arp_conflicts);
		if (counter_read(&w->counters[net_arp_conflicts]) == 1)
			log_warning("net", "port %s: another host claims one of our addresses",
				    p->config.device);
		return;
	}
	/* RFC 826: refresh what is known; learn anew only from whoever asks for us */
	struct neighbor *n =
		neighbor_entry(p->neighbors, sender, for_us && v.operation == 1 && sender != 0);
	bool known = n != NULL && (v.operation == 1 || neighbor_state(n) != NEIGHBOR_NONE);
	if (known && sender != 0)
		learn(w, n, v.sender_mac);
	if (v.operation == 1 && for_us) {
		net_count(w, net_arp_requests_in);
		arp_send(w, p, 2, v.target_ip, v.sender_mac, v.sender_ip);
	} else {
		net_count(w, known && v.operation == 2 ? net_arp_replies_in : net_arp_unsolicited);
	}
}

/* Unanswered questions are repeated, then given up; old answers are confirmed. */
static void sweep(struct net_worker *w, struct net_port *p)
{
	uint64_t now = w->shard->now_us;

	for (unsigned i = 0; i < NEIGHBOR_SLOTS; i++) {
		struct neighbor *n = &p->neighbors->slots[i];
		uint32_t ip = atomic_load_explicit(&n->ip, memory_order_relaxed);
		enum neighbor_state s = neighbor_state(n);
		uint64_t age = now - n->changed_us;

		if (ip == 0 || (s != NEIGHBOR_WANTED && s != NEIGHBOR_REACHABLE))
			continue;
		if (age <
		    (s == NEIGHBOR_WANTED || n->requests > 0 ? REQUEST_INTERVAL_US : FRESH_US))
			continue;
		if (n->requests >= REQUESTS) {
			neighbor_set(n, NEIGHBOR_FAILED, NULL);
			n->changed_us = now;
		} else {
			ask(w, p, n, ip, broadcast);
		}
	}
}

static void arp_tick(struct timer *t)
{
	struct net_worker *w = container_of(t, struct net_worker, arp_timer);

	for (unsigned i = 0; i < w->net->n_ports; i++)
		sweep(w, &w->net->ports[i]);
	timer_arm(w->shard->timers, t, w->shard->now_us + REQUEST_INTERVAL_US);
}

/* Gratuitous ARP: switches and hosts learn at once where our addresses are now. */
void arp_start(struct net_worker *w)
{
	timer_init(&w->arp_timer, arp_tick);
	timer_arm(w->shard->timers, &w->arp_timer, w->shard->now_us + REQUEST_INTERVAL_US);
	for (unsigned i = 0; i < w->net->n_ports; i++) {
		struct net_port *p = &w->net->ports[i];
		for (unsigned k = 0; k < p->config.n_addresses; k++) {
			const uint8_t *ip = p->config.addresses[k].addr.byte;
			arp_send(w, p, 1, ip, broadcast, ip);
		}
	}
}

static void ask_owner(struct net_worker *w, struct net_port *p, uint32_t ip)
{
	uint64_t port = (uint64_t)(p - w->net->ports);

	if (w->shard->index == 0)
		want(w, p, ip);
	else /* a full ring loses the question only until the packet's next look */
		ring_push(w->net->wants, (void *)(uintptr_t)(port << 32 | ip));
}

unsigned arp_serve_wants(struct net_worker *w)
{
	unsigned n = 0;
	void *q;

	while (n < BURST && (q = ring_pop(w->net->wants)) != NULL) {
		want(w, &w->net->ports[(uintptr_t)q >> 32], (uint32_t)(uintptr_t)q);
		n++;
	}
	return n;
}

void arp_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m, uint32_t next_hop)
{
	uint8_t mac[MAC_BYTES];

	if (neighbor_get(p->neighbors, next_hop, mac) == NEIGHBOR_REACHABLE) {
		frame_output(w, p, m, mac, ETHERTYPE_IP4);
		return;
	}
	if (w->n_waiting == ARP_WAITING) {
		net_count(w, net_arp_queue_full);
		rte_pktmbuf_free(m);
		return;
	}
	w->waiting[w->n_waiting++] = (struct waiting){m, p, next_hop, w->shard->now_us};
	ask_owner(w, p, next_hop);
}

/* Tells the transport which flow has no way to its peer. */
static void give_up(struct net_worker *w, struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod(m, const uint8_t *);
	const uint8_t *ports = ip + (size_t)(ip[0] & 15) * 4;
	struct ip_addr local = addr_ip4(ip + 12), peer = addr_ip4(ip + 16);

	net_count(w, net_arp_failed);
	if (ip[9] == PROTOCOL_TCP)
		w->upper.unreachable(w->upper.arg, &local, read_be16(ports), &peer,
				     read_be16(ports + 2));
	rte_pktmbuf_free(m);
}

unsigned arp_retry_waiting(struct net_worker *w)
{
	unsigned kept = 0, n = w->n_waiting, done = 0;

	w->n_waiting = 0;
	for (unsigned i = 0; i < n; i++) {
		struct waiting x = w->waiting[i];
		uint8_t mac[MAC_BYTES];
		enum neighbor_state s = neighbor_get(x.port->neighbors, x.next_hop, mac);
		uint64_t age = w->shard->now_us - x.since_us;

		if (s == NEIGHBOR_REACHABLE) {
			frame_output(w, x.port, x.mbuf, mac, ETHERTYPE_IP4);
			done++;
		} else if ((s == NEIGHBOR_FAILED && age > FAILED_US) || age > WAIT_LIMIT_US) {
			give_up(w, x.mbuf);
			done++;
		} else {
			if (s == NEIGHBOR_NONE)
				ask_owner(w, x.port, x.next_hop);
			w->waiting[kept++] = x;
		}
	}
	w->n_waiting = kept;
	return done;
}
