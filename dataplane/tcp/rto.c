/* rto.c - SRTT and RTTVAR with alpha 1/8, beta 1/4, K 4 and a clock grain of 1 ms */
#include "dataplane/tcp/rto.h"

#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum { GRAIN_US = 1000, RTT_CEILING_US = 1 << 28 };

static uint32_t clamped(const struct stream *s, uint32_t rto)
{
	const struct tcp_config *c = &s->stack->config;

	return u32_min(u32_max(rto, c->rto_min_us), c->rto_max_us);
}

void rto_init(struct stream *s)
{
	s->srtt_us = s->rttvar_us = 0;
	s->rto_us = clamped(s, s->stack->config.rto_init_us);
}

void rto_sample(struct stream *s, uint64_t rtt_us)
{
	uint32_t r = rtt_us > RTT_CEILING_US ? RTT_CEILING_US : (uint32_t)rtt_us;

	if (r == 0)
		r = 1;
	if (s->srtt_us == 0) {
		s->srtt_us = r;
		s->rttvar_us = r / 2;
	} else {
		uint32_t off = r > s->srtt_us ? r - s->srtt_us : s->srtt_us - r;
		s->rttvar_us = s->rttvar_us - s->rttvar_us / 4 + off / 4;
		s->srtt_us = s->srtt_us - s->srtt_us / 8 + r / 8;
		if (s->srtt_us == 0)
			s->srtt_us = 1;
	}
	s->rto_us = clamped(s, s->srtt_us + u32_max(GRAIN_US, 4 * s->rttvar_us));
}

void rto_back_off(struct stream *s)
{
	s->rto_us = clamped(s, s->rto_us > UINT32_MAX / 2 ? UINT32_MAX : s->rto_us * 2);
}
