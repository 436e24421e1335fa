/* test_tls_facts.c - what a handshake leaves behind for logins and records */
#include "smtp/internal.h"
#include "tests/sim/peer.h"
#include "tls/conn.h"
#include "tls/internal.h"

#include <openssl/x509.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The gateway's side of the newest connection. */
static struct conn *server_side(struct mail *m)
{
	struct conn *newest = NULL;

	for (uint32_t i = 0; i < slab_extent(m->tls_worker->sessions); i++) {
		struct tls_session *s = slab_at(m->tls_worker->sessions, i, NULL);
		if (s != NULL && s->conn != NULL)
			newest = s->conn;
	}
	assert_non_null(newest);
	return newest;
}

static struct peer *greeted(struct mail *m, int version, SSL_SESSION *session)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, version, session);
	peer_expect(p, "220");
	return p;
}

static void the_exporter_binding_is_the_same_at_both_ends_under_tls_1_3(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = greeted(m, TLS1_3_VERSION, NULL);
	uint8_t ours[64], theirs[32];

	assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_EXPORTER, ours, 64), 32);
	assert_int_equal(SSL_export_keying_material(p->ssl, theirs, 32, "EXPORTER-Channel-Binding",
						    24, (const uint8_t *)"", 0, 1),
			 1);
	assert_memory_equal(ours, theirs, 32);
	mail_destroy(m);
}

static void the_exporter_binding_does_not_exist_under_tls_1_2(void **state)
{
	struct mail *m = mail_create(NULL);
	uint8_t out[64];

	greeted(m, TLS1_2_VERSION, NULL);
	assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_EXPORTER, out, 64), 0);
	mail_destroy(m);
}

static void the_end_point_binding_is_the_hash_of_our_certificate(void **state)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (unsigned i = 0; i < 2; i++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = greeted(m, versions[i], NULL);
		uint8_t ours[64], theirs[32];
		assert_int_equal(
			X509_digest(SSL_get0_peer_certificate(p->ssl), EVP_sha256(), theirs, NULL),
			1);
		assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_SERVER_END_POINT,
						      ours, sizeof(ours)),
				 32);
		assert_memory_equal(ours, theirs, 32);
		mail_destroy(m);
	}
}

static void bindings_are_taken_when_a_reload_asks_for_them(void **state)
{
	struct mail *m = mail_create(NULL);
	struct tls_certificate own = {.chain = m->chain, .key = m->key};
	struct tls_config c = {.certificates = &own, .n_certificates = 1};
	char error[512];
	uint8_t out[64];

	assert_true(tls_reload(m->tls, &c, error, sizeof(error)) >= 0);
	greeted(m, TLS1_3_VERSION, NULL);
	assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_EXPORTER, out, 64), 0);
	c.channel_bindings = true;
	assert_true(tls_reload(m->tls, &c, error, sizeof(error)) >= 0);
	greeted(m, TLS1_3_VERSION, NULL);
	assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_EXPORTER, out, 64), 32);
	mail_destroy(m);
}

static void a_binding_that_does_not_fit_is_not_given(void **state)
{
	struct mail *m = mail_create(NULL);
	uint8_t out[31];

	greeted(m, TLS1_3_VERSION, NULL);
	assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_EXPORTER, out, 31), 0);
	mail_destroy(m);
}

static void a_login_ends_the_bindings(void **state)
{
	struct mail *m = mail_create(NULL);
	uint8_t out[64];

	peer_login(m);
	assert_int_equal(conn_channel_binding(server_side(m), TLS_BINDING_EXPORTER, out, 64), 0);
	assert_null(conn_peer_certificate(server_side(m)));
	mail_destroy(m);
}

static void facts_name_version_suite_group_and_server_name(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = greeted(m, TLS1_3_VERSION, NULL);
	struct conn_tls_facts f;

	assert_true(conn_tls_facts(server_side(m), &f));
	assert_string_equal(f.protocol, "TLS1.3");
	assert_string_equal(f.cipher, SSL_CIPHER_standard_name(SSL_get_current_cipher(p->ssl)));
	assert_string_equal(f.group, "X25519");
	assert_string_equal(f.server_name, "mx.test");
	assert_false(f.resumed);
	mail_destroy(m);
}

static void facts_tell_a_resumed_session(void **state)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (unsigned i = 0; i < 2; i++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = greeted(m, versions[i], NULL);
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		struct conn_tls_facts f;
		greeted(m, versions[i], session);
		assert_true(conn_tls_facts(server_side(m), &f));
		assert_true(f.resumed);
		assert_string_equal(f.protocol, i == 0 ? "TLS1.2" : "TLS1.3");
		SSL_SESSION_free(session);
		mail_destroy(m);
	}
}

static void every_suite_we_admit_has_its_iana_name(void **state)
{
	static const char *const suites_1_2[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
						 "ECDHE-ECDSA-AES256-GCM-SHA384",
						 "ECDHE-ECDSA-CHACHA20-POLY1305"};
	static const char *const suites_1_3[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
						 "TLS_CHACHA20_POLY1305_SHA256"};

	for (unsigned i = 0; i < 6; i++) {
		struct mail *m = mail_create(NULL);
		struct conn_tls_facts f;
		if (i < 3)
			SSL_CTX_set_cipher_list(m->client_context, suites_1_2[i]);
		else
			SSL_CTX_set_ciphersuites(m->client_context, suites_1_3[i - 3]);
		struct peer *p = greeted(m, i < 3 ? TLS1_2_VERSION : TLS1_3_VERSION, NULL);
		assert_true(conn_tls_facts(server_side(m), &f));
		assert_string_equal(f.cipher,
				    SSL_CIPHER_standard_name(SSL_get_current_cipher(p->ssl)));
		mail_destroy(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_exporter_binding_is_the_same_at_both_ends_under_tls_1_3),
		cmocka_unit_test(the_exporter_binding_does_not_exist_under_tls_1_2),
		cmocka_unit_test(the_end_point_binding_is_the_hash_of_our_certificate),
		cmocka_unit_test(bindings_are_taken_when_a_reload_asks_for_them),
		cmocka_unit_test(a_binding_that_does_not_fit_is_not_given),
		cmocka_unit_test(a_login_ends_the_bindings),
		cmocka_unit_test(facts_name_version_suite_group_and_server_name),
		cmocka_unit_test(facts_tell_a_resumed_session),
		cmocka_unit_test(every_suite_we_admit_has_its_iana_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
