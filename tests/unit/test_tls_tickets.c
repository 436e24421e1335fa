/* test_tls_tickets.c - the fleet's secret, its epochs, and who resumes what */
#include "tests/unit/tls_rig.h"

#include <fcntl.h>

enum { HOUR = 3600 };

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* A directory with a secret, and a certificate for as many gateways as it takes. */
static const char *start(struct rig *r)
{
	static char file[RIG_PATH];
	char error[512];

	rig_init(r);
	rig_add(r, &(struct cert_spec){.common_name = "mx", .alternative = "DNS:mx.test"});
	rig_path(r, "secret", file);
	assert_int_equal(
		ticket_secret_create(file, HOUR, (int64_t)time(NULL), error, sizeof(error)), 0);
	r->options.tls.ticket_secret = file;
	return file;
}

static SSL_SESSION *first_session(struct mail *m, int version)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, version, NULL);
	peer_expect(p, "220");
	return SSL_get1_session(p->ssl);
}

static bool resumes(struct mail *m, int version, SSL_SESSION *session)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, version, session);
	peer_expect(p, "220");
	return SSL_session_reused(p->ssl);
}

static void two_gateways_with_one_secret_resume_each_others_sessions(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig r;
		start(&r);
		struct mail *a = mail_create(&r.options), *b = mail_create(&r.options);
		SSL_SESSION *session = first_session(a, versions[i]);
		assert_true(resumes(b, versions[i], session));
		SSL_SESSION_free(session);
		mail_destroy(a);
		mail_destroy(b);
		rig_end(&r);
	}
}

static void a_restarted_gateway_resumes_what_it_issued_before(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig r;
		start(&r);
		struct mail *m = mail_create(&r.options);
		SSL_SESSION *first = first_session(m, versions[i]);
		/* the peer's end without close_notify will mark its own as broken */
		SSL_SESSION *session = SSL_SESSION_dup(first);
		SSL_SESSION_free(first);
		mail_destroy(m);
		m = mail_create(&r.options);
		assert_true(resumes(m, versions[i], session));
		mail_destroy(m);
		rig_end(&r);
		SSL_SESSION_free(session);
	}
}

static void gateways_of_different_secrets_make_full_handshakes(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct mail *a = mail_create(NULL), *b = mail_create(NULL);
		SSL_SESSION *session = first_session(a, versions[i]);
		assert_false(resumes(b, versions[i], session));
		assert_int_equal(mail_tls_count(b, tls_tickets_foreign), 1);
		SSL_SESSION_free(session);
		mail_destroy(a);
		mail_destroy(b);
	}
}

static void each_tls_1_3_resumption_brings_one_new_ticket(void **state)
{
	struct mail *m = mail_create(NULL);
	SSL_SESSION *session = first_session(m, TLS1_3_VERSION);

	for (unsigned i = 0; i < 10; i++) {
		struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
		peer_begin_tls(p, TLS1_3_VERSION, session);
		peer_expect(p, "220");
		assert_true(SSL_session_reused(p->ssl));
		SSL_SESSION *next = SSL_get1_session(p->ssl);
		assert_ptr_not_equal(next, session);
		assert_true(SSL_SESSION_is_resumable(next));
		SSL_SESSION_free(session);
		session = next;
	}
	SSL_SESSION_free(session);
	mail_destroy(m);
}

static void a_tls_1_2_ticket_is_renewed_only_when_its_epoch_is_over(void **state)
{
	struct mail *m = mail_create(NULL);
	SSL_SESSION *session = first_session(m, TLS1_2_VERSION);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, TLS1_2_VERSION, session);
	peer_expect(p, "220");
	assert_ptr_equal(SSL_get_session(p->ssl), session);
	tls_refresh(m->tls, (int64_t)time(NULL) + HOUR);
	p = peer_connect(m, MAIL_SUBMISSIONS);
	peer_begin_tls(p, TLS1_2_VERSION, session);
	peer_expect(p, "220");
	assert_true(SSL_session_reused(p->ssl));
	assert_int_equal(mail_tls_count(m, tls_tickets_old), 1);
	const uint8_t *before, *after;
	size_t n, k;
	SSL_SESSION_get0_ticket(session, &before, &n);
	SSL_SESSION_get0_ticket(SSL_get_session(p->ssl), &after, &k);
	assert_memory_not_equal(before, after, 16);
	SSL_SESSION_free(session);
	mail_destroy(m);
}

static void a_ticket_lives_for_the_lifetime_and_no_longer(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.tls.ticket_lifetime_s = 4 * HOUR;
	for (unsigned i = 0; i < 2; i++) {
		struct mail *m = mail_create(&o);
		SSL_SESSION *session = first_session(m, versions[i]);
		int64_t now = (int64_t)time(NULL);
		tls_refresh(m->tls, now + 4 * HOUR);
		assert_true(resumes(m, versions[i], session));
		tls_refresh(m->tls, now + 6 * HOUR);
		assert_false(resumes(m, versions[i], session));
		SSL_SESSION_free(session);
		mail_destroy(m);
	}
}

static void a_reload_with_another_secret_ends_resumption(void **state)
{
	struct rig r;
	char error[512];
	const char *file = start(&r);

	rig_start(&r);
	SSL_SESSION *session = first_session(r.m, TLS1_3_VERSION);
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	assert_true(resumes(r.m, TLS1_3_VERSION, session));
	unlink(file);
	ticket_secret_create(file, HOUR, (int64_t)time(NULL), error, sizeof(error));
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	assert_false(resumes(r.m, TLS1_3_VERSION, session));
	SSL_SESSION_free(session);
	rig_end(&r);
}

static void the_random_secret_of_a_process_survives_reloads(void **state)
{
	struct rig r;
	char error[512];

	start(&r);
	r.options.tls.ticket_secret = NULL;
	rig_start(&r);
	SSL_SESSION *session = first_session(r.m, TLS1_3_VERSION);
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	assert_true(resumes(r.m, TLS1_3_VERSION, session));
	SSL_SESSION_free(session);
	rig_end(&r);
}

static void an_advanced_file_has_the_same_later_keys(void **state)
{
	struct ticket_secret before, after;
	struct rig r;
	char error[512];
	const char *file = start(&r);
	int64_t now = (int64_t)time(NULL);

	assert_int_equal(ticket_secret_read(&before, file, now, error, sizeof(error)), 0);
	now += 100 * HOUR;
	assert_int_equal(ticket_secret_advance(file, 12 * HOUR, now, error, sizeof(error)), 0);
	assert_int_equal(ticket_secret_read(&after, file, now, error, sizeof(error)), 0);
	assert_int_equal(after.epoch, (uint64_t)(now - 12 * HOUR) / HOUR);
	assert_memory_not_equal(before.key, after.key, TICKET_SECRET_BYTES);
	assert_int_equal(ticket_secret_ratchet(&before, after.epoch), 0);
	assert_memory_equal(before.key, after.key, TICKET_SECRET_BYTES);
	assert_true(ticket_secret_ratchet(&after, after.epoch - 1) < 0);
	rig_end(&r);
}

static void the_file_is_for_its_owner_and_never_replaced_by_create(void **state)
{
	struct rig r;
	struct stat st;
	char error[512];
	const char *file = start(&r);
	int64_t now = (int64_t)time(NULL);

	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(ticket_secret_create(file, HOUR, now, error, sizeof(error)) < 0);
	assert_int_equal(ticket_secret_advance(file, HOUR, now + 9 * HOUR, error, sizeof(error)),
			 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	rig_end(&r);
}

static void expect_refused(struct rig *r, const char *words)
{
	struct tls *t = NULL;
	char error[512] = "";

	r->options.tls.threads = 1;
	r->options.tls.max_sessions = 1;
	assert_true(tls_open(&t, &r->options.tls, error, sizeof(error)) < 0);
	if (strstr(error, words) == NULL || strstr(error, "/secret: ") == NULL)
		fail_msg("%s is not in: %s", words, error);
}

static void a_file_cut_short_anywhere_is_refused(void **state)
{
	struct rig r;
	const char *file = start(&r);
	struct stat st;

	assert_int_equal(stat(file, &st), 0);
	for (off_t n = st.st_size; n-- > 0;) {
		assert_int_equal(truncate(file, n), 0);
		expect_refused(&r, n > 9 ? "cut short" : "is not a ticket secret");
	}
	rig_end(&r);
}

static void write_secret(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_TRUNC | O_CREAT, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

#define ZEROS16 "0000000000000000"

static void a_key_of_zeros_is_refused(void **state)
{
	struct rig r;
	const char *file = start(&r);
	char text[256];

	snprintf(text, sizeof(text), "version 1\nepoch_seconds 3600\nepoch %u\nkey %s\n",
		 (unsigned)(time(NULL) / HOUR), ZEROS16 ZEROS16 ZEROS16 ZEROS16);
	write_secret(file, text);
	expect_refused(&r, "all zeros");
	rig_end(&r);
}

static void a_file_of_zero_octets_is_refused(void **state)
{
	struct rig r;
	const char *file = start(&r);

	assert_int_equal(truncate(file, 0), 0);
	assert_int_equal(truncate(file, 112), 0);
	expect_refused(&r, "is not a ticket secret");
	rig_end(&r);
}

static void a_file_that_others_may_read_is_refused(void **state)
{
	static const mode_t modes[] = {0604, 0602, 0620, 0644, 0666};
	struct rig r;
	const char *file = start(&r);

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		chmod(file, modes[i]);
		expect_refused(&r, "lets others");
	}
	rig_end(&r);
}

static void an_epoch_of_the_future_is_refused(void **state)
{
	struct rig r;
	const char *file = start(&r);
	char error[512];

	unlink(file);
	ticket_secret_create(file, HOUR, (int64_t)time(NULL) + 50 * HOUR, error, sizeof(error));
	expect_refused(&r, "in the future");
	rig_end(&r);
}

static void damaged_lines_are_refused(void **state)
{
	static const char *const texts[] = {
		"version 2\nepoch_seconds 3600\nepoch 1\nkey " ZEROS16 ZEROS16 ZEROS16
		"1111111111111111\n",
		"version 1\nepoch_seconds 0\nepoch 400000\nkey " ZEROS16 ZEROS16 ZEROS16
		"1111111111111111\n",
		"version 1\nepoch_seconds 3600\nepoch -1\nkey " ZEROS16 ZEROS16 ZEROS16
		"1111111111111111\n",
		"version 1\nepoch_seconds 3600\nepoch 400000\nkey " ZEROS16 ZEROS16 ZEROS16
		"111111111111111x\n",
		"version 1\nepoch_seconds 3600\nepoch 400000\nkey " ZEROS16 ZEROS16 ZEROS16
		"1111111111111111\n\n",
	};
	struct rig r;
	const char *file = start(&r);

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_secret(file, texts[i]);
		expect_refused(&r, i == 0 ? "version 1" : "damaged");
	}
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_gateways_with_one_secret_resume_each_others_sessions),
		cmocka_unit_test(a_restarted_gateway_resumes_what_it_issued_before),
		cmocka_unit_test(gateways_of_different_secrets_make_full_handshakes),
		cmocka_unit_test(each_tls_1_3_resumption_brings_one_new_ticket),
		cmocka_unit_test(a_tls_1_2_ticket_is_renewed_only_when_its_epoch_is_over),
		cmocka_unit_test(a_ticket_lives_for_the_lifetime_and_no_longer),
		cmocka_unit_test(a_reload_with_another_secret_ends_resumption),
		cmocka_unit_test(the_random_secret_of_a_process_survives_reloads),
		cmocka_unit_test(an_advanced_file_has_the_same_later_keys),
		cmocka_unit_test(the_file_is_for_its_owner_and_never_replaced_by_create),
		cmocka_unit_test(a_file_cut_short_anywhere_is_refused),
		cmocka_unit_test(a_key_of_zeros_is_refused),
		cmocka_unit_test(a_file_of_zero_octets_is_refused),
		cmocka_unit_test(a_file_that_others_may_read_is_refused),
		cmocka_unit_test(an_epoch_of_the_future_is_refused),
		cmocka_unit_test(damaged_lines_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
