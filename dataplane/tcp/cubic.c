/* cubic.c - CUBIC (RFC 9438) in integers, so that a seed replays alike on every machine.
 * C = 0.4, beta = 0.7; sizes in bytes, times in ms since the epoch began. */
#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum { SPAN_MS = 100000 }; /* the curve is followed so far from its middle, then it stays */

/* Largest r with r^3 <= x. */
static uint32_t cube_root(uint64_t x)
{
	uint64_t r = 0;

	for (int shift = 63; shift >= 0; shift -= 3) {
		r *= 2;
		uint64_t next = 3 * r * (r + 1) + 1;
		if (x >> shift >= next) {
			x -= next << shift;
			r++;
		}
	}
	return (uint32_t)r;
}

/* Equation 2: K = cbrt((W_max - cwnd) / C), W in segments and K in seconds. */
static void begin_epoch(struct stream *s, struct cubic *c, uint64_t now)
{
	c->epoch_us = now;
	c->w_est = s->cwnd;
	if (c->w_max <= s->cwnd) {
		c->w_max = s->cwnd;
		c->k_ms = 0;
	} else {
		c->k_ms = cube_root(2500000000ull * (c->w_max - s->cwnd) / s->mss);
	}
}

/* Equation 1: W(t) = C (t - K)^3 + W_max. */
static uint32_t curve(const struct stream *s, const struct cubic *c, uint64_t t_ms)
{
	bool before = t_ms < c->k_ms;
	uint64_t d = before ? c->k_ms - t_ms : t_ms - c->k_ms;

	if (d > SPAN_MS)
		d = SPAN_MS;
	uint64_t bytes = d * d * d / 100000 * 4 * s->mss / 100000;
	if (before)
		return bytes < c->w_max ? c->w_max - (uint32_t)bytes : 0;
	bytes += c->w_max;
	return bytes < 1u << 30 ? (uint32_t)bytes : 1u << 30;
}

/* What Reno would have by now (section 4.3): 3 (1 - beta) / (1 + beta) = 9 / 17 of a segment a
 * round trip, a whole one above the window of the last loss. */
static void grow_estimate(const struct stream *s, struct cubic *c, uint32_t acked)
{
	uint64_t step = (uint64_t)acked * s->mss;

	if (c->w_est < c->w_prior)
		step = step * 9 / 17;
	c->w_est += (uint32_t)((step + s->cwnd - 1) / s->cwnd);
}

static void cubic_grow(struct stream *s, uint32_t acked)
{
	uint64_t now = stack_now(s->stack);

	if (congestion_slow_start(s, acked) || s->active == NULL)
		return;
	struct cubic *c = &s->active->cubic;
	if (c->epoch_us == 0)
		begin_epoch(s, c, now);
	else if (now - c->grown_us > s->rto_us)
		c->epoch_us += now - c->grown_us; /* section 5.8: time without need counts not */
	c->grown_us = now;
	uint64_t t = (now - c->epoch_us) / 1000;
	grow_estimate(s, c, acked);
	if (curve(s, c, t) < c->w_est) {
		s->cwnd = u32_max(s->cwnd, c->w_est);
		return;
	}
	uint32_t target = curve(s, c, t + s->srtt_us / 1000);
	target = u32_min(target, s->cwnd + s->cwnd / 2);
	if (target > s->cwnd)
		s->cwnd += (uint32_t)((uint64_t)(target - s->cwnd) * acked / s->cwnd);
}

static uint32_t cubic_threshold(struct stream *s, uint32_t flight, bool timeout)
{
	if (s->active != NULL) {
		struct cubic *c = &s->active->cubic;
		/* Fast convergence (section 4.7): a flow that loses earlier than before yields. */
		uint32_t w_max =
			s->cwnd < c->w_max ? (uint32_t)((uint64_t)s->cwnd * 17 / 20) : s->cwnd;
		*c = (struct cubic){.w_max = timeout ? 0 : w_max, .w_prior = s->cwnd};
	}
	return u32_max((uint32_t)((uint64_t)flight * 7 / 10), 2u * s->mss);
}

const struct congestion_ops congestion_cubic = {"cubic", cubic_grow, cubic_threshold};
