/* test_smtp_session.c - STARTTLS, AUTH, transactions, limits and deadlines of a session */
#include "smtp/internal.h"
#include "tests/sim/peer.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void expect_cmd(struct peer *p, const char *line, const char *prefix)
{
	const char *r = peer_cmd(p, line);

	if (strncmp(r, prefix, strlen(prefix)) != 0)
		fail_msg("%s: expected %s, got: %s", line, prefix, r);
}

static struct peer *hello(struct mail *m, bool tls)
{
	struct peer *p = peer_connect(m, tls ? MAIL_SUBMISSIONS : MAIL_SUBMISSION);

	if (tls)
		assert_true(peer_tls(p, 0));
	peer_expect(p, "220");
	expect_cmd(p, "EHLO x", "250");
	return p;
}

static void starttls_forgets_what_was_said_before(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = hello(m, false);

	assert_null(strstr(p->reply, "AUTH"));
	assert_non_null(strstr(p->reply, "STARTTLS"));
	expect_cmd(p, "STARTTLS", "220 2.0.0");
	assert_true(peer_tls(p, 0));
	expect_cmd(p, "AUTH PLAIN " PEER_PLAIN, "503 5.5.1");
	expect_cmd(p, "EHLO x", "250");
	assert_non_null(strstr(p->reply, "AUTH PLAIN LOGIN"));
	assert_null(strstr(p->reply, "STARTTLS"));
	expect_cmd(p, "AUTH PLAIN " PEER_PLAIN, "235");
	expect_cmd(p, "EHLO x", "250");
	assert_null(strstr(p->reply, "AUTH"));
	expect_cmd(p, "STARTTLS", "503");
	mail_destroy(m);
}

static void plaintext_behind_starttls_ends_the_session_wherever_it_is_cut(void **state)
{
	static const char text[] = "STARTTLS\r\nMAIL FROM:<a@x.y>\r\n";

	for (size_t at = 11; at < sizeof(text); at++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = hello(m, false);
		/* one segment holds the command and what was put behind it */
		peer_send(p, text, at);
		peer_expect(p, "421 4.7.0");
		assert_true(peer_ended(p));
		assert_int_equal(mail_smtp_count(m, smtp_starttls_injection), 1);
		mail_destroy(m);
	}
}

static void octets_in_clear_after_starttls_are_no_commands(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = hello(m, false);

	expect_cmd(p, "STARTTLS", "220");
	peer_say(p, "EHLO y\r\nNOOP\r\n");
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_not_tls), 1);
	mail_destroy(m);
}

static void login_works_by_both_mechanisms_with_and_without_initial_response(void **state)
{
	static const char *const ways[][3] = {
		{"AUTH PLAIN " PEER_PLAIN, NULL, NULL},
		{"AUTH PLAIN", PEER_PLAIN, NULL},
		{"auth plain YWxpY2UAYWxpY2UAc2VjcmV0", NULL, NULL}, /* authzid alice */
		{"AUTH LOGIN", "YWxpY2U=", "c2VjcmV0"},
		{"AUTH LOGIN YWxpY2U=", "c2VjcmV0", NULL},
	};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = hello(m, true);
		for (unsigned k = 0; k < 3 && ways[i][k] != NULL; k++)
			expect_cmd(p, ways[i][k], k == 2 || ways[i][k + 1] == NULL ? "235" : "334");
		expect_cmd(p, "AUTH PLAIN " PEER_PLAIN, "503 5.5.1");
		mail_destroy(m);
	}
}

static void malformed_responses_are_refused_and_the_session_goes_on(void **state)
{
	static const char *const bad[][2] = {
		{"!!!!", "501 5.5.2"},
		{"YQ", "501 5.5.2"},
		{"=", "501 5.5.2"},
		{"YWxpY2U=", "501 5.5.2"},                 /* no NUL */
		{"AGFsaWNl", "501 5.5.2"},                 /* one NUL */
		{"AGFsaWNlAHNlY3JldAA=", "501 5.5.2"},     /* three */
		{"Ym9iAGFsaWNlAHNlY3JldA==", "535 5.7.8"}, /* authzid bob */
	};
	struct mail *m = mail_create(NULL);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct peer *p = hello(m, true);
		char line[100];
		snprintf(line, sizeof(line), "AUTH PLAIN %s", bad[i][0]);
		expect_cmd(p, line, bad[i][1]);
		expect_cmd(p, "AUTH PLAIN " PEER_PLAIN, "235");
		peer_free(p);
	}
	mail_destroy(m);
}

/* A mechanism left midway by each of these leaves nothing to the next one. */
static void a_mechanism_given_up_midway_leaves_nothing_to_the_next(void **state)
{
	static const char *const begun[][2] = {
		{"AUTH PLAIN", NULL}, {"AUTH LOGIN", NULL}, {"AUTH LOGIN", "Ym9i"}};
	static const char *const given_up[][2] = {{"*", "501 5.7.0"}, {"!", "501 5.5.2"}};
	struct mail *m = mail_create(NULL);

	for (size_t i = 0; i < 3 * 2 * 2; i++) {
		struct peer *p = hello(m, true);
		expect_cmd(p, begun[i / 4][0], "334");
		if (begun[i / 4][1] != NULL)
			expect_cmd(p, begun[i / 4][1], "334");
		expect_cmd(p, given_up[i / 2 % 2][0], given_up[i / 2 % 2][1]);
		expect_cmd(p, "NOOP", "250");
		if (i % 2 == 0) {
			expect_cmd(p, "AUTH PLAIN " PEER_PLAIN, "235");
		} else {
			expect_cmd(p, "AUTH LOGIN YWxpY2U=", "334 UGFzc3dvcmQ6");
			expect_cmd(p, "c2VjcmV0", "235");
		}
		assert_int_equal(slab_used(m->smtp->logins), 0);
		peer_free(p);
	}
	mail_destroy(m);
}

static void a_refusal_is_held_back_and_the_third_ends_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = hello(m, true);

	for (unsigned i = 0; i < 3; i++) {
		uint64_t before = m->shard->now_us;
		/* a wrong password, an unknown user, an empty user: one and the same answer */
		static const char *const lines[] = {
			"AUTH PLAIN AGFsaWNlAHg=", "AUTH PLAIN AGJvYgB4", "AUTH PLAIN AAB4"};
		expect_cmd(p, lines[i], "535 5.7.8 authentication credentials invalid");
		assert_true(m->shard->now_us - before >= MAIL_SECOND);
	}
	peer_expect(p, "421 4.7.0");
	assert_true(peer_ended(p));
	assert_int_equal(mail_smtp_count(m, smtp_auth_too_many), 1);
	mail_destroy(m);
}

static void commands_behind_a_login_wait_for_its_verdict(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = hello(m, true);

	peer_say(p, "AUTH PLAIN AGFsaWNlAHg=\r\nNOOP\r\nAUTH PLAIN " PEER_PLAIN "\r\nNOOP\r\n");
	peer_expect(p, "535");
	peer_expect(p, "250");
	peer_expect(p, "235");
	peer_expect(p, "250");
	mail_destroy(m);
}

static void a_session_may_die_while_its_password_is_checked(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.auth_waits = true;
	struct mail *m = mail_create(&o);
	struct peer *p = hello(m, true), *q = hello(m, true);
	peer_say(p, "AUTH PLAIN " PEER_PLAIN "\r\n");
	peer_say(q, "AUTH PLAIN AGJvYgB4\r\n");
	mail_run(m, 10000);
	peer_reset(p);
	mail_run(m, 10000);
	assert_int_equal(smtp_sessions_open(m->smtp), 1);
	/* the place of the dead session goes to another one before the verdict comes */
	struct peer *r = hello(m, true);
	mail_auth_start(m);
	peer_expect(q, "535");
	expect_cmd(r, "MAIL FROM:<a@x.y>", "530");
	assert_int_equal(slab_used(m->smtp->logins), 0);
	assert_int_equal(mail_smtp_count(m, smtp_auth_ok), 0);
	mail_destroy(m);
}

static void a_slow_password_check_outlives_every_deadline(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.auth_waits = true;
	o.smtp.unauthenticated_us = 5 * MAIL_SECOND;
	struct mail *m = mail_create(&o);
	struct peer *p = hello(m, true);
	peer_say(p, "AUTH PLAIN " PEER_PLAIN "\r\n");
	mail_run(m, 400ull * MAIL_SECOND);
	mail_auth_start(m);
	peer_expect(p, "235");
	mail_destroy(m);
}

static void octets_do_not_extend_a_deadline(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.unauthenticated_us = 10 * MAIL_SECOND;
	struct mail *m = mail_create(&o);
	struct peer *p = peer_connect(m, MAIL_SUBMISSION);
	uint64_t begin = m->shard->now_us;
	peer_expect(p, "220");
	while (!p->eof && !p->over && m->shard->now_us - begin < 100ull * MAIL_SECOND) {
		peer_say(p, "E");
		mail_run(m, MAIL_SECOND);
	}
	peer_expect(p, "421 4.4.2");
	assert_in_range(m->shard->now_us - begin, 10 * MAIL_SECOND, 12 * MAIL_SECOND);
	mail_destroy(m);
}

static void commands_without_login_have_a_deadline_in_all(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.unauthenticated_us = 10 * MAIL_SECOND;
	struct mail *m = mail_create(&o);
	struct peer *p = peer_connect(m, MAIL_SUBMISSION);
	uint64_t begin = m->shard->now_us;
	peer_expect(p, "220");
	while (strncmp(peer_cmd(p, "NOOP"), "250", 3) == 0)
		mail_run(m, 9 * MAIL_SECOND);
	assert_int_equal(strncmp(p->reply, "421 4.4.2", 9), 0);
	assert_in_range(m->shard->now_us - begin, 95 * MAIL_SECOND, 110 * MAIL_SECOND);
	mail_destroy(m);
}

static void a_logged_in_session_has_the_command_deadline(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_login(m);
	uint64_t begin = m->shard->now_us;

	peer_expect(p, "421 4.4.2");
	assert_in_range(m->shard->now_us - begin, 300ull * MAIL_SECOND, 301ull * MAIL_SECOND);
	mail_destroy(m);
}

static void a_dripping_body_ends_and_a_fast_one_may_take_its_time(void **state)
{
	struct mail_options o;
	char block[8192];

	memset(block, 'x', sizeof(block));
	memcpy(block + sizeof(block) - 2, "\r\n", 2);
	mail_options_default(&o);
	o.smtp.data_us = 20 * MAIL_SECOND;
	for (unsigned fast = 0; fast < 2; fast++) {
		struct mail *m = mail_create(&o);
		m->hold_relay = true;
		struct peer *p = peer_login(m);
		peer_envelope(p, "a@x.y", "b@x.y");
		peer_say(p, "DATA\r\n");
		peer_expect(p, "354");
		uint64_t begin = m->shard->now_us;
		/* 16 KiB a second is enough for ever, 1 octet a second is not */
		for (unsigned i = 0; i < 120 && !p->eof && !p->over; i++) {
			peer_send(p, block + sizeof(block) - (fast ? sizeof(block) : 2),
				  fast ? sizeof(block) : 1);
			if (fast)
				peer_send(p, block, sizeof(block));
			mail_run(m, MAIL_SECOND);
		}
		peer_say(p, fast ? ".\r\n" : "");
		peer_expect(p, fast ? "250" : "421 4.4.2");
		uint64_t took = m->shard->now_us - begin;
		if (fast)
			assert_true(took > 100 * MAIL_SECOND);
		else
			assert_in_range(took, 20 * MAIL_SECOND, 22 * MAIL_SECOND);
		mail_destroy(m);
	}
}

static void a_peer_that_does_not_read_the_last_reply_is_cut(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = hello(m, false);

	p->deaf = true;
	for (unsigned i = 0; i < 15000; i++)
		peer_say(p, "NOOP\r\n");
	mail_run(m, 60 * MAIL_SECOND);
	peer_say(p, "QUIT\r\n");
	mail_run(m, 700ull * MAIL_SECOND);
	assert_int_equal(smtp_sessions_open(m->smtp), 0);
	mail_destroy(m);
}

static void a_half_closed_client_gets_every_reply(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSION);
	unsigned replies = 0;

	p->deaf = true;
	for (unsigned i = 0; i < 4000; i++)
		peer_say(p, "NOOP\r\n");
	peer_say(p, "HELP\r\n");
	mail_run(m, 10 * MAIL_SECOND);
	peer_fin(p);
	mail_run(m, MAIL_SECOND);
	p->deaf = false;
	peer_events.readable(p->stream, p);
	assert_true(peer_ended(p));
	while (peer_reply(p)[0] != '\0')
		replies++;
	assert_int_equal(replies, 4002); /* the greeting, too */
	mail_destroy(m);
}

static void idle_sessions_get_421_at_drain_and_busy_ones_when_they_are_done(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *idle = peer_login(m), *busy = peer_login(m);

	m->hold_relay = true;
	peer_envelope(busy, "a@x.y", "b@x.y");
	smtp_drain(m->smtp);
	peer_expect(idle, "421 4.3.2");
	assert_true(peer_ended(idle));
	expect_cmd(busy, "DATA", "354");
	expect_cmd(busy, "a: b\r\n\r\nc\r\n.", "250 2.0.0 queued");
	peer_expect(busy, "421 4.3.2");
	assert_true(peer_ended(busy));
	assert_int_equal(m->accepted, 1);
	assert_false(smtp_admit(&m->listeners[0], &(struct ip_addr){.family = 4}));
	mail_destroy(m);
}

static unsigned connections_open(struct mail *m, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		peer_connect(m, MAIL_SUBMISSION);
	mail_run(m, 10000);
	return smtp_sessions_open(m->smtp);
}

static void sessions_of_one_address_are_limited_unless_exempt(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.sessions_per_address = 3;
	struct mail *m = mail_create(&o);
	assert_int_equal(connections_open(m, 5), 3);
	assert_int_equal(mail_smtp_count(m, smtp_sessions_refused_address), 2);
	mail_destroy(m);
	o.smtp.exempt[0].addr = (struct ip_addr){.family = 4, .byte = {10, 0, 0, 8}};
	o.smtp.exempt[0].bits = 28;
	o.smtp.n_exempt = 1;
	m = mail_create(&o);
	assert_int_equal(connections_open(m, 5), 5);
	mail_destroy(m);
	o.smtp.exempt[0].bits = 29;
	m = mail_create(&o);
	assert_int_equal(connections_open(m, 5), 3);
	mail_destroy(m);
}

static void a_session_that_ends_makes_room_for_the_next(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.sessions = 2;
	struct mail *m = mail_create(&o);
	for (unsigned i = 0; i < 10; i++) {
		struct peer *p = peer_login(m), *q = peer_login(m), *r;
		r = peer_connect(m, MAIL_SUBMISSION);
		peer_expect(r, "421 4.3.2 mx.test too many sessions");
		peer_free(p);
		peer_free(q);
		peer_free(r);
		mail_run(m, MAIL_SECOND);
	}
	mail_destroy(m);
}

static void errors_are_budgeted_over_the_session(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_login(m);

	for (unsigned i = 0; i < 20; i++) {
		expect_cmd(p, "FROB", "500");
		expect_cmd(p, "NOOP", "250");
	}
	expect_cmd(p, "FROB", "421 4.7.0");
	assert_true(peer_ended(p));
	assert_int_equal(mail_smtp_count(m, smtp_error_budget), 1);
	mail_destroy(m);
}

static void missing_fields_are_added_and_what_was_sent_stays(void **state)
{
	static const struct {
		const char *sent, *has, *has_not;
	} rows[] = {
		{"Subject: x\r\n\r\nbody\r\n", "\r\nDate: ", NULL},
		{"Subject: x\r\n\r\nbody\r\n", "\r\nMessage-ID: <", NULL},
		{"DATE: own\r\n\r\nbody\r\n", "DATE: own", "\r\nDate: "},
		{"Message-Id: <own>\r\n\r\n", "<own>", "\r\nMessage-ID: <"},
		{"only body\r\n", "\r\n\r\nonly body\r\n", NULL},
		{" folded\r\n", "\r\n\r\n folded\r\n", NULL},
		{"x: y\r\n", "with ESMTPSA id", "\r\n\r\n"},
		{"x: y\r\n", "\r\n\tfor <bob@example.org>", NULL},
		{"x: y\r\n", "\r\n\ttls TLS_", NULL},
	};
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_login(m);
	char content[4096];

	m->hold_relay = true;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(strncmp(peer_message(p, rows[i].sent), "250", 3), 0);
		size_t n = mail_content(m, (uint8_t *)content, sizeof(content) - 1);
		content[n] = '\0';
		assert_int_equal(strncmp(content, "Received: from client.test ([10.0.0.1])", 39),
				 0);
		if (strstr(content, rows[i].has) == NULL ||
		    (rows[i].has_not != NULL && strstr(content, rows[i].has_not) != NULL))
			fail_msg("row %zu: %s", i, content);
		assert_string_equal(content + n - strlen(rows[i].sent), rows[i].sent);
	}
	mail_destroy(m);
}

static void commands_in_the_record_that_ends_data_are_all_answered(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = peer_login(m);
	char record[16385] = ".\r\n";

	m->hold_relay = true;
	peer_envelope(p, "a@x.y", "b@x.y");
	expect_cmd(p, "DATA", "354");
	for (size_t n = 3; n + 6 <= 16384; n += 6)
		memcpy(record + n, "NOOP\r\n", 7);
	peer_say(p, record);
	peer_expect(p, "250 2.0.0 queued");
	for (size_t n = 3; n + 6 <= 16384; n += 6)
		peer_expect(p, "250 2.0.0 ok");
	mail_destroy(m);
}

static void the_same_session_cut_anywhere_gives_the_same_replies(void **state)
{
	static const char text[] =
		"MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nRCPT TO:<bad\r\nDATA\r\n"
		"a: b\r\n\r\n..c\r\n.\r\nNOOP\r\nMAIL FROM:<a@x.y>\r\nRCPT TO:<c@x.y>\r\n"
		"DATA\r\nx\ny\r\n.\r\nVRFY\r\nQUIT\r\n";
	static const short codes[] = {250, 250, 501, 354, 250, 250, 250, 250, 354, 550, 501, 221};
	struct mail *m = mail_create(NULL);

	m->hold_relay = true;
	for (size_t at = 0; at < sizeof(text) - 1; at++) {
		struct peer *p = peer_login(m);
		peer_send(p, text, at);
		mail_run(m, 20000);
		peer_send(p, text + at, sizeof(text) - 1 - at);
		for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
			if (atoi(peer_reply(p)) != codes[i])
				fail_msg("cut at %zu, reply %zu: %s", at, i, p->reply);
		assert_true(peer_ended(p));
		peer_free(p);
		mail_run(m, MAIL_SECOND);
	}
	assert_int_equal(m->accepted, sizeof(text) - 1);
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starttls_forgets_what_was_said_before),
		cmocka_unit_test(plaintext_behind_starttls_ends_the_session_wherever_it_is_cut),
		cmocka_unit_test(octets_in_clear_after_starttls_are_no_commands),
		cmocka_unit_test(login_works_by_both_mechanisms_with_and_without_initial_response),
		cmocka_unit_test(malformed_responses_are_refused_and_the_session_goes_on),
		cmocka_unit_test(a_mechanism_given_up_midway_leaves_nothing_to_the_next),
		cmocka_unit_test(a_refusal_is_held_back_and_the_third_ends_the_session),
		cmocka_unit_test(commands_behind_a_login_wait_for_its_verdict),
		cmocka_unit_test(a_session_may_die_while_its_password_is_checked),
		cmocka_unit_test(a_slow_password_check_outlives_every_deadline),
		cmocka_unit_test(octets_do_not_extend_a_deadline),
		cmocka_unit_test(commands_without_login_have_a_deadline_in_all),
		cmocka_unit_test(a_logged_in_session_has_the_command_deadline),
		cmocka_unit_test(a_dripping_body_ends_and_a_fast_one_may_take_its_time),
		cmocka_unit_test(a_peer_that_does_not_read_the_last_reply_is_cut),
		cmocka_unit_test(a_half_closed_client_gets_every_reply),
		cmocka_unit_test(idle_sessions_get_421_at_drain_and_busy_ones_when_they_are_done),
		cmocka_unit_test(sessions_of_one_address_are_limited_unless_exempt),
		cmocka_unit_test(a_session_that_ends_makes_room_for_the_next),
		cmocka_unit_test(errors_are_budgeted_over_the_session),
		cmocka_unit_test(missing_fields_are_added_and_what_was_sent_stays),
		cmocka_unit_test(commands_in_the_record_that_ends_data_are_all_answered),
		cmocka_unit_test(the_same_session_cut_anywhere_gives_the_same_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
