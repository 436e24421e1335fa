/*
 * transcript.h - a session as octets in and a text out: its replies and what was stored, without
 * what differs from run to run (ids, times).  So two runs can be compared.
 *
 * Owner: the caller frees the text.  Runs on: the test.
 */
#ifndef TESTS_SIM_TRANSCRIPT_H
#define TESTS_SIM_TRANSCRIPT_H

#include "tests/sim/peer.h"

/* How many octets of those that are left are sent next; 0: all. */
typedef size_t transcript_piece(void *arg, size_t left);

/* Logged in without TLS, so that an octet sent is an octet received.  At most 16 messages. */
struct bytes transcript_run(struct mail *m, const void *octets, size_t n, transcript_piece *piece,
			    void *arg);

#endif
