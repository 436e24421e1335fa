/*
 * tls.c - what a handshake costs the gateway beside what it costs libssl alone; what an idle
 * session holds; what a dripped handshake takes from a worker.
 *
 *	build/perf/perf-tls [ROUNDS [IDLE [native]]]
 *
 * Both sides of the comparison run in turns in one thread of one process, so that the ratio holds
 * where the numbers do not.  The client's share is never counted.  "thread" is the handshake
 * thread's work, "worker" the worker's: framing, hello, schedule, rings.  native: with records of
 * our own after it (tls.records), which the thread prepares.
 */
#include "perf/tls_bench.h"
#include "tests/sim/cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 8 };

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

struct contest {
	struct bench bench;
	char directory[64], chain[96], key[96];
	OSSL_LIB_CTX *library;
	SSL_CTX *plain[VARIANTS];
	SSL *kept; /* REUSED */
	SSL_SESSION *ours, *theirs[VARIANTS];
	enum kind kind;
	uint64_t plain_ns[VARIANTS];
	uint64_t thread_best, worker_best, plain_best[VARIANTS];
};

static SSL *new_client(struct contest *b, SSL_SESSION *session)
{
	return bench_client(&b->bench, kinds[b->kind].version, "mx.test", session);
}

static void open_side(struct contest *b, struct side *s)
{
	bench_open_side(&b->bench, s, new_client(b, kinds[b->kind].resumed ? b->ours : NULL));
}

static void ours(struct contest *b)
{
	struct side s[BATCH] = {0};

	for (unsigned i = 0; i < BATCH; i++)
		open_side(b, &s[i]);
	for (unsigned round = 0; round < 4; round++)
		bench_turn(&b->bench, s, BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		bench_must(s[i].secured && !s[i].ended, "a handshake failed");
		bench_must(SSL_session_reused(s[i].client) == kinds[b->kind].resumed,
			   "resumed or not, against the plan");
		if (b->ours == NULL)
			b->ours = SSL_get1_session(s[i].client);
		bench_close_side(&b->bench, &s[i]);
	}
}

/* The server object of a plain handshake: a new one, or the one before, cleared. */
static SSL *plain_server(struct contest *b, enum variant v)
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
static void plain(struct contest *b, enum variant v)
{
	uint8_t buf[PIPE_BYTES];

	b->plain_ns[v] = 0;
	for (unsigned i = 0; i < BATCH; i++) {
		SSL *client = new_client(b, kinds[b->kind].resumed ? b->theirs[v] : NULL);
		uint64_t from = bench_cpu_ns();
		SSL *server = plain_server(b, v);
		b->plain_ns[v] += bench_since(from);
		for (unsigned round = 0; round < 4; round++) {
			int n = bench_client_turn(client, buf);
			from = bench_cpu_ns();
			if (n > 0)
				BIO_write(SSL_get_rbio(server), buf, n);
			SSL_do_handshake(server);
			n = BIO_read(SSL_get_wbio(server), buf, sizeof(buf));
			b->plain_ns[v] += bench_since(from);
			if (n > 0)
				BIO_write(SSL_get_rbio(client), buf, n);
		}
		bench_must(SSL_is_init_finished(server) && SSL_is_init_finished(client),
			   "a plain handshake failed");
		bench_must(SSL_session_reused(client) == kinds[b->kind].resumed,
			   "a plain one resumed or not, against the plan");
		if (b->theirs[v] == NULL)
			b->theirs[v] = SSL_get1_session(client);
		SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		from = bench_cpu_ns();
		if (v == REUSED)
			b->kept = server;
		else
			SSL_free(server);
		b->plain_ns[v] += bench_since(from);
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

static SSL_CTX *plain_context(const struct contest *b, enum variant v)
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

static void open_bench(struct contest *b, enum kind kind, uint32_t sessions)
{
	struct cert c = cert_make(&(struct cert_spec){
		.common_name = "mx.test", .alternative = "DNS:mx.test", .rsa = kinds[kind].rsa});

	*b = (struct contest){.directory = "/tmp/perf-tls.XXXXXX", .kind = kind};
	bench_must(mkdtemp(b->directory) != NULL, "no temporary directory");
	snprintf(b->chain, sizeof(b->chain), "%s/chain.pem", b->directory);
	snprintf(b->key, sizeof(b->key), "%s/key.pem", b->directory);
	cert_save(&c, b->chain, b->key);
	cert_free(&c);
	struct tls_certificate own = {.chain = b->chain, .key = b->key};
	struct tls_config tc = {.certificates = &own,
				.n_certificates = 1,
				.max_sessions = sessions + BATCH,
				.native_records = native,
				.ca_file = b->chain};
	bench_open(&b->bench, &tc);
	b->library = OSSL_LIB_CTX_new();
	for (enum variant v = 0; v < VARIANTS; v++)
		b->plain[v] = plain_context(b, v);
}

static void close_bench(struct contest *b)
{
	SSL_SESSION_free(b->ours);
	SSL_free(b->kept);
	for (enum variant v = 0; v < VARIANTS; v++) {
		SSL_SESSION_free(b->theirs[v]);
		SSL_CTX_free(b->plain[v]);
	}
	bench_close(&b->bench);
	OSSL_LIB_CTX_free(b->library);
	unlink(b->chain);
	unlink(b->key);
	rmdir(b->directory);
}

/* The sessions to resume come from full handshakes of the same version. */
static void warm_up(struct contest *b)
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

static void compare(enum kind kind, unsigned rounds)
{
	double *ratio = calloc(rounds, sizeof(*ratio));
	struct contest b;

	open_bench(&b, kind, 0);
	warm_up(&b);
	for (unsigned i = 0; i < rounds; i++) {
		b.bench.thread_ns = b.bench.worker_ns = 0;
		ours(&b);
		for (enum variant v = 0; v < VARIANTS; v++)
			plain(&b, v);
		if (i == 0) /* caches, fetched algorithms */
			continue;
		ratio[i] =
			(double)b.plain_ns[NEW] / (double)(b.bench.thread_ns + b.bench.worker_ns);
		/* the least disturbed round of each */
		for (enum variant v = 0; v < VARIANTS; v++)
			keep_best(&b.plain_best[v], b.plain_ns[v]);
		if (b.thread_best == 0 ||
		    b.bench.thread_ns + b.bench.worker_ns < b.thread_best + b.worker_best) {
			b.thread_best = b.bench.thread_ns;
			b.worker_best = b.bench.worker_ns;
		}
	}
	double thread = (double)b.thread_best / BATCH / 1000;
	double worker = (double)b.worker_best / BATCH / 1000;
	double libssl[VARIANTS];
	for (enum variant v = 0; v < VARIANTS; v++)
		libssl[v] = (double)b.plain_best[v] / BATCH / 1000;
	/* of neighbours in time: both had the same machine */
	qsort(ratio + 1, rounds - 1, sizeof(*ratio), bench_by_size);
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

	bench_must(f != NULL, "no /proc/self/smaps_rollup");
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Pss: %lu kB", &kib) == 1)
			break;
	fclose(f);
	return (uint64_t)kib << 10;
}

static void idle(unsigned n)
{
	struct side *s = malloc(n * sizeof(*s));
	struct contest b;

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
			bench_turn(&b.bench, &s[i], 1);
		bench_must(s[i].secured, "a handshake failed");
		conn_forget_peer(&s[i].conn);
		SSL_set_shutdown(s[i].client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(s[i].client);
		pipe_free(&s[i].stream);
	}
	printf("\n%u idle sessions: %.0f octets of OpenSSL's allocator and %zu of ours each, %zu "
	       "of "
	       "chunks in all; PSS %.0f octets each\n",
	       n, (double)(tls_memory_used() - before) / n, sizeof(struct tls_session),
	       chunk_pool_used(b.bench.shard.chunks), (double)(resident() - resident_before) / n);
	for (unsigned i = 0; i < n; i++) {
		s[i].client = NULL;
		bench_close_side(&b.bench, &s[i]);
	}
	free(s);
	close_bench(&b);
}

static void dripped(void)
{
	struct side s = {0};
	struct contest b;
	uint8_t buf[PIPE_BYTES];
	uint64_t whole, drops = 0;

	open_bench(&b, FULL_ECDSA, 0);
	ours(&b);
	b.bench.worker_ns = 0;
	ours(&b);
	whole = b.bench.worker_ns / BATCH;
	b.bench.worker_ns = 0;
	open_side(&b, &s);
	for (unsigned round = 0; round < 4; round++) {
		int n = bench_client_turn(s.client, buf);
		for (int i = 0; i < n; i++, drops++) {
			pipe_put(&s.stream.in, buf + i, 1);
			uint64_t from = bench_cpu_ns();
			conn_stream_readable(&s.stream, &s.conn);
			b.bench.worker_ns += bench_since(from);
		}
		bench_turn(&b.bench, &s, 1);
	}
	bench_must(s.secured, "the dripped handshake failed");
	printf("a handshake dripped octet by octet costs the worker %.1f us in %llu pieces, whole "
	       "%.1f us\n",
	       (double)b.bench.worker_ns / 1000, (unsigned long long)drops, (double)whole / 1000);
	bench_close_side(&b.bench, &s);
	close_bench(&b);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 10000;

	native = argc > 3 && strcmp(argv[3], "native") == 0;
	bench_must(tls_memory_init(), "OpenSSL was used before its allocator could be set");
	bench_must(rounds > 1 && rounds <= 10000 && n > 0 && n <= 100000,
		   "ROUNDS 2..10000, IDLE..100000");
	printf("%-28s %8s %8s %8s %8s %7s %8s %8s\n", "handshake, us of CPU", "libssl", "thread",
	       "worker", "a CPU-s", "ratio", "reused", "own lib");
	for (enum kind k = 0; k < KINDS; k++)
		compare(k, rounds);
	idle(n);
	dripped();
	return 0;
}
