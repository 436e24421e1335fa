/* output.c - which segments a stream sends; header.c builds them */
#include "dataplane/tcp/output.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/header.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/timers.h"
#include "dataplane/tcp/undo.h"

uint16_t output_mss_to(const struct tcp_stack *t, const struct flow_key *peer, uint16_t bound)
{
	const struct tcp_config *c = &t->config;
	unsigned ip = flow_is_ip4(peer->peer) ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	uint16_t mss = (uint16_t)(c->mtu - ip - WIRE_TCP_BYTES);

	if (c->mss != 0 && c->mss < mss)
		mss = c->mss;
	return bound != 0 && bound < mss ? bound : mss;
}

uint16_t output_mss(const struct stream *s)
{
	return output_mss_to(s->stack, &s->key, stream_tuning(s)->mss);
}

static bool fin_outstanding(const struct stream *s)
{
	return (s->flags & F_FIN_QUEUED) != 0 && seq_gt(s->snd_max, s->snd_end);
}

static bool more_follows(const struct stream *s)
{
	const struct stream_tuning *t = stream_tuning(s);

	return (t->cork || t->more) && (s->flags & F_FIN_QUEUED) == 0;
}

/* Sends n bytes from seq on, with the FIN if fin; keeps the books of sending. */
static bool send_slice(struct stream *s, uint32_t seq, uint32_t n, bool fin)
{
	struct header_segment h = {.seq = seq, .bytes = n, .flags = WIRE_ACK};

	if (n > 0 && seq + n == s->snd_end && !more_follows(s))
		h.flags |= WIRE_PSH;
	if (fin)
		h.flags |= WIRE_FIN;
	if (!header_send(s, &h))
		return false;
	uint32_t end = seq + n + fin;
	bool again = seq_lt(seq, s->snd_max);
	if (again) {
		count(s->stack, tcp_retransmits);
		trace(s, TCP_EVENT_RETRANSMIT, n);
		s->stack->sent_again[(uint32_t)s->handle] += n;
		undo_sent_again(s, n);
	}
	if (again && (s->flags & F_TIMING) != 0 && seq_lt(seq, s->active->timed_seq))
		s->flags &= ~(uint32_t)F_TIMING; /* Karn's rule */
	if (!again && n > 0 && (s->flags & F_TIMING) == 0) {
		s->flags |= F_TIMING;
		s->active->timed_seq = end;
		s->active->timed_at_us = stack_now(s->stack);
	}
	rack_sent(s, seq, end);
	if (s->stack->mtu_probes.active > 0)
		mtu_probe_sent(s, seq, seq + n, again);
	s->snd_max = seq_max(s->snd_max, end);
	s->sent_ms = stack_now_ms(s->stack);
	/* The first hole goes again: the timer waits for the answer to that. */
	bool head_again = again && seq == s->snd_una && (s->flags & F_RECOVERY) != 0;
	if (s->due_us[DUE_RETRANSMIT] == 0 || (s->flags & F_PERSIST) != 0 || head_again)
		timers_start_retransmit(s);
	return true;
}

/* The first unacknowledged segment, for fast retransmit. */
static bool send_again(struct stream *s)
{
	uint32_t data_end = seq_min(s->snd_end, s->snd_max);
	uint32_t hole_end = sack_hole_end(s, s->snd_una, data_end);
	uint32_t n = seq_lt(s->snd_una, hole_end) ? u32_min(hole_end - s->snd_una, s->mss) : 0;
	bool fin = fin_outstanding(s) && s->snd_una + n == s->snd_end;

	if (n > 0 || fin) {
		if (!send_slice(s, s->snd_una, n, fin))
			return false;
		s->snd_nxt = seq_max(s->snd_nxt, s->snd_una + n + fin);
		sack_sent(s, n);
	}
	s->flags &= ~(uint32_t)F_RETRANSMIT;
	return true;
}

/* SWS avoidance of the sender (RFC 9293 section 3.8.6.2.1, Nagle off): a piece cut short by the
 * window alone goes only if it is half of the largest window seen; else the persist timer
 * overrides. */
static bool too_silly(const struct stream *s, uint32_t n, uint32_t queued)
{
	return n < s->mss && n < queued && n < s->snd_wnd_max / 2 &&
	       seq_ge(s->snd_nxt, s->snd_max) && (s->flags & F_OVERRIDE) == 0;
}

/* A partial segment at the end of the queue waits: for more from above, or, with Nagle's algorithm
 * (RFC 9293 section 3.7.4), for everything before it to be acknowledged. */
static bool held_back(const struct stream *s, uint32_t n, uint32_t queued)
{
	if (n == 0 || n >= s->mss || n < queued || (s->flags & (F_OVERRIDE | F_FIN_QUEUED)) != 0 ||
	    seq_lt(s->snd_nxt, s->snd_max))
		return false;
	return more_follows(s) || (stream_tuning(s)->nagle && s->snd_nxt != s->snd_una);
}

static uint32_t usable_window(const struct stream *s)
{
	uint32_t flight = s->snd_nxt - s->snd_una;
	uint32_t window = s->snd_wnd > flight ? s->snd_wnd - flight : 0;

	return u32_min(window, congestion_room(s));
}

/* The piece at snd_nxt that may go now; false: none. */
static bool next_piece(struct stream *s, uint32_t *n, bool *fin)
{
	bool fin_queued = (s->flags & F_FIN_QUEUED) != 0;

	/* Behind a timeout, what the peer has SACKed is passed over. */
	if (seq_lt(s->snd_nxt, s->snd_max))
		s->snd_nxt = sack_skip(s, s->snd_nxt);
	if (seq_ge(s->snd_nxt, s->snd_end + fin_queued))
		return false;
	uint32_t queued = s->snd_end - s->snd_nxt;
	uint32_t window = usable_window(s), most = s->mss;
	if (s->stack->mtu_probes.active > 0)
		most = mtu_probe_size(s, queued, window);
	*n = u32_min(u32_min(queued, window), most);
	*n = sack_hole_end(s, s->snd_nxt, s->snd_nxt + *n) - s->snd_nxt;
	*fin = fin_queued && *n == queued && s->snd_nxt + *n - s->snd_una < s->snd_wnd;
	if ((*n > 0 || *fin) && !too_silly(s, *n, queued) && !held_back(s, *n, queued))
		return true;
	if (*n < queued && s->snd_nxt - s->snd_una + s->mss <= s->snd_wnd)
		s->flags |= F_CWND_LIMITED;
	return false;
}

static bool send_new(struct stream *s, bool *sent)
{
	uint32_t n;
	bool fin;

	s->flags &= ~(uint32_t)F_CWND_LIMITED;
	while (next_piece(s, &n, &fin)) {
		if (!send_slice(s, s->snd_nxt, n, fin))
			return false;
		s->snd_nxt += n + fin;
		*sent = true;
	}
	s->flags &= ~(uint32_t)F_OVERRIDE;
	return true;
}

/* In recovery with SACK: what is lost first, then new data, as long as cwnd leaves room. */
static bool send_recovering(struct stream *s)
{
	while (congestion_room(s) >= s->mss) {
		uint32_t seq, n;
		bool fin, lost = rack_next_lost(s, &seq, &n);

		if (lost)
			fin = fin_outstanding(s) && seq + n == s->snd_end;
		else if (next_piece(s, &n, &fin))
			seq = s->snd_nxt;
		else
			break;
		if (!send_slice(s, seq, n, fin))
			return false;
		if (!lost)
			s->snd_nxt += n + fin;
		sack_sent(s, n);
	}
	return true;
}

/* RFC 8985 section 7.3: new data if the peer's window has room, else the last segment again. */
static bool send_tail_probe(struct stream *s)
{
	uint32_t flight = s->snd_nxt - s->snd_una;
	uint32_t room = s->snd_wnd > flight ? s->snd_wnd - flight : 0;
	bool fresh = s->snd_nxt == s->snd_max && seq_lt(s->snd_nxt, s->snd_end) && room > 0;
	uint32_t end = fresh ? s->snd_end : seq_min(s->snd_max, s->snd_end);
	uint32_t from = fresh ? s->snd_nxt : s->snd_una;
	uint32_t n = u32_min(end - from, fresh ? u32_min(s->mss, room) : s->mss);
	uint32_t seq = fresh ? s->snd_nxt : end - n;

	if (s->snd_una == s->snd_max || (n == 0 && !fin_outstanding(s))) {
		s->flags &= ~(uint32_t)F_TAIL_PROBE;
		return true;
	}
	if (!send_slice(s, seq, n, !fresh && fin_outstanding(s)))
		return false;
	if (fresh)
		s->snd_nxt += n;
	rack_probe_sent(s, !fresh);
	timers_start_retransmit(s);
	return true;
}

/* Outside the window on purpose: the answer tells the window, or that the peer lives.  No byte
 * is put at risk in a window that is closed. */
static bool send_probe(struct stream *s)
{
	struct header_segment h = {.seq = s->snd_una - 1, .flags = WIRE_ACK};

	if (!header_send(s, &h))
		return false;
	s->flags &= ~(uint32_t)F_PROBE;
	return true;
}

/* A segment without data stands behind all data ever sent, also while snd_nxt has fallen back:
 * further left the peer might not look at it, and two ends that both retransmit would never hear
 * each other. */
static bool send_ack(struct stream *s)
{
	struct header_segment h = {.seq = s->snd_max, .flags = WIRE_ACK, .control = true};

	return header_send(s, &h);
}

static bool has_unsent(const struct stream *s)
{
	return seq_lt(s->snd_nxt, s->snd_end + ((s->flags & F_FIN_QUEUED) != 0));
}

/* RFC 5681 section 4.1: after an idle RTO the old window says nothing about the path. */
static void restart_after_idle(struct stream *s)
{
	uint32_t idle_ms = stack_now_ms(s->stack) - s->sent_ms;

	if (s->stack->config.restart_after_idle && s->snd_una == s->snd_max &&
	    idle_ms > s->rto_us / 1000 && has_unsent(s))
		congestion_restart(s);
}

bool output_stream(struct stream *s)
{
	bool sent = false;

	if (s->state == TCP_CLOSED)
		return true;
	if (s->state == TCP_SYN_SENT || s->state == TCP_SYN_RCVD) {
		if ((s->flags & F_RETRANSMIT) != 0)
			output_syn(s);
		return (s->flags & F_RETRANSMIT) == 0;
	}
	restart_after_idle(s);
	if ((s->flags & F_RETRANSMIT) != 0 && !send_again(s))
		return false;
	if ((s->flags & F_PROBE) != 0 && !send_probe(s))
		return false;
	if ((s->flags & F_TAIL_PROBE) != 0 && !send_tail_probe(s))
		return false;
	if ((s->flags & (F_RECOVERY | F_SACK)) == (F_RECOVERY | F_SACK) ? !send_recovering(s)
									: !send_new(s, &sent))
		return false;
	if (sent || (s->flags & F_RECOVERY) != 0)
		rack_schedule(s);
	if (!sent && has_unsent(s) && s->snd_nxt == s->snd_una && s->due_us[DUE_RETRANSMIT] == 0)
		timers_start_persist(s);
	if (receive_window_news(s))
		s->flags |= F_ACK_NOW;
	return (s->flags & F_ACK_NOW) == 0 || send_ack(s);
}

void output_ack(struct stream *s)
{
	if (!send_ack(s))
		s->flags |= F_ACK_NOW;
}

bool output_challenge_allowed(struct tcp_stack *t)
{
	uint64_t second = stack_now(t) / 1000000;
	uint32_t limit = t->config.challenge_acks_per_s;

	if (limit == 0)
		return true;
	if (t->challenge_second != second + 1) {
		/* A random share, so that counting them tells nothing (CVE-2016-5696). */
		t->challenge_second = second + 1;
		t->challenge_left =
			limit / 2 + (uint32_t)(shard_random(t->shard) % (limit / 2 + 1));
		if (t->challenge_left == 0)
			t->challenge_left = 1;
	}
	if (t->challenge_left == 0) {
		count(t, tcp_challenge_limited);
		return false;
	}
	t->challenge_left--;
	return true;
}

/* Two ends that find each other's ACKs unacceptable would answer for ever: a stream answers at
 * most twice a second.  Units of 128 ms, modulo 256. */
static bool challenged_lately(const struct stream *s, uint8_t unit)
{
	/* unit 0 was noted as 1 */
	return s->challenged != 0 && (uint8_t)(unit + 1 - s->challenged) < 5;
}

void output_challenge_ack(struct stream *s)
{
	uint8_t unit = (uint8_t)(stack_now_ms(s->stack) / 128);

	if (challenged_lately(s, unit)) {
		count(s->stack, tcp_challenge_limited);
		return;
	}
	if (!output_challenge_allowed(s->stack))
		return;
	s->challenged = unit != 0 ? unit : 1;
	count(s->stack, tcp_challenge_acks);
	output_ack(s);
}

static struct tcp_options syn_options(const struct stream *s)
{
	const struct tcp_config *c = &s->stack->config;
	bool reply = s->state == TCP_SYN_RCVD;

	return (struct tcp_options){
		.mss = output_mss(s),
		.has_scale = reply ? (s->flags & F_SCALING) != 0 : c->window_scaling,
		.scale = s->scales & 15,
		.sack_permitted = reply ? (s->flags & F_SACK) != 0 : c->sack,
		.has_timestamp = reply ? (s->flags & F_TIMESTAMPS) != 0 : c->timestamps,
		.ts_value = stack_ticks(s->stack) + s->ts_offset,
		.ts_echo = reply ? s->ts_recent : 0,
	};
}

void output_syn(struct stream *s)
{
	struct header_segment h = {.seq = s->snd_una, .flags = WIRE_SYN, .control = true};
	uint8_t options[OPTIONS_MAX_BYTES];
	struct tcp_options o = syn_options(s);

	if (s->state == TCP_SYN_RCVD)
		h.flags |= WIRE_ACK;
	h.flags |= ecn_syn_flags(s);
	h.options = options;
	h.option_bytes = options_write_syn(options, &o, s->stack->config.option_layout);
	if (!header_send(s, &h)) {
		s->flags |= F_RETRANSMIT;
		return;
	}
	if (seq_lt(s->snd_una, s->snd_max)) {
		count(s->stack, tcp_retransmits);
		trace(s, TCP_EVENT_RETRANSMIT, 0);
	}
	s->flags &= ~(uint32_t)F_RETRANSMIT;
	s->snd_nxt = s->snd_max = s->snd_una + 1;
	if (s->due_us[DUE_RETRANSMIT] == 0)
		timers_start_retransmit(s);
}

void output_reset(struct stream *s)
{
	struct header_segment h = {
		.seq = s->snd_max, .flags = WIRE_RST | WIRE_ACK, .control = true};

	trace(s, TCP_EVENT_RST_OUT, (uint32_t)s->state << 8);
	if (header_send(s, &h))
		count(s->stack, tcp_rst_out);
}

void output_reset_reply(struct tcp_stack *t, const struct segment *g)
{
	struct bare_segment b = {.key = &g->key, .flags = WIRE_RST};

	if ((g->flags & WIRE_RST) != 0)
		return;
	if ((g->flags & WIRE_ACK) != 0) {
		b.seq = g->ack;
	} else {
		b.flags |= WIRE_ACK;
		b.ack = g->seq + segment_length(g);
	}
	output_bare(t, &b);
	count(t, tcp_rst_out);
}
