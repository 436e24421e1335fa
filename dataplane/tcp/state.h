/*
 * state.h - the state machine of RFC 9293 section 3.3.2: transitions, birth and death.
 *
 * Runs on: the worker.
 */
#ifndef DATAPLANE_TCP_STATE_H
#define DATAPLANE_TCP_STATE_H

#include "dataplane/tcp/stream.h"
#include "dataplane/tcp/tcb.h"

struct tcp_options;

/* A stream in state CLOSED, in the flow table; NULL when all are in use. */
struct stream *state_birth(struct tcp_stack *t, const struct flow_key *key, uint32_t hash);
/* The same in the place that `reference` has in the flow table. */
struct stream *state_revive(struct tcp_stack *t, const struct flow_key *key, uint32_t hash,
			    uint32_t reference);
/* What the peer's SYN says about options and window; seq is the SYN's. */
void state_learn_syn(struct stream *s, const struct tcp_options *o, uint32_t seq, uint16_t window);
/* Handshake complete: raises `opened`. */
void state_established(struct stream *s);
/* Our FIN is queued; the peer's FIN arrived; our FIN is acknowledged. */
void state_closing(struct stream *s);
void state_fin_received(struct stream *s);
void state_fin_acked(struct stream *s);
/* The connection is over at once: out of the flow table.  If the upper layer holds it, `closed`
 * comes, unless both FINs were acknowledged: then it stays until stream_close(). */
void state_die(struct stream *s, enum stream_end why);
/* TIME_WAIT of a stream nobody holds moves to its small entry. */
void state_shrink(struct stream *s);
/* Frees a CLOSED stream, after its events. */
void state_free(struct stream *s);

#endif
