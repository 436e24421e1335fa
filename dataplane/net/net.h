/*
 * net.h - ports, and the path of a packet between a port and the transport above.
 *
 * Flows in: frames from the port's queue of this worker, and packets that other workers handed
 * over by ring because our hash says that this worker owns their flow.  Flows out: TCP
 * segments to struct net_upper; frames to the port.
 *
 * Owner: struct net one a process (main thread); struct net_worker one a worker.
 *        Received packets are borrowed by net_upper.segments() for the call.
 * Runs on: net_create() main thread; everything with a net_worker on that worker.
 * Errors: the peer's are counted (counters.h); the environment's are -errno with a text.
 * Source: RFC 1122, 8504 (hosts), 826, 791, 792, 8200, 4861, 4862, 4443.
 */
#ifndef DATAPLANE_NET_NET_H
#define DATAPLANE_NET_NET_H

#include "base/addr.h"
#include "base/shard.h"
#include "dataplane/core/eal.h"
#include "dataplane/net/counters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net;
struct net_worker;

enum { NET_MAX_ADDRESSES = 16, NET_MAX_ROUTES = 32 };

struct net_address {
	struct ip_addr addr;
	uint8_t prefix;
};

/* Who finds out which worker owns a segment. */
enum net_steering {
	NET_STEERING_AUTO,     /* the port, once its hash has proved to be ours; else software */
	NET_STEERING_RSS,      /* the same; the port must take our key */
	NET_STEERING_SOFTWARE, /* the port's hash is not used */
};

struct net_port_config {
	const char *device; /* as the operator wrote it */
	struct net_address addresses[NET_MAX_ADDRESSES];
	unsigned n_addresses;
	struct ip_addr gateway4, gateway6; /* family 0: none */
	struct net_route {
		struct net_address to;
		struct ip_addr via;
	} routes[NET_MAX_ROUTES]; /* the longest prefix of all ports wins */
	unsigned n_routes;
	uint16_t mtu;
	uint16_t vlan; /* 0: untagged */
	enum net_steering steering;
};

struct net_config {
	struct net_port_config ports[EAL_MAX_PORTS];
	unsigned n_ports, n_workers;
	uint32_t packets; /* packet buffers in all */
};

/* After eal_start().  0, or -errno with one line naming the port and the remedy. */
int net_create(struct net **n, const struct net_config *c, char *error, size_t error_bytes);
/* Stops and closes the ports.  Workers must be gone. */
void net_destroy(struct net *n);

enum { NET_BURST = 32 };

struct net_segment {
	struct ip_addr source, destination;
	const uint8_t *bytes; /* TCP header and payload */
	uint32_t n;
	uint8_t tos;
	bool checksum_good; /* the port vouched for it */
};

/* A flow of ours, ports in host order, and the sequence number of the packet in question. */
struct net_flow {
	struct ip_addr local, peer;
	uint16_t local_port, peer_port;
	uint32_t sequence;
};

/* The transport above, on one worker; all members are set. */
struct net_upper {
	void *arg;
	/* The segments of a burst, at most NET_BURST, in their order; bit i of the answer: the
	 * checksum of the ith was wrong. */
	uint32_t (*segments)(void *arg, const struct net_segment *s, unsigned n);
	/* A packet of ours could not be delivered; ports in host order. */
	void (*unreachable)(void *arg, const struct ip_addr *local, uint16_t local_port,
			    const struct ip_addr *peer, uint16_t peer_port);
	/* A packet of ours was too big for a link whose MTU is mtu (0: it did not say). */
	void (*too_big)(void *arg, const struct net_flow *f, uint32_t mtu);
};

struct net_worker *net_worker_create(struct net *n, struct shard *shard,
				     const struct net_upper *upper);
void net_worker_destroy(struct net_worker *w);

/* Stages: receive one burst a port and what was handed over; later transmit what was queued. */
unsigned net_receive(void *net_worker);
unsigned net_transmit(void *net_worker);

/* An outgoing IP packet; data has room for bytes.  control: the reserved pool may be used. */
struct net_buffer {
	void *mbuf;
	uint8_t *data;
};
bool net_buffer_get(struct net_worker *w, struct net_buffer *b, unsigned bytes, bool control);
void net_buffer_drop(struct net_buffer *b);
/* Takes the buffer: routes, resolves the next hop, queues for transmission. */
void net_send(struct net_worker *w, struct net_buffer *b, unsigned bytes, const struct ip_addr *to);

/* Whether packets of the flow, as received, belong to this worker. */
bool net_owns_flow(const struct net_worker *w, const struct ip_addr *local, uint16_t local_port,
		   const struct ip_addr *peer, uint16_t peer_port);
/* Every port sums up TCP segments: net_send() wants only the pseudo header's sum in them. */
bool net_sums_tcp(const struct net *n);
/* Our address towards the destination: in the port that routes there. */
bool net_source_for(const struct net *n, const struct ip_addr *to, struct ip_addr *source);

const uint64_t *net_counters(const struct net_worker *w);

#endif
