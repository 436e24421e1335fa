/*
 * rack.h - loss detection by time (RACK, RFC 8985 sections 5 and 6) and the tail loss probe (TLP,
 * section 7), for streams that use SACK.
 *
 * When each number was last sent is kept as runs of numbers sent at one instant: a flush is one
 * run.  A large flight needs one for each ACK of a round trip: they move into a chunk.  When there
 * are too many even so, the two neighbours closest in time become one, as late as the later of
 * them: loss is then found a little later, never too early.
 *
 * Owner: struct flight is the stream's, taken from a slab with the first data in flight, gone
 *        when all is acknowledged.
 * Runs on: the worker.  Units: microseconds, modulo 2^32 where 32 bits wide.
 */
#ifndef DATAPLANE_TCP_RACK_H
#define DATAPLANE_TCP_RACK_H

#include "dataplane/tcp/undo.h"

#include <stdbool.h>
#include <stdint.h>

struct stream;

enum { FLIGHT_FEW = 10, FLIGHT_MOST = 256 };

/* Sent last at at_us: from the end of the run before (the first: snd_una) up to `to`. */
struct flight_run {
	uint32_t to, at_us;
	bool again;  /* it was a retransmission */
	bool merged; /* of two: for a part of it at_us is too late */
};

struct flight {
	uint64_t due_us;     /* 0: off */
	uint32_t at_us, end; /* of the latest sent that is known to be delivered; with known */
	uint32_t rtt_us;     /* its round trip */
	uint32_t min_rtt_us;
	uint32_t probe_end;      /* snd_max after the probe; with probing */
	uint32_t patience_until; /* with patience: a duplicate before this number counts no more */
	uint16_t n;
	bool known;
	bool due_is_probe;
	bool probing, probe_again; /* a probe is on its way; it was a retransmission */
	uint8_t patience;          /* widens the reordering window so many times */
	uint8_t patience_left;     /* recoveries until it ends */
	struct undo undo;
	struct flight_run *run; /* few, or more->data */
	struct chunk *more;     /* NULL: they fit */
	struct flight_run few[FLIGHT_FEW];
};

void rack_sent(struct stream *s, uint32_t from, uint32_t to);
/* The peer has told of from..to, parts of which may have been known.  The round trip of what was
 * sent last of it, in us; 0: not exactly known. */
uint32_t rack_delivered(struct stream *s, uint32_t from, uint32_t to);
/* snd_una has moved: forgets what lies before it. */
void rack_cut(struct stream *s);
void rack_forget(struct stream *s);

/* Numbers before `to` that count as lost and are not SACKed. */
uint32_t rack_lost(const struct stream *s, uint32_t to);
/* The first of them, up to n bytes; false: none. */
bool rack_next_lost(const struct stream *s, uint32_t *seq, uint32_t *n);

/* After an ACK: the deadline at which more would count as lost, or that of the probe. */
void rack_schedule(struct stream *s);
/* 0: none */
uint64_t rack_due(const struct stream *s);
void rack_expired(struct stream *s);
/* The retransmission timer has expired: all is sent again anyway. */
void rack_timeout(struct stream *s);
/* A probe goes out; again: it is a retransmission. */
void rack_probe_sent(struct stream *s, bool again);

/* A retransmission was needless: more patience; a recovery is over: less of it, some time. */
void rack_duplicate_told(struct stream *s);
void rack_recovered(struct stream *s);

/* The end of a probe's episode (section 7.4). */
void rack_probe_acked(struct stream *s, uint32_t ack, bool duplicate);

#endif
