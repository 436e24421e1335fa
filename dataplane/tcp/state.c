/* state.c - transitions as tables */
#include "dataplane/tcp/state.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/listen.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/timers.h"
#include "dataplane/tcp/wire.h"

/* Bounds on what a peer may call its MSS: below, headers would outweigh payload without end
 * (CVE-2019-11479). */
enum { MSS_FLOOR = 64 };

/* CLOSED: no transition */
static const uint8_t on_close[TCP_STATES] = {
	[TCP_SYN_RCVD] = TCP_SYN_RCVD, /* FIN_WAIT_1 once established */
	[TCP_ESTABLISHED] = TCP_FIN_WAIT_1,
	[TCP_CLOSE_WAIT] = TCP_LAST_ACK,
};
static const uint8_t on_fin[TCP_STATES] = {
	[TCP_ESTABLISHED] = TCP_CLOSE_WAIT,
	[TCP_FIN_WAIT_1] = TCP_CLOSING,
	[TCP_FIN_WAIT_2] = TCP_TIME_WAIT,
};
static const uint8_t on_fin_acked[TCP_STATES] = {
	[TCP_FIN_WAIT_1] = TCP_FIN_WAIT_2,
	[TCP_CLOSING] = TCP_TIME_WAIT,
};

static void enter(struct stream *s, enum tcp_state state)
{
	stream_enter(s, state);
	timers_start_idle(s);
}

static struct stream *take(struct tcp_stack *t, const struct flow_key *key, uint32_t hash)
{
	const struct tcp_config *c = &t->config;
	handle_t h;
	struct stream *s = slab_alloc(t->streams, &h);

	if (s == NULL)
		return NULL;
	s->key = *key;
	s->hash = hash;
	s->handle = h;
	s->stack = t;
	/* only reading leaves a page that no loss has touched to the system */
	if (t->sent_again[(uint32_t)h] != 0)
		t->sent_again[(uint32_t)h] = 0;
	list_init(&s->link);
	timer_init(&s->timer, timers_fire);
	tuning_birth(s, &t->tuning);
	s->scales = c->window_scaling ? c->receive_scale : 0;
	s->ts_offset = isn_timestamp_offset(t, hash);
	rto_init(s);
	return s;
}

struct stream *state_birth(struct tcp_stack *t, const struct flow_key *key, uint32_t hash)
{
	struct stream *s = take(t, key, hash);

	if (s != NULL)
		flow_insert(&t->flows, hash, (uint32_t)s->handle);
	return s;
}

struct stream *state_revive(struct tcp_stack *t, const struct flow_key *key, uint32_t hash,
			    uint32_t reference)
{
	struct stream *s = take(t, key, hash);

	if (s != NULL)
		flow_replace(&t->flows, hash, reference, (uint32_t)s->handle);
	return s;
}

static void learn_mss(struct stream *s, const struct tcp_options *o)
{
	uint16_t ours = output_mss(s);
	uint16_t theirs =
		flow_is_ip4(s->key.peer) ? OPTION_MSS_DEFAULT_IP4 : OPTION_MSS_DEFAULT_IP6;

	if (o->has_mss)
		theirs = o->mss < MSS_FLOOR ? MSS_FLOOR : o->mss;
	s->mss = theirs < ours ? theirs : ours;
	if ((s->flags & F_TIMESTAMPS) != 0)
		s->mss = (uint16_t)(s->mss - OPTION_TIMESTAMP_BYTES);
}

void state_learn_syn(struct stream *s, const struct tcp_options *o, uint32_t seq, uint16_t window)
{
	const struct tcp_config *c = &s->stack->config;

	s->rcv_nxt = s->rcv_read = s->last_ack = seq + 1;
	s->rcv_right = s->rcv_nxt + stream_tuning(s)->init_window;
	if (o->has_scale && c->window_scaling) {
		s->flags |= F_SCALING;
		s->scales = (uint8_t)(o->scale << 4 | (s->scales & 15));
	} else {
		s->scales = 0;
	}
	if (o->has_timestamp && c->timestamps) {
		s->flags |= F_TIMESTAMPS;
		s->ts_recent = o->ts_value;
	}
	if (o->sack_permitted && c->sack)
		s->flags |= F_SACK;
	learn_mss(s, o);
	s->snd_wnd = s->snd_wnd_max = window;
	s->snd_wl1 = seq;
	s->snd_wl2 = s->snd_una;
	s->heard_ms = stack_now_ms(s->stack);
}

void state_established(struct stream *s)
{
	struct tcp_stack *t = s->stack;

	congestion_init(s);
	/* RFC 6298 section 5.7: the SYN was lost, its RTO says nothing about data */
	if ((s->flags & F_SYN_RESENT) != 0 && s->srtt_us == 0)
		s->rto_us = u32_max(s->rto_us, 3000000);
	s->retries = 0;
	count(t, (s->flags & F_PASSIVE) != 0 ? tcp_accepted : tcp_connected);
	if ((s->flags & F_ECN) != 0)
		count(t, tcp_ecn_agreed);
	enter(s, TCP_ESTABLISHED);
	if ((s->flags & F_HALF_OPEN) != 0)
		listen_promote(s);
	s->flags |= F_OPENED;
	if ((s->flags & F_FIN_QUEUED) != 0)
		enter(s, TCP_FIN_WAIT_1);
	if ((s->flags & F_RELEASED) == 0)
		stream_raise(s, F_EVENT_OPENED);
}

void state_closing(struct stream *s)
{
	s->flags |= F_FIN_QUEUED;
	if (on_close[s->state] != TCP_CLOSED)
		enter(s, on_close[s->state]);
}

void state_fin_received(struct stream *s)
{
	if (on_fin[s->state] == TCP_CLOSED)
		return;
	enter(s, on_fin[s->state]);
	if ((s->flags & F_RELEASED) == 0)
		stream_raise(s, F_EVENT_READABLE);
}

void state_fin_acked(struct stream *s)
{
	if (s->state == TCP_LAST_ACK)
		state_die(s, STREAM_END_RESET);
	else if (on_fin_acked[s->state] != TCP_CLOSED)
		enter(s, on_fin_acked[s->state]);
}

void state_die(struct stream *s, enum stream_end why)
{
	bool finished = s->state == TCP_LAST_ACK || s->state == TCP_TIME_WAIT;

	if (s->state == TCP_CLOSED)
		return;
	stream_enter(s, TCP_CLOSED);
	timers_stop_all(s);
	flow_remove(&s->stack->flows, s->hash, (uint32_t)s->handle);
	if ((s->flags & F_HALF_OPEN) != 0)
		listen_demote(s);
	s->ack_segments = why;
	if (stream_is_held(s) && !finished)
		stream_raise(s, F_EVENT_CLOSED);
	else
		stream_touch(s);
}

void state_shrink(struct stream *s)
{
	time_wait_enter(s);
	stream_enter(s, TCP_CLOSED);
	timers_stop_all(s);
}

void state_free(struct stream *s)
{
	struct tcp_stack *t = s->stack;

	list_del(&s->link);
	timer_cancel(t->shard->timers, &s->timer);
	send_clear(s);
	receive_clear(s);
	stream_rest(s);
	assert(s->active == NULL);
	slab_free(t->streams, s->handle);
}
