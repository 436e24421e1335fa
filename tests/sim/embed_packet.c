/* embed_packet.c - received IP packets: what the ports' layer does for the daemon */
#include "tests/sim/embed.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/wire.h"

#include <errno.h>

enum {
	IP_ICMP = 1,
	IP_TCP = 6,
	IP_ICMP6 = 58,
	IP6_HOP_BY_HOP = 0,
	IP6_ROUTING = 43,
	IP6_DESTINATION = 60,
	ICMP_BYTES = 8,
	ICMP_UNREACHABLE = 3,
	ICMP_FRAGMENT = 4, /* needed, and DF set */
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	QUOTED_BYTES = 8,
};

/* An IP packet taken apart. */
struct packet {
	struct ip_addr source, destination;
	uint8_t tos, protocol;
	const uint8_t *payload;
	uint32_t bytes;
};

static bool parse_ip4(const uint8_t *p, size_t n, struct packet *to)
{
	if (n < WIRE_IP4_BYTES)
		return false;
	size_t header = (p[0] & 15u) * 4, total = wire_get16(p + 2);
	if (header < WIRE_IP4_BYTES || header > total || total > n ||
	    checksum_finish(checksum_add(0, p, header)) != 0)
		return false;
	if ((wire_get16(p + 6) & 0x3fff) != 0)
		return false; /* a fragment */
	to->source = addr_ip4(p + 12);
	to->destination = addr_ip4(p + 16);
	to->tos = p[1];
	to->protocol = p[9];
	to->payload = p + header;
	to->bytes = (uint32_t)(total - header);
	return true;
}

/* Extension headers that do not change what TCP sees are passed over. */
static bool pass_extensions(struct packet *to)
{
	while (to->protocol == IP6_HOP_BY_HOP || to->protocol == IP6_ROUTING ||
	       to->protocol == IP6_DESTINATION) {
		if (to->bytes < 8)
			return false;
		uint32_t n = (to->payload[1] + 1u) * 8;
		if (n > to->bytes || (to->protocol == IP6_ROUTING && to->payload[3] != 0))
			return false;
		to->protocol = to->payload[0];
		to->payload += n;
		to->bytes -= n;
	}
	return true;
}

static bool parse_ip6(const uint8_t *p, size_t n, struct packet *to)
{
	if (n < WIRE_IP6_BYTES || wire_get16(p + 4) > n - WIRE_IP6_BYTES)
		return false;
	to->source.family = to->destination.family = 6;
	memcpy(to->source.byte, p + 8, 16);
	memcpy(to->destination.byte, p + 24, 16);
	to->tos = (uint8_t)(p[0] << 4 | p[1] >> 4);
	to->protocol = p[6];
	to->payload = p + WIRE_IP6_BYTES;
	to->bytes = wire_get16(p + 4);
	return pass_extensions(to);
}

static bool parse(const uint8_t *p, size_t n, struct packet *to)
{
	*to = (struct packet){0};
	if (n > 0 && p[0] >> 4 == 4)
		return parse_ip4(p, n, to);
	return n > 0 && p[0] >> 4 == 6 && parse_ip6(p, n, to);
}

static bool receive_tcp(struct tcpe_stack *st, const struct packet *p)
{
	struct tcp_packet in = {
		.source = p->source,
		.destination = p->destination,
		.segment = p->payload,
		.bytes = p->bytes,
		.tos = p->tos,
	};
	const uint64_t *counters = tcp_counters(st->tcp);
	uint64_t before = counters[tcp_out_of_order];

	enum tcp_verdict v = tcp_input(st->tcp, &in);
	if (v != TCP_BAD_CHECKSUM && p->bytes >= WIRE_TCP_BYTES)
		embed_flow_in(st, &in, (uint32_t)(counters[tcp_out_of_order] - before));
	return v != TCP_BAD_CHECKSUM && v != TCP_MALFORMED;
}

/* A router's word on the path MTU (RFC 1191, RFC 8201); the stack checks the number. */
static void too_big(struct tcpe_stack *st, const struct packet *quoted, uint32_t mtu)
{
	struct flow_key key = {.local_port = wire_get16(quoted->payload),
			       .peer_port = wire_get16(quoted->payload + 2)};
	uint32_t reference;

	flow_address(key.local, &quoted->source);
	flow_address(key.peer, &quoted->destination);
	const struct stream *s = embed_stream(st, &key, &reference);
	uint16_t before = s != NULL ? s->mss : 0;
	tcp_packet_too_big(st->tcp, &quoted->source, key.local_port, &quoted->destination,
			   key.peer_port, wire_get32(quoted->payload + 4), mtu);
	if (s != NULL && s->mss < before)
		embed_flow_of(st, s)->pmtu = (uint16_t)mtu;
}

/* RFC 5927 section 4: the quoted number must be one that is outstanding. */
static bool quotes_flight(const struct tcpe_stack *st, const struct packet *quoted)
{
	struct flow_key key = {.local_port = wire_get16(quoted->payload),
			       .peer_port = wire_get16(quoted->payload + 2)};
	uint32_t reference, seq = wire_get32(quoted->payload + 4);

	flow_address(key.local, &quoted->source);
	flow_address(key.peer, &quoted->destination);
	const struct stream *s = embed_stream(st, &key, &reference);
	return s != NULL && seq_in(seq, s->snd_una, s->snd_max);
}

static int errno_of(bool ip4, uint8_t code)
{
	static const int ip4_codes[] = {ENETUNREACH, EHOSTUNREACH, ENOPROTOOPT, ECONNREFUSED};
	static const int ip6_codes[] = {ENETUNREACH, EACCES, EHOSTUNREACH, EHOSTUNREACH,
					ECONNREFUSED};

	if (ip4)
		return code < 4 ? ip4_codes[code] : EHOSTUNREACH;
	return code < 5 ? ip6_codes[code] : EHOSTUNREACH;
}

/* The quoted packet is cut off: only its addresses and the first 8 bytes of TCP count. */
static bool parse_quoted(bool ip4, const uint8_t *q, uint32_t n, struct packet *to)
{
	size_t header = ip4 && n > 0 ? (q[0] & 15u) * 4 : WIRE_IP6_BYTES;

	*to = (struct packet){0};
	if (n < header + QUOTED_BYTES || header < WIRE_IP4_BYTES || q[0] >> 4 != (ip4 ? 4 : 6) ||
	    q[ip4 ? 9 : 6] != IP_TCP)
		return false;
	to->source.family = to->destination.family = ip4 ? 4 : 6;
	memcpy(to->source.byte, q + (ip4 ? 12 : 8), ip4 ? 4 : 16);
	memcpy(to->destination.byte, q + (ip4 ? 16 : 24), ip4 ? 4 : 16);
	to->payload = q + header;
	return true;
}

static uint64_t icmp6_pseudo(const struct packet *p)
{
	uint8_t tail[8] = {0, 0, (uint8_t)(p->bytes >> 8), (uint8_t)p->bytes, 0, 0, 0, IP_ICMP6};
	uint64_t sum = checksum_add(0, p->source.byte, 16);

	return checksum_add(checksum_add(sum, p->destination.byte, 16), tail, sizeof(tail));
}

static bool receive_icmp(struct tcpe_stack *st, const struct packet *p)
{
	bool ip4 = p->protocol == IP_ICMP;
	uint64_t sum = ip4 ? 0 : icmp6_pseudo(p);
	struct packet quoted;

	if (p->bytes < ICMP_BYTES || checksum_finish(checksum_add(sum, p->payload, p->bytes)) != 0)
		return false;
	uint8_t type = p->payload[0], code = p->payload[1];
	bool big = ip4 ? type == ICMP_UNREACHABLE && code == ICMP_FRAGMENT : type == ICMP6_TOO_BIG;
	if (!big && type != (ip4 ? ICMP_UNREACHABLE : ICMP6_UNREACHABLE))
		return true;
	if (!parse_quoted(ip4, p->payload + ICMP_BYTES, p->bytes - ICMP_BYTES, &quoted))
		return false;
	if (big) {
		too_big(st, &quoted, ip4 ? wire_get16(p->payload + 6) : wire_get32(p->payload + 4));
		return true;
	}
	if (!quotes_flight(st, &quoted))
		return false;
	st->unreachable = errno_of(ip4, code);
	tcp_unreachable(st->tcp, &quoted.source, wire_get16(quoted.payload), &quoted.destination,
			wire_get16(quoted.payload + 2));
	return true;
}

bool embed_receive(struct tcpe_stack *st, const uint8_t *p, size_t n)
{
	struct packet packet;

	if (!parse(p, n, &packet) || !embed_is_local(st, &packet.destination))
		return false;
	if (packet.protocol == IP_TCP)
		return receive_tcp(st, &packet);
	if (packet.protocol == (packet.source.family == 4 ? IP_ICMP : IP_ICMP6))
		return receive_icmp(st, &packet);
	return false;
}
