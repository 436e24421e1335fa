/* signer_rig.h - a gateway whose keys are a signer's, and the signer: a thread of the test that
 * does as it is told.  Test code. */
#ifndef TESTS_UNIT_SIGNER_RIG_H
#define TESTS_UNIT_SIGNER_RIG_H

#include "base/log.h"
#include "perf/tls_bench.h"
#include "tests/sim/cert.h"
#include "tls/signer.h"
#include "tls/signer/keys.h"
#include "tls/signer/serve.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PATIENCE_S = 20, GATHERED = 64, HELD = 512 };

enum manner {
	RIGHT,
	WRONG,    /* one bit of each signature is turned */
	STRANGE,  /* answers that nobody has asked for come first */
	GATHER,   /* none before GATHERED have asked */
	SILENT,   /* keeps them all */
	DIES,     /* closes when it is asked */
	GARBAGE,  /* says what is no answer */
	TOO_LONG, /* a signature longer than the key's */
};

struct world {
	char directory[64], socket[96], chain[96], key[96];
	struct keys *keys;
	int listener;
	pthread_t thread;
	_Atomic enum manner manner;
	_Atomic bool stop;
	_Atomic unsigned asked;
	struct bench bench;
	struct tls_certificate own;
	struct tls_config config;
};

static inline size_t answer(struct world *w, const struct signer_ask *q, uint8_t *out)
{
	uint8_t signature[SIGNER_SIGNATURE];
	struct signer_answer a = {.tag = q->tag, .signature = signature};
	enum manner m = atomic_load(&w->manner);
	size_t n = 0;

	a.status = (uint16_t)keys_sign(w->keys, q, signature, &a.signature_bytes);
	if (m == WRONG)
		signature[a.signature_bytes - 1] ^= 1;
	if (m == TOO_LONG)
		a.signature_bytes = SIGNER_SIGNATURE;
	if (m == STRANGE) {
		struct signer_answer others[] = {a, a, a};
		others[0].tag ^= 1ull << 40; /* of another time */
		others[1].tag = UINT64_MAX;
		others[2].tag = (others[2].tag & ~0xffffffffull) | 255; /* a free place */
		for (unsigned i = 0; i < 3; i++)
			n += signer_put_answer(out + n, &others[i]);
	}
	return n + signer_put_answer(out + n, &a);
}

/* All that was asked, kept until it is answered. */
struct held {
	uint8_t octets[HELD * SIGNER_REQUEST];
	size_t end;
};

static inline bool serve(struct world *w, int fd, struct held *h)
{
	static uint8_t out[4 * HELD * SIGNER_ANSWER];
	enum manner m = atomic_load(&w->manner);
	struct signer_ask q;
	size_t at = 0, n = 0;
	unsigned asked = 0;
	int used;

	for (size_t i = 0; (used = signer_take_ask(h->octets + i, h->end - i, &q)) > 0;
	     i += (size_t)used)
		asked++;
	atomic_store(&w->asked, asked);
	if (asked == 0)
		return true;
	if (m == DIES)
		return false;
	if (m == SILENT || (m == GATHER && asked < GATHERED))
		return true;
	if (m == GARBAGE)
		return write(fd, "\0\1garbage", 9) == 9;
	while ((used = signer_take_ask(h->octets + at, h->end - at, &q)) > 0) {
		n += answer(w, &q, out + n);
		at += (size_t)used;
	}
	h->end -= at;
	memmove(h->octets, h->octets + at, h->end);
	return write(fd, out, n) == (ssize_t)n;
}

static inline void *signer_main(void *arg)
{
	static struct held held;
	struct world *w = arg;
	int fd = -1;

	while (!atomic_load(&w->stop)) {
		struct pollfd p = {.fd = fd >= 0 ? fd : w->listener, .events = POLLIN};
		int ready = poll(&p, 1, 1);
		if (ready == 1 && fd < 0) {
			fd = accept(w->listener, NULL, NULL);
			held.end = 0;
			continue;
		}
		ssize_t n = 0;
		if (ready == 1) {
			n = recv(fd, held.octets + held.end, sizeof(held.octets) - held.end, 0);
			held.end += n > 0 ? (size_t)n : 0;
		}
		/* the manner may have changed meanwhile */
		if (fd >= 0 && ((ready == 1 && n <= 0) || !serve(w, fd, &held))) {
			close(fd);
			fd = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

static inline void signer_start(struct world *w)
{
	atomic_store(&w->stop, false);
	w->listener = serve_listen(w->socket, geteuid());
	assert_true(w->listener >= 0);
	assert_int_equal(pthread_create(&w->thread, NULL, signer_main, w), 0);
}

static inline void signer_end(struct world *w)
{
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	close(w->listener);
}

static inline void make_certificate(struct world *w, bool rsa)
{
	struct cert c = cert_make(&(struct cert_spec){.common_name = "mx.test",
						      .alternative = "DNS:mx.test",
						      .rsa = rsa,
						      .until_s = 9999999});

	cert_save(&c, w->chain, w->key);
	cert_free(&c);
}

static inline void load_keys(struct world *w)
{
	char error[512];
	const char *path = w->key;

	keys_unref(w->keys);
	w->keys = keys_load(&path, 1, error, sizeof(error));
	if (w->keys == NULL)
		fail_msg("%s", error);
}

/* The gateway is told of a key file that does not exist. */
static inline void start(struct world *w, enum manner manner, bool rsa)
{
	*w = (struct world){.directory = "/tmp/test_tls_signer.XXXXXX", .manner = manner};
	assert_non_null(mkdtemp(w->directory));
	snprintf(w->chain, sizeof(w->chain), "%s/chain.pem", w->directory);
	snprintf(w->key, sizeof(w->key), "%s/key.pem", w->directory);
	snprintf(w->socket, sizeof(w->socket), "%s/socket", w->directory);
	make_certificate(w, rsa);
	load_keys(w);
	signer_start(w);
	w->own = (struct tls_certificate){.chain = w->chain, .key = "/nonexistent/key.pem"};
	w->config = (struct tls_config){.certificates = &w->own,
					.n_certificates = 1,
					.signer = w->socket,
					.channel_bindings = true,
					.max_sessions = 512,
					.ca_file = w->chain};
	bench_open(&w->bench, &w->config);
}

static inline uint64_t count(const struct world *w, enum tls_counter c)
{
	return counter_read(&tls_counters(w->bench.worker)[c]);
}

static inline void end(struct world *w)
{
	tls_stop(w->bench.tls);
	tls_poll(w->bench.worker);
	tls_run_queued(w->bench.tls);
	tls_poll(w->bench.worker);
	assert_int_equal(slab_used(w->bench.worker->sessions), 0);
	assert_int_equal(chunk_pool_used(w->bench.shard.chunks), 0);
	bench_close(&w->bench);
	signer_end(w);
	keys_unref(w->keys);
	unlink(w->socket);
	unlink(w->chain);
	unlink(w->key);
	rmdir(w->directory);
}

static inline void open_sides(struct world *w, struct side *s, unsigned n, int version)
{
	for (unsigned i = 0; i < n; i++)
		bench_open_side(&w->bench, &s[i],
				bench_client(&w->bench, version, "mx.test", NULL));
}

static inline bool all_over(const struct side *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!s[i].secured && !s[i].ended)
			return false;
	return true;
}

/* Until each is secured or ended. */
static inline void shake(struct world *w, struct side *s, unsigned n)
{
	time_t until = time(NULL) + PATIENCE_S;

	while (!all_over(s, n)) {
		bench_turn(&w->bench, s, n);
		if (time(NULL) > until)
			fail_msg("handshakes do not end");
		usleep(50);
	}
	bench_turn(&w->bench, s, n); /* the last octets to the client */
}

static inline void close_sides(struct world *w, struct side *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		bench_close_side(&w->bench, &s[i]);
	memset(s, 0, n * sizeof(*s));
}

/* The signer comes with other keys or other manners, and after the pause between two calls of it.
 */
static inline void restart_signer(struct world *w)
{
	signer_end(w);
	load_keys(w);
	signer_start(w);
	usleep(150000);
}

#endif
