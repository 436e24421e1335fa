/*
 * mtu_probe.h - a larger segment size again, ten minutes after a smaller one was called for (RFC
 * 1191 section 6.3, RFC 8201 section 4): one segment of the former size is sent, and only when it
 * is acknowledged without having been sent again do others follow (RFC 4821 section 7).  Lost, it
 * goes again in segments of the smaller size, and ten minutes later there is another try.
 *
 * Owner: the stack.  A few streams at a time; one that finds no place keeps its smaller size.
 * Runs on: its worker.
 */
#ifndef DATAPLANE_TCP_MTU_PROBE_H
#define DATAPLANE_TCP_MTU_PROBE_H

#include "base/slab.h"
#include "base/timer.h"

#include <stdbool.h>
#include <stdint.h>

struct stream;
struct tcp_stack;

enum { MTU_PROBES = 32 };

struct mtu_probe {
	handle_t stream; /* 0: free */
	uint64_t due_us;
	uint32_t from, end; /* with out: the numbers of the probe */
	uint16_t size;      /* of payload, as before */
	bool ready, out;    /* the next segment may be one; it is on its way */
};

struct mtu_probes {
	struct mtu_probe probe[MTU_PROBES];
	unsigned active; /* ready or out: somebody has to look */
	struct timer timer;
};

void mtu_probe_init(struct tcp_stack *t);
void mtu_probe_free(struct tcp_stack *t);
/* The segment size of s falls, from `before`. */
void mtu_probe_lowered(struct stream *s, uint16_t before);

/* The three below are for streams of a stack with active probes. */

/* How many bytes the segment at SND.NXT may have: s->mss, or more. */
uint32_t mtu_probe_size(struct stream *s, uint32_t queued, uint32_t window);
/* from..to goes out, again or for the first time. */
void mtu_probe_sent(struct stream *s, uint32_t from, uint32_t to, bool again);
/* SND.UNA has moved. */
void mtu_probe_acked(struct stream *s);
/* A router could not pass it on: true if s had a probe out. */
bool mtu_probe_refused(struct stream *s);

#endif
