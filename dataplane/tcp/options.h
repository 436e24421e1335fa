/*
 * options.h - TCP options: reading what the peer sent, writing ours (RFC 9293 section 3.1,
 * RFC 7323).
 *
 * Runs on: the worker.  Pure functions.
 * Errors: an impossible length ends the parse (options_parse() is false); what came before
 *         it counts.
 */
#ifndef DATAPLANE_TCP_OPTIONS_H
#define DATAPLANE_TCP_OPTIONS_H

#include "dataplane/tcp/ranges.h"
#include "dataplane/tcp/tcp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPTIONS_MAX_BYTES = 40, OPTION_TIMESTAMP_BYTES = 12, OPTION_SACK_BLOCKS = 4 };
/* Without the option (RFC 9293 section 3.7.1) */
enum { OPTION_MSS_DEFAULT_IP4 = 536, OPTION_MSS_DEFAULT_IP6 = 1220 };

struct tcp_options {
	bool has_mss, has_scale, has_timestamp, sack_permitted;
	uint16_t mss;
	uint8_t scale; /* at most 14 (RFC 7323 section 2.3) */
	uint32_t ts_value, ts_echo;
	unsigned sacks;
	struct range sack[OPTION_SACK_BLOCKS];
};

bool options_parse(struct tcp_options *o, const uint8_t *p, size_t n);
/* Options of a SYN or SYN-ACK in the configured order; returns the bytes, a multiple of 4. */
size_t options_write_syn(uint8_t *to, const struct tcp_options *o, enum tcp_option_layout layout);
/* nop, nop, timestamp: OPTION_TIMESTAMP_BYTES */
size_t options_write_timestamp(uint8_t *to, uint32_t value, uint32_t echo);
/* nop, nop, SACK with n blocks; 0 when n is 0 */
size_t options_write_sack(uint8_t *to, const struct range *block, unsigned n);

#endif
