/* test_tls_floods.c - messages that cost the server more than their sender, and their limits */
#include "tests/unit/tls_rig.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>

static struct peer *greeted(struct mail *m, int version)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	assert_true(peer_tls(p, version));
	peer_expect(p, "220");
	return p;
}

static void two_key_updates_within_a_second_end_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = greeted(m, TLS1_3_VERSION);

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
	struct peer *p = greeted(m, TLS1_3_VERSION);

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
	struct peer *p = greeted(m, TLS1_3_VERSION);

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

/* OpenSSL has no call that sends a warning alert or an empty record.  After the handshake they are
 * sealed here, by the client's own secret (RFC 8446 sections 5.2, 5.3, 7.3). */
static uint8_t secret[32];
static uint64_t sequence;

static void keep_secret(const SSL *ssl, const char *line)
{
	static const char label[] = "CLIENT_TRAFFIC_SECRET_0 ";
	long n;

	if (strncmp(line, label, sizeof(label) - 1) != 0)
		return;
	unsigned char *octets = OPENSSL_hexstr2buf(strrchr(line, ' ') + 1, &n);
	assert_int_equal(n, sizeof(secret));
	memcpy(secret, octets, sizeof(secret));
	OPENSSL_free(octets);
	sequence = 0;
}

static void derive(const char *label, uint8_t *out, size_t n)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *x = EVP_KDF_CTX_new(kdf);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM p[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, sizeof(secret)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (char *)"tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (char *)label,
						  strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	assert_int_equal(EVP_KDF_derive(x, out, n, p), 1);
	EVP_KDF_CTX_free(x);
	EVP_KDF_free(kdf);
}

/* AES-128-GCM: the text of n octets becomes n + 16. */
static void seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *clear, int n_clear,
		 uint8_t *text, int n)
{
	EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
	int took;

	EVP_EncryptInit_ex(x, EVP_aes_128_gcm(), NULL, key, nonce);
	EVP_EncryptUpdate(x, NULL, &took, clear, n_clear);
	EVP_EncryptUpdate(x, text, &took, text, n);
	EVP_EncryptFinal_ex(x, text + took, &took);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, 16, text + n), 1);
	EVP_CIPHER_CTX_free(x);
}

static void put64(uint8_t *at, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> 8 * (7 - i));
}

/* A record of this type with this content. */
static void say_sealed(struct peer *p, uint8_t type, const void *content, size_t n)
{
	uint8_t key[16], iv[12], number[8], record[5 + 64 + 17] = {23, 3, 3, 0, (uint8_t)(n + 17)};

	derive("key", key, sizeof(key));
	derive("iv", iv, sizeof(iv));
	put64(number, sequence++);
	for (unsigned i = 0; i < 8; i++)
		iv[4 + i] ^= number[i];
	if (n > 0)
		memcpy(record + 5, content, n);
	record[5 + n] = type;
	seal(key, iv, record, 5, record + 5, (int)n + 1);
	peer_raw(p, record, 5 + n + 17);
}

/* The same under TLS 1.2 (RFC 5246 section 6.3, RFC 5288); Finished was record 0. */
static void say_sealed_1_2(struct peer *p, uint64_t number, uint8_t type, const void *content,
			   size_t n)
{
	uint8_t master[48], random[64], block[40], nonce[12], clear[13] = {[8] = type, 3, 3};
	uint8_t record[5 + 8 + 64 + 16] = {type, 3, 3, 0, (uint8_t)(8 + n + 16)};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *x = EVP_KDF_CTX_new(kdf);

	SSL_SESSION_get_master_key(SSL_get_session(p->ssl), master, sizeof(master));
	SSL_get_server_random(p->ssl, random, 32);
	SSL_get_client_random(p->ssl, random + 32, 32);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, sizeof(master)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (char *)"key expansion", 13),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, random, sizeof(random)),
		OSSL_PARAM_construct_end(),
	};
	assert_int_equal(EVP_KDF_derive(x, block, sizeof(block), params), 1);
	EVP_KDF_CTX_free(x);
	EVP_KDF_free(kdf);
	memcpy(nonce, block + 32, 4); /* behind both keys the client's salt */
	put64(nonce + 4, number);
	put64(clear, number);
	clear[12] = (uint8_t)n;
	memcpy(record + 5, nonce + 4, 8);
	memcpy(record + 13, content, n);
	seal(block, nonce, clear, sizeof(clear), record + 13, (int)n);
	peer_raw(p, record, 13 + n + 16);
}

/* OpenSSL's client goes at the first refusal; this one does not. */
static void renegotiation_is_refused_and_a_third_try_ends_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	uint64_t number = 1;

	SSL_CTX_set_cipher_list(m->client_context, "ECDHE-ECDSA-AES128-GCM-SHA256");
	struct peer *p = greeted(m, TLS1_2_VERSION);
	p->secured = false; /* its OpenSSL sees no refusal */
	p->tls_failed = true;
	for (unsigned i = 0; i < 5 && !p->over && !p->eof; i++) {
		say_sealed_1_2(p, number++, 22, "\1\0\0\2\3\3", 6);
		mail_run(m, MAIL_SECOND);
		if (i < 2)
			assert_false(p->over || p->eof);
		assert_int_equal(mail_tls_count(m, tls_renegotiation_floods), i == 2);
	}
	assert_true(peer_ended(p));
	assert_int_equal(number, 4);
	assert_int_equal(mail_tls_count(m, tls_handshakes), 1);
	assert_int_equal(mail_tls_count(m, tls_record_errors), 0);
	mail_destroy(m);
}

static struct peer *greeted_openly(struct mail *m)
{
	SSL_CTX_set_keylog_callback(m->client_context, keep_secret);
	SSL_CTX_set_ciphersuites(m->client_context, "TLS_AES_128_GCM_SHA256");
	return greeted(m, TLS1_3_VERSION);
}

static void a_few_alerts_and_empty_records_disturb_no_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = greeted_openly(m);

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 3; i++)
			say_sealed(p, 21, "\x01\x5a", 2); /* warning: user_canceled */
		for (unsigned i = 0; i < 20; i++)
			say_sealed(p, 23, NULL, 0);
		say_sealed(p, 23, "RSET\r\n", 6);
		peer_expect(p, "250");
	}
	assert_int_equal(mail_tls_count(m, tls_alert_floods), 0);
	assert_int_equal(mail_tls_count(m, tls_empty_record_floods), 0);
	mail_destroy(m);
}

static void a_row_of_warning_alerts_ends_a_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = greeted_openly(m);

	for (unsigned i = 0; i < 100 && !p->over && !p->eof; i++) {
		say_sealed(p, 21, "\x01\x5a", 2);
		mail_run(m, 1000);
	}
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_alert_floods), 1);
	assert_int_equal(mail_tls_count(m, tls_record_errors), 0);
	mail_destroy(m);
}

static void a_row_of_empty_records_ends_a_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = greeted_openly(m);

	for (unsigned i = 0; i < 200 && !p->over && !p->eof; i++) {
		say_sealed(p, 23, NULL, 0);
		mail_run(m, 1000);
	}
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_empty_record_floods), 1);
	assert_int_equal(mail_tls_count(m, tls_record_errors), 0);
	mail_destroy(m);
}

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
		cmocka_unit_test(a_few_alerts_and_empty_records_disturb_no_session),
		cmocka_unit_test(a_row_of_warning_alerts_ends_a_session),
		cmocka_unit_test(a_row_of_empty_records_ends_a_session),
		cmocka_unit_test(warning_alerts_before_the_hello_are_cut),
		cmocka_unit_test(a_row_of_warning_alerts_in_a_handshake_is_cut_and_counted),
		cmocka_unit_test(a_row_of_empty_records_in_a_handshake_is_cut_and_counted),
		cmocka_unit_test(a_hello_dripped_in_records_of_one_octet_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
