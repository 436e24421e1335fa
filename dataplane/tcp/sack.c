/* sack.c - bookkeeping in ranges */
#include "dataplane/tcp/sack.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/undo.h"

static struct scoreboard *board(const struct stream *s)
{
	return s->active != NULL ? s->active->board : NULL;
}

static struct scoreboard *board_taken(struct stream *s)
{
	struct active *a = s->active;

	if (a == NULL)
		return NULL;
	if (a->board == NULL) {
		a->board = slab_alloc(s->stack->boards, &a->board_handle);
		if (a->board != NULL)
			a->board->sacked = a->board->few;
	}
	return a->board;
}

/* Whether from..to has a place, after growing if need be. */
static bool make_room(struct stream *s, struct scoreboard *k, const struct range *b)
{
	unsigned room = k->more != NULL ? RANGES_MOST : SACK_FEW;

	return ranges_fit(k->sacked, k->n, room, b->from, b->to) ||
	       ranges_grow(s->stack->shard->chunks, &k->sacked, k->n, &k->more);
}

static bool valid(const struct stream *s, const struct range *b)
{
	return seq_lt(b->from, b->to) && seq_gt(b->from, s->snd_una) && seq_le(b->to, s->snd_max);
}

static void learn_block(struct stream *s, const struct range *b)
{
	struct scoreboard *k = board_taken(s);

	if (k == NULL || !make_room(s, k, b)) {
		count(s->stack, tcp_sack_full);
		return;
	}
	rack_delivered(s, b->from, b->to);
	k->n = (uint16_t)ranges_add(k->sacked, k->n, b->from, b->to);
}

/* RFC 2883 section 4: before the acknowledgment, or inside the block that follows. */
static bool is_duplicate(const struct segment *g, unsigned i)
{
	const struct range *b = &g->options.sack[i];

	if (!seq_lt(b->from, b->to) || seq_le(b->to, g->ack))
		return seq_lt(b->from, b->to);
	return i == 0 && g->options.sacks > 1 && seq_ge(b->from, b[1].from) &&
	       seq_le(b->to, b[1].to);
}

bool sack_learn(struct stream *s, const struct segment *g)
{
	bool duplicate = false;

	for (unsigned i = 0; i < g->options.sacks; i++) {
		const struct range *b = &g->options.sack[i];

		bool twice = is_duplicate(g, i);
		if (valid(s, b))
			learn_block(s, b);
		else if (!twice)
			count(s->stack, tcp_bad_sack);
		if (twice)
			undo_duplicate_told(s, b->from, b->to);
		duplicate |= twice;
	}
	return duplicate;
}

void sack_advance(struct stream *s)
{
	struct scoreboard *k = board(s);

	if (k == NULL)
		return;
	k->n = (uint16_t)ranges_cut(k->sacked, k->n, s->snd_una);
	/* A peer that acknowledges up to a block, not over it, has thrown the block away. */
	if (k->n > 0 && k->sacked[0].from == s->snd_una)
		k->n = 0;
	if (k->n == 0 && (s->flags & F_RECOVERY) == 0)
		sack_forget(s);
}

void sack_forget(struct stream *s)
{
	if (board(s) == NULL)
		return;
	if (board(s)->more != NULL)
		chunk_free(s->stack->shard->chunks, board(s)->more);
	slab_free(s->stack->boards, s->active->board_handle);
	s->active->board = NULL;
}

uint32_t sack_covered(const struct stream *s, uint32_t to)
{
	const struct scoreboard *k = board(s);

	return k != NULL ? ranges_covered(k->sacked, k->n, s->snd_una, to) : 0;
}

uint32_t sack_between(const struct stream *s, uint32_t from, uint32_t to)
{
	const struct scoreboard *k = board(s);

	return k != NULL ? ranges_covered(k->sacked, k->n, from, to) : 0;
}

uint32_t sack_lost_edge(const struct stream *s)
{
	const struct scoreboard *k = board(s);
	unsigned threshold = s->stack->config.duplicate_threshold;
	uint32_t bytes = 0;

	for (unsigned i = k != NULL ? k->n : 0; i > 0; i--) {
		const struct range *r = &k->sacked[i - 1];
		bytes += r->to - r->from;
		if (k->n - i + 1 >= threshold || bytes > (threshold - 1) * s->mss)
			return r->from;
	}
	return s->snd_una;
}

uint32_t sack_pipe(const struct stream *s)
{
	return s->snd_nxt - s->snd_una - sack_covered(s, s->snd_nxt) - rack_lost(s, s->snd_nxt);
}

uint32_t sack_skip(const struct stream *s, uint32_t seq)
{
	const struct scoreboard *k = board(s);

	if (k == NULL)
		return seq;
	unsigned i = ranges_after(k->sacked, k->n, seq);
	return i < k->n && seq_le(k->sacked[i].from, seq) ? k->sacked[i].to : seq;
}

uint32_t sack_hole_end(const struct stream *s, uint32_t seq, uint32_t end)
{
	const struct scoreboard *k = board(s);

	if (k == NULL)
		return end;
	unsigned i = ranges_after(k->sacked, k->n, seq);
	return i < k->n ? seq_min(end, k->sacked[i].from) : end;
}

void sack_begin_recovery(struct stream *s)
{
	struct scoreboard *k = board_taken(s);

	if (k == NULL)
		return;
	k->delivered = k->out = 0;
	k->flight = s->snd_nxt - s->snd_una;
}

/* RFC 6937 section 3, with the slow-start reduction bound. */
void sack_reduce(struct stream *s, uint32_t delivered)
{
	struct scoreboard *k = board(s);
	uint32_t pipe = sack_pipe(s), send = 0;

	if (k == NULL || k->flight == 0)
		return;
	if (!s->stack->config.prr) {
		s->cwnd = s->ssthresh;
		return;
	}
	k->delivered += delivered;
	if (pipe > s->ssthresh) {
		uint64_t due = ((uint64_t)k->delivered * s->ssthresh + k->flight - 1) / k->flight;
		if (due > k->out)
			send = (uint32_t)(due - k->out);
	} else {
		uint32_t owed = k->delivered > k->out ? k->delivered - k->out : 0;
		send = u32_min(s->ssthresh - pipe, u32_max(owed, delivered) + s->mss);
	}
	s->cwnd = pipe + send;
}

void sack_sent(struct stream *s, uint32_t n)
{
	struct scoreboard *k = board(s);

	if (k != NULL && (s->flags & F_RECOVERY) != 0)
		k->out += n;
}

static unsigned add_block(struct range *block, unsigned first, unsigned n, const struct range *r)
{
	for (unsigned i = first; i < n; i++) {
		if (block[i].from == r->from)
			return n;
	}
	block[n] = *r;
	return n + 1;
}

/* RFC 2018 section 4: first the block that holds the latest segment, then those reported before. */
size_t sack_write(const struct stream *s, uint8_t *to, size_t room)
{
	const struct reorder *r = s->active != NULL ? s->active->reorder : NULL;
	struct range block[OPTION_SACK_BLOCKS];
	unsigned n = 0, most = room < 4 ? 0 : (unsigned)(room - 4) / 8;

	const struct range *twice = &s->stack->duplicate;

	if ((s->flags & F_SACK) == 0)
		return 0;
	if (most > OPTION_SACK_BLOCKS)
		most = OPTION_SACK_BLOCKS;
	if (twice->from != twice->to && most > 0)
		block[n++] = *twice; /* RFC 2883 section 4: always the first */
	unsigned told = n;
	if (r == NULL || r->n == 0)
		return options_write_sack(to, block, n);
	for (unsigned i = 0; i < REORDER_RECENT && n < most; i++) {
		unsigned at = ranges_after(r->range, r->n, r->recent[i]);
		if (at < r->n && seq_le(r->range[at].from, r->recent[i]))
			n = add_block(block, told, n, &r->range[at]);
	}
	for (unsigned i = 0; i < r->n && n < most; i++)
		n = add_block(block, told, n, &r->range[i]);
	return options_write_sack(to, block, n);
}
