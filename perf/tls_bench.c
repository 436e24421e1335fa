/* tls_bench.c - clients and the gateway's TLS layer in one thread, their shares counted apart */
#include "perf/tls_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t bench_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What reading the clock adds to each interval. */
static uint64_t clock_cost(void)
{
	static uint64_t least;

	for (unsigned i = 0; least == 0 && i < 1000; i++) {
		uint64_t from = bench_cpu_ns(), ns = bench_cpu_ns() - from;
		least = i == 0 || ns < least ? ns : least;
	}
	return least;
}

uint64_t bench_since(uint64_t from)
{
	uint64_t ns = bench_cpu_ns() - from;

	return ns > clock_cost() ? ns - clock_cost() : 0;
}

void bench_must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "perf: %s\n", what);
	exit(1);
}

static uint64_t draw(void *arg)
{
	return ++*(uint64_t *)arg * 0x9e3779b97f4a7c15;
}

static void on_secured(struct conn *c)
{
	container_of(c, struct side, conn)->secured = true;
}

static void on_nothing(struct conn *c)
{
}

static void on_ended(struct conn *c, enum conn_end why)
{
	container_of(c, struct side, conn)->ended = true;
}

static const struct conn_events events = {on_secured, on_nothing, on_nothing, on_ended};

SSL *bench_client(struct bench *b, int version, const char *name, SSL_SESSION *session)
{
	SSL *ssl = SSL_new(b->client);

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(ssl);
	SSL_set_min_proto_version(ssl, version);
	SSL_set_max_proto_version(ssl, version);
	SSL_set_tlsext_host_name(ssl, name);
	if (session != NULL)
		SSL_set_session(ssl, session);
	return ssl;
}

int bench_client_turn(SSL *ssl, uint8_t *out)
{
	uint8_t byte;

	if (SSL_do_handshake(ssl) == 1)
		SSL_read(ssl, &byte, 1); /* takes the tickets */
	int n = BIO_read(SSL_get_wbio(ssl), out, PIPE_BYTES);
	return n > 0 ? n : 0;
}

void bench_turn(struct bench *b, struct side *s, unsigned n)
{
	uint8_t buf[PIPE_BYTES];

	for (unsigned i = 0; i < n; i++) {
		int k = s[i].client != NULL ? bench_client_turn(s[i].client, buf) : 0;
		if (k == 0)
			continue;
		pipe_put(&s[i].stream.in, buf, (size_t)k);
		uint64_t from = bench_cpu_ns();
		conn_stream_readable(&s[i].stream, &s[i].conn);
		b->worker_ns += bench_since(from);
	}
	uint64_t from = bench_cpu_ns();
	while (tls_run_queued(b->tls) > 0) {
		b->thread_ns += bench_since(from);
		from = bench_cpu_ns();
		tls_poll(b->worker);
		b->worker_ns += bench_since(from);
		from = bench_cpu_ns();
	}
	for (unsigned i = 0; i < n; i++) {
		struct pipe_buffer *out = &s[i].stream.out;
		if (out->end > out->start && s[i].client != NULL)
			BIO_write(SSL_get_rbio(s[i].client), out->data + out->start,
				  (int)(out->end - out->start));
		out->start = out->end = 0;
	}
}

void bench_open_side(struct bench *b, struct side *s, SSL *client)
{
	static const struct conn_tls server;

	s->client = client;
	uint64_t from = bench_cpu_ns();
	conn_init(&s->conn, b->worker, &s->stream, &events);
	bench_must(conn_secure(&s->conn, &server), "no room for a session");
	b->worker_ns += bench_since(from);
}

void bench_close_side(struct bench *b, struct side *s)
{
	uint64_t from = bench_cpu_ns();

	conn_abort(&s->conn);
	b->worker_ns += bench_since(from);
	from = bench_cpu_ns();
	tls_run_queued(b->tls);
	b->thread_ns += bench_since(from);
	from = bench_cpu_ns();
	tls_poll(b->worker);
	b->worker_ns += bench_since(from);
	if (s->client != NULL) /* a complete session is one that may be resumed */
		SSL_set_shutdown(s->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(s->client);
	pipe_free(&s->stream);
}

int bench_by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bench_open(struct bench *b, const struct tls_config *config)
{
	static uint64_t seed;
	struct tls_config c = *config;
	char error[512];

	*b = (struct bench){.memory = aligned_alloc(65536, BENCH_MEMORY)};
	b->shard = (struct shard){.now_us = 1,
				  .chunks = chunk_pool_create(b->memory, BENCH_MEMORY),
				  .random64 = draw,
				  .random_arg = &seed};
	c.threads = 1;
	bench_must(tls_open(&b->tls, &c, error, sizeof(error)) == 0, error);
	b->worker = tls_worker_create(b->tls, &b->shard);
	b->client = SSL_CTX_new(TLS_client_method());
	bench_must(b->worker != NULL && b->client != NULL, "out of memory");
}

void bench_close(struct bench *b)
{
	tls_stop(b->tls);
	tls_worker_destroy(b->worker);
	tls_close(b->tls);
	SSL_CTX_free(b->client);
	chunk_pool_destroy(b->shard.chunks);
	free(b->memory);
}
