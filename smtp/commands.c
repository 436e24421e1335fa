/*
 * commands.c - the command table: verb, what must have happened before, handler.
 *
 * Source: RFC 5321 section 4.1, RFC 6409 section 4 (authentication), RFC 3207 (STARTTLS).
 */
#include "smtp/internal.h"

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

/* The mechanism is noted for the envelope; whether there is such a one is sasl.c's to say. */
static void run_auth(struct smtp_session *s, struct text arguments)
{
	struct text rest = arguments, word = text_word(&rest);
	size_t n = 0;

	for (; !s->authenticated && n < word.n && n < sizeof(s->mechanism) - 1; n++) {
		char c = word.at[n];
		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		bool fine =
			(c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
		s->mechanism[n] = fine ? c : '?';
	}
	if (!s->authenticated)
		s->mechanism[n] = '\0';
	sasl_begin(s, arguments);
}

static void run_refused(struct smtp_session *s, struct text arguments)
{
	session_error(s, REPLY_NOT_IMPLEMENTED, NULL);
}

static const struct command commands[] = {
	{"EHLO", 0, run_ehlo},
	{"HELO", 0, run_helo},
	{"STARTTLS", NEED_GREETING | NEED_NO_MAIL | NEED_NO_ARGUMENT, run_starttls},
	{"AUTH", NEED_GREETING | NEED_NO_MAIL, run_auth},
	{"MAIL", NEED_GREETING | NEED_AUTH | NEED_NO_MAIL, run_mail},
	{"RCPT", NEED_AUTH | NEED_MAIL, run_rcpt},
	{"DATA", NEED_AUTH | NEED_MAIL | NEED_NO_ARGUMENT, run_data},
	{"BDAT", 0, run_bdat},
	{"RSET", NEED_NO_ARGUMENT, run_rset},
	{"NOOP", 0, run_noop},
	{"VRFY", 0, run_vrfy},
	{"HELP", 0, run_help},
	{"QUIT", NEED_NO_ARGUMENT, run_quit},
	{"EXPN", 0, run_refused},
	{"TURN", 0, run_refused},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

bool command_is_known(struct text verb)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		if (text_is(verb, commands[i].verb))
			return true;
	}
	return false;
}

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

/* The command of that name, or NULL. */
static const struct command *find(struct text verb)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		if (text_is(verb, commands[i].verb))
			return &commands[i];
	}
	return NULL;
}

static void unknown(struct smtp_session *s, bool too_long)
{
	/* a client that sends its message although DATA was refused: lines of it that look like
	 * commands must not become any */
	if (s->data_refused) {
		smtp_count(s->worker, smtp_data_as_commands);
		session_finish(s, REPLY_UNEXPECTED);
		return;
	}
	session_error(s, too_long ? REPLY_LINE_TOO_LONG : REPLY_UNKNOWN, NULL);
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
	const struct command *c = find(verb);
	/* only AUTH may be longer than a command (RFC 4954 section 4) */
	if (c == NULL || (n > COMMAND_LINE && c->run != run_auth)) {
		unknown(s, n > COMMAND_LINE);
		return;
	}
	if (needs_met(s, c, rest))
		c->run(s, rest);
	s->data_refused = c->run == run_data && s->phase == PHASE_COMMAND;
}
