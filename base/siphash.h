/* siphash.h - SipHash-2-4, the keyed hash wherever a peer chooses the input (flow table, ISN,
 * per-source tables).  Pure function. */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k[2];
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t n);

#endif
