/*
 * neighbor.h - IPv4 next hops and their MAC addresses (RFC 826).
 *
 * Worker 0 is the only writer; every worker reads without a lock.  An entry is one atomic IP
 * and one atomic word {MAC, state}: a reader that meets an entry being replaced sees the IP
 * change and treats it as missing.
 *
 * Owner: one table a port.  Runs on: neighbor_set() on worker 0; neighbor_get() on any.
 */
#ifndef DATAPLANE_NET_NEIGHBOR_H
#define DATAPLANE_NET_NEIGHBOR_H

#include <stdbool.h>
#include <stdint.h>

enum { NEIGHBOR_SLOTS = 1024, NEIGHBOR_PROBES = 16 };

enum neighbor_state { NEIGHBOR_NONE, NEIGHBOR_WANTED, NEIGHBOR_REACHABLE, NEIGHBOR_FAILED };

struct neighbor {
	_Atomic uint32_t ip;   /* network order; 0: free */
	_Atomic uint64_t word; /* state << 48 | MAC */
	/* worker 0's own */
	uint64_t changed_us; /* confirmed, asked or failed at */
	uint8_t requests;    /* sent without an answer */
};

struct neighbor_table {
	struct neighbor slots[NEIGHBOR_SLOTS];
	uint32_t hash_key;
};

enum neighbor_state neighbor_get(struct neighbor_table *t, uint32_t ip, uint8_t mac[6]);
/* Worker 0: the entry, made if create; the stalest of the probed slots gives way when they are
 * all taken, so a flood of addresses costs bounded memory. */
struct neighbor *neighbor_entry(struct neighbor_table *t, uint32_t ip, bool create);
void neighbor_set(struct neighbor *n, enum neighbor_state state, const uint8_t mac[6]);
enum neighbor_state neighbor_state(struct neighbor *n);

#endif
