/* listen.h - the passive side: listeners and the birth of connections from SYNs.
 * Owner: the stack.  Runs on: its worker. */
#ifndef DATAPLANE_TCP_LISTEN_H
#define DATAPLANE_TCP_LISTEN_H

#include "dataplane/tcp/tcp.h"

struct segment;
struct stream;
struct stream_tuning;
struct listener;

/* A segment of no known flow: a SYN, or the answer to a cookie.  isn_above: NULL, or what the ISN
 * must exceed (RFC 6191). */
enum tcp_verdict listen_input(struct tcp_stack *t, struct segment *g, uint32_t hash,
			      const uint32_t *isn_above);
/* Does its listener refuse to let s be established now? */
bool listen_is_full(const struct stream *s);
/* A half-open stream is established: it takes events and user from its listener. */
void listen_promote(struct stream *s);
/* A half-open stream dies. */
void listen_demote(struct stream *s);
/* A half-open entry is dropped. */
void listen_forget(struct listener *l);
const struct stream_tuning *listen_tuning(const struct listener *l);
void listen_free_all(struct tcp_stack *t);

#endif
