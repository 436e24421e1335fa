/*
 * mail.c - MAIL, RCPT, DATA and BDAT.
 *
 * Source: RFC 5321 section 4.1.1, RFC 6409 section 6.2 (qualification), RFC 3030 (BDAT), and what
 * parameters.h names.
 */
#include "smtp/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { QUALIFIED = 64 + 1 + SMTP_HOSTNAME, CHUNK_DIGITS = 20 };

static void path_refused(struct smtp_session *s, enum smtp_reply r, enum path_fault f)
{
	session_error(s, r, path_fault_text(f));
}

static void parameter_refused(struct smtp_session *s, enum parameter_fault f, const char *keyword)
{
	char text[100];

	snprintf(text, sizeof(text), "parameter %s %s", keyword, parameter_fault_text(f));
	session_error(s, f == PARAMETER_UNKNOWN ? REPLY_PARAMETER : REPLY_BAD_ARGUMENTS, text);
}

static struct parameter_rules rules(const struct smtp_session *s)
{
	const struct smtp_worker *w = s->worker;

	return (struct parameter_rules){
		.offered = session_offers(s),
		.now_s = shard_wall_s(w->shard),
		.max_hold_s = w->config->max_hold_us / 1000000,
	};
}

/* A bare local part gets the configured domain (RFC 6409 section 8.4); buf must live as long as
 * the path. */
static enum path_fault qualify(const struct smtp_session *s, enum path_fault f, struct path *p,
			       char *buf)
{
	const char *domain = s->worker->config->qualify;

	if (f != PATH_NO_DOMAIN || domain[0] == '\0' || p->mailbox.n > 64)
		return f;
	int n = snprintf(buf, QUALIFIED, "%.*s@%s", (int)p->mailbox.n, p->mailbox.at, domain);
	p->domain = (struct text){buf + p->mailbox.n + 1, (size_t)n - p->mailbox.n - 1};
	p->mailbox = (struct text){buf, (size_t)n};
	return PATH_OK;
}

static bool size_fits(struct smtp_session *s, uint64_t size)
{
	struct smtp_worker *w = s->worker;
	struct spool_status st;
	char limit[24];

	if (size > session_max_size(s)) {
		smtp_count(w, smtp_message_too_big);
		snprintf(limit, sizeof(limit), "%llu", (unsigned long long)session_max_size(s));
		session_reply(s, REPLY_TOO_BIG, limit);
		return false;
	}
	if (size == 0)
		return true;
	/* RFC 1870 section 6.1: better now than after the data */
	spool_status(w->env.spool, &st);
	if (st.bytes_max > 0 &&
	    (st.bytes_used >= st.bytes_max || size > st.bytes_max - st.bytes_used)) {
		smtp_count(w, smtp_message_no_space);
		session_reply(s, REPLY_NO_SPACE, NULL);
		return false;
	}
	return true;
}

static void sender_taken(struct smtp_session *s, int8_t asked, int8_t given)
{
	char text[8];

	s->mails++;
	if (asked == given) {
		session_reply(s, REPLY_SENDER_OK, NULL);
		return;
	}
	/* RFC 6710: a lower priority than asked for is said so */
	smtp_count(s->worker, smtp_priority_clamped);
	snprintf(text, sizeof(text), "%d", given);
	session_reply(s, REPLY_SENDER_PRIORITY, text);
}

static bool mails_left(struct smtp_session *s)
{
	uint32_t most = session_max_messages(s);

	if (most == 0 || s->mails < most)
		return true;
	smtp_count(s->worker, smtp_session_messages);
	session_finish(s, REPLY_TOO_MANY_MESSAGES);
	return false;
}

void run_mail(struct smtp_session *s, struct text arguments)
{
	const struct smtp_config *c = s->worker->config;
	struct parameter_rules rule = rules(s);
	struct mail_parameters m;
	struct path p;
	char buf[QUALIFIED], own[120];
	const char *keyword;
	enum path_fault f = parse_path(&arguments, "FROM:", true, &p);

	if (p.mailbox.n > 0)
		f = qualify(s, f, &p, buf);
	if (f != PATH_OK) {
		path_refused(s, REPLY_BAD_SENDER, f);
		return;
	}
	enum parameter_fault pf = parse_mail_parameters(arguments, &rule, &m, &keyword);
	if (pf == PARAMETER_OK && !s->extended && arguments.n > 0)
		pf = PARAMETER_UNKNOWN;
	if (pf != PARAMETER_OK) {
		parameter_refused(s, pf, keyword);
		return;
	}
	if (p.utf8 && !m.smtputf8) {
		session_error(s, REPLY_NEEDS_UTF8, NULL);
		return;
	}
	/* the null reverse-path is nobody's address: reports and replies need it */
	if (s->listener->policy.own_senders && p.mailbox.n > 0 && !sender_is_own(s, p.mailbox)) {
		smtp_count(s->worker, smtp_sender_not_own);
		snprintf(own, sizeof(own), "<%.*s>", (int)p.mailbox.n, p.mailbox.at);
		session_error(s, REPLY_NOT_OWN, own);
		return;
	}
	if (!size_fits(s, m.size) || !mails_left(s) || !policy_mail(s))
		return;
	int8_t asked = m.priority;
	m.priority = asked > c->max_priority ? c->max_priority : asked;
	if (transaction_begin(s, p.mailbox, &m) == NULL)
		session_reply(s, REPLY_NO_SPACE, NULL);
	else
		sender_taken(s, asked, m.priority);
}

/* The recipient's path, or false after a reply. */
static bool take_recipient(struct smtp_session *s, struct text *arguments, struct path *p,
			   char *buf)
{
	enum path_fault f = parse_path(arguments, "TO:", false, p);

	/* <postmaster> without a domain is always taken (RFC 5321 section 4.5.1) */
	if (f == PATH_OK && p->domain.n == 0) {
		p->mailbox.n = (size_t)snprintf(buf, QUALIFIED, "postmaster@%s",
						s->worker->config->hostname);
		p->mailbox.at = buf;
	}
	f = qualify(s, f, p, buf);
	if (f != PATH_OK)
		path_refused(s, REPLY_BAD_RECIPIENT, f);
	else if (p->utf8 && !s->tx->parameters.smtputf8)
		session_error(s, REPLY_NEEDS_UTF8, NULL);
	else
		return true;
	return false;
}

void run_rcpt(struct smtp_session *s, struct text arguments)
{
	struct parameter_rules rule = rules(s);
	struct rcpt_parameters r;
	struct path p;
	char buf[QUALIFIED];
	const char *keyword;

	if (s->tx->chunked) {
		session_error(s, REPLY_SEQUENCE, "not after BDAT");
		return;
	}
	if (!take_recipient(s, &arguments, &p, buf))
		return;
	enum parameter_fault pf =
		parse_rcpt_parameters(arguments, &rule, s->tx->parameters.smtputf8, &r, &keyword);
	if (pf != PARAMETER_OK) {
		parameter_refused(s, pf, keyword);
		return;
	}
	if (s->tx->recipients >= session_max_recipients(s)) {
		session_reply(s, REPLY_TOO_MANY_RECIPIENTS, NULL);
		return;
	}
	if (!policy_recipient(s))
		return;
	int rc = transaction_recipient(s->tx, p.mailbox, &r);
	if (rc == -EINVAL)
		session_error(s, REPLY_BAD_RECIPIENT, path_fault_text(PATH_SYNTAX));
	else
		session_reply(s, rc < 0 ? REPLY_TOO_MANY_RECIPIENTS : REPLY_RECIPIENT_OK, NULL);
}

static void begin_data(struct smtp_session *s, enum phase phase)
{
	s->data_started_us = s->worker->shard->now_us;
	s->data_bytes = 0;
	s->phase = phase;
	if (s->authenticated)
		fair_begin(s);
}

void run_data(struct smtp_session *s, struct text arguments)
{
	if (s->tx->chunked) {
		session_error(s, REPLY_SEQUENCE, "not after BDAT");
		return;
	}
	if (s->tx->parameters.body == ENVELOPE_BINARY) {
		session_error(s, REPLY_SEQUENCE, "BODY=BINARYMIME needs BDAT");
		return;
	}
	if (s->tx->recipients == 0) {
		session_error(s, REPLY_NO_RECIPIENTS, NULL);
		return;
	}
	session_reply(s, REPLY_DATA_GO, NULL);
	transaction_begin_content(s->tx, true);
	begin_data(s, PHASE_DATA);
}

/* Why the chunk is thrown away; false: it is taken. */
static bool chunk_refused(struct smtp_session *s, enum smtp_reply *r, const char **text)
{
	const struct transaction *tx = s->tx;

	*r = REPLY_SEQUENCE;
	*text = NULL;
	if (!s->greeted)
		*text = "send EHLO first";
	else if (!s->authenticated)
		*r = conn_is_secure(&s->conn) ? REPLY_AUTH_REQUIRED : REPLY_TLS_REQUIRED;
	else if ((session_offers(s) & SMTP_EXT_BIT(CHUNKING)) == 0)
		*r = REPLY_NOT_IMPLEMENTED;
	else if (tx == NULL)
		*text = "send MAIL first";
	else if (tx->poisoned)
		*text = "a chunk was refused: send RSET first";
	else if (tx->recipients == 0)
		*r = REPLY_NO_RECIPIENTS;
	else
		return false;
	return true;
}

/* Whatever the verdict, the octets of the chunk are no commands (RFC 3030 section 2); where their
 * number cannot be read, nothing that follows makes sense. */
void run_bdat(struct smtp_session *s, struct text arguments)
{
	struct text size = text_word(&arguments), last = text_word(&arguments);

	s->chunk.left = 0;
	for (size_t i = 0; i < size.n && i <= CHUNK_DIGITS; i++) {
		if (size.at[i] < '0' || size.at[i] > '9' ||
		    __builtin_mul_overflow(s->chunk.left, 10u, &s->chunk.left) ||
		    __builtin_add_overflow(s->chunk.left, (unsigned)(size.at[i] - '0'),
					   &s->chunk.left))
			size.n = 0;
	}
	if (size.n == 0 || size.n > CHUNK_DIGITS) {
		smtp_count(s->worker, smtp_errors_syntax);
		session_finish(s, REPLY_UNEXPECTED);
		return;
	}
	s->chunk.last = text_is(last, "LAST");
	s->chunk.discard = chunk_refused(s, &s->chunk.reply, &s->chunk.text);
	if (!s->chunk.discard && (arguments.n > 0 || (last.n > 0 && !s->chunk.last))) {
		s->chunk.discard = true;
		s->chunk.reply = REPLY_BAD_ARGUMENTS;
		s->chunk.text = "BDAT size [LAST] is expected";
	}
	if (!s->chunk.discard && !s->tx->chunked) {
		s->tx->chunked = true;
		transaction_begin_content(s->tx, false);
	}
	begin_data(s, PHASE_CHUNK);
	if (s->chunk.left == 0)
		chunk_over(s);
}

static void discarded_over(struct smtp_session *s)
{
	struct transaction *tx = s->tx;

	smtp_count(s->worker, smtp_chunks_discarded);
	if (tx != NULL && s->chunk.last)
		session_reset_mail(s);
	else if (tx != NULL)
		transaction_poison(tx);
	session_error(s, s->chunk.reply, s->chunk.text);
}

void chunk_over(struct smtp_session *s)
{
	struct transaction *tx = s->tx;
	char text[24];

	s->phase = PHASE_COMMAND;
	fair_end(s);
	if (s->chunk.discard) {
		discarded_over(s);
		return;
	}
	smtp_count(s->worker, smtp_chunks);
	if (s->chunk.last) {
		transaction_end_of_data(tx);
	} else if (verdict_refuses(tx, false)) {
		transaction_poison(tx);
	} else {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)tx->body_bytes);
		session_reply(s, REPLY_CHUNK_OK, text);
	}
}
