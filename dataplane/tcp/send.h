/*
 * send.h - the send queue: a chunk list from SND.UNA on.
 *
 * Owner: the stream; a chunk goes back to the pool when all of it is acknowledged.
 * Runs on: the worker.
 */
#ifndef DATAPLANE_TCP_SEND_H
#define DATAPLANE_TCP_SEND_H

#include <stddef.h>
#include <stdint.h>

struct stream;

/* Bytes queued and not acknowledged. */
uint32_t send_queued(const struct stream *s);
/* Copies in as much as limit and chunks allow; returns the bytes taken. */
size_t send_append(struct stream *s, const uint8_t *data, size_t n);
/* Everything before ack leaves the queue. */
void send_acked(struct stream *s, uint32_t ack);
/* Copies n queued bytes from sequence number seq on. */
void send_copy(struct stream *s, uint32_t seq, uint8_t *to, uint32_t n);
void send_clear(struct stream *s);

#endif
