/*
 * relay.h - delivery of committed messages to the configured next hops, on the worker.
 *
 * Flows in: messages, as the spool found or accepted them (relay_add, relay_accept); replies of
 * next hops. A message whose recipients go to several pools becomes a queue entry a pool (route.c).
 * Flows out: SMTP over the client role of the same TCP stack; dispositions into the spool.
 * A message is removed only after the next hop's 250 has been recorded by the spool.
 *
 * Owner: struct relay_worker one a worker; messages are the relay's from relay_add() on.
 * Runs on: that worker.
 * Errors: the next hop's are verdicts with counters and retries; hostile replies (over-long,
 *         endless, unexpected) close the connection and count.
 * Source: RFC 5321 (client), 3207, 2920, 1870, 6152, 3463.
 */
#ifndef SMTP_RELAY_RELAY_H
#define SMTP_RELAY_RELAY_H

#include "base/addr.h"
#include "base/shard.h"
#include "dataplane/tcp/stream.h"
#include "smtp/relay/counters.h"
#include "smtp/spool/spool.h"
#include "tls/conn.h"
#include "tls/tls.h"

#include <stdbool.h>
#include <stdint.h>

struct records;
struct relay_worker;

enum {
	RELAY_POOLS = 16,
	RELAY_HOPS = 16,
	RELAY_ROUTES = 64,
	RELAY_NAME = 256,
	RELAY_PASSWORD = 256,
	RELAY_PINS = 8,
};

/* REQUIRED and IMPLICIT verify the hop's certificate. */
enum relay_tls {
	RELAY_TLS_NONE,
	RELAY_TLS_OPPORTUNISTIC,
	RELAY_TLS_REQUIRED,
	RELAY_TLS_IMPLICIT, /* from the first octet on (RFC 8314) */
};

struct relay_hop {
	struct ip_addr address;
	uint16_t port;
	char name[RELAY_NAME]; /* SNI and the name to verify; empty: the address */
	enum relay_tls tls;
	/* REQUIRED, IMPLICIT: the keys that its certificate may hold (conn.h); none: its name and
	 * the trust anchors count */
	uint8_t pins[RELAY_PINS][TLS_PIN_BYTES];
	unsigned n_pins;
	bool lmtp;         /* RFC 2033: LHLO, and a reply a recipient after the content */
	unsigned priority; /* the lowest that works takes the messages */
	unsigned weight;   /* share among the hops of a priority; 0 counts as 1 */
	uint64_t gap_us;   /* between two messages of this worker; 0: no limit */
	/* AUTH PLAIN (RFC 4954), under TLS only; user "": none */
	char user[RELAY_NAME], password[RELAY_PASSWORD];
};

struct relay_pool {
	char name[RELAY_NAME];
	struct relay_hop hops[RELAY_HOPS];
	unsigned n_hops;
	unsigned connections; /* per hop and worker */
	uint64_t retry_first_us, retry_max_us, give_up_us;
	uint64_t notice_us; /* age at which those who asked for it hear of the delay */
	unsigned retry_factor;
};

/* The first that matches a recipient's domain names its pool. */
struct relay_route {
	char match[RELAY_NAME]; /* "*", a domain, or "*." and a domain: those below it */
	unsigned pool;
};

struct relay_config {
	char hostname[RELAY_NAME]; /* EHLO */
	struct relay_pool pools[RELAY_POOLS];
	unsigned n_pools;
	struct relay_route routes[RELAY_ROUTES];
	unsigned n_routes;     /* what none matches goes to the first pool */
	uint32_t max_messages; /* queue entries of this worker */
	size_t memory;         /* octets for messages kept until their first attempt (memory.h) */
};

struct relay_env {
	struct shard *shard;
	struct tcp_stack *tcp;
	struct tls_worker *tls;
	struct spool *spool;
	struct spool_client *spool_client; /* the relay's own: relay_poll() drives it */
	struct records *records;           /* outcomes; NULL: not wanted */
	/* Our address towards a next hop; false: no route. */
	bool (*source_for)(void *arg, const struct ip_addr *to, struct ip_addr *source);
	void *source_arg;
};

struct relay_worker *relay_worker_create(const struct relay_env *env, const struct relay_config *c);
/* On the worker: pools, hops and routes of *c from now on, retry times for what is put off from now
 * on.  What is under way ends where it began; hops that stay keep their connections and state. */
void relay_worker_configure(struct relay_worker *w, const struct relay_config *c);
void relay_worker_destroy(struct relay_worker *w);
/* 0, or -ENOMEM: too many entries; the message stays in the spool until the next start. */
int relay_add(struct relay_worker *w, const struct spool_found *f);
/* The same for a message just committed: while there is memory its first attempt needs no read.
 * The parts of the request are only read, during the call. */
int relay_accept(struct relay_worker *w, const struct spool_found *f,
		 const struct spool_request *commit);
/* Stage: spool verdicts, then deliveries that can begin. */
unsigned relay_poll(void *relay_worker);
/* Begins nothing new; deliveries under way end.  relay_idle(): nothing is under way and the
 * spool holds no request of ours. */
void relay_drain(struct relay_worker *w);
bool relay_idle(const struct relay_worker *w);
/* The spool holds no request of ours. */
bool relay_settled(const struct relay_worker *w);

unsigned relay_queued(const struct relay_worker *w);

struct relay_hop_info {
	const struct relay_hop *hop;
	const char *pool; /* borrowed */
	unsigned connections;
	bool down; /* its last connections failed */
	int64_t retry_at_s;
	const char *last_error;
};
void relay_each_hop(struct relay_worker *w, void (*fn)(void *arg, const struct relay_hop_info *i),
		    void *arg);

const uint64_t *relay_counters(const struct relay_worker *w);

#endif
