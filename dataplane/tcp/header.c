/* header.c - one routine for IPv4 and IPv6; the families differ in a row of a table */
#include "dataplane/tcp/header.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/wire.h"

struct parts {
	const struct flow_key *key;
	uint32_t hash; /* of the flow; IPv6 needs it */
	uint32_t seq, ack, bytes;
	uint16_t window;
	uint8_t flags, tos;
	const uint8_t *options;
	size_t option_bytes;
};

/* xorshift64*: an id is needed only to differ, DF is set (RFC 6864) */
static uint16_t next_ip_id(struct tcp_stack *t)
{
	t->ip_id ^= t->ip_id >> 12;
	t->ip_id ^= t->ip_id << 25;
	t->ip_id ^= t->ip_id >> 27;
	return (uint16_t)((t->ip_id * 0x2545f4914f6cdd1dULL) >> 48);
}

static void put_ip4(struct tcp_stack *t, uint8_t *p, const struct parts *x, uint32_t tcp_bytes)
{
	memset(p, 0, WIRE_IP4_BYTES);
	p[0] = 0x45;
	p[1] = x->tos;
	wire_put16(p + 2, (uint16_t)(WIRE_IP4_BYTES + tcp_bytes));
	wire_put16(p + 4, next_ip_id(t));
	p[6] = 0x40; /* DF */
	p[8] = WIRE_TTL;
	p[9] = 6;
	memcpy(p + 12, x->key->local + 12, 4);
	memcpy(p + 16, x->key->peer + 12, 4);
	uint16_t sum = checksum_finish(checksum_add(0, p, WIRE_IP4_BYTES));
	memcpy(p + 10, &sum, 2);
}

static void put_ip6(struct tcp_stack *t, uint8_t *p, const struct parts *x, uint32_t tcp_bytes)
{
	wire_put32(p, 6u << 28 | (uint32_t)x->tos << 20 | isn_flow_label(t, x->hash));
	wire_put16(p + 4, (uint16_t)tcp_bytes);
	p[6] = 6;
	p[7] = WIRE_TTL;
	memcpy(p + 8, x->key->local, 16);
	memcpy(p + 24, x->key->peer, 16);
}

static const struct {
	unsigned bytes;
	void (*put)(struct tcp_stack *t, uint8_t *p, const struct parts *x, uint32_t tcp_bytes);
} families[] = {{WIRE_IP6_BYTES, put_ip6}, {WIRE_IP4_BYTES, put_ip4}};

static void put_tcp(uint8_t *h, const struct parts *x)
{
	wire_put16(h, x->key->local_port);
	wire_put16(h + 2, x->key->peer_port);
	wire_put32(h + 4, x->seq);
	wire_put32(h + 8, x->ack);
	h[12] = (uint8_t)((WIRE_TCP_BYTES + x->option_bytes) / 4 << 4);
	h[13] = x->flags;
	wire_put16(h + 14, x->window);
	memset(h + 16, 0, 4);
	if (x->option_bytes > 0)
		memcpy(h + WIRE_TCP_BYTES, x->options, x->option_bytes);
}

/* s: whose send queue holds the payload; NULL if there is none */
static bool transmit(struct tcp_stack *t, struct stream *s, const struct parts *x, bool control)
{
	unsigned family = flow_is_ip4(x->key->peer), ip = families[family].bytes;
	uint32_t tcp_bytes = (uint32_t)(WIRE_TCP_BYTES + x->option_bytes + x->bytes);
	struct ip_addr from = flow_ip(x->key->local), to = flow_ip(x->key->peer);
	struct tcp_buffer b;

	if (!t->env.get_buffer(t->env.arg, &b, ip + tcp_bytes, control)) {
		count(t, tcp_no_buffer);
		return false;
	}
	uint8_t *h = b.data + ip;
	families[family].put(t, b.data, x, tcp_bytes);
	put_tcp(h, x);
	if (x->bytes > 0)
		send_copy(s, x->seq, h + WIRE_TCP_BYTES + x->option_bytes, x->bytes);
	uint64_t sum = checksum_pseudo(&from, &to, tcp_bytes);
	/* a port that sums wants the pseudo header's part, not complemented */
	uint16_t folded = t->env.tx_checksum_offload
				  ? (uint16_t)~checksum_finish(sum)
				  : checksum_finish(checksum_add(sum, h, tcp_bytes));
	memcpy(h + 16, &folded, 2);
	t->env.send(t->env.arg, &b, ip + tcp_bytes, &to);
	count(t, tcp_segments_out);
	return true;
}

/* The window field: unscaled in a SYN (RFC 7323 section 2.2). */
static uint16_t window_field(struct stream *s, uint8_t flags)
{
	if ((flags & WIRE_SYN) != 0)
		return (uint16_t)u32_min(s->rcv_right - s->rcv_nxt, 65535);
	uint32_t window = receive_window(s) >> rcv_scale(s);

	return (uint16_t)u32_min(window, 65535);
}

/* Timestamp, and SACK blocks where a full segment is not cut for them: every hole has been told
 * of by a pure ACK already. */
static size_t running_options(const struct stream *s, const struct header_segment *h, uint8_t *to)
{
	size_t n = 0, room = OPTIONS_MAX_BYTES;

	if ((s->flags & F_TIMESTAMPS) != 0)
		n = options_write_timestamp(to, stack_ticks(s->stack) + s->ts_offset, s->ts_recent);
	/* a probe of the former size is larger than mss (mtu_probe.h) */
	uint32_t spare = s->mss > h->bytes ? s->mss - h->bytes : 0;
	if (h->bytes > 0 && spare < room - n)
		room = n + spare;
	if ((h->flags & WIRE_RST) == 0)
		n += sack_write(s, to + n, room - n);
	return n;
}

bool header_send(struct stream *s, const struct header_segment *h)
{
	struct tcp_stack *t = s->stack;
	uint8_t options[OPTIONS_MAX_BYTES];
	struct parts x = {
		.key = &s->key,
		.hash = s->hash,
		.seq = h->seq,
		.bytes = h->bytes,
		.flags = h->flags,
		.tos = stream_tuning(s)->tos,
		.options = h->options,
		.option_bytes = h->option_bytes,
	};

	if ((h->flags & WIRE_ACK) != 0)
		x.ack = s->rcv_nxt;
	if ((h->flags & WIRE_RST) == 0)
		x.window = window_field(s, h->flags);
	if (x.window == 0 && s->state == TCP_ESTABLISHED && (h->flags & WIRE_RST) == 0)
		trace(s, TCP_EVENT_OUR_WINDOW, receive_unread(s));
	if ((s->flags & F_ECN) != 0)
		ecn_mark(s, h, &x.flags, &x.tos);
	if ((h->flags & WIRE_SYN) == 0) {
		x.options = options;
		x.option_bytes = running_options(s, h, options);
	}
	if (!transmit(t, s, &x, h->control))
		return false;
	if ((x.flags & WIRE_CWR) != 0 && (x.flags & WIRE_SYN) == 0)
		s->flags &= ~(uint32_t)F_CWR;
	if ((h->flags & WIRE_ACK) != 0) {
		s->last_ack = s->rcv_nxt;
		s->flags &= ~(uint32_t)F_ACK_NOW;
		s->ack_segments = 0;
		s->due_us[DUE_ACK] = 0;
	}
	return true;
}

void output_bare(struct tcp_stack *t, const struct bare_segment *b)
{
	uint8_t options[OPTIONS_MAX_BYTES];
	struct parts x = {.key = b->key,
			  .seq = b->seq,
			  .ack = b->ack,
			  .flags = b->flags,
			  .window = b->window,
			  .options = options};

	if (!flow_is_ip4(b->key->peer))
		x.hash = flow_hash(&t->flows, b->key);
	if (b->syn != NULL)
		x.option_bytes = options_write_syn(options, b->syn, t->config.option_layout);
	else if (b->timestamps)
		x.option_bytes = options_write_timestamp(options, b->ts_value, b->ts_echo);
	transmit(t, NULL, &x, true);
}
