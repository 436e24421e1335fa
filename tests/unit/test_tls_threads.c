/* test_tls_threads.c - a worker, two handshake threads and a control thread that reloads, all real:
 * every handshake ends well, and nothing of the old states is left.  Also for ThreadSanitizer. */
#include "base/log.h"
#include "perf/tls_pipe.h"
#include "tests/sim/cert.h"
#include "tls/conn.h"
#include "tls/internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CLIENTS = 6, HANDSHAKES = 240, MEMORY = 8 << 20, PATIENCE_S = 60 };

struct world {
	char directory[64], chain[96], key[96];
	struct shard shard;
	void *memory;
	struct tls *tls;
	struct tls_worker *worker;
	SSL_CTX *client;
	_Atomic unsigned done;
	_Atomic bool failed, ended; /* ended: by the worker, which reads the states no more */
};

struct side {
	struct conn conn;
	struct stream stream;
	SSL *client;
	bool secured, over;
};

static void on_secured(struct conn *c)
{
	container_of(c, struct side, conn)->secured = true;
}

static void on_nothing(struct conn *c)
{
}

static void on_ended(struct conn *c, enum conn_end why)
{
	container_of(c, struct side, conn)->over = true;
}

static const struct conn_events events = {on_secured, on_nothing, on_nothing, on_ended};

static void open_side(struct world *w, struct side *s)
{
	static const struct conn_tls server;

	*s = (struct side){.client = SSL_new(w->client)};
	SSL_set_bio(s->client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(s->client);
	SSL_set_tlsext_host_name(s->client, "mx.test");
	conn_init(&s->conn, w->worker, &s->stream, &events);
	if (!conn_secure(&s->conn, &server))
		atomic_store(&w->failed, true);
}

static void close_side(struct side *s)
{
	conn_abort(&s->conn);
	SSL_free(s->client);
	pipe_free(&s->stream);
	s->client = NULL;
}

/* Octets from the client to the gateway and back, as far as there are some. */
static void turn(struct side *s)
{
	uint8_t buf[PIPE_BYTES];
	struct pipe_buffer *out = &s->stream.out;

	if (out->end > out->start)
		BIO_write(SSL_get_rbio(s->client), out->data + out->start,
			  (int)(out->end - out->start));
	out->start = out->end = 0;
	SSL_do_handshake(s->client);
	int n = BIO_read(SSL_get_wbio(s->client), buf, sizeof(buf));
	if (n <= 0)
		return;
	pipe_put(&s->stream.in, buf, (size_t)n);
	conn_stream_readable(&s->stream, &s->conn);
}

static void *worker_main(void *arg)
{
	struct world *w = arg;
	struct side s[CLIENTS] = {0};
	time_t until = time(NULL) + PATIENCE_S;

	while (atomic_load(&w->done) < HANDSHAKES && !atomic_load(&w->failed)) {
		for (unsigned i = 0; i < CLIENTS; i++) {
			if (s[i].client == NULL)
				open_side(w, &s[i]);
			turn(&s[i]);
			if (s[i].over || time(NULL) > until)
				atomic_store(&w->failed, true);
			if (!s[i].secured)
				continue;
			close_side(&s[i]);
			s[i].secured = false;
			atomic_fetch_add(&w->done, 1);
		}
		w->shard.now_us += 10;
		tls_poll(w->worker);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		if (s[i].client != NULL)
			close_side(&s[i]);
	/* what is in flight comes back */
	while (slab_used(w->worker->sessions) > 0 && time(NULL) <= until)
		tls_poll(w->worker);
	atomic_store(&w->ended, true);
	while (!atomic_load(&w->failed) && tls_retired(w->tls) > 0 && time(NULL) <= until)
		tls_poll(w->worker);
	return NULL;
}

static uint64_t draw(void *arg)
{
	return ++*(uint64_t *)arg;
}

static void write_certificate(struct world *w)
{
	char chain[120], key[120];
	struct cert c = cert_make(&(struct cert_spec){
		.common_name = "mx.test", .alternative = "DNS:mx.test", .until_s = 1000 * 86400});

	snprintf(chain, sizeof(chain), "%s.new", w->chain);
	snprintf(key, sizeof(key), "%s.new", w->key);
	cert_save(&c, chain, key);
	cert_free(&c);
	assert_int_equal(rename(key, w->key), 0);
	assert_int_equal(rename(chain, w->chain), 0);
}

static void open_world(struct world *w, struct tls_config *c, struct tls_certificate *own)
{
	static uint64_t seed;
	char error[512];

	*w = (struct world){.directory = "/tmp/test_tls_threads.XXXXXX"};
	assert_non_null(mkdtemp(w->directory));
	snprintf(w->chain, sizeof(w->chain), "%s/chain.pem", w->directory);
	snprintf(w->key, sizeof(w->key), "%s/key.pem", w->directory);
	write_certificate(w);
	w->memory = aligned_alloc(65536, MEMORY);
	w->shard = (struct shard){.now_us = 1,
				  .chunks = chunk_pool_create(w->memory, MEMORY),
				  .random64 = draw,
				  .random_arg = &seed};
	*own = (struct tls_certificate){.chain = w->chain, .key = w->key};
	*c = (struct tls_config){.certificates = own,
				 .n_certificates = 1,
				 .threads = 2,
				 .channel_bindings = true,
				 .max_sessions = 64,
				 .ca_file = w->chain};
	if (tls_open(&w->tls, c, error, sizeof(error)) < 0)
		fail_msg("%s", error);
	w->worker = tls_worker_create(w->tls, &w->shard);
	w->client = SSL_CTX_new(TLS_client_method());
	assert_int_equal(tls_start(w->tls), 0);
}

static void close_world(struct world *w)
{
	tls_stop(w->tls);
	assert_int_equal(slab_used(w->worker->sessions), 0);
	assert_int_equal(chunk_pool_used(w->shard.chunks), 0);
	tls_worker_destroy(w->worker);
	tls_close(w->tls);
	SSL_CTX_free(w->client);
	chunk_pool_destroy(w->shard.chunks);
	free(w->memory);
	unlink(w->chain);
	unlink(w->key);
	rmdir(w->directory);
}

static void reloads_and_new_epochs_disturb_no_handshake(void **state)
{
	static struct world w;
	struct tls_certificate own;
	struct tls_config c;
	char error[512];
	pthread_t worker;
	int64_t now = (int64_t)time(NULL);
	unsigned reloads = 0;

	log_set_level(LOG_ERROR);
	open_world(&w, &c, &own);
	assert_int_equal(pthread_create(&worker, NULL, worker_main, &w), 0);
	while (!atomic_load(&w.ended)) {
		if (++reloads % 4 == 0)
			write_certificate(&w);
		if (tls_reload(w.tls, &c, error, sizeof(error)) < 0)
			fail_msg("%s", error);
		tls_refresh(w.tls, now += 3600); /* each time another epoch of ticket keys */
		usleep(500);
	}
	for (unsigned i = 0; i < 10000 && tls_retired(w.tls) > 0; i++) {
		tls_refresh(w.tls, now);
		usleep(500);
	}
	pthread_join(worker, NULL);
	assert_false(atomic_load(&w.failed));
	assert_true(reloads > 5);
	assert_int_equal(tls_retired(w.tls), 0);
	assert_int_equal(counter_read(&tls_counters(w.worker)[tls_handshakes_failed]), 0);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reloads_and_new_epochs_disturb_no_handshake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
