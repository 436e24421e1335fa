/*
 * tcb.h - the state of one connection, laid out by cache line.
 *
 * A struct stream is 256 bytes and holds no queue: what exists only while data is queued or in
 * flight lives in a struct active, and the list of out-of-order ranges in a struct reorder,
 * both taken from slabs on demand and given back.
 *
 * Owner: the stack (slab); freed only at the end of tcp_flush(), so that a pointer stays good
 *        through every handler.
 * Runs on: the worker of the stack.
 * Units: bytes, microseconds, sequence numbers.
 * Source: RFC 9293 section 3.3.1.
 */
#ifndef DATAPLANE_TCP_TCB_H
#define DATAPLANE_TCP_TCB_H

#include "base/chunk.h"
#include "base/list.h"
#include "base/timer.h"
#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/hystart.h"
#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/ranges.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/stream.h"

#include <assert.h>

/* LISTEN is struct listener's; most TIME_WAITs live in time_wait.h. */
enum tcp_state {
	TCP_CLOSED,
	TCP_SYN_SENT,
	TCP_SYN_RCVD,
	TCP_ESTABLISHED,
	TCP_FIN_WAIT_1,
	TCP_FIN_WAIT_2,
	TCP_CLOSE_WAIT,
	TCP_CLOSING,
	TCP_LAST_ACK,
	TCP_TIME_WAIT,
	TCP_STATES
};

enum {
	F_TIMESTAMPS = 1 << 0, /* negotiated */
	F_SCALING = 1 << 1,    /* negotiated */
	F_PASSIVE = 1 << 2,    /* accepted, not connected */
	F_RELEASED = 1 << 3,   /* the upper layer has let go: no events */
	F_FIN_QUEUED = 1 << 4, /* our FIN follows the last queued byte */
	F_FIN_RECEIVED = 1 << 5,
	F_FIN_AHEAD = 1 << 6, /* a FIN arrived beyond a hole: reorder->fin_seq */
	F_ACK_NOW = 1 << 7,
	F_WANT_WRITE = 1 << 8,    /* stream_write() took less than offered */
	F_STARVED = 1 << 9,       /* a chunk or packet buffer was missing: try again soon */
	F_RECOVERY = 1 << 10,     /* fast recovery until active->recover is acknowledged */
	F_LOSS = 1 << 11,         /* after a timeout, until active->recover is acknowledged */
	F_RETRANSMIT = 1 << 12,   /* the segment at snd_una is to be sent again */
	F_CWND_LIMITED = 1 << 13, /* cwnd, not data or the peer, held back the last burst */
	F_PERSIST = 1 << 14,      /* due_us[DUE_RETRANSMIT] is the persist timer */
	F_SYN_RESENT = 1 << 15,   /* RFC 6298 section 5.7 */
	F_TIMING = 1 << 16,       /* active->timed_seq is being timed */
	F_OPENED = 1 << 17,       /* the upper layer has seen `opened`, or began the connect */
	F_HALF_OPEN = 1 << 18,    /* counts against its listener's backlog */
	F_PROBE = 1 << 19,        /* a window or keepalive probe is to be sent */
	F_OVERRIDE = 1 << 20,     /* a small piece may go (persist timer passed) */
	F_NO_MEMORY = 1 << 21,    /* stream_write() found no chunk */
	F_SACK = 1 << 22,         /* negotiated */
	F_REORDERED = 1 << 23,    /* the path has been seen to reorder (RFC 8985) */
	F_TAIL_PROBE = 1 << 28,   /* a tail loss probe is to be sent */
	F_ECN = 1 << 29,          /* negotiated */
	F_ECN_ECHO = 1 << 30,     /* a mark was received, and no CWR since */
	F_CWR = 1u << 31,         /* the next new segment says that the window was reduced */
	/* events that wait for tcp_flush(), delivered in this order */
	F_EVENT_OPENED = 1 << 24,
	F_EVENT_READABLE = 1 << 25,
	F_EVENT_WRITABLE = 1 << 26,
	F_EVENT_CLOSED = 1 << 27,
	F_EVENTS = F_EVENT_OPENED | F_EVENT_READABLE | F_EVENT_WRITABLE | F_EVENT_CLOSED,
};

/* Deadlines of a stream; one wheel timer stands at the earliest. */
enum { DUE_RETRANSMIT, DUE_ACK, DUE_IDLE, DUES };

enum { REORDER_FEW = 26, REORDER_RECENT = 4 };

/* What arrived beyond rcv_nxt: sorted, disjoint, not adjacent. */
struct reorder {
	uint16_t n;
	uint32_t fin_seq;                /* with F_FIN_AHEAD */
	uint32_t recent[REORDER_RECENT]; /* begins of the latest segments, the latest first */
	struct range *range;             /* few, or more->data */
	struct chunk *more;              /* NULL: they fit */
	struct range few[REORDER_FEW];
};

/* Exists while data is queued either way. */
struct active {
	/* send queue; chunk->spare is the sequence number of data[0] */
	struct chunk *snd_head, *snd_tail;
	struct chunk *snd_cursor; /* where the last slice ended, a hint */
	/* receive queue, sorted, may have holes; chunk->spare as above */
	struct chunk *rcv_head, *rcv_tail;
	struct reorder *reorder;  /* NULL: no hole */
	uint64_t timed_at_us;     /* when timed_seq was sent */
	struct scoreboard *board; /* NULL: nothing SACKed */
	struct flight *flight;    /* NULL: nothing in flight, or no SACK */
	handle_t handle, reorder_handle, board_handle, flight_handle;
	uint32_t timed_seq; /* the end of the segment being timed */
	uint32_t rcv_grid;  /* chunks start at rcv_grid + k * capacity */
	uint32_t recover;   /* RFC 6582 */
	struct cubic cubic;
	uint32_t acked_bytes; /* towards the next segment of cwnd (RFC 3465) */
	uint32_t marks_until; /* with marks_seen: marks before this number count no more */
	bool marks_seen;      /* RFC 3168 section 6.1.2 */
	struct hystart hystart;
};

struct listener;

struct stream {
	/* line 0: read by every look-up; the last two lead to everything else */
	struct flow_key key;
	uint32_t hash;
	uint8_t state : 4;        /* enum tcp_state */
	uint8_t ack_segments : 4; /* received and not acknowledged */
	uint8_t dupacks;          /* since snd_una moved */
	uint8_t retries;          /* timeouts since snd_una moved */
	uint8_t probes;           /* window or keepalive probes unanswered */
	uint32_t flags;
	struct active *active;
	struct tcp_stack *stack;

	/* line 1: read and written by every segment */
	uint32_t snd_una, snd_nxt;
	uint32_t snd_max; /* highest ever sent; snd_nxt falls back behind it after a timeout */
	uint32_t snd_end; /* one past the last queued byte; the FIN's number */
	uint32_t snd_wnd, snd_wl1, snd_wl2;
	uint32_t snd_wnd_max; /* the largest window the peer has offered */
	uint32_t rcv_nxt;
	uint32_t rcv_read;  /* next byte for the upper layer */
	uint32_t rcv_right; /* right edge of the window; never moves left */
	uint32_t rcv_limit;
	uint32_t cwnd, ssthresh;
	uint32_t ts_recent;
	uint32_t last_ack; /* rcv_nxt of the last segment sent */

	/* line 2: timing */
	uint32_t srtt_us, rttvar_us, rto_us;
	uint32_t sent_ms;      /* last data sent */
	uint64_t due_us[DUES]; /* 0: off */
	uint16_t mss;          /* largest payload we send, options deducted */
	uint8_t scales;        /* snd << 4 | rcv */
	uint8_t challenged;    /* when the last challenge ACK went, output.c's unit */
	uint32_t ts_offset;
	uint32_t heard_ms; /* last acceptable segment */
	uint32_t snd_limit;
	handle_t handle;

	/* line 3: membership and the upper layer */
	struct list link; /* stack's dirty, out or starved list */
	struct timer timer;
	const struct stream_events *events;
	union {
		void *user;
		struct listener *listener; /* until `opened`, F_PASSIVE */
	};
};

/* Lines of 64: 36+4+4+4+8+8; 16*4; 12+4+24+2+1+1+4+4+4+8; 16+32+8+8 */
static_assert(sizeof(struct stream) == 256, "a tcb is four cache lines");
static_assert(offsetof(struct stream, snd_una) == 64, "line 1");
static_assert(offsetof(struct stream, srtt_us) == 128, "line 2");
static_assert(offsetof(struct stream, link) == 192, "line 3");
static_assert(sizeof(struct active) <= 192, "an active block is three cache lines");
static_assert(sizeof(struct reorder) <= 256, "26 ranges in four cache lines");
static_assert(sizeof(struct flight) <= 256, "10 runs in four cache lines");
static_assert(sizeof(struct scoreboard) <= 256, "26 ranges in four cache lines");

static inline unsigned snd_scale(const struct stream *s)
{
	return s->scales >> 4;
}

static inline unsigned rcv_scale(const struct stream *s)
{
	return s->scales & 15;
}

/* F_EVENT_CLOSED needs a reason; ack_segments is of no use any more by then. */
static inline enum stream_end stream_end_reason(const struct stream *s)
{
	return (enum stream_end)s->ack_segments;
}

/* Can the upper layer still be reached through s? */
static inline bool stream_is_held(const struct stream *s)
{
	return (s->flags & (F_RELEASED | F_OPENED)) == F_OPENED;
}

#endif
