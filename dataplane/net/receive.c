/* receive.c - from a port's queue to the transport, or to the worker that owns the flow */
#include "dataplane/net/internal.h"

#include <rte_ethdev.h>

static const enum net_counter verdict_counter[] = {
	[IP4_GOOD] = net_ip4_in,
	[IP4_TRUNCATED] = net_ip4_truncated,
	[IP4_BAD_HEADER] = net_ip4_bad_header,
	[IP4_BAD_CHECKSUM] = net_ip4_bad_checksum,
	[IP4_FRAGMENT] = net_ip4_fragments,
	[IP4_BAD_SOURCE] = net_ip4_bad_source,
};

static void hand_over(struct net_worker *w, struct rte_mbuf *m, unsigned owner)
{
	if (rte_ring_enqueue(w->net->handover[owner], m) < 0) {
		net_count(w, net_handover_full);
		rte_pktmbuf_free(m);
		return;
	}
	net_count(w, net_handed_over);
}

static bool checksum_good(const struct rte_mbuf *m, uint64_t mask, uint64_t good)
{
	return (m->ol_flags & mask) == good;
}

static void tcp_deliver(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
			const struct ip4_view *ip)
{
	struct net_segment s = {
		.source = addr_ip4(ip->source),
		.destination = addr_ip4(ip->destination),
		.bytes = ip->payload,
		.n = ip->payload_bytes,
		.tos = ip->tos,
		.checksum_good =
			checksum_good(m, RTE_MBUF_F_RX_L4_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_GOOD),
	};
	bool good = w->upper.segment(w->upper.arg, &s);

	port_note_checksum(p, good);
	if (!good)
		net_count(w, net_tcp_bad_checksum);
}

/* The worker whose packet this is. */
static unsigned owner_of(struct net_worker *w, const struct ip4_view *ip)
{
	if (ip->protocol == PROTOCOL_ICMP)
		return icmp_owner(w, ip);
	if (ip->protocol != PROTOCOL_TCP || ip->payload_bytes < 4)
		return w->shard->index;
	return steer_owner(&w->net->steer, ip->source, ip->destination, ip->payload);
}

/* Takes the mbuf, whose data begins with the IP header.  steered: it has been handed over. */
static void ip4_input(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
		      uint16_t link_bytes, bool steered)
{
	const uint8_t *data = rte_pktmbuf_mtod_offset(m, const uint8_t *, link_bytes);
	struct ip4_view ip;
	bool good = checksum_good(m, RTE_MBUF_F_RX_IP_CKSUM_MASK, RTE_MBUF_F_RX_IP_CKSUM_GOOD);
	enum ip4_verdict v =
		ip4_parse(data, (size_t)(rte_pktmbuf_data_len(m) - link_bytes), good, &ip);

	if (v == IP4_GOOD && port_address(p, read_ip4(ip.destination)) == NULL) {
		net_count(w, net_ip4_not_ours);
		goto drop;
	}
	if (v != IP4_GOOD) {
		net_count(w, verdict_counter[v]);
		goto drop;
	}
	unsigned owner = steered ? w->shard->index : owner_of(w, &ip);
	if (owner != w->shard->index) {
		hand_over(w, m, owner);
		return;
	}
	net_count(w, net_ip4_in);
	if (ip.protocol == PROTOCOL_TCP) {
		tcp_deliver(w, p, m, &ip);
	} else if (ip.protocol == PROTOCOL_ICMP) {
		rte_pktmbuf_adj(m, link_bytes);
		if (icmp_input(w, m, &ip))
			return;
	} else {
		net_count(w, net_ip4_unknown_protocol);
	}
drop:
	rte_pktmbuf_free(m);
}

static bool frame_for_us(const struct net_port *p, const struct eth_view *e)
{
	/* priority tags (VLAN 0) belong to the untagged network, IEEE 802.1Q */
	if (e->vlan != p->config.vlan)
		return false;
	if (e->type == ETHERTYPE_ARP && (e->destination[0] & 1) != 0)
		return true;
	return memcmp(e->destination, p->mac, MAC_BYTES) == 0;
}

static void frame_input(struct net_worker *w, struct net_port *p, struct rte_mbuf *m, bool steered)
{
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
	struct eth_view e;

	if (m->nb_segs != 1 || !eth_parse(frame, rte_pktmbuf_data_len(m), &e)) {
		net_count(w, net_bad_frame);
	} else if (!frame_for_us(p, &e)) {
		net_count(w, net_not_ours);
	} else if (e.type == ETHERTYPE_IP4) {
		ip4_input(w, p, m, e.header_bytes, steered);
		return;
	} else if (e.type == ETHERTYPE_ARP) {
		if (w->shard->index != 0) {
			hand_over(w, m, 0);
			return;
		}
		arp_input(w, p, frame + e.header_bytes,
			  (size_t)(rte_pktmbuf_data_len(m) - e.header_bytes));
	} else {
		net_count(w, net_unknown_type);
	}
	rte_pktmbuf_free(m);
}

static struct net_port *port_by_id(struct net *n, uint16_t id)
{
	for (unsigned i = 0; i < n->n_ports; i++) {
		if (n->ports[i].id == id)
			return &n->ports[i];
	}
	return NULL;
}

static unsigned receive_handed_over(struct net_worker *w)
{
	struct rte_mbuf *burst[BURST];
	unsigned n = rte_ring_dequeue_burst(w->net->handover[w->shard->index], (void **)burst,
					    BURST, NULL);

	for (unsigned i = 0; i < n; i++) {
		struct net_port *p = port_by_id(w->net, burst[i]->port);
		if (p != NULL)
			frame_input(w, p, burst[i], true);
		else
			rte_pktmbuf_free(burst[i]);
	}
	return n;
}

unsigned net_receive(void *net_worker)
{
	struct net_worker *w = net_worker;
	struct rte_mbuf *burst[BURST];
	unsigned work = w->net->n_workers > 1 ? receive_handed_over(w) : 0;

	for (unsigned i = 0; i < w->net->n_ports; i++) {
		struct net_port *p = &w->net->ports[i];
		uint16_t n = rte_eth_rx_burst(p->id, (uint16_t)w->shard->index, burst, BURST);
		uint64_t bytes = 0;

		for (uint16_t k = 0; k < n; k++)
			bytes += rte_pktmbuf_pkt_len(burst[k]);
		counter_add(&w->counters[net_frames_in], n);
		counter_add(&w->counters[net_bytes_in], bytes);
		for (uint16_t k = 0; k < n; k++)
			frame_input(w, p, burst[k], false);
		work += n;
	}
	if (w->shard->index == 0 && w->net->n_workers > 1)
		work += arp_serve_wants(w);
	if (w->n_waiting > 0)
		work += arp_retry_waiting(w);
	return work;
}
