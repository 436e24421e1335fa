/* ack.c - what an acknowledgment does: round trip, queue, window, loss recovery, our FIN */
#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/hystart.h"
#include "dataplane/tcp/input.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"
#include "dataplane/tcp/timers.h"
#include "dataplane/tcp/undo.h"

enum { ROOM_SHARE = 3 }; /* `writable` waits for a third of the limit: no trickle */

/* By the timestamp that came back (RFC 7323 section 4.1); 0: none. */
static uint32_t echoed_us(const struct stream *s, const struct segment *g)
{
	if ((s->flags & F_TIMESTAMPS) == 0 || !g->options.has_timestamp || g->options.ts_echo == 0)
		return 0;
	uint32_t ticks = stack_ticks(s->stack) + s->ts_offset - g->options.ts_echo;
	uint64_t us = (uint64_t)ticks * s->stack->config.ts_tick_us;
	if (ticks > (uint32_t)INT32_MAX || us > UINT32_MAX)
		return 0;
	return us != 0 ? (uint32_t)us : 1;
}

/* A segment timed by ourselves is exact; the echoed timestamp, in ticks, serves when a
 * retransmission has spoilt that (RFC 6298 section 3). */
static void sample(struct stream *s, const struct segment *g, uint32_t echoed)
{
	uint64_t now = stack_now(s->stack);

	if ((s->flags & F_TIMING) != 0 && seq_ge(g->ack, s->active->timed_seq)) {
		s->flags &= ~(uint32_t)F_TIMING;
		rto_sample(s, now - s->active->timed_at_us);
	} else if (s->retries > 0 && echoed != 0) {
		rto_sample(s, echoed);
	}
}

static void advance(struct stream *s, const struct segment *g)
{
	uint32_t acked = g->ack - s->snd_una;
	bool fin_acked = (s->flags & F_FIN_QUEUED) != 0 && seq_gt(g->ack, s->snd_end);

	uint32_t echoed = echoed_us(s, g);
	sample(s, g, echoed);
	uint32_t exact = rack_delivered(s, s->snd_una, g->ack);
	s->snd_una = g->ack;
	s->snd_nxt = seq_max(s->snd_nxt, g->ack);
	s->retries = s->probes = 0;
	send_acked(s, g->ack - fin_acked);
	if (s->stack->mtu_probes.active > 0)
		mtu_probe_acked(s);
	hystart_acked(s, exact != 0 ? exact : echoed);
	undo_advanced(s, g);
	congestion_acked(s, acked);
	sack_advance(s);
	rack_cut(s);
	if (s->snd_una == s->snd_max)
		timers_stop_retransmit(s);
	else
		timers_start_retransmit(s);
	if ((s->flags & F_WANT_WRITE) != 0 && stream_room(s) >= s->snd_limit / ROOM_SHARE)
		stream_raise(s, F_EVENT_WRITABLE);
	if (fin_acked)
		state_fin_acked(s);
}

/* In bytes; the field of a SYN is not scaled (RFC 7323 section 2.2). */
static uint32_t offered(const struct stream *s, const struct segment *g)
{
	return g->unscaled ? g->window : (uint32_t)g->window << snd_scale(s);
}

/* RFC 5681 section 2; the window field is compared before it is learnt. */
static bool is_duplicate(const struct stream *s, const struct segment *g)
{
	return g->ack == s->snd_una && s->snd_una != s->snd_max && g->bytes == 0 &&
	       (g->flags & WIRE_FIN) == 0 && offered(s, g) == s->snd_wnd;
}

static void learn_window(struct stream *s, const struct segment *g)
{
	if (seq_lt(s->snd_wl1, g->seq) || (s->snd_wl1 == g->seq && seq_le(s->snd_wl2, g->ack))) {
		uint32_t window = offered(s, g);
		if ((window == 0) != (s->snd_wnd == 0))
			trace(s, TCP_EVENT_PEER_WINDOW, window);
		s->snd_wnd = window;
		s->snd_wnd_max = u32_max(s->snd_wnd_max, s->snd_wnd);
		s->snd_wl1 = g->seq;
		s->snd_wl2 = g->ack;
	}
}

void input_ack(struct stream *s, const struct segment *g)
{
	if (seq_lt(g->ack, s->snd_una))
		return;
	bool duplicate = is_duplicate(s, g), sack = (s->flags & F_SACK) != 0;
	uint32_t una = s->snd_una, known = sack ? sack_covered(s, s->snd_max) : 0;

	learn_window(s, g);
	bool again = sack && sack_learn(s, g);
	uint32_t news = sack ? sack_covered(s, s->snd_max) - known : 0;
	if (sack)
		rack_probe_acked(s, g->ack, again || (duplicate && g->options.sacks == 0));
	if (seq_gt(g->ack, una)) {
		/* What was SACKed before is not delivered twice. */
		uint32_t before = sack ? sack_covered(s, g->ack) : 0;
		advance(s, g);
		news += s->snd_una - una - before;
	} else if (sack ? news > 0 : duplicate) {
		congestion_duplicate_ack(s);
	}
	if (sack && s->state != TCP_CLOSED) {
		undo_acked(s, s->snd_una != una);
		congestion_delivered(s, news);
		rack_schedule(s);
	}
	if ((s->flags & F_ECN) != 0 && (g->flags & WIRE_ECE) != 0 && s->state != TCP_CLOSED)
		ecn_echoed(s);
	/* Opened again after a probe: send at once, no need to wait for the timer. */
	if ((s->flags & F_PERSIST) != 0 && s->snd_wnd > 0 && s->snd_una == s->snd_nxt &&
	    s->snd_wnd >= s->mss)
		timers_stop_retransmit(s);
}
