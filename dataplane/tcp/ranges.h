/* ranges.h - a small sorted array of disjoint, not adjacent ranges of sequence numbers: what the
 * receiver holds beyond a hole, what the peer has SACKed.  Pure functions. */
#ifndef DATAPLANE_TCP_RANGES_H
#define DATAPLANE_TCP_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint32_t from, to; /* to: one past */
};

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
