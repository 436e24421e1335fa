/*
 * tls.c - what a handshake costs the gateway beside what it costs libssl alone; what an idle
 * session holds; what a dripped handshake takes from a worker.
 *
 *	build/perf/perf-tls [ROUNDS [IDLE [native]]]
 *
 * Both sides of the comparison run in turns in one thread of one process, so that the ratio holds
 * where the numbers do not.  The client's share is never counted.  "thread" is the handshake
 * thread's work, "worker" the worker's: framing, hello, schedule, rings.  native: with records of
 *our own after it (tls.records), which the thread prepares.
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

enum { BATCH = 8, MEMORY = 256 << 20 };

enum kind { FULL_ECDSA, FULL_RSA, FULL_1_2, RESUMED_1_3, RESUMED_1_2, KINDS };
static const struct {
	const char *name;
	bool rsa, resumed;
	int version;
} kinds[KINDS] = {
	[FULL_ECDSA] = {"full, TLS 1.3, ECDSA P-256", false, false, TLS1_3_VERSION},
	[FULL_RSA] = {"full, TLS 1.3, RSA-2048", true, false, TLS1_3_VERSION},
	[FULL_1_2] = {"full, TLS 1.2, ECDSA P-256", false, false, TLS1_2_VERSION},
	[RESUMED_1_3] = {"resumed, TLS 1.3", false, true, TLS1_3_VERSION},
	[RESUMED_1_2] = {"resumed, TLS 1.2", false, true, TLS1_2_VERSION},
};

/* Of libssl alone: a new object a handshake, as usual; one object cleared again and again; a
 * library context of its own. */
enum variant { NEW, REUSED, OWN_LIBRARY, VARIANTS };

static bool native;

struct bench {
	char directory[64], chain[96], key[96];
	struct shard shard;
	void *memory;
	struct tls *tls;
	struct tls_worker *worker;
	OSSL_LIB_CTX *library;
	SSL_CTX *client, *plain[VARIANTS];
	SSL *kept; /* REUSED */
	SSL_SESSION *ours, *theirs[VARIANTS];
	enum kind kind;
	uint64_t thread_ns, worker_ns, plain_ns[VARIANTS];
	uint64_t thread_best, worker_best, plain_best[VARIANTS];
};

struct side { /* one connection to the gateway's layer */
	struct conn conn;
	struct stream stream;
	SSL *client;
	bool secured, ended;
};

static uint64_t cpu_ns(void)
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
		uint64_t from = cpu_ns(), ns = cpu_ns() - from;
		least = i == 0 || ns < least ? ns : least;
	}
	return least;
}

static uint64_t since(uint64_t from)
{
	uint64_t ns = cpu_ns() - from;

	return ns > clock_cost() ? ns - clock_cost() : 0;
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "perf-tls: %s\n", what);
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

static SSL *new_client(struct bench *b, SSL_SESSION *session)
{
	SSL *ssl = SSL_new(b->client);

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(ssl);
	SSL_set_min_proto_version(ssl, kinds[b->kind].version);
	SSL_set_max_proto_version(ssl, kinds[b->kind].version);
	SSL_set_tlsext_host_name(ssl, "mx.test");
	if (session != NULL)
		SSL_set_session(ssl, session);
	return ssl;
}

/* The client's turn; what it has to say. */
static int client_turn(SSL *ssl, uint8_t *out)
{
	uint8_t byte;

	if (SSL_do_handshake(ssl) == 1)
		SSL_read(ssl, &byte, 1); /* takes the tickets */
	int n = BIO_read(SSL_get_wbio(ssl), out, PIPE_BYTES);
	return n > 0 ? n : 0;
}

/* Puts the client's octets before the gateway's layer and back, until both are done. */
static void turn(struct bench *b, struct side *s, unsigned n)
{
	uint8_t buf[PIPE_BYTES];

	for (unsigned i = 0; i < n; i++) {
		int k = client_turn(s[i].client, buf);
		if (k == 0)
			continue;
		pipe_put(&s[i].stream.in, buf, (size_t)k);
		uint64_t from = cpu_ns();
		conn_stream_readable(&s[i].stream, &s[i].conn);
		b->worker_ns += since(from);
	}
	uint64_t from = cpu_ns();
	while (tls_run_queued(b->tls) > 0) {
		b->thread_ns += since(from);
		from = cpu_ns();
		tls_poll(b->worker);
		b->worker_ns += since(from);
		from = cpu_ns();
	}
	for (unsigned i = 0; i < n; i++) {
		struct pipe_buffer *out = &s[i].stream.out;
		if (out->end > out->start)
			BIO_write(SSL_get_rbio(s[i].client), out->data + out->start,
				  (int)(out->end - out->start));
		out->start = out->end = 0;
	}
}

static void open_side(struct bench *b, struct side *s)
{
	static const struct conn_tls server;

	s->client = new_client(b, kinds[b->kind].resumed ? b->ours : NULL);
	uint64_t from = cpu_ns();
	conn_init(&s->conn, b->worker, &s->stream, &events);
	must(conn_secure(&s->conn, &server), "no room for a session");
	b->worker_ns += since(from);
}

static void close_side(struct bench *b, struct side *s)
{
	uint64_t from = cpu_ns();

	conn_abort(&s->conn);
	b->worker_ns += since(from);
	from = cpu_ns();
	tls_run_queued(b->tls);
	b->thread_ns += since(from);
	from = cpu_ns();
	tls_poll(b->worker);
	b->worker_ns += since(from);
	SSL_free(s->client);
	pipe_free(&s->stream);
}

static void ours(struct bench *b)
{
	struct side s[BATCH] = {0};

	for (unsigned i = 0; i < BATCH; i++)
		open_side(b, &s[i]);
	for (unsigned round = 0; round < 4; round++)
		turn(b, s, BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		must(s[i].secured && !s[i].ended, "a handshake failed");
		must(SSL_session_reused(s[i].client) == kinds[b->kind].resumed,
		     "resumed or not, against the plan");
		if (b->ours == NULL)
			b->ours = SSL_get1_session(s[i].client);
		SSL_set_shutdown(s[i].client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		close_side(b, &s[i]);
	}
}

/* The server object of a plain handshake: a new one, or the one before, cleared. */
static SSL *plain_server(struct bench *b, enum variant v)
{
	SSL *server = v == REUSED ? b->kept : NULL;

	if (server != NULL) {
		SSL_clear(server);
		(void)BIO_reset(SSL_get_rbio(server));
		(void)BIO_reset(SSL_get_wbio(server));
	} else {
		server = SSL_new(b->plain[v]);
		SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	}
	SSL_set_accept_state(server);
	return server;
}

/* The same by libssl over memory BIOs, the server's calls counted. */
static void plain(struct bench *b, enum variant v)
{
	uint8_t buf[PIPE_BYTES];

	b->plain_ns[v] = 0;
	for (unsigned i = 0; i < BATCH; i++) {
		SSL *client = new_client(b, kinds[b->kind].resumed ? b->theirs[v] : NULL);
		uint64_t from = cpu_ns();
		SSL *server = plain_server(b, v);
		b->plain_ns[v] += since(from);
		for (unsigned round = 0; round < 4; round++) {
			int n = client_turn(client, buf);
			from = cpu_ns();
			if (n > 0)
				BIO_write(SSL_get_rbio(server), buf, n);
			SSL_do_handshake(server);
			n = BIO_read(SSL_get_wbio(server), buf, sizeof(buf));
			b->plain_ns[v] += since(from);
			if (n > 0)
				BIO_write(SSL_get_rbio(client), buf, n);
		}
		must(SSL_is_init_finished(server) && SSL_is_init_finished(client),
		     "a plain handshake failed");
		must(SSL_session_reused(client) == kinds[b->kind].resumed,
		     "a plain one resumed or not, against the plan");
		if (b->theirs[v] == NULL)
			b->theirs[v] = SSL_get1_session(client);
		SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		from = cpu_ns();
		if (v == REUSED)
			b->kept = server;
		else
			SSL_free(server);
		b->plain_ns[v] += since(from);
		SSL_free(client);
	}
}

/* A new ticket for each resumption under TLS 1.3, as the gateway gives one. */
static SSL_TICKET_RETURN renew(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t n,
			       SSL_TICKET_STATUS status, void *arg)
{
	if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	return SSL_version(ssl) == TLS1_3_VERSION ? SSL_TICKET_RETURN_USE_RENEW
						  : SSL_TICKET_RETURN_USE;
}

static SSL_CTX *plain_context(const struct bench *b, enum variant v)
{
	SSL_CTX *x =
		SSL_CTX_new_ex(v == OWN_LIBRARY ? b->library : NULL, NULL, TLS_server_method());

	SSL_CTX_use_certificate_chain_file(x, b->chain);
	SSL_CTX_use_PrivateKey_file(x, b->key, SSL_FILETYPE_PEM);
	SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(x, 1);
	SSL_CTX_set1_groups_list(x, "X25519:P-256");
	SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_ticket_cb(x, NULL, renew, NULL);
	return x;
}

static void open_bench(struct bench *b, enum kind kind, uint32_t sessions)
{
	static uint64_t seed;
	struct cert c = cert_make(&(struct cert_spec){
		.common_name = "mx.test", .alternative = "DNS:mx.test", .rsa = kinds[kind].rsa});
	char error[512];

	*b = (struct bench){.directory = "/tmp/perf-tls.XXXXXX", .kind = kind};
	must(mkdtemp(b->directory) != NULL, "no temporary directory");
	snprintf(b->chain, sizeof(b->chain), "%s/chain.pem", b->directory);
	snprintf(b->key, sizeof(b->key), "%s/key.pem", b->directory);
	cert_save(&c, b->chain, b->key);
	cert_free(&c);
	b->memory = aligned_alloc(65536, MEMORY);
	b->shard = (struct shard){.now_us = 1,
				  .chunks = chunk_pool_create(b->memory, MEMORY),
				  .random64 = draw,
				  .random_arg = &seed};
	struct tls_certificate own = {.chain = b->chain, .key = b->key};
	struct tls_config tc = {.certificates = &own,
				.n_certificates = 1,
				.threads = 1,
				.max_sessions = sessions + BATCH,
				.native_records = native,
				.ca_file = b->chain};
	must(tls_open(&b->tls, &tc, error, sizeof(error)) == 0, error);
	b->worker = tls_worker_create(b->tls, &b->shard);
	b->client = SSL_CTX_new(TLS_client_method());
	b->library = OSSL_LIB_CTX_new();
	for (enum variant v = 0; v < VARIANTS; v++)
		b->plain[v] = plain_context(b, v);
}

static void close_bench(struct bench *b)
{
	tls_worker_destroy(b->worker);
	tls_close(b->tls);
	SSL_SESSION_free(b->ours);
	SSL_free(b->kept);
	for (enum variant v = 0; v < VARIANTS; v++) {
		SSL_SESSION_free(b->theirs[v]);
		SSL_CTX_free(b->plain[v]);
	}
	SSL_CTX_free(b->client);
	OSSL_LIB_CTX_free(b->library);
	chunk_pool_destroy(b->shard.chunks);
	free(b->memory);
	unlink(b->chain);
	unlink(b->key);
	rmdir(b->directory);
}

/* The sessions to resume come from full handshakes of the same version. */
static void warm_up(struct bench *b)
{
	enum kind kind = b->kind;

	if (!kinds[kind].resumed)
		return;
	b->kind = kinds[kind].version == TLS1_3_VERSION ? FULL_ECDSA : FULL_1_2;
	ours(b);
	for (enum variant v = 0; v < VARIANTS; v++)
		plain(b, v);
	b->kind = kind;
}

static void keep_best(uint64_t *best, uint64_t ns)
{
	if (*best == 0 || ns < *best)
		*best = ns;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void compare(enum kind kind, unsigned rounds)
{
	double *ratio = calloc(rounds, sizeof(*ratio));
	struct bench b;

	open_bench(&b, kind, 0);
	warm_up(&b);
	for (unsigned i = 0; i < rounds; i++) {
		b.thread_ns = b.worker_ns = 0;
		ours(&b);
		for (enum variant v = 0; v < VARIANTS; v++)
			plain(&b, v);
		if (i == 0) /* caches, fetched algorithms */
			continue;
		ratio[i] = (double)b.plain_ns[NEW] / (double)(b.thread_ns + b.worker_ns);
		/* the least disturbed round of each */
		for (enum variant v = 0; v < VARIANTS; v++)
			keep_best(&b.plain_best[v], b.plain_ns[v]);
		if (b.thread_best == 0 ||
		    b.thread_ns + b.worker_ns < b.thread_best + b.worker_best) {
			b.thread_best = b.thread_ns;
			b.worker_best = b.worker_ns;
		}
	}
	double thread = (double)b.thread_best / BATCH / 1000;
	double worker = (double)b.worker_best / BATCH / 1000;
	double libssl[VARIANTS];
	for (enum variant v = 0; v < VARIANTS; v++)
		libssl[v] = (double)b.plain_best[v] / BATCH / 1000;
	/* of neighbours in time: both had the same machine */
	qsort(ratio + 1, rounds - 1, sizeof(*ratio), by_size);
	printf("%-28s %8.1f %8.1f %8.1f %8.0f %7.2f %8.1f %8.1f\n", kinds[kind].name, libssl[NEW],
	       thread, worker, 1e6 / (thread + worker), ratio[rounds / 2], libssl[REUSED],
	       libssl[OWN_LIBRARY]);
	free(ratio);
	close_bench(&b);
}

/* Proportional set size of this process, octets. */
static uint64_t resident(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	unsigned long kib = 0;
	char line[200];

	must(f != NULL, "no /proc/self/smaps_rollup");
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Pss: %lu kB", &kib) == 1)
			break;
	fclose(f);
	return (uint64_t)kib << 10;
}

static void idle(unsigned n)
{
	struct side *s = malloc(n * sizeof(*s));
	struct bench b;

	/* not counted: its pages are there before */
	memset(s, 1, n * sizeof(*s));
	open_bench(&b, FULL_ECDSA, n);
	for (unsigned i = 0; i < 50; i++)
		ours(&b);
	uint64_t before = tls_memory_used(), resident_before = resident();
	for (unsigned i = 0; i < n; i++) {
		s[i] = (struct side){0};
		open_side(&b, &s[i]);
		for (unsigned round = 0; round < 4; round++)
			turn(&b, &s[i], 1);
		must(s[i].secured, "a handshake failed");
		conn_forget_peer(&s[i].conn);
		SSL_set_shutdown(s[i].client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(s[i].client);
		pipe_free(&s[i].stream);
	}
	printf("\n%u idle sessions: %.0f octets of OpenSSL's allocator and %zu of ours each, %zu "
	       "of "
	       "chunks in all; PSS %.0f octets each\n",
	       n, (double)(tls_memory_used() - before) / n, sizeof(struct tls_session),
	       chunk_pool_used(b.shard.chunks), (double)(resident() - resident_before) / n);
	for (unsigned i = 0; i < n; i++) {
		s[i].client = NULL;
		close_side(&b, &s[i]);
	}
	free(s);
	close_bench(&b);
}

static void dripped(void)
{
	struct side s = {0};
	struct bench b;
	uint8_t buf[PIPE_BYTES];
	uint64_t whole, drops = 0;

	open_bench(&b, FULL_ECDSA, 0);
	ours(&b);
	b.worker_ns = 0;
	ours(&b);
	whole = b.worker_ns / BATCH;
	b.worker_ns = 0;
	open_side(&b, &s);
	for (unsigned round = 0; round < 4; round++) {
		int n = client_turn(s.client, buf);
		for (int i = 0; i < n; i++, drops++) {
			pipe_put(&s.stream.in, buf + i, 1);
			uint64_t from = cpu_ns();
			conn_stream_readable(&s.stream, &s.conn);
			b.worker_ns += since(from);
		}
		turn(&b, &s, 1);
	}
	must(s.secured, "the dripped handshake failed");
	printf("a handshake dripped octet by octet costs the worker %.1f us in %llu pieces, whole "
	       "%.1f us\n",
	       (double)b.worker_ns / 1000, (unsigned long long)drops, (double)whole / 1000);
	SSL_set_shutdown(s.client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	close_side(&b, &s);
	close_bench(&b);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 10000;

	native = argc > 3 && strcmp(argv[3], "native") == 0;
	must(tls_memory_init(), "OpenSSL was used before its allocator could be set");
	must(rounds > 1 && rounds <= 10000 && n > 0 && n <= 100000,
	     "ROUNDS 2..10000, IDLE..100000");
	printf("%-28s %8s %8s %8s %8s %7s %8s %8s\n", "handshake, us of CPU", "libssl", "thread",
	       "worker", "a CPU-s", "ratio", "reused", "own lib");
	for (enum kind k = 0; k < KINDS; k++)
		compare(k, rounds);
	idle(n);
	dripped();
	return 0;
}
