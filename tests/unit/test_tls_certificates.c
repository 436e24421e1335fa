/* test_tls_certificates.c - which certificate a client is shown, and which are refused */
#include "tests/unit/tls_rig.h"

#include <openssl/pem.h>

static void start_with_names(struct rig *r)
{
	rig_init(r);
	rig_add(r, &(struct cert_spec){.common_name = "default", .alternative = "DNS:mx.test"});
	rig_add(r,
		&(struct cert_spec){.common_name = "wildcard", .alternative = "DNS:*.example.net"});
	rig_add(r,
		&(struct cert_spec){.common_name = "exact",
				    .alternative = "DNS:a.example.net,DNS:xn--bcher-kva.example"});
	rig_add(r, &(struct cert_spec){.common_name = "only.cn.test"});
	rig_start(r);
}

static void an_exact_name_goes_before_a_wildcard_and_that_before_the_default(void **state)
{
	struct rig r;

	start_with_names(&r);
	expect_shown(&r, "a.example.net", "exact");
	expect_shown(&r, "b.example.net", "wildcard");
	expect_shown(&r, "mx.test", "default");
	expect_shown(&r, "elsewhere.test", "default");
	expect_shown(&r, NULL, "default");
	assert_int_equal(mail_tls_count(r.m, tls_names_unknown), 2);
	rig_end(&r);
}

static void names_match_in_any_case_and_as_a_labels(void **state)
{
	struct rig r;

	start_with_names(&r);
	expect_shown(&r, "A.Example.NET", "exact");
	expect_shown(&r, "XN--bcher-kva.example", "exact");
	rig_end(&r);
}

static void a_wildcard_stands_for_one_label_only(void **state)
{
	struct rig r;

	start_with_names(&r);
	expect_shown(&r, "example.net", "default");
	expect_shown(&r, "a.b.example.net", "default");
	rig_end(&r);
}

static void without_alternative_names_the_common_name_counts(void **state)
{
	struct rig r;

	start_with_names(&r);
	expect_shown(&r, "only.cn.test", "only.cn.test");
	rig_end(&r);
}

static void hostile_names_get_the_default_and_are_counted(void **state)
{
	static const char *const names[] = {"a.example.net\\",
					    "a.example.net.",
					    ".example.net",
					    "*.example.net",
					    "a..b",
					    "../../etc",
					    "a.example.net/",
					    "b\xc3\274cher.example",
					    "${run}",
					    "-a.test"};
	struct rig r;

	start_with_names(&r);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		expect_shown(&r, names[i], "default");
	assert_int_equal(mail_tls_count(r.m, tls_names_malformed),
			 2 * sizeof(names) / sizeof(names[0]));
	rig_end(&r);
}

/* OpenSSL's client cannot send this one: the hello's own octets are changed. */
static void a_name_with_a_nul_inside_ends_the_handshake(void **state)
{
	struct rig r;

	start_with_names(&r);
	r.m->server_name = "a.example.net";
	struct peer *p = peer_connect(r.m, MAIL_SUBMISSIONS);
	p->held = true;
	peer_begin_tls(p, 0, NULL);
	uint8_t *at = memmem(p->raw.at, p->raw.n, "a.example.net", 13);
	assert_non_null(at);
	at[3] = '\0';
	p->held = false;
	peer_pump(p);
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(r.m, tls_handshakes_failed), 1);
	rig_end(&r);
}

static void configured_names_take_the_place_of_the_certificates_own(void **state)
{
	static const char *const names[] = {"other.test"};
	struct rig r;

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "default", .alternative = "DNS:mx.test"});
	unsigned i = rig_add(
		&r, &(struct cert_spec){.common_name = "named", .alternative = "DNS:own.test"});
	r.certificate[i].names = names;
	r.certificate[i].n_names = 1;
	rig_start(&r);
	expect_shown(&r, "other.test", "named");
	expect_shown(&r, "own.test", "default");
	rig_end(&r);
}

static const char *shown_to(struct rig *r, const char *sigalgs, char *out)
{
	SSL_CTX_set1_sigalgs_list(r->m->client_context, sigalgs);
	rig_shown(r, "both.test", TLS1_3_VERSION, out);
	SSL_CTX_set1_sigalgs_list(r->m->client_context, "RSA-PSS+SHA256:ECDSA+SHA256");
	return out;
}

static void rsa_and_ecdsa_serve_one_name_side_by_side(void **state)
{
	struct rig r;
	char out[128];

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "ecdsa", .alternative = "DNS:both.test"});
	rig_add(&r, &(struct cert_spec){
			    .common_name = "rsa", .alternative = "DNS:both.test", .rsa = true});
	rig_start(&r);
	assert_string_equal(shown_to(&r, "ECDSA+SHA256", out), "ecdsa");
	assert_string_equal(shown_to(&r, "RSA-PSS+SHA256", out), "rsa");
	rig_end(&r);
}

static void a_wildcard_lends_the_kind_of_key_that_an_exact_name_lacks(void **state)
{
	struct rig r;
	char out[128];

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "default", .alternative = "DNS:mx.test"});
	rig_add(&r, &(struct cert_spec){.common_name = "ecdsa", .alternative = "DNS:both.test"});
	rig_add(&r, &(struct cert_spec){
			    .common_name = "rsa", .alternative = "DNS:*.test", .rsa = true});
	rig_start(&r);
	assert_string_equal(shown_to(&r, "ECDSA+SHA256", out), "ecdsa");
	assert_string_equal(shown_to(&r, "RSA-PSS+SHA256", out), "rsa");
	rig_end(&r);
}

/* The stapled response as the client got it; NULL: none. */
static const unsigned char *stapled(struct rig *r, struct peer **p, long *n)
{
	const unsigned char *der = NULL;

	*p = peer_connect(r->m, MAIL_SUBMISSIONS);
	SSL_CTX_set_tlsext_status_type(r->m->client_context, TLSEXT_STATUSTYPE_ocsp);
	peer_begin_tls(*p, 0, NULL);
	peer_expect(*p, "220");
	*n = SSL_get_tlsext_status_ocsp_resp((*p)->ssl, &der);
	return der;
}

static void start_with_ocsp(struct rig *r, int until_s)
{
	struct cert ca = cert_make(&(struct cert_spec){.common_name = "CA", .authority = true});
	struct cert own = cert_make(&(struct cert_spec){
		.common_name = "stapled", .alternative = "DNS:mx.test", .issuer = &ca});

	rig_init(r);
	rig_add(r, &(struct cert_spec){.common_name = "replaced"});
	cert_save(&own, r->path[0][0], r->path[0][1]);
	FILE *chain = fopen(r->path[0][0], "a");
	assert_int_equal(PEM_write_X509(chain, ca.x), 1);
	fclose(chain);
	cert_save_ocsp(&own, &ca, r->path[0][2], until_s);
	r->certificate[0].ocsp = r->path[0][2];
	cert_free(&ca);
	cert_free(&own);
	rig_start(r);
}

static void an_ocsp_response_is_stapled_as_it_lies_in_its_file(void **state)
{
	struct rig r;
	struct peer *p;
	uint8_t file[4096];
	long n;

	start_with_ocsp(&r, 3600);
	const unsigned char *der = stapled(&r, &p, &n);
	assert_non_null(der);
	FILE *f = fopen(r.path[0][2], "r");
	assert_int_equal(fread(file, 1, sizeof(file), f), n);
	fclose(f);
	assert_memory_equal(file, der, (size_t)n);
	rig_end(&r);
}

static void an_expired_ocsp_response_is_dropped_and_counted(void **state)
{
	struct rig r;
	struct peer *p;
	long n;

	start_with_ocsp(&r, 3600);
	tls_refresh(r.m->tls, (int64_t)time(NULL) + 3601);
	assert_null(stapled(&r, &p, &n));
	assert_int_equal(mail_tls_count(r.m, tls_ocsp_expired), 1);
	rig_end(&r);
}

static void expect_refused(struct rig *r, const char *words)
{
	struct tls *t = NULL;
	char error[512] = "";

	r->options.tls.threads = 1;
	r->options.tls.max_sessions = 1;
	assert_true(tls_open(&t, &r->options.tls, error, sizeof(error)) < 0);
	if (strstr(error, words) == NULL)
		fail_msg("%s is not in: %s", words, error);
	rig_end(r);
}

static void a_key_of_another_certificate_is_refused(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "a"});
	rig_add(&r, &(struct cert_spec){.common_name = "b"});
	r.certificate[1].key = r.path[0][1];
	expect_refused(&r, "0.key");
}

static void an_ocsp_response_for_another_certificate_is_refused(void **state)
{
	struct cert other = cert_make(&(struct cert_spec){.common_name = "o", .authority = true});
	struct rig r;

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "a"});
	cert_save_ocsp(&other, &other, r.path[0][2], 3600);
	r.certificate[0].ocsp = r.path[0][2];
	cert_free(&other);
	expect_refused(&r, "0.ocsp");
}

static void what_is_no_ocsp_response_is_refused(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "a"});
	r.certificate[0].ocsp = r.path[0][0];
	expect_refused(&r, "not a successful OCSP response");
}

static void the_days_left_are_those_of_the_first_to_expire(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_add(&r, &(struct cert_spec){.common_name = "a", .until_s = 40 * 86400 + 100});
	rig_add(&r, &(struct cert_spec){.common_name = "b", .until_s = 5 * 86400 + 100});
	rig_start(&r);
	assert_int_equal(tls_days_left(r.m->tls), 5);
	rig_end(&r);
}

static void a_reload_changes_the_certificate_for_new_sessions_only(void **state)
{
	struct rig r;
	char error[512];

	start_with_names(&r);
	r.m->server_name = "a.example.net";
	struct peer *old = peer_login(r.m);
	struct cert next = cert_make(
		&(struct cert_spec){.common_name = "renewed", .alternative = "DNS:a.example.net"});
	cert_save(&next, r.path[2][0], r.path[2][1]);
	cert_free(&next);
	expect_shown(&r, "a.example.net", "exact");
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 1);
	expect_shown(&r, "a.example.net", "renewed");
	assert_int_equal(strncmp(peer_cmd(old, "NOOP"), "250", 3), 0);
	tls_refresh(r.m->tls, (int64_t)time(NULL));
	assert_true(tls_retired(r.m->tls) > 0);
	peer_free(old);
	mail_run(r.m, MAIL_SECOND);
	tls_refresh(r.m->tls, (int64_t)time(NULL));
	assert_int_equal(tls_retired(r.m->tls), 0);
	rig_end(&r);
}

static void a_reload_reads_only_what_has_changed(void **state)
{
	struct rig r;
	char error[512];

	start_with_names(&r);
	struct tls_thread *t = &r.m->tls->threads[0];
	struct credential *before[4];
	memcpy(before, atomic_load(&r.m->tls->current)->sets[0]->credential, sizeof(before));
	struct cert next = cert_make(&(struct cert_spec){.common_name = "renewed"});
	cert_save(&next, r.path[3][0], r.path[3][1]);
	cert_free(&next);
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 1);
	struct credential **after = atomic_load(&t->tls->current)->sets[0]->credential;
	for (unsigned i = 0; i < 3; i++)
		assert_ptr_equal(after[i], before[i]);
	assert_ptr_not_equal(after[3], before[3]);
	rig_end(&r);
}

static void a_reload_with_a_bad_file_changes_nothing(void **state)
{
	struct rig r;
	char error[512];

	start_with_names(&r);
	unlink(r.path[1][1]);
	assert_true(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)) < 0);
	assert_non_null(strstr(error, r.path[1][1]));
	expect_shown(&r, "b.example.net", "wildcard");
	assert_int_equal(tls_retired(r.m->tls), 0);
	rig_end(&r);
}

static void the_minimum_version_can_be_raised_by_a_reload(void **state)
{
	struct rig r;
	char error[512];

	start_with_names(&r);
	r.options.tls.minimum_1_3 = true;
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	struct peer *p = peer_connect(r.m, MAIL_SUBMISSIONS);
	assert_false(peer_tls(p, TLS1_2_VERSION));
	p = peer_connect(r.m, MAIL_SUBMISSIONS);
	assert_true(peer_tls(p, TLS1_3_VERSION));
	rig_end(&r);
}

/* The suite or group that a client gets who offers these; "": none. */
static const char *agreed(struct rig *r, int version, const char *suites, const char *groups,
			  const char **group)
{
	static char name[64];
	struct peer *p = peer_connect(r->m, MAIL_SUBMISSIONS);

	assert_int_equal(SSL_CTX_set_ciphersuites(r->m->client_context, suites), 1);
	assert_int_equal(SSL_CTX_set1_groups_list(r->m->client_context, groups), 1);
	name[0] = '\0';
	*group = "";
	if (peer_tls(p, version)) {
		snprintf(name, sizeof(name), "%s", SSL_get_cipher_name(p->ssl));
		*group = OBJ_nid2sn(SSL_get_negotiated_group(p->ssl));
	}
	peer_free(p);
	mail_run(r->m, 10000);
	return name;
}

static void suites_and_groups_are_those_that_the_operator_has_left(void **state)
{
	static const char all[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
				  "TLS_CHACHA20_POLY1305_SHA256";
	struct rig r;
	const char *group;
	char error[512];

	start_with_names(&r);
	assert_string_equal(agreed(&r, TLS1_3_VERSION, all, "P-256:X25519", &group),
			    "TLS_AES_256_GCM_SHA384");
	assert_string_equal(group, "prime256v1"); /* the client's share is good enough */
	assert_string_equal(agreed(&r, TLS1_3_VERSION, all, "P-384", &group), "");
	r.options.tls.suites = 1u << TLS_SUITE_AES_256_GCM;
	r.options.tls.groups = 1u << TLS_GROUP_P256 | 1u << TLS_GROUP_P384;
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	assert_string_equal(agreed(&r, TLS1_3_VERSION, all, "X25519:P-384", &group),
			    "TLS_AES_256_GCM_SHA384");
	assert_string_equal(group, "secp384r1");
	assert_string_equal(agreed(&r, TLS1_2_VERSION, all, "P-384:P-256", &group),
			    "ECDHE-ECDSA-AES256-GCM-SHA384");
	assert_string_equal(agreed(&r, TLS1_3_VERSION, all, "X25519", &group), "");
	assert_string_equal(
		agreed(&r, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "P-256", &group), "");
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exact_name_goes_before_a_wildcard_and_that_before_the_default),
		cmocka_unit_test(names_match_in_any_case_and_as_a_labels),
		cmocka_unit_test(a_wildcard_stands_for_one_label_only),
		cmocka_unit_test(without_alternative_names_the_common_name_counts),
		cmocka_unit_test(hostile_names_get_the_default_and_are_counted),
		cmocka_unit_test(a_name_with_a_nul_inside_ends_the_handshake),
		cmocka_unit_test(configured_names_take_the_place_of_the_certificates_own),
		cmocka_unit_test(rsa_and_ecdsa_serve_one_name_side_by_side),
		cmocka_unit_test(a_wildcard_lends_the_kind_of_key_that_an_exact_name_lacks),
		cmocka_unit_test(an_ocsp_response_is_stapled_as_it_lies_in_its_file),
		cmocka_unit_test(an_expired_ocsp_response_is_dropped_and_counted),
		cmocka_unit_test(a_key_of_another_certificate_is_refused),
		cmocka_unit_test(an_ocsp_response_for_another_certificate_is_refused),
		cmocka_unit_test(what_is_no_ocsp_response_is_refused),
		cmocka_unit_test(the_days_left_are_those_of_the_first_to_expire),
		cmocka_unit_test(a_reload_changes_the_certificate_for_new_sessions_only),
		cmocka_unit_test(a_reload_reads_only_what_has_changed),
		cmocka_unit_test(a_reload_with_a_bad_file_changes_nothing),
		cmocka_unit_test(suites_and_groups_are_those_that_the_operator_has_left),
		cmocka_unit_test(the_minimum_version_can_be_raised_by_a_reload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
