/* isn.h - initial sequence numbers and timestamp offsets nobody else can guess (RFC 6528,
 * RFC 7323 section 5.4).  Runs on: the worker. */
#ifndef DATAPLANE_TCP_ISN_H
#define DATAPLANE_TCP_ISN_H

#include "dataplane/tcp/flow_table.h"

#include <stdint.h>

struct tcp_stack;

/* A clock of 4 us plus a keyed hash of the 4-tuple; not random: the next number drawn. */
uint32_t isn_choose(const struct tcp_stack *t, const struct flow_key *key);
/* Added to the timestamp clock; hash: of the flow.  Not random: 0. */
uint32_t isn_timestamp_offset(const struct tcp_stack *t, uint32_t hash);

/* 20 bits, stable for the flow (RFC 6437); tells nothing about hash, the flow table's secret. */
uint32_t isn_flow_label(const struct tcp_stack *t, uint32_t hash);

#endif
