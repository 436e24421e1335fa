/* embed_flow.c - statistics of a connection, taken from the packets that pass */
#include "tests/sim/embed.h"

#include "dataplane/tcp/options.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/wire.h"

#include <stdlib.h>

/* A segment as far as statistics go. */
struct seen {
	uint32_t seq, ack, bytes, length;
	uint8_t flags;
	struct tcp_options options;
};

static struct seen look(const uint8_t *h, uint32_t bytes)
{
	uint32_t header = (uint32_t)(h[12] >> 4) * 4;
	struct seen g = {.seq = wire_get32(h + 4), .ack = wire_get32(h + 8), .flags = h[13]};

	if (header < WIRE_TCP_BYTES || header > bytes)
		header = bytes;
	g.bytes = bytes - header;
	g.length = g.bytes + ((g.flags & WIRE_SYN) != 0) + ((g.flags & WIRE_FIN) != 0);
	options_parse(&g.options, h + WIRE_TCP_BYTES, header - WIRE_TCP_BYTES);
	return g;
}

static struct list *bucket(struct tcpe_stack *st, const struct flow_key *key)
{
	return &st->flows[flow_hash(&st->tcp->flows, key) % EMBED_BUCKETS];
}

static void flow_free(struct tcpe_stack *st, struct embed_flow *f)
{
	list_del(&f->link);
	free(f->segments);
	free(f);
	st->n_flows--;
}

/* Flows whose stream has gone, once they are many. */
static void sweep(struct tcpe_stack *st)
{
	if (st->n_flows < 64 || st->n_flows < 2 * tcp_stream_count(st->tcp))
		return;
	for (unsigned i = 0; i < EMBED_BUCKETS; i++) {
		list_each_safe (it, &st->flows[i]) {
			struct embed_flow *f = container_of(it, struct embed_flow, link);
			if (!f->half_open && slab_get(st->tcp->streams, f->handle) == NULL)
				flow_free(st, f);
		}
	}
}

static struct embed_flow *find(struct tcpe_stack *st, const struct flow_key *key)
{
	list_each (it, bucket(st, key)) {
		struct embed_flow *f = container_of(it, struct embed_flow, link);
		if (memcmp(&f->key, key, sizeof(*key)) == 0)
			return f;
	}
	return NULL;
}

/* The first SYN-ACK is yet to go. */
static bool begins(const struct stream *s)
{
	return (s->flags & F_HALF_OPEN) != 0 && s->snd_max == s->snd_una;
}

struct embed_flow *embed_flow_of(struct tcpe_stack *st, const struct stream *s)
{
	struct embed_flow *f = find(st, &s->key);

	if (f != NULL && (f->handle == s->handle || (f->half_open && !begins(s)))) {
		f->handle = s->handle;
		f->half_open = (s->flags & F_HALF_OPEN) != 0;
		return f;
	}
	if (f != NULL)
		flow_free(st, f); /* an earlier connection of the same name */
	sweep(st);
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		abort();
	f->key = s->key;
	f->handle = s->handle;
	f->half_open = (s->flags & F_HALF_OPEN) != 0;
	f->since_us = st->shard.now_us;
	f->min_rtt_us = UINT32_MAX;
	list_push_back(bucket(st, &s->key), &f->link);
	st->n_flows++;
	return f;
}

/* The flow of a packet: of a living stream, or one that has just ended; NULL: of none. */
static struct embed_flow *flow_of(struct tcpe_stack *st, const struct flow_key *key,
				  struct stream **s)
{
	uint32_t reference;

	*s = embed_stream(st, key, &reference);
	return *s != NULL ? embed_flow_of(st, *s) : find(st, key);
}

static enum embed_limit classify(const struct stream *s)
{
	uint32_t flight = s->snd_nxt - s->snd_una, unsent = s->snd_end - s->snd_nxt;

	if (s->state < TCP_ESTABLISHED || (s->snd_una == s->snd_max && (int32_t)unsent <= 0))
		return LIMIT_NONE;
	if ((int32_t)unsent > 0 && s->snd_wnd < flight + s->mss && s->cwnd >= flight + s->mss)
		return LIMIT_WINDOW;
	if ((int32_t)unsent <= 0 && (s->flags & F_WANT_WRITE) != 0 && s->cwnd >= flight + s->mss)
		return LIMIT_BUFFER;
	return LIMIT_BUSY;
}

static void touch(struct tcpe_stack *st, struct embed_flow *f, const struct stream *s)
{
	f->limited_us[f->limit] += st->shard.now_us - f->since_us;
	f->since_us = st->shard.now_us;
	f->limit = s != NULL ? classify(s) : LIMIT_NONE;
}

void embed_flow_touch(struct tcpe_stack *st, const struct stream *s)
{
	touch(st, embed_flow_of(st, s), s);
}

static void note_again(struct embed_flow *f, const struct seen *g)
{
	for (unsigned i = f->first; i < f->end; i++) {
		struct embed_segment *x = &f->segments[i];
		if (seq_lt(x->seq, g->seq + g->length) && seq_gt(x->end, g->seq))
			x->again = true;
	}
}

static void note_fresh(struct embed_flow *f, const struct seen *g, uint64_t now)
{
	if (f->first > 0 && f->end == f->room) {
		f->end -= f->first;
		memmove(f->segments, &f->segments[f->first], f->end * sizeof(*f->segments));
		f->first = 0;
	}
	if (f->end == f->room) {
		f->room = f->room == 0 ? 16 : f->room * 2;
		f->segments = realloc(f->segments, f->room * sizeof(*f->segments));
		if (f->segments == NULL)
			abort();
	}
	f->segments[f->end++] = (struct embed_segment){
		.seq = f->iss_known ? f->max_end : g->seq,
		.end = g->seq + g->length,
		.sent_us = now,
	};
	f->max_end = g->seq + g->length;
}

static void count_again(struct embed_flow *f, const struct seen *g, const struct stream *s)
{
	note_again(f, g);
	f->total_again++;
	f->bytes_again += g->bytes;
	if (s->retries > f->retries)
		f->timeouts++;
	f->retries = s->retries;
}

void embed_flow_out(struct tcpe_stack *st, const struct ip_addr *local, const struct ip_addr *peer,
		    const uint8_t *h, uint32_t bytes)
{
	struct flow_key key = {.local_port = wire_get16(h), .peer_port = wire_get16(h + 2)};
	struct seen g = look(h, bytes);
	struct stream *s;

	flow_address(key.local, local);
	flow_address(key.peer, peer);
	struct embed_flow *f = flow_of(st, &key, &s);
	if (f == NULL || s == NULL)
		return;
	f->segments_out++;
	f->data_out += g.bytes > 0;
	f->bytes_sent += g.bytes;
	if (g.bytes > 0)
		f->data_sent_us = st->shard.now_us;
	if ((g.flags & WIRE_SYN) != 0 && !f->iss_known)
		f->iss = f->una = f->max_end = g.seq;
	bool fresh = !f->iss_known || seq_gt(g.seq + g.length, f->max_end);
	if (g.length > 0 && (g.flags & WIRE_RST) == 0) {
		if (f->iss_known && seq_lt(g.seq, f->max_end))
			count_again(f, &g, s);
		if (fresh)
			note_fresh(f, &g, st->shard.now_us);
	}
	f->iss_known |= (g.flags & WIRE_SYN) != 0;
	touch(st, f, s);
}

static void delivered(struct tcpe_stack *st, struct embed_flow *f, struct embed_segment *x)
{
	uint64_t rtt = st->shard.now_us - x->sent_us;

	x->sacked = true;
	f->delivered++;
	if (!x->again && rtt < f->min_rtt_us)
		f->min_rtt_us = (uint32_t)rtt;
}

static void note_acked(struct tcpe_stack *st, struct embed_flow *f, const struct stream *s)
{
	for (; f->first < f->end && seq_le(f->segments[f->first].end, s->snd_una); f->first++) {
		if (!f->segments[f->first].sacked)
			delivered(st, f, &f->segments[f->first]);
	}
	if (f->iss_known)
		f->bytes_acked += s->snd_una - f->una;
	f->una = f->iss_known ? s->snd_una : f->una;
	f->fin_acked = (s->flags & F_FIN_QUEUED) != 0 && seq_gt(s->snd_una, s->snd_end);
	if (s->active == NULL || s->active->board == NULL)
		return;
	for (unsigned i = f->first; i < f->end; i++) {
		struct embed_segment *x = &f->segments[i];
		if (!x->sacked && seq_ge(sack_skip(s, x->seq), x->end))
			delivered(st, f, x);
	}
}

static void note_syn(struct embed_flow *f, const struct seen *g)
{
	if ((g->flags & WIRE_SYN) != 0 && !f->irs_known) {
		f->irs = g->seq;
		f->rcv = g->seq + 1;
		f->irs_known = true;
	}
}

static void note_received(struct embed_flow *f, const struct stream *s)
{
	uint32_t data_end = s->rcv_nxt - ((s->flags & F_FIN_RECEIVED) != 0);
	if (f->irs_known && seq_gt(data_end, f->rcv)) {
		f->bytes_received += data_end - f->rcv;
		f->rcv = data_end;
	}
}

void embed_flow_in(struct tcpe_stack *st, const struct tcp_packet *p, uint32_t out_of_order)
{
	const uint8_t *h = p->segment;
	struct flow_key key = {.peer_port = wire_get16(h), .local_port = wire_get16(h + 2)};
	struct seen g = look(h, p->bytes);
	struct stream *s;

	flow_address(key.local, &p->destination);
	flow_address(key.peer, &p->source);
	struct embed_flow *f = flow_of(st, &key, &s);
	if (f == NULL)
		return;
	f->segments_in++;
	f->data_in += g.bytes > 0;
	f->out_of_order += out_of_order;
	f->ecn_seen |= (p->tos & 3) != 0;
	if (g.bytes > 0)
		f->data_received_us = st->shard.now_us;
	if ((g.flags & WIRE_ACK) != 0)
		f->ack_received_us = st->shard.now_us;
	if (g.bytes > f->largest_in)
		f->largest_in = (uint16_t)g.bytes;
	if (g.options.sacks > 0 && seq_le(g.options.sack[0].to, g.ack))
		f->dsacks++;
	note_syn(f, &g);
	if (s != NULL) {
		uint32_t before = f->delivered;
		note_received(f, s);
		note_acked(st, f, s);
		if ((s->flags & F_ECN) != 0 && (g.flags & (WIRE_ECE | WIRE_SYN)) == WIRE_ECE)
			f->delivered_marked += f->delivered - before;
		if (s->retries == 0)
			f->retries = 0;
	}
	touch(st, f, s);
}

const struct embed_flow *embed_flow_past(struct tcpe_stack *st, const struct tcpe_sock *s)
{
	struct flow_key key = {.peer_port = s->peer.port, .local_port = s->local.port};
	struct ip_addr local = embed_ip(&s->local), peer = embed_ip(&s->peer);

	if (s->handle == 0)
		return NULL;
	flow_address(key.local, &local);
	flow_address(key.peer, &peer);
	const struct embed_flow *f = find(st, &key);
	return f != NULL && f->handle == s->handle ? f : NULL;
}

void embed_flows_free(struct tcpe_stack *st)
{
	for (unsigned i = 0; i < EMBED_BUCKETS; i++) {
		list_each_safe (it, &st->flows[i])
			flow_free(st, container_of(it, struct embed_flow, link));
	}
}
