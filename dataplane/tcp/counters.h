/* counters.h - everything the TCP stack counts; one row a counter */
#ifndef DATAPLANE_TCP_COUNTERS_H
#define DATAPLANE_TCP_COUNTERS_H

#include "base/counter.h"

#define TCP_COUNTERS(X)                                                                          \
	X(tcp, segments_in, "segments", "segments received with a good checksum")                \
	X(tcp, segments_out, "segments", "segments sent, retransmissions included")              \
	X(tcp, retransmits, "segments", "segments sent again")                                   \
	X(tcp, bad_checksum, "segments", "segments dropped for a wrong checksum")                \
	X(tcp, malformed, "segments", "segments dropped for impossible lengths or addresses")    \
	X(tcp, bad_options, "segments", "segments with an impossible option length")             \
	X(tcp, bad_flags, "segments", "segments dropped for SYN with FIN, or without ACK")       \
	X(tcp, no_flow, "segments", "segments of no known connection, answered by RST")          \
	X(tcp, rst_in, "segments", "RST segments that ended a connection")                       \
	X(tcp, rst_ignored, "segments", "RST segments outside the window, or in TIME_WAIT")      \
	X(tcp, rst_out, "segments", "RST segments sent")                                         \
	X(tcp, challenge_acks, "segments", "challenge ACKs sent (RFC 5961)")                     \
	X(tcp, challenge_limited, "segments", "challenge ACKs withheld by the rate limit")       \
	X(tcp, late_acks, "segments", "ACKs without data that newer ones had overtaken")         \
	X(tcp, paws_dropped, "segments", "segments dropped for an old timestamp")                \
	X(tcp, out_of_window, "segments", "segments dropped outside the receive window")         \
	X(tcp, bad_ack, "segments", "segments dropped for an ACK of data never sent or too old") \
	X(tcp, out_of_order, "segments", "segments stored ahead of a hole")                      \
	X(tcp, reorder_full, "segments", "segments dropped because too many holes were open")    \
	X(tcp, receive_no_memory, "segments", "segments dropped for want of a chunk")            \
	X(tcp, discarded_bytes, "bytes", "bytes that arrived after the stream was closed here")  \
	X(tcp, fast_retransmits, "events", "losses found without the timer")                     \
	X(tcp, undone, "events", "reductions that were needless (RFC 3522)")                     \
	X(tcp, tail_probes, "segments", "tail loss probes due (RFC 8985)")                       \
	X(tcp, bad_sack, "blocks", "SACK blocks of what was never sent or is acknowledged")      \
	X(tcp, sack_full, "blocks", "SACK blocks ignored because too many holes were known")     \
	X(tcp, slow_start_exits, "events", "slow starts ended by a growing round trip")          \
	X(tcp, ecn_agreed, "connections", "connections with ECN (RFC 3168)")                     \
	X(tcp, ecn_marked, "segments", "segments that a router had marked")                      \
	X(tcp, ecn_reductions, "events", "windows reduced for the peer's echo of a mark")        \
	X(tcp, timeouts, "events", "retransmission timer expiries")                              \
	X(tcp, zero_window_probes, "segments", "window probes sent")                             \
	X(tcp, keepalive_probes, "segments", "keepalive probes sent")                            \
	X(tcp, delayed_acks, "segments", "ACKs sent by the delayed-ACK timer")                   \
	X(tcp, gave_up, "connections", "connections ended by exhausted retries")                 \
	X(tcp, accepted, "connections", "connections established by the peer")                   \
	X(tcp, connected, "connections", "connections established by us")                        \
	X(tcp, syn_backlog_full, "segments", "SYNs dropped because too many were half open")     \
	X(tcp, syn_refused, "segments", "SYNs dropped by admission, drain or memory")            \
	X(tcp, syn_limited, "segments", "SYNs dropped by the limit of SYN-ACKs a second")        \
	X(tcp, cookies_sent, "segments", "SYNs answered by a cookie (RFC 4987)")                 \
	X(tcp, cookies_accepted, "connections", "connections established from a cookie")         \
	X(tcp, cookies_bad, "segments", "ACKs of no known connection without a good cookie")     \
	X(tcp, streams_full, "segments", "SYNs dropped because all streams were in use")         \
	X(tcp, time_wait_evicted, "connections", "TIME_WAIT entries dropped for newer ones")     \
	X(tcp, time_wait_reused, "connections", "TIME_WAIT entries replaced by a new SYN")       \
	X(tcp, fin_wait2_timeouts, "connections", "connections whose peer never sent its FIN")   \
	X(tcp, too_big_taken, "messages", "too-big messages that lowered a segment size")        \
	X(tcp, too_big_ignored, "messages", "too-big messages about nothing in flight")          \
	X(tcp, mss_raised, "events", "segment sizes raised again after ten minutes")             \
	X(tcp, blackholes, "events", "segment sizes lowered after timeouts in a row")            \
	X(tcp, no_buffer, "segments", "segments put off for want of a packet buffer")

COUNTER_ENUM(tcp, TCP_COUNTERS)

#endif
