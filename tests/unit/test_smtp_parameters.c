/* test_smtp_parameters.c - parameters of MAIL and RCPT: the grammar of each RFC, and one octet
 * beyond it */
#include "base/xtext.h"
#include "smtp/parameters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 1700000000, HOLD = 100000 };

static const struct parameter_rules all = {
	.offered = SMTP_EXT_ALL, .now_s = NOW, .max_hold_s = HOLD};

static struct text text_of(const char *s)
{
	return (struct text){s, strlen(s)};
}

static enum parameter_fault mail(const char *s, struct mail_parameters *m)
{
	const char *keyword;

	return parse_mail_parameters(text_of(s), &all, m, &keyword);
}

static enum parameter_fault rcpt(const char *s, struct rcpt_parameters *r)
{
	const char *keyword;

	return parse_rcpt_parameters(text_of(s), &all, false, r, &keyword);
}

struct sample {
	const char *line;
	enum parameter_fault fault;
};

static void check_mail(const struct sample *samples, size_t n)
{
	struct mail_parameters m;

	for (size_t i = 0; i < n; i++) {
		enum parameter_fault f = mail(samples[i].line, &m);
		if (f != samples[i].fault)
			fail_msg("%s: %s", samples[i].line, parameter_fault_text(f));
	}
}
#define CHECK_MAIL(samples) check_mail(samples, sizeof(samples) / sizeof(samples[0]))

static void known_parameters_are_read_in_any_case_and_order(void **state)
{
	struct mail_parameters m;

	assert_int_equal(mail("", &m), PARAMETER_OK);
	assert_int_equal(m.size, 0);
	assert_int_equal(m.body, ENVELOPE_7BIT);
	assert_int_equal(mail("body=8BitMime size=1000 AUTH=<> smtputf8", &m), PARAMETER_OK);
	assert_int_equal(m.size, 1000);
	assert_int_equal(m.body, ENVELOPE_8BIT);
	assert_true(m.smtputf8);
	assert_int_equal(mail("AUTH=e+3Dmc2@example.com   BODY=7bit", &m), PARAMETER_OK);
	assert_int_equal(m.body, ENVELOPE_7BIT);
	assert_int_equal(mail("BODY=BINARYMIME RET=hdrs ENVID=QQ+2B314 REQUIRETLS", &m),
			 PARAMETER_OK);
	assert_int_equal(m.body, ENVELOPE_BINARY);
	assert_int_equal(m.ret, ENVELOPE_RET_HDRS);
	assert_true(m.require_tls);
	assert_int_equal(m.envid.n, 8);
	assert_memory_equal(m.envid.at, "QQ+2B314", 8);
}

static void malformed_parameters_are_a_syntax_error_and_unknown_ones_are_not(void **state)
{
	static const struct sample samples[] = {
		{"SIZE=", PARAMETER_SYNTAX},
		{"SIZE", PARAMETER_SYNTAX},
		{"SIZE=1x", PARAMETER_SYNTAX},
		{"SIZE=-1", PARAMETER_SYNTAX},
		{"SIZE=123456789012345678901", PARAMETER_SYNTAX},
		{"BODY=", PARAMETER_SYNTAX},
		{"BODY", PARAMETER_SYNTAX},
		{"BODY=9BIT", PARAMETER_SYNTAX},
		{"SMTPUTF8=1", PARAMETER_SYNTAX},
		{"SMTPUTF8=", PARAMETER_SYNTAX},
		{"REQUIRETLS=YES", PARAMETER_SYNTAX},
		{"RET=NONE", PARAMETER_SYNTAX},
		{"RET", PARAMETER_SYNTAX},
		{"AUTH=", PARAMETER_SYNTAX},
		{"AUTH=a=b", PARAMETER_SYNTAX},
		{"AUTH=\x80", PARAMETER_NOT_UTF8},
		{"AUTH=\xc3\xa4", PARAMETER_SYNTAX},
		{"FROB=1", PARAMETER_UNKNOWN},
		{"=1", PARAMETER_UNKNOWN},
		{"SIZE=1 X", PARAMETER_UNKNOWN},
		{"NOTIFY=NEVER", PARAMETER_UNKNOWN}, /* of RCPT */
		{"ORCPT=rfc822;a@b", PARAMETER_UNKNOWN},
	};

	CHECK_MAIL(samples);
}

static void every_parameter_given_twice_is_refused(void **state)
{
	static const char *const mails[] = {"SIZE=1",     "BODY=7BIT",     "AUTH=<>",
					    "SMTPUTF8",   "RET=FULL",      "ENVID=x",
					    "REQUIRETLS", "MT-PRIORITY=0", "BY=9;R"};
	char line[100];
	struct mail_parameters m;
	struct rcpt_parameters r;

	for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++) {
		snprintf(line, sizeof(line), "%s %s", mails[i], mails[i]);
		if (mail(line, &m) != PARAMETER_TWICE)
			fail_msg("%s", line);
	}
	assert_int_equal(rcpt("NOTIFY=DELAY NOTIFY=DELAY", &r), PARAMETER_TWICE);
	assert_int_equal(rcpt("ORCPT=a;b ORCPT=a;b", &r), PARAMETER_TWICE);
}

static void what_is_not_offered_is_unknown(void **state)
{
	static const struct {
		uint32_t extension;
		bool rcpt;
		const char *line;
	} rows[] = {
		{SMTP_EXT_BIT(BINARYMIME), false, "BODY=BINARYMIME"},
		{SMTP_EXT_BIT(SMTPUTF8), false, "SMTPUTF8"},
		{SMTP_EXT_BIT(DSN), false, "RET=FULL"},
		{SMTP_EXT_BIT(DSN), false, "ENVID=x"},
		{SMTP_EXT_BIT(DSN), true, "NOTIFY=NEVER"},
		{SMTP_EXT_BIT(DSN), true, "ORCPT=rfc822;x"},
		{SMTP_EXT_BIT(REQUIRETLS), false, "REQUIRETLS"},
		{SMTP_EXT_BIT(MT_PRIORITY), false, "MT-PRIORITY=1"},
		{SMTP_EXT_BIT(FUTURERELEASE), false, "HOLDFOR=1"},
		{SMTP_EXT_BIT(FUTURERELEASE), false, "HOLDUNTIL=2030-01-01T00:00:00Z"},
		{SMTP_EXT_BIT(DELIVERBY), false, "BY=1;R"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct parameter_rules rules = all;
		struct mail_parameters m;
		struct rcpt_parameters r;
		const char *keyword;
		rules.offered &= ~rows[i].extension;
		enum parameter_fault f = rows[i].rcpt
						 ? parse_rcpt_parameters(text_of(rows[i].line),
									 &rules, true, &r, &keyword)
						 : parse_mail_parameters(text_of(rows[i].line),
									 &rules, &m, &keyword);
		if (f != PARAMETER_UNKNOWN)
			fail_msg("%s", rows[i].line);
	}
}

static void a_size_beyond_64_bits_is_huge_not_small(void **state)
{
	struct mail_parameters m;

	assert_int_equal(mail("SIZE=18446744073709551615", &m), PARAMETER_OK);
	assert_true(m.size == UINT64_MAX);
	assert_int_equal(mail("SIZE=18446744073709551616", &m), PARAMETER_OK);
	assert_true(m.size >= UINT64_MAX / 16);
	assert_int_equal(mail("SIZE=99999999999999999999", &m), PARAMETER_OK);
	assert_true(m.size >= UINT64_MAX / 16);
	assert_int_equal(mail("SIZE=00000000000000000007", &m), PARAMETER_OK);
	assert_int_equal(m.size, 7);
}

static void an_envid_is_xtext_of_100_and_hides_no_line_end(void **state)
{
	static const struct sample samples[] = {
		{"ENVID=a+2Bb", PARAMETER_OK},
		{"ENVID=a+20b", PARAMETER_OK},
		{"ENVID=a+0D+0AX-Evil:1", PARAMETER_SYNTAX},
		{"ENVID=a+0A", PARAMETER_SYNTAX},
		{"ENVID=a+00", PARAMETER_SYNTAX},
		{"ENVID=a+7F", PARAMETER_SYNTAX},
		{"ENVID=a+E9", PARAMETER_SYNTAX},
		{"ENVID=a+2b", PARAMETER_SYNTAX}, /* lower case */
		{"ENVID=a+2", PARAMETER_SYNTAX},
		{"ENVID=a+", PARAMETER_SYNTAX},
		{"ENVID=+GG", PARAMETER_SYNTAX},
		{"ENVID=", PARAMETER_SYNTAX},
	};
	char line[120] = "ENVID=";
	struct mail_parameters m;

	CHECK_MAIL(samples);
	memset(line + 6, 'x', 101);
	assert_int_equal(mail(line, &m), PARAMETER_SYNTAX);
	line[106] = '\0';
	assert_int_equal(mail(line, &m), PARAMETER_OK);
}

static void notify_takes_never_alone_or_a_list_without_repetition(void **state)
{
	static const struct sample samples[] = {
		{"NOTIFY=NEVER", PARAMETER_OK},
		{"NOTIFY=success,FAILURE,Delay", PARAMETER_OK},
		{"NOTIFY=DELAY", PARAMETER_OK},
		{"NOTIFY=NEVER,SUCCESS", PARAMETER_CONFLICT},
		{"NOTIFY=FAILURE,NEVER", PARAMETER_CONFLICT},
		{"NOTIFY=SUCCESS,SUCCESS", PARAMETER_SYNTAX},
		{"NOTIFY=SUCCESS,", PARAMETER_SYNTAX},
		{"NOTIFY=,SUCCESS", PARAMETER_SYNTAX},
		{"NOTIFY=SOMETIMES", PARAMETER_SYNTAX},
		{"NOTIFY=", PARAMETER_SYNTAX},
		{"NOTIFY", PARAMETER_SYNTAX},
		{"SIZE=1", PARAMETER_UNKNOWN}, /* of MAIL */
		{"RET=FULL", PARAMETER_UNKNOWN},
	};
	struct rcpt_parameters r;

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		if (rcpt(samples[i].line, &r) != samples[i].fault)
			fail_msg("%s", samples[i].line);
	}
	assert_int_equal(rcpt("NOTIFY=SUCCESS,DELAY", &r), PARAMETER_OK);
	assert_int_equal(r.notify, ENVELOPE_SUCCESS | ENVELOPE_DELAY);
}

/* Other servers looked into the address and lost mail over it. */
static void an_orcpt_is_kept_as_it_is_whatever_its_address_looks_like(void **state)
{
	static const char *const good[] = {"ORCPT=rfc822;bob@example.com",
					   "ORCPT=rfc822;",
					   "ORCPT=rfc822;not+20an+20address",
					   "ORCPT=rfc822;@@@",
					   "ORCPT=x400;/C+3Dde/A+3D+20/S+3DMustermann/",
					   "ORCPT=unknown;+2B",
					   "ORCPT=utf-8;\\x{E4}@b"};
	static const char *const bad[] = {"ORCPT=bob@example.com",
					  "ORCPT=;bob",
					  "ORCPT=rfc822;a=b",
					  "ORCPT=rfc822;a+0D+0Ab",
					  "ORCPT=rfc822;a+",
					  "ORCPT=rf(c822;a",
					  "ORCPT",
					  "ORCPT=a;\xc3\xa4",
					  "ORCPT=utf-8;\xc3\xa4"};
	struct rcpt_parameters r;
	const char *keyword;
	char line[520] = "ORCPT=rfc822;";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		bool empty = i == 1;
		if (rcpt(good[i], &r) != (empty ? PARAMETER_SYNTAX : PARAMETER_OK))
			fail_msg("%s", good[i]);
		if (!empty)
			assert_memory_equal(r.orcpt.at, good[i] + 6, strlen(good[i]) - 6);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (rcpt(bad[i], &r) != PARAMETER_SYNTAX)
			fail_msg("%s", bad[i]);
	}
	/* UTF-8 as it is, under SMTPUTF8 only (RFC 6533 section 3) */
	assert_int_equal(
		parse_rcpt_parameters(text_of("ORCPT=utf-8;\xc3\xa4@b"), &all, true, &r, &keyword),
		PARAMETER_OK);
	assert_int_equal(
		parse_rcpt_parameters(text_of("ORCPT=rfc822;\xc3\xa4@b"), &all, true, &r, &keyword),
		PARAMETER_SYNTAX);
	memset(line + 13, 'x', 494);
	assert_int_equal(rcpt(line, &r), PARAMETER_SYNTAX);
	line[506] = '\0';
	assert_int_equal(rcpt(line, &r), PARAMETER_OK);
}

static void a_priority_is_minus_9_to_9(void **state)
{
	static const struct sample samples[] = {
		{"MT-PRIORITY=9", PARAMETER_OK},       {"MT-PRIORITY=-9", PARAMETER_OK},
		{"mt-priority=0", PARAMETER_OK},       {"MT-PRIORITY=10", PARAMETER_SYNTAX},
		{"MT-PRIORITY=-10", PARAMETER_SYNTAX}, {"MT-PRIORITY=+3", PARAMETER_SYNTAX},
		{"MT-PRIORITY=-0", PARAMETER_SYNTAX},  {"MT-PRIORITY=", PARAMETER_SYNTAX},
		{"MT-PRIORITY=-", PARAMETER_SYNTAX},   {"MT-PRIORITY=a", PARAMETER_SYNTAX},
	};
	struct mail_parameters m;

	CHECK_MAIL(samples);
	for (int p = -9; p <= 9; p++) {
		char line[32];
		snprintf(line, sizeof(line), "MT-PRIORITY=%d", p);
		assert_int_equal(mail(line, &m), PARAMETER_OK);
		assert_int_equal(m.priority, p);
	}
}

static void a_hold_is_one_of_two_kinds_and_within_the_offer(void **state)
{
	/* NOW is 2023-11-14T22:13:20Z */
	static const struct sample samples[] = {
		{"HOLDFOR=100000", PARAMETER_OK},
		{"HOLDFOR=100001", PARAMETER_BEYOND},
		{"HOLDFOR=999999999", PARAMETER_BEYOND},
		{"HOLDFOR=1000000000", PARAMETER_SYNTAX},
		{"HOLDFOR=-1", PARAMETER_SYNTAX},
		{"HOLDFOR=", PARAMETER_SYNTAX},
		{"HOLDFOR=1 HOLDUNTIL=2023-11-15T00:00:00Z", PARAMETER_CONFLICT},
		{"HOLDUNTIL=2023-11-15T00:00:00Z HOLDFOR=1", PARAMETER_CONFLICT},
		{"HOLDFOR=0 HOLDUNTIL=2023-11-15T00:00:00Z", PARAMETER_CONFLICT},
		{"HOLDUNTIL=2023-11-15T00:00:00Z", PARAMETER_OK},
		{"HOLDUNTIL=2023-11-15t00:00:00.25z", PARAMETER_OK},
		{"HOLDUNTIL=2023-11-15T01:00:00+01:00", PARAMETER_OK},
		{"HOLDUNTIL=2024-11-15T00:00:00Z", PARAMETER_BEYOND},
		{"HOLDUNTIL=2023-02-29T00:00:00Z", PARAMETER_SYNTAX},
		{"HOLDUNTIL=2023-13-01T00:00:00Z", PARAMETER_SYNTAX},
		{"HOLDUNTIL=2023-11-15T24:00:00Z", PARAMETER_SYNTAX},
		{"HOLDUNTIL=2023-11-15T00:00:00", PARAMETER_SYNTAX},
		{"HOLDUNTIL=2023-11-15T00:00:00.Z", PARAMETER_SYNTAX},
		{"HOLDUNTIL=2023-11-15 00:00:00Z", PARAMETER_SYNTAX},
		{"HOLDUNTIL=2023-11-15T00:00:00+25:00", PARAMETER_SYNTAX},
		{"HOLDUNTIL=23-11-15T00:00:00Z", PARAMETER_SYNTAX},
	};
	struct mail_parameters m;

	CHECK_MAIL(samples);
	assert_int_equal(mail("HOLDFOR=60", &m), PARAMETER_OK);
	assert_int_equal(m.hold_until_s, NOW + 60);
	assert_int_equal(mail("HOLDUNTIL=2023-11-15T01:30:00+01:30", &m), PARAMETER_OK);
	assert_int_equal(m.hold_until_s, 1700006400);
	/* over already: no hold */
	assert_int_equal(mail("HOLDUNTIL=1999-01-01T00:00:00Z", &m), PARAMETER_OK);
	assert_int_equal(m.hold_until_s, 0);
}

static void a_deadline_has_a_time_a_mode_and_perhaps_a_trace(void **state)
{
	static const struct sample samples[] = {
		{"BY=120;R", PARAMETER_OK},
		{"BY=-120;N", PARAMETER_OK},
		{"BY=+120;nt", PARAMETER_OK},
		{"BY=0;N", PARAMETER_OK},
		{"BY=0;R", PARAMETER_SYNTAX},
		{"BY=-1;R", PARAMETER_SYNTAX},
		{"BY=120", PARAMETER_SYNTAX},
		{"BY=120;", PARAMETER_SYNTAX},
		{"BY=120;X", PARAMETER_SYNTAX},
		{"BY=120;RX", PARAMETER_SYNTAX},
		{"BY=120;RTT", PARAMETER_SYNTAX},
		{"BY=;R", PARAMETER_SYNTAX},
		{"BY=1234567890;R", PARAMETER_SYNTAX},
		{"BY=+-1;N", PARAMETER_SYNTAX},
		{"BY=", PARAMETER_SYNTAX},
	};
	struct mail_parameters m;

	CHECK_MAIL(samples);
	assert_int_equal(mail("BY=120;RT", &m), PARAMETER_OK);
	assert_int_equal(m.by, ENVELOPE_BY_RETURN);
	assert_true(m.by_trace);
	assert_int_equal(m.by_at_s, NOW + 120);
	assert_int_equal(mail("BY=-5;N", &m), PARAMETER_OK);
	assert_int_equal(m.by_at_s, NOW - 5);
	/* a held message's deadline counts from its release, whichever comes first on the line */
	assert_int_equal(mail("BY=120;R HOLDFOR=1000", &m), PARAMETER_OK);
	assert_int_equal(m.by_at_s, NOW + 1120);
}

/* Every octet string of up to three octets out of those that matter. */
static void xtext_decodes_what_it_encodes_and_nothing_else(void **state)
{
	static const char octets[] = "+=!~ \x7f"
				     "0A2Fag";
	char coded[9], back[9];

	for (int a = 0; a < 256; a++) {
		for (int b = 0; b < 256; b++) {
			char in[2] = {(char)a, (char)b};
			size_t n = xtext_encode(in, 2, coded);
			assert_int_equal(xtext_decode(coded, n, back), 2);
			assert_memory_equal(back, in, 2);
		}
	}
	for (size_t i = 0; i < 12 * 12 * 12; i++) {
		char in[3] = {octets[i / 144], octets[i / 12 % 12], octets[i % 12]};
		ptrdiff_t n = xtext_decode(in, 3, back);
		if (n < 0)
			continue;
		/* equal but for octets that need no quoting and were quoted */
		size_t m = xtext_encode(back, (size_t)n, coded);
		assert_true(m <= 3);
		assert_true(in[0] == '+' || (m == 3 && memcmp(in, coded, 3) == 0));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_parameters_are_read_in_any_case_and_order),
		cmocka_unit_test(malformed_parameters_are_a_syntax_error_and_unknown_ones_are_not),
		cmocka_unit_test(every_parameter_given_twice_is_refused),
		cmocka_unit_test(what_is_not_offered_is_unknown),
		cmocka_unit_test(a_size_beyond_64_bits_is_huge_not_small),
		cmocka_unit_test(an_envid_is_xtext_of_100_and_hides_no_line_end),
		cmocka_unit_test(notify_takes_never_alone_or_a_list_without_repetition),
		cmocka_unit_test(an_orcpt_is_kept_as_it_is_whatever_its_address_looks_like),
		cmocka_unit_test(a_priority_is_minus_9_to_9),
		cmocka_unit_test(a_hold_is_one_of_two_kinds_and_within_the_offer),
		cmocka_unit_test(a_deadline_has_a_time_a_mode_and_perhaps_a_trace),
		cmocka_unit_test(xtext_decodes_what_it_encodes_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
