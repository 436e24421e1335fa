/*
 * net.h - a simulated network: hosts with a TCP stack each, one virtual clock, seeded faults.
 *
 * Nothing here reads a real clock: the same seed and the same calls give the same packets, byte
 * for byte.  After every step the invariants of all stacks are checked; a breach prints the
 * seed and stops.  NET_TRACE=1 in the environment prints every packet.
 *
 * Owner: the test.
 * Units: virtual microseconds; probabilities in 10,000.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "base/shard.h"
#include "dataplane/tcp/tcp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_HOSTS = 4 };

/* What happens to packets on their way; alike for all directions. */
struct net_conditions {
	uint32_t delay_us;  /* one way */
	uint32_t jitter_us; /* added, uniform; keeps the order */
	uint32_t loss, duplicate, reorder, corrupt;
	uint32_t burst_start, burst_packets; /* a run of losses begins; how many at most */
	uint32_t reorder_us;                 /* how much later a reordered packet comes */
	uint64_t bits_per_s;                 /* 0: no limit */
	uint32_t queue_packets;    /* of 1,500 bytes, that wait for the link; more are dropped */
	uint32_t no_buffer;        /* get_buffer() says no */
	uint32_t path_mtu;         /* bytes of IP packet; 0: no limit */
	uint64_t path_mtu_from_us; /* the limit begins so long after the start */
	bool path_mtu_silent;      /* the router that drops says nothing */
	uint32_t mark;             /* of what is ECN-capable */
	uint32_t hold_burst;       /* a delivery is not flushed at once: bursts form */
};

struct net;

struct net_options {
	uint64_t seed;
	uint64_t start_us; /* where the clock begins */
	struct net_conditions conditions;
	struct tcp_config config[NET_HOSTS];
	unsigned hosts;
	size_t chunk_bytes;      /* of each host's pool */
	size_t chunk_bytes_of_0; /* of host 0, if it shall differ */
	bool ip6, trace;
	bool host_0_is_many; /* every address that is nobody's leads to it */
};

/* Two hosts, a perfect network of 100 us, 4 MiB of chunks each. */
void net_options_default(struct net_options *o);

struct net *net_create(const struct net_options *o);
void net_destroy(struct net *n);

struct tcp_stack *net_tcp(struct net *n, unsigned host);
struct shard *net_shard(struct net *n, unsigned host);
struct ip_addr net_addr(const struct net *n, unsigned host);
uint64_t net_now(const struct net *n);
uint64_t *net_random(struct net *n);
struct net_conditions *net_conditions(struct net *n);
uint64_t net_packets(const struct net *n);
/* Of every packet sent so far, its time and bytes: equal runs have equal digests. */
uint64_t net_digest(const struct net *n);

/* Called after each step, say to poll rings.  NULL: none. */
void net_on_step(struct net *n, void (*step)(void *arg), void *arg);

/* A filter sees each packet before the faults: false drops it.  NULL: none. */
typedef bool net_filter(void *arg, unsigned from, uint8_t *ip, size_t bytes);
void net_set_filter(struct net *n, net_filter *filter, void *arg);
/* Puts a packet of the test's own on its way to the host at once. */
void net_inject(struct net *n, unsigned host, const uint8_t *ip, size_t bytes);

/* The next event up to until_us (absolute); false: there was none, time is until_us. */
bool net_step(struct net *n, uint64_t until_us);
void net_run(struct net *n, uint64_t us);
/* Runs until done(arg) or for us at most; what done() said last. */
bool net_run_until(struct net *n, bool (*done)(void *arg), void *arg, uint64_t us);

/* Nothing is left: no stream, no chunk in use on any host. */
bool net_is_quiet(struct net *n);

#endif
