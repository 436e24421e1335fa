/* test_tls_signer.c - keys in another process: what the gateway does with good and bad signers. The
 * signer is a thread of the test that does as it is told. */
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

static size_t answer(struct world *w, const struct signer_ask *q, uint8_t *out)
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

static bool serve(struct world *w, int fd, struct held *h)
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

static void *signer_main(void *arg)
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

static void signer_start(struct world *w)
{
	atomic_store(&w->stop, false);
	w->listener = serve_listen(w->socket, geteuid());
	assert_true(w->listener >= 0);
	assert_int_equal(pthread_create(&w->thread, NULL, signer_main, w), 0);
}

static void signer_end(struct world *w)
{
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	close(w->listener);
}

static void make_certificate(struct world *w, bool rsa)
{
	struct cert c = cert_make(&(struct cert_spec){.common_name = "mx.test",
						      .alternative = "DNS:mx.test",
						      .rsa = rsa,
						      .until_s = 9999999});

	cert_save(&c, w->chain, w->key);
	cert_free(&c);
}

static void load_keys(struct world *w)
{
	char error[512];
	const char *path = w->key;

	keys_unref(w->keys);
	w->keys = keys_load(&path, 1, error, sizeof(error));
	if (w->keys == NULL)
		fail_msg("%s", error);
}

/* The gateway is told of a key file that does not exist. */
static void start(struct world *w, enum manner manner, bool rsa)
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

static uint64_t count(const struct world *w, enum tls_counter c)
{
	return counter_read(&tls_counters(w->bench.worker)[c]);
}

static void end(struct world *w)
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

static void open_sides(struct world *w, struct side *s, unsigned n, int version)
{
	for (unsigned i = 0; i < n; i++)
		bench_open_side(&w->bench, &s[i],
				bench_client(&w->bench, version, "mx.test", NULL));
}

static bool all_over(const struct side *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!s[i].secured && !s[i].ended)
			return false;
	return true;
}

/* Until each is secured or ended. */
static void shake(struct world *w, struct side *s, unsigned n)
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

static void close_sides(struct world *w, struct side *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		bench_close_side(&w->bench, &s[i]);
	memset(s, 0, n * sizeof(*s));
}

/* One handshake; whether it was completed. */
static bool once(struct world *w, int version)
{
	struct side s = {0};

	open_sides(w, &s, 1, version);
	shake(w, &s, 1);
	bool secured = s.secured;
	close_sides(w, &s, 1);
	return secured;
}

static void wait_until_asked(struct world *w, struct side *s, unsigned n)
{
	time_t until = time(NULL) + PATIENCE_S;

	while (atomic_load(&w->asked) < n) {
		bench_turn(&w->bench, s, n);
		if (time(NULL) > until)
			fail_msg("the signer is not asked");
		usleep(50);
	}
}

static void both_kinds_of_key_sign_under_both_versions(void **state)
{
	for (unsigned rsa = 0; rsa < 2; rsa++) {
		struct world w;
		start(&w, RIGHT, rsa);
		assert_true(once(&w, TLS1_3_VERSION));
		assert_true(once(&w, TLS1_2_VERSION));
		assert_int_equal(count(&w, tls_signatures), 2);
		assert_int_equal(count(&w, tls_signer_failed), 0);
		end(&w);
	}
}

static void a_wrong_signature_convinces_no_client_and_harms_nobody(void **state)
{
	struct world w;

	start(&w, WRONG, false);
	assert_false(once(&w, TLS1_3_VERSION));
	assert_false(once(&w, TLS1_2_VERSION));
	atomic_store(&w.manner, RIGHT);
	assert_true(once(&w, TLS1_3_VERSION));
	end(&w);
}

static void answers_that_nobody_waits_for_are_ignored(void **state)
{
	struct world w;

	start(&w, STRANGE, false);
	for (unsigned i = 0; i < 5; i++)
		assert_true(once(&w, TLS1_3_VERSION));
	end(&w);
}

/* A signer with five milliseconds of delay is one that answers when so many have asked. */
static void many_signatures_are_asked_for_at_a_time(void **state)
{
	static struct side s[2 * GATHERED];
	struct world w;

	start(&w, GATHER, false);
	open_sides(&w, s, 2 * GATHERED, TLS1_3_VERSION);
	shake(&w, s, 2 * GATHERED);
	for (unsigned i = 0; i < 2 * GATHERED; i++)
		assert_true(s[i].secured);
	assert_int_equal(count(&w, tls_signatures), 2 * GATHERED);
	close_sides(&w, s, 2 * GATHERED);
	end(&w);
}

static void expect_alert(struct world *w, enum manner manner)
{
	struct side s = {0};

	atomic_store(&w->manner, manner);
	uint64_t failed = count(w, tls_signer_failed);
	open_sides(w, &s, 1, TLS1_3_VERSION);
	ERR_clear_error();
	shake(w, &s, 1);
	assert_false(s.secured);
	assert_int_equal(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
	assert_int_equal(count(w, tls_signer_failed), failed + 1);
	close_sides(w, &s, 1);
}

static void a_signer_that_dies_costs_the_handshakes_under_way_only(void **state)
{
	struct world w;
	struct side old = {0};

	start(&w, RIGHT, false);
	open_sides(&w, &old, 1, TLS1_3_VERSION);
	shake(&w, &old, 1);
	expect_alert(&w, DIES);
	/* a session that was there before goes on */
	uint8_t buf[64];
	assert_int_equal(conn_write(&old.conn, "still here", 10, false), 10);
	bench_turn(&w.bench, &old, 1);
	assert_int_equal(SSL_read(old.client, buf, sizeof(buf)), 10);
	close_sides(&w, &old, 1);
	signer_end(&w);
	expect_alert(&w, RIGHT);
	signer_start(&w);
	usleep(150000); /* it is called again at most ten times a second */
	assert_true(once(&w, TLS1_3_VERSION));
	end(&w);
}

static void a_signer_that_was_restarted_meanwhile_costs_no_handshake(void **state)
{
	struct world w;

	start(&w, RIGHT, false);
	assert_true(once(&w, TLS1_3_VERSION));
	usleep(150000);
	signer_end(&w);
	signer_start(&w);
	assert_true(once(&w, TLS1_3_VERSION));
	assert_int_equal(count(&w, tls_signer_failed), 0);
	end(&w);
}

static void what_is_no_answer_ends_the_connection_to_the_signer(void **state)
{
	struct world w;

	start(&w, GARBAGE, false);
	expect_alert(&w, GARBAGE);
	usleep(150000);
	expect_alert(&w, TOO_LONG);
	atomic_store(&w.manner, RIGHT);
	assert_true(once(&w, TLS1_3_VERSION));
	end(&w);
}

static void a_session_that_goes_while_it_waits_leaves_nothing_behind(void **state)
{
	struct world w;
	struct side s[3] = {0};

	start(&w, SILENT, false);
	open_sides(&w, s, 3, TLS1_3_VERSION);
	wait_until_asked(&w, s, 3);
	bench_close_side(&w.bench, &s[0]);
	bench_close_side(&w.bench, &s[1]);
	atomic_store(&w.manner, RIGHT);
	shake(&w, &s[2], 1);
	assert_true(s[2].secured);
	bench_close_side(&w.bench, &s[2]);
	end(&w);
}

static void the_end_of_the_gateway_ends_what_waits(void **state)
{
	struct world w;
	struct side s[3] = {0};

	start(&w, SILENT, false);
	open_sides(&w, s, 3, TLS1_2_VERSION);
	wait_until_asked(&w, s, 3);
	close_sides(&w, s, 3);
	assert_int_equal(slab_used(w.bench.worker->sessions), 3);
	end(&w);
}

static void a_key_that_the_signer_lacks_fails_its_handshakes_until_it_has_it(void **state)
{
	struct world w;
	char error[512];

	start(&w, RIGHT, false);
	make_certificate(&w, true);
	assert_int_equal(tls_reload(w.bench.tls, &w.config, error, sizeof(error)), 1);
	expect_alert(&w, RIGHT);
	signer_end(&w);
	load_keys(&w);
	signer_start(&w);
	usleep(150000);
	assert_true(once(&w, TLS1_3_VERSION));
	/* nothing has changed since: nothing is read */
	assert_int_equal(tls_reload(w.bench.tls, &w.config, error, sizeof(error)), 0);
	end(&w);
}

static void a_resumption_needs_no_signer(void **state)
{
	struct world w;
	struct side s = {0};

	start(&w, RIGHT, false);
	open_sides(&w, &s, 1, TLS1_3_VERSION);
	shake(&w, &s, 1);
	SSL_SESSION *session = SSL_get1_session(s.client);
	close_sides(&w, &s, 1);
	signer_end(&w);
	bench_open_side(&w.bench, &s, bench_client(&w.bench, TLS1_3_VERSION, "mx.test", session));
	shake(&w, &s, 1);
	assert_true(s.secured);
	assert_true(SSL_session_reused(s.client));
	close_sides(&w, &s, 1);
	SSL_SESSION_free(session);
	signer_start(&w);
	end(&w);
}

static void a_signer_that_hangs_holds_up_no_resumption(void **state)
{
	static struct side s[3 * GATHERED];
	struct side again = {0};
	struct world w;

	start(&w, RIGHT, false);
	open_sides(&w, s, 1, TLS1_3_VERSION);
	shake(&w, s, 1);
	SSL_SESSION *session = SSL_get1_session(s[0].client);
	close_sides(&w, s, 1);
	atomic_store(&w.manner, SILENT);
	open_sides(&w, s, 3 * GATHERED, TLS1_3_VERSION);
	wait_until_asked(&w, s, 2 * GATHERED);
	bench_turn(&w.bench, s, 3 * GATHERED);
	assert_in_range(atomic_load(&w.bench.tls->threads[0].signing), 2 * GATHERED,
			2 * GATHERED + 8);
	assert_true(schedule_waiting(w.bench.worker->schedule) >= GATHERED - 8);
	bench_open_side(&w.bench, &again,
			bench_client(&w.bench, TLS1_3_VERSION, "mx.test", session));
	shake(&w, &again, 1);
	assert_true(again.secured);
	assert_int_equal(count(&w, tls_signer_failed), 0);
	close_sides(&w, &again, 1);
	atomic_store(&w.manner, RIGHT);
	shake(&w, s, 3 * GATHERED);
	close_sides(&w, s, 3 * GATHERED);
	SSL_SESSION_free(session);
	end(&w);
}

static void an_answer_that_is_too_late_is_none(void **state)
{
	struct world w;

	start(&w, SILENT, false);
	expect_alert(&w, SILENT);
	/* what comes for it later disturbs nobody */
	atomic_store(&w.manner, RIGHT);
	assert_true(once(&w, TLS1_3_VERSION));
	end(&w);
}

/* A file of the directory is read by the handshake thread; its key is nowhere near. */
static void certificates_of_the_directory_need_no_keys_there(void **state)
{
	struct world w;
	struct side s = {0};
	char names[128], entry[160], chain[200];

	start(&w, RIGHT, false);
	bench_close(&w.bench);
	snprintf(names, sizeof(names), "%s/names", w.directory);
	snprintf(entry, sizeof(entry), "%s/lazy.test", names);
	snprintf(chain, sizeof(chain), "%s/fullchain.pem", entry);
	assert_int_equal(mkdir(names, 0700), 0);
	w.config.directory = names;
	bench_open(&w.bench, &w.config);
	struct cert c = cert_make(
		&(struct cert_spec){.common_name = "lazy", .alternative = "DNS:lazy.test"});
	assert_int_equal(mkdir(entry, 0700), 0);
	cert_save(&c, chain, w.key);
	cert_free(&c);
	signer_end(&w);
	load_keys(&w);
	signer_start(&w);
	bench_open_side(&w.bench, &s, bench_client(&w.bench, TLS1_3_VERSION, "lazy.test", NULL));
	shake(&w, &s, 1);
	assert_true(s.secured);
	assert_int_equal(
		X509_check_host(SSL_get0_peer_certificate(s.client), "lazy.test", 0, 0, NULL), 1);
	close_sides(&w, &s, 1);
	unlink(chain);
	rmdir(entry);
	rmdir(names);
	end(&w);
}

static enum signer_status asked(struct world *w, uint16_t scheme, const void *content, size_t bytes)
{
	uint8_t identity[SIGNER_KEY], signature[SIGNER_SIGNATURE];
	struct credential *const c = atomic_load(&w->bench.tls->current)->sets[0]->credential[0];
	size_t n;

	assert_true(signer_identity(X509_get0_pubkey(c->leaf), identity));
	struct signer_ask q = {
		.scheme = scheme, .key = identity, .content = content, .content_bytes = bytes};
	return keys_sign(w->keys, &q, signature, &n);
}

/* A gateway that was taken over gets no certificate, token or list of revoked ones signed. */
static void the_signer_signs_nothing_but_handshakes(void **state)
{
	uint8_t content[64 + 34 + 32];
	struct world w;

	start(&w, RIGHT, false);
	memset(content, ' ', 64);
	memcpy(content + 64, "TLS 1.3, server CertificateVerify", 34);
	memset(content + 98, 7, 32);
	assert_int_equal(asked(&w, 0x0403, content, sizeof(content)), SIGNER_OK);
	assert_int_equal(asked(&w, 0x0804, content, sizeof(content)), SIGNER_REFUSED);
	assert_int_equal(asked(&w, 0x0203, content, sizeof(content)), SIGNER_REFUSED);
	assert_int_equal(asked(&w, 0x0403, content, sizeof(content) - 1), SIGNER_REFUSED);
	memcpy(content + 64, "TLS 1.3, client CertificateVerify", 34);
	assert_int_equal(asked(&w, 0x0403, content, sizeof(content)), SIGNER_REFUSED);
	assert_int_equal(asked(&w, 0x0403, "0\x82\x01", 3), SIGNER_REFUSED);
	uint8_t exchange[64 + 4 + 32] = {[64] = 3, [66] = 29, [67] = 32};
	assert_int_equal(asked(&w, 0x0403, exchange, sizeof(exchange)), SIGNER_OK);
	uint8_t p384[64 + 4 + 97] = {[64] = 3, [66] = 24, [67] = 97};
	assert_int_equal(asked(&w, 0x0403, p384, sizeof(p384)), SIGNER_OK);
	exchange[66] = 23;
	assert_int_equal(asked(&w, 0x0403, exchange, sizeof(exchange)), SIGNER_REFUSED);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_kinds_of_key_sign_under_both_versions),
		cmocka_unit_test(a_wrong_signature_convinces_no_client_and_harms_nobody),
		cmocka_unit_test(answers_that_nobody_waits_for_are_ignored),
		cmocka_unit_test(many_signatures_are_asked_for_at_a_time),
		cmocka_unit_test(a_signer_that_dies_costs_the_handshakes_under_way_only),
		cmocka_unit_test(a_signer_that_was_restarted_meanwhile_costs_no_handshake),
		cmocka_unit_test(what_is_no_answer_ends_the_connection_to_the_signer),
		cmocka_unit_test(a_session_that_goes_while_it_waits_leaves_nothing_behind),
		cmocka_unit_test(the_end_of_the_gateway_ends_what_waits),
		cmocka_unit_test(a_key_that_the_signer_lacks_fails_its_handshakes_until_it_has_it),
		cmocka_unit_test(a_resumption_needs_no_signer),
		cmocka_unit_test(a_signer_that_hangs_holds_up_no_resumption),
		cmocka_unit_test(an_answer_that_is_too_late_is_none),
		cmocka_unit_test(certificates_of_the_directory_need_no_keys_there),
		cmocka_unit_test(the_signer_signs_nothing_but_handshakes),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
