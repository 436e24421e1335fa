/*
 * congestion.h - how much may be in flight: the window (RFC 5681, 6928, 3465) and loss recovery
 * (NewReno, RFC 6582, with limited transmit, RFC 3042; or, where SACK was negotiated, sack.h).
 *
 * The growth and reduction rules are a table of operations, one a algorithm.
 *
 * Runs on: the worker.  Units: bytes.
 */
#ifndef DATAPLANE_TCP_CONGESTION_H
#define DATAPLANE_TCP_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

struct stream;

/* RFC 9438; all zero: no epoch yet */
struct cubic {
	uint64_t epoch_us, grown_us; /* begin of the epoch; the last growth */
	uint32_t k_ms;               /* until the curve is back at w_max */
	uint32_t w_max, w_est;       /* bytes */
	uint32_t w_prior;            /* cwnd at the loss */
};

struct congestion_ops {
	const char *name;
	/* acked bytes left the network while cwnd was the limit */
	void (*grow)(struct stream *s, uint32_t acked);
	/* A loss, found by the timer if timeout, with flight bytes outstanding: the new ssthresh */
	uint32_t (*threshold)(struct stream *s, uint32_t flight, bool timeout);
};

extern const struct congestion_ops congestion_newreno, congestion_cubic;

/* Slow start as all algorithms do it; false: cwnd is past ssthresh. */
bool congestion_slow_start(struct stream *s, uint32_t acked);

void congestion_init(struct stream *s);
/* What may still be sent by cwnd alone */
uint32_t congestion_room(const struct stream *s);
/* snd_una has moved by acked */
void congestion_acked(struct stream *s, uint32_t acked);
void congestion_duplicate_ack(struct stream *s);
/* Where SACK was negotiated: an ACK has told of so many bytes delivered. */
void congestion_delivered(struct stream *s, uint32_t delivered);
/* The peer has seen a mark of congestion (RFC 3168); false: the window was reduced already. */
bool congestion_marked(struct stream *s);
/* A tail loss probe has repaired a loss that no recovery was told of. */
void congestion_probe_repaired(struct stream *s);
/* The retransmission timer has expired; called before retries counts it. */
void congestion_timeout(struct stream *s);
/* Nothing was sent for an RTO. */
void congestion_restart(struct stream *s);

#endif
