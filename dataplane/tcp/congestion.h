/*
 * congestion.h - how much may be in flight: the window (RFC 5681, 6928, 3465) and loss recovery
 * without SACK (NewReno, RFC 6582; limited transmit, RFC 3042).
 *
 * The growth and reduction rules are a table of operations, one a algorithm.
 *
 * Runs on: the worker.  Units: bytes.
 */
#ifndef DATAPLANE_TCP_CONGESTION_H
#define DATAPLANE_TCP_CONGESTION_H

#include <stdint.h>

struct stream;

struct congestion_ops {
	const char *name;
	/* acked bytes left the network while cwnd was the limit */
	void (*grow)(struct stream *s, uint32_t acked);
	/* ssthresh after a loss with flight bytes outstanding */
	uint32_t (*threshold)(const struct stream *s, uint32_t flight);
};

extern const struct congestion_ops congestion_newreno;

void congestion_init(struct stream *s);
/* cwnd and what limited transmit adds to it */
uint32_t congestion_window(const struct stream *s);
/* snd_una has moved by acked */
void congestion_acked(struct stream *s, uint32_t acked);
void congestion_duplicate_ack(struct stream *s);
/* The retransmission timer has expired; called before retries counts it. */
void congestion_timeout(struct stream *s);
/* Nothing was sent for an RTO. */
void congestion_restart(struct stream *s);

#endif
