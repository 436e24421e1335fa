/* test_smtp_extensions.c - EHLO's offers and the parameters of MAIL and RCPT in a session: what is
 * offered when, what is refused how, and what is stored */
#include "smtp/spool/internal.h"
#include "tests/unit/mail_kit.h"

#define TEXT "From: alice@example.net\r\nSubject: x\r\n\r\nhello\r\n"

static struct mail *begin_with(const struct mail_options *o, struct peer **p)
{
	struct mail *m = mail_create(o);

	m->hold_relay = true;
	*p = peer_login(m);
	return m;
}

static struct mail *begin(struct peer **p)
{
	return begin_with(NULL, p);
}

static bool offers(const struct peer *p, const char *keyword)
{
	return strstr(p->reply, keyword) != NULL;
}

static void what_is_offered_depends_on_tls_and_login_and_is_what_is_taken(void **state)
{
	static const char *const always[] = {"250-PIPELINING\r\n",
					     "250-SIZE 8388608\r\n",
					     "250-8BITMIME\r\n",
					     "250-CHUNKING\r\n",
					     "250-BINARYMIME\r\n",
					     "250-SMTPUTF8\r\n",
					     "250-DSN\r\n",
					     "250-FUTURERELEASE 604800 20",
					     "250-DELIVERBY\r\n",
					     "250-MT-PRIORITY\r\n",
					     "250-LIMITS RCPTMAX=100\r\n",
					     "250 ENHANCEDSTATUSCODES\r\n"};
	struct mail *m = mail_create(NULL);

	for (unsigned tls = 0; tls < 2; tls++) {
		struct peer *p = peer_connect(m, tls ? MAIL_SUBMISSIONS : MAIL_SUBMISSION);
		if (tls)
			assert_true(peer_tls(p, 0));
		peer_expect(p, "220");
		expect_cmd(p, "EHLO x", "250");
		for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
			if (!offers(p, always[i]))
				fail_msg("%s in: %s", always[i], p->reply);
		/* RFC 8689: only under TLS */
		assert_int_equal(offers(p, "REQUIRETLS"), tls);
		assert_int_equal(offers(p, "250-AUTH PLAIN LOGIN\r\n"), tls);
		assert_int_equal(offers(p, "STARTTLS"), !tls);
	}
	mail_destroy(m);
}

static void what_the_operator_switched_off_is_neither_offered_nor_taken(void **state)
{
	struct mail_options o;
	struct peer *p;
	static const char *const refused[] = {"SMTPUTF8",      "RET=FULL",       "ENVID=x",
					      "HOLDFOR=1",     "BY=1;N",         "REQUIRETLS",
					      "MT-PRIORITY=0", "BODY=BINARYMIME"};

	mail_options_default(&o);
	o.smtp.extensions = 0;
	struct mail *m = begin_with(&o, &p);
	expect_cmd(p, "EHLO x", "250");
	assert_false(offers(p, "DSN") || offers(p, "CHUNKING") || offers(p, "SMTPUTF8") ||
		     offers(p, "LIMITS") || offers(p, "REQUIRETLS"));
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char line[80];
		snprintf(line, sizeof(line), "MAIL FROM:<a@x.y> %s", refused[i]);
		expect_cmd(p, line, "555 5.5.4");
	}
	expect_cmd(p, "MAIL FROM:<a@x.y> BODY=8BITMIME SIZE=1", "250");
	expect_cmd(p, "RCPT TO:<b@x.y> NOTIFY=NEVER", "555 5.5.4");
	expect_cmd(p, "RCPT TO:<b@x.y> ORCPT=rfc822;x", "555 5.5.4");
	mail_destroy(m);
}

static void requiretls_is_offered_only_where_every_hop_can_keep_it(void **state)
{
	struct mail_options o;
	struct peer *p;

	mail_options_default(&o);
	o.smtp.require_tls_onward = false;
	struct mail *m = begin_with(&o, &p);
	expect_cmd(p, "EHLO x", "250");
	assert_false(offers(p, "REQUIRETLS"));
	expect_cmd(p, "MAIL FROM:<a@x.y> REQUIRETLS", "555 5.5.4");
	mail_destroy(m);
}

static void parameters_need_ehlo(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	expect_cmd(p, "HELO x", "250");
	expect_cmd(p, "MAIL FROM:<a@x.y> BODY=7BIT", "555 5.5.4");
	expect_cmd(p, "MAIL FROM:<a@x.y> RET=FULL", "555 5.5.4");
	expect_cmd(p, "MAIL FROM:<a@x.y>", "250");
	expect_cmd(p, "RCPT TO:<b@x.y> NOTIFY=NEVER", "555 5.5.4");
	mail_destroy(m);
}

static void every_parameter_is_stored_with_the_message(void **state)
{
	struct envelope_recipient r;
	struct peer *p;
	struct mail *m = begin(&p);

	expect_cmd(p,
		   "MAIL FROM:<alice@example.net> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=FULL "
		   "ENVID=QQ+2B REQUIRETLS MT-PRIORITY=-4 HOLDFOR=1000 BY=600;NT AUTH=bob+40x",
		   "250 2.1.0");
	expect_cmd(p, "RCPT TO:<bob@example.org> NOTIFY=DELAY ORCPT=x400;+20", "250");
	expect_cmd(p, "DATA", "354");
	expect_say(p, TEXT ".\r\n", "250");
	const struct envelope *e = stored_envelope(m, &r);
	int64_t now = shard_wall_s(m->shard);
	expect_text(&e->reverse_path, "alice@example.net");
	expect_text(&e->user, "alice");
	expect_text(&e->mechanism, "PLAIN");
	assert_int_equal(strncmp(e->tls.at, "TLS_", 4), 0);
	expect_text(&e->envid, "QQ+2B");
	assert_int_equal(e->declared_bytes, 100);
	assert_int_equal(e->body, ENVELOPE_8BIT);
	assert_int_equal(e->ret, ENVELOPE_RET_FULL);
	assert_int_equal(e->by, ENVELOPE_BY_NOTIFY);
	assert_true(e->smtputf8 && e->require_tls && e->by_trace);
	assert_int_equal(e->priority, -4);
	assert_in_range(e->hold_until_s - now, 995, 1000);
	assert_int_equal(e->by_at_s - e->hold_until_s, 600);
	expect_text(&r.path, "bob@example.org");
	expect_text(&r.orcpt, "x400;+20");
	assert_int_equal(r.notify, ENVELOPE_DELAY);
	assert_int_equal(m->last.retry_at_s, e->hold_until_s);
	/* the next transaction knows nothing of it */
	data_with(p, "", TEXT, "250");
	e = stored_envelope(m, &r);
	assert_int_equal(e->envid.bytes, 0);
	assert_int_equal(e->hold_until_s, 0);
	assert_false(e->smtputf8 || e->require_tls);
	mail_destroy(m);
}

static void a_refused_parameter_begins_no_transaction(void **state)
{
	static const struct {
		const char *parameters, *reply;
	} rows[] = {
		{"FROB", "555 5.5.4"},
		{"FROB=1", "555 5.5.4"},
		{"SIZE=1 SIZE=1", "501 5.5.4 syntax: parameter SIZE is given twice"},
		{"HOLDFOR=604801", "501 5.5.4 syntax: parameter HOLDFOR is beyond"},
		{"HOLDFOR=1 HOLDUNTIL=2023-11-15T00:00:00Z", "501 5.5.4"},
		{"RET=SOME", "501 5.5.4 syntax: parameter RET is malformed"},
		{"ENVID=a+0D+0Ab", "501 5.5.4"},
		{"MT-PRIORITY=10", "501 5.5.4"},
		{"BY=0;R", "501 5.5.4"},
		{"BODY=\xff", "501 5.5.4"},
		{"SIZE=8388609", "552 5.3.4"},
		{"SIZE=99999999999999999999", "552 5.3.4"},
		{"SIZE=123456789012345678901", "501 5.5.4"},
	};
	struct peer *p;
	struct mail *m = begin(&p);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[200];
		snprintf(line, sizeof(line), "MAIL FROM:<a@x.y> %s", rows[i].parameters);
		expect_cmd(p, line, rows[i].reply);
		expect_cmd(p, "RCPT TO:<b@x.y>", "503");
		if (i == 6) { /* the budget of errors */
			peer_free(p);
			p = peer_login(m);
		}
	}
	mail_destroy(m);
}

static void a_declared_size_beyond_what_the_spool_has_left_is_put_off(void **state)
{
	struct mail_options o;
	struct peer *p;

	mail_options_default(&o);
	o.smtp.max_message_size = 1 << 30;
	struct mail *m = begin_with(&o, &p);
	m->spool->config.max_size = 4 << 20;
	expect_cmd(p, "MAIL FROM:<a@x.y> SIZE=5000000", "452 4.3.1");
	expect_cmd(p, "MAIL FROM:<a@x.y> SIZE=1000", "250");
	assert_int_equal(mail_smtp_count(m, smtp_message_no_space), 1);
	mail_destroy(m);
}

static void a_priority_above_the_users_is_lowered_and_said_so(void **state)
{
	struct mail_options o;
	struct peer *p;

	mail_options_default(&o);
	o.smtp.max_priority = 2;
	struct mail *m = begin_with(&o, &p);
	expect_cmd(p, "MAIL FROM:<a@x.y> MT-PRIORITY=9", "250 2.3.6 sender ok, priority is 2");
	expect_cmd(p, "RSET", "250");
	expect_cmd(p, "MAIL FROM:<a@x.y> MT-PRIORITY=2", "250 2.1.0");
	expect_cmd(p, "RSET", "250");
	expect_cmd(p, "MAIL FROM:<a@x.y> MT-PRIORITY=-9", "250 2.1.0");
	expect_cmd(p, "RSET", "250");
	data_with(p, "MT-PRIORITY=7", TEXT, "250");
	assert_int_equal(stored_envelope(m, NULL)->priority, 2);
	assert_int_equal(m->last.priority, 2);
	assert_int_equal(mail_smtp_count(m, smtp_priority_clamped), 2);
	mail_destroy(m);
}

static void limits_are_what_is_enforced_and_never_less(void **state)
{
	struct mail_options o;
	struct peer *p;

	mail_options_default(&o);
	o.smtp.max_messages = 3;
	o.smtp.max_recipients = 2;
	struct mail *m = begin_with(&o, &p);
	expect_cmd(p, "EHLO x", "250");
	assert_true(offers(p, "250-LIMITS RCPTMAX=2 MAILMAX=3\r\n"));
	expect_cmd(p, "MAIL FROM:<bad", "501"); /* begins nothing and counts for nothing */
	for (unsigned i = 0; i < 3; i++) {
		expect_cmd(p, "MAIL FROM:<a@x.y>", "250");
		for (unsigned k = 0; k < 2; k++)
			expect_cmd(p, "RCPT TO:<b@x.y>", "250");
		expect_cmd(p, "RCPT TO:<b@x.y>", "452 4.5.3");
		/* RSET does not evade the limit */
		expect_cmd(p, "RSET", "250");
	}
	expect_cmd(p, "MAIL FROM:<a@x.y>", "421 4.7.0");
	assert_true(peer_ended(p));
	assert_int_equal(mail_smtp_count(m, smtp_session_messages), 1);
	mail_destroy(m);
}

static void utf8_addresses_need_the_parameter_and_octets_need_to_be_utf8(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	expect_cmd(p, "MAIL FROM:<\xc3\xa4@x.y>", "553 5.6.7");
	expect_cmd(p, "MAIL FROM:<\xe4@x.y>", "501 5.1.7");
	expect_cmd(p, "MAIL FROM:<\xe4@x.y> SMTPUTF8", "501 5.1.7");
	expect_cmd(p, "NOOP \xff\xfe", "250");
	expect_cmd(p, "\xff\xfe", "500");
	expect_cmd(p, "MAIL FROM:<a@x.y>", "250");
	expect_cmd(p, "RCPT TO:<\xc3\xa4@x.y>", "553 5.6.7");
	expect_cmd(p, "RCPT TO:<\xe4@x.y>", "501 5.1.3");
	expect_cmd(p, "RCPT TO:<b@x.y> ORCPT=utf-8;\xc3\xa4", "501 5.5.4");
	expect_cmd(p, "RSET", "250");
	expect_cmd(p,
		   "MAIL FROM:<\xc3\xa4@b\xc3\xbc"
		   "cher.example> SMTPUTF8",
		   "250");
	expect_cmd(p, "RCPT TO:<\xe4@x.y>", "501 5.1.3");
	expect_cmd(p, "RCPT TO:<\xe2\x82\xac@x.y> ORCPT=utf-8;\xc3\xa4", "250");
	expect_cmd(p, "DATA", "354");
	expect_say(p, "From: \xc3\xa4\r\n\r\n.\r\n", "250");
	struct envelope_recipient r;
	const struct envelope *e = stored_envelope(m, &r);
	expect_text(&e->reverse_path, "\xc3\xa4@b\xc3\xbc"
				      "cher.example");
	expect_text(&r.path, "\xe2\x82\xac@x.y");
	expect_text(&r.orcpt, "utf-8;\xc3\xa4");
	mail_destroy(m);
}

static void a_utf8_header_needs_the_parameter_but_a_body_does_not(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	data_with(p, "", "Subject: \xc3\xa4\r\n\r\n", "554 5.6.7");
	data_with(p, "BODY=8BITMIME", "Subject: x\r\n \xc3\xa4\r\n\r\n", "554 5.6.7");
	data_with(p, "BODY=8BITMIME", "Subject: x\r\n\r\n\xc3\xa4 \xff\r\n", "250");
	data_with(p, "SMTPUTF8 BODY=8BITMIME", "Subject: \xc3\xa4\r\n\r\n", "250");
	/* overlong, surrogate, cut off by the line end, stray continuation */
	data_with(p, "SMTPUTF8", "Subject: \xc0\xaf\r\n\r\n", "554 5.6.0");
	data_with(p, "SMTPUTF8", "Subject: \xed\xa0\x80\r\n\r\n", "554 5.6.0");
	data_with(p, "SMTPUTF8", "Subject: \xe2\x82\r\n\r\n", "554 5.6.0");
	data_with(p, "SMTPUTF8", "Subject: \xbf\r\n\r\n", "554 5.6.0");
	data_with(p, "SMTPUTF8", "Subject: \xf4\x8f\xbf\xbf \xe2\x80\x8b\r\n\r\n", "250");
	assert_int_equal(mail_smtp_count(m, smtp_message_header_utf8), 6);
	mail_destroy(m);
}

static void the_protocol_in_received_says_what_was_used(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);
	char out[4000];

	data_with(p, "", TEXT, "250");
	stored(m, out, sizeof(out), TEXT, strlen(TEXT));
	assert_non_null(strstr(out, " with ESMTPSA id "));
	data_with(p, "SMTPUTF8", TEXT, "250");
	stored(m, out, sizeof(out), TEXT, strlen(TEXT));
	assert_non_null(strstr(out, " with UTF8SMTPSA id "));
	assert_non_null(strstr(out, "\r\n\ttls TLS_"));
	mail_destroy(m);
}

static void tls_required_no_is_noted_unless_requiretls_outweighs_it(void **state)
{
	static const char text[] = "TLS-Required: No\r\nFrom: a@b\r\n\r\n";
	struct peer *p;
	struct mail *m = begin(&p);

	data_with(p, "", text, "250");
	assert_true(stored_envelope(m, NULL)->tls_optional);
	data_with(p, "REQUIRETLS", text, "250");
	assert_false(stored_envelope(m, NULL)->tls_optional);
	assert_true(stored_envelope(m, NULL)->require_tls);
	data_with(p, "", "TLS-Required: Nothing\r\n\r\n", "250");
	assert_false(stored_envelope(m, NULL)->tls_optional);
	mail_destroy(m);
}

/* Whatever is said, the stored fields of ours have no line that a client wrote. */
static void nothing_that_a_client_says_forges_a_header_line(void **state)
{
	static const char *const says[] = {"EHLO x\r\tEvil: 1",
					   "EHLO x(Evil: 1)",
					   "EHLO x;Evil",
					   "EHLO x\xc2\205Evil",
					   "MAIL FROM:<a@x.y> ENVID=x+0D+0AEvil:+201",
					   "MAIL FROM:<a@x.y> AUTH=x+0D+0AEvil:1",
					   "MAIL FROM:<\"a\r\nEvil: 1\"@x.y>",
					   "MAIL FROM:<\"a\tEvil: 1\"@x.y>",
					   "MAIL FROM:<a@x.y> ENVID=x\rEvil:1"};
	struct peer *p;
	struct mail *m = begin(&p);
	char out[4000];

	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++) {
		peer_say(p, says[i]);
		peer_say(p, "\r\n");
		mail_run(m, MAIL_SECOND);
		p->got_read = p->got.n; /* the replies are of no interest */
		expect_cmd(p, "RSET", "250");
		data_with(p, "", TEXT, "250");
		stored(m, out, sizeof(out), TEXT, strlen(TEXT));
		assert_null(strstr(out, "Evil"));
	}
	expect_cmd(p, "MAIL FROM:<a@x.y>", "250");
	expect_cmd(p, "RCPT TO:<b@x.y> ORCPT=rfc822;x+0D+0AEvil:1", "501");
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_offered_depends_on_tls_and_login_and_is_what_is_taken),
		cmocka_unit_test(what_the_operator_switched_off_is_neither_offered_nor_taken),
		cmocka_unit_test(requiretls_is_offered_only_where_every_hop_can_keep_it),
		cmocka_unit_test(parameters_need_ehlo),
		cmocka_unit_test(every_parameter_is_stored_with_the_message),
		cmocka_unit_test(a_refused_parameter_begins_no_transaction),
		cmocka_unit_test(a_declared_size_beyond_what_the_spool_has_left_is_put_off),
		cmocka_unit_test(a_priority_above_the_users_is_lowered_and_said_so),
		cmocka_unit_test(limits_are_what_is_enforced_and_never_less),
		cmocka_unit_test(utf8_addresses_need_the_parameter_and_octets_need_to_be_utf8),
		cmocka_unit_test(a_utf8_header_needs_the_parameter_but_a_body_does_not),
		cmocka_unit_test(the_protocol_in_received_says_what_was_used),
		cmocka_unit_test(tls_required_no_is_noted_unless_requiretls_outweighs_it),
		cmocka_unit_test(nothing_that_a_client_says_forges_a_header_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
