/*
 * commands.c - the command table: verb, what must have happened before, handler.
 *
 * Source: RFC 5321 section 4.1, RFC 6409 section 4 (authentication), RFC 3207 (STARTTLS).
 */
#include "smtp/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum need {
	NEED_GREETING = 1, /* HELO or EHLO */
	NEED_AUTH = 2,     /* 530 otherwise */
	NEED_MAIL = 4,     /* a transaction */
	NEED_NO_MAIL = 8,  /* none */
	NEED_NO_ARGUMENT = 16,
};

struct command {
	const char *verb;
	unsigned needs;
	void (*run)(struct smtp_session *s, struct text arguments);
};

void session_reset_mail(struct smtp_session *s)
{
	if (s->tx != NULL)
		transaction_abandon(s->tx);
}

static bool take_name(struct smtp_session *s, struct text arguments)
{
	struct text name = text_word(&arguments);

	if (!parse_ehlo_name(name) || arguments.n > 0) {
		session_error(s, REPLY_BAD_ARGUMENTS, "a domain or address literal is expected");
		return false;
	}
	memcpy(s->helo, name.at, name.n);
	s->helo[name.n] = '\0';
	s->greeted = true;
	session_reset_mail(s);
	return true;
}

static void run_helo(struct smtp_session *s, struct text arguments)
{
	if (!take_name(s, arguments))
		return;
	s->extended = false;
	session_reply(s, REPLY_HELO, s->worker->config->hostname);
}

static void run_ehlo(struct smtp_session *s, struct text arguments)
{
	const struct smtp_config *c = s->worker->config;
	char text[900], mechanisms[32] = "";
	bool secure = conn_is_secure(&s->conn);

	if (!take_name(s, arguments))
		return;
	s->extended = true;
	if (secure && !s->authenticated)
		snprintf(mechanisms, sizeof(mechanisms), "250-AUTH%s%s\r\n",
			 c->auth_plain ? " PLAIN" : "", c->auth_login ? " LOGIN" : "");
	int n = snprintf(text, sizeof(text),
			 "250-%s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n250-8BITMIME\r\n%s%s"
			 "250 ENHANCEDSTATUSCODES\r\n",
			 c->hostname, (unsigned long long)c->max_message_size,
			 secure ? "" : "250-STARTTLS\r\n", mechanisms);
	session_reply_raw(s, text, (size_t)n);
}

/* RFC 3207 section 4.2: what was sent in clear before or behind STARTTLS is forgotten; octets
 * behind it are an injection and end the session (CVE-2011-0411). */
static void run_starttls(struct smtp_session *s, struct text arguments)
{
	if (conn_is_secure(&s->conn)) {
		session_error(s, REPLY_SEQUENCE, "TLS is active already");
		return;
	}
	if (s->in->start < s->in->end || stream_readable(s->conn.stream) > 0) {
		smtp_count(s->worker, smtp_starttls_injection);
		s->in->start = s->in->end;
		session_finish(s, REPLY_UNEXPECTED);
		return;
	}
	if (conn_over_budget(&s->conn)) {
		session_finish(s, REPLY_TOO_MANY_HANDSHAKES);
		return;
	}
	if (!conn_may_secure(&s->conn)) {
		session_reply(s, REPLY_STARTTLS_LATER, NULL);
		return;
	}
	session_reply(s, REPLY_STARTTLS_GO, NULL);
	s->greeted = s->extended = false;
	s->helo[0] = '\0';
	s->phase = PHASE_SECURING;
}

static void run_mail(struct smtp_session *s, struct text arguments)
{
	struct smtp_worker *w = s->worker;
	struct mail_parameters m;
	struct path p;
	char limit[24];
	enum path_fault f = parse_path(&arguments, "FROM:", true, &p);

	if (f != PATH_OK) {
		session_error(s, f == PATH_NOT_ASCII ? REPLY_NEEDS_UTF8 : REPLY_BAD_SENDER,
			      path_fault_text(f));
		return;
	}
	enum parameter_fault pf = parse_mail_parameters(arguments, &m);
	if (pf != PARAMETER_OK || (!s->extended && arguments.n > 0)) {
		session_error(s, pf == PARAMETER_SYNTAX ? REPLY_BAD_ARGUMENTS : REPLY_PARAMETER,
			      "a parameter is malformed or given twice");
		return;
	}
	if (m.size > w->config->max_message_size) {
		smtp_count(w, smtp_message_too_big);
		snprintf(limit, sizeof(limit), "%llu",
			 (unsigned long long)w->config->max_message_size);
		session_reply(s, REPLY_TOO_BIG, limit);
		return;
	}
	if (transaction_begin(s, &p, m.body_8bit) == NULL)
		session_reply(s, REPLY_NO_SPACE, NULL);
	else
		session_reply(s, REPLY_SENDER_OK, NULL);
}

static void run_rcpt(struct smtp_session *s, struct text arguments)
{
	struct path p;
	char postmaster[SMTP_HOSTNAME + 16];
	enum path_fault f = parse_path(&arguments, "TO:", false, &p);
	struct text to = p.mailbox;

	if (f != PATH_OK) {
		session_error(s, f == PATH_NOT_ASCII ? REPLY_NEEDS_UTF8 : REPLY_BAD_RECIPIENT,
			      path_fault_text(f));
		return;
	}
	if (arguments.n > 0) {
		session_error(s, REPLY_PARAMETER, NULL);
		return;
	}
	/* <postmaster> without a domain is always taken (RFC 5321 section 4.5.1) */
	if (p.domain.n == 0) {
		to.at = postmaster;
		to.n = (size_t)snprintf(postmaster, sizeof(postmaster), "postmaster@%s",
					s->worker->config->hostname);
	}
	if (s->tx->recipients >= s->worker->config->max_recipients) {
		session_reply(s, REPLY_TOO_MANY_RECIPIENTS, NULL);
		return;
	}
	int rc = transaction_recipient(s->tx, to);
	if (rc == -EINVAL)
		session_error(s, REPLY_BAD_RECIPIENT, path_fault_text(PATH_SYNTAX));
	else
		session_reply(s, rc < 0 ? REPLY_TOO_MANY_RECIPIENTS : REPLY_RECIPIENT_OK, NULL);
}

/* A window is a promise: those of all sessions together must leave room for the bodies, or
 * streams fill the pool with octets that no session finds a chunk to take up. */
static uint32_t data_window(const struct smtp_worker *w)
{
	size_t share = chunk_pool_bytes(w->shard->chunks) / 4 / slab_used(w->sessions);

	return share > DATA_WINDOW      ? DATA_WINDOW
	       : share < RECEIVE_WINDOW ? RECEIVE_WINDOW
					: (uint32_t)share;
}

static void run_data(struct smtp_session *s, struct text arguments)
{
	if (s->tx->recipients == 0) {
		session_error(s, REPLY_NO_RECIPIENTS, NULL);
		return;
	}
	session_reply(s, REPLY_DATA_GO, NULL);
	content_begin(&s->tx->content);
	s->tx->started_data = true;
	s->data_started_us = s->worker->shard->now_us;
	s->phase = PHASE_DATA;
	stream_set_receive_limit(s->conn.stream, data_window(s->worker));
}

static void run_rset(struct smtp_session *s, struct text arguments)
{
	session_reset_mail(s);
	session_reply(s, REPLY_OK, NULL);
}

static void run_noop(struct smtp_session *s, struct text arguments)
{
	session_reply(s, REPLY_OK, NULL);
}

static void run_vrfy(struct smtp_session *s, struct text arguments)
{
	if (arguments.n == 0)
		session_error(s, REPLY_BAD_ARGUMENTS, "an address is expected");
	else
		session_reply(s, REPLY_VRFY, NULL);
}

static void run_help(struct smtp_session *s, struct text arguments);

static void run_quit(struct smtp_session *s, struct text arguments)
{
	session_finish(s, REPLY_BYE);
}

static void run_refused(struct smtp_session *s, struct text arguments)
{
	session_error(s, REPLY_NOT_IMPLEMENTED, NULL);
}

static const struct command commands[] = {
	{"EHLO", 0, run_ehlo},
	{"HELO", 0, run_helo},
	{"STARTTLS", NEED_GREETING | NEED_NO_MAIL | NEED_NO_ARGUMENT, run_starttls},
	{"AUTH", NEED_GREETING | NEED_NO_MAIL, sasl_begin},
	{"MAIL", NEED_GREETING | NEED_AUTH | NEED_NO_MAIL, run_mail},
	{"RCPT", NEED_AUTH | NEED_MAIL, run_rcpt},
	{"DATA", NEED_AUTH | NEED_MAIL | NEED_NO_ARGUMENT, run_data},
	{"RSET", NEED_NO_ARGUMENT, run_rset},
	{"NOOP", 0, run_noop},
	{"VRFY", 0, run_vrfy},
	{"HELP", 0, run_help},
	{"QUIT", NEED_NO_ARGUMENT, run_quit},
	{"EXPN", 0, run_refused},
	{"TURN", 0, run_refused},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void run_help(struct smtp_session *s, struct text arguments)
{
	char text[400];
	int n = snprintf(text, sizeof(text),
			 "214-2.0.0 submission (RFC 6409); commands:\r\n214 2.0.0");

	for (unsigned i = 0; i < COMMANDS; i++) {
		if (commands[i].run != run_refused)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " %s", commands[i].verb);
	}
	n += snprintf(text + n, sizeof(text) - (size_t)n, "\r\n");
	session_reply_raw(s, text, (size_t)n);
}

/* A browser led here by a hostile page must not get a second line across (ALPACA class). */
static bool foreign_protocol(struct smtp_session *s, struct text verb)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"};

	if (s->greeted)
		return false;
	for (unsigned i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (text_is(verb, methods[i])) {
			smtp_count(s->worker, smtp_foreign_protocol);
			session_finish(s, REPLY_UNEXPECTED);
			return true;
		}
	}
	return false;
}

/* Replies and returns false when something that the command needs is missing. */
static bool needs_met(struct smtp_session *s, const struct command *c, struct text arguments)
{
	if ((c->needs & NEED_NO_ARGUMENT) != 0 && arguments.n > 0)
		session_error(s, REPLY_BAD_ARGUMENTS, "no argument is allowed here");
	else if ((c->needs & NEED_GREETING) != 0 && !s->greeted)
		session_error(s, REPLY_SEQUENCE, "send EHLO first");
	else if ((c->needs & NEED_AUTH) != 0 && !s->authenticated) {
		smtp_count(s->worker, smtp_unauthenticated_mail);
		session_error(s,
			      conn_is_secure(&s->conn) ? REPLY_AUTH_REQUIRED : REPLY_TLS_REQUIRED,
			      NULL);
	} else if ((c->needs & NEED_MAIL) != 0 && s->tx == NULL)
		session_error(s, REPLY_SEQUENCE, "send MAIL first");
	else if ((c->needs & NEED_NO_MAIL) != 0 && s->tx != NULL)
		session_error(s, REPLY_SEQUENCE, "not inside a mail transaction");
	else
		return true;
	return false;
}

void command_line(struct smtp_session *s, const char *line, size_t n)
{
	struct text rest = {line, n};

	/* trailing white space is let pass (RFC 5321 section 4.1.1) */
	while (rest.n > 0 && (line[rest.n - 1] == ' ' || line[rest.n - 1] == '\t'))
		rest.n--;
	struct text verb = text_word(&rest);
	if (foreign_protocol(s, verb))
		return;
	for (unsigned i = 0; i < COMMANDS; i++) {
		if (!text_is(verb, commands[i].verb))
			continue;
		/* only AUTH may be longer than a command (RFC 4954 section 4) */
		if (n > COMMAND_LINE && commands[i].run != sasl_begin)
			break;
		if (needs_met(s, &commands[i], rest))
			commands[i].run(s, rest);
		return;
	}
	if (n > COMMAND_LINE)
		session_error(s, REPLY_LINE_TOO_LONG, NULL);
	else
		session_error(s, REPLY_UNKNOWN, NULL);
}
