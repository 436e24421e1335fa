/* send.c - chunks carry their sequence number in `spare`; slices are found from a cursor */
#include "dataplane/tcp/send.h"

#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

static uint32_t first_seq(const struct chunk *c)
{
	return c->spare + c->start;
}

static uint32_t end_seq(const struct chunk *c)
{
	return c->spare + c->end;
}

uint32_t send_queued(const struct stream *s)
{
	const struct active *a = s->active;

	return a != NULL && a->snd_head != NULL ? s->snd_end - first_seq(a->snd_head) : 0;
}

/* A small chunk for small writes; a bulk sender gets the middle size while it lasts. */
static struct chunk *take_chunk(struct stream *s, size_t want)
{
	struct chunk_pool *p = s->stack->shard->chunks;
	struct chunk *c = NULL;

	if (want > chunk_capacity(CHUNK_4K))
		c = chunk_alloc(p, CHUNK_16K, false);
	return c != NULL ? c : chunk_alloc(p, CHUNK_4K, false);
}

static struct chunk *room_at_tail(struct stream *s, size_t want)
{
	struct active *a = s->active;

	if (a->snd_tail != NULL && a->snd_tail->end < a->snd_tail->size)
		return a->snd_tail;
	struct chunk *c = take_chunk(s, want);
	if (c == NULL)
		return NULL;
	c->spare = s->snd_end;
	if (a->snd_tail == NULL)
		a->snd_head = c;
	else
		a->snd_tail->next = c;
	return a->snd_tail = c;
}

size_t send_append(struct stream *s, const uint8_t *data, size_t n)
{
	uint32_t queued = send_queued(s);
	size_t done = 0;

	if (queued >= s->snd_limit)
		return 0;
	if (n > s->snd_limit - queued)
		n = s->snd_limit - queued;
	if (n == 0 || stream_active(s) == NULL)
		return 0;
	while (done < n) {
		struct chunk *c = room_at_tail(s, n - done);
		if (c == NULL)
			break;
		size_t m = c->size - c->end;
		if (m > n - done)
			m = n - done;
		memcpy(c->data + c->end, data + done, m);
		c->end += (uint32_t)m;
		s->snd_end += (uint32_t)m;
		done += m;
	}
	return done;
}

void send_acked(struct stream *s, uint32_t ack)
{
	struct active *a = s->active;

	if (a == NULL)
		return;
	while (a->snd_head != NULL && seq_le(end_seq(a->snd_head), ack)) {
		struct chunk *c = a->snd_head;
		a->snd_head = c->next;
		if (a->snd_cursor == c)
			a->snd_cursor = NULL;
		if (a->snd_tail == c)
			a->snd_tail = NULL;
		chunk_free(s->stack->shard->chunks, c);
	}
	if (a->snd_head != NULL && seq_gt(ack, first_seq(a->snd_head)))
		a->snd_head->start = ack - a->snd_head->spare;
}

void send_copy(struct stream *s, uint32_t seq, uint8_t *to, uint32_t n)
{
	struct active *a = s->active;
	struct chunk *c = a->snd_cursor;

	if (c == NULL || seq_lt(seq, c->spare))
		c = a->snd_head;
	while (n > 0) {
		assert(c != NULL && seq_ge(seq, first_seq(c)));
		if (seq_ge(seq, end_seq(c))) {
			c = c->next;
			continue;
		}
		uint32_t m = u32_min(n, end_seq(c) - seq);
		memcpy(to, c->data + (seq - c->spare), m);
		to += m;
		seq += m;
		n -= m;
		a->snd_cursor = c;
	}
}

void send_clear(struct stream *s)
{
	struct active *a = s->active;

	if (a == NULL)
		return;
	sack_forget(s);
	rack_forget(s);
	chunk_free_list(s->stack->shard->chunks, a->snd_head);
	a->snd_head = a->snd_tail = a->snd_cursor = NULL;
}
