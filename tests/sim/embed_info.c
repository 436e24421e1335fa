/* embed_info.c - the figures of one connection */
#include "tests/sim/embed.h"

#include "dataplane/tcp/output.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/seq.h"

static uint32_t ago_ms(const struct tcpe_stack *st, uint64_t then_us)
{
	return (uint32_t)((st->shard.now_us - then_us) / 1000);
}

static enum tcpe_ca ca_state(const struct stream *s)
{
	if ((s->flags & F_LOSS) != 0)
		return TCPE_CA_LOSS;
	if ((s->flags & F_RECOVERY) != 0)
		return TCPE_CA_RECOVERY;
	if (s->dupacks > 0 || sack_covered(s, s->snd_max) > 0)
		return TCPE_CA_DISORDER;
	return TCPE_CA_OPEN;
}

static void put_negotiated(struct tcpe_info *out, const struct stream *s)
{
	out->opt_ts = (s->flags & F_TIMESTAMPS) != 0;
	out->opt_sack = (s->flags & F_SACK) != 0;
	out->opt_wscale = (s->flags & F_SCALING) != 0;
	out->opt_ecn = (s->flags & F_ECN) != 0;
	out->snd_wscale = out->opt_wscale ? (uint8_t)snd_scale(s) : 0;
	out->rcv_wscale = out->opt_wscale ? (uint8_t)rcv_scale(s) : 0;
	out->snd_mss = s->mss;
	out->advmss = output_mss(s);
}

/* After a timeout all that was in flight counts as lost. */
static bool is_lost(const struct stream *s, const struct embed_segment *x)
{
	if (x->sacked)
		return false;
	if ((s->flags & F_LOSS) != 0)
		return seq_le(x->end, s->active->recover);
	if (x->again && (s->flags & F_RECOVERY) != 0)
		return true; /* that is why it was sent again */
	return rack_lost(s, x->end) > rack_lost(s, seq_max(x->seq, s->snd_una));
}

static void put_scoreboard(struct tcpe_info *out, const struct stream *s,
			   const struct embed_flow *f)
{
	for (unsigned i = f->first; i < f->end; i++) {
		const struct embed_segment *x = &f->segments[i];
		out->unacked++;
		out->sacked += x->sacked;
		out->retrans += x->again && !x->sacked;
		out->lost += is_lost(s, x);
	}
}

static uint8_t backoff(const struct stream *s)
{
	return (s->flags & F_PERSIST) != 0 ? s->probes : s->retries;
}

static void put_sending(struct tcpe_info *out, const struct stream *s)
{
	out->ca_state = ca_state(s);
	out->retransmits = s->retries;
	out->probes = s->probes;
	out->backoff = backoff(s);
	out->cwnd_bytes = s->cwnd;
	out->cwnd_segs = s->mss > 0 ? s->cwnd / s->mss : 0;
	out->ssthresh_segs =
		s->ssthresh == UINT32_MAX || s->mss == 0 ? 0x7fffffff : s->ssthresh / s->mss;
	if (s->state < TCP_ESTABLISHED)
		out->ssthresh_segs = 0x7fffffff;
	out->rto_us = s->rto_us;
	out->srtt_us = s->srtt_us;
	out->rttvar_us = s->rttvar_us;
	out->snd_una = s->snd_una;
	out->snd_nxt = s->snd_max;
	out->snd_wnd = s->snd_wnd;
	out->notsent_bytes = seq_gt(s->snd_end, s->snd_max) ? s->snd_end - s->snd_max : 0;
}

static void put_receiving(struct tcpe_info *out, const struct stream *s)
{
	uint32_t window = seq_gt(s->rcv_right, s->rcv_nxt) ? s->rcv_right - s->rcv_nxt : 0;

	out->ato_us = s->stack->config.delack_us;
	out->rcv_nxt = s->rcv_nxt;
	out->rcv_wnd = u32_min(window, 65535u << rcv_scale(s));
}

static void put_counted(struct tcpe_info *out, const struct tcpe_stack *st,
			const struct embed_flow *f)
{
	uint64_t flags = (f->una != f->iss) + f->fin_acked; /* SYN and FIN are no bytes */

	out->pmtu = f->pmtu != 0 ? f->pmtu : st->config.mtu;
	out->rcv_mss = f->largest_in != 0 ? f->largest_in : 536;
	out->dsack_dups = f->dsacks;
	out->min_rtt_us = f->min_rtt_us == UINT32_MAX ? 0 : f->min_rtt_us;
	out->last_data_sent_ms = ago_ms(st, f->data_sent_us);
	out->last_data_recv_ms = ago_ms(st, f->data_received_us);
	out->last_ack_recv_ms = ago_ms(st, f->ack_received_us);
	out->iss = f->iss;
	out->irs = f->irs;
	out->bytes_sent = f->bytes_sent;
	out->bytes_acked = f->bytes_acked > flags ? f->bytes_acked - flags : 0;
	out->bytes_received = f->bytes_received;
	out->bytes_retrans = f->bytes_again;
	out->segs_out = f->segments_out;
	out->segs_in = f->segments_in;
	out->data_segs_out = f->data_out;
	out->data_segs_in = f->data_in;
	out->total_retrans = f->total_again;
	out->total_rto = f->timeouts;
	out->delivered = f->delivered;
	out->delivered_ce = f->delivered_marked;
	out->ecn_seen = f->ecn_seen;
	out->rcv_ooopack = f->out_of_order;
	out->rwnd_limited_us = f->limited_us[LIMIT_WINDOW];
	out->sndbuf_limited_us = f->limited_us[LIMIT_BUFFER];
	out->busy_us = f->limited_us[LIMIT_BUSY] + out->rwnd_limited_us + out->sndbuf_limited_us;
}

int tcpe_info(const struct tcpe_sock *s, struct tcpe_info *out)
{
	*out = (struct tcpe_info){.ssthresh_segs = 0x7fffffff};
	if (s->kind == SOCK_LISTENER)
		out->state = TCPE_LISTEN;
	if (s->stream == NULL) {
		const struct embed_flow *past = embed_flow_past(s->st, s);
		if (past != NULL)
			put_counted(out, s->st, past);
		return 0;
	}
	const struct stream *x = s->stream;
	struct embed_flow *f = embed_flow_of(s->st, x);
	embed_flow_touch(s->st, x);
	out->state = embed_state(x);
	put_negotiated(out, x);
	put_scoreboard(out, x, f);
	put_sending(out, x);
	put_receiving(out, x);
	put_counted(out, s->st, f);
	out->reordering = s->st->config.dupthresh;
	out->reord_seen = (x->flags & F_REORDERED) != 0;
	return 0;
}
