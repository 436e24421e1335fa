/* hystart.c - rounds and their least round trip */
#include "dataplane/tcp/hystart.h"

#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

/* RFC 9406 section 4.3 */
enum {
	RISE_LEAST_US = 4000,
	RISE_MOST_US = 16000,
	RISE_DIVISOR = 8,
	ROUND_SAMPLES = 8,
	GROWTH_DIVISOR = 4,
	CONSERVATIVE_ROUNDS = 5,
};

/* Of the paper: ACKs no farther apart belong to one train; smaller windows have none. */
enum { TRAIN_GAP_US = 2000, TRAIN_SEGMENTS = 16 };

static void end_slow_start(struct stream *s)
{
	s->ssthresh = s->cwnd;
	count(s->stack, tcp_slow_start_exits);
}

static void begin_round(struct stream *s, struct hystart *h)
{
	if (h->conservative && ++h->rounds >= CONSERVATIVE_ROUNDS)
		end_slow_start(s);
	h->last_min_us = h->current_min_us;
	h->current_min_us = 0;
	h->samples = 0;
	h->window_end = s->snd_nxt;
	h->running = true;
	h->began_us = h->train_us = (uint32_t)stack_now(s->stack);
}

static bool risen(const struct hystart *h)
{
	uint32_t rise = u32_max(RISE_LEAST_US, h->last_min_us / RISE_DIVISOR);

	return h->last_min_us != 0 &&
	       h->current_min_us >= h->last_min_us + u32_min(rise, RISE_MOST_US);
}

static void sample(struct hystart *h, uint32_t rtt_us)
{
	if (h->current_min_us == 0 || rtt_us < h->current_min_us)
		h->current_min_us = rtt_us;
	if (h->samples < ROUND_SAMPLES && ++h->samples < ROUND_SAMPLES)
		return;
	if (!h->conservative && risen(h)) {
		h->conservative = true;
		h->rounds = 0;
		h->baseline_us = h->current_min_us;
	} else if (h->conservative && h->current_min_us < h->baseline_us) {
		h->conservative = false; /* it was jitter */
	}
}

/* A window leaves at once and comes back at the rate of the bottleneck.  When the ACKs of a round
 * have come for half a round trip, a window of what they told of and as much again is on its way:
 * the path is full, though its queue need not have grown yet. */
static bool train_is_long(const struct stream *s, struct hystart *h)
{
	uint32_t now = (uint32_t)stack_now(s->stack);

	if (s->cwnd < TRAIN_SEGMENTS * s->mss || now - h->train_us > TRAIN_GAP_US)
		return false;
	h->train_us = now;
	return h->last_min_us != 0 && now - h->began_us > h->last_min_us / 2;
}

static bool applies(const struct stream *s)
{
	return s->active != NULL && s->ssthresh == UINT32_MAX && s->stack->config.hystart;
}

void hystart_acked(struct stream *s, uint32_t rtt_us)
{
	if (!applies(s))
		return;
	struct hystart *h = &s->active->hystart;
	if (!h->running)
		begin_round(s, h);
	if (rtt_us != 0)
		sample(h, rtt_us);
	if (train_is_long(s, h)) {
		end_slow_start(s);
		return;
	}
	if (seq_ge(s->snd_una, h->window_end))
		begin_round(s, h);
}

uint32_t hystart_divisor(const struct stream *s)
{
	return applies(s) && s->active->hystart.conservative ? GROWTH_DIVISOR : 1;
}
