/* test_smtp_mailbox.c - addresses out of a From field, and whether they are the user's */
#include "smtp/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct text text_of(const char *s)
{
	return (struct text){s, strlen(s)};
}

/* "a|b|" for two addresses, "!" behind what was found before a fault. */
static const char *addresses(const char *value)
{
	static char out[1000];
	size_t length = strlen(value), n = 0;
	char *copy = malloc(length > 0 ? length : 1);
	struct text rest = {copy, length}, address;
	enum mailbox m;

	memcpy(copy, value, length);
	while ((m = mailbox_next(&rest, &address)) == MAILBOX_FOUND)
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%.*s|", (int)address.n,
				      address.at);
	snprintf(out + n, sizeof(out) - n, "%s", m == MAILBOX_BAD ? "!" : "");
	free(copy);
	return out;
}

static void display_names_comments_and_groups_are_stepped_over(void **state)
{
	static const char *const rows[][2] = {
		{"a@b", "a@b|"},
		{"  a@b  ", "a@b|"},
		{"Alice <a@b>", "a@b|"},
		{"<a@b>", "a@b|"},
		{"\"Smith, Alice\" <a@b>", "a@b|"},
		{"\"x <evil@e>\" <a@b>", "a@b|"},
		{"Alice (evil@e) <a@b> (c)", "a@b|"},
		{"a@b (Alice (nested) <x@y>)", "a@b|"},
		{"(c) a@b", "a@b|"},
		{"a@b, c@d", "a@b|c@d|"},
		{"Alice <a@b>, Bob <c@d>", "a@b|c@d|"},
		{"team: a@b, Bob <c@d>;", "a@b|c@d|"},
		{"nobody:;", ""},
		{", ,a@b,,", "a@b|"},
		{"\"a b\"@c", "\"a b\"@c|"},
		{"\"a\\\"@b\"@c", "\"a\\\"@b\"@c|"},
		{"a@[192.0.2.1]", "a@[192.0.2.1]|"},
		{"=?utf-8?q?=C3=A4?= <a@b>", "a@b|"},
		{"\xc3\xa4 <\xc3\xa4@b>", "\xc3\xa4@b|"},
		{"", ""},
		{"  ", ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(addresses(rows[i][0]), rows[i][1]) != 0)
			fail_msg("%s gave %s", rows[i][0], addresses(rows[i][0]));
	}
}

/* What a mail program might show differently must not pass for an address of the user's. */
static void what_is_not_clearly_a_list_is_a_fault(void **state)
{
	static const char *const rows[] = {
		"Alice",   "a@b c@d",  "a@b <c@d> e@f", "<a@b> <c@d>",
		"<a@b",    "a@b>",     "\"a@b",         "(a@b",
		"<a b@c>", "<@r:a@b>", "a@b <c@d>x",    "Alice <a@b",
		"<>",      "a@b\\",    "a@[1.2",        "Alice a@b",
		"<a@b>@c", "[a@b]",    ":a@b",          "a@b:c@d <e@f> g"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *got = addresses(rows[i]);
		if (strchr(got, '!') == NULL)
			fail_msg("%s gave %s", rows[i], got);
	}
}

static void every_prefix_is_read_without_going_past_it(void **state)
{
	static const char whole[] = "team: \"S, \\\"A\" (c (d)) <a@b>, x@[1.2]; (e) Bob <c@d>";
	char part[100];

	for (size_t n = 0; n < sizeof(whole); n++) {
		snprintf(part, sizeof(part), "%.*s", (int)n, whole);
		addresses(part);
	}
}

static bool in(const char *address, const char *list)
{
	return mailbox_in_list(text_of(address), text_of(list));
}

static void an_address_is_own_when_it_or_its_domain_is_listed(void **state)
{
	assert_true(in("a@x.y", "a@x.y"));
	assert_true(in("a@X.Y", "b@x.y,a@x.y"));
	assert_true(in("a@x.y", "@x.y"));
	assert_true(in("a@x.y", "c@d,@X.y"));
	assert_false(in("A@x.y", "a@x.y")); /* local parts are the owner's business */
	assert_false(in("a@x.y", ""));
	assert_false(in("a@x.y", ","));
	assert_false(in("a@x.y", "x.y"));
	assert_false(in("a@sub.x.y", "@x.y"));
	assert_false(in("a@ex.y", "@x.y"));
	assert_false(in("a", "a"));
	assert_false(in("", ""));
	assert_false(in("a@x.y", "a@x.yz"));
	/* the last @ counts */
	assert_false(in("\"@x.y\"@evil.z", "@x.y"));
	assert_true(in("\"q@evil.z\"@x.y", "@x.y"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(display_names_comments_and_groups_are_stepped_over),
		cmocka_unit_test(what_is_not_clearly_a_list_is_a_fault),
		cmocka_unit_test(every_prefix_is_read_without_going_past_it),
		cmocka_unit_test(an_address_is_own_when_it_or_its_domain_is_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
