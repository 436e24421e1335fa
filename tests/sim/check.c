/* check.c - invariants of RFC 9293 and of our own bookkeeping */
#include "tests/sim/check.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/wire.h"

#include <stdio.h>
#include <stdlib.h>

struct check_edge {
	handle_t handle;
	uint32_t right;
};

static void breach(uint64_t seed, const char *what, unsigned line)
{
	fprintf(stderr, "seed %llu: %s (check.c:%u)\n", (unsigned long long)seed, what, line);
	abort();
}

#define MUST(seed, condition)                               \
	do {                                                \
		if (!(condition))                           \
			breach(seed, #condition, __LINE__); \
	} while (0)

void check_init(struct check *c, struct tcp_stack *t, uint64_t seed)
{
	*c = (struct check){.tcp = t, .seed = seed};
}

void check_free(struct check *c)
{
	free(c->edges);
}

static struct check_edge *edge_of(struct check *c, uint32_t i)
{
	if (i >= c->room) {
		uint32_t room = (i + 1) * 2;
		c->edges = realloc(c->edges, room * sizeof(*c->edges));
		memset(c->edges + c->room, 0, (room - c->room) * sizeof(*c->edges));
		c->room = room;
	}
	return &c->edges[i];
}

static uint32_t send_list_bytes(const struct stream *s)
{
	uint32_t bytes = 0;

	for (const struct chunk *k = s->active == NULL ? NULL : s->active->snd_head; k != NULL;
	     k = k->next)
		bytes += k->end - k->start;
	return bytes;
}

static void check_board(uint64_t seed, const struct stream *s)
{
	const struct scoreboard *k = s->active == NULL ? NULL : s->active->board;

	MUST(seed, k == NULL || (s->flags & F_SACK) != 0);
	for (unsigned i = 0; k != NULL && i < k->n; i++) {
		uint32_t before = i == 0 ? s->snd_una : k->sacked[i - 1].to;
		MUST(seed, seq_lt(before, k->sacked[i].from));
		MUST(seed, seq_lt(k->sacked[i].from, k->sacked[i].to));
		MUST(seed, seq_le(k->sacked[i].to, s->snd_max));
	}
	MUST(seed, sack_pipe(s) <= 2 * (s->snd_nxt - s->snd_una));
}

static void check_sending(uint64_t seed, const struct stream *s)
{
	bool data = s->state >= TCP_ESTABLISHED;

	MUST(seed, seq_le(s->snd_una, s->snd_nxt));
	MUST(seed, seq_le(s->snd_nxt, s->snd_max));
	MUST(seed, seq_le(s->snd_max, s->snd_end + 1));
	MUST(seed, s->snd_una == s->snd_max || s->due_us[DUE_RETRANSMIT] != 0);
	MUST(seed, send_list_bytes(s) == send_queued(s));
	if (!data)
		return;
	MUST(seed, s->cwnd >= s->mss || (s->flags & F_RECOVERY) != 0);
	check_board(seed, s);
	bool unsent = seq_lt(s->snd_nxt, s->snd_end + ((s->flags & F_FIN_QUEUED) != 0));
	MUST(seed, !unsent || s->due_us[DUE_RETRANSMIT] != 0 || (s->flags & F_STARVED) != 0);
}

static void check_receiving(struct check *c, uint32_t index, const struct stream *s)
{
	struct check_edge *e = edge_of(c, index);
	const struct reorder *r = s->active == NULL ? NULL : s->active->reorder;

	if (s->state < TCP_SYN_RCVD)
		return;
	MUST(c->seed, e->handle != s->handle || seq_le(e->right, s->rcv_right));
	*e = (struct check_edge){s->handle, s->rcv_right};
	MUST(c->seed, seq_le(s->rcv_read, s->rcv_nxt));
	MUST(c->seed, seq_le(s->rcv_nxt, s->rcv_right + 1));
	for (unsigned i = 0; r != NULL && i < r->n; i++) {
		uint32_t before = i == 0 ? s->rcv_nxt : r->range[i - 1].to;
		MUST(c->seed, seq_lt(before, r->range[i].from));
		MUST(c->seed, seq_lt(r->range[i].from, r->range[i].to));
		MUST(c->seed, seq_le(r->range[i].to, s->rcv_right));
	}
}

void check_stack(struct check *c)
{
	struct tcp_stack *t = c->tcp;

	MUST(c->seed, list_empty(&t->dirty) && list_empty(&t->out));
	for (uint32_t i = 0; i < slab_extent(t->streams); i++) {
		const struct stream *s = slab_at(t->streams, i, NULL);
		if (s == NULL)
			continue;
		MUST(c->seed, s->state != TCP_CLOSED || stream_is_held(s));
		if (s->state == TCP_CLOSED)
			continue;
		check_sending(c->seed, s);
		check_receiving(c, i, s);
		for (unsigned d = 0; d < DUES; d++)
			MUST(c->seed, s->due_us[d] == 0 || (timer_armed(&s->timer) &&
							    s->timer.due_us <= s->due_us[d]));
	}
}

void check_headers(const uint8_t *ip, size_t bytes, const struct ip_addr *to)
{
	struct ip_addr from;
	bool ip4 = ip[0] == 0x45;
	unsigned header = ip4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;

	if (ip4) {
		from = addr_ip4(ip + 12);
		MUST(0, wire_get16(ip + 2) == bytes && ip[6] == 0x40 && ip[7] == 0);
		MUST(0, ip[8] == 64 && ip[9] == 6);
		MUST(0, checksum_finish(checksum_add(0, ip, WIRE_IP4_BYTES)) == 0);
		MUST(0, memcmp(ip + 16, to->byte, 4) == 0);
	} else {
		from = (struct ip_addr){.family = 6};
		memcpy(from.byte, ip + 8, 16);
		MUST(0, ip[0] >> 4 == 6 && wire_get16(ip + 4) + header == bytes);
		MUST(0, ip[6] == 6 && ip[7] == 64);
		MUST(0, memcmp(ip + 24, to->byte, 16) == 0);
	}
	uint64_t sum = checksum_pseudo(&from, to, (uint32_t)(bytes - header));
	MUST(0, checksum_finish(checksum_add(sum, ip + header, bytes - header)) == 0);
	MUST(0, (unsigned)(ip[header + 12] >> 4) * 4 <= bytes - header);
}
