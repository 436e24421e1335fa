/* congestion.c - NewReno */
#include "dataplane/tcp/congestion.h"

#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/hystart.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/undo.h"

enum { CWND_CEILING = 1 << 30 };

bool congestion_slow_start(struct stream *s, uint32_t acked)
{
	/* RFC 3465: two segments an ACK, one while a timeout is being repaired */
	uint32_t limit = (s->flags & F_LOSS) != 0 ? s->mss : 2u * s->mss;

	if (s->cwnd >= s->ssthresh)
		return false;
	s->cwnd += u32_min(acked, limit) / hystart_divisor(s);
	return true;
}

static void newreno_grow(struct stream *s, uint32_t acked)
{
	struct active *a = s->active;

	if (congestion_slow_start(s, acked) || a == NULL)
		return;
	a->acked_bytes += acked;
	if (a->acked_bytes >= s->cwnd) {
		a->acked_bytes -= s->cwnd;
		s->cwnd += s->mss;
	}
}

static uint32_t newreno_threshold(struct stream *s, uint32_t flight, bool timeout)
{
	return u32_max(flight / 2, 2u * s->mss);
}

const struct congestion_ops congestion_newreno = {"newreno", newreno_grow, newreno_threshold};

static uint32_t initial_window(const struct stream *s)
{
	return s->stack->config.init_cwnd * s->mss;
}

void congestion_init(struct stream *s)
{
	/* A path that lost the SYN twice gets a timid start (RFC 6928 section 2). */
	s->cwnd = s->retries > 1 ? s->mss : initial_window(s);
	s->ssthresh = UINT32_MAX;
}

uint32_t congestion_room(const struct stream *s)
{
	uint32_t cwnd = s->cwnd, pipe = sack_pipe(s);

	/* Each of the first two duplicate ACKs tells of a segment that has left the network; with
	 * SACK pipe knows that by itself. */
	if (!s->stack->config.limited_transmit && (s->flags & (F_RECOVERY | F_LOSS)) == 0)
		pipe = s->snd_nxt - s->snd_una;
	else if ((s->flags & (F_RECOVERY | F_LOSS | F_SACK)) == 0 &&
		 s->dupacks < s->stack->config.duplicate_threshold)
		cwnd += (uint32_t)s->dupacks * s->mss;
	return cwnd > pipe ? cwnd - pipe : 0;
}

static void recovery_acked(struct stream *s, uint32_t acked)
{
	uint32_t flight = s->snd_nxt - s->snd_una;

	if (seq_ge(s->snd_una, s->active->recover)) {
		s->flags &= ~(uint32_t)(F_RECOVERY | F_RETRANSMIT);
		rack_recovered(s);
		s->cwnd = (s->flags & F_SACK) != 0
				  ? s->ssthresh
				  : u32_min(s->ssthresh, u32_max(flight, s->mss) + s->mss);
		return;
	}
	if ((s->flags & F_SACK) != 0)
		return; /* congestion_delivered() follows */
	/* Partial: the next hole begins here; what left the network leaves cwnd. */
	s->flags |= F_RETRANSMIT;
	s->cwnd = s->cwnd > acked + s->mss ? s->cwnd - acked : s->mss;
	if (acked >= s->mss)
		s->cwnd += s->mss;
}

void congestion_acked(struct stream *s, uint32_t acked)
{
	s->dupacks = 0;
	if ((s->flags & F_RECOVERY) != 0) {
		recovery_acked(s, acked);
		return;
	}
	if ((s->flags & F_LOSS) != 0 && seq_ge(s->snd_una, s->active->recover))
		s->flags &= ~(uint32_t)F_LOSS;
	if ((s->flags & F_CWND_LIMITED) != 0)
		stream_congestion(s)->grow(s, acked);
	s->cwnd = u32_min(s->cwnd, CWND_CEILING);
}

static void enter_recovery(struct stream *s)
{
	count(s->stack, tcp_fast_retransmits);
	undo_remember(s, false);
	s->ssthresh = stream_congestion(s)->threshold(s, s->snd_nxt - s->snd_una, false);
	s->cwnd = s->ssthresh;
	trace(s, TCP_EVENT_RECOVERY, s->ssthresh);
	s->active->recover = s->snd_max;
	s->flags |= F_RECOVERY;
	ecn_reduced(s);
}

static bool may_recover(const struct stream *s)
{
	return (s->flags & (F_RECOVERY | F_LOSS)) == 0 && s->active != NULL;
}

void congestion_duplicate_ack(struct stream *s)
{
	uint32_t threshold = s->stack->config.duplicate_threshold;

	if (s->dupacks < UINT8_MAX)
		s->dupacks++;
	if ((s->flags & F_SACK) != 0)
		return; /* congestion_delivered() follows */
	if ((s->flags & F_RECOVERY) != 0) {
		s->cwnd = u32_min(s->cwnd + s->mss, CWND_CEILING);
	} else if (s->dupacks == threshold && may_recover(s)) {
		enter_recovery(s);
		s->cwnd += threshold * s->mss;
		s->flags |= F_RETRANSMIT;
	}
}

void congestion_delivered(struct stream *s, uint32_t delivered)
{
	bool begins = may_recover(s) && rack_lost(s, s->snd_nxt) > 0;

	if (begins) {
		enter_recovery(s);
		sack_begin_recovery(s);
	}
	if ((s->flags & F_RECOVERY) != 0)
		sack_reduce(s, delivered);
	if (begins) /* the first retransmission goes whatever pipe says */
		s->cwnd = u32_max(s->cwnd, sack_pipe(s) + s->mss);
}

bool congestion_marked(struct stream *s)
{
	if (!may_recover(s))
		return false;
	undo_forget(s);
	s->ssthresh = stream_congestion(s)->threshold(s, s->snd_nxt - s->snd_una, false);
	s->cwnd = u32_min(s->cwnd, s->ssthresh);
	return true;
}

void congestion_probe_repaired(struct stream *s)
{
	congestion_marked(s);
}

void congestion_timeout(struct stream *s)
{
	if (s->retries == 0 && may_recover(s))
		undo_remember(s, true);
	else
		undo_forget(s);
	if (s->retries == 0)
		s->ssthresh = stream_congestion(s)->threshold(s, s->snd_max - s->snd_una, true);
	s->cwnd = s->mss;
	s->dupacks = 0;
	s->flags &= ~(uint32_t)F_RECOVERY;
	sack_forget(s);
	rack_timeout(s);
	if (s->active == NULL)
		return; /* only a FIN is outstanding */
	s->active->acked_bytes = 0;
	s->active->recover = s->snd_max;
	s->flags |= F_LOSS;
	ecn_reduced(s);
}

void congestion_restart(struct stream *s)
{
	s->cwnd = u32_min(s->cwnd, initial_window(s));
}
