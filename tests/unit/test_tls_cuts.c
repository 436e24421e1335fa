/* test_tls_cuts.c - handshakes and records divided, cut off and spoilt at every octet */
#include "tests/sim/random.h"
#include "tests/unit/tls_rig.h"

enum how { DIVIDED, CUT_OFF, SPOILT, WAYS };

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* The octets that wait to be sent, taken over. */
static struct bytes take_raw(struct peer *p)
{
	struct bytes b = p->raw;

	p->raw = (struct bytes){0};
	return b;
}

/* Sends them as the way says; the peer sends again by itself afterwards. */
static void send_cut(struct peer *p, struct bytes *b, size_t at, enum how how, uint64_t *random)
{
	p->held = false;
	peer_raw(p, b->at, at);
	mail_run(p->m, 1000);
	if (how == SPOILT)
		for (size_t i = at; i < b->n; i++)
			b->at[i] ^= (uint8_t)(1 + random_below(random, 255));
	if (how == CUT_OFF)
		peer_fin(p);
	else
		peer_raw(p, b->at + at, b->n - at);
}

/* A client whose flight (0: hello, 1: what ends the handshake) is cut at an octet.  false: the
 * flight is not so long. */
static bool cut_flight(struct mail *m, int version, unsigned flight, size_t at, enum how how)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
	uint64_t random = at + 1;

	p->held = true;
	peer_begin_tls(p, version, NULL);
	if (flight == 1) {
		p->held = false;
		peer_pump(p);
		mail_run(m, 0);
		p->held = true;
		mail_run(m, 10000);
	}
	struct bytes b = take_raw(p);
	bool longer = at < b.n;
	if (longer) {
		send_cut(p, &b, at, how, &random);
		if (how == DIVIDED) {
			peer_expect(p, "220");
		} else {
			mail_run(m, 61 * (uint64_t)MAIL_SECOND);
			if (!p->over && !p->eof)
				fail_msg("version %x flight %u at %zu way %d", version, flight, at,
					 how);
			if (strstr((char *)p->got.at, "220") != NULL)
				fail_msg("greeted: version %x flight %u at %zu way %d", version,
					 flight, at, how);
		}
	}
	free(b.at);
	peer_free(p);
	mail_run(m, 10000);
	return longer;
}

static void every_cut(unsigned flight, enum how how)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail *m = mail_create(NULL);
		size_t at = 1;
		m->tick_us = MAIL_SECOND;
		while (cut_flight(m, versions[v], flight, at, how))
			at++;
		assert_true(at > 40);
		assert_int_equal(mail_tls_count(m, tls_handshakes), how == DIVIDED ? at - 1 : 0);
		mail_destroy(m);
	}
}

static void a_hello_divided_anywhere_is_answered(void **state)
{
	every_cut(0, DIVIDED);
}

static void a_hello_cut_off_anywhere_ends_the_session(void **state)
{
	every_cut(0, CUT_OFF);
}

static void the_last_flight_divided_anywhere_is_answered(void **state)
{
	every_cut(1, DIVIDED);
}

static void the_last_flight_cut_off_anywhere_ends_the_session(void **state)
{
	every_cut(1, CUT_OFF);
}

static void the_last_flight_spoilt_from_anywhere_ends_the_session(void **state)
{
	every_cut(1, SPOILT);
}

/* Not every octet of a hello matters: a spoilt one may be answered, with another name or without
 * a ticket, but the transcripts differ then, so that no handshake ends well. */
static void a_hello_spoilt_from_anywhere_makes_no_session(void **state)
{
	every_cut(0, SPOILT);
}

static struct peer *logged_in(struct mail *m, int version)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	assert_true(peer_tls(p, version));
	peer_expect(p, "220");
	peer_cmd(p, "EHLO x");
	assert_int_equal(strncmp(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235", 3), 0);
	return p;
}

/* One record with a command, cut at an octet. */
static bool cut_record(struct mail *m, int version, size_t at, enum how how)
{
	struct peer *p = logged_in(m, version);
	uint64_t random = at + 1;
	uint64_t faults = mail_tls_count(m, tls_record_errors);
	uint64_t truncated = mail_tls_count(m, tls_truncated);

	size_t seen = p->got.n;
	p->held = true;
	peer_say(p, "NOOP\r\n");
	struct bytes b = take_raw(p);
	bool longer = at < b.n;
	if (longer) {
		send_cut(p, &b, at, how, &random);
		if (how == DIVIDED) {
			peer_expect(p, "250 2.0.0");
		} else {
			mail_run(m, 400 * (uint64_t)MAIL_SECOND);
			assert_true(p->over || p->eof);
			assert_null(strstr((char *)p->got.at + seen, "250 2.0.0"));
		}
		/* a spoilt length leaves a record that never ends: time ends it */
		if (how == CUT_OFF)
			assert_int_equal(mail_tls_count(m, tls_truncated), truncated + 1);
		if (how == SPOILT && at > 5)
			assert_int_equal(mail_tls_count(m, tls_record_errors), faults + 1);
	}
	free(b.at);
	peer_free(p);
	mail_run(m, 10000);
	return longer;
}

static void every_record_cut(enum how how)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail *m = mail_create(NULL);
		size_t at = 1;
		m->tick_us = MAIL_SECOND;
		while (cut_record(m, versions[v], at, how))
			at++;
		assert_true(at > 25);
		mail_destroy(m);
	}
}

static void a_record_divided_anywhere_is_read(void **state)
{
	every_record_cut(DIVIDED);
}

static void a_record_cut_off_anywhere_is_truncation_and_nothing_of_it_is_read(void **state)
{
	every_record_cut(CUT_OFF);
}

static void a_record_spoilt_anywhere_ends_the_session_and_nothing_of_it_is_read(void **state)
{
	every_record_cut(SPOILT);
}

static void records_that_come_together_are_read_one_by_one(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail *m = mail_create(NULL);
		struct peer *p = logged_in(m, versions[v]);
		p->held = true;
		for (unsigned i = 0; i < 200; i++)
			peer_say(p, "NOOP\r\n");
		p->held = false;
		peer_pump(p);
		for (unsigned i = 0; i < 200; i++)
			peer_expect(p, "250 2.0.0");
		mail_destroy(m);
	}
}

static void records_and_commands_may_be_cut_at_different_places(void **state)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = logged_in(m, TLS1_3_VERSION);

	for (unsigned i = 0; i < 20; i++)
		for (const char *c = "NOOP\r\n"; *c != '\0'; c++)
			peer_send(p, c, 1);
	for (unsigned i = 0; i < 20; i++)
		peer_expect(p, "250 2.0.0");
	mail_destroy(m);
}

/* The record that carries the end of data never comes whole; its length. */
static size_t cut_end_of_data(int version, size_t at)
{
	struct mail *m = mail_create(NULL);
	struct peer *p = logged_in(m, version);

	peer_envelope(p, "a@example.net", "b@example.org");
	peer_say(p, "DATA\r\n");
	peer_expect(p, "354");
	peer_say(p, "Subject: cut\r\n\r\ntext\r\n");
	mail_run(m, 10000);
	p->held = true;
	peer_say(p, ".\r\n");
	struct bytes b = take_raw(p);
	size_t n = b.n;
	p->held = false;
	peer_raw(p, b.at, at);
	peer_fin(p);
	mail_run(m, MAIL_SECOND);
	assert_int_equal(m->accepted, 0);
	assert_int_equal(spool_counters(m->spool)[spool_commits], 0);
	assert_int_equal(mail_tls_count(m, tls_truncated), 1);
	free(b.at);
	mail_destroy(m);
	return n;
}

static void an_end_of_data_cut_off_anywhere_commits_nothing(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		size_t at = 0;
		while (at + 1 < cut_end_of_data(versions[v], at))
			at++;
		assert_true(at > 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_divided_anywhere_is_answered),
		cmocka_unit_test(a_hello_cut_off_anywhere_ends_the_session),
		cmocka_unit_test(a_hello_spoilt_from_anywhere_makes_no_session),
		cmocka_unit_test(the_last_flight_divided_anywhere_is_answered),
		cmocka_unit_test(the_last_flight_cut_off_anywhere_ends_the_session),
		cmocka_unit_test(the_last_flight_spoilt_from_anywhere_ends_the_session),
		cmocka_unit_test(a_record_divided_anywhere_is_read),
		cmocka_unit_test(a_record_cut_off_anywhere_is_truncation_and_nothing_of_it_is_read),
		cmocka_unit_test(
			a_record_spoilt_anywhere_ends_the_session_and_nothing_of_it_is_read),
		cmocka_unit_test(records_that_come_together_are_read_one_by_one),
		cmocka_unit_test(records_and_commands_may_be_cut_at_different_places),
		cmocka_unit_test(an_end_of_data_cut_off_anywhere_commits_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
