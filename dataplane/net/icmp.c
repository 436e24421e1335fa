/* icmp.c - echo replies and errors for IPv4 (RFC 792, RFC 1122 section 3.2.2); which worker an
 * error of either family belongs to */
#include "dataplane/net/internal.h"

enum {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ICMP6_ERRORS_END = 128, /* types below are errors (RFC 4443 section 2.1) */
	CODE_TOO_BIG = 4,
	ECHO_PER_SECOND = 1000,
	QUOTED_TRANSPORT = 8,
};

/* The flow that an ICMP error quotes, as we sent it: local is the quoted source. */
static bool quoted_flow(const struct ip_view *ip, struct net_flow *f)
{
	const uint8_t *q = ip->payload + ICMP_BYTES, *ports;
	size_t n = ip->payload_bytes < ICMP_BYTES ? 0 : ip->payload_bytes - ICMP_BYTES;
	bool six = ip->addr_bytes == 16;
	size_t header = six ? IP6_BYTES : IP4_BYTES;

	if (n < header + QUOTED_TRANSPORT || q[0] >> 4 != (six ? 6 : 4))
		return false;
	if (!six)
		header = (size_t)(q[0] & 15) * 4;
	if (header < IP4_BYTES || n < header + QUOTED_TRANSPORT ||
	    (six ? q[6] : q[9]) != PROTOCOL_TCP)
		return false;
	ports = q + header;
	f->local = six ? addr_of(q + 8, 16) : addr_of(q + 12, 4);
	f->peer = six ? addr_of(q + 24, 16) : addr_of(q + 16, 4);
	f->local_port = read_be16(ports);
	f->peer_port = read_be16(ports + 2);
	f->sequence = (uint32_t)read_be16(ports + 4) << 16 | read_be16(ports + 6);
	return true;
}

static bool is_error(const struct ip_view *ip)
{
	if (ip->payload_bytes < ICMP_BYTES)
		return false;
	return ip->addr_bytes == 16 ? ip->payload[0] < ICMP6_ERRORS_END
				    : ip->payload[0] == ICMP_UNREACHABLE;
}

unsigned icmp_owner(struct net_worker *w, const struct ip_view *ip)
{
	struct net_flow f;
	uint8_t ports[4];

	if (!is_error(ip) || !quoted_flow(ip, &f))
		return w->shard->index;
	/* as received, the peer comes first */
	write_be16(ports, f.peer_port);
	write_be16(ports + 2, f.local_port);
	return steer_owner(&w->net->steer, f.peer.byte, f.local.byte, ip->addr_bytes, ports);
}

void icmp_error(struct net_worker *w, const struct ip_view *ip, bool too_big, uint32_t mtu)
{
	struct net_flow f;

	if (!quoted_flow(ip, &f)) {
		net_count(w, net_icmp_bad);
		return;
	}
	net_count(w, net_icmp_errors_in);
	if (too_big)
		w->upper.too_big(w->upper.arg, &f, mtu);
	else
		w->upper.unreachable(w->upper.arg, &f.local, f.local_port, &f.peer, f.peer_port);
}

bool icmp_echo_allowed(struct net_worker *w)
{
	uint64_t second = w->shard->now_us / 1000000;

	if (second != w->icmp_second) {
		w->icmp_second = second;
		w->icmp_this_second = 0;
	}
	return w->icmp_this_second++ < ECHO_PER_SECOND;
}

static void echo_reply(struct net_worker *w, const struct ip_view *ip)
{
	uint32_t bytes = ip->payload_bytes;
	struct net_buffer b;

	if (!net_buffer_get(w, &b, IP4_BYTES + bytes, true))
		return;
	uint8_t *h = b.data, *icmp = h + IP4_BYTES;
	memset(h, 0, IP4_BYTES);
	h[0] = 0x45;
	write_be16(h + 2, (uint16_t)(IP4_BYTES + bytes));
	h[8] = 64;
	h[9] = PROTOCOL_ICMP;
	memcpy(h + 12, ip->destination, 4);
	memcpy(h + 16, ip->source, 4);
	write_be16(h + 10, wire_checksum(h, IP4_BYTES));
	memcpy(icmp, ip->payload, bytes);
	icmp[0] = ICMP_ECHO_REPLY;
	write_be16(icmp + 2, 0);
	write_be16(icmp + 2, wire_checksum(icmp, bytes));
	struct ip_addr to = addr_ip4(ip->source);
	net_count(w, net_icmp_echo_in);
	net_send(w, &b, IP4_BYTES + bytes, &to);
}

void icmp_input(struct net_worker *w, const struct ip_view *ip)
{
	if (ip->payload_bytes < ICMP_BYTES || wire_checksum(ip->payload, ip->payload_bytes) != 0)
		net_count(w, net_icmp_bad);
	else if (ip->payload[0] == ICMP_UNREACHABLE)
		icmp_error(w, ip, ip->payload[1] == CODE_TOO_BIG, read_be16(ip->payload + 6));
	else if (ip->payload[0] == ICMP_ECHO && icmp_echo_allowed(w))
		echo_reply(w, ip);
	else
		net_count(w, net_icmp_bad);
}
