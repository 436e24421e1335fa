/* test_smtp_replies.c - every row of the reply table, and every command in every state */
#include "smtp/reply.h"
#include "tests/sim/peer.h"

#include <errno.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum start { CLEAR, TLS, LOGGED_IN };

static struct peer *start(struct mail *m, enum start how)
{
	if (how == LOGGED_IN)
		return peer_login(m);
	struct peer *p = peer_connect(m, how == TLS ? MAIL_SUBMISSIONS : MAIL_SUBMISSION);
	if (how == TLS)
		assert_true(peer_tls(p, 0));
	return p;
}

/* The reply is made of the row: code, enhanced code, and the text around its %s. */
static bool made_of(const char *reply, enum smtp_reply r)
{
	const struct smtp_reply_row *row = &smtp_reply_table[r];
	const char *hole = strstr(row->text, "%s");
	char head[300];
	int n = snprintf(head, sizeof(head), "%d ", row->code);

	if (row->enhanced[0] != '\0')
		n += snprintf(head + n, sizeof(head) - (size_t)n, "%s ", row->enhanced);
	snprintf(head + n, sizeof(head) - (size_t)n, "%.*s",
		 hole != NULL ? (int)(hole - row->text) : (int)strlen(row->text), row->text);
	return strncmp(reply, head, strlen(head)) == 0 &&
	       (hole == NULL || strstr(reply, hole + 2) != NULL);
}

static bool answered_by(struct peer *p, enum smtp_reply r)
{
	for (const char *reply; (reply = peer_reply(p))[0] != '\0';) {
		if (made_of(reply, r))
			return true;
	}
	return false;
}

/* What a client sends in one go to get the row as one of its answers. */
struct sample {
	enum start how;
	const char *say;
};
#define ENVELOPE "MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\n"
#define MESSAGE  ENVELOPE "DATA\r\n"
#define LINE_30  "123456789012345678901234567890"
#define LINE_333                                                                                \
	LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 LINE_30 \
		"123"
#define LINE_999 LINE_333 LINE_333 LINE_333
static const struct sample samples[SMTP_REPLY_COUNT] = {
	[REPLY_GREETING] = {CLEAR, ""},
	[REPLY_STARTTLS_GO] = {CLEAR, "EHLO x\r\nSTARTTLS\r\n"},
	[REPLY_BYE] = {CLEAR, "QUIT\r\n"},
	[REPLY_AUTH_OK] = {TLS, "EHLO x\r\nAUTH PLAIN " PEER_PLAIN "\r\n"},
	[REPLY_HELO] = {CLEAR, "HELO x\r\n"},
	[REPLY_OK] = {CLEAR, "NOOP\r\n"},
	[REPLY_SENDER_OK] = {LOGGED_IN, "MAIL FROM:<>\r\n"},
	[REPLY_RECIPIENT_OK] = {LOGGED_IN, ENVELOPE},
	[REPLY_QUEUED] = {LOGGED_IN, MESSAGE "a: b\r\n\r\nc\r\n.\r\n"},
	[REPLY_VRFY] = {CLEAR, "VRFY x\r\n"},
	[REPLY_AUTH_CONTINUE] = {TLS, "EHLO x\r\nAUTH LOGIN\r\n"},
	[REPLY_DATA_GO] = {LOGGED_IN, MESSAGE},
	[REPLY_UNEXPECTED] = {CLEAR, "EHLO x\r\nSTARTTLS\r\nNOOP\r\n"},
	[REPLY_UNKNOWN] = {CLEAR, "FROB\r\n"},
	[REPLY_LINE_ENDS] = {CLEAR, "NOOP\nNOOP\r\n"},
	[REPLY_BAD_ARGUMENTS] = {CLEAR, "EHLO\r\n"},
	[REPLY_BAD_SENDER] = {LOGGED_IN, "MAIL FROM:<a>\r\n"},
	[REPLY_BAD_RECIPIENT] = {LOGGED_IN, "MAIL FROM:<>\r\nRCPT TO:<>\r\n"},
	[REPLY_AUTH_NOT_BASE64] = {TLS, "EHLO x\r\nAUTH PLAIN !\r\n"},
	[REPLY_AUTH_CANCELLED] = {TLS, "EHLO x\r\nAUTH PLAIN\r\n*\r\n"},
	[REPLY_NOT_IMPLEMENTED] = {CLEAR, "EXPN x\r\n"},
	[REPLY_SEQUENCE] = {CLEAR, "STARTTLS\r\n"},
	[REPLY_AUTH_UNKNOWN] = {TLS, "EHLO x\r\nAUTH CRAM-MD5\r\n"},
	[REPLY_AUTH_REQUIRED] = {TLS, "EHLO x\r\nMAIL FROM:<>\r\n"},
	[REPLY_TLS_REQUIRED] = {CLEAR, "EHLO x\r\nMAIL FROM:<>\r\n"},
	[REPLY_AUTH_FAILED] = {TLS, "EHLO x\r\nAUTH PLAIN AGEAYg==\r\n"},
	[REPLY_AUTH_NEEDS_TLS] = {CLEAR, "EHLO x\r\nAUTH PLAIN\r\n"},
	[REPLY_CONTENT_LINE_ENDS] = {LOGGED_IN, MESSAGE "a\nb\r\n.\r\n"},
	[REPLY_TOO_BIG] = {LOGGED_IN, "MAIL FROM:<> SIZE=99999999\r\n"},
	[REPLY_NEEDS_UTF8] = {LOGGED_IN, "MAIL FROM:<\xc3\xa4@x.y>\r\n"},
	[REPLY_NO_RECIPIENTS] = {LOGGED_IN, "MAIL FROM:<>\r\nDATA\r\n"},
	[REPLY_PARAMETER] = {LOGGED_IN, "MAIL FROM:<> FROB=FULL\r\n"},
	[REPLY_SENDER_PRIORITY] = {LOGGED_IN, "MAIL FROM:<> MT-PRIORITY=1\r\n"},
	[REPLY_CHUNK_OK] = {LOGGED_IN, ENVELOPE "BDAT 3\r\nabc"},
	[REPLY_LONG_LINE] = {LOGGED_IN, MESSAGE LINE_999 "\r\n.\r\n"},
	[REPLY_HEADER_UTF8] = {LOGGED_IN, MESSAGE "a: \xc3\xa4\r\n\r\n.\r\n"},
	[REPLY_HEADER_NOT_UTF8] = {LOGGED_IN, "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<b@x.y>\r\n"
					      "DATA\r\na: \xe4\r\n\r\n.\r\n"},
	[REPLY_HEADER_TWICE] = {LOGGED_IN, MESSAGE "To: a@b\r\nto: c@d\r\n\r\n.\r\n"},
	[REPLY_HEADER_NO_FROM] = {LOGGED_IN, MESSAGE "To: a@b\r\n\r\n.\r\n"},
	[REPLY_SIGNED] = {LOGGED_IN, MESSAGE "From: a@b\r\nBcc: c@d\r\nDKIM-Signature: v=1\r\n"
					     "\r\n.\r\n"},
	[REPLY_LIMIT] = {LOGGED_IN, MESSAGE "a: b\r\n\r\n.\r\nMAIL FROM:<>\r\n"},
	[REPLY_LIMIT_PERMANENT] = {LOGGED_IN, MESSAGE "a: b\r\n\r\n.\r\nMAIL FROM:<>\r\n"},
	[REPLY_LIMIT_RECIPIENTS] = {LOGGED_IN, ENVELOPE "RCPT TO:<c@x.y>\r\n"},
	[REPLY_NOT_OWN] = {LOGGED_IN, "MAIL FROM:<a@x.y>\r\n"},
	[REPLY_TOO_MANY_MESSAGES] = {LOGGED_IN, "MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\nRSET\r\n"
						"MAIL FROM:<>\r\n"},
	[REPLY_TOO_MANY_LOGINS] = {TLS, "EHLO x\r\nAUTH PLAIN AGEAYg==\r\nAUTH PLAIN AGEAYw==\r\n"
					"AUTH PLAIN AGEAZA==\r\n"},
	[REPLY_TOO_MANY_RECIPIENTS] = {LOGGED_IN, "MAIL FROM:<>\r\nRCPT TO:<1@x.y>\r\n"
						  "RCPT TO:<2@x.y>\r\nRCPT TO:<3@x.y>\r\n"},
};

/* One message, one recipient an hour, one session at a time, where the row is about that. */
static void limit_one(struct smtp_config *c, enum smtp_reply r)
{
	const struct quota_rate one = {1, 3600ull * MAIL_SECOND};
	struct smtp_class *k = &c->classes[0];

	c->n_classes = 1;
	k->permanent = r == REPLY_LIMIT_PERMANENT;
	if (r == REPLY_LIMIT || r == REPLY_LIMIT_PERMANENT)
		k->rate[SMTP_USER][SMTP_MESSAGES] = one;
	if (r == REPLY_LIMIT_RECIPIENTS)
		k->rate[SMTP_USER][SMTP_RECIPIENTS] = one;
	if (r == REPLY_LIMIT_SESSIONS)
		k->sessions[SMTP_USER] = 1;
}

static void the_row_comes_from_its_sample(enum smtp_reply r)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.max_recipients = 2;
	o.smtp.max_messages = 2;
	o.smtp.long_lines_refused = o.policy.remove_bcc = true;
	o.policy.from_required = r == REPLY_HEADER_NO_FROM;
	o.policy.own_senders = r == REPLY_NOT_OWN;
	limit_one(&o.smtp, r);
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = start(m, samples[r].how);
	peer_say(p, samples[r].say);
	if (!answered_by(p, r))
		fail_msg("row %d %s was not seen; all replies: %s", smtp_reply_table[r].code,
			 smtp_reply_table[r].text, (const char *)p->got.at);
	mail_destroy(m);
}

/* Rows that need more than a text, each with a test of its own below. */
static void nobody_can_log_in_when_the_queue_is_full(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, TLS);

	peer_say(p, "EHLO x\r\nAUTH PLAIN AGEAYg==\r\n");
	mail_run(m, 1000);
	struct peer *q = start(m, TLS);
	peer_say(q, "EHLO x\r\nAUTH PLAIN AGIAYg==\r\n");
	assert_true(answered_by(q, r));
	assert_int_equal(mail_smtp_count(m, smtp_auth_overloaded), 1);
}

static void many_lines(struct peer *p, const char *line, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		peer_say(p, line);
}

static void too_many_errors(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, CLEAR);

	many_lines(p, "FROB\r\n", 25);
	assert_true(answered_by(p, r));
	assert_true(peer_ended(p));
	assert_int_equal(mail_smtp_count(m, smtp_error_budget), 1);
}

static void shutdown_row(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, CLEAR);

	peer_expect(p, "220");
	smtp_drain(m->smtp);
	assert_true(answered_by(p, r));
	assert_true(peer_ended(p));
}

static void timeout_row(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, CLEAR);

	assert_true(answered_by(p, r));
	assert_true(peer_ended(p));
	assert_int_equal(mail_smtp_count(m, smtp_timeouts), 1);
}

static void too_many_sessions(struct mail *m, enum smtp_reply r)
{
	start(m, CLEAR);
	start(m, CLEAR);
	assert_true(answered_by(start(m, CLEAR), r));
	assert_int_equal(mail_smtp_count(m, smtp_sessions_refused), 1);
}

static void too_many_of_one_user(struct mail *m, enum smtp_reply r)
{
	start(m, LOGGED_IN);
	struct peer *p = start(m, TLS);
	peer_say(p, "EHLO x\r\nAUTH PLAIN " PEER_PLAIN "\r\n");
	assert_true(answered_by(p, r));
	assert_true(peer_ended(p));
	assert_int_equal(mail_smtp_count(m, smtp_limited_user), 1);
}

static void commit_fails(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, LOGGED_IN);

	disk_faults(m->disk)->nth[DISK_SYNC] = 1;
	peer_say(p, MESSAGE "a: b\r\n\r\nc\r\n.\r\n");
	assert_true(answered_by(p, r));
	assert_int_equal(mail_smtp_count(m, smtp_message_failed), 1);
}

static void no_space(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, LOGGED_IN);

	disk_faults(m->disk)->error = -ENOSPC;
	disk_faults(m->disk)->per_million[DISK_WRITE] = 1000000;
	disk_faults(m->disk)->per_million[DISK_FALLOCATE] = 1000000;
	peer_say(p, MESSAGE "a: b\r\n\r\nc\r\n.\r\n");
	assert_true(answered_by(p, r));
	assert_int_equal(mail_smtp_count(m, smtp_message_no_space), 1);
}

static void no_tls_now(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, CLEAR);

	start(m, TLS);
	peer_say(p, "EHLO x\r\nSTARTTLS\r\n");
	assert_true(answered_by(p, r));
}

static void network_spent(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, CLEAR);

	start(m, TLS);
	peer_say(p, "EHLO x\r\nSTARTTLS\r\n");
	assert_true(answered_by(p, r));
	assert_true(peer_ended(p));
	assert_int_equal(mail_tls_count(m, tls_budget_network), 1);
}

static void line_too_long(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, CLEAR);

	peer_say(p, "NOOP ");
	many_lines(p, LINE_30, 50);
	peer_say(p, "\r\n");
	assert_true(answered_by(p, r));
	assert_int_equal(strncmp(peer_cmd(p, "NOOP"), "250", 3), 0);
}

static void auth_too_long(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, TLS);

	peer_say(p, "EHLO x\r\nAUTH PLAIN\r\n");
	many_lines(p, LINE_30, 500);
	peer_say(p, "\r\n");
	assert_true(answered_by(p, r));
	assert_int_equal(strncmp(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235", 3), 0);
}

static void large_header(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, LOGGED_IN);

	peer_say(p, MESSAGE);
	many_lines(p, "X-Y: " LINE_30 LINE_30 "\r\n", 1000);
	peer_say(p, "\r\n.\r\n");
	assert_true(answered_by(p, r));
	assert_int_equal(mail_smtp_count(m, smtp_message_header_size), 1);
}

static void mail_loop(struct mail *m, enum smtp_reply r)
{
	struct peer *p = start(m, LOGGED_IN);

	peer_say(p, MESSAGE);
	many_lines(p, "Received: x\r\n", 101);
	peer_say(p, "\r\n.\r\n");
	assert_true(answered_by(p, r));
	assert_int_equal(mail_smtp_count(m, smtp_message_loop), 1);
}

static void (*const scenes[SMTP_REPLY_COUNT])(struct mail *m, enum smtp_reply r) = {
	[REPLY_SHUTDOWN] = shutdown_row,
	[REPLY_TOO_MANY_SESSIONS] = too_many_sessions,
	[REPLY_TIMEOUT] = timeout_row,
	[REPLY_LIMIT_SESSIONS] = too_many_of_one_user,
	[REPLY_TOO_MANY_ERRORS] = too_many_errors,
	[REPLY_SPOOL_FAILED] = commit_fails,
	[REPLY_NO_SPACE] = no_space,
	[REPLY_STARTTLS_LATER] = no_tls_now,
	[REPLY_TOO_MANY_HANDSHAKES] = network_spent,
	[REPLY_AUTH_LATER] = nobody_can_log_in_when_the_queue_is_full,
	[REPLY_LINE_TOO_LONG] = line_too_long,
	[REPLY_AUTH_TOO_LONG] = auth_too_long,
	[REPLY_LOOP] = mail_loop,
	[REPLY_HEADER_TOO_BIG] = large_header,
};

static void the_row_comes_from_its_scene(enum smtp_reply r)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.sessions = 2;
	o.tls_sessions = r == REPLY_STARTTLS_LATER ? 1 : 2;
	if (r == REPLY_TOO_MANY_HANDSHAKES)
		o.tls.budget.per_network = (struct tls_rate){1, 3600ull * MAIL_SECOND};
	o.auth.queue = 1;
	o.auth_waits = r == REPLY_AUTH_LATER;
	limit_one(&o.smtp, r);
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	scenes[r](m, r);
	mail_destroy(m);
}

static void every_row_of_the_reply_table_is_given(void **state)
{
	for (unsigned r = 0; r < SMTP_REPLY_COUNT; r++) {
		if (scenes[r] != NULL)
			the_row_comes_from_its_scene((enum smtp_reply)r);
		else if (samples[r].say != NULL)
			the_row_comes_from_its_sample((enum smtp_reply)r);
		else
			fail_msg("no test gives row %d %s", smtp_reply_table[r].code,
				 smtp_reply_table[r].text);
	}
}

static void every_enhanced_code_has_the_class_of_its_reply(void **state)
{
	for (unsigned r = 0; r < SMTP_REPLY_COUNT; r++) {
		const struct smtp_reply_row *row = &smtp_reply_table[r];
		if (row->enhanced[0] != '\0')
			assert_int_equal(row->enhanced[0], '0' + row->code / 100);
		else
			assert_true(row->code < 400);
	}
}

/* Every command in every state: the code of its reply. */
enum state_of { S_NEW, S_HELLO, S_TLS_NEW, S_TLS_HELLO, S_READY, S_MAIL, S_RCPT, STATES };
static const struct {
	enum start how;
	const char *say;
} states[STATES] = {
	[S_NEW] = {CLEAR, ""},
	[S_HELLO] = {CLEAR, "EHLO x\r\n"},
	[S_TLS_NEW] = {TLS, ""},
	[S_TLS_HELLO] = {TLS, "EHLO x\r\n"},
	[S_READY] = {LOGGED_IN, ""},
	[S_MAIL] = {LOGGED_IN, "MAIL FROM:<a@x.y>\r\n"},
	[S_RCPT] = {LOGGED_IN, ENVELOPE},
};
static const struct {
	const char *line;
	short code[STATES];
} matrix[] = {
	/*                         new  hello tls  tls+hello ready mail rcpt */
	{"EHLO y", {250, 250, 250, 250, 250, 250, 250}},
	{"HELO y", {250, 250, 250, 250, 250, 250, 250}},
	{"STARTTLS", {503, 220, 503, 503, 503, 503, 503}},
	{"AUTH PLAIN " PEER_PLAIN, {503, 538, 503, 235, 503, 503, 503}},
	{"MAIL FROM:<a@x.y>", {503, 530, 503, 530, 250, 503, 503}},
	{"RCPT TO:<c@x.y>", {530, 530, 530, 530, 503, 250, 250}},
	{"DATA", {530, 530, 530, 530, 503, 554, 354}},
	{"BDAT 0", {503, 530, 503, 530, 503, 554, 250}},
	{"BDAT 0 LAST", {503, 530, 503, 530, 503, 554, 250}},
	{"BDAT", {421, 421, 421, 421, 421, 421, 421}},
	{"BDAT x", {421, 421, 421, 421, 421, 421, 421}},
	{"BDAT 0 FIRST", {503, 530, 503, 530, 503, 554, 501}},
	{"RSET", {250, 250, 250, 250, 250, 250, 250}},
	{"NOOP", {250, 250, 250, 250, 250, 250, 250}},
	{"VRFY x", {252, 252, 252, 252, 252, 252, 252}},
	{"HELP", {214, 214, 214, 214, 214, 214, 214}},
	{"QUIT", {221, 221, 221, 221, 221, 221, 221}},
	{"EXPN x", {502, 502, 502, 502, 502, 502, 502}},
	{"TURN", {502, 502, 502, 502, 502, 502, 502}},
	{"FROB", {500, 500, 500, 500, 500, 500, 500}},
	{"", {500, 500, 500, 500, 500, 500, 500}},
	{"STARTTLS x", {501, 501, 501, 501, 501, 501, 501}},
	{"DATA x", {501, 501, 501, 501, 501, 501, 501}},
	{"RSET x", {501, 501, 501, 501, 501, 501, 501}},
	{"QUIT x", {501, 501, 501, 501, 501, 501, 501}},
	{"VRFY", {501, 501, 501, 501, 501, 501, 501}},
	{"GET / HTTP/1.1", {421, 500, 421, 500, 500, 500, 500}},
	{"quit  \t", {221, 221, 221, 221, 221, 221, 221}},
};

static const char *last_reply(struct mail *m, struct peer *p)
{
	const char *found = "";

	mail_run(m, MAIL_SECOND);
	while (strchr((const char *)p->got.at + p->got_read, '\n') != NULL)
		found = peer_reply(p);
	return found;
}

static void every_command_in_every_state_has_its_reply(void **state)
{
	for (size_t c = 0; c < sizeof(matrix) / sizeof(matrix[0]); c++) {
		struct mail *m = mail_create(NULL);
		for (unsigned i = 0; i < STATES; i++) {
			struct peer *p = start(m, states[i].how);
			peer_say(p, states[i].say);
			last_reply(m, p);
			peer_say(p, matrix[c].line);
			peer_say(p, "\r\n");
			const char *reply = last_reply(m, p);
			if (atoi(reply) != matrix[c].code[i])
				fail_msg("%s in state %u: expected %d, got: %s", matrix[c].line, i,
					 matrix[c].code[i], reply);
			peer_free(p);
		}
		mail_destroy(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_of_the_reply_table_is_given),
		cmocka_unit_test(every_enhanced_code_has_the_class_of_its_reply),
		cmocka_unit_test(every_command_in_every_state_has_its_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
