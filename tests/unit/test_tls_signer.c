/* test_tls_signer.c - keys in another process: what the gateway does with good and bad signers */
#include "tests/unit/signer_rig.h"

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
	restart_signer(&w);
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
	restart_signer(&w);
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
	restart_signer(&w);
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
