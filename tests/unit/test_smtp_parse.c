/* test_smtp_parse.c - paths and names, at and beyond every limit */
#include "smtp/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LINE = 2000 };

static struct text text_of(const char *s)
{
	return (struct text){s, strlen(s)};
}

/* The octets stand at the end of their own memory, so that a sanitizer sees one read too many. */
static enum path_fault path_in(const char *octets, size_t n, bool null_allowed, char *mailbox,
			       char *rest)
{
	char *copy = malloc(n > 0 ? n : 1);
	struct text t = {copy, n};
	struct path p;

	memcpy(copy, octets, n);
	enum path_fault f = parse_path(&t, "FROM:", null_allowed, &p);
	if (f == PATH_OK && mailbox != NULL)
		snprintf(mailbox, LINE, "%.*s|%.*s", (int)p.mailbox.n,
			 p.mailbox.n > 0 ? p.mailbox.at : "", (int)p.domain.n,
			 p.domain.n > 0 ? p.domain.at : "");
	if (rest != NULL)
		snprintf(rest, LINE, "%.*s", (int)t.n, t.at);
	free(copy);
	return f;
}

static enum path_fault path_fault_of(const char *s)
{
	return path_in(s, strlen(s), true, NULL, NULL);
}

static void check_mailbox(const char *line, const char *expected)
{
	char mailbox[LINE];

	if (path_in(line, strlen(line), true, mailbox, NULL) != PATH_OK)
		fail_msg("refused: %s", line);
	assert_string_equal(mailbox, expected);
}

static void a_path_is_cut_into_mailbox_and_domain(void **state)
{
	check_mailbox("FROM:<alice@example.net>", "alice@example.net|example.net");
	check_mailbox("from:<a.b+c@x-y.example>", "a.b+c@x-y.example|x-y.example");
	check_mailbox("FROM: <a@b>", "a@b|b");
	check_mailbox("FROM:<>", "|");
	check_mailbox("FROM:<PostMaster>", "PostMaster|");
	check_mailbox("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]|[192.0.2.1]");
	check_mailbox("FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]|[IPv6:2001:db8::1]");
	check_mailbox("FROM:<!#$%&'*+-/=?^_`{|}~@x>", "!#$%&'*+-/=?^_`{|}~@x|x");
}

static void a_quoted_local_part_may_hold_what_closes_a_path_outside(void **state)
{
	check_mailbox("FROM:<\"a>b\"@x.y>", "\"a>b\"@x.y|x.y");
	check_mailbox("FROM:<\"a\\\"> b\"@x.y>", "\"a\\\"> b\"@x.y|x.y");
	check_mailbox("FROM:<\"a@b\"@x.y>", "\"a@b\"@x.y|x.y");
	check_mailbox("FROM:<\"\\\\\"@x.y>", "\"\\\\\"@x.y|x.y");
	check_mailbox("FROM:<\"\"@x.y>", "\"\"@x.y|x.y");
	assert_int_equal(path_fault_of("FROM:<\"a>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<\"a\\\"@x.y>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<\"a\"b@x.y>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<\"a\x01\"@x.y>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<\"a\x7f\"@x.y>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<\"a\\"), PATH_SYNTAX);
}

static void a_source_route_is_read_and_forgotten(void **state)
{
	check_mailbox("FROM:<@a.example,@b.example:u@x.y>", "u@x.y|x.y");
	check_mailbox("FROM:<@a:\"q:r\"@x.y>", "\"q:r\"@x.y|x.y");
	assert_int_equal(path_fault_of("FROM:<@a.example u@x.y>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<@a,b>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<@a b:u@x.y>"), PATH_SYNTAX);
	assert_int_equal(path_fault_of("FROM:<@a:>"), PATH_SYNTAX);
}

static void malformed_paths_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"FROM",
		"FROM:",
		"FROM:<",
		"FROM:a@b",
		"FROM:<a@b",
		"FROM:a@b>",
		"FROM :<a@b>",
		"TO:<a@b>",
		"FROM:<a@b>x",
		"FROM:<a@b><c@d>",
		"FROM:<@>",
		"FROM:<a@>",
		"FROM:<@b>",
		"FROM:<a b@c>",
		"FROM:<a@b c>",
		"FROM:<a@b@c>",
		"FROM:<.a@b>",
		"FROM:<a.@b>",
		"FROM:<a..b@c>",
		"FROM:<a@.b>",
		"FROM:<a@b.>",
		"FROM:<a@b..c>",
		"FROM:<a@-b>",
		"FROM:<a@b->",
		"FROM:<a@b-.c>",
		"FROM:<a@b.-c>",
		"FROM:<a@[]>",
		"FROM:<a@[192.0.2.1>",
		"FROM:<a@[192.0.2.1]x>",
		"FROM:<a@[192 0]>",
		"FROM:<a(c)@b>",
		"FROM:<a@b(c)>",
		"FROM:<a,b@c>",
		"FROM:<\t@b>",
		"FROM:\t<a@b>",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (path_fault_of(bad[i]) != PATH_SYNTAX)
			fail_msg("not PATH_SYNTAX: %s", bad[i]);
	}
	assert_int_equal(path_fault_of("FROM:<alice>"), PATH_NO_DOMAIN);
	assert_int_equal(path_fault_of("FROM:<\"alice\">"), PATH_NO_DOMAIN);
	assert_int_equal(path_in("FROM:<>", 7, false, NULL, NULL), PATH_SYNTAX);
}

static void nul_and_octets_that_are_not_utf8_are_refused(void **state)
{
	assert_int_equal(path_in("FROM:<a\0b@c>", 12, true, NULL, NULL), PATH_SYNTAX);
	assert_int_equal(path_in("FROM:<\"a\0\"@c>", 13, true, NULL, NULL), PATH_SYNTAX);
	assert_int_equal(path_in("FROM:<a@b\0c>", 12, true, NULL, NULL), PATH_SYNTAX);
	assert_int_equal(path_in("FROM\0:<a@b>", 11, true, NULL, NULL), PATH_SYNTAX);
	for (int o = 0x80; o <= 0xff; o++) {
		char line[] = "FROM:<a?@b>", domain[] = "FROM:<a@b?>";
		line[7] = domain[9] = (char)o;
		assert_int_equal(path_fault_of(line), PATH_NOT_UTF8);
		assert_int_equal(path_fault_of(domain), PATH_NOT_UTF8);
	}
	assert_int_equal(path_fault_of("FROM:<a\xc0\xae@b>"), PATH_NOT_UTF8);
	assert_int_equal(path_fault_of("FROM:<a\xed\xa0\x80@b>"), PATH_NOT_UTF8);
}

static void utf8_addresses_are_read_and_marked(void **state)
{
	static const char *const good[] = {"FROM:<\xc3\xa4@x.y>", "FROM:<a@b\xc3\274cher.example>",
					   "FROM:<\"\xe2\x82\xac 5\"@x.y>",
					   "FROM:<\xf0\x9f\x93\xa7@x.y>"};
	struct path p;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct text t = text_of(good[i]);
		assert_int_equal(parse_path(&t, "FROM:", false, &p), PATH_OK);
		assert_true(p.utf8);
	}
	struct text t = text_of("FROM:<a@b> ORCPT=utf-8;\xc3\xa4");
	assert_int_equal(parse_path(&t, "FROM:", false, &p), PATH_OK);
	assert_false(p.utf8);
}

static enum path_fault of_lengths(unsigned local, unsigned domain)
{
	char line[LINE] = "FROM:<";
	size_t n = 6;

	memset(line + n, 'l', local);
	n += local;
	line[n++] = '@';
	for (unsigned i = 0; i < domain; i++)
		line[n++] = i % 64 == 63 && i + 1 < domain ? '.' : 'd';
	line[n++] = '>';
	return path_in(line, n, true, NULL, NULL);
}

static void lengths_are_refused_just_beyond_their_limits(void **state)
{
	/* local-part 64, path 256 with its brackets (RFC 5321 section 4.5.3.1) */
	assert_int_equal(of_lengths(64, 10), PATH_OK);
	assert_int_equal(of_lengths(65, 10), PATH_TOO_LONG);
	assert_int_equal(of_lengths(1, 252), PATH_OK);
	assert_int_equal(of_lengths(1, 253), PATH_TOO_LONG);
	assert_int_equal(of_lengths(64, 189), PATH_OK);
	assert_int_equal(of_lengths(64, 190), PATH_TOO_LONG);
	assert_int_equal(of_lengths(1, 256), PATH_TOO_LONG);
}

static void every_prefix_of_a_path_is_refused_without_reading_past_it(void **state)
{
	static const char whole[] = "FROM:<@r.x:\"q\\\">\"@[IPv6:2001:db8::1]>";

	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		assert_int_equal(path_in(whole, n, true, NULL, NULL), PATH_SYNTAX);
	assert_int_equal(path_in(whole, sizeof(whole) - 1, true, NULL, NULL), PATH_OK);
}

static void what_follows_a_path_is_left_as_parameters(void **state)
{
	char rest[LINE];

	path_in("FROM:<a@b>   SIZE=1 BODY=7BIT", 29, true, NULL, rest);
	assert_string_equal(rest, "SIZE=1 BODY=7BIT");
	path_in("FROM:<a@b>", 10, true, NULL, rest);
	assert_string_equal(rest, "");
}

static void an_ehlo_name_is_a_domain_or_a_literal_and_nothing_that_reaches_a_header(void **state)
{
	char long_name[300];

	assert_true(parse_ehlo_name(text_of("client.example.net")));
	assert_true(parse_ehlo_name(text_of("[192.0.2.1]")));
	assert_true(parse_ehlo_name(text_of("[IPv6:2001:db8::1]")));
	assert_true(parse_ehlo_name(text_of("my_laptop")));
	assert_false(parse_ehlo_name(text_of("")));
	for (int o = 0; o < 256; o++) {
		char name[] = "a?b";
		name[1] = (char)o;
		bool fine = (o >= '0' && o <= '9') || (o >= 'a' && o <= 'z') ||
			    (o >= 'A' && o <= 'Z') || (o != 0 && strchr(".-_:[]", o) != NULL);
		assert_int_equal(parse_ehlo_name((struct text){name, 3}), fine);
	}
	memset(long_name, 'x', sizeof(long_name));
	assert_true(parse_ehlo_name((struct text){long_name, 255}));
	assert_false(parse_ehlo_name((struct text){long_name, 256}));
}

static void words_are_cut_at_spaces(void **state)
{
	struct text rest = text_of("MAIL  FROM:<a@b> x"), word = text_word(&rest);

	assert_true(text_is(word, "mail"));
	assert_false(text_is(word, "MAI"));
	assert_false(text_is(word, "MAILX"));
	word = text_word(&rest);
	assert_true(text_is(word, "FROM:<a@b>"));
	word = text_word(&rest);
	assert_true(text_is(word, "X"));
	assert_int_equal(rest.n, 0);
	assert_int_equal(text_word(&rest).n, 0);
}

static void every_fault_has_a_text(void **state)
{
	for (int f = PATH_OK; f <= PATH_NOT_UTF8; f++)
		assert_true(strlen(path_fault_text((enum path_fault)f)) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_cut_into_mailbox_and_domain),
		cmocka_unit_test(a_quoted_local_part_may_hold_what_closes_a_path_outside),
		cmocka_unit_test(a_source_route_is_read_and_forgotten),
		cmocka_unit_test(malformed_paths_are_refused),
		cmocka_unit_test(nul_and_octets_that_are_not_utf8_are_refused),
		cmocka_unit_test(lengths_are_refused_just_beyond_their_limits),
		cmocka_unit_test(every_prefix_of_a_path_is_refused_without_reading_past_it),
		cmocka_unit_test(what_follows_a_path_is_left_as_parameters),
		cmocka_unit_test(utf8_addresses_are_read_and_marked),
		cmocka_unit_test(
			an_ehlo_name_is_a_domain_or_a_literal_and_nothing_that_reaches_a_header),
		cmocka_unit_test(words_are_cut_at_spaces),
		cmocka_unit_test(every_fault_has_a_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
