/* transmit.c - from an IP packet to the port: route, frame, one burst a turn */
#include "dataplane/net/internal.h"

#include <stdlib.h>

enum { STUCK_LIMIT_US = 100000 };

struct net_worker *net_worker_create(struct net *n, struct shard *shard,
				     const struct net_upper *upper)
{
	struct net_worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->net = n;
	w->shard = shard;
	w->upper = *upper;
	if (shard->index == 0)
		resolve_start(w);
	return w;
}

void net_worker_destroy(struct net_worker *w)
{
	if (w == NULL)
		return;
	for (unsigned i = 0; i < w->net->n_ports; i++)
		rte_pktmbuf_free_bulk(w->tx[i], w->n_tx[i]);
	for (unsigned i = 0; i < w->n_waiting; i++)
		rte_pktmbuf_free(w->waiting[i].mbuf);
	if (w->shard->index == 0) {
		timer_cancel(w->shard->timers, &w->sweep_timer);
		timer_cancel(w->shard->timers, &w->mld_timer);
	}
	free(w);
}

const uint64_t *net_counters(const struct net_worker *w)
{
	return w->counters;
}

bool net_owns_flow(const struct net_worker *w, const struct ip_addr *local, uint16_t local_port,
		   const struct ip_addr *peer, uint16_t peer_port)
{
	uint8_t ports[4];

	write_be16(ports, peer_port);
	write_be16(ports + 2, local_port);
	return steer_owner(&w->net->steer, peer->byte, local->byte, addr_bytes(local), ports) ==
	       w->shard->index;
}

bool net_buffer_get(struct net_worker *w, struct net_buffer *b, unsigned bytes, bool control)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->net->packets);

	if (m == NULL && control)
		m = rte_pktmbuf_alloc(w->net->control);
	if (m == NULL || bytes > rte_pktmbuf_tailroom(m)) {
		net_count(w, net_no_buffer);
		rte_pktmbuf_free(m);
		return false;
	}
	b->mbuf = m;
	b->data = rte_pktmbuf_mtod(m, uint8_t *);
	return true;
}

void net_buffer_drop(struct net_buffer *b)
{
	rte_pktmbuf_free(b->mbuf);
}

/* The port completes the checksum of a TCP segment. */
static void ask_for_sum(struct rte_mbuf *m, const uint8_t *ip)
{
	bool six = ip[0] >> 4 == 6;

	if ((six ? ip[6] : ip[9]) != PROTOCOL_TCP)
		return;
	m->l3_len = six ? IP6_BYTES : IP4_BYTES;
	m->l4_len = (uint8_t)((ip[m->l3_len + 12] >> 4) * 4);
	m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM | (six ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4);
}

void net_send(struct net_worker *w, struct net_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	struct rte_mbuf *m = b->mbuf;
	struct ip_addr next_hop;
	struct net_port *p = route(w->net, to, &next_hop);

	if (p == NULL) {
		net_count(w, net_no_route);
		rte_pktmbuf_free(m);
		return;
	}
	/* only an echo of what came in fragments can be so large: we do not fragment */
	if (bytes > p->config.mtu) {
		net_count(w, net_oversized);
		rte_pktmbuf_free(m);
		return;
	}
	m->data_len = (uint16_t)bytes;
	m->pkt_len = bytes;
	if (w->net->sums_tcp)
		ask_for_sum(m, b->data);
	resolve_output(w, p, m, &next_hop);
}

/* Gives the port what it takes.  What it does not take stays; a port that takes nothing for a
 * tenth of a second loses the queue, because TCP must rather retransmit than wait for ever. */
static void port_flush(struct net_worker *w, unsigned i)
{
	struct rte_mbuf **q = w->tx[i];
	unsigned n = w->n_tx[i], sent = 0;

	while (sent < n) {
		uint16_t burst = (uint16_t)RTE_MIN(n - sent, (unsigned)BURST);
		uint16_t done = rte_eth_tx_burst(w->net->ports[i].id, (uint16_t)w->shard->index,
						 q + sent, burst);
		sent += done;
		if (done < burst)
			break;
	}
	counter_add(&w->counters[net_frames_out], sent);
	w->n_tx[i] = n - sent;
	if (sent > 0 && sent < n)
		memmove(q, q + sent, (n - sent) * sizeof(*q));
	if (sent > 0 || n == 0) {
		w->tx_stuck_since_us[i] = 0;
		return;
	}
	net_count(w, net_tx_full);
	if (w->tx_stuck_since_us[i] == 0)
		w->tx_stuck_since_us[i] = w->shard->now_us;
	if (w->shard->now_us - w->tx_stuck_since_us[i] < STUCK_LIMIT_US)
		return;
	counter_add(&w->counters[net_tx_dropped], n);
	rte_pktmbuf_free_bulk(q, n);
	w->n_tx[i] = 0;
}

void frame_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
		  const uint8_t destination[MAC_BYTES], uint16_t type)
{
	unsigned i = (unsigned)(p - w->net->ports);
	uint16_t header = p->config.vlan != 0 ? ETH_BYTES + VLAN_BYTES : ETH_BYTES;
	uint8_t *e = (uint8_t *)rte_pktmbuf_prepend(m, header);

	if (w->n_tx[i] == TX_QUEUE)
		port_flush(w, i);
	if (e == NULL || w->n_tx[i] == TX_QUEUE) {
		net_count(w, net_tx_dropped);
		rte_pktmbuf_free(m);
		return;
	}
	m->l2_len = header;
	memcpy(e, destination, MAC_BYTES);
	memcpy(e + MAC_BYTES, p->mac, MAC_BYTES);
	if (p->config.vlan != 0) {
		write_be16(e + 12, ETHERTYPE_VLAN);
		write_be16(e + 14, p->config.vlan);
	}
	write_be16(e + header - 2, type);
	counter_add(&w->counters[net_bytes_out], rte_pktmbuf_pkt_len(m));
	w->tx[i][w->n_tx[i]++] = m;
}

unsigned net_transmit(void *net_worker)
{
	struct net_worker *w = net_worker;
	unsigned work = 0;

	for (unsigned i = 0; i < w->net->n_ports; i++) {
		unsigned waiting = w->n_tx[i];
		if (waiting > 0)
			port_flush(w, i);
		/* a full port is no work: its peer may need the core to empty it */
		work += waiting - w->n_tx[i];
	}
	return work;
}
