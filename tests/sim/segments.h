/*
 * segments.h - scripts of segments (tests/segments, *.seg): what the driver's parts share.
 *
 * A script is a text of one command a line against one stack (tcp_embed.h) in virtual time;
 * tests/segments/README.md is the manual.  Sequence numbers are relative to the two SYNs.
 *
 * Owner: main() runs one script after the other, each with a stack of its own.
 * Units: virtual microseconds since the script began.
 */
#ifndef TESTS_SIM_SEGMENTS_H
#define TESTS_SIM_SEGMENTS_H

#include "tests/sim/tcp_embed.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
	SEG_PEERS = 8,
	SEG_WORDS = 24,
	SEG_PACKET = 65600,
	SEG_START_US = 1000000,
	SEG_PORT = 25,
	SEG_PEER_PORT = 40000
};

/* The other end of one connection. */
struct peer {
	uint16_t port;        /* the peer's */
	uint16_t stack_port;  /* the stack's */
	uint32_t iss, theirs; /* the peer's; the stack's, learnt from its SYN */
	bool theirs_known;
	struct tcpe_sock *sock;
	uint32_t sent, received; /* bytes of the pattern so far */
	uint32_t ts_seen;        /* the stack's latest timestamp */
};

struct run {
	const char *file;
	int line;
	bool failed;
	unsigned checks; /* lines that could have failed */
	char *word[SEG_WORDS];
	unsigned words;

	struct tcpe_config config;
	struct tcpe_stack *st; /* made by the first command that needs it */
	struct tcpe_sock *listener;
	uint64_t draw; /* what the stack's generator says */
	int family;
	struct peer peer[SEG_PEERS], *now;
	unsigned peers;
	uint32_t window;
	bool stamped; /* the peer's segments carry timestamps */
	uint32_t ts_value;
	uint8_t packet[SEG_PACKET];
};

/* One failure ends the script. */
void seg_fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A sum of products, with us, ms, s behind a factor; false: it is none. */
bool seg_number(const char *text, int64_t *value);
int64_t seg_value(struct run *r, const char *text);
/* The text behind name= on the line; NULL: not there. */
const char *seg_option(const struct run *r, const char *name);
int64_t seg_option_value(struct run *r, const char *name, int64_t otherwise);
bool seg_has(const struct run *r, const char *word);
struct tcpe_stack *seg_stack(struct run *r);
struct tcpe_addr seg_address(const struct run *r, bool peer);

/* segments_packet.c */
void seg_in(struct run *r);
void seg_icmp(struct run *r);
void seg_out(struct run *r);
void seg_burst(struct run *r);
void seg_none(struct run *r);
void seg_drain(struct run *r);
uint8_t seg_pattern(uint32_t k);

/* segments_call.c */
struct seg_command {
	const char *name;
	void (*run)(struct run *r);
	bool checks; /* it can fail for what the stack does */
};
const struct seg_command *seg_call(const char *name);

#endif
