/* trace.c - a ring that is written by one store and read by walking backwards */
#include "dataplane/tcp/trace.h"

#include "dataplane/tcp/stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME(id, name, value) [TCP_EVENT_##id] = (name),
static const char *const names[TCP_EVENT_KINDS] = {TCP_EVENTS(NAME)};

const char *tcp_event_name(enum tcp_event e)
{
	return (unsigned)e < TCP_EVENT_KINDS ? names[e] : "?";
}

static const char *const states[TCP_STATES] = {
	[TCP_CLOSED] = "CLOSED",         [TCP_SYN_SENT] = "SYN_SENT",
	[TCP_SYN_RCVD] = "SYN_RCVD",     [TCP_ESTABLISHED] = "ESTABLISHED",
	[TCP_FIN_WAIT_1] = "FIN_WAIT_1", [TCP_FIN_WAIT_2] = "FIN_WAIT_2",
	[TCP_CLOSE_WAIT] = "CLOSE_WAIT", [TCP_CLOSING] = "CLOSING",
	[TCP_LAST_ACK] = "LAST_ACK",     [TCP_TIME_WAIT] = "TIME_WAIT",
};

static const char *state_name(uint32_t state)
{
	return state < TCP_STATES ? states[state] : "?";
}

static void text_change(char *text, size_t room, uint32_t value)
{
	snprintf(text, room, "%s -> %s", state_name(value >> 8), state_name(value & 255));
}

static void text_state(char *text, size_t room, uint32_t value)
{
	snprintf(text, room, "in %s", state_name(value >> 8));
}

static void text_counter(char *text, size_t room, uint32_t value)
{
	snprintf(text, room, "%s", value < tcp_counter_count ? tcp_counter_desc[value].name : "?");
}

static void text_us(char *text, size_t room, uint32_t value)
{
	snprintf(text, room, "%u ms", value / 1000);
}

static void text_starved(char *text, size_t room, uint32_t value)
{
	snprintf(text, room, "of %s", value != 0 ? "chunks" : "packet buffers");
}

/* The others are bytes. */
static void (*const texts[TCP_EVENT_KINDS])(char *text, size_t room, uint32_t value) = {
	[TCP_EVENT_STATE] = text_change,  [TCP_EVENT_TIMEOUT] = text_us,
	[TCP_EVENT_DROP] = text_counter,  [TCP_EVENT_RST_IN] = text_state,
	[TCP_EVENT_RST_OUT] = text_state, [TCP_EVENT_STARVED] = text_starved,
};

const char *tcp_event_text(const struct tcp_traced *e, char *text, size_t room)
{
	if ((unsigned)e->event < TCP_EVENT_KINDS && texts[e->event] != NULL)
		texts[e->event](text, room, e->value);
	else
		snprintf(text, room, "%u bytes", e->value);
	return text;
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
