/* test_tls_records.c - records of our own against OpenSSL: every suite, new keys, windows smaller
 * than a record, memory that fails */
#include "tests/unit/relay_bench.h"
#include "tests/unit/tls_rig.h"
#include "tls/native.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static struct tls_session *session_of(struct mail *m)
{
	return slab_at(m->tls_worker->sessions, 0, NULL);
}

/* --- suites, groups, resumption --- */

static void one_suite(struct rig *r, int version, const char *suite, const char *group)
{
	SSL_CTX *x = r->m->client_context;
	uint64_t before = mail_tls_count(r->m, tls_records_native);
	char *text = calloc(1, 120001);

	for (unsigned i = 0; i < 120000 / 60; i++)
		strcat(text + (size_t)i * 60,
		       "0123456789012345678901234567890123456789012345678901234567\r\n");
	assert_int_equal(version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(x, suite)
						   : SSL_CTX_set_cipher_list(x, suite),
			 1);
	assert_int_equal(SSL_CTX_set1_groups_list(x, group), 1);
	struct peer *p = rig_greeted(r->m, version);
	assert_string_equal(SSL_get_cipher_name(p->ssl), suite);
	assert_int_equal(strncmp(peer_cmd(p, "EHLO x"), "250", 3), 0);
	assert_int_equal(strncmp(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235", 3), 0);
	assert_int_equal(strncmp(peer_message(p, text), "250", 3), 0);
	assert_int_equal(strncmp(peer_cmd(p, "QUIT"), "221", 3), 0);
	assert_true(peer_ended(p));
	assert_true(p->notified);
	assert_int_equal(mail_tls_count(r->m, tls_records_native), before + 1);
	peer_free(p);
	mail_run(r->m, MAIL_SECOND);
	free(text);
}

static void every_suite_and_group_goes_over_to_our_records(void **state)
{
	static const struct {
		int version;
		const char *suite;
	} rows[] = {
		{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
		{TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
		{TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
		{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
		{TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"},
		{TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256"},
		{TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384"},
		{TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305"},
	};
	struct rig r;

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "mx.test"});
	rig_add(&r, &(struct cert_spec){.common_name = "mx.test", .rsa = true});
	r.options.tls.native_records = true;
	rig_start(&r);
	r.m->hold_relay = true;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* under TLS 1.2 the list holds for the key of a certificate as well */
		one_suite(&r, rows[i].version, rows[i].suite, "X25519:P-256");
		one_suite(&r, rows[i].version, rows[i].suite, "P-256");
	}
	assert_int_equal(mail_tls_count(r.m, tls_records_kept), 0);
	rig_end(&r);
}

static void a_resumed_session_goes_over_too(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail *m = rig_records(true);
		struct peer *p = rig_greeted(m, versions[v]);
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		struct peer *q = peer_connect(m, MAIL_SUBMISSIONS);
		peer_begin_tls(q, versions[v], session);
		peer_expect(q, "220");
		assert_true(SSL_session_reused(q->ssl));
		assert_int_equal(strncmp(peer_cmd(q, "NOOP"), "250", 3), 0);
		assert_int_equal(mail_tls_count(m, tls_records_native), 2);
		SSL_SESSION_free(session);
		mail_destroy(m);
	}
}

static void the_ssl_object_is_gone_when_the_handshake_is_over(void **state)
{
	struct mail *m = rig_records(true);

	rig_greeted(m, 0);
	assert_null(session_of(m)->ssl);
	assert_null(session_of(m)->contexts);
	assert_null(session_of(m)->takeover);
	assert_null(session_of(m)->in);
	mail_destroy(m);
}

static void without_the_switch_openssl_keeps_the_records(void **state)
{
	if (getenv("TLS_RECORDS") != NULL)
		return;
	struct mail *m = rig_records(false);

	rig_greeted(m, 0);
	assert_non_null(session_of(m)->ssl);
	assert_int_equal(mail_tls_count(m, tls_records_native), 0);
	assert_int_equal(mail_tls_count(m, tls_records_kept), 0);
	mail_destroy(m);
}

static void a_reload_switches_for_new_sessions_only(void **state)
{
	struct mail *m = rig_records(true);
	struct peer *p = rig_greeted(m, 0), *q;
	struct tls_certificate own = {.chain = m->chain, .key = m->key};
	struct tls_config c = {.certificates = &own, .n_certificates = 1, .threads = 2};
	char error[512];

	assert_true(tls_reload(m->tls, &c, error, sizeof(error)) >= 0);
	q = rig_greeted(m, 0);
	assert_int_equal(mail_tls_count(m, tls_records_native), 1);
	assert_int_equal(strncmp(peer_cmd(p, "NOOP"), "250", 3), 0);
	assert_int_equal(strncmp(peer_cmd(q, "NOOP"), "250", 3), 0);
	mail_destroy(m);
}

/* Its tickets come when the records are ours already, and are passed over. */
static void towards_a_next_hop_the_records_are_ours_too(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail_options o;
		mail_options_default(&o);
		o.tls.native_records = true;
		o.relay.pools[0].hops[0].tls = RELAY_TLS_REQUIRED;
		struct bench b = bench_with(&o);
		b.h->starttls = true;
		SSL_CTX_set_max_proto_version(b.m->server_context, versions[v]);
		struct peer *p = peer_login(b.m);
		char text[50000] = "Subject: x\r\n\r\n";
		size_t head = strlen(text);
		for (size_t i = head; i + 100 < sizeof(text); i += 50)
			memcpy(text + i, "0123456789012345678901234567890123456789abcdefgh\r\n",
			       51);
		assert_int_equal(strncmp(peer_message(p, text), "250", 3), 0);
		assert_true(drained(&b, MINUTE));
		const struct bytes *got = &b.h->mails[0].content;
		assert_true(got->n > strlen(text));
		assert_string_equal((char *)got->at + got->n - strlen(text) + head, text + head);
		assert_int_equal(mail_tls_count(b.m, tls_client_handshakes), 1);
		assert_int_equal(mail_tls_count(b.m, tls_records_native), 2);
		bench_end(&b);
	}
}

/* --- new keys --- */

static void keys_change_in_both_directions(void **state)
{
	struct mail *m = rig_records(true);
	struct peer *p = rig_greeted(m, TLS1_3_VERSION);

	for (unsigned i = 0; i < 20; i++) {
		SSL_key_update(p->ssl,
			       i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
		p->split = i % 5;
		assert_int_equal(strncmp(peer_cmd(p, "NOOP"), "250", 3), 0);
		mail_run(m, 2 * MAIL_SECOND);
	}
	assert_int_equal(mail_tls_count(m, tls_key_update_floods), 0);
	mail_destroy(m);
}

/* RFC 8446 section 5.5, with a limit that a test can reach. */
static void keys_that_have_served_enough_are_renewed(void **state)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"};

	for (size_t k = 0; k < 2; k++) {
		struct mail *m = rig_records(true);
		m->tls_worker->record_limit = 10;
		SSL_CTX_set_ciphersuites(m->client_context, suites[k]);
		struct peer *p = rig_greeted(m, TLS1_3_VERSION);
		for (unsigned i = 0; i < 100; i++) {
			assert_int_equal(
				strncmp(peer_cmd(p, i % 16 == 0 ? "RSET" : "NOOP"), "250", 3), 0);
			mail_run(m, 200000);
			const struct records *r = session_of(m)->records;
			assert_in_range(r->key[AEAD_OUT].sequence, 0, 11);
			assert_in_range(r->key[AEAD_IN].sequence, 0, 12);
		}
		assert_true(mail_tls_count(m, tls_key_updates_sent) >= 9);
		mail_destroy(m);
	}
}

static void under_tls_1_2_such_keys_end_the_session_cleanly(void **state)
{
	struct mail *m = rig_records(true);

	m->tls_worker->record_limit = 10;
	SSL_CTX_set_cipher_list(m->client_context, "ECDHE+AESGCM");
	struct peer *p = rig_greeted(m, TLS1_2_VERSION);
	unsigned good = 0;
	for (; good < 20 && strncmp(peer_cmd(p, "NOOP"), "250", 3) == 0; good++)
		;
	assert_int_equal(good, 4); /* two records each, and Finished is of the ten */
	assert_true(peer_ended(p));
	assert_true(p->notified);
	assert_int_equal(mail_tls_count(m, tls_keys_worn), 1);
	mail_destroy(m);
}

static void chacha_keys_serve_without_a_limit(void **state)
{
	struct mail *m = rig_records(true);

	m->tls_worker->record_limit = 10;
	SSL_CTX_set_cipher_list(m->client_context, "ECDHE+CHACHA20");
	struct peer *p = rig_greeted(m, TLS1_2_VERSION);
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(strncmp(peer_cmd(p, i % 16 == 0 ? "RSET" : "NOOP"), "250", 3), 0);
	mail_destroy(m);
}

/* --- a protocol that reads and writes as it is told --- */

struct far {
	struct conn conn;
	struct mail *m;
	struct bytes got;
	uint32_t window;
	size_t piece;  /* of reading */
	uint64_t fail; /* the allocation of OpenSSL that fails in each read */
	bool secured, failed, stalled, ended;
};

static void far_read(struct conn *c)
{
	struct far *f = container_of(c, struct far, conn);
	uint8_t buf[20000];
	size_t n;

	do {
		tls_memory_fail(f->fail);
		n = conn_read(c, buf, f->piece);
		f->failed |= tls_memory_failed();
		bytes_add(&f->got, buf, n);
	} while (n > 0);
	if (conn_eof(c) && !f->ended) {
		f->ended = true;
		conn_close(c);
	}
}

static void far_secured(struct conn *c)
{
	container_of(c, struct far, conn)->secured = true;
}

static void far_writable(struct conn *c)
{
	container_of(c, struct far, conn)->stalled = false;
}

static void far_ended(struct conn *c, enum conn_end why)
{
	container_of(c, struct far, conn)->ended = true;
}

static const struct conn_events far_events = {far_secured, far_read, far_writable, far_ended};

static void far_opened(struct stream *s, void *user)
{
	static const struct conn_tls server;
	struct far *f = user;

	conn_init(&f->conn, f->m->tls_worker, s, &far_events);
	if (f->window > 0)
		stream_set_receive_limit(s, f->window);
	assert_true(conn_secure(&f->conn, &server));
}

static const struct stream_events far_streams = {far_opened, conn_stream_readable,
						 conn_stream_writable, conn_stream_closed};

static bool far_is_secured(void *arg)
{
	return ((struct far *)arg)->secured;
}

static bool far_has_ended(void *arg)
{
	return ((struct far *)arg)->ended;
}

static struct peer *far_connect(struct far *f, int version)
{
	tcp_listen(pair_tcp(f->m->pair, 1),
		   &(struct tcp_listen){.port = 7000, .events = &far_streams, .user = f});
	struct peer *p = peer_connect(f->m, 7000);
	peer_begin_tls(p, version, NULL);
	assert_true(mail_run_until(f->m, far_is_secured, f, 10 * MAIL_SECOND));
	assert_non_null(f->conn.tls->records);
	mail_run(f->m, 10000);
	return p;
}

static void fill(uint8_t *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		text[i] = (uint8_t)(i * 7 + (i >> 8));
}

/* A record of full size through windows that do not hold it, read in pieces of any size; nothing
 * is held once it has been read. */
static void records_larger_than_the_window_get_through(void **state)
{
	static const uint32_t windows[] = {0, 3000, 8000, 16384, 16640, 65535};
	static const size_t pieces[] = {1, 1000, 16383, 16384, 20000};
	static uint8_t text[60000];

	fill(text, sizeof(text));
	for (size_t i = 0; i < 6 * 5 * 2; i++) {
		struct far f = {.m = rig_records(true),
				.window = windows[i / 2 % 6],
				.piece = pieces[i / 12]};
		struct peer *p = far_connect(&f, versions[i % 2]);
		peer_send(p, text, sizeof(text));
		peer_close_notify(p);
		assert_true(mail_run_until(f.m, far_has_ended, &f, 60 * MAIL_SECOND));
		assert_int_equal(f.got.n, sizeof(text));
		assert_memory_equal(f.got.at, text, sizeof(text));
		assert_int_equal(mail_tls_count(f.m, tls_truncated), 0);
		free(f.got.at);
		mail_destroy(f.m);
	}
}

static void without_memory_to_gather_a_record_the_session_ends(void **state)
{
	static uint8_t text[16384];
	bool failed = true;
	unsigned ended = 0;

	for (uint64_t nth = 1; failed; nth++) {
		struct far f = {
			.m = rig_records(true), .window = 3000, .piece = 20000, .fail = nth};
		struct peer *p = far_connect(&f, TLS1_3_VERSION);
		peer_send(p, text, sizeof(text));
		peer_close_notify(p);
		assert_true(mail_run_until(f.m, far_has_ended, &f, 60 * MAIL_SECOND));
		assert_true(f.got.n == sizeof(text) || (f.failed && f.got.n == 0));
		assert_int_equal(mail_tls_count(f.m, tls_no_memory), f.got.n == 0);
		ended += f.got.n == 0;
		failed = f.failed;
		free(f.got.at);
		mail_destroy(f.m);
	}
	assert_in_range(ended, 1, 3);
}

/* Chunks run out in the middle of a record: what the stream did not take waits, and whoever wrote
 * must offer it again.  lost: there is no memory to keep it either. */
static void chunks_run_out(int version, bool lost)
{
	static uint8_t text[200000];
	struct far f = {.m = rig_records(true), .piece = 100};
	struct peer *p = far_connect(&f, version);
	struct chunk *all = NULL, *c;
	size_t sent = 0;
	bool parked = false;

	fill(text, sizeof(text));
	stream_set_send_limit(f.conn.stream, 300000);
	while ((c = chunk_alloc(f.m->shard->chunks, CHUNK_4K, true)) != NULL) {
		c->next = all;
		all = c;
	}
	for (unsigned i = 0; i < 2; i++) { /* room for one whole record and half of one */
		for (unsigned k = 0; k < 3; k++) {
			c = all;
			all = c->next;
			chunk_free(f.m->shard->chunks, c);
		}
		tls_memory_fail(lost ? 1 : 0);
		sent += conn_write(&f.conn, text + sent, 20000 - sent, false);
		lost &= !tls_memory_failed();
		parked |= f.conn.tls->records->parked != NULL;
		assert_true(!parked || !conn_drained(&f.conn));
	}
	assert_true(parked != f.conn.tls->records->failed);
	chunk_free_list(f.m->shard->chunks, all);
	bool failed = f.conn.tls->records->failed;
	for (unsigned i = 0; i < 100 && sent < sizeof(text) && !f.ended; i++) {
		mail_run(f.m, 100000);
		if (!f.ended)
			sent += conn_write(&f.conn, text + sent, sizeof(text) - sent, false);
	}
	mail_run(f.m, MAIL_SECOND);
	if (failed) {
		assert_true(f.ended);
		assert_int_equal(mail_tls_count(f.m, tls_no_memory), 1);
	} else {
		assert_int_equal(sent, sizeof(text));
		assert_int_equal(p->got.n, sizeof(text));
		assert_memory_equal(p->got.at, text, sizeof(text));
		conn_close(&f.conn);
	}
	free(f.got.at);
	mail_destroy(f.m);
}

static void a_record_that_the_stream_takes_in_part_goes_on_when_there_is_room(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		chunks_run_out(versions[v], false);
		chunks_run_out(versions[v], true);
	}
}

static int count_memory(void **state)
{
	return tls_memory_init() ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_suite_and_group_goes_over_to_our_records),
		cmocka_unit_test(a_resumed_session_goes_over_too),
		cmocka_unit_test(the_ssl_object_is_gone_when_the_handshake_is_over),
		cmocka_unit_test(without_the_switch_openssl_keeps_the_records),
		cmocka_unit_test(a_reload_switches_for_new_sessions_only),
		cmocka_unit_test(towards_a_next_hop_the_records_are_ours_too),
		cmocka_unit_test(keys_change_in_both_directions),
		cmocka_unit_test(keys_that_have_served_enough_are_renewed),
		cmocka_unit_test(under_tls_1_2_such_keys_end_the_session_cleanly),
		cmocka_unit_test(chacha_keys_serve_without_a_limit),
		cmocka_unit_test(records_larger_than_the_window_get_through),
		cmocka_unit_test(without_memory_to_gather_a_record_the_session_ends),
		cmocka_unit_test(a_record_that_the_stream_takes_in_part_goes_on_when_there_is_room),
	};

	return cmocka_run_group_tests(tests, count_memory, NULL);
}
