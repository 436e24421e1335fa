/*
 * tls.h - certificates, contexts and the handshake threads.
 *
 * A whole handshake leaves the core: the worker frames TLS records, lends them with the SSL
 * object to a handshake thread over a ring, and gets object and answer back over a ring.
 * After the handshake records are read and written on the worker (conn.h).
 *
 * Owner: struct tls one a process; struct tls_worker one a worker.
 * Runs on: tls_open/start/close main thread; tls_poll on the worker.
 * Errors: -errno with a text naming file and remedy.
 * Source: RFC 8446, 5246, 8314 section 4, 9325 (versions and suites).
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "base/shard.h"
#include "tls/counters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls;
struct tls_worker;

struct tls_certificate {
	const char *chain, *key;  /* PEM files */
	const char *ocsp;         /* a DER response to staple; NULL or "": none */
	const char *const *names; /* in place of the certificate's own */
	unsigned n_names;
};

struct tls_rate {
	uint64_t count, per_us; /* per_us 0: no limit */
};

/* What unknown clients may cost, a worker. */
struct tls_budget {
	struct tls_rate per_network; /* full handshakes of a /24 (IPv6: /64); resumption: half */
	struct tls_rate per_name;    /* and for one SNI */
	unsigned queue;              /* handshakes that wait to begin; 0: 1024 */
	uint64_t deadline_us;        /* how long; 0: 5 s */
};

enum tls_suite { TLS_SUITE_AES_256_GCM, TLS_SUITE_AES_128_GCM, TLS_SUITE_CHACHA20, TLS_SUITES };
enum tls_group { TLS_GROUP_X25519, TLS_GROUP_P256, TLS_GROUP_P384, TLS_GROUPS };

struct tls_config {
	const struct tls_certificate *certificates; /* the first is the default */
	unsigned n_certificates;
	const char *directory;      /* of NAME/fullchain.pem and NAME/key.pem; NULL or "": none */
	unsigned directory_entries; /* of these kept at a time, a thread, 6 KiB each; 0: 1024 */
	bool minimum_1_3;
	uint32_t suites,
		groups; /* bits 1 << enum tls_suite, tls_group; 0: suites all, groups two */
	const char *ticket_secret;  /* file; NULL or "": a random one of this process */
	uint64_t ticket_lifetime_s; /* 0: 12 h */
	const char *client_ca;      /* PEM file: asks clients for certificates; NULL or "": not */
	struct tls_budget budget;
	unsigned threads;
	const char *signer;    /* socket of postern-signer, which has the keys; NULL or "": none */
	const char *ca_file;   /* verifies next hops; NULL: the system's store */
	uint32_t max_sessions; /* TLS objects, all workers */
	bool native_records;   /* after the handshake they are ours (native.c), not OpenSSL's */
	bool channel_bindings; /* take them at the end of each handshake: 3 us and 100 octets */
	bool client_only;      /* nobody is served, so there may be no certificate */
	bool client_1_2;       /* client role: TLS 1.2 at most */
};

/* Before the first use of OpenSSL in the process: its memory becomes countable. */
bool tls_memory_init(void);
/* A thread that has used OpenSSL, at its end. */
void tls_memory_thread_ends(void);
/* Tests: the nth allocation of OpenSSL from now on fails on this thread (0: none); whether it has,
 * which also calls it off. */
void tls_memory_fail(uint64_t nth);
bool tls_memory_failed(void);
/* Whether what OpenSSL allocates is left out of core dumps (with jemalloc). */
bool tls_memory_is_private(void);
/* Now and then, not on a worker: pages that OpenSSL has freed some seconds ago go back to the
 * system. */
void tls_memory_trim(void);
/* Bytes that OpenSSL holds now, all threads. */
uint64_t tls_memory_used(void);

int tls_open(struct tls **t, const struct tls_config *c, char *error, size_t error_bytes);
int tls_start(struct tls *t);
/* Control thread: certificates, OCSP responses, ticket secret, client_ca and version of c for new
 * sessions; the sessions there are go on.  How many certificates were read from their files, or
 * -errno with a text and nothing changed.  The number of threads and sessions stays. */
int tls_reload(struct tls *t, const struct tls_config *c, char *error, size_t error_bytes);
/* Control thread, about once a second: moves ticket keys on, frees what no session uses any
 * more, warns of certificates that expire. */
void tls_refresh(struct tls *t, int64_t wall_s);
/* Gauges, any thread: days until the first certificate expires (0: one has), configurations
 * that are kept because sessions use them. */
uint64_t tls_days_left(void *tls);
uint64_t tls_retired(void *tls);
/* At the end, in this order: tls_stop() joins the threads, the workers are destroyed with what
 * was still in flight, tls_close() frees the contexts. */
void tls_stop(struct tls *t);
void tls_close(struct tls *t);

struct tls_worker *tls_worker_create(struct tls *t, struct shard *shard);
void tls_worker_destroy(struct tls_worker *w);
/* Handshake steps that came back; the number. */
unsigned tls_poll(struct tls_worker *w);
/* Tests in one thread: runs what waits in the handshake queues; the number of steps. */
unsigned tls_run_queued(struct tls *t);

/* CPU time of server handshakes on their threads, by kind. */
enum tls_kind { TLS_FULL_ECDSA, TLS_FULL_RSA, TLS_RESUMED_1_3, TLS_RESUMED_1_2, TLS_KINDS };
enum { TLS_COST_BUCKETS = 12 };
extern const uint64_t tls_cost_bounds_us[TLS_COST_BUCKETS - 1];
struct tls_cost {
	uint64_t bucket[TLS_COST_BUCKETS]; /* handshakes up to the bound; the last: above all */
	uint64_t sum_us;
};
/* [TLS_KINDS] */
const struct tls_cost *tls_costs(const struct tls_worker *w);

const uint64_t *tls_counters(const struct tls_worker *w);

#endif
