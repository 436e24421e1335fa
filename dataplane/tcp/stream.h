/*
 * stream.h - a TCP connection as the layers above see it; the only header of the stack that
 * they include.
 *
 * A stream is one established connection, accepted or connected.  Events come as calls from
 * inside tcp_flush() or a timer, never from inside a stream_*() call, so that a handler may
 * call anything here, stream_abort() on its own stream included.
 *
 * Owner: the stack owns the stream.  The upper layer may use it from `opened` (or from
 *        stream_connect()) until it has called stream_close() or stream_abort(), or until the
 *        `closed` event, whichever comes first; after that it must not touch it.
 * Runs on: the worker of the stack.
 * Units: bytes.
 */
#ifndef DATAPLANE_TCP_STREAM_H
#define DATAPLANE_TCP_STREAM_H

#include "base/addr.h"
#include "base/slab.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream;
struct tcp_stack;

enum stream_end {
	STREAM_END_RESET,       /* RST from the peer */
	STREAM_END_TIMEOUT,     /* retransmissions, SYN retries or keepalives exhausted */
	STREAM_END_REFUSED,     /* connect: RST answered the SYN */
	STREAM_END_UNREACHABLE, /* connect: no route, no ARP answer, ICMP unreachable */
	STREAM_END_MEMORY,      /* the stack gave it up under memory pressure */
};

/* One table per listener or kind of client; all members are set. */
struct stream_events {
	/* Handshake complete, both roles.  `user` is the listener's or connect's argument; what
	 * the handler sets with stream_set_user() is passed from then on. */
	void (*opened)(struct stream *s, void *user);
	/* New in-order bytes, or the peer's FIN (stream_eof()). */
	void (*readable)(struct stream *s, void *user);
	/* Room again after stream_write() took less than offered. */
	void (*writable)(struct stream *s, void *user);
	/* The connection died (not after stream_close()/stream_abort()).  For a connect that
	 * fails this is the only event. */
	void (*closed)(struct stream *s, void *user, enum stream_end why);
};

void stream_set_user(struct stream *s, void *user);
void *stream_user(const struct stream *s);

/* First contiguous unread bytes; *p stays valid until the next stream_consume() or event.
 * 0 when none. */
size_t stream_peek(struct stream *s, const uint8_t **p);
/* Contiguous unread bytes from the one `at` bytes behind the first; valid as above.  They may be
 * changed in place.  0: there are none. */
size_t stream_unread(struct stream *s, size_t at, uint8_t **p);
/* Bytes from the first unread one up to the edge of the window, or to the peer's FIN: so many can
 * be unread without anything being consumed, whatever memory is like. */
size_t stream_promised(const struct stream *s);
/* Consumes n bytes of what stream_peek() showed or of what follows; opens the window. */
void stream_consume(struct stream *s, size_t n);
/* All unread bytes. */
size_t stream_readable(const struct stream *s);
/* The peer has sent FIN and everything before it has been consumed. */
bool stream_eof(const struct stream *s);
/* Copies up to cap bytes out and consumes them. */
size_t stream_read(struct stream *s, void *buf, size_t cap);

/* more follows in this event: a partial segment is held until the next write without it,
 * or the end of the event's burst */
#define STREAM_MORE 1u
/* Copies; returns how many bytes were taken (short when the send buffer is full or chunks are
 * short; `writable` comes when there is room again).  Sent at the flush at the end of the burst. */
size_t stream_write(struct stream *s, const void *data, size_t n, unsigned flags);
/* `writable` comes when there is room again, although stream_write() took all it was offered:
 * for a caller that holds back what does not fit whole. */
void stream_want_room(struct stream *s);
/* Bytes that stream_write() would take now. */
size_t stream_room(const struct stream *s);
/* Bytes written and not yet acknowledged by the peer. */
size_t stream_unacked(const struct stream *s);
/* Octets sent again since the connection came about; modulo 2^32. */
uint32_t stream_retransmitted(const struct stream *s);

/* Limits, per stream; defaults are the stack's configuration.  A receive window only grows
 * (the right edge never moves left); a lower limit takes effect as data is consumed. */
void stream_set_receive_limit(struct stream *s, uint32_t bytes);
void stream_set_send_limit(struct stream *s, uint32_t bytes);

/* Half-close: sends what was written, then FIN; reading goes on and events come until
 * stream_close() or stream_abort(). */
void stream_shutdown(struct stream *s);
/* Sends what was written, then FIN; the stack finishes by itself.  Unread data => RST
 * (RFC 2525 section 2.17) is NOT applied here: a reply such as 421 must reach the peer, so
 * data arriving later is acknowledged and discarded for a bounded time. */
void stream_close(struct stream *s);
/* RST now. */
void stream_abort(struct stream *s);

void stream_peer(const struct stream *s, struct ip_addr *addr, uint16_t *port);
void stream_local(const struct stream *s, struct ip_addr *addr, uint16_t *port);
/* The handle names this connection across threads and in traces; stream_by_handle() is NULL
 * when it has gone. */
handle_t stream_handle(const struct stream *s);
struct stream *stream_by_handle(struct tcp_stack *t, handle_t h);

/* Client role: starts a connection; the source port is one that this worker's flow hash owns.
 * NULL and *err = -errno (-EADDRNOTAVAIL: ports exhausted, -ENOMEM, -ENETUNREACH). */
struct stream *stream_connect(struct tcp_stack *t, const struct ip_addr *local,
			      const struct ip_addr *peer, uint16_t peer_port,
			      const struct stream_events *ev, void *user, int *err);
/* The same from a source port of the caller's choice; 0: chosen. -EADDRNOTAVAIL: in use. */
struct stream *stream_connect_from(struct tcp_stack *t, const struct ip_addr *local,
				   uint16_t local_port, const struct ip_addr *peer,
				   uint16_t peer_port, const struct stream_events *ev, void *user,
				   int *err);

#endif
