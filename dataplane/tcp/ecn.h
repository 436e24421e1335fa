/*
 * ecn.h - explicit congestion notification (RFC 3168): agreed on in the handshake; marks received
 * are echoed until the peer says that it has reduced its window; echoes reduce ours, once a round
 * trip.
 *
 * Runs on: the worker.
 */
#ifndef DATAPLANE_TCP_ECN_H
#define DATAPLANE_TCP_ECN_H

#include <stdbool.h>
#include <stdint.h>

struct header_segment;
struct segment;
struct stream;
struct tcp_stack;

/* ECE and CWR of our SYN or SYN-ACK (section 6.1.1). */
uint8_t ecn_syn_flags(const struct stream *s);
/* Does this SYN ask for ECN, and do we grant it? */
bool ecn_asked_for(const struct tcp_stack *t, uint8_t syn_flags);
/* What the peer's SYN or SYN-ACK says; of several SYNs the last counts. */
void ecn_learn_syn(struct stream *s, uint8_t flags);

/* The rest is for streams with F_ECN. */
/* An acceptable segment: marks, and the peer's CWR. */
void ecn_received(struct stream *s, const struct segment *g);
/* An acknowledgment with ECE. */
void ecn_echoed(struct stream *s);
/* Header bits of a segment about to be sent; only new data may be marked on its way. */
void ecn_mark(const struct stream *s, const struct header_segment *h, uint8_t *flags, uint8_t *tos);

/* The window was reduced for another reason: the next new segment says so.  Any stream. */
void ecn_reduced(struct stream *s);

#endif
