/*
 * tcp_side.h - one TCP stack of a measurement: its packets go nowhere, or into a queue for the
 * other side.
 *
 * Owner: the measurement.  Units: bytes.  Errors: the process ends.
 */
#ifndef PERF_TCP_SIDE_H
#define PERF_TCP_SIDE_H

#include "base/shard.h"
#include "dataplane/tcp/tcp.h"

enum { PACKET_BYTES = 2048, QUEUE = 4096 };

/* A packet on its way to the other side of a bulk transfer. */
struct slot {
	uint32_t bytes;
	uint8_t ip[PACKET_BYTES];
};

struct side {
	struct shard shard;
	struct tcp_stack *tcp;
	void *memory;
	uint64_t random;
	struct ip_addr addr;
	uint8_t packet[PACKET_BYTES];
	uint32_t *isn; /* of the last SYN-ACK to a port; NULL: nobody asks */
	uint64_t sent, sent_bytes;
	struct slot *queue; /* NULL: packets go nowhere */
	uint32_t head, tail;
	uint64_t received, to_write;
};

struct side *side_create(const char *address, const struct tcp_config *config);
void side_destroy(struct side *s);

#endif
