/*
 * mld.c - tells switches and routers which multicast groups we listen to, on worker 0.
 *
 * Switches that snoop pass solicitations only to ports that have reported the solicited-node
 * group: without a report IPv6 stops working after some minutes.
 * Source: RFC 3810 (MLDv2), RFC 2710 (MLDv1, where an old querier is heard), RFC 3590.
 */
#include "dataplane/net/internal.h"

enum {
	MLD1_REPORT = 131,
	MLD2_REPORT = 143,
	QUERY1_BYTES = 24, /* of MLDv1; MLDv2 has four more at least */
	QUERY2_BYTES = 28,
	RECORD_BYTES = 20,
	REPORT_BYTES = 8,
	IS_EXCLUDE = 2, /* record types: what is, and what has changed */
	TO_EXCLUDE = 4,
	ROUTER_ALERT_BYTES = 8,
	MLD1_US = 260 * 1000000, /* RFC 3810 section 9.12 with its defaults */
	HOP_LIMIT = 1,
	LONGEST_MS = 10000,
};

static const uint8_t unspecified[16];
static const uint8_t all_mld2_routers[16] = {0xff, 0x02, [15] = 0x16};

/* The groups of the port's addresses, each once. */
static unsigned groups_of(const struct net_port *p, uint8_t groups[PORT_ADDRESSES][16])
{
	unsigned n = 0;

	for (unsigned k = 0; k < p->n_addresses; k++) {
		unsigned i = 0;
		if (p->addresses[k].addr.family != 6)
			continue;
		ndp_solicited_node(p->addresses[k].addr.byte, groups[n]);
		while (memcmp(groups[i], groups[n], 16) != 0)
			i++;
		n += i == n;
	}
	return n;
}

/* The link-local address once it is ours, else the unspecified one (RFC 3590). */
static const uint8_t *report_source(const struct net_port *p)
{
	const uint8_t *own = p->addresses[p->n_addresses - 1].addr.byte;

	return port_answers_for(p, own, 16) ? own : unspecified;
}

/* Room for a message of n bytes behind IPv6 and the router alert (RFC 2711); NULL: none. */
static uint8_t *message_begin(struct net_worker *w, const struct net_port *p, struct rte_mbuf **m,
			      const uint8_t to[16], uint16_t n)
{
	static const uint8_t alert[ROUTER_ALERT_BYTES] = {PROTOCOL_ICMP6, 0, 5, 2, 0, 0, 1, 0};

	*m = rte_pktmbuf_alloc(w->net->control);
	uint8_t *ip = *m == NULL ? NULL
				 : (uint8_t *)rte_pktmbuf_append(
					   *m, (uint16_t)(IP6_BYTES + ROUTER_ALERT_BYTES + n));
	if (ip == NULL) {
		net_count(w, net_no_buffer);
		rte_pktmbuf_free(*m);
		return NULL;
	}
	ip6_build(ip, (uint16_t)(ROUTER_ALERT_BYTES + n), 0, HOP_LIMIT, report_source(p), to);
	memcpy(ip + IP6_BYTES, alert, ROUTER_ALERT_BYTES);
	memset(ip + IP6_BYTES + ROUTER_ALERT_BYTES, 0, n);
	return ip + IP6_BYTES + ROUTER_ALERT_BYTES;
}

static void message_send(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
			 uint8_t *icmp, uint16_t n, const uint8_t to[16])
{
	uint8_t mac[MAC_BYTES];

	write_be16(icmp + 2, wire_checksum6(report_source(p), to, PROTOCOL_ICMP6, icmp, n));
	ndp_group_mac(to, mac);
	frame_output(w, p, m, mac, ETHERTYPE_IP6);
	net_count(w, net_mld_reports_out);
}

static void report1(struct net_worker *w, struct net_port *p, const uint8_t group[16])
{
	struct rte_mbuf *m;
	uint8_t *icmp = message_begin(w, p, &m, group, QUERY1_BYTES);

	if (icmp == NULL)
		return;
	icmp[0] = MLD1_REPORT;
	memcpy(icmp + 8, group, 16);
	message_send(w, p, m, icmp, QUERY1_BYTES, group);
}

void mld_report(struct net_worker *w, struct net_port *p, bool joined)
{
	uint8_t groups[PORT_ADDRESSES][16];
	struct rte_mbuf *m;

	if (!p->ip6)
		return;
	unsigned n = groups_of(p, groups);
	if (w->shard->now_us < p->mld1_until_us) {
		for (unsigned i = 0; i < n; i++)
			report1(w, p, groups[i]);
		return;
	}
	uint16_t bytes = (uint16_t)(REPORT_BYTES + n * RECORD_BYTES);
	uint8_t *icmp = message_begin(w, p, &m, all_mld2_routers, bytes);
	if (icmp == NULL)
		return;
	icmp[0] = MLD2_REPORT;
	write_be16(icmp + 6, (uint16_t)n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *record = icmp + REPORT_BYTES + i * RECORD_BYTES;
		record[0] = joined ? TO_EXCLUDE : IS_EXCLUDE;
		memcpy(record + 4, groups[i], 16);
	}
	message_send(w, p, m, icmp, bytes, all_mld2_routers);
}

static void answer(struct timer *t)
{
	struct net_worker *w = container_of(t, struct net_worker, mld_timer);

	for (unsigned i = 0; i < w->net->n_ports; i++)
		mld_report(w, &w->net->ports[i], false);
}

void mld_start(struct net_worker *w)
{
	timer_init(&w->mld_timer, answer);
}

void mld_query(struct net_worker *w, struct net_port *p, const struct ip_view *ip)
{
	const uint8_t *icmp = ip->payload;
	uint32_t n = ip->payload_bytes;

	/* RFC 3810 section 5.1.14: hop limit 1 and a link-local source, else it is not a querier */
	if (ip->ttl != HOP_LIMIT || ip->source[0] != 0xfe || (ip->source[1] & 0xc0) != 0x80 ||
	    (n != QUERY1_BYTES && n < QUERY2_BYTES) ||
	    wire_checksum6(ip->source, ip->destination, PROTOCOL_ICMP6, icmp, n) != 0) {
		net_count(w, net_nd_bad);
		return;
	}
	net_count(w, net_mld_queries_in);
	if (n == QUERY1_BYTES)
		p->mld1_until_us = w->shard->now_us + MLD1_US;
	/* the code of a long delay is a floating-point number (section 5.1.3): sooner is allowed */
	uint64_t ms = read_be16(icmp + 4) < LONGEST_MS ? read_be16(icmp + 4) : LONGEST_MS;
	if (!timer_armed(&w->mld_timer))
		timer_arm(w->shard->timers, &w->mld_timer,
			  w->shard->now_us + shard_random(w->shard) % (ms + 1) * 1000);
}
