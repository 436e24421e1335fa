/* icmp6.c - echo replies and errors for IPv6 (RFC 4443) */
#include "dataplane/net/internal.h"

enum {
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	ICMP6_TIME_EXCEEDED = 3,
	ICMP6_ECHO = 128,
	ICMP6_ECHO_REPLY = 129,
	HOP_LIMIT = 64,
};

static void echo_reply(struct net_worker *w, const struct ip_view *ip)
{
	uint32_t bytes = ip->payload_bytes;
	struct net_buffer b;

	if (!net_buffer_get(w, &b, IP6_BYTES + bytes, true))
		return;
	uint8_t *icmp = b.data + IP6_BYTES;
	ip6_build(b.data, (uint16_t)bytes, PROTOCOL_ICMP6, HOP_LIMIT, ip->destination, ip->source);
	memcpy(icmp, ip->payload, bytes);
	icmp[0] = ICMP6_ECHO_REPLY;
	write_be16(icmp + 2, 0);
	write_be16(icmp + 2,
		   wire_checksum6(ip->destination, ip->source, PROTOCOL_ICMP6, icmp, bytes));
	struct ip_addr to = addr_of(ip->source, 16);
	net_count(w, net_icmp_echo_in);
	net_send(w, &b, IP6_BYTES + bytes, &to);
}

void icmp6_input(struct net_worker *w, const struct ip_view *ip)
{
	const uint8_t *p = ip->payload;

	if (ip->payload_bytes < ICMP_BYTES || ip->source[0] == 0xff ||
	    wire_checksum6(ip->source, ip->destination, PROTOCOL_ICMP6, p, ip->payload_bytes) != 0)
		net_count(w, net_icmp_bad);
	else if (p[0] == ICMP6_TOO_BIG)
		icmp_error(w, ip, true, (uint32_t)read_be16(p + 4) << 16 | read_be16(p + 6));
	else if (p[0] == ICMP6_UNREACHABLE || p[0] == ICMP6_TIME_EXCEEDED)
		icmp_error(w, ip, false, 0);
	else if (p[0] == ICMP6_ECHO && icmp_echo_allowed(w))
		echo_reply(w, ip);
	else
		net_count(w, net_icmp_bad);
}
