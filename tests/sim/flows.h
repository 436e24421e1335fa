/*
 * flows.h - a seeded population of connections over a virtual network, each with a plan (plain,
 * half-close, abort, early close, simultaneous open, slow reader), and the check that what is
 * delivered is a prefix of what was sent.
 *
 * Owner: the test.  A breach prints the seed and aborts.
 */
#ifndef TESTS_SIM_FLOWS_H
#define TESTS_SIM_FLOWS_H

#include "tests/sim/net.h"

struct flows_result {
	uint64_t packets, retransmits, bytes, digest;
	unsigned plain, aborted, closed_early, simultaneous;
};

/* A network of two hosts whose every parameter but the conditions comes from the seed; runs all
 * flows to their end and requires that nothing is left. */
void flows_run(uint64_t seed, const struct net_conditions *conditions, struct flows_result *r);

#endif
