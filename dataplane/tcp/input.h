/* input.h - segment arrival for a stream (RFC 9293 section 3.10.7).  Runs on: the worker. */
#ifndef DATAPLANE_TCP_INPUT_H
#define DATAPLANE_TCP_INPUT_H

#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/tcb.h"

enum tcp_verdict input_syn_sent(struct stream *s, const struct segment *g);
/* All states from SYN_RCVD on; g may be trimmed. */
enum tcp_verdict input_synchronized(struct stream *s, struct segment *g);
/* The acknowledgment and window of an acceptable segment. */
void input_ack(struct stream *s, const struct segment *g);

#endif
