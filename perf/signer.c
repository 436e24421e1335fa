/*
 * signer.c - what handshakes cost when the private key is postern-signer's, beside what they cost
 *with the key at hand; and what a slow signer costs.
 *
 *	build/perf/perf-signer [ROUNDS]
 *
 * The signer is another process with the code of postern-signer.  Its CPU time counts: "gateway" is
 * thread and worker, "signer" the other process.  The two ways take turns, 64 handshakes each.
 * For the slow signer the time is that of the clock, and includes the clients.
 */
#include "perf/tls_bench.h"
#include "tests/sim/cert.h"
#include "tls/signer/serve.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, AT_A_TIME = 128, SLOW = 4096, DELAY_US = 5000, HELD = 1024 };

struct files {
	char directory[64], chain[96], key[96], socket[96];
};

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Everything as postern-signer does it, for one gateway. */
static _Noreturn void serve_child(int listener, struct keys *k)
{
	struct service s = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .keys = k, .peer = {geteuid()}, .n_peers = 1};

	for (;;)
		serve_accept(&s, listener);
}

struct held {
	uint64_t due_ns;
	size_t n;
	uint8_t octets[SIGNER_ANSWER];
};

/* Each answer so much later than it could have been given. */
static _Noreturn void slow_child(int listener, const struct keys *k, uint64_t delay_ns)
{
	static struct held held[HELD];
	static uint8_t in[HELD * SIGNER_REQUEST];
	unsigned first = 0, last = 0;
	size_t end = 0;
	int used, fd = accept(listener, NULL, NULL);

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		struct timespec wait = {.tv_nsec = first != last ? 200000 : 100000000};
		struct signer_ask q;
		size_t at = 0;
		if (ppoll(&p, 1, &wait, NULL) > 0) {
			ssize_t n = recv(fd, in + end, sizeof(in) - end, 0);
			if (n <= 0)
				_exit(0);
			end += (size_t)n;
		}
		while ((used = signer_take_ask(in + at, end - at, &q)) > 0) {
			uint8_t signature[SIGNER_SIGNATURE];
			struct signer_answer a = {.tag = q.tag, .signature = signature};
			struct held *h = &held[last++ % HELD];
			a.status = (uint16_t)keys_sign(k, &q, signature, &a.signature_bytes);
			h->n = signer_put_answer(h->octets, &a);
			h->due_ns = clock_ns(CLOCK_MONOTONIC) + delay_ns;
			at += (size_t)used;
		}
		memmove(in, in + at, end -= at);
		for (; first != last && held[first % HELD].due_ns <= clock_ns(CLOCK_MONOTONIC);
		     first++)
			if (write(fd, held[first % HELD].octets, held[first % HELD].n) < 0)
				_exit(0);
	}
}

static pid_t start(const struct files *f, bool slow, uint64_t delay_ns)
{
	int listener = serve_listen(f->socket, geteuid());

	bench_must(listener >= 0, "no socket");
	pid_t child = fork();
	bench_must(child >= 0, "no process");
	if (child == 0) {
		char error[512];
		const char *path = f->key;
		struct keys *k = keys_load(&path, 1, error, sizeof(error));
		bench_must(k != NULL, error);
		if (slow)
			slow_child(listener, k, delay_ns);
		serve_child(listener, k);
	}
	close(listener);
	return child;
}

static void stop(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* n handshakes, so many at a time. */
static void handshakes(struct bench *b, unsigned n, unsigned at_a_time)
{
	static struct side s[AT_A_TIME];
	unsigned done = 0, begun = 0;

	while (done < n) {
		unsigned before = done;
		for (unsigned i = 0; i < at_a_time; i++) {
			if (s[i].secured) {
				bench_close_side(b, &s[i]);
				s[i] = (struct side){0};
				done++;
			}
			bench_must(!s[i].ended, "a handshake failed");
			if (s[i].client == NULL && begun < n) {
				bench_open_side(b, &s[i],
						bench_client(b, TLS1_3_VERSION, "mx.test", NULL));
				begun++;
			}
		}
		bench_turn(b, s, at_a_time);
		/* as the thread naps */
		if (done == before)
			usleep(50);
	}
}

struct cost {
	double gateway, signer; /* us a handshake */
};

static struct cost measure(struct bench *b, unsigned at_a_time, clockid_t child)
{
	uint64_t from = clock_ns(child);

	b->thread_ns = b->worker_ns = 0;
	handshakes(b, BATCH, at_a_time);
	return (struct cost){(double)(b->thread_ns + b->worker_ns) / BATCH / 1000,
			     (double)(clock_ns(child) - from) / BATCH / 1000};
}

static void compare(const struct files *f, struct tls_config *c, const char *name,
		    unsigned at_a_time, unsigned rounds)
{
	double *ratio = calloc(rounds, sizeof(*ratio)), *alone = calloc(rounds, sizeof(*ratio)),
	       *gateway = calloc(rounds, sizeof(*ratio)), *signer = calloc(rounds, sizeof(*ratio));
	struct bench here, there;
	pid_t child = start(f, false, 0);
	clockid_t clock;

	bench_must(clock_getcpuclockid(child, &clock) == 0, "no clock");
	c->signer = NULL;
	bench_open(&here, c);
	c->signer = f->socket;
	bench_open(&there, c);
	measure(&here, at_a_time, clock);
	measure(&there, at_a_time, clock);
	for (unsigned i = 0; i < rounds; i++) {
		struct cost a = measure(&here, at_a_time, clock),
			    b = measure(&there, at_a_time, clock);
		alone[i] = a.gateway;
		gateway[i] = b.gateway;
		signer[i] = b.signer;
		ratio[i] = (b.gateway + b.signer) / a.gateway;
	}
	qsort(ratio, rounds, sizeof(*ratio), bench_by_size);
	qsort(alone, rounds, sizeof(*ratio), bench_by_size);
	qsort(gateway, rounds, sizeof(*ratio), bench_by_size);
	qsort(signer, rounds, sizeof(*ratio), bench_by_size);
	unsigned m = rounds / 2;
	printf("%-26s %9.0f %9.0f %9.0f %9.0f %9.0f %7.2f\n", name, alone[m], gateway[m], signer[m],
	       1e6 / alone[m], 1e6 / (gateway[m] + signer[m]), 1 / ratio[m]);
	bench_close(&there);
	bench_close(&here);
	stop(child);
	free(ratio);
	free(alone);
	free(gateway);
	free(signer);
}

static double a_second(const struct files *f, struct tls_config *c, uint64_t delay_ns)
{
	struct bench b;
	pid_t child = start(f, true, delay_ns);

	c->signer = f->socket;
	bench_open(&b, c);
	handshakes(&b, AT_A_TIME, AT_A_TIME);
	uint64_t from = clock_ns(CLOCK_MONOTONIC);
	handshakes(&b, SLOW, AT_A_TIME);
	double rate = SLOW * 1e9 / (double)(clock_ns(CLOCK_MONOTONIC) - from);
	bench_close(&b);
	stop(child);
	return rate;
}

static void make(struct files *f, bool rsa)
{
	struct cert c = cert_make(&(struct cert_spec){
		.common_name = "mx.test", .alternative = "DNS:mx.test", .rsa = rsa});

	cert_save(&c, f->chain, f->key);
	cert_free(&c);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 40;
	struct files f = {.directory = "/tmp/perf-signer.XXXXXX"};

	bench_must(tls_memory_init(), "OpenSSL was used before its allocator could be set");
	bench_must(rounds > 0 && rounds <= 10000, "ROUNDS 1..10000");
	bench_must(mkdtemp(f.directory) != NULL, "no temporary directory");
	snprintf(f.chain, sizeof(f.chain), "%s/chain.pem", f.directory);
	snprintf(f.key, sizeof(f.key), "%s/key.pem", f.directory);
	snprintf(f.socket, sizeof(f.socket), "%s/socket", f.directory);
	struct tls_certificate own = {.chain = f.chain, .key = f.key};
	struct tls_config c = {.certificates = &own,
			       .n_certificates = 1,
			       .max_sessions = 4 * AT_A_TIME,
			       .ca_file = f.chain};
	printf("%-26s %9s %9s %9s %9s %9s %7s\n", "full, TLS 1.3, us of CPU", "key here", "gateway",
	       "signer", "a CPU-s", "a CPU-s", "ratio");
	make(&f, false);
	compare(&f, &c, "ECDSA P-256, 64 at a time", BATCH, rounds);
	compare(&f, &c, "ECDSA P-256, one by one", 1, rounds);
	make(&f, true);
	compare(&f, &c, "RSA-2048, 64 at a time", BATCH, rounds);
	compare(&f, &c, "RSA-2048, one by one", 1, rounds);
	make(&f, false);
	double ratio[5];
	for (unsigned i = 0; i < 5; i++)
		ratio[i] = a_second(&f, &c, DELAY_US * 1000) / a_second(&f, &c, 0);
	qsort(ratio, 5, sizeof(*ratio), bench_by_size);
	printf("with a signer that answers %u ms later: %.2f of the handshakes a second, %u at a "
	       "time\n",
	       DELAY_US / 1000, ratio[2], AT_A_TIME);
	unlink(f.chain);
	unlink(f.key);
	unlink(f.socket);
	rmdir(f.directory);
	return 0;
}
