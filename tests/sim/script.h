/*
 * script.h - one TCP stack against hand-made segments, in virtual time.
 *
 * Sequence numbers are relative: in segments to the stack `seq` counts from the peer's SYN (0) and
 * `ack` from the stack's own SYN; in segments from the stack the other way round.
 *
 * Owner: the test; all assertions are cmocka's.
 * Units: virtual microseconds.
 */
#ifndef TESTS_SIM_SCRIPT_H
#define TESTS_SIM_SCRIPT_H

#include "base/shard.h"
#include "dataplane/tcp/tcb.h"
#include "dataplane/tcp/tcp.h"
#include "dataplane/tcp/wire.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	S_FIN = WIRE_FIN,
	S_SYN = WIRE_SYN,
	S_RST = WIRE_RST,
	S_PSH = WIRE_PSH,
	S_ACK = WIRE_ACK,
	SCRIPT_MSS = 1460,
	SCRIPT_PORT = 25,
	SCRIPT_PEER_PORT = 40000,
};

/* A segment that the stack has sent. */
struct script_segment {
	uint8_t flags, tos;
	uint32_t seq, ack; /* relative */
	uint32_t bytes;
	uint16_t window; /* as on the wire */
	uint8_t options[40];
	unsigned option_bytes;
	bool has_timestamp;
	uint32_t ts_value, ts_echo;
	uint8_t data[9000];
};

struct script {
	struct shard shard;
	struct tcp_stack *tcp;
	struct tcp_config config;
	void *memory;
	uint64_t random;
	uint32_t peer_iss, iss; /* iss: learnt from the first SYN seen */
	bool iss_known;
	uint16_t peer_port, port;
	uint16_t window; /* of the peer's segments */
	bool timestamps; /* the peer's segments carry them */
	uint32_t ts_value;
	uint8_t tos;              /* of the peer's segments */
	bool spoil_checksum;      /* of the next segment in */
	bool no_buffers;          /* get_buffer() says no */
	bool offload;             /* a port completes the checksums, as told by tcp_env */
	enum tcp_verdict verdict; /* of the last segment in */

	struct script_segment *out;
	unsigned n_out, taken, room;

	/* the upper layer */
	struct stream *stream;
	char log[512];     /* "opened readable closed:reset ..." */
	bool keep_unread;  /* readable does not consume */
	uint32_t received; /* bytes consumed */
	void (*on_event)(struct script *x, const char *event, struct stream *s);
	bool (*admit)(void *user, const struct ip_addr *peer);
};

/* configure may be NULL; it changes the defaults (no timestamps, scaling, SACK; MTU 1500). */
struct script *script_create(void (*configure)(struct tcp_config *c));
void script_destroy(struct script *x);

/* A segment from the peer, n payload bytes; then the flush.  _raw: with options and no flush. */
void script_in(struct script *x, unsigned flags, uint32_t seq, uint32_t ack, uint32_t n);
void script_raw(struct script *x, unsigned flags, uint32_t seq, uint32_t ack, const void *options,
		unsigned option_bytes, uint32_t n);
void script_flush(struct script *x);
void script_advance(struct script *x, uint64_t us);

/* The next segment sent; NULL: none. */
const struct script_segment *script_take(struct script *x);
unsigned script_pending(const struct script *x);
/* Takes everything that is pending; the number. */
unsigned script_take_all(struct script *x);
void script_expect_at(struct script *x, unsigned flags, uint32_t seq, uint32_t ack, uint32_t n,
		      const char *file, int line);
void script_expect_nothing_at(struct script *x, const char *file, int line);
#define script_expect(x, flags, seq, ack, n) \
	script_expect_at(x, flags, seq, ack, n, __FILE__, __LINE__)
#define script_expect_nothing(x) script_expect_nothing_at(x, __FILE__, __LINE__)

void script_listen(struct script *x);
/* A connect from the stack to the peer; its SYN is left in the queue. */
void script_connect(struct script *x);
/* Handshake in the passive or active role; nothing is left in the queue. */
void script_establish(struct script *x);
void script_establish_active(struct script *x);
/* The same, passive, with a peer that announces an MSS of SCRIPT_MSS; a script of its own. */
struct script *script_established(void (*configure)(struct tcp_config *c));
/* Writes n bytes of a pattern and flushes. */
void script_write(struct script *x, uint32_t n);
/* Of the connection between port and peer_port, TIME_WAIT entries included; CLOSED: none. */
enum tcp_state script_state(const struct script *x);
struct stream *script_tcb(const struct script *x);
/* Leads a fresh script into the state; for the synchronized states by the passive role. */
void script_reach(struct script *x, enum tcp_state state);
uint64_t script_count(const struct script *x, enum tcp_counter c);
/* Makes the stack choose this ISN for the next connection from the peer (passive). */
void script_set_isn(struct script *x, uint32_t isn);

#endif
