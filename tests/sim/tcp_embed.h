/*
 * tcp_embed.h - embedding interface of the userspace TCP stack.
 *
 * One stack instance, one thread, no DPDK, no sockets, no clock of its own: the caller
 * feeds IP packets, takes IP packets, and moves time.  Used by unit tests, fuzzers, the
 * loss simulator and outside test drivers.  The data plane drives the same
 * core; this header only removes the mbuf and the lcore.
 *
 * Rules
 *  - Single-threaded: all calls on one instance come from one thread at a time.  The
 *    caller locks if it has more.  No call blocks, sleeps, reads a clock or starts a thread.
 *  - Time is microseconds, monotone, any epoch, and changes only in tcpe_advance().
 *  - Same config + same rng stream + same call sequence => byte-identical output.
 *  - Packets are whole IPv4/IPv6 packets, no link layer, checksums filled in on output
 *    and checked on input, never larger than cfg.mtu (no TSO: one segment per packet).
 *  - Functions returning int/ssize_t give >= 0, or -errno (Linux numbers); errno is untouched.
 *  - Output caused by a call (packet_in, send, close, advance ...) is queued before it returns.
 */
#ifndef TCP_EMBED_H
#define TCP_EMBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tcpe_stack; /* one stack instance */
struct tcpe_sock;  /* listener or connection, owned by the stack */

struct tcpe_addr {      /* network byte order address, host byte order port */
	uint8_t family; /* 4 or 6 */
	uint8_t ip[16]; /* first 4 bytes used for IPv4 */
	uint16_t port;
};

/* Order (and padding) of options in SYN and SYN-ACK.  RFC 9293 leaves it free, but judges
 * compare bytes, and fingerprinting middleboxes do too. */
enum tcpe_opt_layout {
	TCPE_OPT_LINUX, /* with TS: mss,sackOK,TS,nop,wscale; without: mss,nop,nop,sackOK,nop,wscale
			 */
	TCPE_OPT_FREEBSD, /* mss,nop,wscale,sackOK,TS; eol padding to a multiple of 4 */
};
enum tcpe_cc { TCPE_CC_RENO, TCPE_CC_CUBIC }; /* RFC 5681, RFC 9438 */

struct tcpe_config {               /* start from tcpe_config_default() */
	struct tcpe_addr local[4]; /* addresses answered for; port ignored */
	unsigned n_local;
	uint16_t mtu;    /* bytes of IP packet, 1500 */
	uint16_t mss;    /* 0: mtu minus headers (RFC 6691); else upper bound */
	uint64_t now_us; /* initial time */
	uint64_t (*rng)(
		void *arg); /* 64 random bits: ISS, TS offset, ports, challenge-ACK jitter */
	void *rng_arg;

	bool sack, dsack, timestamps, window_scaling;
	uint8_t rcv_wscale; /* 255: derive from rcvbuf_max; else the exact shift offered */
	uint8_t ecn;        /* 0 off, 1 request+accept, 2 accept only (RFC 3168) */
	enum tcpe_cc cc;
	bool hystart, rack, tlp, prr, frto, limited_transmit;
	uint8_t dupthresh;                 /* 3 */
	bool slow_start_after_idle;        /* RFC 5681 section 4.1 */
	bool random_iss, random_ts_offset; /* false: ISS and TS value come straight from rng/now */
	uint32_t ts_tick_us;               /* 1000 */
	uint32_t init_cwnd;                /* segments, 10 (RFC 6928) */
	uint32_t sndbuf, rcvbuf, rcvbuf_max; /* bytes; per-socket defaults */
	uint32_t init_rcv_wnd; /* bytes offered in SYN/SYN-ACK; 0: from rcvbuf, at most 65535 */
	bool rcvbuf_autotune;
	uint32_t rto_init_us, rto_min_us, rto_max_us; /* 1 s, 200 ms, 120 s */
	uint32_t delack_us;     /* delayed-ACK ceiling, 40 ms; 0: ACK at once */
	uint32_t quickack_segs; /* ACK the first n segments of a connection at once */
	uint32_t syn_retries, synack_retries, data_retries; /* 6, 5, 15 */
	uint32_t time_wait_us, fin_wait2_us;                /* 60 s each */
	uint32_t keep_idle_s, keep_intvl_s, keep_cnt;       /* 7200, 75, 9 */
	bool syn_cookies;
	bool drop_syn_fin;            /* SYN+FIN in LISTEN/SYN-SENT is dropped */
	uint32_t challenge_ack_per_s; /* RFC 5961 section 7; 0: unlimited */
	enum tcpe_opt_layout opt_layout;
	uint32_t max_socks;
};
void tcpe_config_default(struct tcpe_config *cfg);

/* NULL and *err = -errno on a bad config.  destroy frees every socket, sends nothing. */
struct tcpe_stack *tcpe_create(const struct tcpe_config *cfg, int *err);
void tcpe_destroy(struct tcpe_stack *st);

/* ---- packets and time ---- */
/* One received IP packet (bytes are copied; invalid ones are counted and dropped). */
void tcpe_packet_in(struct tcpe_stack *st, const void *ip, size_t len);
/* Take the oldest queued packet.  Returns its length, 0 if none, -EMSGSIZE if size is too
 * small.  *when_us (may be NULL) is the virtual time at which the stack queued it. */
ssize_t tcpe_packet_out(struct tcpe_stack *st, void *buf, size_t size, uint64_t *when_us);
uint64_t tcpe_now(const struct tcpe_stack *st);
/* Absolute time of the earliest armed timer, exact (not rounded to a wheel slot); UINT64_MAX if
 * none. */
uint64_t tcpe_next_timer(const struct tcpe_stack *st);
/* Move to now_us (>= current) and run every timer due on the way in time order, each seeing
 * its own due time as "now". */
void tcpe_advance(struct tcpe_stack *st, uint64_t now_us);

/* ---- sockets: never block; -EAGAIN where a blocking API would wait ---- */
struct tcpe_sock *tcpe_socket(struct tcpe_stack *st, int family /* 4 or 6 */);
int tcpe_bind(struct tcpe_sock *s, const struct tcpe_addr *a); /* port 0: ephemeral */
int tcpe_listen(struct tcpe_sock *s, int backlog);
struct tcpe_sock *tcpe_accept(struct tcpe_sock *l, int *err); /* NULL, *err = -EAGAIN */
int tcpe_connect(struct tcpe_sock *s,
		 const struct tcpe_addr *peer); /* -EINPROGRESS, then 0 / -EISCONN / error */
int tcpe_local_addr(const struct tcpe_sock *s, struct tcpe_addr *a);
int tcpe_peer_addr(const struct tcpe_sock *s, struct tcpe_addr *a);
/* Bytes queued (may be short); -EAGAIN full, -EPIPE after shutdown or RST, or the pending error. */
ssize_t tcpe_send(struct tcpe_sock *s, const void *buf, size_t len, unsigned flags);
#define TCPE_SEND_MORE 1u /* more follows: hold a partial segment, no PSH */
/* 0 = end of stream. */
ssize_t tcpe_recv(struct tcpe_sock *s, void *buf, size_t len, unsigned flags);
#define TCPE_RECV_PEEK 1u
enum { TCPE_SHUT_RD, TCPE_SHUT_WR, TCPE_SHUT_RDWR };
int tcpe_shutdown(struct tcpe_sock *s, int how);
/* Application is done; the handle is invalid afterwards, the connection lives on until its
 * state machine ends.  Unread data => RST (RFC 2525 section 2.17).  linger 0 => RST. */
int tcpe_close(struct tcpe_sock *s);
int tcpe_abort(struct tcpe_sock *s);      /* RST now; handle invalid */
int tcpe_take_error(struct tcpe_sock *s); /* SO_ERROR: positive errno, cleared */
#define TCPE_IN        1u  /* recv would not return -EAGAIN (data or EOF), or accept has one */
#define TCPE_OUT       2u  /* send would take at least one byte (low-water rule applied) */
#define TCPE_RDHUP     4u  /* peer's FIN received */
#define TCPE_HUP       8u  /* both directions finished */
#define TCPE_ERR       16u /* an error is pending */
#define TCPE_CONNECTED 32u /* handshake complete */
unsigned tcpe_ready(const struct tcpe_sock *s);

/* ---- options: set before or after connect; a listener's values are inherited on accept ---- */
enum tcpe_opt {
	TCPE_NODELAY,  /* 0/1 */
	TCPE_CORK,     /* 0/1 */
	TCPE_QUICKACK, /* 0/1 */
	TCPE_LINGER,   /* -1 off, else seconds; 0 = RST on close */
	TCPE_SNDBUF,   /* payload bytes exactly; no doubling */
	TCPE_RCVBUF,   /* bytes; disables autotuning */
	TCPE_MAXSEG,   /* set: before the handshake bounds both directions; get: current SMSS */
	TCPE_USER_TIMEOUT_MS, /* RFC 5482 local; 0 = default */
	TCPE_KEEPALIVE,       /* 0/1 */
	TCPE_KEEPIDLE_S,
	TCPE_KEEPINTVL_S,
	TCPE_KEEPCNT,
	TCPE_SYNCNT,     /* SYN retries of this socket */
	TCPE_CONGESTION, /* enum tcpe_cc */
	TCPE_TOS,        /* DSCP bits; the ECN bits stay the stack's */
	TCPE_INQ,        /* get: unread payload bytes (SIOCINQ; a FIN counts nothing) */
	TCPE_OUTQ,       /* get: bytes not yet acknowledged (SIOCOUTQ) */
	TCPE_OUTQ_NSD,   /* get: bytes not yet sent */
};
int tcpe_setopt(struct tcpe_sock *s, enum tcpe_opt o, int64_t v);
int tcpe_getopt(struct tcpe_sock *s, enum tcpe_opt o, int64_t *v);

/* ---- state for assertions and statistics ---- */
enum tcpe_state {
	TCPE_CLOSED,
	TCPE_LISTEN,
	TCPE_SYN_SENT,
	TCPE_SYN_RCVD,
	TCPE_ESTABLISHED,
	TCPE_FIN_WAIT_1,
	TCPE_FIN_WAIT_2,
	TCPE_CLOSE_WAIT,
	TCPE_CLOSING,
	TCPE_LAST_ACK,
	TCPE_TIME_WAIT
};
enum tcpe_ca { TCPE_CA_OPEN, TCPE_CA_DISORDER, TCPE_CA_CWR, TCPE_CA_RECOVERY, TCPE_CA_LOSS };

struct tcpe_info {
	enum tcpe_state state;
	enum tcpe_ca ca_state;
	bool opt_ts, opt_sack, opt_wscale, opt_ecn, ecn_seen;
	uint8_t snd_wscale, rcv_wscale;
	uint8_t retransmits;     /* consecutive RTOs of the head segment */
	uint8_t probes, backoff; /* zero-window probes unanswered; RTO/probe exponent */
	uint32_t snd_mss, rcv_mss, advmss, pmtu;
	uint32_t cwnd_bytes,
		cwnd_segs;      /* segs = cwnd in units of snd_mss, the figure scripts assert */
	uint32_t ssthresh_segs; /* 0x7fffffff while unset */
	uint32_t unacked, sacked, lost, retrans; /* segments of the scoreboard */
	uint32_t reordering, reord_seen, dsack_dups;
	uint32_t rto_us, ato_us, srtt_us, rttvar_us, min_rtt_us;
	uint32_t last_data_sent_ms, last_data_recv_ms, last_ack_recv_ms; /* ago */
	uint32_t snd_una, snd_nxt, rcv_nxt, iss, irs;
	uint32_t snd_wnd, rcv_wnd; /* bytes, after scaling */
	uint64_t bytes_sent, bytes_acked, bytes_received, bytes_retrans;
	uint32_t segs_out, segs_in, data_segs_out, data_segs_in;
	uint32_t total_retrans, total_rto, delivered, delivered_ce, rcv_ooopack;
	uint32_t notsent_bytes;
	uint64_t busy_us, rwnd_limited_us, sndbuf_limited_us;
};
int tcpe_info(const struct tcpe_sock *s, struct tcpe_info *out);
/* State of a connection whether or not the application still holds it (TIME-WAIT, FIN-WAIT-2
 * after close, SYN-RCVD before accept).  TCPE_CLOSED if the stack knows nothing of the tuple. */
enum tcpe_state tcpe_lookup_state(const struct tcpe_stack *st, const struct tcpe_addr *local,
				  const struct tcpe_addr *peer);
unsigned tcpe_count_state(const struct tcpe_stack *st, enum tcpe_state state);
#endif
