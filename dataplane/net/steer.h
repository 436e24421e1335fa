/*
 * steer.h - which worker owns a flow: our own keyed hash of the 4-tuple, always.
 *
 * The hash is Toeplitz under a random key, so that a NIC whose RSS can be given the same key
 * agrees with it; software adds up one table look-up a byte.
 *
 * Owner: one struct steer a process, read-only after steer_init().  Runs on: any worker.
 */
#ifndef DATAPLANE_NET_STEER_H
#define DATAPLANE_NET_STEER_H

#include "base/addr.h"

#include <stdint.h>

/* IPv6: 16 + 16 + 4 octets; the key covers 32 bits more.  The low bits of the hash choose a
 * bucket and the bucket a worker, because a NIC's redirection table works so. */
enum { STEER_TUPLE_BYTES = 36, STEER_KEY_BYTES = 40, STEER_BUCKETS = 128 };

struct steer {
	unsigned n_workers;
	uint8_t key[STEER_KEY_BYTES];
	uint32_t table[STEER_TUPLE_BYTES][256];
};

void steer_init(struct steer *s, const uint8_t key[STEER_KEY_BYTES], unsigned n_workers);
/* Addresses of n bytes (4 or 16) each, ports 4 bytes, all in network order, as received: the
 * peer first. */
uint32_t steer_hash(const struct steer *s, const uint8_t *source, const uint8_t *destination,
		    unsigned n, const uint8_t *ports);
/* The index of the worker that owns the flows of this hash. */
unsigned steer_bucket_owner(const struct steer *s, uint32_t hash);
/* The index of the worker that owns the flow. */
unsigned steer_owner(const struct steer *s, const uint8_t *source, const uint8_t *destination,
		     unsigned n, const uint8_t *ports);

#endif
