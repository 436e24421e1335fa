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

struct tls_config {
	const char *chain, *key; /* PEM files */
	bool minimum_1_3;
	unsigned threads;
	const char *ca_file;   /* verifies next hops; NULL: the system's store */
	uint32_t max_sessions; /* TLS objects, all workers */
	bool channel_bindings; /* take them at the end of each handshake: 3 us and 100 octets */
};

/* Before the first use of OpenSSL in the process: its memory becomes countable. */
bool tls_memory_init(void);
/* Bytes that OpenSSL holds now, all threads. */
uint64_t tls_memory_used(void);

int tls_open(struct tls **t, const struct tls_config *c, char *error, size_t error_bytes);
int tls_start(struct tls *t);
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

const uint64_t *tls_counters(const struct tls_worker *w);

#endif
