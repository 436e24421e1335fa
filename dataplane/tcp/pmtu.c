/*
 * pmtu.c - what is in flight and too big goes out again at once, without a congestion reaction:
 * no queue was full (RFC 8201 section 5.4).
 *
 * Anybody can send a too-big message, so it counts only when it quotes data in flight (RFC 5927
 * section 7.2), and it can only lower the segment size, never below a floor.
 */
#include "dataplane/tcp/pmtu.h"

#include "dataplane/tcp/options.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/wire.h"

/* No packet need be smaller: RFC 8200 section 5; for IPv4 what keeps headers in proportion. */
enum { MTU_MIN_IP6 = 1280, MTU_MIN_IP4 = 308 };
/* Timeouts in a row that call the first size in question; and so many more for each next. */
enum { HOLE_FIRST = 3, HOLE_NEXT = 2 };

/* What to try when an old router names no MTU (RFC 1191 section 7.1). */
static const uint16_t plateaus[] = {8166, 4352, 2002, 1492, 1006, 576, MTU_MIN_IP4, 0};
/* What to try when nobody says anything: Ethernet, nearly every tunnel, the rest. */
static const uint16_t hole_sizes[] = {1500, 1280, 576, 0};

/* The next lower; 0: none. */
static uint32_t lower(const uint16_t *sizes, uint32_t than)
{
	while (*sizes >= than)
		sizes++;
	return *sizes;
}

static uint32_t overhead(const struct stream *s)
{
	return (flow_is_ip4(s->key.peer) ? WIRE_IP4_BYTES : WIRE_IP6_BYTES) + WIRE_TCP_BYTES +
	       ((s->flags & F_TIMESTAMPS) != 0 ? OPTION_TIMESTAMP_BYTES : 0);
}

/* false: that is not smaller than now. */
static bool lower_mss(struct stream *s, uint32_t mtu)
{
	uint32_t least = flow_is_ip4(s->key.peer) ? MTU_MIN_IP4 : MTU_MIN_IP6;
	uint32_t mss = u32_max(mtu, least) - overhead(s);

	if (mss >= s->mss)
		return false;
	mtu_probe_lowered(s, s->mss);
	s->mss = (uint16_t)mss;
	trace(s, TCP_EVENT_MSS, mss);
	return true;
}

/* As after a timeout, but neither cwnd nor the timer's back-off changes. */
static void send_all_again(struct stream *s)
{
	s->snd_nxt = s->snd_una;
	s->flags &= ~(uint32_t)(F_TIMING | F_RETRANSMIT);
	s->dupacks = 0;
	rack_timeout(s);
	stream_touch(s);
}

static struct stream *in_flight(struct tcp_stack *t, const struct flow_key *key, uint32_t sequence)
{
	uint32_t ref = stack_find(t, key, flow_hash(&t->flows, key));

	if (ref == FLOW_NONE || (ref & FLOW_TAGS) != 0)
		return NULL;
	struct stream *s = slab_at(t->streams, ref, NULL);
	if (s->state < TCP_ESTABLISHED || seq_lt(sequence, s->snd_una) ||
	    seq_ge(sequence, s->snd_max))
		return NULL;
	return s;
}

void tcp_packet_too_big(struct tcp_stack *t, const struct ip_addr *local, uint16_t local_port,
			const struct ip_addr *peer, uint16_t peer_port, uint32_t sequence,
			uint32_t mtu)
{
	struct flow_key key = {.peer_port = peer_port, .local_port = local_port};

	flow_address(key.peer, peer);
	flow_address(key.local, local);
	struct stream *s = in_flight(t, &key, sequence);
	if (s != NULL && mtu == 0)
		mtu = lower(plateaus, s->mss + overhead(s));
	if (s == NULL || (!lower_mss(s, mtu) && !mtu_probe_refused(s))) {
		count(t, tcp_too_big_ignored);
		return;
	}
	count(t, tcp_too_big_taken);
	send_all_again(s);
}

void pmtu_timed_out(struct stream *s)
{
	if (!s->stack->config.blackhole_detection || s->retries < HOLE_FIRST ||
	    (s->retries - HOLE_FIRST) % HOLE_NEXT != 0)
		return;
	/* The window may keep segments below the size that we could send. */
	uint32_t sent = u32_min(s->mss, s->snd_max - s->snd_una);
	uint32_t mtu = lower(hole_sizes, sent + overhead(s));
	if (mtu == 0 || !lower_mss(s, mtu))
		return;
	s->cwnd = s->mss;
	count(s->stack, tcp_blackholes);
}
