/*
 * sack.h - selective acknowledgment: the sender's scoreboard (RFC 2018) and proportional rate
 * reduction (RFC 6937), the receiver's blocks.  What is lost, rack.h decides.
 *
 * Owner: the scoreboard is the stream's, taken from a slab with the first block, gone when all
 *        is acknowledged or the timer expires (the peer may have reneged, RFC 2018 section 8).
 * Runs on: the worker.  Units: bytes and sequence numbers.
 */
#ifndef DATAPLANE_TCP_SACK_H
#define DATAPLANE_TCP_SACK_H

#include "dataplane/tcp/ranges.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream;
struct segment;

enum { SACK_FEW = 26 };

struct scoreboard {
	uint16_t n;
	uint32_t delivered, out, flight; /* PRR: since recovery began; flight: at its begin */
	struct range *sacked;            /* few, or more->data */
	struct chunk *more;              /* NULL: they fit */
	struct range few[SACK_FEW];
};

/* Notes the valid blocks of g; blocks of what was never sent count nothing.  true: one told of a
 * duplicate (D-SACK, RFC 2883: it lies before the acknowledgment). */
bool sack_learn(struct stream *s, const struct segment *g);
/* snd_una has moved. */
void sack_advance(struct stream *s);
/* Forgets everything. */
void sack_forget(struct stream *s);

/* Numbers SACKed between snd_una and to. */
uint32_t sack_covered(const struct stream *s, uint32_t to);
uint32_t sack_between(const struct stream *s, uint32_t from, uint32_t to);
/* RFC 6675 IsLost(): everything before this number that is not SACKed is lost; snd_una: nothing. */
uint32_t sack_lost_edge(const struct stream *s);
/* What is thought to be in the network. */
uint32_t sack_pipe(const struct stream *s);
/* Where the SACKed range that holds seq ends; seq itself if none does. */
uint32_t sack_skip(const struct stream *s, uint32_t seq);
/* The next SACKed number from seq on, at most end. */
uint32_t sack_hole_end(const struct stream *s, uint32_t seq, uint32_t end);

/* Recovery begins; each ACK in it that delivered so many bytes sets cwnd. */
void sack_begin_recovery(struct stream *s);
void sack_reduce(struct stream *s, uint32_t delivered);
void sack_sent(struct stream *s, uint32_t n);

/* Writes the SACK option for an ACK into room bytes; its size, 0 if there is nothing to tell. */
size_t sack_write(const struct stream *s, uint8_t *to, size_t room);

#endif
