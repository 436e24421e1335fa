/* threads.c - handshake threads: they own the contexts, take a session, run one step, give it
 * back; whatever blocks or burns microseconds in OpenSSL happens here */
#include "base/nap.h"
#include "tls/internal.h"
#include "tls/signer.h"

#include <errno.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { IDLE_NAP_US = 500, SIGNING_NAP_US = 50 };

COUNTER_TABLE(tls, TLS_COUNTERS)

static bool resume(struct tls_thread *t, struct tls_session *s)
{
	const uint8_t *p = s->ticket->session;
	SSL_SESSION *x = d2i_SSL_SESSION(NULL, &p, (long)s->ticket->bytes);
	bool good = x != NULL && SSL_set_session(s->ssl, x) == 1;

	SSL_SESSION_free(x);
	return good;
}

static bool session_begin(struct tls_thread *t, struct tls_session *s)
{
	BIO *b = BIO_new(t->tls->bio);
	struct context_set *contexts = t->state->sets[t->index];

	if (t->state->native_records)
		takeover_begin(s);
	s->ssl = SSL_new(s->job == JOB_CONNECT ? t->client : contexts->context[0]);
	if (b == NULL || s->ssl == NULL) {
		BIO_free(b);
		return false;
	}
	BIO_set_data(b, s);
	SSL_set_bio(s->ssl, b, b);
	if (SSL_set_app_data(s->ssl, s) != 1)
		return false;
	guard_install(s->ssl, s);
	if (s->job == JOB_ACCEPT) {
		s->contexts = contexts;
		atomic_fetch_add(&contexts->sessions, 1);
		SSL_set_accept_state(s->ssl);
		if (t->signer != NULL)
			SSL_set_mode(s->ssl, SSL_MODE_ASYNC);
		return true;
	}
	SSL_set_connect_state(s->ssl);
	if (s->ticket != NULL && !resume(t, s))
		return false;
	if (s->server_name != NULL && s->server_name[0] != '\0')
		SSL_set_tlsext_host_name(s->ssl, s->server_name);
	if (s->pinned)
		return pins_use(s);
	if (s->verify) {
		/* an empty name would turn the check of names off */
		if (s->server_name == NULL || s->server_name[0] == '\0')
			return false;
		SSL_set_verify(s->ssl, SSL_VERIFY_PEER, NULL);
		SSL_set_hostflags(s->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		return SSL_set1_host(s->ssl, s->server_name) == 1;
	}
	return true;
}

static void note_failure(struct tls_session *s)
{
	unsigned long e = ERR_peek_error();
	long verify = SSL_get_verify_result(s->ssl);

	s->notes |= session_flood_note(e);
	s->unpinned = s->pinned && verify == X509_V_ERR_DANE_NO_MATCH;
	if (s->unpinned) {
		s->notes |= NOTE_UNPINNED;
		s->failure = "its key is not pinned";
	} else if (s->job == JOB_CONNECT && s->verify && verify != X509_V_OK)
		s->failure = X509_verify_cert_error_string(verify);
	else
		s->failure = e != 0 ? ERR_reason_error_string(e) : "peer closed";
}

static uint64_t thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void session_free_ssl(struct tls_session *s)
{
	SSL_free(s->ssl);
	s->ssl = NULL;
	/* only now may the control thread free the contexts */
	if (s->contexts != NULL)
		atomic_fetch_sub(&s->contexts->sessions, 1);
	s->contexts = NULL;
}

void session_step(struct tls_thread *t, struct tls_session *s)
{
	if (s->job == JOB_FREE) {
		session_free_ssl(s);
		return;
	}
	ERR_clear_error();
	if (s->ssl == NULL && !session_begin(t, s)) {
		s->failure = "out of memory";
		s->step = STEP_FAILED;
		return;
	}
	takeover_listen(s, false);
	signer_enter(t->signer, s);
	int rc = SSL_do_handshake(s->ssl);
	signer_leave();
	if (rc == 1) {
		/* records are read and written on the worker, without jobs */
		SSL_clear_mode(s->ssl, SSL_MODE_ASYNC);
		session_take_facts(s, t->state->channel_bindings);
		takeover_finish(t, s);
		s->step = STEP_DONE;
		return;
	}
	int why = SSL_get_error(s->ssl, rc);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		s->step = STEP_MORE;
		return;
	}
	if (why == SSL_ERROR_WANT_ASYNC) {
		s->step = STEP_SIGNING;
		return;
	}
	s->step = STEP_FAILED;
	note_failure(s);
	ERR_clear_error();
}

static void run_step(struct tls_thread *t, struct tls_session *s)
{
	uint64_t from = s->job == JOB_ACCEPT ? thread_ns() : 0;

	session_step(t, s);
	if (from > 0)
		s->cpu_ns += thread_ns() - from;
	if (s->step == STEP_SIGNING && s->job == JOB_ACCEPT) {
		atomic_fetch_add(&s->worker->signing[t->index], 1);
		atomic_fetch_add(&t->signing, 1);
		return;
	}
	/* as many slots as sessions: there is always room */
	ring_push(s->worker->back, s);
}

/* Goes on with what the signer has answered. */
static unsigned run_signed(struct tls_thread *t)
{
	struct tls_session *s;
	unsigned n = t->signer != NULL ? signer_poll(t->signer) : 0;

	while (t->signer != NULL && (s = signer_ready(t->signer)) != NULL) {
		atomic_fetch_sub(&s->worker->signing[t->index], 1);
		atomic_fetch_sub(&t->signing, 1);
		run_step(t, s);
	}
	return n;
}

/* A job can only end on its own thread: what waits for a signature fails now. */
static void stop_signing(struct tls_thread *t)
{
	if (t->signer == NULL)
		return;
	signer_stop(t->signer);
	run_signed(t);
}

static unsigned run_queue(struct tls_thread *t, unsigned most)
{
	struct tls_session *s;
	unsigned n = 0;

	t->state = state_adopt(t->tls, &t->seen);
	while (n < most && (s = ring_pop(t->queue)) != NULL) {
		run_step(t, s);
		n++;
	}
	n += run_signed(t);
	directory_sweep(t->directory, atomic_load_explicit(&t->tls->wall_s, memory_order_relaxed));
	return n;
}

static void *thread_main(void *arg)
{
	struct tls_thread *t = arg;
	struct nap nap = {.max_us = IDLE_NAP_US};

	if (t->signer != NULL)
		ASYNC_init_thread(SIGNER_SLOTS + 1, 0);

	while (!atomic_load_explicit(&t->tls->stop, memory_order_relaxed)) {
		if (run_queue(t, 32) > 0)
			nap_worked(&nap);
		else
			nap_idle(&nap);
		nap.max_us = t->signer != NULL && signer_waiting(t->signer) > 0 ? SIGNING_NAP_US
										: IDLE_NAP_US;
	}
	stop_signing(t);
	OPENSSL_thread_stop_ex(t->lib);
	OPENSSL_thread_stop();
	tls_memory_thread_ends();
	return NULL;
}

unsigned tls_run_queued(struct tls *t)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->n_threads; i++)
		n += run_queue(&t->threads[i], UINT32_MAX);
	return n;
}

static int thread_open(struct tls *t, unsigned index, const struct tls_config *c, char *error,
		       size_t error_bytes)
{
	struct tls_thread *h = &t->threads[index];
	struct siphash_key key;

	h->tls = t;
	h->index = index;
	h->queue = ring_create(QUEUE_SLOTS);
	h->lib = OSSL_LIB_CTX_new();
	if (h->queue == NULL || h->lib == NULL ||
	    RAND_bytes((unsigned char *)&key, sizeof(key)) != 1)
		return -ENOMEM;
	h->ticket_cipher = EVP_CIPHER_fetch(h->lib, "AES-256-CBC", NULL);
	h->directory = directory_create(&key, h, c->directory_entries);
	h->engine = aead_engine_create(false);
	if (h->ticket_cipher == NULL || h->directory == NULL || h->engine == NULL)
		return -ENOMEM;
	if (c->signer != NULL && c->signer[0] != '\0') {
		h->signer = signer_create(c->signer);
		h->remote = signer_lib_create();
		if (h->signer == NULL || h->remote == NULL)
			return -ENOMEM;
	}
	h->client = context_client(h, c->ca_file, error, error_bytes);
	if (h->client == NULL)
		return -EINVAL;
	if (c->client_1_2 && SSL_CTX_set_max_proto_version(h->client, TLS1_2_VERSION) != 1)
		return -ENOMEM;
	return 0;
}

int tls_open(struct tls **out, const struct tls_config *c, char *error, size_t error_bytes)
{
	struct tls *t = calloc(1, sizeof(*t));
	int rc = 0;

	snprintf(error, error_bytes, "out of memory");
	if (t == NULL)
		return -ENOMEM;
	t->n_threads = c->threads < MAX_THREADS ? c->threads : MAX_THREADS;
	t->max_sessions = c->max_sessions;
	t->wall_s = (int64_t)time(NULL);
	t->context_index = context_new_index();
	t->bio = bio_method_create();
	if (t->bio == NULL || t->context_index < 0)
		rc = -ENOMEM;
	for (unsigned i = 0; rc == 0 && i < t->n_threads; i++)
		rc = thread_open(t, i, c, error, error_bytes);
	if (rc == 0)
		rc = state_build(t, c, error, error_bytes);
	if (rc < 0) {
		tls_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

int tls_start(struct tls *t)
{
	for (unsigned i = 0; i < t->n_threads; i++) {
		int rc = pthread_create(&t->threads[i].thread, NULL, thread_main, &t->threads[i]);
		if (rc != 0)
			return -rc;
		t->threads[i].running = true;
		pthread_setname_np(t->threads[i].thread, "handshake");
	}
	return 0;
}

void tls_stop(struct tls *t)
{
	atomic_store(&t->stop, true);
	for (unsigned i = 0; i < t->n_threads; i++) {
		if (t->threads[i].running)
			pthread_join(t->threads[i].thread, NULL);
		else
			stop_signing(&t->threads[i]);
		t->threads[i].running = false;
	}
}

void tls_close(struct tls *t)
{
	state_close(t);
	for (unsigned i = 0; i < t->n_threads; i++) {
		struct tls_thread *h = &t->threads[i];
		directory_free(h->directory);
		aead_engine_destroy(h->engine);
		SSL_CTX_free(h->client);
		EVP_CIPHER_free(h->ticket_cipher);
		OSSL_LIB_CTX_free(h->lib);
		signer_lib_free(h->remote);
		signer_destroy(h->signer);
		ring_destroy(h->queue);
	}
	CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL_CTX, t->context_index);
	BIO_meth_free(t->bio);
	free(t);
}
