/* test_tls_floods.c - messages that cost the server more than their sender, and their limits */
#include "tests/unit/tls_rig.h"

static void two_key_updates_within_a_second_end_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = rig_greeted(m, TLS1_3_VERSION);

	SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
	assert_int_equal(strncmp(peer_cmd(p, "NOOP"), "250", 3), 0);
	SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
	peer_say(p, "NOOP\r\n");
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_key_update_floods), 1);
	assert_int_equal(mail_tls_count(m, tls_record_errors), 0);
	mail_destroy(m);
}

static void a_33rd_key_update_ends_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = rig_greeted(m, TLS1_3_VERSION);

	for (unsigned i = 0; i < 32; i++) {
		SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED);
		assert_int_equal(strncmp(peer_cmd(p, i % 16 == 0 ? "RSET" : "NOOP"), "250", 3), 0);
		mail_run(m, 1100000);
	}
	SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED);
	peer_say(p, "NOOP\r\n");
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_key_update_floods), 1);
	mail_destroy(m);
}

/* In one burst: nothing behind the limit is even decrypted. */
static void a_burst_of_key_updates_is_cut_at_the_second(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = rig_greeted(m, TLS1_3_VERSION);

	p->held = true;
	for (unsigned i = 0; i < 500; i++) {
		SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
		SSL_do_handshake(p->ssl);
		peer_pump(p);
	}
	p->held = false;
	peer_pump(p);
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_key_update_floods), 1);
	mail_destroy(m);
}

static void renegotiation_is_refused_and_a_third_try_ends_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = rig_greeted(m, TLS1_2_VERSION);

	for (unsigned i = 0; i < 5 && !p->over && !p->eof; i++) {
		SSL_renegotiate(p->ssl);
		SSL_do_handshake(p->ssl);
		peer_pump(p);
		mail_run(m, MAIL_SECOND);
	}
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_handshakes), 1);
	mail_destroy(m);
}

/* A TLS 1.2 record of the client, sealed by its own keys: OpenSSL has no call that sends a
 * warning alert or an empty record, so the client writes in clear before any keys. */
static void warning_alerts_before_the_hello_are_cut(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	for (unsigned i = 0; i < 20 && !p->over && !p->eof; i++) {
		peer_raw(p, "\x15\x03\x01\x00\x02\x01\x5a", 7); /* warning: user_canceled */
		mail_run(m, 10000);
	}
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_handshakes_failed), 1);
	mail_destroy(m);
}

static void a_row_of_warning_alerts_in_a_handshake_is_cut_and_counted(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, TLS1_2_VERSION, NULL);
	mail_run(m, 0);
	p->held = true; /* the client's key exchange stays here */
	mail_run(m, 10000);
	p->raw.n = 0;
	p->held = false;
	for (unsigned i = 0; i < 20 && !p->over && !p->eof; i++) {
		peer_raw(p, "\x15\x03\x03\x00\x02\x01\x5a", 7);
		mail_run(m, 10000);
	}
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_alert_floods), 1);
	mail_destroy(m);
}

static void a_row_of_empty_records_in_a_handshake_is_cut_and_counted(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, TLS1_2_VERSION, NULL);
	mail_run(m, 0);
	p->held = true;
	mail_run(m, 10000);
	p->raw.n = 0;
	p->held = false;
	for (unsigned i = 0; i < 50 && !p->over && !p->eof; i++) {
		peer_raw(p, "\x16\x03\x03\x00\x00", 5);
		mail_run(m, 10000);
	}
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_empty_record_floods), 1);
	mail_destroy(m);
}

static void a_hello_dripped_in_records_of_one_octet_is_answered(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	p->held = true;
	peer_begin_tls(p, TLS1_3_VERSION, NULL);
	struct bytes hello = p->raw;
	p->raw = (struct bytes){0};
	p->held = false;
	for (size_t i = 5; i < hello.n; i++) {
		uint8_t record[6] = {22, 3, 1, 0, 1, hello.at[i]};
		peer_raw(p, record, 6);
		if (i % 7 == 0)
			mail_run(m, 1000);
	}
	free(hello.at);
	peer_expect(p, "220");
	/* one step for the hello, one for Finished */
	assert_int_equal(mail_tls_count(m, tls_jobs), 2);
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_key_updates_within_a_second_end_the_session),
		cmocka_unit_test(a_33rd_key_update_ends_the_session),
		cmocka_unit_test(a_burst_of_key_updates_is_cut_at_the_second),
		cmocka_unit_test(renegotiation_is_refused_and_a_third_try_ends_the_session),
		cmocka_unit_test(warning_alerts_before_the_hello_are_cut),
		cmocka_unit_test(a_row_of_warning_alerts_in_a_handshake_is_cut_and_counted),
		cmocka_unit_test(a_row_of_empty_records_in_a_handshake_is_cut_and_counted),
		cmocka_unit_test(a_hello_dripped_in_records_of_one_octet_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
