/*
 * bench.h - the real dataplane of two workers in virtual time: DPDK's ring ports instead of a
 * cable, frames by hand, and a TCP stack behind them as the peer.
 *
 *	struct bench *b = bench_get();   // one a process: DPDK starts once
 *	bench_inject(b, 1, frame, n);    // into queue 1
 *	bench_run(b, 10000);
 *
 * Owner: the test; bench_get() gives the same bench each time, bench_reset() begins anew.
 * Units: virtual microseconds.
 */
#ifndef TESTS_WIRE_BENCH_H
#define TESTS_WIRE_BENCH_H

#include "control/transport.h"

#include <rte_mbuf.h>

enum { BENCH_WORKERS = 2, BENCH_MSS_ROOM = 1500 };

struct bench;

/* Starts DPDK without hugepages and devices, once. */
struct bench *bench_get(void);
/* New workers, stacks, clock and peer; the random numbers are those of the seed. */
void bench_reset(struct bench *b, uint64_t seed);
/* The workers' end; nothing of theirs may be left (returns the packet buffers that are). */
unsigned bench_end(struct bench *b);

struct net *bench_net(struct bench *b);
struct transport *bench_worker(struct bench *b, unsigned i);
const uint64_t *bench_net_counters(struct bench *b, unsigned i);
/* The TCP stack at the other end of the cable. */
struct tcp_stack *bench_peer(struct bench *b);
struct ip_addr bench_address(bool peer, bool six);

/* Whole frames of the peer's own making. */
void bench_inject(struct bench *b, unsigned queue, const uint8_t *frame, size_t n);
/* Sees each frame that leaves; NULL: none. */
void bench_on_frame(struct bench *b, void (*frame)(void *arg, const uint8_t *data, size_t n),
		    void *arg);
/* Before a frame of the peer's stack goes in: its queue, and what the port says of it. */
typedef unsigned bench_nic(void *arg, struct rte_mbuf *m, const uint8_t *tuple_source,
			   const uint8_t *tuple_destination, unsigned addr_bytes,
			   const uint8_t *ports);
void bench_set_nic(struct bench *b, bench_nic *nic, void *arg);
uint64_t bench_random(struct bench *b);

void bench_run(struct bench *b, uint64_t us);
bool bench_run_until(struct bench *b, bool (*done)(void *arg), void *arg, uint64_t us);

#endif
