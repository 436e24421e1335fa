/* test_relay_reports.c - delivery status notifications: who gets one, when, and what it says (RFC
 * 3461, 3464, 6533) */
#include "tests/unit/relay_kit.h"

static void refuse_b(struct bench *b)
{
	hop_rule(b->h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "b@x.y", .reply = "550 no\r\n"});
}

static void defer_b(struct bench *b)
{
	hop_rule(b->h, (struct hop_rule){
			       .stage = HOP_RCPT, .match = "b@x.y", .reply = "450 4.2.1 full\r\n"});
}

static void a_report_has_every_field_that_the_sender_may_match_by(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
					.match = "b@x.y",
					.reply = "550 5.1.1 no such user\r\n"});
	submit(&b, "<a@x.y> ENVID=QQ+2B1+20z", "<b@x.y> ORCPT=rfc822;B+2Bx@orig.example", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(strncmp((char *)b.h->mails[0].from.at, "<>", 2), 0);
	expect_arrived(&b, "report-type=delivery-status");
	expect_arrived(&b, "Reporting-MTA: dns; mx.test\r\n");
	expect_arrived(&b, "\r\nOriginal-Envelope-Id: QQ+1 z\r\n");
	expect_arrived(&b, "\r\nArrival-Date: ");
	expect_arrived(&b, "\r\n\r\nOriginal-Recipient: rfc822; B+x@orig.example\r\n"
			   "Final-Recipient: rfc822; b@x.y\r\nAction: failed\r\nStatus: 5.1.1\r\n"
			   "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
			   "Remote-MTA: dns; mx.test\r\n");
	expect_arrived(&b, "\r\nContent-Type: text/rfc822-headers\r\n\r\nReceived: from ");
	expect_arrived(&b, "\r\nSubject: x\r\n\r\n--");
	expect_not_arrived(&b, "hello");
	bench_end(&b);
}

static void ret_full_returns_all_of_a_message_that_is_ascii(void **state)
{
	static const struct {
		const char *mail, *content;
		bool whole;
	} rows[] = {
		{"<a@x.y> RET=FULL", TEXT, true},
		{"<a@x.y> RET=HDRS", TEXT, false},
		{"<a@x.y>", TEXT, false},
		{"<a@x.y> RET=FULL BODY=8BITMIME", "Subject: x\r\n\r\n\xc3\xa4 .hello\r\n", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench b = bench();
		refuse_b(&b);
		submit(&b, rows[i].mail, "<b@x.y>", rows[i].content);
		assert_true(drained(&b, MINUTE));
		if (rows[i].whole) {
			expect_arrived(&b, "\r\nContent-Type: message/rfc822\r\n\r\nReceived: ");
			expect_arrived(&b, TEXT);
		} else {
			expect_arrived(&b, "Subject: x\r\n\r\n--");
			expect_not_arrived(&b, "hello");
		}
		bench_end(&b);
	}
}

static void a_large_message_is_not_returned_whatever_was_asked_for(void **state)
{
	struct bench b = bench();
	char *large = malloc(200000);
	size_t n = (size_t)sprintf(large, "Subject: x\r\n\r\n");

	while (n < 150000)
		n += (size_t)sprintf(large + n, "hello line %zu\r\n", n);
	refuse_b(&b);
	submit(&b, "<a@x.y> RET=FULL", "<b@x.y>", large);
	assert_true(drained(&b, MINUTE));
	expect_arrived(&b, "Subject: x\r\n\r\n--");
	expect_not_arrived(&b, "hello");
	free(large);
	bench_end(&b);
}

static void notify_decides_who_hears_of_a_failure(void **state)
{
	static const struct {
		const char *rcpt;
		bool told;
	} rows[] = {{"<b@x.y>", true},
		    {"<b@x.y> NOTIFY=FAILURE", true},
		    {"<b@x.y> NOTIFY=SUCCESS,FAILURE,DELAY", true},
		    {"<b@x.y> NOTIFY=NEVER", false},
		    {"<b@x.y> NOTIFY=SUCCESS", false},
		    {"<b@x.y> NOTIFY=DELAY", false}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench b = bench();
		refuse_b(&b);
		submit(&b, "<a@x.y>", rows[i].rcpt, TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->n_mails, rows[i].told);
		assert_int_equal(count(&b, relay_reports_unwanted), !rows[i].told);
		bench_end(&b);
	}
}

static void one_report_tells_of_those_recipients_only_who_are_to_be_told_of(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT, .match = "no", .reply = "550 no\r\n"});
	submit(&b, "<a@x.y>",
	       "<no1@x.y>\n<no2@x.y> NOTIFY=NEVER\n<no3@x.y> NOTIFY=FAILURE\n"
	       "<yes1@x.y> NOTIFY=SUCCESS\n<yes2@x.y>",
	       TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 2);
	assert_int_equal(count(&b, relay_reports), 1);
	expect_arrived(&b, "Final-Recipient: rfc822; no1@x.y\r\nAction: failed");
	expect_arrived(&b, "Final-Recipient: rfc822; no3@x.y\r\nAction: failed");
	expect_arrived(&b, "Final-Recipient: rfc822; yes1@x.y\r\nAction: relayed\r\nStatus: 2.");
	expect_not_arrived(&b, "no2@x.y");
	expect_not_arrived(&b, "yes2@x.y");
	bench_end(&b);
}

static void success_is_reported_by_whoever_does_it_last(void **state)
{
	for (unsigned dsn = 0; dsn < 2; dsn++) {
		struct bench b = bench();
		b.h->offers = dsn ? "250-DSN\r\n" : NULL;
		submit(&b, "<a@x.y>", "<b@x.y> NOTIFY=SUCCESS", TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(count(&b, relay_reports), !dsn);
		assert_int_equal(logged(&b, "NOTIFY=SUCCESS"), dsn);
		if (!dsn) {
			assert_int_equal(hop_recipient(b.h, "a@x.y"), 1);
			expect_arrived(&b, "Subject: Relayed mail\r\n");
		}
		bench_end(&b);
	}
}

static void nobody_is_told_when_the_reverse_path_is_null(void **state)
{
	struct bench b = bench();

	refuse_b(&b);
	submit(&b, "<>", "<b@x.y> NOTIFY=FAILURE,SUCCESS\n<c@x.y> NOTIFY=SUCCESS", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	assert_int_equal(count(&b, relay_reports), 0);
	assert_int_equal(count(&b, relay_reports_suppressed), 1);
	bench_end(&b);
}

/* A hop that is down, or one that puts it off: either way the notice comes in time, once. */
static void a_delay_is_told_once_and_only_to_those_who_asked(void **state)
{
	static const char *const rcpts[] = {"<b@x.y> NOTIFY=DELAY,FAILURE", "<b@x.y>",
					    "<b@x.y> NOTIFY=FAILURE"};

	for (unsigned i = 0; i < 6; i++) {
		struct bench b = bench();
		bool asked = i / 2 == 0;
		if (i % 2 == 1) /* no connection gets as far as a greeting */
			hop_rule(b.h, (struct hop_rule){.stage = HOP_GREETING, .after = HOP_RESET});
		defer_b(&b);
		submit(&b, "<a@x.y>", rcpts[i / 2], TEXT);
		b.m->tick_us = MAIL_SECOND;
		mail_run(b.m, 4 * hour_us - MINUTE);
		assert_int_equal(count(&b, relay_reports), 0);
		mail_run(b.m, 2ull * MINUTE);
		assert_int_equal(count(&b, relay_notices), 1);
		assert_int_equal(count(&b, relay_reports), asked);
		hop_rules_clear(b.h);
		defer_b(&b);
		mail_run(b.m, 2 * day_us);
		assert_int_equal(b.h->n_mails, asked);
		assert_int_equal(count(&b, relay_reports), asked);
		if (asked) {
			expect_arrived(&b, "Subject: Delayed mail\r\n");
			expect_arrived(&b, "Action: delayed\r\nStatus: 4.");
			expect_arrived(&b, "Will-Retry-Until: ");
		}
		bench_end(&b);
	}
}

static void a_report_to_an_ascii_sender_is_ascii_whatever_it_tells_of(void **state)
{
	struct bench b = bench();

	submit(&b, "<a@x.y> SMTPUTF8", "<b\xc3\xa4\xf0\x9f\x93\xa7@x.y>",
	       "Subject: \xc3\xa4\r\n\r\nhello\r\n");
	assert_true(drained(&b, MINUTE));
	expect_arrived(&b, "\r\nFinal-Recipient: utf-8; b\\x{E4}\\x{1F4E7}@x.y\r\n");
	expect_arrived(&b, "Subject: ??\r\n");
	expect_arrived(&b, "message/delivery-status");
	for (const char *p = arrived(&b); *p != '\0'; p++)
		assert_true((unsigned char)*p < 0x80);
	assert_false(logged(&b, "SMTPUTF8"));
	bench_end(&b);
}

static void a_report_to_a_utf8_sender_has_the_global_types(void **state)
{
	struct bench b = bench();

	b.h->offers = "250-SMTPUTF8\r\n";
	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "b\xc3\xa4", .reply = "550 no\r\n"});
	submit(&b, "<\xc3\xa4@x.y> SMTPUTF8", "<b\xc3\xa4@x.y>", "Subject: \xc3\xa4\r\n\r\nx\r\n");
	assert_true(drained(&b, MINUTE));
	expect_arrived(&b, "\r\nFinal-Recipient: utf-8; b\xc3\xa4@x.y\r\n");
	expect_arrived(&b, "\r\nContent-Type: message/global-delivery-status\r\n");
	expect_arrived(&b, "\r\nContent-Type: message/global-headers\r\n");
	expect_arrived(&b, "\r\nSubject: \xc3\xa4\r\n");
	expect_logged(&b, " BODY=8BITMIME SMTPUTF8\n");
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_report_has_every_field_that_the_sender_may_match_by),
		cmocka_unit_test(ret_full_returns_all_of_a_message_that_is_ascii),
		cmocka_unit_test(a_large_message_is_not_returned_whatever_was_asked_for),
		cmocka_unit_test(notify_decides_who_hears_of_a_failure),
		cmocka_unit_test(one_report_tells_of_those_recipients_only_who_are_to_be_told_of),
		cmocka_unit_test(success_is_reported_by_whoever_does_it_last),
		cmocka_unit_test(nobody_is_told_when_the_reverse_path_is_null),
		cmocka_unit_test(a_delay_is_told_once_and_only_to_those_who_asked),
		cmocka_unit_test(a_report_to_an_ascii_sender_is_ascii_whatever_it_tells_of),
		cmocka_unit_test(a_report_to_a_utf8_sender_has_the_global_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
