/* receive.c - from a port's queue to the transport, or to the worker that owns the flow */
#include "dataplane/net/internal.h"

static const enum net_counter ip4_counter[] = {
	[IP4_GOOD] = net_ip4_in,
	[IP4_TRUNCATED] = net_ip4_truncated,
	[IP4_BAD_HEADER] = net_ip4_bad_header,
	[IP4_BAD_CHECKSUM] = net_ip4_bad_checksum,
	[IP4_FRAGMENT] = net_fragments_in,
	[IP4_BAD_SOURCE] = net_ip4_bad_source,
};

static const enum net_counter ip6_counter[] = {
	[IP6_GOOD] = net_ip6_in,
	[IP6_TRUNCATED] = net_ip6_truncated,
	[IP6_BAD_HEADER] = net_ip6_bad_header,
	[IP6_BAD_OPTION] = net_ip6_bad_option,
	[IP6_ROUTED] = net_ip6_routed,
	[IP6_FRAGMENT] = net_fragments_in,
	[IP6_FRAGMENT_BEHIND] = net_fragments_bad,
	[IP6_BAD_SOURCE] = net_ip6_bad_source,
};

/* A received frame on its way. */
struct frame {
	struct net_port *port;
	struct rte_mbuf *mbuf;
	uint16_t link_bytes;
	bool handed_over; /* by another worker: it is ours */
};

static void enqueue(struct net_worker *w, struct rte_mbuf *m, unsigned owner)
{
	if (rte_ring_enqueue(w->net->handover[owner], m) < 0) {
		net_count(w, net_handover_full);
		rte_pktmbuf_free(m);
		return;
	}
	net_count(w, net_handed_over);
}

/* The frame goes to another worker; false: it stays. */
static bool hand_over(struct net_worker *w, struct frame *f, unsigned owner)
{
	if (owner == w->shard->index)
		return false;
	enqueue(w, f->mbuf, owner);
	f->mbuf = NULL;
	return true;
}

static bool vouched(const struct rte_mbuf *m, uint64_t mask, uint64_t good)
{
	return (m->ol_flags & mask) == good;
}

/* What is pending goes up, and its packets are free again. */
static void segments_up(struct net_worker *w)
{
	struct pending *q = &w->pending;

	if (q->n == 0)
		return;
	uint32_t bad = w->upper.segments(w->upper.arg, q->segment, q->n);
	for (unsigned i = 0; i < q->n; i++) {
		bool good = (bad >> i & 1) == 0;
		port_note_checksum(q->port[i], good);
		if (!good)
			net_count(w, net_tcp_bad_checksum);
		rte_pktmbuf_free(q->mbuf[i]);
	}
	q->n = 0;
}

/* Takes the packet. */
static void tcp_deliver(struct net_worker *w, struct frame *f, const struct ip_view *ip,
			bool checksum_good)
{
	struct pending *q = &w->pending;

	q->port[q->n] = f->port;
	q->mbuf[q->n] = f->mbuf;
	q->segment[q->n++] = (struct net_segment){
		.source = addr_of(ip->source, ip->addr_bytes),
		.destination = addr_of(ip->destination, ip->addr_bytes),
		.bytes = ip->payload,
		.n = ip->payload_bytes,
		.tos = ip->tos,
		.checksum_good = checksum_good,
	};
	f->mbuf = NULL;
	if (q->n == BURST)
		segments_up(w);
}

/* The worker whose packet this is. */
static unsigned owner_of(struct net_worker *w, const struct frame *f, const struct ip_view *ip)
{
	if (ndp_is_message(ip))
		return 0;
	if (ip->protocol == PROTOCOL_ICMP || ip->protocol == PROTOCOL_ICMP6)
		return icmp_owner(w, ip);
	if (ip->protocol != PROTOCOL_TCP || ip->payload_bytes < 4)
		return w->shard->index;
	return rss_owner(w, f->port, f->mbuf, ip);
}

/* A whole datagram that is ours. */
static void deliver(struct net_worker *w, struct frame *f, const struct ip_view *ip,
		    bool checksum_good)
{
	bool six = ip->addr_bytes == 16;

	if (ip->protocol == PROTOCOL_TCP)
		tcp_deliver(w, f, ip, checksum_good);
	else if (!six && ip->protocol == PROTOCOL_ICMP)
		icmp_input(w, ip);
	else if (ndp_is_message(ip))
		ndp_input(w, f->port, ip);
	else if (six && ip->protocol == PROTOCOL_ICMP6)
		icmp6_input(w, ip);
	else
		net_count(w, net_unknown_protocol);
}

/* A reassembled datagram that another worker owns travels as a frame of its own. */
static void hand_over_whole(struct net_worker *w, const struct frame *f, const struct ip_view *ip,
			    unsigned owner)
{
	bool six = ip->addr_bytes == 16;
	uint16_t header = six ? IP6_BYTES : IP4_BYTES;
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->net->packets);
	uint8_t *e = m == NULL ? NULL
			       : (uint8_t *)rte_pktmbuf_append(
					 m, (uint16_t)(f->link_bytes + header + ip->payload_bytes));

	if (e == NULL) {
		net_count(w, net_no_buffer);
		rte_pktmbuf_free(m);
		return;
	}
	uint8_t *h = e + f->link_bytes;
	memcpy(e, rte_pktmbuf_mtod(f->mbuf, const uint8_t *), f->link_bytes);
	if (six) {
		ip6_build(h, (uint16_t)ip->payload_bytes, ip->protocol, ip->ttl, ip->source,
			  ip->destination);
		h[0] |= ip->tos >> 4;
		h[1] = (uint8_t)(ip->tos << 4);
	} else {
		memset(h, 0, IP4_BYTES);
		h[0] = 0x45;
		h[1] = ip->tos;
		write_be16(h + 2, (uint16_t)(IP4_BYTES + ip->payload_bytes));
		h[8] = ip->ttl;
		h[9] = ip->protocol;
		memcpy(h + 12, ip->source, 4);
		memcpy(h + 16, ip->destination, 4);
		write_be16(h + 10, wire_checksum(h, IP4_BYTES));
	}
	memcpy(h + header, ip->payload, ip->payload_bytes);
	m->port = f->mbuf->port;
	enqueue(w, m, owner);
}

/* All fragments of a datagram meet on the worker that their addresses and id choose. */
static void fragment_input(struct net_worker *w, struct frame *f, struct ip_view *ip)
{
	uint8_t id[4];
	uint64_t given_up = w->reassembly.evicted + w->reassembly.expired;

	memcpy(id, &ip->fragment_id, 4);
	unsigned meeting =
		steer_owner(&w->net->steer, ip->source, ip->destination, ip->addr_bytes, id);
	if (!f->handed_over && hand_over(w, f, meeting))
		return;
	net_count(w, net_fragments_in);
	enum reassembly_verdict v = reassembly_add(&w->reassembly, ip, w->shard->now_us);
	counter_add(&w->counters[net_reassembly_given_up],
		    w->reassembly.evicted + w->reassembly.expired - given_up);
	if (v == REASSEMBLY_OVERLAP)
		net_count(w, net_fragments_overlap);
	if (v == REASSEMBLY_BAD)
		net_count(w, net_fragments_bad);
	if (v != REASSEMBLY_WHOLE)
		return;
	net_count(w, net_reassembled);
	unsigned owner = owner_of(w, f, ip);
	if (owner != w->shard->index)
		hand_over_whole(w, f, ip, owner);
	else
		deliver(w, f, ip, false);
	segments_up(w); /* the datagram lies in memory of the reassembly */
}

static void whole_input(struct net_worker *w, struct frame *f, const struct ip_view *ip)
{
	if (!f->handed_over && hand_over(w, f, owner_of(w, f, ip)))
		return;
	net_count(w, ip->addr_bytes == 16 ? net_ip6_in : net_ip4_in);
	deliver(w, f, ip,
		vouched(f->mbuf, RTE_MBUF_F_RX_L4_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_GOOD));
}

static void ip4_input(struct net_worker *w, struct frame *f)
{
	const uint8_t *data = rte_pktmbuf_mtod_offset(f->mbuf, const uint8_t *, f->link_bytes);
	bool good = vouched(f->mbuf, RTE_MBUF_F_RX_IP_CKSUM_MASK, RTE_MBUF_F_RX_IP_CKSUM_GOOD);
	struct ip_view ip;
	enum ip4_verdict v =
		ip4_parse(data, (size_t)(rte_pktmbuf_data_len(f->mbuf) - f->link_bytes), good, &ip);

	if (v != IP4_GOOD && v != IP4_FRAGMENT)
		net_count(w, ip4_counter[v]);
	else if (!port_answers_for(f->port, ip.destination, 4))
		net_count(w, net_not_for_us);
	else if (v == IP4_FRAGMENT)
		fragment_input(w, f, &ip);
	else
		whole_input(w, f, &ip);
}

static void ip6_input(struct net_worker *w, struct frame *f)
{
	const uint8_t *data = rte_pktmbuf_mtod_offset(f->mbuf, const uint8_t *, f->link_bytes);
	struct ip_view ip;
	enum ip6_verdict v =
		ip6_parse(data, (size_t)(rte_pktmbuf_data_len(f->mbuf) - f->link_bytes), &ip);
	bool whole = v == IP6_GOOD, fragment = v == IP6_FRAGMENT;

	if (!whole && !fragment) {
		net_count(w, ip6_counter[v]);
		return;
	}
	/* neighbour discovery also concerns addresses that are not in use yet, and groups */
	bool nd = whole && ndp_is_message(&ip) &&
		  (port_address(f->port, ip.destination, 16) >= 0 ||
		   ndp_our_group(f->port, ip.destination));
	if (!nd && !port_answers_for(f->port, ip.destination, 16))
		net_count(w, net_not_for_us);
	else if (fragment)
		fragment_input(w, f, &ip);
	else
		whole_input(w, f, &ip);
}

static bool frame_for_us(const struct net_port *p, const struct eth_view *e)
{
	/* priority tags (VLAN 0) belong to the untagged network, IEEE 802.1Q */
	if (e->vlan != p->config.vlan)
		return false;
	if (e->type == ETHERTYPE_ARP && (e->destination[0] & 1) != 0)
		return true;
	if (e->type == ETHERTYPE_IP6 && e->destination[0] == 0x33 && e->destination[1] == 0x33)
		return p->ip6;
	return memcmp(e->destination, p->mac, MAC_BYTES) == 0;
}

static void frame_input(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
			bool handed_over)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	struct frame f = {.port = p, .mbuf = m, .handed_over = handed_over};
	struct eth_view e;

	if (m->nb_segs != 1 || !eth_parse(data, rte_pktmbuf_data_len(m), &e)) {
		net_count(w, net_bad_frame);
	} else if (!frame_for_us(p, &e)) {
		net_count(w, net_not_ours);
	} else if (e.type == ETHERTYPE_IP4) {
		f.link_bytes = e.header_bytes;
		ip4_input(w, &f);
	} else if (e.type == ETHERTYPE_IP6 && p->ip6) {
		f.link_bytes = e.header_bytes;
		ip6_input(w, &f);
	} else if (e.type == ETHERTYPE_ARP) {
		if (!hand_over(w, &f, 0))
			arp_input(w, p, data + e.header_bytes,
				  (size_t)(rte_pktmbuf_data_len(m) - e.header_bytes));
	} else {
		net_count(w, net_unknown_type);
	}
	rte_pktmbuf_free(f.mbuf);
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
	segments_up(w);
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
		segments_up(w);
		work += n;
	}
	if (w->shard->index == 0 && w->net->n_workers > 1)
		work += resolve_serve_wants(w);
	if (w->n_waiting > 0)
		work += resolve_retry_waiting(w);
	return work;
}
