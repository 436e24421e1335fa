/* receive.c - sparse chunk list on a grid of sequence numbers, and the ranges beyond a hole */
#include "dataplane/tcp/receive.h"

#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum { PLENTY_BYTES = 32768 };
enum { PRESSURE_PERCENT = 80 }; /* of the chunk pool: windows stop growing */

uint32_t receive_unread(const struct stream *s)
{
	return s->rcv_nxt - ((s->flags & F_FIN_RECEIVED) != 0) - s->rcv_read;
}

static uint32_t span(void)
{
	return chunk_capacity(CHUNK_4K);
}

/* The chunk that holds seq, inserted in its place if it is missing. */
static struct chunk *chunk_at(struct stream *s, uint32_t seq, bool urgent)
{
	struct active *a = s->active;
	struct chunk *before = NULL, *c = a->rcv_head;

	if (c == NULL)
		a->rcv_grid = s->rcv_nxt;
	if (a->rcv_tail != NULL && seq_ge(seq, a->rcv_tail->spare)) {
		before = a->rcv_tail;
		if (seq - before->spare < span())
			return before;
		c = NULL;
	}
	for (; c != NULL && seq_ge(seq, c->spare); before = c, c = c->next) {
		if (seq - c->spare < span())
			return c;
	}
	struct chunk *fresh = chunk_alloc(s->stack->shard->chunks, CHUNK_4K, urgent);
	if (fresh == NULL)
		return NULL;
	fresh->spare = seq - (seq - a->rcv_grid) % span();
	fresh->next = c;
	if (before == NULL)
		a->rcv_head = fresh;
	else
		before->next = fresh;
	if (c == NULL)
		a->rcv_tail = fresh;
	return fresh;
}

/* Copies to the place seq gives; returns the bytes that found memory. */
static uint32_t store(struct stream *s, uint32_t seq, const uint8_t *data, uint32_t n, bool urgent)
{
	uint32_t done = 0;

	if (stream_active(s) == NULL)
		return 0;
	while (done < n) {
		struct chunk *c = chunk_at(s, seq + done, urgent);
		if (c == NULL)
			break;
		uint32_t at = seq + done - c->spare, m = u32_min(n - done, span() - at);
		memcpy(c->data + at, data + done, m);
		done += m;
	}
	if (done < n)
		count_drop(s, tcp_receive_no_memory);
	return done;
}

static struct reorder *reorder_of(struct stream *s)
{
	struct active *a = stream_active(s);

	if (a == NULL)
		return NULL;
	if (a->reorder == NULL) {
		a->reorder = slab_alloc(s->stack->reorders, &a->reorder_handle);
		if (a->reorder != NULL)
			a->reorder->range = a->reorder->few;
	}
	return a->reorder;
}

/* Whether from..to has a place, after growing if need be. */
static bool make_room(struct stream *s, struct reorder *r, uint32_t from, uint32_t to)
{
	unsigned room = r->more != NULL ? RANGES_MOST : REORDER_FEW;

	return ranges_fit(r->range, r->n, room, from, to) ||
	       ranges_grow(s->stack->shard->chunks, &r->range, r->n, &r->more);
}

static void reorder_free(struct stream *s)
{
	struct active *a = s->active;

	if (a == NULL || a->reorder == NULL)
		return;
	if (a->reorder->more != NULL)
		chunk_free(s->stack->shard->chunks, a->reorder->more);
	slab_free(s->stack->reorders, a->reorder_handle);
	a->reorder = NULL;
	s->flags &= ~(uint32_t)F_FIN_AHEAD;
}

/* The latest segment is what the next SACK begins with. */
static void remember(struct reorder *r, uint32_t seq)
{
	memmove(&r->recent[1], &r->recent[0], (REORDER_RECENT - 1) * sizeof(r->recent[0]));
	r->recent[0] = seq;
}

/* Ranges that rcv_nxt has reached are in order now. */
static void absorb(struct stream *s)
{
	struct reorder *r = s->active != NULL ? s->active->reorder : NULL;
	unsigned i = 0;

	if (r == NULL)
		return;
	for (; i < r->n && seq_le(r->range[i].from, s->rcv_nxt); i++)
		s->rcv_nxt = seq_max(s->rcv_nxt, r->range[i].to);
	if (i > 0)
		s->flags |= F_ACK_NOW;
	memmove(&r->range[0], &r->range[i], (r->n - i) * sizeof(r->range[0]));
	r->n = (uint16_t)(r->n - i);
	if (r->n == 0 && (s->flags & F_FIN_AHEAD) == 0)
		reorder_free(s);
}

static void beyond_hole(struct stream *s, uint32_t seq, const uint8_t *data, uint32_t n)
{
	s->flags |= F_ACK_NOW;
	if ((s->flags & F_RELEASED) != 0)
		return;
	struct reorder *r = reorder_of(s);
	if (r == NULL || !make_room(s, r, seq, seq + n)) {
		count_drop(s, r == NULL ? tcp_receive_no_memory : tcp_reorder_full);
		return;
	}
	n = store(s, seq, data, n, false);
	if (n > 0) {
		r->n = (uint16_t)ranges_add(r->range, r->n, seq, seq + n);
		remember(r, seq);
		count(s->stack, tcp_out_of_order);
	} else if (r->n == 0 && (s->flags & F_FIN_AHEAD) == 0) {
		reorder_free(s);
	}
}

void receive_note_duplicate(struct stream *s, uint32_t from, uint32_t to)
{
	if ((s->flags & F_SACK) == 0 || !s->stack->config.dsack)
		return;
	s->stack->duplicate = (struct range){from, to};
	s->flags |= F_ACK_NOW;
}

/* The first piece of from..to that is held beyond the hole already. */
static void note_held_before(struct stream *s, uint32_t from, uint32_t to)
{
	const struct reorder *r = s->active != NULL ? s->active->reorder : NULL;

	if (r == NULL)
		return;
	unsigned i = ranges_after(r->range, r->n, from);
	if (i < r->n && seq_lt(r->range[i].from, to))
		receive_note_duplicate(s, seq_max(from, r->range[i].from),
				       seq_min(to, r->range[i].to));
}

bool receive_data(struct stream *s, uint32_t seq, const uint8_t *data, uint32_t n)
{
	uint32_t end = seq_min(seq + n, s->rcv_right);

	if (seq_lt(seq + n, s->rcv_nxt) || seq_le(end, s->rcv_nxt)) {
		if (seq_lt(seq, s->rcv_nxt))
			receive_note_duplicate(s, seq, seq_min(seq + n, s->rcv_nxt));
		s->flags |= F_ACK_NOW;
		return false;
	}
	if (seq_lt(seq, s->rcv_nxt)) {
		receive_note_duplicate(s, seq, s->rcv_nxt);
		data += s->rcv_nxt - seq;
		seq = s->rcv_nxt;
	}
	n = end - seq;
	if (s->stack->duplicate.from == s->stack->duplicate.to)
		note_held_before(s, seq, end);
	if (seq != s->rcv_nxt) {
		beyond_hole(s, seq, data, n);
		return false;
	}
	if ((s->flags & F_RELEASED) != 0) {
		counter_add(&s->stack->counters[tcp_discarded_bytes], n);
		s->rcv_nxt = s->rcv_read = seq + n;
		return true;
	}
	/* Urgent: the window has promised this memory. */
	n = store(s, seq, data, n, true);
	s->rcv_nxt += n;
	/* RFC 5681 section 4.2: at once, also when only a part of the hole is filled */
	if (s->active != NULL && s->active->reorder != NULL)
		s->flags |= F_ACK_NOW;
	absorb(s);
	return n > 0;
}

bool receive_fin(struct stream *s, uint32_t seq)
{
	if (seq == s->rcv_nxt) {
		s->rcv_nxt++;
		s->flags |= F_FIN_RECEIVED | F_ACK_NOW;
		reorder_free(s);
		if ((s->flags & F_RELEASED) != 0)
			s->rcv_read = s->rcv_nxt - 1;
		return true;
	}
	if (seq_gt(seq, s->rcv_nxt) && (s->flags & F_RELEASED) == 0 && reorder_of(s) != NULL) {
		s->active->reorder->fin_seq = seq;
		s->flags |= F_FIN_AHEAD | F_ACK_NOW;
	}
	return false;
}

size_t receive_peek(const struct stream *s, const uint8_t **p)
{
	uint32_t unread = receive_unread(s);

	if (unread == 0)
		return 0;
	const struct chunk *c = s->active->rcv_head;
	uint32_t at = s->rcv_read - c->spare;
	*p = c->data + at;
	return u32_min(unread, span() - at);
}

size_t receive_at(const struct stream *s, size_t at, uint8_t **p)
{
	uint32_t unread = receive_unread(s);

	if (at >= unread)
		return 0;
	uint32_t seq = s->rcv_read + (uint32_t)at;
	struct chunk *c = s->active->rcv_head;
	/* in order there is no gap between chunks */
	while (seq_ge(seq, c->spare + span()))
		c = c->next;
	*p = c->data + (seq - c->spare);
	return u32_min(unread - (uint32_t)at, span() - (seq - c->spare));
}

size_t receive_promised(const struct stream *s)
{
	uint32_t unread = receive_unread(s);

	if ((s->flags & F_FIN_RECEIVED) != 0 || seq_lt(s->rcv_right, s->rcv_read + unread))
		return unread;
	return s->rcv_right - s->rcv_read;
}

static void drop_chunks(struct stream *s)
{
	struct active *a = s->active;

	chunk_free_list(s->stack->shard->chunks, a->rcv_head);
	a->rcv_head = a->rcv_tail = NULL;
}

void receive_consume(struct stream *s, size_t n)
{
	struct active *a = s->active;

	assert(n <= receive_unread(s));
	if (n == 0)
		return;
	s->rcv_read += (uint32_t)n;
	while (a->rcv_head != NULL && seq_le(a->rcv_head->spare + span(), s->rcv_read)) {
		struct chunk *c = a->rcv_head;
		a->rcv_head = c->next;
		a->rcv_grid = c->spare + span();
		chunk_free(s->stack->shard->chunks, c);
	}
	if (a->rcv_head == NULL)
		a->rcv_tail = NULL;
	if (receive_unread(s) == 0 && a->reorder == NULL)
		drop_chunks(s);
}

void receive_clear(struct stream *s)
{
	s->rcv_read += receive_unread(s);
	if (s->active == NULL)
		return;
	reorder_free(s);
	drop_chunks(s);
}

/* Where the right edge may go. */
static uint32_t edge_allowed(const struct stream *s)
{
	if (chunk_pool_percent(s->stack->shard->chunks) >= PRESSURE_PERCENT &&
	    (s->flags & F_RELEASED) == 0)
		return s->rcv_right;
	return seq_max(s->rcv_right, s->rcv_read + s->rcv_limit);
}

/* SWS avoidance: the edge moves by a segment, or half of the buffer, or not at all. */
static bool worth_moving(const struct stream *s, uint32_t by)
{
	return by > 0 && by >= u32_min(s->rcv_limit / 2, s->mss);
}

uint32_t receive_window(struct stream *s)
{
	uint32_t edge = edge_allowed(s), unit = 1u << rcv_scale(s);

	if (worth_moving(s, edge - s->rcv_right))
		s->rcv_right = edge;
	uint32_t window = seq_gt(s->rcv_right, s->rcv_nxt) ? s->rcv_right - s->rcv_nxt : 0;
	/* The wire counts units.  Rounding down would move the edge left by a few bytes; rounding
	 * up promises a few more, which is done only within one unit of the limit, lest a peer of
	 * tiny segments creep on for ever. */
	uint32_t up = (window + unit - 1) & ~(unit - 1);
	if (seq_le(s->rcv_nxt + up, s->rcv_read + s->rcv_limit + unit)) {
		s->rcv_right = seq_max(s->rcv_right, s->rcv_nxt + up);
		return up;
	}
	return window;
}

bool receive_window_news(const struct stream *s)
{
	uint32_t by = edge_allowed(s) - s->rcv_right;
	uint32_t left = s->rcv_right - s->rcv_nxt;

	if ((s->flags & F_FIN_RECEIVED) != 0)
		return false;
	/* What the SYN-ACK could not offer, the next segment does; none is sent for it. */
	if (s->rcv_right - s->last_ack == stream_tuning(s)->init_window &&
	    s->rcv_limit == stream_tuning(s)->receive_limit)
		return false;
	/* While much is left the ACKs of what arrives bring the news, unless it is great. */
	bool enough = left > PLENTY_BYTES && by < s->rcv_limit / 4;
	return by > 0 && ((!enough && by >= u32_min(s->rcv_limit / 2, 2u * s->mss)) ||
			  (left < s->mss && worth_moving(s, by)));
}
