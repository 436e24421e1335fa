/* test_tls_client_ca.c - client certificates: asked for, judged, and judged again on resumption */
#include "smtp/internal.h"
#include "tests/unit/tls_rig.h"

struct clients {
	struct rig r;
	struct cert ca, other_ca;
};

static void start(struct clients *k)
{
	static char path[RIG_PATH];

	rig_init(&k->r);
	k->ca = cert_make(&(struct cert_spec){.common_name = "client CA", .authority = true});
	k->other_ca = cert_make(&(struct cert_spec){.common_name = "other CA", .authority = true});
	rig_path(&k->r, "ca", path);
	char key[RIG_PATH];
	cert_save(&k->ca, path, rig_path(&k->r, "ca.key", key));
	rig_add(&k->r, &(struct cert_spec){.common_name = "mx", .alternative = "DNS:mx.test"});
	k->r.options.tls.client_ca = path;
	rig_start(&k->r);
}

static void end(struct clients *k)
{
	rig_end(&k->r);
	cert_free(&k->ca);
	cert_free(&k->other_ca);
}

static void present(struct clients *k, const struct cert_spec *spec)
{
	struct cert c = cert_make(spec);

	SSL_CTX_use_certificate(k->r.m->client_context, c.x);
	SSL_CTX_use_PrivateKey(k->r.m->client_context, c.key);
	cert_free(&c);
}

static struct peer *greeted(struct clients *k, int version, SSL_SESSION *session)
{
	struct peer *p = peer_connect(k->r.m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, version, session);
	peer_expect(p, "220");
	return p;
}

static const struct tls_peer_certificate *seen(struct clients *k)
{
	const struct tls_peer_certificate *c = NULL;
	struct slab *all = k->r.m->tls_worker->sessions;

	for (uint32_t i = 0; i < slab_extent(all); i++) {
		struct tls_session *s = slab_at(all, i, NULL);
		if (s != NULL && s->conn != NULL)
			c = conn_peer_certificate(s->conn);
	}
	return c;
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void a_good_certificate_is_told_with_its_names_and_fingerprint(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct clients k;
		uint8_t print[32];
		start(&k);
		present(&k, &(struct cert_spec){
				    .common_name = "alice",
				    .alternative = "email:alice@example.net,email:a@example.org,"
						   "DNS:laptop.example.net",
				    .issuer = &k.ca});
		struct peer *p = greeted(&k, versions[i], NULL);
		const struct tls_peer_certificate *c = seen(&k);
		assert_non_null(c);
		assert_true(c->verified);
		assert_string_equal(c->common_name, "alice");
		assert_int_equal(c->n_emails, 2);
		assert_string_equal(c->emails[0], "alice@example.net");
		assert_string_equal(c->emails[1], "a@example.org");
		assert_int_equal(c->n_dns, 1);
		assert_string_equal(c->dns[0], "laptop.example.net");
		X509_digest(SSL_get_certificate(p->ssl), EVP_sha256(), print, NULL);
		assert_memory_equal(c->fingerprint, print, 32);
		end(&k);
	}
}

static void a_client_without_a_certificate_is_served(void **state)
{
	struct clients k;

	start(&k);
	greeted(&k, 0, NULL);
	assert_null(seen(&k));
	end(&k);
}

static void a_certificate_of_another_ca_is_served_and_not_verified(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct clients k;
		start(&k);
		present(&k, &(struct cert_spec){.common_name = "mallory", .issuer = &k.other_ca});
		greeted(&k, versions[i], NULL);
		assert_non_null(seen(&k));
		assert_false(seen(&k)->verified);
		assert_int_equal(mail_tls_count(k.r.m, tls_client_certificates_bad), 1);
		end(&k);
	}
}

static void an_expired_certificate_is_not_verified(void **state)
{
	struct clients k;

	start(&k);
	present(&k, &(struct cert_spec){.common_name = "old", .issuer = &k.ca, .until_s = -60});
	greeted(&k, 0, NULL);
	assert_false(seen(&k)->verified);
	end(&k);
}

static void a_resumed_session_still_knows_its_certificate(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct clients k;
		start(&k);
		present(&k, &(struct cert_spec){.common_name = "alice", .issuer = &k.ca});
		struct peer *p = greeted(&k, versions[i], NULL);
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		p = greeted(&k, versions[i], session);
		assert_true(SSL_session_reused(p->ssl));
		assert_true(seen(&k)->verified);
		assert_string_equal(seen(&k)->common_name, "alice");
		SSL_SESSION_free(session);
		end(&k);
	}
}

static void a_certificate_that_expired_meanwhile_ends_resumption(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct clients k;
		start(&k);
		present(&k,
			&(struct cert_spec){.common_name = "alice", .issuer = &k.ca, .until_s = 2});
		struct peer *p = greeted(&k, versions[i], NULL);
		assert_true(seen(&k)->verified);
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		/* OpenSSL judges by the wall clock */
		time_t until = time(NULL) + 3;
		while (time(NULL) < until)
			usleep(20000);
		p = greeted(&k, versions[i], session);
		assert_false(SSL_session_reused(p->ssl));
		assert_false(seen(&k)->verified);
		assert_int_equal(mail_tls_count(k.r.m, tls_tickets_certificate), 1);
		SSL_SESSION_free(session);
		end(&k);
	}
}

static void another_set_of_cas_ends_resumption(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct clients k;
		char error[512], key[RIG_PATH];
		start(&k);
		present(&k, &(struct cert_spec){.common_name = "alice", .issuer = &k.ca});
		struct peer *p = greeted(&k, versions[i], NULL);
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		cert_save(&k.other_ca, k.r.options.tls.client_ca, rig_path(&k.r, "ca.key", key));
		assert_int_equal(tls_reload(k.r.m->tls, &k.r.options.tls, error, sizeof(error)), 0);
		p = greeted(&k, versions[i], session);
		assert_false(SSL_session_reused(p->ssl));
		assert_false(seen(&k)->verified);
		SSL_SESSION_free(session);
		end(&k);
	}
}

static void a_name_with_a_nul_inside_is_nobodys(void **state)
{
	struct clients k;

	start(&k);
	struct cert c = cert_make(&(struct cert_spec){
		.common_name = "x", .alternative = "email:root@example.net", .issuer = &k.ca});
	/* the name inside the signed part is changed, and the certificate signed again */
	uint8_t *der = NULL;
	int n = i2d_X509(c.x, &der);
	uint8_t *at = memmem(der, (size_t)n, "root@example.net", 16);
	assert_non_null(at);
	at[4] = '\0';
	const uint8_t *from = der;
	X509 *changed = d2i_X509(NULL, &from, n);
	X509_sign(changed, k.ca.key, EVP_sha256());
	SSL_CTX_use_certificate(k.r.m->client_context, changed);
	SSL_CTX_use_PrivateKey(k.r.m->client_context, c.key);
	OPENSSL_free(der);
	X509_free(changed);
	cert_free(&c);
	greeted(&k, 0, NULL);
	assert_true(seen(&k)->verified);
	assert_int_equal(seen(&k)->n_emails, 0);
	end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_certificate_is_told_with_its_names_and_fingerprint),
		cmocka_unit_test(a_client_without_a_certificate_is_served),
		cmocka_unit_test(a_certificate_of_another_ca_is_served_and_not_verified),
		cmocka_unit_test(an_expired_certificate_is_not_verified),
		cmocka_unit_test(a_resumed_session_still_knows_its_certificate),
		cmocka_unit_test(a_certificate_that_expired_meanwhile_ends_resumption),
		cmocka_unit_test(another_set_of_cas_ends_resumption),
		cmocka_unit_test(a_name_with_a_nul_inside_is_nobodys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
