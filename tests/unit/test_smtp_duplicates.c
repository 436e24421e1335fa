/* test_smtp_duplicates.c - a message submitted again because its 250 was lost is delivered once;
 * two messages are never taken for one */
#include "smtp/duplicate.h"
#include "tests/unit/mail_kit.h"

static const uint64_t minute = 60ull * MAIL_SECOND;

#define ID   "Message-ID: <1@example.net>\r\n"
#define BODY "From: a@example.net\r\n" ID "\r\nhello\r\n"

static struct mail *world(uint64_t duplicates_us)
{
	struct mail_options o;

	mail_options_default(&o);
	o.duplicates_us = duplicates_us;
	o.more_users = "bob";
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	return m;
}

static void a_message_that_comes_again_gets_the_first_ones_answer(void **state)
{
	struct mail *m = world(10 * minute);
	struct peer *p = peer_login(m);
	char first[200];

	data_with(p, "", BODY, "250 2.0.0 queued as ");
	snprintf(first, sizeof(first), "%.190s", p->reply);
	peer_free(p);
	p = peer_login(m);
	data_with(p, "", BODY, "250 2.0.0 queued as ");
	assert_string_equal(p->reply, first);
	/* by BDAT in pieces as well */
	envelope_with(p, "");
	bdat(p, BODY, 10, false, "250");
	bdat(p, &BODY[10], sizeof(BODY) - 11, true, "250");
	assert_string_equal(p->reply, first);
	assert_int_equal(m->accepted, 1);
	assert_int_equal(mail_smtp_count(m, smtp_duplicates), 2);
	/* the session goes on */
	expect_cmd(p, "NOOP", "250");
	mail_destroy(m);
}

static void the_one_whose_client_went_before_the_250_is_known(void **state)
{
	struct mail *m = world(10 * minute);
	struct peer *p = peer_login(m);

	envelope_with(p, "");
	expect_cmd(p, "DATA", "354");
	m->hold_spool = true;
	peer_say(p, BODY ".\r\n");
	mail_run(m, MAIL_SECOND);
	peer_reset(p);
	mail_run(m, MAIL_SECOND);
	m->hold_spool = false;
	mail_run(m, MAIL_SECOND);
	assert_int_equal(m->accepted, 1);
	p = peer_login(m);
	data_with(p, "", BODY, "250");
	assert_int_equal(m->accepted, 1);
	mail_destroy(m);
}

static void whatever_differs_makes_another_message(void **state)
{
	static const char *const contents[] = {
		BODY,
		"From: a@example.net\r\n" ID "\r\nhellp\r\n",
		"From: a@example.net\r\n" ID "\r\nhello\r\n\r\n",
		"From: a@example.net\r\nMessage-ID: <2@example.net>\r\n\r\nhello\r\n",
	};
	struct mail *m = world(10 * minute);
	struct peer *p = peer_login(m);

	for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++)
		data_with(p, "", contents[i], "250");
	assert_int_equal(m->accepted, 4);
	/* other recipients, or another order of them */
	static const char *const lines[][3] = {
		{"MAIL FROM:<alice@example.net>", "RCPT TO:<b@x.test>", "RCPT TO:<c@x.test>"},
		{"MAIL FROM:<alice@example.net>", "RCPT TO:<c@x.test>", "RCPT TO:<b@x.test>"},
		{"MAIL FROM:<alice@example.com>", "RCPT TO:<c@x.test>", "RCPT TO:<b@x.test>"},
	};
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned k = 0; k < 3; k++)
			expect_cmd(p, lines[i][k], "250");
		expect_cmd(p, "DATA", "354");
		expect_say(p, BODY ".\r\n", "250");
	}
	assert_int_equal(m->accepted, 7);
	/* another user */
	struct peer *q = peer_connect(m, MAIL_SUBMISSIONS);
	assert_true(peer_tls(q, 0));
	peer_expect(q, "220");
	expect_cmd(q, "EHLO x", "250");
	expect_cmd(q, "AUTH PLAIN AGJvYgBzZWNyZXQ=", "235");
	data_with(q, "", BODY, "250");
	assert_int_equal(m->accepted, 8);
	assert_int_equal(mail_smtp_count(m, smtp_duplicates), 0);
	mail_destroy(m);
}

static void messages_without_an_id_of_their_own_are_never_duplicates(void **state)
{
	struct mail *m = world(10 * minute);
	struct peer *p = peer_login(m);

	for (unsigned i = 0; i < 3; i++)
		data_with(p, "", "From: cron@example.net\r\n\r\ndisk full\r\n", "250");
	assert_int_equal(m->accepted, 3);
	mail_destroy(m);
}

static void the_window_ends_and_without_one_nothing_is_looked_for(void **state)
{
	struct mail *m = world(minute);
	struct peer *p = peer_login(m);

	data_with(p, "", BODY, "250");
	mail_run(m, minute + MAIL_SECOND);
	data_with(p, "", BODY, "250");
	assert_int_equal(m->accepted, 2);
	mail_destroy(m);
	m = world(0);
	p = peer_login(m);
	data_with(p, "", BODY, "250");
	data_with(p, "", BODY, "250");
	assert_int_equal(m->accepted, 2);
	mail_destroy(m);
}

static void what_was_not_stored_is_no_duplicate(void **state)
{
	struct mail *m = world(10 * minute);
	struct peer *p = peer_login(m);

	disk_faults(m->disk)->nth[DISK_SYNC] = 1;
	data_with(p, "", BODY, "451 4.3.0");
	data_with(p, "", BODY, "250");
	assert_int_equal(m->accepted, 1);
	mail_destroy(m);
}

static void a_large_message_is_known_and_its_second_body_is_dropped(void **state)
{
	enum { LARGE = 300000 };
	char *body = malloc(LARGE + 1);
	struct mail *m = world(10 * minute);
	struct peer *p = peer_login(m);

	memset(body, 'x', LARGE);
	body[LARGE] = '\0';
	memcpy(body, BODY, sizeof(BODY) - 1);
	for (size_t i = 200; i + 2 < LARGE; i += 72)
		memcpy(body + i, "\r\n", 2);
	memcpy(body + LARGE - 2, "\r\n", 2);
	data_with(p, "", body, "250");
	data_with(p, "", body, "250");
	assert_int_equal(m->accepted, 1);
	body[LARGE - 5]++;
	data_with(p, "", body, "250");
	assert_int_equal(m->accepted, 2);
	mail_destroy(m);
	free(body);
}

static void the_table_forgets_its_oldest(void **state)
{
	struct duplicates *d = duplicates_create(16);
	uint8_t name[DIGEST_BYTES] = {0};
	spool_id_t id;

	for (unsigned i = 1; i <= 100; i++) {
		name[31] = (uint8_t)i;
		duplicates_note(d, name, i, 0, 1000 + i);
		assert_true(duplicates_find(d, name, 0, &id) && id == i);
	}
	name[31] = 1;
	assert_false(duplicates_find(d, name, 0, &id));
	name[31] = 100;
	assert_false(duplicates_find(d, name, 1100, &id));
	duplicates_destroy(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_that_comes_again_gets_the_first_ones_answer),
		cmocka_unit_test(the_one_whose_client_went_before_the_250_is_known),
		cmocka_unit_test(whatever_differs_makes_another_message),
		cmocka_unit_test(messages_without_an_id_of_their_own_are_never_duplicates),
		cmocka_unit_test(the_window_ends_and_without_one_nothing_is_looked_for),
		cmocka_unit_test(what_was_not_stored_is_no_duplicate),
		cmocka_unit_test(a_large_message_is_known_and_its_second_body_is_dropped),
		cmocka_unit_test(the_table_forgets_its_oldest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
