/* rto.h - round-trip estimate and retransmission timeout (RFC 6298).
 * Units: microseconds.  Runs on: the worker. */
#ifndef DATAPLANE_TCP_RTO_H
#define DATAPLANE_TCP_RTO_H

#include <stdint.h>

struct stream;

void rto_init(struct stream *s);
void rto_sample(struct stream *s, uint64_t rtt_us);
/* Doubles it, up to the configured ceiling (5.5). */
void rto_back_off(struct stream *s);

#endif
