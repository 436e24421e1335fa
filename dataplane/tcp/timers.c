/* timers.c - deadlines and what happens when they pass */
#include "dataplane/tcp/timers.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/pmtu.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"

/* A peer may keep its window shut as long as it likes while the upper layer lives (RFC 9293
 * section 3.8.6.1); once the stream is closed here, patience has this bound. */
enum { ORPHAN_PROBES = 8 };

/* Probes that were answered no longer count towards giving up, but so many of them still do
 * towards the pause between two (RFC 9293 section 3.8.6.1). */
enum { PAUSE_PROBES = 10 };

static uint64_t in_us(const struct stream *s, uint64_t us)
{
	return stack_now(s->stack) + us;
}

/* The user timeout (RFC 5482) may come before the timer's own time. */
static void start_patient(struct stream *s, uint64_t us)
{
	if (s->retries == 0 && s->probes == 0)
		tuning_progress(s);
	uint64_t due = in_us(s, us), end = tuning_patience_ends(s);
	s->due_us[DUE_RETRANSMIT] = due < end ? due : end;
}

void timers_start_retransmit(struct stream *s)
{
	s->flags &= ~(uint32_t)F_PERSIST;
	start_patient(s, s->rto_us);
}

void timers_start_persist(struct stream *s)
{
	uint64_t us = (uint64_t)s->rto_us << u32_min(s->probes, 16);

	if (us > s->stack->config.rto_max_us)
		us = s->stack->config.rto_max_us;
	s->flags |= F_PERSIST;
	start_patient(s, us);
}

void timers_probe_answered(struct stream *s)
{
	uint32_t most = u32_min(PAUSE_PROBES, s->stack->config.data_retries / 2);

	s->probes = (uint8_t)u32_min(s->probes, most);
}

void timers_stop_retransmit(struct stream *s)
{
	s->flags &= ~(uint32_t)F_PERSIST;
	s->due_us[DUE_RETRANSMIT] = 0;
}

void timers_start_delayed_ack(struct stream *s)
{
	if (s->due_us[DUE_ACK] == 0)
		s->due_us[DUE_ACK] = in_us(s, s->stack->config.delack_us);
}

void timers_start_idle(struct stream *s)
{
	const struct tcp_config *c = &s->stack->config;

	s->due_us[DUE_IDLE] = 0;
	if (s->state == TCP_TIME_WAIT)
		s->due_us[DUE_IDLE] = in_us(s, c->time_wait_us);
	else if (s->state == TCP_FIN_WAIT_2 && (s->flags & F_RELEASED) != 0)
		s->due_us[DUE_IDLE] = in_us(s, c->fin_wait2_us);
	else if (s->state >= TCP_ESTABLISHED && stream_tuning(s)->keepalive)
		s->due_us[DUE_IDLE] = in_us(s, (uint64_t)stream_tuning(s)->keep_idle_s * 1000000);
}

void timers_stop_all(struct stream *s)
{
	for (unsigned i = 0; i < DUES; i++)
		s->due_us[i] = 0;
	timer_cancel(s->stack->shard->timers, &s->timer);
}

void timers_settle(struct stream *s)
{
	struct timer_wheel *w = s->stack->shard->timers;
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < DUES; i++) {
		if (s->due_us[i] != 0 && s->due_us[i] < due)
			due = s->due_us[i];
	}
	if (rack_due(s) != 0 && rack_due(s) < due)
		due = rack_due(s);
	if (due == UINT64_MAX)
		timer_cancel(w, &s->timer);
	else if (!timer_armed(&s->timer) || s->timer.due_us != due)
		timer_arm(w, &s->timer, due);
}

static void gave_up(struct stream *s)
{
	count(s->stack, tcp_gave_up);
	if (s->state >= TCP_ESTABLISHED)
		output_reset(s);
	state_die(s, STREAM_END_TIMEOUT);
}

static void persist_expired(struct stream *s)
{
	uint32_t limit = s->stack->config.data_retries;

	if ((s->flags & F_RELEASED) != 0)
		limit = u32_min(limit, ORPHAN_PROBES);
	if (s->probes >= limit) {
		gave_up(s);
		return;
	}
	if (s->snd_wnd > 0) {
		/* A small window: what fits goes after all (RFC 9293 section 3.8.6.2.1). */
		s->flags |= F_OVERRIDE;
	} else {
		s->probes++;
		count(s->stack, tcp_zero_window_probes);
		s->flags |= F_PROBE;
	}
	timers_start_persist(s);
}

static void syn_expired(struct stream *s)
{
	const struct tcp_config *c = &s->stack->config;
	bool passive = (s->flags & F_PASSIVE) != 0;

	if (s->retries >= (passive ? c->synack_retries : stream_tuning(s)->syn_retries)) {
		gave_up(s);
		return;
	}
	s->retries++;
	s->flags |= F_RETRANSMIT | F_SYN_RESENT;
	rto_back_off(s);
	timers_start_retransmit(s);
}

static void retransmit_expired(struct stream *s)
{
	count(s->stack, tcp_timeouts);
	trace(s, TCP_EVENT_TIMEOUT, s->rto_us);
	if (s->state == TCP_SYN_SENT || s->state == TCP_SYN_RCVD) {
		syn_expired(s);
		return;
	}
	if (s->retries >= s->stack->config.data_retries) {
		gave_up(s);
		return;
	}
	congestion_timeout(s);
	s->retries++;
	pmtu_timed_out(s);
	/* Go back: the receiver's cumulative ACK will jump over what it kept. */
	s->snd_nxt = s->snd_una;
	s->flags &= ~(uint32_t)(F_TIMING | F_RETRANSMIT);
	rto_back_off(s);
	if (s->snd_wnd == 0)
		timers_start_persist(s);
	else
		timers_start_retransmit(s);
}

void timers_retransmit(struct stream *s)
{
	if (tuning_patience_ends(s) <= stack_now(s->stack))
		gave_up(s);
	else if ((s->flags & F_PERSIST) != 0)
		persist_expired(s);
	else
		retransmit_expired(s);
}

static void delayed_ack_expired(struct stream *s)
{
	count(s->stack, tcp_delayed_acks);
	s->flags |= F_ACK_NOW;
}

static void keepalive_expired(struct stream *s)
{
	const struct stream_tuning *c = stream_tuning(s);
	uint32_t silent_ms = stack_now_ms(s->stack) - s->heard_ms;

	if (silent_ms < c->keep_idle_s * 1000u) {
		s->probes = 0;
		s->due_us[DUE_IDLE] = in_us(s, (c->keep_idle_s * 1000ull - silent_ms) * 1000);
		return;
	}
	bool patient = c->user_timeout_ms == 0 ? s->probes < c->keep_count
					       : s->probes == 0 || silent_ms < c->user_timeout_ms;
	if (!patient) {
		gave_up(s);
		return;
	}
	/* With data in flight the retransmission timer finds out by itself. */
	if (s->snd_una == s->snd_max && s->due_us[DUE_RETRANSMIT] == 0) {
		s->probes++;
		count(s->stack, tcp_keepalive_probes);
		s->flags |= F_PROBE;
	}
	s->due_us[DUE_IDLE] = in_us(s, (uint64_t)c->keep_interval_s * 1000000);
}

static void idle_expired(struct stream *s)
{
	if (s->state == TCP_TIME_WAIT) {
		state_die(s, STREAM_END_TIMEOUT);
	} else if (s->state == TCP_FIN_WAIT_2 && (s->flags & F_RELEASED) != 0) {
		count(s->stack, tcp_fin_wait2_timeouts);
		state_die(s, STREAM_END_TIMEOUT);
	} else {
		keepalive_expired(s);
	}
}

static void (*const expired[DUES])(struct stream *s) = {
	[DUE_RETRANSMIT] = timers_retransmit,
	[DUE_ACK] = delayed_ack_expired,
	[DUE_IDLE] = idle_expired,
};

void timers_fire(struct timer *t)
{
	struct stream *s = container_of(t, struct stream, timer);
	uint64_t now = stack_now(s->stack);

	for (unsigned i = 0; i < DUES && s->state != TCP_CLOSED; i++) {
		if (s->due_us[i] != 0 && s->due_us[i] <= now) {
			s->due_us[i] = 0;
			expired[i](s);
		}
	}
	if (s->state != TCP_CLOSED && rack_due(s) != 0 && rack_due(s) <= now)
		rack_expired(s);
	stream_touch(s);
	tcp_flush(s->stack);
}
