/* segment.c - checks that need no connection */
#include "dataplane/tcp/segment.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/stack.h"

/* Not a unicast host: nothing may be sent back to it (RFC 1122 section 4.2.3.10). */
static bool bad_address(const struct ip_addr *a)
{
	if (a->family == 6)
		return a->byte[0] == 0xff || flow_is_ip4(a->byte);
	return a->byte[0] >= 224 || a->byte[0] == 0;
}

static bool checksum_ok(const struct tcp_packet *p)
{
	uint64_t sum = checksum_pseudo(&p->source, &p->destination, p->bytes);

	return checksum_finish(checksum_add(sum, p->segment, p->bytes)) == 0;
}

static enum tcp_verdict malformed(struct tcp_stack *t)
{
	count(t, tcp_malformed);
	return TCP_MALFORMED;
}

enum tcp_verdict segment_parse(struct tcp_stack *t, const struct tcp_packet *p, struct segment *g)
{
	const uint8_t *h = p->segment;

	if (p->bytes < WIRE_TCP_BYTES || p->source.family != p->destination.family)
		return malformed(t);
	uint32_t header = (uint32_t)(h[12] >> 4) * 4;
	if (header < WIRE_TCP_BYTES || header > p->bytes)
		return malformed(t);
	if (!p->checksum_good && !checksum_ok(p)) {
		count(t, tcp_bad_checksum);
		return TCP_BAD_CHECKSUM;
	}
	count(t, tcp_segments_in);
	g->key.peer_port = wire_get16(h);
	g->key.local_port = wire_get16(h + 2);
	if (bad_address(&p->source) || bad_address(&p->destination) || g->key.peer_port == 0 ||
	    g->key.local_port == 0)
		return malformed(t);
	flow_address(g->key.peer, &p->source);
	flow_address(g->key.local, &p->destination);
	g->seq = wire_get32(h + 4);
	g->ack = wire_get32(h + 8);
	g->flags = h[13];
	g->ce = (p->tos & WIRE_ECN_MASK) == WIRE_CE;
	g->unscaled = (g->flags & WIRE_SYN) != 0;
	g->window = wire_get16(h + 14);
	g->data = h + header;
	g->bytes = p->bytes - header;
	if (!options_parse(&g->options, h + WIRE_TCP_BYTES, header - WIRE_TCP_BYTES))
		count(t, tcp_bad_options);
	return TCP_ACCEPTED;
}
