/*
 * tcp_peer.h - what the measurements of TCP share: segments of a peer that is not there, made
 * before the clock runs; the floor that a figure stands beside; a row of the table.
 *
 * Owner: the measurement.  Units: bytes, nanoseconds.
 */
#ifndef PERF_TCP_PEER_H
#define PERF_TCP_PEER_H

#include "perf/tcp_side.h"

enum {
	PORT = 25,
	BURST = 32,
	REPEATS = 5,
	SEGMENT_BYTES = 160, /* room for a small segment */
};

uint64_t now_ns(void);

/* One segment of a peer. */
struct input {
	struct ip_addr peer;
	uint16_t port;
	uint8_t flags;
	uint32_t seq, ack, bytes;
};

/* Into h, SEGMENT_BYTES long; p refers to it. */
void build(const struct side *s, uint8_t *h, const struct input *in, struct tcp_packet *p);

/* All segments of a measurement, made before it begins. */
struct prepared {
	uint8_t *bytes;
	struct tcp_packet *packet;
	uint32_t n;
};

/* Room for n; each is added to the end. */
struct prepared prepare(uint32_t n);
void add(struct prepared *p, const struct side *s, const struct input *in);
void release(struct prepared *p);
/* ns of one segment, in bursts; one_by_one: without the fetching ahead of tcp_input_burst(). */
double feed_by(struct side *s, const struct prepared *p, bool one_by_one);
double feed(struct side *s, const struct prepared *p);

/* The floor of n packets of so many bytes: each copied and summed once, over as much memory as
 * the real ones take. */
double floor_ns(uint32_t n, uint32_t bytes, uint32_t stride);
void row(const char *what, double ns, const char *floor, double floor_of_it);

#endif
