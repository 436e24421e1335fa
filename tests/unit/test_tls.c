/* test_tls.c - handshakes and records as hostile and as slow as a peer can make them */
#include "tests/sim/peer.h"
#include "tests/sim/random.h"
#include "tls/conn.h"
#include "tls/internal.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ECHO = 7000, RECORD_ALERT = 21, RECORD_HELLO = 22, RECORD_DATA = 23 };

static struct peer *connected(struct mail *m)
{
	return peer_connect(m, MAIL_SUBMISSIONS);
}

static void both_versions_complete_a_handshake(void **state)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (unsigned i = 0; i < 2; i++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = connected(m);
		assert_true(peer_tls(p, versions[i]));
		peer_expect(p, "220 mx.test");
		assert_int_equal(SSL_version(p->ssl), versions[i]);
		assert_int_equal(mail_tls_count(m, tls_handshakes), 1);
		assert_int_equal(mail_tls_count(m, tls_handshakes_1_2), i == 0);
		mail_destroy(m);
	}
}

static void an_older_version_is_refused_with_an_alert(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);

	SSL_CTX_set_security_level(m->client_context, 0);
	peer_begin_tls(p, TLS1_1_VERSION, NULL);
	assert_true(peer_ended(p));
	assert_true(p->tls_failed);
	assert_int_equal(mail_tls_count(m, tls_handshakes_failed), 1);
	mail_destroy(m);
}

static void a_session_works_however_small_its_segments_are(void **state)
{
	static const size_t pieces[] = {1, 2, 3, 5, 6, 7, 11};

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = connected(m);
		m->hold_relay = true;
		p->split = pieces[i];
		assert_true(peer_tls(p, i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION));
		peer_expect(p, "220");
		assert_int_equal(strncmp(peer_cmd(p, "EHLO x"), "250", 3), 0);
		assert_int_equal(strncmp(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235", 3), 0);
		assert_int_equal(strncmp(peer_message(p, "a: b\r\n\r\nc\r\n"), "250", 3), 0);
		mail_destroy(m);
	}
}

static void a_hello_cut_at_any_place_is_answered(void **state)
{
	struct mail *m = mail_create(NULL);
	size_t n = 2;

	for (size_t at = 1; at < n; at += 3) {
		struct peer *p = connected(m);
		p->held = true;
		peer_begin_tls(p, 0, NULL);
		struct bytes hello = p->raw;
		p->raw = (struct bytes){0};
		p->held = false;
		n = hello.n;
		peer_raw(p, hello.at, at);
		mail_run(m, 1000);
		assert_int_equal(p->got.n, 0);
		peer_raw(p, hello.at + at, n - at);
		free(hello.at);
		peer_expect(p, "220");
		peer_free(p);
	}
	assert_true(n > 100);
	mail_destroy(m);
}

static void first_commands_in_the_flight_of_finished_are_read(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);
	char big[9000] = "";

	p->held = true;
	peer_begin_tls(p, TLS1_3_VERSION, NULL);
	p->held = false;
	mail_run(m, 0);
	p->held = true; /* Finished stays here until more has joined it */
	mail_run(m, 10000);
	assert_true(p->secured);
	for (unsigned i = 0; i < 1000; i++)
		strcat(big, "NOOP x\r\n");
	peer_say(p, big);
	peer_say(p, big);
	peer_say(p, big);
	p->held = false;
	peer_pump(p);
	peer_expect(p, "220");
	for (unsigned i = 0; i < 3000; i++)
		peer_expect(p, "250 2.0.0");
	mail_destroy(m);
}

static void expect_refused(const void *octets, size_t n, enum tls_counter c)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);

	peer_raw(p, octets, n);
	mail_run(m, MAIL_SECOND);
	assert_true(p->over || p->eof);
	assert_int_equal(mail_tls_count(m, c), 1);
	mail_destroy(m);
}

static void what_is_not_tls_is_dropped_at_its_first_octet(void **state)
{
	expect_refused("E", 1, tls_not_tls);
	expect_refused("\x80\x2e\x01\x03\x01", 5, tls_not_tls);
}

static void a_record_over_the_limit_is_dropped_at_its_header(void **state)
{
	expect_refused("\x16\x03\x01\x4e\x20", 5, tls_oversized_record);
	expect_refused("\x16\x03\x01\xff\xff", 5, tls_oversized_record);
}

static void a_row_of_empty_records_fails(void **state)
{
	uint8_t row[40 * 5];

	for (unsigned i = 0; i < 40; i++)
		memcpy(row + i * 5, "\x16\x03\x01\0\0", 5);
	expect_refused(row, sizeof(row), tls_handshakes_failed);
}

static void an_alert_ends_a_handshake(void **state)
{
	expect_refused("\x15\x03\x01\x00\x02\x02\x28", 7, tls_handshakes_failed);
}

static void application_data_before_a_handshake_fails(void **state)
{
	expect_refused("\x17\x03\x03\x00\x05hello", 10, tls_handshakes_failed);
}

/* A message announced as 100 KB, in records that each are small. */
static void a_hello_that_announces_too_much_is_dropped_at_its_header(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);
	uint8_t record[1005] = {RECORD_HELLO, 3, 1, 1000 >> 8, 1000 & 255, 1, 1, 0x86, 0xa0, 3, 3};
	unsigned sent = 0;

	for (; sent < 40 && !p->over && !p->eof; sent++) {
		peer_raw(p, record, sizeof(record));
		memset(record + 5, 0, 1000);
		mail_run(m, 10000);
	}
	assert_int_equal(sent, 1);
	assert_int_equal(mail_tls_count(m, tls_oversized_record), 1);
	mail_destroy(m);
}

static void a_peer_that_leaves_in_a_handshake_is_counted(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);

	peer_raw(p, "\x16\x03\x01", 3);
	mail_run(m, 1000);
	peer_fin(p);
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_handshakes_failed), 1);
	mail_destroy(m);
}

static void garbage_of_any_kind_ends_within_the_handshake_time(void **state)
{
	struct mail *m = mail_create(NULL);

	m->tick_us = MAIL_SECOND;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		uint64_t r = seed;
		uint8_t junk[400];
		size_t n = 1 + random_below(&r, sizeof(junk));
		struct peer *p = connected(m);
		for (size_t i = 0; i < n; i++)
			junk[i] = (uint8_t)random_next(&r);
		if (seed % 4 != 0) { /* a plausible header in front */
			junk[0] = (uint8_t)(20 + random_below(&r, 4));
			junk[1] = 3;
			junk[2] = (uint8_t)random_below(&r, 5);
			junk[3] = 0;
		}
		peer_raw(p, junk, n);
		mail_run(m, 61 * MAIL_SECOND);
		if (!p->over && !p->eof)
			fail_msg("seed %llu", (unsigned long long)seed);
		peer_free(p);
	}
	mail_destroy(m);
}

static void mutated_handshakes_neither_crash_nor_leak(void **state)
{
	struct mail *m = mail_create(NULL);

	m->tick_us = MAIL_SECOND;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		uint64_t r = seed;
		struct peer *p = connected(m);
		p->held = true;
		peer_begin_tls(p, 0, NULL);
		for (unsigned i = 0; i < 1 + seed % 4; i++)
			p->raw.at[random_below(&r, (uint32_t)p->raw.n)] ^=
				(uint8_t)(1 << random_below(&r, 8));
		if (seed % 5 == 0)
			p->raw.n = random_below(&r, (uint32_t)p->raw.n);
		p->held = false;
		peer_pump(p);
		mail_run(m, 61 * MAIL_SECOND);
		peer_free(p);
	}
	mail_destroy(m);
}

static void a_damaged_record_ends_the_session(void **state)
{
	uint8_t record[37] = {RECORD_DATA, 3, 3, 0, 32, 1, 2, 3};
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_login(m);

	peer_raw(p, record, sizeof(record));
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_record_errors), 1);
	mail_destroy(m);
}

static struct peer *in_data(struct mail *m)
{
	struct peer *p = peer_login(m);

	peer_envelope(p, "a@example.net", "b@example.org");
	peer_say(p, "DATA\r\n");
	peer_expect(p, "354");
	peer_say(p, "Subject: cut\r\n\r\ntext\r\n");
	return p;
}

static void truncated_data_is_never_committed(void **state)
{
	for (unsigned how = 0; how < 3; how++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = in_data(m);
		mail_run(m, 10000);
		if (how == 0)
			peer_close_notify(p);
		else if (how == 1)
			peer_fin(p);
		else
			peer_reset(p);
		mail_run(m, MAIL_SECOND);
		assert_int_equal(smtp_sessions_open(m->smtp), 0);
		assert_int_equal(m->accepted, 0);
		assert_int_equal(mail_smtp_count(m, smtp_message_aborted), 1);
		assert_int_equal(mail_tls_count(m, tls_truncated), how == 1);
		assert_int_equal(spool_counters(m->spool)[spool_commits], 0);
		mail_destroy(m);
	}
}

static void an_end_of_data_in_a_cut_record_is_no_end(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = in_data(m);

	mail_run(m, 10000);
	p->held = true;
	peer_say(p, ".\r\n");
	p->raw.n--;
	p->held = false;
	peer_pump(p);
	mail_run(m, 10000);
	peer_fin(p);
	assert_true(peer_ended(p));
	assert_int_equal(m->accepted, 0);
	mail_destroy(m);
}

static void a_session_that_says_goodbye_gets_close_notify(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_login(m);

	assert_int_equal(strncmp(peer_cmd(p, "QUIT"), "221", 3), 0);
	assert_true(peer_ended(p));
	assert_true(p->notified);
	mail_destroy(m);
}

/* At each stage the client goes while a handshake thread has its session. */
static void a_connection_may_die_while_a_step_is_under_way(void **state)
{
	for (unsigned stage = 0; stage < 4; stage++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = connected(m);
		m->hold_tls = stage % 2 == 0;
		peer_begin_tls(p, TLS1_3_VERSION, NULL);
		if (stage % 2 == 1) { /* the second step: Finished */
			p->held = true;
			mail_run(m, 1000);
			m->hold_tls = true;
			p->held = false;
			peer_pump(p);
		}
		mail_run(m, 1000);
		assert_int_equal(slab_used(m->tls_worker->sessions), 1);
		if (stage < 2)
			peer_reset(p);
		else
			mail_run(m, 120 * MAIL_SECOND); /* the handshake's deadline */
		mail_run(m, 1000);
		assert_int_equal(smtp_sessions_open(m->smtp), 0);
		assert_int_equal(slab_used(m->tls_worker->sessions), 1);
		m->hold_tls = false;
		mail_run(m, 10000);
		assert_int_equal(slab_used(m->tls_worker->sessions), 0);
		mail_destroy(m);
	}
}

static void a_full_queue_drops_the_session_and_counts(void **state)
{
	struct mail_options o;
	int junk;

	mail_options_default(&o);
	o.tls_threads = 1;
	struct mail *m = mail_create(&o);
	struct ring *queue = m->tls->threads[0].queue;
	struct peer *p = connected(m);
	m->hold_tls = true;
	while (ring_push(queue, &junk))
		;
	peer_begin_tls(p, 0, NULL);
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_queue_full), 1);
	while (ring_pop(queue) != NULL)
		;
	m->hold_tls = false;
	mail_destroy(m);
}

static void without_room_for_tls_a_session_is_dropped_or_put_off(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.tls_sessions = 1;
	struct mail *m = mail_create(&o);
	struct peer *first = peer_login(m), *second = connected(m);
	assert_true(peer_ended(second));
	assert_int_equal(mail_tls_count(m, tls_no_memory), 1);
	struct peer *third = peer_connect(m, MAIL_SUBMISSION);
	peer_expect(third, "220");
	assert_int_equal(strncmp(peer_cmd(third, "EHLO x"), "250", 3), 0);
	assert_int_equal(strncmp(peer_cmd(third, "STARTTLS"), "454 4.7.0", 9), 0);
	peer_free(first);
	mail_run(m, MAIL_SECOND);
	assert_int_equal(strncmp(peer_cmd(third, "STARTTLS"), "220", 3), 0);
	assert_true(peer_tls(third, 0));
	mail_destroy(m);
}

static void a_ticket_of_one_thread_resumes_on_another(void **state)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (unsigned i = 0; i < 2; i++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = connected(m), *q = connected(m);
		assert_true(peer_tls(p, versions[i]));
		peer_expect(p, "220");
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		peer_begin_tls(q, versions[i], session);
		peer_expect(q, "220");
		assert_true(SSL_session_reused(q->ssl));
		assert_int_equal(mail_tls_count(m, tls_handshakes_resumed), 1);
		SSL_SESSION_free(session);
		mail_destroy(m);
	}
}

static void keys_may_be_updated_in_the_middle(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);

	assert_true(peer_tls(p, TLS1_3_VERSION));
	peer_expect(p, "220");
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(strncmp(peer_cmd(p, "NOOP"), "250", 3), 0);
		mail_run(m, MAIL_SECOND);
	}
	mail_destroy(m);
}

static void renegotiation_is_not_done(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = connected(m);

	assert_true(peer_tls(p, TLS1_2_VERSION));
	peer_expect(p, "220");
	SSL_renegotiate(p->ssl);
	SSL_do_handshake(p->ssl);
	peer_pump(p);
	mail_run(m, MAIL_SECOND);
	assert_int_equal(mail_tls_count(m, tls_handshakes), 1);
	mail_destroy(m);
}

/* A protocol that sends a long text as fast as its stream lets it. */
struct talker {
	struct conn conn;
	struct mail *m;
	size_t sent, all;
	uint32_t limit;
	bool secure, ended;
};

static uint8_t text_octet(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

static void talk(struct conn *c)
{
	struct talker *t = container_of(c, struct talker, conn);
	uint8_t buf[20000];

	while (t->sent < t->all) {
		size_t n = t->all - t->sent < sizeof(buf) ? t->all - t->sent : sizeof(buf);
		for (size_t i = 0; i < n; i++)
			buf[i] = text_octet(t->sent + i);
		size_t took = conn_write(c, buf, n, false);
		t->sent += took;
		if (took < n)
			return;
	}
	conn_close(c);
	t->ended = true;
}

static void swallow(struct conn *c)
{
	uint8_t buf[100];

	while (conn_read(c, buf, sizeof(buf)) > 0)
		;
}

static void talker_ended(struct conn *c, enum conn_end why)
{
	container_of(c, struct talker, conn)->ended = true;
}

static const struct conn_events talker_events = {talk, swallow, talk, talker_ended};

static void talker_opened(struct stream *s, void *user)
{
	static const struct conn_tls server;
	struct talker *t = user;

	conn_init(&t->conn, t->m->tls_worker, s, &talker_events);
	if (t->limit > 0)
		stream_set_send_limit(s, t->limit);
	if (t->secure)
		assert_true(conn_secure(&t->conn, &server));
	else
		talk(&t->conn);
}

static const struct stream_events talker_streams = {talker_opened, conn_stream_readable,
						    conn_stream_writable, conn_stream_closed};

static bool talker_done(void *arg)
{
	return ((struct peer *)arg)->eof;
}

static void check_long_text(bool secure, uint32_t limit)
{
	struct mail *m = mail_create(NULL);
	struct talker t = {.m = m, .all = 700000, .limit = limit, .secure = secure};

	tcp_listen(pair_tcp(m->pair, 1),
		   &(struct tcp_listen){.port = ECHO, .events = &talker_streams, .user = &t});
	struct peer *p = peer_connect(m, ECHO);
	if (secure)
		peer_begin_tls(p, 0, NULL);
	assert_true(mail_run_until(m, talker_done, p, 600 * MAIL_SECOND));
	assert_int_equal(p->got.n, t.all);
	for (size_t i = 0; i < t.all; i++)
		if (p->got.at[i] != text_octet(i))
			fail_msg("octet %zu", i);
	assert_true(!secure || p->notified);
	mail_destroy(m);
}

static void a_long_text_gets_through_a_small_send_window(void **state)
{
	static const uint32_t limits[] = {300, 1000, 4096, 5000, 16448, 16449, 20000, 0};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		check_long_text(true, limits[i]);
		check_long_text(false, limits[i]);
	}
}

static void memory_of_tls_returns_to_its_start(void **state)
{
	struct mail *m = mail_create(NULL);
	uint64_t before = 0;

	for (unsigned i = 0; i < 30; i++) {
		struct peer *p = peer_login(m);
		assert_true(tls_memory_used() > before);
		peer_free(p);
		mail_run(m, MAIL_SECOND);
		if (i == 1) /* what is made once, such as fetched algorithms, is there now */
			before = tls_memory_used();
	}
	assert_int_equal(tls_memory_used(), before);
	mail_destroy(m);
}

static int count_memory(void **state)
{
	return tls_memory_init() ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_versions_complete_a_handshake),
		cmocka_unit_test(an_older_version_is_refused_with_an_alert),
		cmocka_unit_test(a_session_works_however_small_its_segments_are),
		cmocka_unit_test(a_hello_cut_at_any_place_is_answered),
		cmocka_unit_test(first_commands_in_the_flight_of_finished_are_read),
		cmocka_unit_test(what_is_not_tls_is_dropped_at_its_first_octet),
		cmocka_unit_test(a_record_over_the_limit_is_dropped_at_its_header),
		cmocka_unit_test(a_row_of_empty_records_fails),
		cmocka_unit_test(an_alert_ends_a_handshake),
		cmocka_unit_test(application_data_before_a_handshake_fails),
		cmocka_unit_test(a_hello_that_announces_too_much_is_dropped_at_its_header),
		cmocka_unit_test(a_peer_that_leaves_in_a_handshake_is_counted),
		cmocka_unit_test(garbage_of_any_kind_ends_within_the_handshake_time),
		cmocka_unit_test(mutated_handshakes_neither_crash_nor_leak),
		cmocka_unit_test(a_damaged_record_ends_the_session),
		cmocka_unit_test(truncated_data_is_never_committed),
		cmocka_unit_test(an_end_of_data_in_a_cut_record_is_no_end),
		cmocka_unit_test(a_session_that_says_goodbye_gets_close_notify),
		cmocka_unit_test(a_connection_may_die_while_a_step_is_under_way),
		cmocka_unit_test(a_full_queue_drops_the_session_and_counts),
		cmocka_unit_test(without_room_for_tls_a_session_is_dropped_or_put_off),
		cmocka_unit_test(a_ticket_of_one_thread_resumes_on_another),
		cmocka_unit_test(keys_may_be_updated_in_the_middle),
		cmocka_unit_test(renegotiation_is_not_done),
		cmocka_unit_test(a_long_text_gets_through_a_small_send_window),
		cmocka_unit_test(memory_of_tls_returns_to_its_start),
	};

	return cmocka_run_group_tests(tests, count_memory, NULL);
}
