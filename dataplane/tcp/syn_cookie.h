/*
 * syn_cookie.h - a half-open connection that costs no memory: all of it is in the numbers that the
 * peer gives back (RFC 4987 section 3.6).
 *
 * The initial sequence number holds the age (2 bits, units of 32 s), the peer's MSS (3 bits, an
 * index into a table) and a keyed hash of the 4-tuple, the peer's own number and the age (27 bits).
 * The 4-tuple enters as its flow hash: keyed itself, so that nobody can look for two alike.
 * Window scale, SACK-permitted and ECN ride in the low six bits of the timestamp, where the peer
 * offers timestamps; else they are not negotiated.
 *
 * Runs on: the worker.  Owner: nobody, that is the point.
 */
#ifndef DATAPLANE_TCP_SYN_COOKIE_H
#define DATAPLANE_TCP_SYN_COOKIE_H

#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/options.h"

#include <stdbool.h>
#include <stdint.h>

struct tcp_stack;
struct segment;

struct syn_cookie {
	uint32_t iss;
	struct tcp_options options; /* of the peer's SYN, as far as they are kept */
	bool ecn;
};

/* hash: of g's flow.  What to answer to SYN g: fills in iss, and the options and ecn that can be
 * agreed on. */
void syn_cookie_make(const struct tcp_stack *t, const struct segment *g, uint32_t hash,
		     struct syn_cookie *c);
/* The timestamp value that carries c's options, not ahead of the clock's value. */
uint32_t syn_cookie_timestamp(const struct syn_cookie *c, uint32_t value);
/* Does g acknowledge a cookie of ours, not older than two minutes?  Then c is what the SYN said. */
bool syn_cookie_check(const struct tcp_stack *t, const struct segment *g, uint32_t hash,
		      struct syn_cookie *c);

#endif
