/*
 * pmtu.h - path MTU discovery: by what routers say (RFC 1191, RFC 8201; the call is tcp.h's
 * tcp_packet_too_big()), and by what timeouts hint at where they say nothing (RFC 4821).
 *
 * A stream's segment size only falls; a new connection begins with the interface's again.
 *
 * Runs on: the worker.  Units: bytes.
 */
#ifndef DATAPLANE_TCP_PMTU_H
#define DATAPLANE_TCP_PMTU_H

struct stream;

/* The retransmission timer has expired once more, and retries counts it. */
void pmtu_timed_out(struct stream *s);

#endif
