/* test_auth_answers.c - what back ends say, and names inside what they are asked */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtp/auth/dovecot.h"
#include "smtp/auth/http_answer.h"
#include "smtp/auth/template.h"

#include <stdio.h>
#include <string.h>

static const struct auth_backend dovecot = {.tenant_field = "tenant",
					    .addresses_field = "addresses"};

static void split(const char *text, char *line, struct dovecot_line *l)
{
	strcpy(line, text);
	assert_true(dovecot_split(line, strlen(text), l));
}

static enum backend_answer answer_to_7(const char *text, struct identity_draft *d)
{
	char line[DOVECOT_LINE];
	struct dovecot_line l;
	enum backend_answer a;

	memset(d, 0, sizeof(*d));
	split(text, line, &l);
	assert_true(dovecot_answer(&l, "7", &dovecot, d, &a));
	return a;
}

static void dovecot_fields_are_unescaped(void **state)
{
	char line[64];
	struct dovecot_line l;

	split("a\001tb\t\t\0011\0010c", line, &l);
	assert_int_equal(l.n, 3);
	assert_memory_equal(l.field[0].text, "a\tb", 4);
	assert_int_equal(l.field[1].bytes, 0);
	assert_int_equal(l.field[2].bytes, 3);
	assert_memory_equal(l.field[2].text, "\001\0c", 4);
	strcpy(line, "a\001x");
	assert_false(dovecot_split(line, 3, &l));
	strcpy(line, "a\001");
	assert_false(dovecot_split(line, 2, &l));
	memset(line, '\t', sizeof(line));
	assert_false(dovecot_split(line, DOVECOT_FIELDS - 1 + 1, &l));
}

static enum dovecot_greeting greeting(const char *const *lines)
{
	struct dovecot_hello h = {};
	enum dovecot_greeting g = DOVECOT_MORE;
	char line[256];
	struct dovecot_line l;

	for (; g == DOVECOT_MORE && *lines != NULL; lines++) {
		split(*lines, line, &l);
		g = dovecot_greet(&h, &l);
	}
	return g;
}

static void dovecot_is_greeted_in_version_1_with_plain(void **state)
{
	static const char *const good[] = {"VERSION\t1\t2",
					   "MECH\tLOGIN\tplaintext",
					   "MECH\tPLAIN\tplaintext",
					   "SPID\t1",
					   "COOKIE\tx",
					   "DONE",
					   NULL};
	static const char *const version[] = {"VERSION\t2\t0", NULL};
	static const char *const none[] = {"MECH\tPLAIN", "DONE", NULL};
	static const char *const no_plain[] = {"VERSION\t1\t2", "MECH\tLOGIN", "DONE", NULL};
	static const char *const unfinished[] = {"VERSION\t1\t2", "MECH\tPLAIN", NULL};

	assert_int_equal(greeting(good), DOVECOT_READY);
	assert_int_equal(greeting(version), DOVECOT_BAD);
	assert_int_equal(greeting(none), DOVECOT_BAD);
	assert_int_equal(greeting(no_plain), DOVECOT_BAD);
	assert_int_equal(greeting(unfinished), DOVECOT_MORE);
}

static void dovecot_accepts_with_user_tenant_and_addresses(void **state)
{
	struct identity_draft d;

	assert_int_equal(
		answer_to_7("OK\t7\tuser=carol\ttenant=acme\taddresses=a@x,@y\tother=1", &d),
		BACKEND_RIGHT);
	assert_string_equal(d.user, "carol");
	assert_string_equal(d.tenant, "acme");
	assert_string_equal(d.addresses, "a@x,@y");
	assert_int_equal(answer_to_7("OK\t7", &d), BACKEND_RIGHT);
	assert_int_equal(answer_to_7("OK\t7\tuser=a b", &d), BACKEND_MALFORMED);
	assert_int_equal(answer_to_7("OK\t7\tuser=a\001tb", &d), BACKEND_MALFORMED);
	assert_int_equal(answer_to_7("OK\t7\tuser=a\0010b", &d), BACKEND_MALFORMED);
	assert_int_equal(answer_to_7("OK\t7\tuser=c\taddresses=nothing", &d), BACKEND_MALFORMED);
	assert_int_equal(answer_to_7("CONT\t7\t", &d), BACKEND_MALFORMED);
}

static void dovecot_accepts_nobody_who_may_not_log_in(void **state)
{
	struct identity_draft d;

	assert_int_equal(answer_to_7("OK\t7\tuser=c\tnologin", &d), BACKEND_WRONG);
	assert_int_equal(answer_to_7("OK\t7\tuser=c\tproxy=y\thost=h", &d), BACKEND_WRONG);
	assert_int_equal(answer_to_7("OK\t7\tuser=c\tnopassword=y", &d), BACKEND_WRONG);
	assert_int_equal(answer_to_7("OK\t7\tuser=c\tnologinx=y", &d), BACKEND_RIGHT);
}

static void dovecot_refuses_in_three_ways(void **state)
{
	struct identity_draft d;

	assert_int_equal(answer_to_7("FAIL\t7\tuser=carol", &d), BACKEND_UNKNOWN);
	assert_int_equal(answer_to_7("FAIL\t7\tuser=c\tuser_disabled", &d), BACKEND_WRONG);
	assert_int_equal(answer_to_7("FAIL\t7\tuser=c\tcode=pass_expired", &d), BACKEND_WRONG);
	assert_int_equal(answer_to_7("FAIL\t7\tuser=c\tauthz", &d), BACKEND_WRONG);
	assert_int_equal(answer_to_7("FAIL\t7\tuser=c\ttemp", &d), BACKEND_OUTAGE);
	assert_int_equal(answer_to_7("FAIL\t7\tuser_disabled\tcode=temp_fail", &d), BACKEND_OUTAGE);
}

static void dovecots_other_lines_are_passed_over(void **state)
{
	static const char *const lines[] = {"OK\t8\tuser=c", "OK", "", "OK\t77", "HELLO\t7"};
	char line[64];
	struct dovecot_line l;
	struct identity_draft d = {};
	enum backend_answer a;

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		split(lines[i], line, &l);
		assert_false(dovecot_answer(&l, "7", &dovecot, &d, &a));
	}
}

static bool reads(const char *text, struct identity_draft *d)
{
	memset(d, 0, sizeof(*d));
	return http_answer_read(text, strlen(text), d);
}

static void http_answers_are_objects_of_known_kinds(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"7",
		"{",
		"{} x",
		"{\"tenant\":7}",
		"{\"tenant\":\"\"}",
		"{\"tenant\":\"a b\"}",
		"{\"tenant\":\"a\",\"tenant\":\"b\"}",
		"{\"user\":\"a\\u0000b\"}",
		"{\"user\":\"\"}",
		"{\"addresses\":\"a@x\"}",
		"{\"addresses\":[\"x\"]}",
		"{\"addresses\":[\"a@x\",7]}",
		"{\"addresses\":[\"a@x y\"]}",
	};
	struct identity_draft d;

	assert_true(reads("{}", &d));
	assert_true(reads("{\"tenant\":null,\"addresses\":null,\"user\":null,\"else\":[1]}", &d));
	assert_true(
		reads("{\"tenant\":\"acme\",\"addresses\":[\"a@x\",\"@y\"],\"user\":\"c\"}", &d));
	assert_string_equal(d.user, "c");
	assert_string_equal(d.tenant, "acme");
	assert_string_equal(d.addresses, "a@x,@y");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (reads(bad[i], &d))
			fail_msg("taken: %s", bad[i]);
	}
}

static void addresses_are_bounded(void **state)
{
	struct identity_draft d = {};
	unsigned n = 0;

	while (identity_add_addresses(&d, "aaaaaaaaaaaaaaaa@example.net", 28))
		n++;
	assert_int_equal(n, (USER_ADDRESSES_MAX + 1) / 29);
	assert_true(strlen(d.addresses) <= USER_ADDRESSES_MAX);
}

static void assert_expands(bool (*expand)(const char *, const char *, char *, size_t),
			   const char *template, const char *user, const char *wanted)
{
	char out[256];

	assert_true(expand(template, user, out, sizeof(out)));
	assert_string_equal(out, wanted);
}

static void names_are_escaped_in_filters(void **state)
{
	assert_expands(template_filter, "(uid=%u)", "carol", "(uid=carol)");
	assert_expands(template_filter, "(uid=%u)", "*)(uid=*", "(uid=\\2a\\29\\28uid=\\2a)");
	assert_expands(template_filter, "(uid=%u)", "a\\b", "(uid=a\\5cb)");
	assert_expands(template_filter, "(cn=%u)", "\xc3\xa9", "(cn=\\c3\\a9)");
	assert_expands(template_filter, "(&(uid=%n)(o=%d)%%)", "a@b@c.net",
		       "(&(uid=a@b)(o=c.net)%)");
	assert_expands(template_filter, "(o=%d)", "nodomain", "(o=)");
}

static void names_are_escaped_in_dns(void **state)
{
	assert_expands(template_dn, "uid=%u,o=x", "a,b+c\"d\\e<f>g;h=i",
		       "uid=a\\2cb\\2bc\\22d\\5ce\\3cf\\3eg\\3bh\\3di,o=x");
	assert_expands(template_dn, "uid=%u", " a b ", "uid=\\20a b\\20");
	assert_expands(template_dn, "uid=%u", "#a#", "uid=\\23a#");
	assert_expands(template_dn, "uid=%u", " ", "uid=\\20");
}

static void what_does_not_fit_is_not_cut(void **state)
{
	char out[8];

	assert_true(template_filter("%u", "1234567", out, sizeof(out)));
	assert_false(template_filter("%u", "12345678", out, sizeof(out)));
	assert_false(template_dn("%u", ",,,", out, sizeof(out)));
}

static void templates_name_the_user(void **state)
{
	assert_true(template_names_user("uid=%u"));
	assert_true(template_names_user("uid=%n,o=%d%%"));
	assert_false(template_names_user("uid=x"));
	assert_false(template_names_user("o=%d"));
	assert_false(template_names_user("uid=%u%"));
	assert_false(template_names_user("uid=%u%x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dovecot_fields_are_unescaped),
		cmocka_unit_test(dovecot_is_greeted_in_version_1_with_plain),
		cmocka_unit_test(dovecot_accepts_with_user_tenant_and_addresses),
		cmocka_unit_test(dovecot_accepts_nobody_who_may_not_log_in),
		cmocka_unit_test(dovecot_refuses_in_three_ways),
		cmocka_unit_test(dovecots_other_lines_are_passed_over),
		cmocka_unit_test(http_answers_are_objects_of_known_kinds),
		cmocka_unit_test(addresses_are_bounded),
		cmocka_unit_test(names_are_escaped_in_filters),
		cmocka_unit_test(names_are_escaped_in_dns),
		cmocka_unit_test(what_does_not_fit_is_not_cut),
		cmocka_unit_test(templates_name_the_user),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
