/*
 * tuning.h - what one stream may have otherwise than its stack's configuration says.
 *
 * A stack whose configuration says `tunable` keeps one set a stream, in an array beside the tcbs;
 * any other stack has one set for all, and a tcb pays nothing.
 *
 * Owner: the stack; the caller's set is copied.  Runs on: the worker.
 * Errors: stream_tune() is -ENOTSUP where the stack is not tunable.
 */
#ifndef DATAPLANE_TCP_TUNING_H
#define DATAPLANE_TCP_TUNING_H

#include <stdbool.h>
#include <stdint.h>

struct stream;
struct tcp_stack;

struct stream_tuning {
	bool nagle;               /* RFC 9293 section 3.7.4 */
	bool cork, more;          /* a partial segment waits for what follows */
	bool quick_ack;           /* no delayed ACKs */
	bool keepalive;           /* RFC 9293 section 3.8.4 */
	uint8_t tos;              /* DSCP, in the upper six bits */
	uint8_t congestion;       /* enum tcp_congestion */
	uint16_t mss;             /* bound in both directions; before the handshake; 0: none */
	uint32_t init_window;     /* bytes offered in SYN and SYN-ACK; at most 65535 */
	uint32_t send_limit;      /* as stream_set_send_limit(); at birth */
	uint32_t receive_limit;   /* as stream_set_receive_limit(); at birth */
	uint32_t user_timeout_ms; /* unacknowledged for so long: over (RFC 5482); 0: by retries */
	uint32_t keep_idle_s, keep_interval_s, keep_count;
	uint32_t syn_retries;
	uint32_t quick_acks; /* the first so many segments are acknowledged at once */
};

/* The stack's own set, to start from. */
void tcp_tuning(const struct tcp_stack *t, struct stream_tuning *to);
/* 0 or -ENOTSUP; takes effect at once. */
int stream_tune(struct stream *s, const struct stream_tuning *tuning);

#endif
