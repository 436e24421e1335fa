/* internal.h - what the files of this folder share; not for other layers */
#ifndef DATAPLANE_NET_INTERNAL_H
#define DATAPLANE_NET_INTERNAL_H

#include "base/ring.h"
#include "base/timer.h"
#include "dataplane/net/neighbor.h"
#include "dataplane/net/net.h"
#include "dataplane/net/steer.h"
#include "dataplane/net/wire.h"

#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <stdatomic.h>

enum {
	BURST = 32,
	TX_QUEUE = 128,   /* frames a worker keeps for a port that is full */
	ARP_WAITING = 64, /* packets a worker keeps for next hops being resolved */
	HANDOVER_SLOTS = 1024,
	WANT_SLOTS = 256,
};

struct net_port {
	struct net_port_config config;
	uint16_t id; /* DPDK's */
	bool started;
	uint8_t mac[MAC_BYTES];
	struct neighbor_table *neighbors;
	/* segments seen until the checksum question is settled */
	_Atomic unsigned first_segments, first_bad;
	_Atomic bool checksum_settled;
};

struct net {
	struct net_port ports[EAL_MAX_PORTS];
	unsigned n_ports, n_workers;
	struct rte_mempool *packets;                /* received and outgoing data */
	struct rte_mempool *control;                /* reserve: ACK, RST, SYN-ACK, ARP */
	struct rte_ring *handover[EAL_MAX_WORKERS]; /* by owner; many producers */
	struct ring *wants; /* other workers -> worker 0: port << 32 | ip, to be resolved */
	struct steer steer;
};

struct waiting {
	struct rte_mbuf *mbuf; /* at the IP header */
	struct net_port *port;
	uint32_t next_hop;
	uint64_t since_us;
};

struct net_worker {
	struct shard *shard;
	struct net *net;
	struct net_upper upper;
	struct rte_mbuf *tx[EAL_MAX_PORTS][TX_QUEUE];
	unsigned n_tx[EAL_MAX_PORTS];
	uint64_t tx_stuck_since_us[EAL_MAX_PORTS]; /* 0: flowing */
	struct waiting waiting[ARP_WAITING];
	unsigned n_waiting;
	struct timer arp_timer; /* worker 0 */
	uint64_t icmp_second;   /* rate limit of echo replies */
	unsigned icmp_this_second;
	uint64_t counters[net_counter_count];
};

static inline void net_count(struct net_worker *w, enum net_counter c)
{
	counter_inc(&w->counters[c]);
}

/* Our address among the port's, or NULL; ip in network order. */
const struct net_address *port_address(const struct net_port *p, uint32_t ip);
/* The port and next hop towards an address; NULL: no route. */
struct net_port *route(struct net *n, uint32_t to, uint32_t *next_hop);

/* arp.c */
void arp_input(struct net_worker *w, struct net_port *p, const uint8_t *packet, size_t n);
void arp_start(struct net_worker *w);
/* Sends the mbuf (at its IP header) to the next hop, now or when resolved. */
void arp_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m, uint32_t next_hop);
/* Packets whose next hop has been resolved or given up meanwhile; the number. */
unsigned arp_retry_waiting(struct net_worker *w);
/* Worker 0: questions of the other workers. */
unsigned arp_serve_wants(struct net_worker *w);

/* icmp.c: takes the mbuf when it returns true */
bool icmp_input(struct net_worker *w, struct rte_mbuf *m, const struct ip4_view *ip);
/* The worker that owns the flow which an ICMP error quotes; ours when it quotes none. */
unsigned icmp_owner(struct net_worker *w, const struct ip4_view *ip);

/* transmit.c */
void frame_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
		  const uint8_t destination[MAC_BYTES], uint16_t type);

/* port.c: notes whether one of the port's first segments had a good checksum */
void port_note_checksum(struct net_port *p, bool good);

#endif
