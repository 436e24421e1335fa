/* input.c - the steps of RFC 9293 section 3.10.7 in their order, with RFC 5961 and RFC 7323 */
#include "dataplane/tcp/input.h"

#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/listen.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"
#include "dataplane/tcp/timers.h"

/* RFC 7323 section 5.5: a timestamp older than this says nothing any more */
enum { PAWS_IDLE_MS = 24 * 24 * 3600 * 1000 };

static enum tcp_verdict arrive(struct tcp_stack *t, struct segment *g, uint32_t hash)
{
	uint32_t isn_above = 0, ref = stack_find(t, &g->key, hash);

	if (ref == FLOW_NONE)
		return listen_input(t, g, hash, NULL);
	if ((ref & FLOW_TIME_WAIT) != 0) {
		if (time_wait_input(t, ref & ~FLOW_TIME_WAIT, g, &isn_above))
			return listen_input(t, g, hash, &isn_above);
		return TCP_ACCEPTED;
	}
	if ((ref & FLOW_SYN) != 0)
		return syn_cache_input(t, ref & ~FLOW_SYN, g);
	struct stream *s = slab_object(t->streams, ref);
	stream_touch(s);
	return s->state == TCP_SYN_SENT ? input_syn_sent(s, g) : input_synchronized(s, g);
}

enum tcp_verdict tcp_input(struct tcp_stack *t, const struct tcp_packet *p)
{
	struct segment g;
	enum tcp_verdict v = segment_parse(t, p, &g);

	return v == TCP_ACCEPTED ? arrive(t, &g, flow_hash(&t->flows, &g.key)) : v;
}

/* All four lines: a segment reads or writes each of them. */
static void fetch_stream(const struct tcp_stack *t, uint32_t hash)
{
	uint32_t ref = flow_guess(&t->flows, hash);

	if (ref == FLOW_NONE || (ref & FLOW_TAGS) != 0)
		return;
	const uint8_t *s = slab_object(t->streams, ref);
	for (unsigned line = 0; line < sizeof(struct stream); line += 64)
		__builtin_prefetch(s + line, 1);
}

void tcp_input_burst(struct tcp_stack *t, const struct tcp_packet *p, unsigned n,
		     enum tcp_verdict *verdict)
{
	struct segment g[TCP_BURST];
	uint32_t hash[TCP_BURST];

	assert(n <= TCP_BURST);
	for (unsigned i = 0; i < n; i++) {
		verdict[i] = segment_parse(t, &p[i], &g[i]);
		if (verdict[i] != TCP_ACCEPTED)
			continue;
		hash[i] = flow_hash(&t->flows, &g[i].key);
		flow_prefetch(&t->flows, hash[i]);
	}
	for (unsigned i = 0; i < n && n > 1; i++) {
		if (verdict[i] == TCP_ACCEPTED)
			fetch_stream(t, hash[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		if (verdict[i] == TCP_ACCEPTED)
			verdict[i] = arrive(t, &g[i], hash[i]);
	}
}

/* The SYN's round trip, when it was sent once: its timer tells when. */
static void sample_syn(struct stream *s)
{
	if (s->retries == 0 && s->due_us[DUE_RETRANSMIT] != 0)
		rto_sample(s, stack_now(s->stack) + s->rto_us - s->due_us[DUE_RETRANSMIT]);
}

static void syn_acked(struct stream *s, const struct segment *g)
{
	sample_syn(s);
	s->snd_una = g->ack;
	timers_stop_retransmit(s);
	s->flags &= ~(uint32_t)F_RETRANSMIT;
}

enum tcp_verdict input_syn_sent(struct stream *s, const struct segment *g)
{
	bool ack = (g->flags & WIRE_ACK) != 0;

	if (ack && (seq_le(g->ack, s->snd_una) || seq_gt(g->ack, s->snd_max))) {
		count_drop(s, tcp_bad_ack);
		output_reset_reply(s->stack, g);
		return TCP_ACCEPTED;
	}
	if ((g->flags & WIRE_RST) != 0) {
		count(s->stack, ack ? tcp_rst_in : tcp_rst_ignored);
		if (ack)
			state_die(s, STREAM_END_REFUSED);
		return TCP_ACCEPTED;
	}
	if ((g->flags & WIRE_SYN) == 0 ||
	    ((g->flags & WIRE_FIN) != 0 && s->stack->config.drop_syn_fin)) {
		count_drop(s, tcp_bad_flags);
		return TCP_MALFORMED;
	}
	state_learn_syn(s, &g->options, g->seq, g->window);
	ecn_learn_syn(s, g->flags);
	if (!ack) {
		/* Simultaneous open: our SYN goes out again, with an ACK. */
		stream_enter(s, TCP_SYN_RCVD);
		s->flags |= F_RETRANSMIT;
		return TCP_ACCEPTED;
	}
	syn_acked(s, g);
	s->snd_wl2 = g->ack;
	s->flags |= F_ACK_NOW;
	state_established(s);
	/* Data that came with the SYN is left for the peer to send again. */
	return TCP_ACCEPTED;
}

static bool paws_rejects(const struct stream *s, const struct segment *g)
{
	if ((s->flags & F_TIMESTAMPS) == 0 || !g->options.has_timestamp)
		return false;
	return seq_lt(g->options.ts_value, s->ts_recent) &&
	       stack_now_ms(s->stack) - s->heard_ms < PAWS_IDLE_MS;
}

/* RFC 9293 section 3.10.7.4, first step.  A pure ACK at the very right edge is let in: it is what
 * a peer sends that has filled the window and whose data is still on its way. */
static bool in_window(const struct stream *s, const struct segment *g)
{
	uint32_t length = segment_length(g);

	if ((g->flags & WIRE_RST) != 0)
		return g->seq == s->rcv_nxt || seq_in(g->seq, s->rcv_nxt, s->rcv_right);
	if (length == 0)
		return seq_ge(g->seq, s->rcv_nxt) && seq_le(g->seq, s->rcv_right);
	if (g->seq == s->rcv_nxt)
		return true; /* perhaps into a closed window: then it is trimmed */
	return seq_lt(g->seq, s->rcv_right) && seq_gt(g->seq + length, s->rcv_nxt);
}

/* An ACK without data that a newer one has overtaken on its way, say in another queue: it tells
 * nothing, and nobody waits for an answer to it. */
static bool overtaken(const struct stream *s, const struct segment *g)
{
	return segment_length(g) == 0 && (g->flags & (WIRE_RST | WIRE_ACK)) == WIRE_ACK &&
	       s->state >= TCP_ESTABLISHED && seq_le(g->ack, s->snd_una) &&
	       seq_ge(g->ack, s->snd_una - s->snd_wnd_max) && in_window(s, g);
}

/* A segment not to be processed is answered, or both ends could wait for ever; without data at
 * the rate of challenge ACKs, or both could answer for ever. */
static void answer_dropped(struct stream *s, const struct segment *g)
{
	if ((g->flags & WIRE_RST) != 0)
		return;
	if (segment_length(g) > 0)
		output_ack(s);
	else
		output_challenge_ack(s);
}

static void reset_input(struct stream *s, const struct segment *g)
{
	if (g->seq != s->rcv_nxt) {
		output_challenge_ack(s); /* RFC 5961 section 3.2 */
		return;
	}
	count(s->stack, tcp_rst_in);
	trace(s, TCP_EVENT_RST_IN, (uint32_t)s->state << 8);
	state_die(s, s->state == TCP_SYN_RCVD ? STREAM_END_REFUSED : STREAM_END_RESET);
}

/* A SYN of the handshake once more: ours was lost, or both opened at the same time. */
static bool handshake_syn(struct stream *s, struct segment *g)
{
	if (s->state != TCP_SYN_RCVD || (g->flags & (WIRE_SYN | WIRE_RST)) != WIRE_SYN ||
	    g->seq + 1 != s->rcv_nxt)
		return false;
	if ((g->flags & WIRE_ACK) == 0) {
		ecn_learn_syn(s, g->flags);
		if (output_challenge_allowed(s->stack))
			output_syn(s);
		return true;
	}
	g->flags &= (uint8_t)~WIRE_SYN;
	g->unscaled = true;
	g->seq++;
	s->flags |= F_ACK_NOW;
	return false;
}

/* What lies beyond the window is cut off, the FIN with it; a FIN right at its edge needs no
 * memory and may enter. */
static void trim(struct stream *s, struct segment *g)
{
	uint32_t end = g->seq + g->bytes;

	if (seq_gt(end, s->rcv_right)) {
		uint32_t over = end - s->rcv_right;
		g->bytes = over < g->bytes ? g->bytes - over : 0;
		g->flags &= (uint8_t)~WIRE_FIN;
		s->flags |= F_ACK_NOW;
	}
}

/* RFC 5961 section 5.2: an ACK too old, or of what was never sent. */
static bool ack_acceptable(const struct stream *s, const struct segment *g)
{
	return seq_ge(g->ack, s->snd_una - s->snd_wnd_max) && seq_le(g->ack, s->snd_max);
}

static void learn_timestamp(struct stream *s, const struct segment *g)
{
	if ((s->flags & F_TIMESTAMPS) != 0 && g->options.has_timestamp &&
	    seq_le(g->seq, s->last_ack) && seq_ge(g->options.ts_value, s->ts_recent))
		s->ts_recent = g->options.ts_value;
	s->heard_ms = stack_now_ms(s->stack);
	if ((s->flags & F_PERSIST) == 0) {
		if (s->probes > 0)
			timers_start_idle(s); /* a keepalive was answered */
		s->probes = 0;
	} else if ((s->flags & F_RELEASED) == 0) {
		timers_probe_answered(s);
	}
}

static bool duplicate_to_report(const struct stream *s)
{
	return s->stack->duplicate.from != s->stack->duplicate.to;
}

/* RFC 9293 section 3.6.1: nobody will ever read it, and the peer must know. */
static bool too_late(struct stream *s, const struct segment *g)
{
	if (!s->stack->config.reset_after_close || (s->flags & F_RELEASED) == 0 || g->bytes == 0 ||
	    seq_le(g->seq + g->bytes, s->rcv_nxt))
		return false;
	output_reset(s);
	state_die(s, STREAM_END_RESET);
	return true;
}

static void payload_input(struct stream *s, struct segment *g)
{
	uint32_t before = s->rcv_nxt;

	if (g->bytes > 0 && receive_data(s, g->seq, g->data, g->bytes)) {
		if (s->ack_segments++ > 0 || tuning_acks_quickly(s))
			s->flags |= F_ACK_NOW;
		else
			timers_start_delayed_ack(s);
		if ((s->flags & F_RELEASED) == 0)
			stream_raise(s, F_EVENT_READABLE);
	}
	bool fin = (g->flags & WIRE_FIN) != 0 && receive_fin(s, g->seq + g->bytes);
	if (!fin && (s->flags & F_FIN_AHEAD) != 0)
		fin = s->active->reorder->fin_seq == s->rcv_nxt && receive_fin(s, s->rcv_nxt);
	if (fin)
		state_fin_received(s);
	/* One duplicate ACK for every segment ahead of a hole, and for every one that came twice.
	 */
	if ((s->rcv_nxt == before || duplicate_to_report(s)) && (s->flags & F_ACK_NOW) != 0)
		output_ack(s);
	s->stack->duplicate = (struct range){0};
}

static enum tcp_verdict dropped(struct stream *s, const struct segment *g, enum tcp_counter why)
{
	count_drop(s, why);
	if (why == tcp_out_of_window && g->bytes > 0 && seq_le(g->seq + g->bytes, s->rcv_nxt))
		receive_note_duplicate(s, g->seq, g->seq + g->bytes);
	answer_dropped(s, g);
	s->stack->duplicate = (struct range){0};
	return TCP_ACCEPTED;
}

static enum tcp_verdict handshake_ack(struct stream *s, const struct segment *g)
{
	if (seq_le(g->ack, s->snd_una) || seq_gt(g->ack, s->snd_max)) {
		count_drop(s, tcp_bad_ack);
		output_reset_reply(s->stack, g);
		return TCP_REFUSED;
	}
	if ((s->flags & F_HALF_OPEN) != 0 && listen_is_full(s)) {
		count_drop(s, tcp_syn_backlog_full);
		return TCP_REFUSED;
	}
	syn_acked(s, g);
	s->snd_wl1 = g->seq - 1;
	state_established(s);
	return TCP_ACCEPTED;
}

enum tcp_verdict input_synchronized(struct stream *s, struct segment *g)
{
	if (handshake_syn(s, g))
		return TCP_ACCEPTED;
	if ((g->flags & WIRE_RST) == 0 && paws_rejects(s, g)) {
		if (!overtaken(s, g))
			return dropped(s, g, tcp_paws_dropped);
		count(s->stack, tcp_late_acks);
		return TCP_ACCEPTED;
	}
	if (!in_window(s, g))
		return dropped(s, g,
			       (g->flags & WIRE_RST) != 0 ? tcp_rst_ignored : tcp_out_of_window);
	if ((g->flags & WIRE_RST) != 0) {
		reset_input(s, g);
		return TCP_ACCEPTED;
	}
	if ((g->flags & WIRE_SYN) != 0) {
		output_challenge_ack(s); /* RFC 5961 section 4.2 */
		return TCP_ACCEPTED;
	}
	if ((g->flags & WIRE_ACK) == 0) {
		count_drop(s, tcp_bad_flags);
		return TCP_MALFORMED;
	}
	if (s->state == TCP_SYN_RCVD) {
		enum tcp_verdict v = handshake_ack(s, g);
		if (v != TCP_ACCEPTED)
			return v;
	}
	if (!ack_acceptable(s, g)) {
		count_drop(s, tcp_bad_ack);
		output_challenge_ack(s);
		return TCP_ACCEPTED;
	}
	learn_timestamp(s, g);
	trim(s, g);
	if ((s->flags & F_ECN) != 0)
		ecn_received(s, g);
	input_ack(s, g);
	if (s->state != TCP_CLOSED && (s->flags & F_FIN_RECEIVED) == 0 &&
	    (g->bytes > 0 || (g->flags & WIRE_FIN) != 0) && !too_late(s, g))
		payload_input(s, g);
	return TCP_ACCEPTED;
}
