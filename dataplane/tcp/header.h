/*
 * header.h - builds a packet in a buffer of the environment: IP header, TCP header, options,
 * payload, checksums.
 *
 * Runs on: the worker.  Errors: false: no buffer (counted).
 */
#ifndef DATAPLANE_TCP_HEADER_H
#define DATAPLANE_TCP_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream;

struct header_segment {
	uint32_t seq;
	uint32_t bytes; /* of payload, from the send queue at seq */
	uint8_t flags;
	bool control;           /* may use the reserved buffers */
	const uint8_t *options; /* of a SYN; else the timestamp is added by itself */
	size_t option_bytes;
};

/* Acknowledgment and window come from the stream; what waited to be acknowledged is. */
bool header_send(struct stream *s, const struct header_segment *h);

#endif
