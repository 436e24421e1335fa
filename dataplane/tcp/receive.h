/*
 * receive.h - the receive queue: payload copied into chunks at the place its sequence number
 * gives, so that memory is bounded by the window however the peer cuts its segments.
 *
 * Invariants: the right edge of the window never moves left; what was acknowledged is never
 * dropped; the bytes between rcv_read and rcv_nxt are all there.
 *
 * Owner: the stream.  Runs on: the worker.
 */
#ifndef DATAPLANE_TCP_RECEIVE_H
#define DATAPLANE_TCP_RECEIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream;

/* Unread in-order bytes. */
uint32_t receive_unread(const struct stream *s);
/* Takes the part inside the window.  true: rcv_nxt moved.  Sets F_ACK_NOW when the peer must
 * hear at once (hole opened or filled, duplicate). */
bool receive_data(struct stream *s, uint32_t seq, const uint8_t *data, uint32_t n);
/* Bytes that came before, for the next ACK to report (RFC 2883). */
void receive_note_duplicate(struct stream *s, uint32_t from, uint32_t to);
/* A FIN with sequence number seq.  true: it is in order and now counted in rcv_nxt. */
bool receive_fin(struct stream *s, uint32_t seq);

size_t receive_peek(const struct stream *s, const uint8_t **p);
size_t receive_at(const struct stream *s, size_t at, uint8_t **p);
size_t receive_promised(const struct stream *s);
void receive_consume(struct stream *s, size_t n);
/* Drops everything; later data is acknowledged and not kept. */
void receive_clear(struct stream *s);

/* The window to advertise now, in bytes; moves rcv_right. */
uint32_t receive_window(struct stream *s);
/* Would an ACK now tell the peer of substantially more room (RFC 9293 section 3.8.6.2.2)? */
bool receive_window_news(const struct stream *s);

#endif
