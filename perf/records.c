/*
 * records.c - what a record costs the worker: OpenSSL's (tls.records: openssl) beside ours
 *(native), in one process, in turns, over streams that are buffers.
 *
 *	build/perf/perf-records [ROUNDS]
 *
 * "one": a row of records of one session, whose key the context still holds.  "many": each record
 * belongs to another of 64 sessions, so that ours makes its key anew each time.
 */
#include "perf/tls_pipe.h"
#include "tests/sim/cert.h"
#include "tls/conn.h"
#include "tls/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SESSIONS = 64, MEMORY = 64 << 20, LARGEST = 16384 };
enum mode { OPENSSL, NATIVE, MODES };

struct side {
	struct conn conn;
	struct stream stream;
	SSL *client;
	bool secured;
};

struct bench {
	struct shard shard;
	void *memory;
	struct tls *tls;
	struct tls_worker *worker;
	struct side side[SESSIONS];
};

static struct bench benches[MODES];
static SSL_CTX *client;

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "perf-records: %s\n", what);
	exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t draw(void *arg)
{
	return 4;
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
	must(false, "a session has ended");
}

static const struct conn_events events = {on_secured, on_nothing, on_nothing, on_ended};

/* What the client has sent becomes the gateway's to read. */
static void from_client(struct side *s)
{
	uint8_t buf[PIPE_BYTES];
	int n;

	while ((n = BIO_read(SSL_get_wbio(s->client), buf, sizeof(buf))) > 0)
		pipe_put(&s->stream.in, buf, (size_t)n);
}

static void to_client(struct side *s)
{
	struct pipe_buffer *out = &s->stream.out;

	if (out->end > out->start)
		BIO_write(SSL_get_rbio(s->client), out->data + out->start,
			  (int)(out->end - out->start));
	out->start = out->end = 0;
}

static void open_side(struct bench *b, struct side *s, int version)
{
	static const struct conn_tls server;
	uint8_t byte;

	*s = (struct side){.client = SSL_new(client)};
	SSL_set_bio(s->client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(s->client);
	SSL_set_max_proto_version(s->client, version);
	conn_init(&s->conn, b->worker, &s->stream, &events);
	must(conn_secure(&s->conn, &server), "no room for a session");
	for (unsigned i = 0; i < 4; i++) {
		if (SSL_do_handshake(s->client) == 1)
			SSL_read(s->client, &byte, 1);
		from_client(s);
		conn_stream_readable(&s->stream, &s->conn);
		while (tls_run_queued(b->tls) > 0)
			tls_poll(b->worker);
		to_client(s);
	}
	must(s->secured, "a handshake failed");
}

static void close_sides(struct bench *b)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		conn_abort(&b->side[i].conn);
		SSL_free(b->side[i].client);
		pipe_free(&b->side[i].stream);
	}
	while (tls_run_queued(b->tls) > 0)
		tls_poll(b->worker);
}

/* ns a record of n octets; most records a turn fit a pipe. */
static double writes(struct bench *b, size_t n, unsigned sessions, unsigned turns)
{
	static const uint8_t text[LARGEST];
	uint64_t ns = 0;

	for (unsigned t = 0; t < turns; t++) {
		for (unsigned i = 0; i < SESSIONS; i++)
			b->side[i].stream.out.start = b->side[i].stream.out.end = 0;
		uint64_t from = cpu_ns();
		for (unsigned i = 0; i < SESSIONS; i++) {
			struct side *s = &b->side[i % sessions];
			if (n == LARGEST)
				s->stream.out.start = s->stream.out.end = 0;
			must(conn_write(&s->conn, text, n, false) == n, "a write fell short");
		}
		ns += cpu_ns() - from;
	}
	return (double)ns / (turns * SESSIONS);
}

static double reads(struct bench *b, size_t n, unsigned sessions, unsigned turns)
{
	static uint8_t text[LARGEST];
	uint64_t ns = 0;

	for (unsigned t = 0; t < turns; t++) {
		unsigned at_once = n == LARGEST ? 1 : SESSIONS;
		for (unsigned done = 0; done < SESSIONS; done += at_once) {
			for (unsigned i = 0; i < at_once; i++) {
				struct side *s = &b->side[(done + i) % sessions];
				SSL_write(s->client, text, (int)n);
				from_client(s);
			}
			uint64_t from = cpu_ns();
			for (unsigned i = 0; i < at_once; i++) {
				struct side *s = &b->side[(done + i) % sessions];
				must(conn_read(&s->conn, text, sizeof(text)) == n,
				     "a read fell short");
			}
			ns += cpu_ns() - from;
		}
	}
	return (double)ns / (turns * SESSIONS);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

typedef double measure(struct bench *b, size_t n, unsigned sessions, unsigned turns);

static void compare(const char *what, measure *f, size_t n, unsigned sessions, unsigned rounds)
{
	double *ratio = calloc(rounds, sizeof(*ratio)), best[MODES] = {0};
	unsigned turns = n == LARGEST ? 1 : 20;

	for (unsigned i = 0; i < rounds; i++) {
		double ns[MODES];
		for (enum mode m = 0; m < MODES; m++) {
			ns[m] = f(&benches[m], n, sessions, turns);
			if (best[m] == 0 || ns[m] < best[m])
				best[m] = ns[m];
		}
		ratio[i] = ns[OPENSSL] / ns[NATIVE];
	}
	qsort(ratio, rounds, sizeof(*ratio), by_size);
	printf("  %-10s %6zu octets, %-4s %9.0f %9.0f %7.2f\n", what, n,
	       sessions == 1 ? "one" : "many", best[OPENSSL], best[NATIVE], ratio[rounds / 2]);
	free(ratio);
}

static void one_suite(int version, const char *suite, unsigned rounds)
{
	if (version == TLS1_3_VERSION)
		SSL_CTX_set_ciphersuites(client, suite);
	else
		SSL_CTX_set_cipher_list(client, suite);
	for (enum mode m = 0; m < MODES; m++)
		for (unsigned i = 0; i < SESSIONS; i++)
			open_side(&benches[m], &benches[m].side[i], version);
	printf("%s\n", suite);
	static const size_t sizes[] = {64, LARGEST};
	for (unsigned k = 0; k < 4; k++) {
		size_t n = sizes[k / 2];
		unsigned sessions = k % 2 == 0 ? 1 : SESSIONS;
		compare("write", writes, n, sessions, rounds);
		compare("read", reads, n, sessions, rounds);
	}
	for (enum mode m = 0; m < MODES; m++)
		close_sides(&benches[m]);
}

static void open_bench(struct bench *b, bool native, const char *chain, const char *key)
{
	struct tls_certificate own = {.chain = chain, .key = key};
	struct tls_config c = {.certificates = &own,
			       .n_certificates = 1,
			       .threads = 1,
			       .max_sessions = SESSIONS,
			       .ca_file = chain,
			       .native_records = native};
	char error[512];

	b->memory = aligned_alloc(65536, MEMORY);
	b->shard = (struct shard){
		.now_us = 1, .chunks = chunk_pool_create(b->memory, MEMORY), .random64 = draw};
	must(tls_open(&b->tls, &c, error, sizeof(error)) == 0, error);
	b->worker = tls_worker_create(b->tls, &b->shard);
}

static void close_bench(struct bench *b)
{
	tls_worker_destroy(b->worker);
	tls_close(b->tls);
	chunk_pool_destroy(b->shard.chunks);
	free(b->memory);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	char directory[] = "/tmp/perf-records.XXXXXX", chain[64], key[64];

	must(rounds > 1 && rounds <= 10000, "ROUNDS 2..10000");
	must(tls_memory_init(), "OpenSSL was used before its allocator could be set");
	must(mkdtemp(directory) != NULL, "no temporary directory");
	snprintf(chain, sizeof(chain), "%s/chain.pem", directory);
	snprintf(key, sizeof(key), "%s/key.pem", directory);
	struct cert c = cert_make(
		&(struct cert_spec){.common_name = "mx.test", .alternative = "DNS:mx.test"});
	cert_save(&c, chain, key);
	cert_free(&c);
	client = SSL_CTX_new(TLS_client_method());
	for (enum mode m = 0; m < MODES; m++)
		open_bench(&benches[m], m == NATIVE, chain, key);
	printf("%-37s %9s %9s %7s\n", "ns of CPU a record", "openssl", "native", "ratio");
	one_suite(TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", rounds);
	one_suite(TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", rounds);
	one_suite(TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", rounds);
	one_suite(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", rounds);
	for (enum mode m = 0; m < MODES; m++)
		close_bench(&benches[m]);
	SSL_CTX_free(client);
	unlink(chain);
	unlink(key);
	rmdir(directory);
	return 0;
}
