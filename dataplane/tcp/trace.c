/* trace.c - a ring that is written by one store and read by walking backwards */
#include "dataplane/tcp/trace.h"

#include "dataplane/tcp/stack.h"

#include <errno.h>
#include <stdlib.h>

#define NAME(id, name, value) [TCP_EVENT_##id] = (name),
static const char *const names[TCP_EVENT_KINDS] = {TCP_EVENTS(NAME)};

const char *tcp_event_name(enum tcp_event e)
{
	return (unsigned)e < TCP_EVENT_KINDS ? names[e] : "?";
}

int trace_init(struct trace_ring *r, uint32_t events)
{
	*r = (struct trace_ring){.mask = events - 1};
	if (events == 0)
		return 0;
	r->entries = calloc(events, sizeof(*r->entries));
	return r->entries == NULL ? -ENOMEM : 0;
}

void trace_free(struct trace_ring *r)
{
	free(r->entries);
	r->entries = NULL;
}

static struct tcp_traced unpack(const struct tcp_stack *t, const struct trace_entry *e)
{
	uint64_t now_ms = stack_now(t) / 1000;
	uint64_t age_ms = (now_ms - e->ms) & TRACE_MS_MASK;

	return (struct tcp_traced){.handle = e->handle,
				   .at_us = (now_ms - age_ms) * 1000,
				   .event = (enum tcp_event)e->kind,
				   .value = e->value};
}

unsigned tcp_trace_read(const struct tcp_stack *t, handle_t of, struct tcp_traced *to, unsigned n)
{
	const struct trace_ring *r = &t->trace;
	uint64_t held = r->next <= r->mask ? r->next : (uint64_t)r->mask + 1;
	unsigned found = 0;

	if (r->entries == NULL)
		return 0;
	for (uint64_t back = 1; back <= held && found < n; back++) {
		const struct trace_entry *e = &r->entries[(r->next - back) & r->mask];
		if (of == 0 || e->handle == of)
			to[found++] = unpack(t, e);
	}
	for (unsigned i = 0; i < found / 2; i++) {
		struct tcp_traced swap = to[i];
		to[i] = to[found - 1 - i];
		to[found - 1 - i] = swap;
	}
	return found;
}
