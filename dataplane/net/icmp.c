/* icmp.c - echo replies and destination-unreachable (RFC 792, RFC 1122 section 3.2.2) */
#include "dataplane/net/internal.h"

enum {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ECHO_PER_SECOND = 1000,
	QUOTED_TRANSPORT = 8,
};

/* The flow that an ICMP error quotes, as we sent it: local is the quoted source. */
static const uint8_t *quoted_ports(const struct ip4_view *ip, const uint8_t **quoted)
{
	const uint8_t *q = ip->payload + ICMP_BYTES;
	size_t n = ip->payload_bytes - ICMP_BYTES;

	if (n < IP4_BYTES + QUOTED_TRANSPORT || q[0] >> 4 != 4 || q[9] != PROTOCOL_TCP)
		return NULL;
	size_t header = (size_t)(q[0] & 15) * 4;
	if (header < IP4_BYTES || n < header + QUOTED_TRANSPORT)
		return NULL;
	*quoted = q;
	return q + header;
}

unsigned icmp_owner(struct net_worker *w, const struct ip4_view *ip)
{
	const uint8_t *q, *ports;

	if (ip->payload_bytes < ICMP_BYTES || ip->payload[0] != ICMP_UNREACHABLE)
		return w->shard->index;
	ports = quoted_ports(ip, &q);
	if (ports == NULL)
		return w->shard->index;
	/* as received, the peer comes first */
	uint8_t swapped[4] = {ports[2], ports[3], ports[0], ports[1]};
	return steer_owner(&w->net->steer, q + 16, q + 12, swapped);
}

static void unreachable_input(struct net_worker *w, const struct ip4_view *ip)
{
	const uint8_t *q, *ports = quoted_ports(ip, &q);

	if (ports == NULL) {
		net_count(w, net_icmp_bad);
		return;
	}
	net_count(w, net_icmp_errors_in);
	struct ip_addr local = addr_ip4(q + 12), peer = addr_ip4(q + 16);
	/* code 4 (fragmentation needed) says nothing about reachability */
	if (ip->payload[1] != 4)
		w->upper.unreachable(w->upper.arg, &local, read_be16(ports), &peer,
				     read_be16(ports + 2));
}

static bool echo_allowed(struct net_worker *w)
{
	uint64_t second = w->shard->now_us / 1000000;

	if (second != w->icmp_second) {
		w->icmp_second = second;
		w->icmp_this_second = 0;
	}
	return w->icmp_this_second++ < ECHO_PER_SECOND;
}

/* Answers in the request's own mbuf, which is at its IP header. */
static void echo_reply(struct net_worker *w, struct rte_mbuf *m, const struct ip4_view *ip)
{
	uint8_t *p = rte_pktmbuf_mtod(m, uint8_t *);
	uint8_t *icmp = p + (ip->payload - p);
	uint32_t header = (uint32_t)(ip->payload - p), bytes = ip->payload_bytes;
	uint8_t peer[4], ours[4];

	memcpy(peer, ip->source, 4);
	memcpy(ours, ip->destination, 4);
	/* options are not echoed: the reply gets a plain header right before the message */
	uint8_t *h = p + header - IP4_BYTES;
	memset(h, 0, IP4_BYTES);
	h[0] = 0x45;
	write_be16(h + 2, (uint16_t)(IP4_BYTES + bytes));
	h[8] = 64;
	h[9] = PROTOCOL_ICMP;
	memcpy(h + 12, ours, 4);
	memcpy(h + 16, peer, 4);
	write_be16(h + 10, wire_checksum(h, IP4_BYTES));
	icmp[0] = ICMP_ECHO_REPLY;
	write_be16(icmp + 2, 0);
	write_be16(icmp + 2, wire_checksum(icmp, bytes));
	rte_pktmbuf_adj(m, (uint16_t)(header - IP4_BYTES));
	struct net_buffer b = {.mbuf = m, .data = h};
	struct ip_addr to = addr_ip4(peer);
	net_count(w, net_icmp_echo_in);
	net_send(w, &b, IP4_BYTES + bytes, &to);
}

bool icmp_input(struct net_worker *w, struct rte_mbuf *m, const struct ip4_view *ip)
{
	if (ip->payload_bytes < ICMP_BYTES || wire_checksum(ip->payload, ip->payload_bytes) != 0) {
		net_count(w, net_icmp_bad);
		return false;
	}
	if (ip->payload[0] == ICMP_UNREACHABLE) {
		unreachable_input(w, ip);
		return false;
	}
	if (ip->payload[0] != ICMP_ECHO || !echo_allowed(w)) {
		net_count(w, net_icmp_bad);
		return false;
	}
	echo_reply(w, m, ip);
	return true;
}
