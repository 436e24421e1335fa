/* syn_cache.c - entries, their lists, and the streams they are for a moment */
#include "dataplane/tcp/syn_cache.h"

#include "dataplane/tcp/input.h"
#include "dataplane/tcp/listen.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"
#include "dataplane/tcp/timers.h"

#include <errno.h>
#include <stdlib.h>

static_assert(sizeof(struct syn_entry) == 80, "less than a third of a tcb");

enum { OWED_US = 5000 }; /* until a SYN-ACK that found no packet buffer is tried again */

/* Of an entry, and the stream's flag that each of them is. */
static const struct {
	uint8_t kept;
	uint32_t flag;
} kept_flags[] = {
	{1 << 0, F_TIMESTAMPS}, {1 << 1, F_SCALING},    {1 << 2, F_SACK},
	{1 << 3, F_ECN},        {1 << 4, F_RETRANSMIT}, {1 << 5, F_SYN_RESENT},
};
enum { KEPT_SENT = 1 << 7 }; /* SND.MAX is beyond the SYN */

static struct syn_entry *entry(struct syn_cache *c, uint32_t index_plus_1)
{
	return &c->entries[index_plus_1 - 1];
}

static void expire(struct timer *timer);

int syn_cache_init(struct syn_cache *c, struct tcp_stack *t, uint32_t limit)
{
	*c = (struct syn_cache){.stack = t, .limit = limit};
	timer_init(&c->timer, expire);
	/* Untouched pages of a large calloc cost nothing until they are used. */
	c->entries = calloc((size_t)limit + 1, sizeof(*c->entries));
	return c->entries == NULL ? -ENOMEM : 0;
}

void syn_cache_free(struct syn_cache *c)
{
	if (c->entries == NULL)
		return;
	timer_cancel(c->stack->shard->timers, &c->timer);
	free(c->entries);
	c->entries = NULL;
}

bool syn_cache_full(const struct syn_cache *c)
{
	return c->used >= c->limit;
}

static struct syn_level *level_of(struct syn_cache *c, const struct syn_entry *e)
{
	return &c->level[u32_min(e->retries, SYN_CACHE_LEVELS - 1)];
}

static void unlink_entry(struct syn_cache *c, uint32_t i)
{
	struct syn_entry *e = entry(c, i);
	struct syn_level *l = level_of(c, e);

	if (e->prev != 0)
		entry(c, e->prev)->next = e->next;
	else
		l->oldest = e->next;
	if (e->next != 0)
		entry(c, e->next)->prev = e->prev;
	else
		l->newest = e->prev;
}

/* Between `before` and `after` in the list of its level; 0: none. */
static void link_between(struct syn_cache *c, uint32_t i, uint32_t before, uint32_t after)
{
	struct syn_entry *e = entry(c, i);
	struct syn_level *l = level_of(c, e);

	e->prev = before;
	e->next = after;
	if (before != 0)
		entry(c, before)->next = i;
	else
		l->oldest = i;
	if (after != 0)
		entry(c, after)->prev = i;
	else
		l->newest = i;
}

/* What is owed is due before all that has been sent. */
static void link_entry(struct syn_cache *c, uint32_t i, bool owed)
{
	struct syn_level *l = level_of(c, entry(c, i));

	if (owed)
		link_between(c, i, 0, l->oldest);
	else
		link_between(c, i, l->newest, 0);
}

static uint64_t due_of(const struct syn_cache *c, const struct syn_entry *e)
{
	uint64_t now = stack_now(c->stack);

	return now + (uint64_t)(int64_t)(int32_t)(e->due_us - (uint32_t)now);
}

static void settle(struct syn_cache *c)
{
	struct timer_wheel *w = c->stack->shard->timers;
	uint64_t due = UINT64_MAX;

	for (unsigned k = 0; k < SYN_CACHE_LEVELS; k++) {
		if (c->level[k].oldest != 0) {
			uint64_t d = due_of(c, entry(c, c->level[k].oldest));
			due = d < due ? d : due;
		}
	}
	if (due == UINT64_MAX)
		timer_cancel(w, &c->timer);
	else if (!timer_armed(&c->timer) || c->timer.due_us != due)
		timer_arm(w, &c->timer, due);
}

static void release(struct syn_cache *c, uint32_t i)
{
	entry(c, i)->next = c->first_free;
	c->first_free = i;
	c->used--;
}

/* NULL: all streams are in use.  Until keep() or its end the stream stands in the flow table. */
static struct stream *revive(struct syn_cache *c, uint32_t i)
{
	const struct syn_entry *e = entry(c, i);
	struct stream *s = state_revive(c->stack, &e->key, e->hash, FLOW_SYN | (i - 1));

	if (s == NULL) {
		count(c->stack, tcp_streams_full);
		return NULL;
	}
	s->flags = F_PASSIVE | F_HALF_OPEN;
	for (unsigned k = 0; k < sizeof(kept_flags) / sizeof(kept_flags[0]); k++) {
		if ((e->flags & kept_flags[k].kept) != 0)
			s->flags |= kept_flags[k].flag;
	}
	s->state = TCP_SYN_RCVD;
	s->listener = e->listener;
	s->rcv_nxt = s->rcv_read = s->last_ack = e->irs + 1;
	tuning_birth(s, listen_tuning(e->listener));
	s->snd_una = s->snd_wl2 = e->iss;
	s->snd_end = e->iss + 1;
	s->snd_nxt = s->snd_max = (e->flags & KEPT_SENT) != 0 ? s->snd_end : s->snd_una;
	s->snd_wl1 = e->irs;
	s->snd_wnd = s->snd_wnd_max = e->window;
	s->ts_recent = e->ts_recent;
	s->mss = e->mss;
	s->scales = e->scales;
	s->challenged = e->challenged;
	s->heard_ms = stack_now_ms(c->stack);
	s->retries = e->retries;
	for (unsigned k = 0; k < e->retries; k++)
		rto_back_off(s);
	if ((e->flags & KEPT_SENT) != 0)
		s->due_us[DUE_RETRANSMIT] = due_of(c, e);
	return s;
}

/* s becomes entry i, which is in no list, and is freed. */
static void keep(struct syn_cache *c, uint32_t i, struct stream *s)
{
	struct syn_entry *e = entry(c, i);
	bool owed = (s->flags & F_RETRANSMIT) != 0;
	uint64_t due = owed ? stack_now(c->stack) + OWED_US : s->due_us[DUE_RETRANSMIT];

	*e = (struct syn_entry){
		.key = s->key,
		.hash = s->hash,
		.iss = s->snd_una,
		.irs = s->rcv_nxt - 1,
		.ts_recent = s->ts_recent,
		.due_us = (uint32_t)due,
		.listener = s->listener,
		.window = (uint16_t)s->snd_wnd,
		.mss = s->mss,
		.scales = s->scales,
		.retries = s->retries,
		.challenged = s->challenged,
		.flags = s->snd_max != s->snd_una ? KEPT_SENT : 0,
	};
	for (unsigned k = 0; k < sizeof(kept_flags) / sizeof(kept_flags[0]); k++) {
		if ((s->flags & kept_flags[k].flag) != 0)
			e->flags |= kept_flags[k].kept;
	}
	link_entry(c, i, owed);
	flow_replace(&c->stack->flows, s->hash, (uint32_t)s->handle, FLOW_SYN | (i - 1));
	assert(s->active == NULL && !timer_armed(&s->timer));
	list_del(&s->link);
	slab_free(c->stack->streams, s->handle);
}

void syn_cache_keep(struct stream *s)
{
	struct syn_cache *c = &s->stack->syn_cache;
	uint32_t i = c->first_free;

	assert(!syn_cache_full(c));
	if (i != 0)
		c->first_free = entry(c, i)->next;
	else
		i = ++c->extent;
	c->used++;
	keep(c, i, s);
	settle(c);
}

/* Without a word: its peer will hear of it when it sends something. */
static void drop(struct syn_cache *c, uint32_t i)
{
	const struct syn_entry *e = entry(c, i);

	unlink_entry(c, i);
	listen_forget(e->listener);
	flow_remove(&c->stack->flows, e->hash, FLOW_SYN | (i - 1));
	release(c, i);
}

static bool completes(const struct syn_entry *e, const struct segment *g)
{
	return (g->flags & (WIRE_ACK | WIRE_SYN | WIRE_RST)) == WIRE_ACK && g->ack == e->iss + 1 &&
	       g->seq == e->irs + 1;
}

/* All streams are in use.  The peer of a handshake that would be complete believes that it is. */
static enum tcp_verdict no_stream(struct syn_cache *c, uint32_t i, const struct segment *g)
{
	if (!completes(entry(c, i), g))
		return TCP_REFUSED;
	output_reset_reply(c->stack, g);
	drop(c, i);
	settle(c);
	return TCP_REFUSED;
}

/* The stream has had its segment, or its timer: an entry again, or no more. */
static void settle_stream(struct syn_cache *c, uint32_t i, struct stream *s)
{
	if (s->state == TCP_SYN_RCVD) {
		keep(c, i, s);
		return;
	}
	release(c, i);
	stream_touch(s);
}

enum tcp_verdict syn_cache_input(struct tcp_stack *t, uint32_t index, struct segment *g)
{
	struct syn_cache *c = &t->syn_cache;
	uint32_t i = index + 1, before = entry(c, i)->prev, after = entry(c, i)->next;
	struct stream *s = revive(c, i);

	if (s == NULL)
		return no_stream(c, i, g);
	if (completes(entry(c, i), g))
		trace(s, TCP_EVENT_STATE, TCP_SYN_RCVD); /* of what becomes its handle */
	uint64_t due = s->due_us[DUE_RETRANSMIT];
	unlink_entry(c, i);
	enum tcp_verdict v = input_synchronized(s, g);
	bool stays = s->state == TCP_SYN_RCVD && s->due_us[DUE_RETRANSMIT] == due &&
		     (s->flags & F_RETRANSMIT) == 0;
	settle_stream(c, i, s);
	if (stays) { /* in its place among those as old */
		unlink_entry(c, i);
		link_between(c, i, before, after);
	}
	settle(c);
	return v;
}

/* The SYN-ACK goes again, or for the first time when no packet buffer was left. */
static void send_again(struct syn_cache *c, uint32_t i)
{
	struct syn_entry *e = entry(c, i);
	struct stream *s = revive(c, i);

	unlink_entry(c, i);
	if (s == NULL) {
		e->due_us = (uint32_t)stack_now(c->stack) + c->stack->config.rto_init_us;
		link_entry(c, i, false);
		return;
	}
	if ((s->flags & F_RETRANSMIT) == 0)
		timers_retransmit(s);
	if (s->state == TCP_SYN_RCVD)
		output_syn(s);
	settle_stream(c, i, s);
}

static void expire(struct timer *timer)
{
	struct syn_cache *c = container_of(timer, struct syn_cache, timer);
	uint64_t now = stack_now(c->stack);

	for (unsigned k = SYN_CACHE_LEVELS; k-- > 0;) {
		struct syn_level *l = &c->level[k];
		while (l->oldest != 0 && due_of(c, entry(c, l->oldest)) <= now)
			send_again(c, l->oldest);
	}
	settle(c);
	tcp_flush(c->stack);
}

void syn_cache_end(struct tcp_stack *t, const struct listener *l)
{
	struct syn_cache *c = &t->syn_cache;

	for (unsigned k = 0; k < SYN_CACHE_LEVELS; k++) {
		for (uint32_t i = c->level[k].oldest, next; i != 0; i = next) {
			next = entry(c, i)->next;
			if (entry(c, i)->listener == l)
				drop(c, i);
		}
	}
	settle(c);
}
