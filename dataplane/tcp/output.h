/*
 * output.h - from a stream's state to packets.
 *
 * Owner: buffers are the environment's and go back to it with every call.
 * Runs on: the worker.
 * Errors: false when the environment had no buffer; no state is lost, the stream is starved and
 *         tried again.
 */
#ifndef DATAPLANE_TCP_OUTPUT_H
#define DATAPLANE_TCP_OUTPUT_H

#include "dataplane/tcp/flow_table.h"

#include <stdbool.h>
#include <stdint.h>

struct stream;
struct tcp_stack;
struct segment;
struct tcp_options;

/* All that the state of s calls for: SYN, retransmission, new data, FIN, ACK. */
bool output_stream(struct stream *s);
/* An ACK at once: out-of-order data must draw one duplicate ACK a segment (RFC 5681 4.2). */
void output_ack(struct stream *s);
/* The same under the rate limit (RFC 5961 section 7). */
void output_challenge_ack(struct stream *s);
void output_syn(struct stream *s);
void output_reset(struct stream *s);

/* Segments without a stream. */
struct bare_segment {
	const struct flow_key *key;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	const struct tcp_options *syn; /* options of a SYN; NULL: timestamps decides */
	bool timestamps;
	uint32_t ts_value, ts_echo;
};
void output_bare(struct tcp_stack *t, const struct bare_segment *b);
/* The RST that g deserves (RFC 9293 section 3.10.7.1). */
void output_reset_reply(struct tcp_stack *t, const struct segment *g);
/* Whether the budget has room for one more challenge ACK; takes it. */
bool output_challenge_allowed(struct tcp_stack *t);

/* The MSS we announce to this peer; bound: of the stream's tuning, 0: none. */
uint16_t output_mss(const struct stream *s);
uint16_t output_mss_to(const struct tcp_stack *t, const struct flow_key *peer, uint16_t bound);

#endif
