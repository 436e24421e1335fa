/*
 * tcp.h - one instance of the TCP stack (RFC 9293), for one worker or one virtual-time test.
 *
 * Packets, time (shard) and randomness are injected; no DPDK, no system call, no mutable
 * global.  The same object code runs in the daemon and in the simulator.
 *
 * Owner: the worker (or test) creates and destroys it.
 * Runs on: that worker.
 * Errors: the peer's are verdicts with a counter (counters.h); the environment's are -errno.
 */
#ifndef DATAPLANE_TCP_TCP_H
#define DATAPLANE_TCP_TCP_H

#include "base/addr.h"
#include "base/shard.h"
#include "dataplane/tcp/counters.h"
#include "dataplane/tcp/stream.h"

#include <stdbool.h>
#include <stdint.h>

struct tcp_stack;
struct stream_tuning;

/* Room for one outgoing IP packet, lent by the environment. */
struct tcp_buffer {
	void *handle;  /* the environment's (an mbuf, a simulator packet) */
	uint8_t *data; /* first byte of the IP header */
};

/* What the stack needs from below; all functions are set. */
struct tcp_env {
	void *arg;
	/* false: no buffer now; the stack tries again from a timer or on the next event.
	 * control: ACK, RST, SYN-ACK may draw from the reserved pool. */
	bool (*get_buffer)(void *arg, struct tcp_buffer *b, unsigned bytes, bool control);
	/* Sends the packet: IP header, TCP header and checksums complete (but see below).  Takes
	 * the buffer. */
	void (*send)(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to);
	void (*drop_buffer)(void *arg, struct tcp_buffer *b);
	/* Whether packets of this flow (as received: peer is source) belong to this worker; the
	 * client role picks source ports by it. */
	bool (*owns_flow)(void *arg, const struct ip_addr *local, uint16_t local_port,
			  const struct ip_addr *peer, uint16_t peer_port);
	/* send() has the port complete TCP checksums: it gets the pseudo header's sum in place. */
	bool tx_checksum_offload;
};

/* Order (and padding) of the options in SYN and SYN-ACK, which RFC 9293 leaves free. */
enum tcp_option_layout {
	TCP_OPTIONS_LINUX,   /* mss, sackOK, timestamp, nop, scale */
	TCP_OPTIONS_FREEBSD, /* mss, nop, scale, sackOK, timestamp; end-of-list padding */
};

/* RFC 3168 */
enum tcp_ecn {
	TCP_ECN_OFF,
	TCP_ECN_ACCEPT, /* where the peer asks for it */
	TCP_ECN_ON,     /* we ask as well */
};

enum tcp_congestion { TCP_CONGESTION_NEWRENO, TCP_CONGESTION_CUBIC };

/* When a SYN is answered without keeping anything of it (syn_cookie.h) */
enum tcp_cookies {
	TCP_COOKIES_NEVER,          /* beyond the backlog SYNs are dropped */
	TCP_COOKIES_UNDER_PRESSURE, /* the backlog is full, or chunks are short */
	TCP_COOKIES_ALWAYS,
};

struct tcp_config {
	uint16_t mtu;         /* bytes of IP packet */
	uint16_t mss;         /* upper bound of what we announce; 0: mtu minus headers (RFC 6691) */
	uint32_t max_streams; /* tcbs, both roles */
	uint32_t max_time_wait; /* entries; the oldest goes when full */
	uint32_t syn_backlog;   /* half-open connections a listener keeps */
	enum tcp_cookies syn_cookies;
	uint32_t synacks_per_s;     /* SYNs answered by all listeners; 0: no limit */
	uint32_t send_limit;        /* bytes a stream may have unacknowledged or unsent */
	uint32_t receive_limit;     /* receive window before the upper layer changes it */
	uint32_t receive_limit_max; /* the most stream_set_receive_limit() can ask for */
	uint32_t init_window;  /* bytes offered in SYN and SYN-ACK; 0: receive_limit, <= 65535 */
	uint8_t receive_scale; /* window shift offered; 255: from receive_limit_max */
	enum tcp_option_layout option_layout;
	enum tcp_congestion congestion;
	enum tcp_ecn ecn;
	uint32_t init_cwnd;                           /* segments (RFC 6928: 10) */
	uint32_t rto_min_us, rto_init_us, rto_max_us; /* RFC 6298 */
	uint32_t delack_us;                           /* <= 40000 */
	uint32_t syn_retries, synack_retries, data_retries;
	uint32_t time_wait_us, fin_wait2_us;
	uint32_t keep_idle_s, keep_interval_s, keep_count;
	uint32_t challenge_acks_per_s; /* RFC 5961 section 7 */
	uint32_t trace_events; /* kept for tcp_trace_read() (trace.h); a power of two, or 0 */
	uint32_t ts_tick_us;   /* of the timestamp clock */
	uint32_t quick_acks;   /* tunable: the first so many segments are ACKed at once */
	bool timestamps, window_scaling, sack;
	bool blackhole_detection;    /* smaller segments after timeouts in a row (RFC 4821) */
	bool rack;                   /* loss by time (RFC 8985); false: by blocks (RFC 6675) */
	bool tlp;                    /* probe the tail (RFC 8985 section 7) */
	bool frto;                   /* needless timeouts found by ACKs (RFC 5682) */
	bool prr;                    /* RFC 6937; false: cwnd falls at once (RFC 6675) */
	bool limited_transmit;       /* RFC 3042 */
	uint8_t duplicate_threshold; /* RFC 5681: 3 */
	bool hystart;                /* leave slow start when the round trip grows (RFC 9406) */
	bool dsack;                  /* report duplicates (RFC 2883) */
	bool random_isn;             /* false: the number drawn, with neither clock nor hash */
	bool random_timestamps;      /* false: the clock without an offset */
	bool restart_after_idle;     /* RFC 5681 section 4.1 */
	bool drop_syn_fin;           /* a SYN with FIN is dropped; false: its FIN is ignored */
	bool reset_after_close; /* data after stream_close() draws RST (RFC 9293 section 3.6.1) */
	bool tunable;           /* stream_tune() works (tuning.h) */
};
void tcp_config_default(struct tcp_config *c);

/* NULL when memory is short or the configuration is out of range. */
struct tcp_stack *tcp_create(struct shard *shard, const struct tcp_env *env,
			     const struct tcp_config *config);
void tcp_destroy(struct tcp_stack *t); /* sends nothing, calls no event */

/* admit: NULL, or asked before a connection takes memory; false refuses it (counted): the SYN is
 * dropped without a word, or, where the SYN was answered by a cookie, its ACK is answered by RST.
 */
struct tcp_listen {
	struct ip_addr local; /* family 0: any local address */
	uint16_t port;
	const struct stream_events *events;
	void *user;
	bool (*admit)(void *user, const struct ip_addr *peer);
	/* NULL, or asked when a handshake begins and ends: true drops the segment, for the peer to
	 * send again (counted). */
	bool (*full)(void *user);
	const struct stream_tuning *tuning; /* NULL: the stack's; else lives as long as this does */
};
int tcp_listen(struct tcp_stack *t, const struct tcp_listen *l); /* 0, -EADDRINUSE, -ENOMEM */
/* The end of one listener and of the connections half open on it; -ENOENT: there is none. */
int tcp_unlisten(struct tcp_stack *t, const struct ip_addr *local, uint16_t port);
/* Refuses new SYNs on every listener from now on (drain); established streams live on. */
void tcp_stop_listening(struct tcp_stack *t);

/* One received segment; the IP header has been checked, Ethernet padding cut off. */
struct tcp_packet {
	struct ip_addr source, destination;
	const uint8_t *segment; /* TCP header and payload, borrowed for the call */
	uint32_t bytes;
	uint8_t tos;        /* IPv4 TOS or IPv6 traffic class */
	bool checksum_good; /* the port vouched for the TCP checksum; else it is verified */
};
enum tcp_verdict { TCP_ACCEPTED, TCP_BAD_CHECKSUM, TCP_MALFORMED, TCP_NO_LISTENER, TCP_REFUSED };
enum tcp_verdict tcp_input(struct tcp_stack *t, const struct tcp_packet *p);
/* The same for n packets, at most TCP_BURST, in their order: what they need of the tables and tcbs
 * is fetched for all of them before the first is taken. */
enum { TCP_BURST = 32 };
void tcp_input_burst(struct tcp_stack *t, const struct tcp_packet *p, unsigned n,
		     enum tcp_verdict *verdict);
/* End of a burst: events for the streams touched, then their segments and ACKs. */
void tcp_flush(struct tcp_stack *t);
/* An ICMP error or a failed ARP for a segment we sent: soft or hard error to its stream.
 * quoted: IP header and at least 8 bytes of TCP header. */
void tcp_unreachable(struct tcp_stack *t, const struct ip_addr *local, uint16_t local_port,
		     const struct ip_addr *peer, uint16_t peer_port);

/* A router could not pass on the segment of this flow that began at sequence: the next link takes
 * packets of mtu bytes (0: it did not say).  Believed only for data in flight (RFC 5927). */
void tcp_packet_too_big(struct tcp_stack *t, const struct ip_addr *local, uint16_t local_port,
			const struct ip_addr *peer, uint16_t peer_port, uint32_t sequence,
			uint32_t mtu);

/* Statistics; the array is the stack's, single writer. */
const uint64_t *tcp_counters(const struct tcp_stack *t);
unsigned tcp_stream_count(const struct tcp_stack *t);

#endif
