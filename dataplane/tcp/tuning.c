/* tuning.c - settings of single streams */
#include "dataplane/tcp/tuning.h"

#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/timers.h"

#include <errno.h>
#include <stdlib.h>

int tuning_init(struct tcp_stack *t)
{
	const struct tcp_config *c = &t->config;

	t->tuning = (struct stream_tuning){
		.keepalive = c->keep_idle_s != 0,
		.congestion = (uint8_t)c->congestion,
		.init_window = c->init_window,
		.send_limit = c->send_limit,
		.receive_limit = c->receive_limit,
		.keep_idle_s = c->keep_idle_s,
		.keep_interval_s = c->keep_interval_s,
		.keep_count = c->keep_count,
		.syn_retries = c->syn_retries,
		.quick_acks = c->quick_acks,
	};
	if (!c->tunable)
		return 0;
	/* Untouched pages of a large calloc cost nothing until they are used. */
	t->tuned = calloc(c->max_streams, sizeof(*t->tuned));
	return t->tuned == NULL ? -ENOMEM : 0;
}

void tuning_free(struct tcp_stack *t)
{
	free(t->tuned);
}

void tcp_tuning(const struct tcp_stack *t, struct stream_tuning *to)
{
	*to = t->tuning;
}

void tuning_birth(struct stream *s, const struct stream_tuning *set)
{
	struct tcp_stack *t = s->stack;

	if (t->tuned != NULL)
		t->tuned[(uint32_t)s->handle] = (struct tuned){.tuning = *set,
							       .waiting_since_us = stack_now(t),
							       .quick_left = set->quick_acks};
	s->snd_limit = set->send_limit;
	s->rcv_limit = set->receive_limit;
	s->rcv_right = s->rcv_nxt + set->init_window;
}

int stream_tune(struct stream *s, const struct stream_tuning *tuning)
{
	struct tcp_stack *t = s->stack;

	if (t->tuned == NULL)
		return -ENOTSUP;
	struct stream_tuning *mine = &t->tuned[(uint32_t)s->handle].tuning;
	bool keep = mine->keepalive != tuning->keepalive ||
		    mine->keep_idle_s != tuning->keep_idle_s ||
		    mine->keep_interval_s != tuning->keep_interval_s;
	*mine = *tuning;
	if (tuning->quick_ack && s->due_us[DUE_ACK] != 0)
		s->flags |= F_ACK_NOW;
	if (s->state == TCP_SYN_SENT && s->snd_nxt == s->snd_una)
		tuning_birth(s, tuning);
	if (keep && s->state >= TCP_ESTABLISHED && s->state != TCP_TIME_WAIT)
		timers_start_idle(s);
	stream_touch(s);
	return 0;
}

void tuning_progress(struct stream *s)
{
	if (s->stack->tuned != NULL)
		s->stack->tuned[(uint32_t)s->handle].waiting_since_us = stack_now(s->stack);
}

uint64_t tuning_patience_ends(const struct stream *s)
{
	const struct tcp_stack *t = s->stack;

	if (t->tuned == NULL || t->tuned[(uint32_t)s->handle].tuning.user_timeout_ms == 0)
		return UINT64_MAX;
	const struct tuned *mine = &t->tuned[(uint32_t)s->handle];
	return mine->waiting_since_us + mine->tuning.user_timeout_ms * 1000ull;
}

bool tuning_acks_quickly(struct stream *s)
{
	const struct tcp_stack *t = s->stack;

	if (t->config.delack_us == 0)
		return true;
	if (t->tuned == NULL)
		return false;
	struct tuned *mine = &t->tuned[(uint32_t)s->handle];
	if (mine->quick_left > 0) {
		mine->quick_left--;
		return true;
	}
	return mine->tuning.quick_ack;
}
