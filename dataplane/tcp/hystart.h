/*
 * hystart.h - leaving slow start before the queue overflows (HyStart++, RFC 9406): a round trip
 * that grows by an eighth turns to conservative slow start, and five rounds of that end it.  That
 * tells of a queue a round trip late, when the window has doubled again; so a train of ACKs half a
 * round trip long ends it at once.
 *
 * Works where round trips are known for every ACK: with SACK (rack.h), in the first slow start.
 *
 * Runs on: the worker.  Units: microseconds.
 * Source: RFC 9406; for the train S. Ha, I. Rhee, "Taming the elephants: New TCP slow start",
 *         Computer Networks 55 (2011), section 4.1.
 */
#ifndef DATAPLANE_TCP_HYSTART_H
#define DATAPLANE_TCP_HYSTART_H

#include <stdbool.h>
#include <stdint.h>

struct stream;

/* All zero: no round yet.  A minimum of 0: none. */
struct hystart {
	uint32_t window_end; /* the round ends when this number is acknowledged */
	uint32_t last_min_us, current_min_us;
	uint32_t began_us, train_us; /* the round; its latest ACK close to the one before */
	uint32_t baseline_us; /* with conservative: what the round trip was when that began */
	uint8_t samples;      /* in this round, up to a limit */
	uint8_t rounds;       /* conservative ones */
	bool running, conservative;
};

/* snd_una has moved; rtt_us: of the latest segment acknowledged, 0: not known. */
void hystart_acked(struct stream *s, uint32_t rtt_us);
/* By how much slow start is to be slowed down now. */
uint32_t hystart_divisor(const struct stream *s);

#endif
