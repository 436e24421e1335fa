/* test_smtp_cuts.c - however the octets of a session are cut into pieces, its replies and what it
 * stores are the same */
#include "tests/sim/random.h"
#include "tests/sim/transcript.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct {
	const char *at;
	size_t n;
} sessions[] = {
#define SESSION(s)               \
	{                        \
		s, sizeof(s) - 1 \
	}
	SESSION("MAIL FROM:<a@x.y> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=a+2Bb\r\n"
		"RCPT TO:<b@x.y> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+40y\r\nRCPT TO:<bad\r\n"
		"DATA\r\nFrom: a@x.y\r\n\r\n..dot\r\n.\r\nNOOP\r\nQUIT\r\n"),
	SESSION("MAIL FROM:<a@x.y> SMTPUTF8 MT-PRIORITY=3\r\nRCPT TO:<\xc3\xa4@x.y>\r\n"
		"BDAT 15\r\nFrom: \xc3\xa4@x.y\r\nBDAT 0\r\nBDAT 9 LAST\r\n\r\n.\r\nQUIT\r\n"
		"MAIL FROM:<\xe4@x.y>\r\nVRFY\r\nHELP\r\n"),
	SESSION("MAIL FROM:<a@x.y> BODY=BINARYMIME\r\nRCPT TO:<b@x.y>\r\nDATA\r\nBDAT 20 LAST\r\n"
		"Subject: x\r\n\r\n\n.\r\n\0\r"
		"BDAT 6 LAST\r\nRSET\r\nMAIL FROM:<a@x.y>\r\nBDAT 4\r\nQUITRSET\r\nNOOP\r\n"),
	SESSION("MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nBDAT 8\r\na: b\r\nx\nBDAT 5\r\nxxxxx"
		"DATA\r\nRSET\r\nMAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nBDAT 4 LAST\r\nab\r\r"
		"BDAT x\r\nQUIT\r\n"),
	SESSION("MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nDATA\r\nBcc: x@y\r\n z@y\r\nBc: k\r\n"
		"From: a@x.y\r\nDate: x\r\n\r\nBcc: b\r\n.x\r\n.\r\nMAIL FROM:<> HOLDFOR=60\r\n"
		"RCPT TO:<b@x.y>\r\nDATA\r\nFrom: a@b\r\nFrom: c@d\r\n\r\n.\r\nFROB\r\n"),
	SESSION("MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nDATA\r\nFrom: a@x.y\nTo: b\n\nline\n.\n"
		"..more\r\n..x\r\n.\r\nRCPT TO:<b@x.y>\r\nBDAT 3 LAST FOO\r\nabcNOOP x\nNOOP\r\n"),
	SESSION("DATA\r\nFrom: a@x.y\r\n\r\nMAIL FROM:<evil@x.y>\r\n.\r\n"),
	SESSION("MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nDATA\r\na: b\r\r\n.\r\nMAIL "
		"FROM:<a@x.y>\r\n"),
	SESSION("EHLO y\r\nSTARTTLS x\r\nMAIL FROM:<a@x.y> FROB=1\r\nMAIL FROM:<a@x.y> SIZE=x\r\n"
		"MAIL FROM:<a@x.y> SIZE=99999999\r\nRSET\r\nHELO z\r\nMAIL FROM:<a@x.y> SIZE=1\r\n"
		"MAIL FROM:<a@x.y>\r\nBDAT 2\r\nxxRSET\r\nMAIL FROM:<a@x.y>\r\nRCPT "
		"TO:<c@x.y>\r\nDATA\r\nonly body\r\n.\r\n"),
	SESSION("EHLO y\r\nSTARTTLS\r\nMAIL FROM:<a@x.y>\r\n"),
};
enum { SESSIONS = sizeof(sessions) / sizeof(sessions[0]) };

static struct mail *begin(void)
{
	struct mail_options o;

	mail_options_default(&o);
	o.policy.normalize = o.policy.remove_bcc = true;
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	return m;
}

static void expect_same(const struct bytes *a, const struct bytes *b, const char *how,
			unsigned session, uint64_t value)
{
	if (a->n == b->n && memcmp(a->at, b->at, a->n) == 0)
		return;
	fail_msg("session %u, %s %llu:\n%.*s\n--- instead of\n%.*s", session, how,
		 (unsigned long long)value, (int)b->n, (const char *)b->at, (int)a->n,
		 (const char *)a->at);
}

/* STARTTLS is about what comes with it: there timing is the matter (test_smtp_session). */
static bool about_time(unsigned i)
{
	return i == SESSIONS - 1;
}

static size_t two_pieces(void *arg, size_t left)
{
	size_t *first = arg, n = *first;

	*first = 0;
	return n;
}

static void a_session_cut_in_two_anywhere_is_the_same_session(void **state)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct mail *m = begin();
		struct bytes whole = transcript_run(m, sessions[i].at, sessions[i].n, NULL, NULL);
		for (size_t at = 1; at < sessions[i].n && !about_time(i); at++) {
			size_t first = at;
			struct bytes cut = transcript_run(m, sessions[i].at, sessions[i].n,
							  two_pieces, &first);
			expect_same(&whole, &cut, "cut at", i, at);
			free(cut.at);
		}
		free(whole.at);
		mail_destroy(m);
	}
}

static size_t one_octet(void *arg, size_t left)
{
	return 1;
}

static void a_session_octet_by_octet_is_the_same_session(void **state)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct mail *m = begin();
		struct bytes whole = transcript_run(m, sessions[i].at, sessions[i].n, NULL, NULL);
		struct bytes cut =
			transcript_run(m, sessions[i].at, sessions[i].n, one_octet, NULL);
		if (!about_time(i))
			expect_same(&whole, &cut, "octet by octet", i, 1);
		free(whole.at);
		free(cut.at);
		mail_destroy(m);
	}
}

static size_t random_piece(void *arg, size_t left)
{
	uint64_t *r = arg;

	return 1 + random_below(r, random_below(r, 4) == 0 ? 60 : 8);
}

static void a_session_in_random_pieces_is_the_same_session(void **state)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct mail *m = begin();
		struct bytes whole = transcript_run(m, sessions[i].at, sessions[i].n, NULL, NULL);
		for (uint64_t seed = 1; seed <= 40 && !about_time(i); seed++) {
			uint64_t r = seed;
			struct bytes cut =
				transcript_run(m, sessions[i].at, sessions[i].n, random_piece, &r);
			expect_same(&whole, &cut, "seed", i, seed);
			free(cut.at);
		}
		free(whole.at);
		mail_destroy(m);
	}
}

/* The sessions above are worth cutting: they end in messages and in refusals. */
static void the_sessions_store_and_refuse(void **state)
{
	static const unsigned stored[SESSIONS] = {1, 1, 1, 0, 1, 1, 0, 0, 1, 0};

	for (unsigned i = 0; i < SESSIONS; i++) {
		struct mail *m = begin();
		struct bytes whole = transcript_run(m, sessions[i].at, sessions[i].n, NULL, NULL);
		if (m->accepted != stored[i])
			fail_msg("session %u stored %u:\n%.*s", i, m->accepted, (int)whole.n,
				 (const char *)whole.at);
		free(whole.at);
		mail_destroy(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sessions_store_and_refuse),
		cmocka_unit_test(a_session_cut_in_two_anywhere_is_the_same_session),
		cmocka_unit_test(a_session_octet_by_octet_is_the_same_session),
		cmocka_unit_test(a_session_in_random_pieces_is_the_same_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
