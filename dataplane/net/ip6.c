/* ip6.c - IPv6 headers (RFC 8200): a chain of extension headers, walked within bounds */
#include "dataplane/net/wire.h"

enum {
	HEADER_HOP_BY_HOP = 0,
	HEADER_ROUTING = 43,
	HEADER_FRAGMENT = 44,
	HEADER_NONE = 59,
	HEADER_DESTINATION = 60,
	OPTION_PAD1 = 0,
	EXTENSIONS_MOST = 8, /* legitimate chains are shorter; longer ones only cost us time */
};

uint16_t wire_checksum6(const uint8_t source[16], const uint8_t destination[16], uint8_t protocol,
			const uint8_t *data, size_t n)
{
	uint64_t sum = protocol + (uint64_t)n;

	for (unsigned i = 0; i < 16; i += 2)
		sum += (uint64_t)read_be16(source + i) + read_be16(destination + i);
	for (; n >= 2; n -= 2, data += 2)
		sum += read_be16(data);
	if (n == 1)
		sum += (uint64_t)data[0] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

void ip6_build(uint8_t *p, uint16_t payload_bytes, uint8_t protocol, uint8_t hop_limit,
	       const uint8_t source[16], const uint8_t destination[16])
{
	memset(p, 0, 4);
	p[0] = 0x60;
	write_be16(p + 4, payload_bytes);
	p[6] = protocol;
	p[7] = hop_limit;
	memcpy(p + 8, source, 16);
	memcpy(p + 24, destination, 16);
}

/* Options of a hop-by-hop or destination header: the two high bits of an unknown one say what
 * to do with the packet (RFC 8200 section 4.2). */
static bool options_allow(const uint8_t *p, size_t n)
{
	for (size_t i = 2; i < n;) {
		if (p[i] == OPTION_PAD1) {
			i++;
			continue;
		}
		if (i + 2 > n || i + 2 + p[i + 1] > n || (p[i] >> 6 != 0))
			return false;
		i += 2 + (size_t)p[i + 1];
	}
	return true;
}

static enum ip6_verdict fragment_header(const uint8_t *p, bool first, struct ip_view *v)
{
	uint16_t word = read_be16(p + 2);

	v->protocol = p[0];
	v->fragment_offset = word & 0xfff8;
	v->fragment_more = (word & 1) != 0;
	v->fragment_id = (uint32_t)read_be16(p + 4) << 16 | read_be16(p + 6);
	v->payload += 8;
	v->payload_bytes -= 8;
	if (!first)
		return IP6_FRAGMENT_BEHIND;
	/* the whole datagram in one fragment is none (RFC 6946) */
	return v->fragment_offset == 0 && !v->fragment_more ? IP6_GOOD : IP6_FRAGMENT;
}

/* One extension header at the front of the payload. */
static enum ip6_verdict extension(struct ip_view *v, bool first)
{
	const uint8_t *p = v->payload;
	uint8_t kind = v->protocol;

	if (v->payload_bytes < 8)
		return IP6_TRUNCATED;
	if (kind == HEADER_FRAGMENT)
		return fragment_header(p, first, v);
	uint32_t n = 8 + (uint32_t)p[1] * 8;
	if (n > v->payload_bytes)
		return IP6_TRUNCATED;
	if (kind == HEADER_HOP_BY_HOP && !first)
		return IP6_BAD_HEADER;
	if (kind == HEADER_ROUTING && p[3] != 0)
		return IP6_ROUTED;
	if (kind != HEADER_ROUTING && !options_allow(p, n))
		return IP6_BAD_OPTION;
	v->protocol = p[0];
	v->payload += n;
	v->payload_bytes -= n;
	return IP6_GOOD;
}

static bool is_extension(uint8_t protocol)
{
	return protocol == HEADER_HOP_BY_HOP || protocol == HEADER_ROUTING ||
	       protocol == HEADER_FRAGMENT || protocol == HEADER_DESTINATION;
}

enum ip6_verdict ip6_parse(const uint8_t *p, size_t n, struct ip_view *v)
{
	static const uint8_t loopback[16] = {[15] = 1};

	if (n < IP6_BYTES)
		return IP6_TRUNCATED;
	size_t payload = read_be16(p + 4);
	if (p[0] >> 4 != 6)
		return IP6_BAD_HEADER;
	if (IP6_BYTES + payload > n)
		return IP6_TRUNCATED;
	if (p[8] == 0xff || memcmp(p + 8, loopback, 16) == 0)
		return IP6_BAD_SOURCE;
	*v = (struct ip_view){
		.source = p + 8,
		.destination = p + 24,
		.addr_bytes = 16,
		.payload = p + IP6_BYTES,
		.payload_bytes = (uint32_t)payload,
		.protocol = p[6],
		.tos = (uint8_t)(p[0] << 4 | p[1] >> 4),
		.ttl = p[7],
	};
	for (unsigned i = 0; is_extension(v->protocol); i++) {
		if (i == EXTENSIONS_MOST)
			return IP6_BAD_HEADER;
		enum ip6_verdict r = extension(v, i == 0);
		if (r != IP6_GOOD)
			return r;
	}
	return IP6_GOOD;
}
