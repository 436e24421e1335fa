/* flush.c - the end of a burst: first every event, then every segment */
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"
#include "dataplane/tcp/timers.h"

enum { RETRY_US = 5000 }; /* until the starved are tried again */

static void call_opened(struct stream *s)
{
	s->events->opened(s, s->user);
}

static void call_readable(struct stream *s)
{
	s->events->readable(s, s->user);
}

static void call_writable(struct stream *s)
{
	s->flags &= ~(uint32_t)F_WANT_WRITE;
	s->events->writable(s, s->user);
}

static void call_closed(struct stream *s)
{
	s->flags |= F_RELEASED;
	s->events->closed(s, s->user, stream_end_reason(s));
}

static const struct {
	uint32_t flag;
	void (*call)(struct stream *s);
} calls[] = {
	{F_EVENT_OPENED, call_opened},
	{F_EVENT_READABLE, call_readable},
	{F_EVENT_WRITABLE, call_writable},
	{F_EVENT_CLOSED, call_closed},
};

/* A handler may release its stream: that takes back the events still to come. */
static void deliver(struct stream *s)
{
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if ((s->flags & calls[i].flag) == 0)
			continue;
		assert((s->flags & F_RELEASED) == 0);
		s->flags &= ~calls[i].flag;
		calls[i].call(s);
	}
}

static void starve(struct stream *s)
{
	struct tcp_stack *t = s->stack;

	trace(s, TCP_EVENT_STARVED, (s->flags & F_NO_MEMORY) != 0);
	s->flags |= F_STARVED;
	list_del(&s->link);
	list_push_back(&t->starved, &s->link);
	if (!timer_armed(&t->retry))
		timer_arm(t->shard->timers, &t->retry, stack_now(t) + RETRY_US);
}

void flush_retry(struct timer *timer)
{
	struct tcp_stack *t = container_of(timer, struct tcp_stack, retry);
	struct list waiting;

	list_init(&waiting);
	list_splice_back(&waiting, &t->starved);
	for (struct list *l; (l = list_pop_front(&waiting)) != NULL;) {
		struct stream *s = container_of(l, struct stream, link);
		bool memory = (s->flags & F_NO_MEMORY) != 0;

		s->flags &= ~(uint32_t)(F_STARVED | F_NO_MEMORY);
		if (memory && (s->flags & F_WANT_WRITE) != 0)
			stream_raise(s, F_EVENT_WRITABLE);
		else
			stream_touch(s);
	}
	tcp_flush(t);
}

static void finish(struct stream *s)
{
	if (s->state == TCP_CLOSED) {
		/* It may be over while the upper layer still has something to read. */
		if (!stream_is_held(s))
			state_free(s);
		return;
	}
	bool done = output_stream(s);
	if (done && s->state == TCP_TIME_WAIT && (s->flags & F_RELEASED) != 0) {
		state_shrink(s);
		state_free(s);
		return;
	}
	stream_rest(s);
	timers_settle(s);
	if (!done || (s->flags & F_NO_MEMORY) != 0)
		starve(s);
}

void tcp_flush(struct tcp_stack *t)
{
	struct list *l;

	assert(!t->flushing);
	t->flushing = true;
	while ((l = list_pop_front(&t->dirty)) != NULL) {
		struct stream *s = container_of(l, struct stream, link);

		deliver(s);
		if ((s->flags & F_EVENTS) != 0)
			continue; /* its own handler raised one more: it is in the list */
		list_del(&s->link);
		list_push_back(&t->out, &s->link);
	}
	while ((l = list_pop_front(&t->out)) != NULL)
		finish(container_of(l, struct stream, link));
	t->flushing = false;
}
