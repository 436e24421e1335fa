/*
 * stack.h - the inside of one TCP stack: what its parts share.
 *
 * Owner: tcp_create()/tcp_destroy().  Runs on: one worker.
 */
#ifndef DATAPLANE_TCP_STACK_H
#define DATAPLANE_TCP_STACK_H

#include "base/shard.h"
#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/mtu_probe.h"
#include "dataplane/tcp/syn_cache.h"
#include "dataplane/tcp/tcb.h"
#include "dataplane/tcp/tcp.h"
#include "dataplane/tcp/time_wait.h"
#include "dataplane/tcp/trace.h"
#include "dataplane/tcp/tuning.h"

struct congestion_ops;

/* One stream's settings, with what they count. */
struct tuned {
	struct stream_tuning tuning;
	uint64_t waiting_since_us; /* data is outstanding and SND.UNA stands still since then */
	uint32_t quick_left;
};

enum { TRACE_MS_MASK = (1 << 24) - 1 };

/* The event itself is the last eight bytes. */
struct trace_entry {
	handle_t handle;
	uint32_t value;
	uint32_t ms : 24, kind : 8;
};
static_assert(sizeof(struct trace_entry) == 16, "four to a cache line");

struct trace_ring {
	struct trace_entry *entries; /* NULL: off */
	uint32_t mask;
	uint64_t next;
};

/* So many a second, a tenth of that at once. */
struct budget {
	uint64_t at_us; /* the last time it was filled up */
	uint32_t left;
};

struct tcp_stack {
	struct shard *shard;
	struct tcp_env env;
	struct tcp_config config;
	const struct congestion_ops *congestion;
	struct flow_table flows;
	struct slab *streams, *actives, *reorders, *boards, *flights;
	struct time_wait time_wait;
	struct syn_cache syn_cache;
	struct list listeners;
	struct list dirty;   /* streams with events or output to come */
	struct list out;     /* events delivered, output to come; inside tcp_flush() */
	struct list starved; /* waiting for chunks or packet buffers */
	struct timer retry;  /* runs the starved */
	struct siphash_key isn_key, cookie_key;
	uint64_t cookies_until_us; /* so long cookies may come back; 0: none was sent */
	struct budget synacks;
	struct stream_tuning tuning; /* of all streams, unless tuned */
	struct tuned *tuned;         /* by index of stream; NULL: not tunable */
	uint32_t *sent_again;        /* octets, by index of stream; touched by losses only */
	struct range duplicate;      /* what the ACK now being sent reports as one (RFC 2883) */
	uint64_t challenge_second;   /* RFC 5961 section 7 */
	uint32_t challenge_left;
	uint64_t ip_id; /* state of a small generator: consecutive ids tell nothing */
	struct mtu_probes mtu_probes;
	struct trace_ring trace;
	bool flushing, stopped;
	uint64_t counters[tcp_counter_count];
};

static inline void count(struct tcp_stack *t, enum tcp_counter c)
{
	counter_inc(&t->counters[c]);
}

static inline uint64_t stack_now(const struct tcp_stack *t)
{
	return t->shard->now_us;
}

static inline uint32_t stack_now_ms(const struct tcp_stack *t)
{
	return (uint32_t)(t->shard->now_us / 1000);
}

/* The clock of timestamps (RFC 7323 section 5.4) */
static inline uint32_t stack_ticks(const struct tcp_stack *t)
{
	return (uint32_t)(t->shard->now_us / t->config.ts_tick_us);
}

static inline const struct stream_tuning *stream_tuning(const struct stream *s)
{
	const struct tcp_stack *t = s->stack;

	return t->tuned != NULL ? &t->tuned[(uint32_t)s->handle].tuning : &t->tuning;
}

static inline void trace(const struct stream *s, enum tcp_event e, uint32_t value)
{
	struct trace_ring *r = &s->stack->trace;

	if (r->entries != NULL)
		r->entries[r->next++ & r->mask] =
			(struct trace_entry){.handle = s->handle,
					     .value = value,
					     .ms = stack_now_ms(s->stack) & TRACE_MS_MASK,
					     .kind = (uint32_t)e & 255};
}

/* A segment of s comes to nothing. */
static inline void count_drop(const struct stream *s, enum tcp_counter why)
{
	count(s->stack, why);
	trace(s, TCP_EVENT_DROP, why);
}

static inline void stream_enter(struct stream *s, enum tcp_state state)
{
	trace(s, TCP_EVENT_STATE, (uint32_t)s->state << 8 | state);
	s->state = state;
}

/* Output, timer or event work is to come at the next flush. */
static inline void stream_touch(struct stream *s)
{
	if (list_empty(&s->link) || (s->flags & F_STARVED) != 0) {
		list_del(&s->link);
		s->flags &= ~(uint32_t)F_STARVED;
		list_push_back(&s->stack->dirty, &s->link);
	}
}

/* An event (F_EVENT_...) waits for the next flush, or the present one. */
static inline void stream_raise(struct stream *s, uint32_t event)
{
	s->flags = (s->flags | event) & ~(uint32_t)F_STARVED;
	list_del(&s->link);
	list_push_back(&s->stack->dirty, &s->link);
}

/* FLOW_NONE, a stream's index, or an entry's with its FLOW_ tag. */
uint32_t stack_find(const struct tcp_stack *t, const struct flow_key *key, uint32_t hash);
/* The callback of stack.retry. */
void flush_retry(struct timer *timer);

const struct congestion_ops *stream_congestion(const struct stream *s);

int trace_init(struct trace_ring *r, uint32_t events);
void trace_free(struct trace_ring *r);

int tuning_init(struct tcp_stack *t);
void tuning_free(struct tcp_stack *t);
/* A new stream gets its set. */
void tuning_birth(struct stream *s, const struct stream_tuning *set);
/* SND.UNA moved, or something has just become outstanding. */
void tuning_progress(struct stream *s);
/* When the user timeout passes; UINT64_MAX: never. */
uint64_t tuning_patience_ends(const struct stream *s);
/* Is the segment just received to be acknowledged at once?  Counts it. */
bool tuning_acks_quickly(struct stream *s);

/* The active block, taken if need be; NULL when memory is short. */
struct active *stream_active(struct stream *s);
/* Gives it back when nothing is queued. */
void stream_rest(struct stream *s);

#endif
