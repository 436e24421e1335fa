/* test_smtp_chunking.c - BDAT and BINARYMIME (RFC 3030): every chunk is consumed and answered once,
 * whatever becomes of it */
#include "tests/sim/random.h"
#include "tests/unit/mail_kit.h"

static const char TEXT[] = "Subject: x\r\n\r\n.dot\r\n";

static struct mail *begin(struct peer **p)
{
	struct mail *m = mail_create(NULL);

	m->hold_relay = true;
	*p = peer_login(m);
	return m;
}

static void chunks_of_any_size_make_one_message(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);
	size_t n = strlen(TEXT);

	for (size_t size = 1; size <= n; size++) {
		envelope_with(p, "");
		for (size_t at = 0; at < n; at += size) {
			size_t piece = n - at < size ? n - at : size;
			bool last = at + piece == n;
			bdat(p, &TEXT[at], piece, last, last ? "250 2.0.0 queued" : "250 2.0.0 ");
		}
		stored_text(m, TEXT);
	}
	assert_int_equal(m->accepted, n);
	mail_destroy(m);
}

static void a_dot_is_an_octet_like_any_other_and_ends_nothing(void **state)
{
	static const char text[] = "a: b\r\n\r\n.\r\n..\r\nMAIL FROM:<x@y.z>\r\n.\r\n";
	struct peer *p;
	struct mail *m = begin(&p);

	envelope_with(p, "");
	bdat(p, text, sizeof(text) - 1, true, "250 2.0.0 queued");
	stored_text(m, text);
	expect_cmd(p, "NOOP", "250");
	mail_destroy(m);
}

static void an_empty_chunk_is_answered_and_may_be_the_last(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	envelope_with(p, "");
	bdat(p, "", 0, false, "250 2.0.0 0 octets");
	bdat(p, TEXT, strlen(TEXT), false, "250 2.0.0 20 octets");
	bdat(p, "", 0, true, "250 2.0.0 queued");
	stored_text(m, TEXT);
	/* and all of a message */
	envelope_with(p, "");
	bdat(p, "", 0, true, "250 2.0.0 queued");
	assert_int_equal(m->accepted, 2);
	mail_destroy(m);
}

static void a_pipelined_message_gets_its_replies_in_order_and_one_for_each(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	peer_say(p, "MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nBDAT 6\r\na: b\r\nBDAT 0\r\nBDAT 4 "
		    "LAST\r\n"
		    "\r\nc\r"
		    "NOOP\r\n");
	/* the CR at the very end of the message stands alone */
	peer_expect(p, "250 2.1.0");
	peer_expect(p, "250 2.1.5");
	peer_expect(p, "250 2.0.0 6 octets");
	peer_expect(p, "250 2.0.0 6 octets");
	peer_expect(p, "550 5.6.0");
	peer_expect(p, "250 2.0.0 ok");
	assert_int_equal(m->accepted, 0);
	mail_destroy(m);
}

/* In every state in which BDAT is refused its octets look like commands, and are none. */
static void a_refused_chunk_is_consumed_and_its_octets_are_no_commands(void **state)
{
	static const struct {
		const char *before, *reply;
		unsigned replies; /* of before */
	} states[] = {
		{"", "503 5.5.1", 0},
		{"MAIL FROM:<a@x.y>\r\n", "554 5.5.1", 1},
		{"MAIL FROM:<a@x.y>\r\nRCPT TO:<bad\r\n", "554 5.5.1", 2},
		{"MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nBDAT 2 LAST\r\na:", "503 5.5.1", 3},
	};
	static const char evil[] = "RSET\r\nMAIL FROM:<evil@x.y>\r\nQUIT\r\n";

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		for (unsigned last = 0; last < 2; last++) {
			struct peer *p;
			struct mail *m = begin(&p);
			peer_say(p, states[i].before);
			for (unsigned k = 0; k < states[i].replies; k++)
				peer_reply(p);
			bdat(p, evil, sizeof(evil) - 1, last, states[i].reply);
			expect_cmd(p, "NOOP", "250 2.0.0 ok");
			assert_int_equal(mail_smtp_count(m, smtp_chunks_discarded), 1);
			mail_destroy(m);
		}
	}
}

static void a_chunk_before_login_is_consumed_within_the_deadline(void **state)
{
	struct mail *m = mail_create(NULL);

	for (unsigned tls = 0; tls < 2; tls++) {
		struct peer *p = peer_connect(m, tls ? MAIL_SUBMISSIONS : MAIL_SUBMISSION);
		if (tls)
			assert_true(peer_tls(p, 0));
		peer_expect(p, "220");
		expect_cmd(p, "EHLO x", "250");
		assert_non_null(strstr(p->reply, "CHUNKING"));
		bdat(p, "RSET\r\n", 6, true, "530 5.7.0");
		expect_cmd(p, "NOOP", "250");
		peer_say(p, "BDAT 99999999999 LAST\r\n");
		uint64_t before = m->shard->now_us;
		while (!p->eof && !p->over && m->shard->now_us - before < 900ull * MAIL_SECOND) {
			peer_say(p, "0123456789abcdef0123456789abcdef");
			mail_run(m, MAIL_SECOND);
		}
		peer_expect(p, "421 4.4.2");
		assert_true(m->shard->now_us - before <= 62ull * MAIL_SECOND);
		peer_free(p);
	}
	mail_destroy(m);
}

static void after_a_refused_chunk_the_rest_of_the_message_is_refused_too(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	envelope_with(p, "");
	bdat(p, "a: b\r\n", 6, false, "250");
	bdat(p, "x\ny\r\n", 5, false, "550 5.6.0");
	bdat(p, "QUIT\r\n", 6, false, "503 5.5.1");
	expect_cmd(p, "RCPT TO:<c@x.y>", "503 5.5.1");
	expect_cmd(p, "DATA", "503 5.5.1");
	expect_cmd(p, "MAIL FROM:<a@x.y>", "503 5.5.1");
	bdat(p, "QUIT\r\n", 6, true, "503 5.5.1");
	/* the last chunk ended it */
	envelope_with(p, "");
	bdat(p, "x\ny\r\n", 5, false, "550 5.6.0");
	expect_cmd(p, "RSET", "250");
	envelope_with(p, "");
	bdat(p, TEXT, strlen(TEXT), true, "250 2.0.0 queued");
	stored_text(m, TEXT);
	assert_int_equal(m->accepted, 1);
	mail_destroy(m);
}

static void commands_that_may_not_follow_a_chunk_are_503_and_harm_nothing(void **state)
{
	static const char *const refused[] = {"DATA", "RCPT TO:<c@x.y>", "MAIL FROM:<a@x.y>",
					      "AUTH PLAIN x", "STARTTLS"};
	struct peer *p;
	struct mail *m = begin(&p);

	envelope_with(p, "");
	bdat(p, TEXT, 5, false, "250");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		expect_cmd(p, refused[i], "503 5.5.1");
	expect_cmd(p, "NOOP", "250");
	expect_cmd(p, "VRFY x", "252");
	bdat(p, &TEXT[5], strlen(TEXT) - 5, true, "250 2.0.0 queued");
	stored_text(m, TEXT);
	/* BDAT after LAST needs a new MAIL */
	bdat(p, TEXT, strlen(TEXT), true, "503 5.5.1");
	mail_destroy(m);
}

static void rset_and_ehlo_between_chunks_forget_the_message(void **state)
{
	static const char *const resets[] = {"RSET", "EHLO again", "HELO again"};
	static char block[200000];
	struct peer *p;
	struct mail *m = begin(&p);

	memset(block, 'x', sizeof(block));
	for (size_t i = 0; i < sizeof(block); i += 80)
		memcpy(block + i, "\r\n", 2);
	for (unsigned large = 0; large < 2; large++) {
		for (size_t i = 0; i < 3; i++) {
			expect_cmd(p, "EHLO x", "250");
			envelope_with(p, "");
			bdat(p, block, large ? sizeof(block) : 100, false, "250");
			expect_cmd(p, resets[i], "250");
			bdat(p, block, 10, true, i == 2 ? "502" : "503");
		}
	}
	expect_cmd(p, "EHLO x", "250");
	envelope_with(p, "");
	bdat(p, TEXT, strlen(TEXT), true, "250 2.0.0 queued");
	stored_text(m, TEXT);
	mail_destroy(m);
}

/* Where the number of octets cannot be read, what follows cannot be told from commands. */
static void a_chunk_without_a_readable_size_ends_the_session(void **state)
{
	static const char *const lines[] = {"BDAT",
					    "BDAT x",
					    "BDAT -1",
					    "BDAT 1x LAST",
					    "BDAT +5",
					    "BDAT LAST",
					    "BDAT 123456789012345678901",
					    "BDAT 99999999999999999999 LAST"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct peer *p;
		struct mail *m = begin(&p);
		envelope_with(p, "");
		peer_say(p, lines[i]);
		peer_say(p, "\r\nRSET\r\nMAIL FROM:<evil@x.y>\r\n");
		peer_expect(p, "421 4.7.0");
		assert_true(peer_ended(p));
		mail_destroy(m);
	}
}

static void trailing_words_are_refused_after_the_octets(void **state)
{
	struct peer *p;
	struct mail *m = begin(&p);

	envelope_with(p, "");
	expect_say(p, "BDAT 6 FIRST\r\nRSET\r\n", "501 5.5.4");
	expect_cmd(p, "RSET", "250");
	envelope_with(p, "");
	expect_say(p, "BDAT 6 LAST x\r\nRSET\r\n", "501 5.5.4");
	expect_cmd(p, "NOOP", "250 2.0.0 ok");
	mail_destroy(m);
}

static void size_counts_octets_and_is_enforced_over_chunks(void **state)
{
	struct mail_options o;
	char block[1000];

	memset(block, '.', sizeof(block));
	memcpy(block, "a: b\r\n\r\n", 8);
	mail_options_default(&o);
	o.smtp.max_message_size = 1000;
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = peer_login(m);
	envelope_with(p, "");
	bdat(p, block, 999, false, "250 2.0.0 999 octets");
	bdat(p, block, 1, true, "250 2.0.0 queued");
	envelope_with(p, "");
	bdat(p, block, 999, false, "250");
	bdat(p, block, 2, false, "552 5.3.4");
	bdat(p, block, 1, true, "503");
	envelope_with(p, "");
	bdat(p, block, 1000, false, "250");
	bdat(p, block, 1, true, "552 5.3.4");
	expect_cmd(p, "MAIL FROM:<a@x.y> SIZE=1000", "250");
	assert_int_equal(mail_smtp_count(m, smtp_message_too_big), 2);
	mail_destroy(m);
}

static void lone_cr_lf_and_nul_are_refused_unless_the_body_is_binary(void **state)
{
	static const struct {
		const char *text;
		size_t n;
	} bodies[] = {{"a: b\r\n\r\nx\ny\r\n", 13}, {"a: b\r\n\r\nx\ry\r\n", 13},
		      {"a: b\r\n\r\nx\0y\r\n", 13}, {"a: b\r\n\r\nx\r\r\n", 12},
		      {"a: b\r\n\r\n\n.\n", 11},    {"a: b\r\n\r\n\r", 9}};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct peer *p;
		struct mail *m = begin(&p);
		char out[2000];
		envelope_with(p, "BODY=8BITMIME");
		bdat(p, bodies[i].text, bodies[i].n, true, "550 5.6.0");
		envelope_with(p, "BODY=BINARYMIME");
		bdat(p, bodies[i].text, bodies[i].n, true, "250 2.0.0 queued");
		stored(m, out, sizeof(out), bodies[i].text, bodies[i].n);
		assert_int_equal(stored_envelope(m, NULL)->body, ENVELOPE_BINARY);
		mail_destroy(m);
	}
}

static void a_binary_message_still_has_a_header_of_lines(void **state)
{
	static const char *const headers[] = {"a: b\nc: d\r\n\r\nx", "a: b\rc\r\n\r\nx",
					      "a\n\r\n\r\n"};
	struct peer *p;
	struct mail *m = begin(&p);

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		envelope_with(p, "BODY=BINARYMIME");
		bdat(p, headers[i], strlen(headers[i]), true, "550 5.6.0");
	}
	envelope_with(p, "BODY=BINARYMIME");
	expect_cmd(p, "DATA", "503 5.5.1");
	bdat(p, TEXT, strlen(TEXT), true, "250 2.0.0 queued");
	mail_destroy(m);
}

static void binarymime_is_offered_and_taken_only_with_chunking(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.extensions &= ~SMTP_EXT_BIT(CHUNKING);
	struct mail *m = mail_create(&o);
	struct peer *p = peer_login(m);
	expect_cmd(p, "EHLO x", "250");
	assert_null(strstr(p->reply, "CHUNKING"));
	assert_null(strstr(p->reply, "BINARYMIME"));
	expect_cmd(p, "MAIL FROM:<a@x.y> BODY=BINARYMIME", "555 5.5.4");
	envelope_with(p, "");
	bdat(p, "RSET\r\n", 6, false, "502 5.5.1");
	expect_cmd(p, "NOOP", "250 2.0.0 ok");
	mail_destroy(m);
}

static void a_large_message_in_chunks_is_stored_octet_by_octet(void **state)
{
	enum { ALL = 1 << 20 };
	char *sent = malloc(ALL), *got = malloc(ALL + 2000);

	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct peer *p;
		struct mail *m = begin(&p);
		uint64_t r = seed;
		size_t n = (size_t)sprintf(sent, "a: b\r\n\r\n"), at = 0;
		while (n < ALL)
			sent[n++] = (char)random_below(&r, 256);
		envelope_with(p, "BODY=BINARYMIME");
		while (at < n) {
			size_t piece = random_below(&r, 3) == 0 ? random_below(&r, 10)
								: random_below(&r, 200000);
			piece = piece < n - at ? piece : n - at;
			bdat(p, sent + at, piece, false, "250 2.0.0 ");
			at += piece;
		}
		bdat(p, "", 0, true, "250 2.0.0 queued");
		stored(m, got, ALL + 2000, sent, n);
		mail_destroy(m);
	}
	free(sent);
	free(got);
}

static void a_session_that_ends_inside_a_chunk_leaves_nothing(void **state)
{
	for (unsigned large = 0; large < 2; large++) {
		struct peer *p;
		struct mail *m = begin(&p);
		envelope_with(p, "");
		peer_say(p, "BDAT 1000000 LAST\r\na: b\r\n\r\n");
		for (unsigned i = 0; large && i < 3000; i++)
			peer_say(p, "0123456789012345678901234567890123456789\r\n");
		mail_run(m, MAIL_SECOND);
		if (large)
			peer_fin(p);
		else
			peer_reset(p);
		mail_run(m, MAIL_SECOND);
		assert_int_equal(smtp_sessions_open(m->smtp), 0);
		assert_int_equal(mail_smtp_count(m, smtp_message_aborted), 1);
		assert_int_equal(m->accepted, 0);
		mail_destroy(m);
	}
}

static char *block_of(size_t n)
{
	char *block = malloc(n);

	memset(block, 'x', n);
	memcpy(block, "a: b\r\n\r\n", 8);
	for (size_t i = 80; i + 2 < n; i += 80)
		memcpy(block + i, "\r\n", 2);
	return block;
}

/* Chunks that wait for their successors must not keep memory from those who could go on. */
static void few_buffers_mean_back_pressure_and_no_deadlock(void **state)
{
	enum { SENDERS = 10, PIECE = 50000, PIECES = 6 };
	char *block = block_of(PIECE);

	for (size_t pool = 1 << 20; pool <= 3 << 20; pool += 1 << 20) {
		struct mail_options o;
		struct peer *p[SENDERS];
		mail_options_default(&o);
		o.net.chunk_bytes = pool;
		o.net.chunk_bytes_of_0 = 16 << 20;
		struct mail *m = mail_create(&o);
		m->hold_relay = true;
		for (unsigned i = 0; i < SENDERS; i++)
			p[i] = peer_login(m);
		for (unsigned k = 0; k < PIECES; k++) {
			for (unsigned i = 0; i < SENDERS; i++) {
				if (k == 0)
					peer_say(p[i], "MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\n");
				peer_say(p[i],
					 k + 1 < PIECES ? "BDAT 50000\r\n" : "BDAT 50000 LAST\r\n");
				peer_send(p[i], block, PIECE);
			}
		}
		for (unsigned i = 0; i < SENDERS; i++) {
			for (unsigned k = 0; k < PIECES + 2; k++)
				peer_expect(p[i], "250");
		}
		assert_int_equal(m->accepted, SENDERS);
		mail_destroy(m);
	}
	free(block);
}

static void a_failed_append_is_answered_once_and_the_rest_is_refused(void **state)
{
	enum { PIECE = 200000 };
	char *block = block_of(PIECE);

	for (int64_t nth = 1; nth <= 10; nth++) {
		struct peer *p;
		struct mail *m = begin(&p);
		unsigned refused = 0, i = 0;
		disk_faults(m->disk)->nth[DISK_WRITE] = nth;
		envelope_with(p, "");
		for (; i < 4 && refused == 0; i++) {
			bdat(p, block, PIECE, i == 3, "");
			refused = strncmp(p->reply, "451 4.3.0", 9) == 0;
			if (!refused)
				assert_int_equal(strncmp(p->reply, "250", 3), 0);
		}
		for (; i < 4; i++)
			bdat(p, block, PIECE, i == 3, "503 5.5.1");
		assert_int_equal(m->accepted, !refused);
		disk_faults(m->disk)->nth[DISK_WRITE] = 0;
		envelope_with(p, "");
		bdat(p, block, PIECE, true, "250 2.0.0 queued");
		mail_destroy(m);
	}
	free(block);
}

static void chunks_on_a_bad_day_leave_nothing_behind(void **state)
{
	enum { PIECE = 90000 };
	char *block = block_of(PIECE);

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct mail_options o;
		uint64_t r = seed;
		unsigned told = 0;
		mail_options_default(&o);
		o.net.seed = seed;
		o.net.chunk_bytes = 2 << 20;
		o.net.conditions.loss = 100;
		struct mail *m = mail_create(&o);
		m->hold_relay = true;
		disk_faults(m->disk)->per_million[DISK_WRITE] = 100000;
		disk_faults(m->disk)->per_million[DISK_SYNC] = 100000;
		for (unsigned i = 0; i < 10; i++) {
			struct peer *p = peer_login(m);
			char line[60];
			peer_say(p, "MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\n");
			for (unsigned k = 0; k < 4; k++) {
				size_t n = random_below(&r, PIECE);
				snprintf(line, sizeof(line), "BDAT %zu%s\r\n", n,
					 random_below(&r, 3) == 0 ? " LAST" : "");
				peer_say(p, line);
				peer_send(p, block, random_below(&r, 8) == 0 ? n / 2 : n);
				if (random_below(&r, 6) == 0)
					peer_say(p, "RSET\r\n");
			}
			mail_run(m, random_below(&r, 300000));
			if (random_below(&r, 3) == 0)
				peer_reset(p);
			mail_run(m, random_below(&r, 3) * MAIL_SECOND);
			told += peer_acknowledged(p);
			peer_free(p);
		}
		if (told > m->accepted)
			fail_msg("seed %llu: %u acknowledged, %u stored", (unsigned long long)seed,
				 told, m->accepted);
		mail_destroy(m);
	}
	free(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_of_any_size_make_one_message),
		cmocka_unit_test(a_dot_is_an_octet_like_any_other_and_ends_nothing),
		cmocka_unit_test(an_empty_chunk_is_answered_and_may_be_the_last),
		cmocka_unit_test(a_pipelined_message_gets_its_replies_in_order_and_one_for_each),
		cmocka_unit_test(a_refused_chunk_is_consumed_and_its_octets_are_no_commands),
		cmocka_unit_test(a_chunk_before_login_is_consumed_within_the_deadline),
		cmocka_unit_test(after_a_refused_chunk_the_rest_of_the_message_is_refused_too),
		cmocka_unit_test(commands_that_may_not_follow_a_chunk_are_503_and_harm_nothing),
		cmocka_unit_test(rset_and_ehlo_between_chunks_forget_the_message),
		cmocka_unit_test(a_chunk_without_a_readable_size_ends_the_session),
		cmocka_unit_test(trailing_words_are_refused_after_the_octets),
		cmocka_unit_test(size_counts_octets_and_is_enforced_over_chunks),
		cmocka_unit_test(lone_cr_lf_and_nul_are_refused_unless_the_body_is_binary),
		cmocka_unit_test(a_binary_message_still_has_a_header_of_lines),
		cmocka_unit_test(binarymime_is_offered_and_taken_only_with_chunking),
		cmocka_unit_test(a_large_message_in_chunks_is_stored_octet_by_octet),
		cmocka_unit_test(a_session_that_ends_inside_a_chunk_leaves_nothing),
		cmocka_unit_test(few_buffers_mean_back_pressure_and_no_deadlock),
		cmocka_unit_test(a_failed_append_is_answered_once_and_the_rest_is_refused),
		cmocka_unit_test(chunks_on_a_bad_day_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
