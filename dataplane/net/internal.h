/* internal.h - what the files of this folder share; not for other layers */
#ifndef DATAPLANE_NET_INTERNAL_H
#define DATAPLANE_NET_INTERNAL_H

#include "base/ring.h"
#include "base/timer.h"
#include "dataplane/net/neighbor.h"
#include "dataplane/net/net.h"
#include "dataplane/net/reassembly.h"
#include "dataplane/net/rss.h"
#include "dataplane/net/steer.h"
#include "dataplane/net/wire.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <stdatomic.h>

enum {
	BURST = NET_BURST,
	TX_QUEUE = 128,       /* frames a worker keeps for a port that is full */
	WAITING_PACKETS = 64, /* packets a worker keeps for next hops being resolved */
	HANDOVER_SLOTS = 1024,
	WANT_SLOTS = 64,                        /* questions a worker may have open with worker 0 */
	PORT_ADDRESSES = NET_MAX_ADDRESSES + 1, /* the link-local one added */
};

/* RFC 4862: an IPv6 address is not used before nobody else claims it. */
enum address_state { ADDRESS_READY, ADDRESS_TENTATIVE, ADDRESS_DUPLICATE };

struct net_port {
	struct net_port_config config;
	struct net_address addresses[PORT_ADDRESSES];
	_Atomic uint8_t address_state[PORT_ADDRESSES];
	unsigned n_addresses;
	bool ip6;               /* has IPv6 addresses */
	bool rss;               /* hashes with our key into our buckets, or so it said */
	uint64_t mld1_until_us; /* worker 0: a querier of MLDv1 was heard */
	uint16_t id;            /* DPDK's */
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
	struct rte_mempool *control;                /* reserve: ACK, RST, SYN-ACK, ARP, ND */
	struct rte_ring *handover[EAL_MAX_WORKERS]; /* by owner; many producers */
	struct ring *wants; /* other workers -> worker 0: struct want to be resolved */
	struct steer steer;
	bool sums_tcp;
};

/* A question to worker 0; the asker's slot again once busy is false. */
struct want {
	struct net_port *port;
	struct ip_addr ip;
	_Atomic bool busy;
};

struct waiting {
	struct rte_mbuf *mbuf; /* at the IP header */
	struct net_port *port;
	struct ip_addr next_hop;
	uint64_t since_us;
};

/* Segments of the burst that is being received, with the packets they lie in. */
struct pending {
	struct net_segment segment[BURST];
	struct rte_mbuf *mbuf[BURST];
	struct net_port *port[BURST];
	unsigned n;
};

struct net_worker {
	struct shard *shard;
	struct net *net;
	struct net_upper upper;
	struct pending pending;
	struct rte_mbuf *tx[EAL_MAX_PORTS][TX_QUEUE];
	unsigned n_tx[EAL_MAX_PORTS];
	uint64_t tx_stuck_since_us[EAL_MAX_PORTS]; /* 0: flowing */
	struct waiting waiting[WAITING_PACKETS];
	unsigned n_waiting;
	struct want wants[WANT_SLOTS];
	struct rss_trust trust[EAL_MAX_PORTS][2]; /* IPv4, IPv6 */
	struct timer sweep_timer;                 /* worker 0 */
	struct timer mld_timer;                   /* worker 0: a query waits for its answer */
	unsigned dad_rounds;  /* worker 0: seconds since the start, while it counts */
	uint64_t icmp_second; /* rate limit of echo replies */
	unsigned icmp_this_second;
	struct reassembly reassembly;
	uint64_t counters[net_counter_count];
};

static inline void net_count(struct net_worker *w, enum net_counter c)
{
	counter_inc(&w->counters[c]);
}

static inline struct ip_addr addr_of(const uint8_t *bytes, unsigned n)
{
	struct ip_addr a = {.family = n == 16 ? 6 : 4};

	memcpy(a.byte, bytes, n);
	return a;
}

static inline unsigned addr_bytes(const struct ip_addr *a)
{
	return a->family == 6 ? 16 : 4;
}

/* port.c: index of our address among the port's, or -1 */
int port_address(const struct net_port *p, const uint8_t *addr, unsigned n);
/* The same, ready for use. */
bool port_answers_for(const struct net_port *p, const uint8_t *addr, unsigned n);
/* The port and next hop towards an address; NULL: no route. */
struct net_port *route(const struct net *n, const struct ip_addr *to, struct ip_addr *next_hop);
/* Our address on the link of ip; the port's first of the family if none is. */
const uint8_t *port_source(const struct net_port *p, const struct ip_addr *ip);
/* Notes whether one of the port's first segments had a good checksum. */
void port_note_checksum(struct net_port *p, bool good);

/* resolve.c */
void resolve_start(struct net_worker *w);
/* Sends the mbuf (at its IP header) to the next hop, now or when resolved. */
void resolve_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
		    const struct ip_addr *next_hop);
/* Packets whose next hop has been resolved or given up meanwhile; the number. */
unsigned resolve_retry_waiting(struct net_worker *w);
/* Worker 0: questions of the other workers. */
unsigned resolve_serve_wants(struct net_worker *w);
/* Worker 0: the entry has answered. */
void resolve_learn(struct net_worker *w, struct neighbor *n, const uint8_t mac[MAC_BYTES]);

/* rss.c: what of our steering the port takes, into its configuration; then its table */
int rss_configure(const struct net *n, struct net_port *p, const struct rte_eth_dev_info *info,
		  struct rte_eth_conf *conf);
int rss_fill_table(const struct net *n, struct net_port *p);
/* The worker that owns the segment. */
unsigned rss_owner(struct net_worker *w, struct net_port *p, const struct rte_mbuf *m,
		   const struct ip_view *ip);

/* arp.c, worker 0 */
void arp_input(struct net_worker *w, struct net_port *p, const uint8_t *packet, size_t n);
void arp_ask(struct net_worker *w, struct net_port *p, const struct ip_addr *ip);
void arp_announce(struct net_worker *w, struct net_port *p);

/* ndp.c, worker 0 */
void ndp_input(struct net_worker *w, struct net_port *p, const struct ip_view *ip);
void ndp_ask(struct net_worker *w, struct net_port *p, const struct ip_addr *ip);
/* Duplicate address detection: second 0 asks, second 1 takes the addresses into use. */
void ndp_detect_duplicates(struct net_worker *w, struct net_port *p, unsigned second);
/* Neighbour discovery and multicast listener queries. */
bool ndp_is_message(const struct ip_view *ip);
/* The group of an address' neighbour solicitations, and a group's MAC (RFC 2464 section 7). */
void ndp_solicited_node(const uint8_t address[16], uint8_t group[16]);
void ndp_group_mac(const uint8_t group[16], uint8_t mac[MAC_BYTES]);
/* Whether an IPv6 multicast destination is one of our groups. */
bool ndp_our_group(const struct net_port *p, const uint8_t destination[16]);

/* mld.c, worker 0 */
void mld_start(struct net_worker *w);
void mld_report(struct net_worker *w, struct net_port *p, bool joined);
void mld_query(struct net_worker *w, struct net_port *p, const struct ip_view *ip);

/* icmp.c, icmp6.c */
void icmp_input(struct net_worker *w, const struct ip_view *ip);
void icmp6_input(struct net_worker *w, const struct ip_view *ip);
/* The worker that owns the flow which an ICMP error quotes; ours when it quotes none. */
unsigned icmp_owner(struct net_worker *w, const struct ip_view *ip);
bool icmp_echo_allowed(struct net_worker *w);
/* An error about a packet of ours; too_big: mtu is what the next link takes. */
void icmp_error(struct net_worker *w, const struct ip_view *ip, bool too_big, uint32_t mtu);

/* transmit.c */
void frame_output(struct net_worker *w, struct net_port *p, struct rte_mbuf *m,
		  const uint8_t destination[MAC_BYTES], uint16_t type);

#endif
