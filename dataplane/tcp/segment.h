/* segment.h - a received segment, taken apart and checked.
 * Runs on: the worker.  Owner: the caller; data points into the packet. */
#ifndef DATAPLANE_TCP_SEGMENT_H
#define DATAPLANE_TCP_SEGMENT_H

#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/tcp.h"
#include "dataplane/tcp/wire.h"

struct segment {
	struct flow_key key;
	uint32_t seq, ack;
	uint32_t bytes;  /* of payload */
	uint16_t window; /* as on the wire */
	uint8_t flags;   /* WIRE_... */
	bool ce;         /* a router has marked the packet (RFC 3168) */
	bool unscaled;   /* the window field is of a SYN */
	const uint8_t *data;
	struct tcp_options options;
};

enum tcp_verdict segment_parse(struct tcp_stack *t, const struct tcp_packet *p, struct segment *g);

/* Sequence numbers it covers (SEG.LEN of RFC 9293). */
static inline uint32_t segment_length(const struct segment *g)
{
	return g->bytes + ((g->flags & WIRE_SYN) != 0) + ((g->flags & WIRE_FIN) != 0);
}

#endif
