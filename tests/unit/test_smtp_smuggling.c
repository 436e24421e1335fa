/* test_smtp_smuggling.c - one message stays one message, whatever its octets look like: in at the
 * session, out at the next hop */
#include "tests/unit/relay_kit.h"

#define HEAD "From: a@x.y\r\n\r\nfirst"
#define EVIL                                                                             \
	"MAIL FROM:<evil@x.y>\r\nRCPT TO:<victim@x.y>\r\nDATA\r\nFrom: evil@x.y\r\n\r\n" \
	"second\r\n.\r\n"

struct octets {
	const char *at;
	size_t n;
};
#define OCTETS(s)                \
	{                        \
		s, sizeof(s) - 1 \
	}

/* What some server or other takes for a line end, or used to. */
static const struct octets before_dot[] = {
	OCTETS("\n"),           OCTETS("\r"),     OCTETS("\r\r"),   OCTETS("\n\r"),
	OCTETS("\r\r\n"),       OCTETS("\r\n\0"), OCTETS("\0\r\n"), OCTETS("\r\0\n"),
	OCTETS("\n\n"),         OCTETS("\v"),     OCTETS("\f"),     OCTETS("\x85"),
	OCTETS("\r\n"),         OCTETS("\r\n\t"), OCTETS("\n\r\n"), OCTETS("\xc2\x85"),
	OCTETS("\xe2\x80\xa8"), OCTETS("\0")};
static const struct octets behind_dot[] = {
	OCTETS("\n"),     OCTETS("\r"),     OCTETS("\r\r"),  OCTETS("\n\r"),   OCTETS("\r\r\n"),
	OCTETS("\r\0\n"), OCTETS("\0\r\n"), OCTETS(" \r\n"), OCTETS("\t\r\n"), OCTETS("\r\n"),
	OCTETS("\n\n"),   OCTETS("\x85"),   OCTETS("\v\n"),  OCTETS("\0")};
enum {
	BEFORE = sizeof(before_dot) / sizeof(before_dot[0]),
	BEHIND = sizeof(behind_dot) / sizeof(behind_dot[0]),
};

static size_t build(char *out, const struct octets *left, const struct octets *right)
{
	size_t n = (size_t)sprintf(out, "%s", HEAD);

	memcpy(out + n, left->at, left->n);
	n += left->n;
	out[n++] = '.';
	memcpy(out + n, right->at, right->n);
	n += right->n;
	return n + (size_t)sprintf(out + n, "%s", EVIL);
}

/* The end that RFC 5321 knows: here two messages are right, and the test can see them. */
static bool is_end(const struct octets *left, const struct octets *right)
{
	return left->n >= 2 && memcmp(left->at + left->n - 2, "\r\n", 2) == 0 && right->n == 2 &&
	       memcmp(right->at, "\r\n", 2) == 0;
}

static bool is_doubtful(const struct octets *left)
{
	return left->n >= 3 && memcmp(left->at + left->n - 3, "\r\r\n", 3) == 0;
}

static unsigned messages_of(struct bench *b, const char *octets, size_t n)
{
	struct peer *p = peer_login(b->m);
	unsigned before = b->m->accepted;

	expect_cmd(p, "MAIL FROM:<a@x.y> BODY=8BITMIME", "250");
	expect_cmd(p, "RCPT TO:<b@x.y>", "250");
	expect_cmd(p, "DATA", "354");
	peer_send(p, octets, n);
	mail_run(b->m, MAIL_SECOND);
	peer_free(p);
	mail_run(b->m, MAIL_SECOND);
	return b->m->accepted - before;
}

static void check_pair(struct bench *b, unsigned i, bool normalize)
{
	const struct octets *left = &before_dot[i / BEHIND], *right = &behind_dot[i % BEHIND];
	bool end = is_end(left, right) && !is_doubtful(left);
	char text[500];
	size_t n = build(text, left, right);

	hop_forget(b->h);
	unsigned got = messages_of(b, text, n), victims = hop_recipient(b->h, "victim@x.y");
	bool fine = end ? got >= 1 && victims == 1 : got <= 1 && victims == 0;
	/* what was taken is one mail at the hop as well, with all of the octets in it */
	if (!end && got == 1)
		fine = fine && b->h->n_mails == 1 && hop_count(b->h, "MAIL FROM:<evil") == 1;
	if (!fine)
		fail_msg("normalize %u, pair %u and %u: %u messages, %u to the victim", normalize,
			 i / BEHIND, i % BEHIND, got, victims);
}

static void no_end_of_data_but_the_one_makes_a_second_message(void **state)
{
	for (unsigned normalize = 0; normalize < 2; normalize++) {
		struct mail_options o;
		mail_options_default(&o);
		o.policy.normalize = normalize;
		struct bench b = bench_with(&o);
		for (unsigned i = 0; i < BEFORE * BEHIND; i++)
			check_pair(&b, i, normalize);
		bench_end(&b);
	}
}

/* CR CR LF . CR LF is the end by the letter; a sender that wrote it may see none there, so its
 * message is refused and what follows is not even read. */
static void an_end_behind_cr_cr_lf_refuses_the_message_and_ends_the_session(void **state)
{
	struct bench b = bench();
	struct peer *p = peer_login(b.m);

	envelope_with(p, "");
	expect_cmd(p, "DATA", "354");
	peer_say(p, HEAD "\r\r\n.\r\n" EVIL);
	peer_expect(p, "550 5.6.0");
	peer_expect(p, "421 4.7.0");
	assert_true(peer_ended(p));
	assert_int_equal(b.m->accepted, 0);
	assert_int_equal(mail_smtp_count(b.m, smtp_doubtful_end), 1);
	bench_end(&b);
}

/* As BDAT takes them: by DATA the dot is doubled or the message returned, by BDAT it is as it was.
 */
static void chunked_content_never_ends_data_at_the_next_hop(void **state)
{
	for (unsigned binary = 0; binary < 2; binary++) {
		for (unsigned chunking = 0; chunking < 2; chunking++) {
			struct bench b = bench();
			b.h->chunking = chunking;
			b.h->offers = "250-BINARYMIME\r\n";
			for (unsigned i = 0; i < BEFORE * BEHIND; i++) {
				char text[500];
				size_t n = build(text, &before_dot[i / BEHIND],
						 &behind_dot[i % BEHIND]);
				struct peer *p = peer_login(b.m);
				hop_forget(b.h);
				envelope_with(p, binary ? "BODY=BINARYMIME" : "BODY=8BITMIME");
				bdat(p, text, n, true, "");
				mail_run(b.m, 2 * MAIL_SECOND);
				peer_free(p);
				/* one mail: the message, or the report of its return */
				if (b.h->n_mails > 1 || hop_recipient(b.h, "victim@x.y") > 0)
					fail_msg("binary %u, chunking %u, pair %u", binary,
						 chunking, i);
				if (binary && !chunking)
					assert_int_equal(hop_count(b.h, "Status: 5.6.3"), 1);
			}
			bench_end(&b);
		}
	}
}

static void text_sent_after_a_refused_data_ends_the_session_before_it_is_obeyed(void **state)
{
	static const char *const refused[] = {
		"MAIL FROM:<a@x.y>\r\nDATA\r\n", /* 554 */
		"DATA\r\n",                      /* 503 */
		"MAIL FROM:<a@x.y> BODY=BINARYMIME\r\nRCPT TO:<b@x.y>\r\nDATA\r\n"};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct bench b = bench();
		struct peer *p = peer_login(b.m);
		peer_say(p, refused[i]);
		peer_say(p, "From: a@x.y\r\n\r\n.\r\n" EVIL);
		assert_true(peer_ended(p));
		assert_int_equal(b.m->accepted, 0);
		assert_non_null(strstr((const char *)p->got.at, "\r\n421 4.7.0"));
		assert_int_equal(mail_smtp_count(b.m, smtp_data_as_commands), 1);
		bench_end(&b);
	}
}

static void a_command_after_a_refused_data_is_a_command(void **state)
{
	struct bench b = bench();
	struct peer *p = peer_login(b.m);

	expect_cmd(p, "DATA", "503");
	expect_cmd(p, "NOOP", "250");
	expect_cmd(p, "FROB", "500");
	expect_cmd(p, "MAIL FROM:<a@x.y>", "250");
	expect_cmd(p, "DATA", "554");
	expect_cmd(p, "RCPT TO:<b@x.y>", "250");
	expect_cmd(p, "DATA", "354");
	expect_say(p, TEXT ".\r\n", "250");
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_end_of_data_but_the_one_makes_a_second_message),
		cmocka_unit_test(an_end_behind_cr_cr_lf_refuses_the_message_and_ends_the_session),
		cmocka_unit_test(chunked_content_never_ends_data_at_the_next_hop),
		cmocka_unit_test(
			text_sent_after_a_refused_data_ends_the_session_before_it_is_obeyed),
		cmocka_unit_test(a_command_after_a_refused_data_is_a_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
