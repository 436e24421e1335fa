/* time_wait.c - a list by age inside one array, taken lazily */
#include "dataplane/tcp/time_wait.h"

#include "dataplane/tcp/output.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

#include <errno.h>
#include <stdlib.h>

static_assert(sizeof(struct time_wait_entry) <= 80, "an entry is small");

static struct time_wait_entry *entry(struct time_wait *w, uint32_t index_plus_1)
{
	return &w->entries[index_plus_1 - 1];
}

static void expire(struct timer *timer);

int time_wait_init(struct time_wait *w, struct tcp_stack *t, uint32_t limit)
{
	*w = (struct time_wait){.stack = t, .limit = limit};
	/* Untouched pages of a large calloc cost nothing until they are used. */
	w->entries = calloc((size_t)limit + 1, sizeof(*w->entries));
	timer_init(&w->timer, expire);
	return w->entries == NULL ? -ENOMEM : 0;
}

void time_wait_free(struct time_wait *w)
{
	if (w->entries == NULL)
		return;
	timer_cancel(w->stack->shard->timers, &w->timer);
	free(w->entries);
	w->entries = NULL;
}

static void settle(struct time_wait *w)
{
	struct shard *shard = w->stack->shard;

	if (w->oldest == 0) {
		timer_cancel(shard->timers, &w->timer);
		return;
	}
	uint64_t due = entry(w, w->oldest)->expires_us;
	if (!timer_armed(&w->timer) || w->timer.due_us != due)
		timer_arm(shard->timers, &w->timer, due);
}

static void unlink_entry(struct time_wait *w, uint32_t i)
{
	struct time_wait_entry *e = entry(w, i);

	if (e->prev != 0)
		entry(w, e->prev)->next = e->next;
	else
		w->oldest = e->next;
	if (e->next != 0)
		entry(w, e->next)->prev = e->prev;
	else
		w->newest = e->prev;
}

static void link_newest(struct time_wait *w, uint32_t i)
{
	struct time_wait_entry *e = entry(w, i);

	e->expires_us = stack_now(w->stack) + w->stack->config.time_wait_us;
	e->prev = w->newest;
	e->next = 0;
	if (w->newest != 0)
		entry(w, w->newest)->next = i;
	else
		w->oldest = i;
	w->newest = i;
}

static void drop(struct time_wait *w, uint32_t i)
{
	unlink_entry(w, i);
	flow_remove(&w->stack->flows, entry(w, i)->hash, FLOW_TIME_WAIT | (i - 1));
	entry(w, i)->next = w->first_free;
	w->first_free = i;
	w->used--;
}

static void expire(struct timer *timer)
{
	struct time_wait *w = container_of(timer, struct time_wait, timer);
	uint64_t now = stack_now(w->stack);

	while (w->oldest != 0 && entry(w, w->oldest)->expires_us <= now)
		drop(w, w->oldest);
	settle(w);
}

static uint32_t take(struct time_wait *w)
{
	uint32_t i = w->first_free;

	if (i != 0) {
		w->first_free = entry(w, i)->next;
	} else if (w->extent < w->limit) {
		i = ++w->extent;
	} else {
		count(w->stack, tcp_time_wait_evicted);
		drop(w, w->oldest);
		i = w->first_free;
		w->first_free = entry(w, i)->next;
	}
	w->used++;
	return i;
}

void time_wait_enter(struct stream *s)
{
	struct tcp_stack *t = s->stack;
	struct time_wait *w = &t->time_wait;

	if (w->limit == 0) {
		flow_remove(&t->flows, s->hash, (uint32_t)s->handle);
		return;
	}
	uint32_t i = take(w);
	struct time_wait_entry *e = entry(w, i);
	e->key = s->key;
	e->hash = s->hash;
	e->snd_nxt = s->snd_max;
	e->rcv_nxt = s->rcv_nxt;
	e->ts_recent = s->ts_recent;
	e->ts_offset = s->ts_offset;
	e->timestamps = (s->flags & F_TIMESTAMPS) != 0;
	e->window = (uint16_t)u32_min(receive_window(s) >> rcv_scale(s), 65535);
	flow_replace(&t->flows, s->hash, (uint32_t)s->handle, FLOW_TIME_WAIT | (i - 1));
	link_newest(w, i);
	settle(w);
}

static void acknowledge(struct tcp_stack *t, const struct time_wait_entry *e)
{
	struct bare_segment b = {
		.key = &e->key,
		.seq = e->snd_nxt,
		.ack = e->rcv_nxt,
		.flags = WIRE_ACK,
		.window = e->window,
		.timestamps = e->timestamps,
		.ts_value = stack_ticks(t) + e->ts_offset,
		.ts_echo = e->ts_recent,
	};

	if (output_challenge_allowed(t))
		output_bare(t, &b);
}

/* RFC 6191 section 2; without timestamps RFC 1122 section 4.2.2.13. */
static bool may_reuse(const struct time_wait_entry *e, const struct segment *g)
{
	if ((g->flags & (WIRE_SYN | WIRE_ACK | WIRE_RST | WIRE_FIN)) != WIRE_SYN)
		return false;
	if (e->timestamps && g->options.has_timestamp && g->options.ts_value != e->ts_recent)
		return seq_gt(g->options.ts_value, e->ts_recent);
	return seq_gt(g->seq, e->rcv_nxt);
}

bool time_wait_input(struct tcp_stack *t, uint32_t index, const struct segment *g,
		     uint32_t *isn_above)
{
	struct time_wait *w = &t->time_wait;
	struct time_wait_entry *e = entry(w, index + 1);

	if (may_reuse(e, g)) {
		*isn_above = e->snd_nxt;
		count(t, tcp_time_wait_reused);
		drop(w, index + 1);
		settle(w);
		return true;
	}
	if ((g->flags & WIRE_RST) != 0) {
		count(t, tcp_rst_ignored);
		return false;
	}
	/* The FIN again: our last ACK was lost, so the wait begins anew. */
	if ((g->flags & WIRE_FIN) != 0 && g->seq + segment_length(g) == e->rcv_nxt) {
		unlink_entry(w, index + 1);
		link_newest(w, index + 1);
		settle(w);
	}
	if (segment_length(g) != 0 || g->seq != e->rcv_nxt)
		acknowledge(t, e);
	return false;
}
