/*
 * syn_cache.h - half-open connections in entries of 80 bytes instead of a tcb.
 *
 * For the length of one segment, or to send the SYN-ACK again, an entry is a stream in SYN_RCVD;
 * established, it stays one.  Entries of as many retransmissions wait equally long, so that a list
 * by age each and one timer do.
 *
 * Owner: the stack; bounded by SYN_CACHE_BACKLOGS full backlogs, beyond which there are cookies.
 * Runs on: its worker.  Units: microseconds, modulo 2^32.
 * Source: RFC 4987 section 3.3.
 */
#ifndef DATAPLANE_TCP_SYN_CACHE_H
#define DATAPLANE_TCP_SYN_CACHE_H

#include "base/timer.h"
#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/tcp.h"

struct tcp_stack;
struct stream;
struct segment;
struct listener;

enum { SYN_CACHE_BACKLOGS = 4, SYN_CACHE_LEVELS = 8 };

struct syn_entry {
	struct flow_key key;
	uint32_t hash;
	uint32_t iss, irs; /* our number, the peer's */
	uint32_t ts_recent;
	uint32_t due_us; /* the SYN-ACK goes again */
	struct listener *listener;
	uint32_t prev, next; /* of its level, or free; + 1, 0: none */
	uint16_t window;     /* of the SYN */
	uint16_t mss;        /* as of the stream */
	uint8_t scales, retries, challenged;
	uint8_t flags; /* syn_cache.c's */
};

struct syn_cache {
	struct tcp_stack *stack;
	struct syn_entry *entries;
	uint32_t limit, extent, used, first_free;
	struct syn_level {
		uint32_t oldest, newest;
	} level[SYN_CACHE_LEVELS]; /* by retransmissions */
	struct timer timer;
};

int syn_cache_init(struct syn_cache *c, struct tcp_stack *t, uint32_t limit);
void syn_cache_free(struct syn_cache *c);
bool syn_cache_full(const struct syn_cache *c);
/* A stream in SYN_RCVD whose SYN-ACK has gone, or should have, becomes an entry; it is freed. */
void syn_cache_keep(struct stream *s);
/* A segment for entry index; g may be trimmed. */
enum tcp_verdict syn_cache_input(struct tcp_stack *t, uint32_t index, struct segment *g);
/* A listener ends, and what is half open on it. */
void syn_cache_end(struct tcp_stack *t, const struct listener *l);

#endif
