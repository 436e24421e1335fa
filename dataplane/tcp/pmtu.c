/*
 * pmtu.c - path MTU discovery: a router says that a packet of ours was too big (RFC 1191,
 * RFC 8201).
 *
 * Anybody can send such a message, so it counts only when it quotes data in flight (RFC 5927
 * section 7.2), and it can only lower the segment size, never below MSS_FLOOR.
 */
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/tcb.h"
#include "dataplane/tcp/wire.h"

enum { MSS_FLOOR = 256, IP4_HEADER = 20, IP6_HEADER = 40, TIMESTAMP_BYTES = 12 };

/* What to try when an old router names no MTU (RFC 1191 section 7.1, those above 576). */
static const uint16_t plateaus[] = {8166, 4352, 2002, 1492, 1006, 576};

static uint32_t next_plateau(uint32_t below)
{
	for (unsigned i = 0; i < sizeof(plateaus) / sizeof(plateaus[0]); i++) {
		if (plateaus[i] < below)
			return plateaus[i];
	}
	return 0;
}

void tcp_packet_too_big(struct tcp_stack *t, const struct ip_addr *local, uint16_t local_port,
			const struct ip_addr *peer, uint16_t peer_port, uint32_t sequence,
			uint32_t mtu)
{
	struct flow_key key = {.peer_port = peer_port, .local_port = local_port};

	flow_address(key.peer, peer);
	flow_address(key.local, local);
	uint32_t ref = stack_find(t, &key, flow_hash(&t->flows, &key));
	struct stream *s = ref == FLOW_NONE || (ref & FLOW_TIME_WAIT) != 0
				   ? NULL
				   : slab_at(t->streams, ref, NULL);
	if (s == NULL || !seq_ge(sequence, s->snd_una) || !seq_lt(sequence, s->snd_max)) {
		count(t, tcp_too_big_ignored);
		return;
	}
	uint32_t overhead = (peer->family == 6 ? IP6_HEADER : IP4_HEADER) + WIRE_TCP_BYTES +
			    ((s->flags & F_TIMESTAMPS) != 0 ? TIMESTAMP_BYTES : 0);
	if (mtu == 0)
		mtu = next_plateau(s->mss + overhead);
	uint32_t mss = mtu > overhead + MSS_FLOOR ? mtu - overhead : MSS_FLOOR;
	if (mss >= s->mss) {
		count(t, tcp_too_big_ignored);
		return;
	}
	count(t, tcp_too_big_taken);
	s->mss = (uint16_t)mss;
	s->flags |= F_RETRANSMIT;
	stream_touch(s);
}
