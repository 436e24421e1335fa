/*
 * time_wait.h - connections that are over but may still be heard of (RFC 9293 section 3.6.1),
 * in 64-byte entries instead of a tcb.
 *
 * Bounded: when full the oldest goes.  A SYN with a newer timestamp or a higher sequence number
 * replaces its entry (RFC 6191).  RST is ignored (RFC 1337).
 *
 * Owner: the stack.  Runs on: its worker.
 */
#ifndef DATAPLANE_TCP_TIME_WAIT_H
#define DATAPLANE_TCP_TIME_WAIT_H

#include "base/timer.h"
#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/tcp.h"

struct tcp_stack;
struct stream;
struct segment;

struct time_wait_entry {
	struct flow_key key;
	uint32_t hash;
	uint32_t snd_nxt, rcv_nxt;
	uint32_t ts_recent, ts_offset;
	uint64_t expires_us;
	uint16_t window; /* as last sent */
	bool timestamps;
	uint32_t prev, next; /* by age; index + 1, 0: none */
};

struct time_wait {
	struct tcp_stack *stack;
	struct time_wait_entry *entries;
	uint32_t limit, extent, used;
	uint32_t oldest, newest, first_free; /* index + 1 */
	struct timer timer;                  /* stands at the oldest */
};

int time_wait_init(struct time_wait *w, struct tcp_stack *t, uint32_t limit);
void time_wait_free(struct time_wait *w);

/* s, still in the flow table, becomes an entry; its slot in the table goes with it. */
void time_wait_enter(struct stream *s);
/* A segment for the entry.  true: a SYN may begin a new connection; the entry is gone and
 * *isn_above is the number its ISN must exceed. */
bool time_wait_input(struct tcp_stack *t, uint32_t index, const struct segment *g,
		     uint32_t *isn_above);

#endif
