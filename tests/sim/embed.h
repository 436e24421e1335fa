/*
 * embed.h - the inside of the embedding interface: what its parts share.
 *
 * Owner: tcpe_create()/tcpe_destroy(); a socket is the caller's until tcpe_close() or
 *        tcpe_abort(), a flow the stack's.
 * Runs on: one thread at a time.
 * Units: virtual microseconds, bytes.
 */
#ifndef TESTS_SIM_EMBED_H
#define TESTS_SIM_EMBED_H

#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/tcp.h"
#include "tests/sim/tcp_embed.h"

enum { EMBED_BUCKETS = 256 };

/* A segment that was sent and is not acknowledged. */
struct embed_segment {
	uint32_t seq, end;
	uint64_t sent_us;
	bool again, sacked; /* again: it was sent more than once */
};

/* Why a flow is not faster at the moment. */
enum embed_limit { LIMIT_NONE, LIMIT_BUSY, LIMIT_WINDOW, LIMIT_BUFFER, LIMITS };

/* What is seen of one connection from outside: its packets. */
struct embed_flow {
	struct list link;
	struct flow_key key;
	handle_t handle; /* of the stream, or of the latest that a half-open entry has been */
	bool half_open;  /* of its stream */
	struct embed_segment *segments; /* by sequence number: first to end - 1 */
	unsigned first, end, room;
	uint32_t iss, irs, max_end; /* max_end: one past the highest number sent */
	uint32_t una, rcv;          /* as far as bytes_acked, bytes_received have come */
	uint16_t largest_in;        /* payload */
	uint16_t pmtu;              /* 0: nobody said so */
	bool iss_known, irs_known, fin_acked, ecn_seen;
	uint64_t data_sent_us, data_received_us, ack_received_us;
	uint64_t bytes_sent, bytes_acked, bytes_received, bytes_again;
	uint32_t segments_out, segments_in, data_out, data_in, total_again, timeouts, out_of_order;
	uint32_t dsacks, delivered, delivered_marked, min_rtt_us;
	uint8_t retries; /* of the stream, at the last retransmission */
	uint64_t since_us, limited_us[LIMITS];
	enum embed_limit limit;
};

struct embed_packet {
	struct list link;
	uint64_t when_us;
	size_t bytes;
	uint8_t data[];
};

enum embed_kind { SOCK_FRESH, SOCK_LISTENER, SOCK_CONNECTION };

struct tcpe_sock {
	struct list link, queue_link; /* the stack's sockets; the listener's queue */
	struct tcpe_stack *st;
	enum embed_kind kind;
	uint8_t family;
	bool bound, connected, reported, shut_read, shut_write, fin_seen, autotune;
	int error;
	struct tcpe_addr local, peer;
	struct stream *stream; /* NULL: none, or it has ended */
	handle_t handle;
	struct stream_tuning tuning;
	uint32_t receive_limit;
	int32_t linger_s; /* -1: off */
	/* what was unread when the stream ended */
	uint8_t *rest;
	size_t rest_at, rest_end;
	/* autotuning: bytes read since the round trip began */
	uint64_t round_us;
	uint32_t round_bytes;
	/* listener */
	struct list queue;
	unsigned queued, backlog;
};

struct tcpe_stack {
	struct shard shard;
	struct tcp_stack *tcp;
	struct tcpe_config config;
	void *memory;
	size_t memory_bytes;
	uint64_t random; /* where the caller gave no generator */
	struct list packets, socks, flows[EMBED_BUCKETS];
	unsigned n_socks, n_flows;
	uint64_t invalid; /* packets dropped before TCP saw them */
	int unreachable;  /* errno for what an ICMP error ends */
};

/* tcp_embed.c */
void embed_flush(struct tcpe_stack *st);
struct ip_addr embed_ip(const struct tcpe_addr *a);
struct tcpe_addr embed_addr(const struct ip_addr *ip, uint16_t port);
struct stream *embed_stream(const struct tcpe_stack *st, const struct flow_key *key,
			    uint32_t *reference);
enum tcpe_state embed_state(const struct stream *s);
bool embed_is_local(const struct tcpe_stack *st, const struct ip_addr *a);

/* embed_packet.c: one received IP packet; false: it is not for TCP */
bool embed_receive(struct tcpe_stack *st, const uint8_t *p, size_t n);

/* embed_socket.c */
extern const struct stream_events embed_events;
bool embed_port_taken(const struct tcpe_stack *st, uint16_t port);
void embed_sock_free(struct tcpe_sock *s);
struct tcpe_sock *embed_sock_new(struct tcpe_stack *st, uint8_t family);
size_t embed_unread(const struct tcpe_sock *s);

/* embed_flow.c: the TCP header and payload of a segment of the flow */
void embed_flow_out(struct tcpe_stack *st, const struct ip_addr *local, const struct ip_addr *peer,
		    const uint8_t *h, uint32_t bytes);
void embed_flow_in(struct tcpe_stack *st, const struct tcp_packet *p, uint32_t out_of_order);
/* The state has changed by a call. */
void embed_flow_touch(struct tcpe_stack *st, const struct stream *s);
struct embed_flow *embed_flow_of(struct tcpe_stack *st, const struct stream *s);
/* The flow of a socket whose stream has ended; NULL: forgotten. */
const struct embed_flow *embed_flow_past(struct tcpe_stack *st, const struct tcpe_sock *s);
void embed_flows_free(struct tcpe_stack *st);

#endif
