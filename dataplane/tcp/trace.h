/*
 * trace.h - the last events of all connections: always on, 16 bytes each in one ring a stack.
 *
 * Rare things are noted, never a segment that went well: state changes, retransmissions, windows
 * that close, drops.  Addresses and payload are not in it.
 *
 * Owner: the stack; its size is tcp_config.trace_events, the oldest event gives way.
 * Runs on: the worker; a reader elsewhere asks the worker for it.
 * Units: microseconds of shard.now_us, with the precision of a millisecond; an event older than
 *        four and a half hours shows a time that is later by a multiple of that.
 */
#ifndef DATAPLANE_TCP_TRACE_H
#define DATAPLANE_TCP_TRACE_H

#include "base/slab.h"

#include <stddef.h>
#include <stdint.h>

struct tcp_stack;

/* name, what the value is */
#define TCP_EVENTS(X)                                                   \
	X(STATE, "state", "the old state times 256 plus the new")       \
	X(RETRANSMIT, "retransmit", "bytes")                            \
	X(TIMEOUT, "timeout", "the timer that expired, us")             \
	X(RECOVERY, "recovery", "the new ssthresh, bytes")              \
	X(UNDONE, "undone", "cwnd, bytes: the reduction was needless")  \
	X(TAIL_PROBE, "tail probe", "bytes in flight")                  \
	X(MARKED, "marked", "the new cwnd, bytes")                      \
	X(MSS, "mss", "the new segment size, bytes")                    \
	X(PEER_WINDOW, "peer window", "bytes: it closed, or opened")    \
	X(OUR_WINDOW, "our window", "bytes unread as it closed")        \
	X(DROP, "drop", "the counter (enum tcp_counter) that says why") \
	X(RST_IN, "rst in", "the state times 256")                      \
	X(RST_OUT, "rst out", "the state times 256")                    \
	X(STARVED, "starved", "1: of chunks; 0: of packet buffers")

#define TCP_EVENT_ENUM(id, name, value) TCP_EVENT_##id,
enum tcp_event { TCP_EVENTS(TCP_EVENT_ENUM) TCP_EVENT_KINDS };

struct tcp_traced {
	handle_t handle; /* stream_handle() */
	uint64_t at_us;
	enum tcp_event event;
	uint32_t value;
};

/* The latest n events of one stream (of: 0: of all), the oldest first; how many there are. */
unsigned tcp_trace_read(const struct tcp_stack *t, handle_t of, struct tcp_traced *to, unsigned n);
const char *tcp_event_name(enum tcp_event e);
/* The value in words: "ESTABLISHED -> CLOSE_WAIT", "1448 bytes". */
const char *tcp_event_text(const struct tcp_traced *e, char *text, size_t room);

#endif
