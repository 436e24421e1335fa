/* counters.h - everything the TCP stack counts; one row a counter */
#ifndef DATAPLANE_TCP_COUNTERS_H
#define DATAPLANE_TCP_COUNTERS_H

#include "base/counter.h"

#define TCP_COUNTERS(X)                                                             \
	X(tcp, segments_in, "segments", "segments received with a good checksum")   \
	X(tcp, segments_out, "segments", "segments sent, retransmissions included") \
	X(tcp, retransmits, "segments", "segments sent again")                      \
	X(tcp, bad_checksum, "segments", "segments dropped for a wrong checksum")

COUNTER_ENUM(tcp, TCP_COUNTERS)

#endif
