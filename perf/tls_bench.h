/*
 * tls_bench.h - the TLS layer of one worker and one handshake thread, both run by the caller's own
 * thread over streams that are buffers (tls_pipe.h), with libssl's clients; CPU time by part.
 *
 * Owner: the caller embeds struct bench and struct side.  Runs on: one thread.
 * Units: nanoseconds of CPU of this thread.  Errors: end the process.
 */
#ifndef PERF_TLS_BENCH_H
#define PERF_TLS_BENCH_H

#include "perf/tls_pipe.h"
#include "tls/conn.h"
#include "tls/internal.h"

enum { BENCH_MEMORY = 256 << 20 };

struct bench {
	struct shard shard;
	void *memory;
	struct tls *tls;
	struct tls_worker *worker;
	SSL_CTX *client;
	uint64_t thread_ns, worker_ns; /* added to by the calls below */
};

struct side { /* one connection to the gateway's layer */
	struct conn conn;
	struct stream stream;
	SSL *client;
	bool secured, ended;
};

void bench_must(bool good, const char *what);
uint64_t bench_cpu_ns(void);
/* Since bench_cpu_ns() gave `from`, less what reading the clock costs. */
uint64_t bench_since(uint64_t from);
/* For qsort(). */
int bench_by_size(const void *a, const void *b); /* double */

void bench_open(struct bench *b, const struct tls_config *c);
void bench_close(struct bench *b);

/* version 0: any; session NULL: a full handshake. */
SSL *bench_client(struct bench *b, int version, const char *name, SSL_SESSION *session);
/* The client's turn; the octets that it has to say, at most PIPE_BYTES. */
int bench_client_turn(SSL *ssl, uint8_t *out);

/* The side owns the client from here on. */
void bench_open_side(struct bench *b, struct side *s, SSL *client);
/* Puts the clients' octets before the gateway's layer and its answers before the clients; sides
 * without a client are left out. */
void bench_turn(struct bench *b, struct side *s, unsigned n);
void bench_close_side(struct bench *b, struct side *s);

#endif
