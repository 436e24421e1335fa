/*
 * ranges.h - a sorted array of disjoint, not adjacent ranges of sequence numbers: what the receiver
 * holds beyond a hole, what the peer has SACKed.
 *
 * Owner: an array begins inside its user's struct and moves into one 4 KiB chunk when it outgrows
 *        that (a queue that overflowed drops every other segment: hundreds of ranges); it never
 *        grows further, so a flood of tiny pieces costs bounded memory.
 * Pure functions but for ranges_grow().
 */
#ifndef DATAPLANE_TCP_RANGES_H
#define DATAPLANE_TCP_RANGES_H

#include "base/chunk.h"

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint32_t from, to; /* to: one past */
};

/* Room in a chunk. */
enum { RANGES_MOST = (4096 - sizeof(struct chunk)) / sizeof(struct range) };

/* Moves the n ranges at *r into a chunk; false: they are in one already, or there is none. */
bool ranges_grow(struct chunk_pool *p, struct range **r, unsigned n, struct chunk **chunk);

/* Whether from..to can be noted among n of at most room: it touches one, or there is a place. */
bool ranges_fit(const struct range *r, unsigned n, unsigned room, uint32_t from, uint32_t to);
/* Notes from..to, merging what it touches; the new n. */
unsigned ranges_add(struct range *r, unsigned n, uint32_t from, uint32_t to);
/* Drops what lies before edge; the new n. */
unsigned ranges_cut(struct range *r, unsigned n, uint32_t edge);
/* Numbers covered between from and to. */
uint32_t ranges_covered(const struct range *r, unsigned n, uint32_t from, uint32_t to);
/* The first range that ends after seq; n if none. */
unsigned ranges_after(const struct range *r, unsigned n, uint32_t seq);

#endif
