/*
 * neighbor.h - next hops of both families and their MAC addresses (RFC 826, RFC 4861 section 5.1).
 *
 * Worker 0 is the only writer; every worker reads without a lock.  An entry has a version that
 * is odd while it changes hands: a reader that meets one treats it as missing.
 *
 * Owner: one table a port.  Runs on: neighbor_entry(), neighbor_set() on worker 0;
 * neighbor_get() on any.
 */
#ifndef DATAPLANE_NET_NEIGHBOR_H
#define DATAPLANE_NET_NEIGHBOR_H

#include "base/addr.h"

#include <stdbool.h>
#include <stdint.h>

enum { NEIGHBOR_SLOTS = 1024, NEIGHBOR_PROBES = 16 };

enum neighbor_state { NEIGHBOR_NONE, NEIGHBOR_WANTED, NEIGHBOR_REACHABLE, NEIGHBOR_FAILED };

struct neighbor {
	_Atomic uint32_t version;
	_Atomic uint64_t key[2]; /* the address, IPv4 as ::ffff:a.b.c.d; zero: free */
	_Atomic uint64_t word;   /* state << 48 | MAC */
	/* worker 0's own */
	uint64_t changed_us; /* confirmed, asked or failed at */
	uint8_t requests;    /* sent without an answer */
};

struct neighbor_table {
	struct neighbor slots[NEIGHBOR_SLOTS];
	uint64_t hash_key;
};

enum neighbor_state neighbor_get(struct neighbor_table *t, const struct ip_addr *ip,
				 uint8_t mac[6]);
/* Worker 0: the entry, made if create; the stalest of the probed slots gives way when they are
 * all taken, so a flood of addresses costs bounded memory. */
struct neighbor *neighbor_entry(struct neighbor_table *t, const struct ip_addr *ip, bool create);
void neighbor_set(struct neighbor *n, enum neighbor_state state, const uint8_t mac[6]);
enum neighbor_state neighbor_state(struct neighbor *n);
/* Worker 0: the entry's address; false: the slot is free. */
bool neighbor_address(struct neighbor *n, struct ip_addr *ip);

#endif
