/*
 * reassembly.h - fragments of datagrams that could be a segment of ours, within a fixed budget.
 *
 * A datagram that does not fit REASSEMBLY_BYTES is dropped: no TCP segment within our MSS is
 * larger.  So the whole table is fixed memory and no flood of fragments costs more.  Any overlap
 * drops the datagram, its later fragments too (RFC 5722; for IPv4 as well).
 *
 * Owner: one table a worker.  Runs on: that worker.  No DPDK.
 * Units: bytes; microseconds of the caller's clock.
 * Source: RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722, RFC 8900.
 */
#ifndef DATAPLANE_NET_REASSEMBLY_H
#define DATAPLANE_NET_REASSEMBLY_H

#include "dataplane/net/wire.h"

enum {
	REASSEMBLY_BYTES = 2048,
	REASSEMBLY_ENTRIES = 64,
	REASSEMBLY_US =
		15000000, /* RFC 1122 section 3.3.2 recommends 60 to 120 s, for slow links */
};

enum reassembly_verdict {
	REASSEMBLY_WAITS,   /* taken; parts are missing */
	REASSEMBLY_WHOLE,   /* *payload is the datagram's */
	REASSEMBLY_OVERLAP, /* dropped, with all that belongs to it */
	REASSEMBLY_BAD,     /* length not a multiple of 8, beyond the end, over the budget */
};

struct reassembly_entry {
	uint8_t source[16], destination[16];
	uint32_t id;
	uint8_t protocol, tos, addr_bytes;
	bool dead;         /* an overlap: what follows is dropped too */
	uint16_t total;    /* bytes of payload; 0: the last fragment has not come */
	uint16_t have;     /* bytes received */
	uint64_t began_us; /* 0: free */
	uint64_t units[REASSEMBLY_BYTES / 8 / 64]; /* a bit for each 8 bytes received */
	uint8_t data[REASSEMBLY_BYTES];
};

struct reassembly {
	struct reassembly_entry entries[REASSEMBLY_ENTRIES];
	uint64_t evicted, expired; /* datagrams given up */
};

/* On WHOLE *v is changed into the whole datagram; its payload is the table's until the next
 * call. */
enum reassembly_verdict reassembly_add(struct reassembly *r, struct ip_view *v, uint64_t now_us);

#endif
