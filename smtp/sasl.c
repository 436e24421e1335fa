/*
 * sasl.c - AUTH PLAIN and LOGIN (RFC 4954, RFC 4616), only under TLS.
 *
 * A mechanism ends in a user and a password; the check itself is auth.h's.  A refusal is held
 * back for the configured delay, and is the same for unknown users and wrong passwords.
 */
#include "base/log.h"
#include "smtp/auth/base64.h"
#include "smtp/internal.h"

#include <string.h>

void sasl_end(struct smtp_session *s)
{
	struct login *l = s->login;

	s->login = NULL;
	s->sasl = SASL_NONE;
	if (l == NULL || l->checking)
		return;
	explicit_bzero(&l->request, sizeof(l->request));
	slab_free(s->worker->logins, l->handle);
}

static void fail(struct smtp_session *s, enum smtp_reply r)
{
	sasl_end(s);
	s->phase = PHASE_COMMAND;
	session_error(s, r, NULL);
}

static void succeed(struct smtp_session *s)
{
	smtp_count(s->worker, smtp_auth_ok);
	s->authenticated = true;
	memcpy(s->user, s->login->request.user, sizeof(s->user));
	sasl_end(s);
	s->phase = PHASE_COMMAND;
	conn_forget_peer(&s->conn);
	session_reply(s, REPLY_AUTH_OK, NULL);
}

void sasl_refuse(struct smtp_session *s)
{
	s->auth_refused = false;
	s->phase = PHASE_COMMAND;
	session_reply(s, REPLY_AUTH_FAILED, NULL);
	if (++s->auth_failures >= AUTH_FAILURES) {
		smtp_count(s->worker, smtp_auth_too_many);
		session_finish(s, REPLY_TOO_MANY_LOGINS);
	}
	session_arm_deadline(s);
}

static void verdict(struct smtp_session *s, enum auth_verdict v)
{
	struct smtp_worker *w = s->worker;
	char peer[ADDR_TEXT_BYTES];

	if (v == AUTH_OK) {
		succeed(s);
		return;
	}
	if (v == AUTH_OVERLOADED) {
		smtp_count(w, smtp_auth_overloaded);
		sasl_end(s);
		s->phase = PHASE_COMMAND;
		session_reply(s, REPLY_AUTH_LATER, NULL);
		return;
	}
	smtp_count(w, smtp_auth_failed);
	log_info("smtp", "%s: login refused for [%s]", s->tag, addr_text(&s->peer, peer));
	sasl_end(s);
	s->phase = PHASE_CHECKING;
	s->auth_refused = true;
	session_pause(s, w->config->auth_failure_delay_us);
}

static void checked(struct auth_request *r)
{
	struct login *l = container_of(r, struct login, request);
	struct smtp_worker *w = l->worker;
	struct smtp_session *s = slab_get(w->sessions, r->handle);

	l->checking = false;
	if (s == NULL || s->login != l) {
		explicit_bzero(&l->request, sizeof(l->request));
		slab_free(w->logins, l->handle);
		return;
	}
	verdict(s, r->verdict);
	session_arm_deadline(s);
	session_run(s);
}

static void check(struct smtp_session *s)
{
	struct login *l = s->login;

	l->request.source = s->peer;
	l->request.handle = s->handle;
	l->request.done = checked;
	s->phase = PHASE_CHECKING;
	enum auth_verdict v = auth_check(s->worker->env.auth, &l->request);
	l->checking = v == AUTH_PENDING;
	if (v != AUTH_PENDING)
		verdict(s, v);
}

/* authzid NUL authcid NUL password, exactly two NULs (RFC 4616 section 2). */
static void plain_response(struct smtp_session *s, char *message, size_t n)
{
	char *authcid = memchr(message, '\0', n);
	char *end = message + n;
	char *password =
		authcid != NULL ? memchr(authcid + 1, '\0', (size_t)(end - authcid - 1)) : NULL;

	if (password == NULL || memchr(password + 1, '\0', (size_t)(end - password - 1)) != NULL) {
		fail(s, REPLY_AUTH_NOT_BASE64);
		return;
	}
	authcid++;
	password++;
	size_t user_n = strlen(authcid), password_n = (size_t)(end - password);
	/* acting for another user needs a right that nobody has */
	bool proxy = message[0] != '\0' && strcmp(message, authcid) != 0;
	if (proxy || user_n == 0 || user_n >= AUTH_USER_BYTES || password_n == 0 ||
	    password_n >= AUTH_PASSWORD_BYTES) {
		verdict(s, AUTH_BAD);
		return;
	}
	memcpy(s->login->request.user, authcid, user_n);
	memcpy(s->login->request.password, password, password_n);
	check(s);
}

static void login_user(struct smtp_session *s, const char *message, size_t n)
{
	if (n == 0 || n >= AUTH_USER_BYTES || memchr(message, '\0', n) != NULL) {
		verdict(s, AUTH_BAD);
		return;
	}
	memcpy(s->login->request.user, message, n);
	s->sasl = SASL_LOGIN_PASSWORD;
	s->phase = PHASE_AUTH;
	session_reply(s, REPLY_AUTH_CONTINUE, "UGFzc3dvcmQ6"); /* "Password:" */
}

static void login_password(struct smtp_session *s, const char *message, size_t n)
{
	if (n == 0 || n >= AUTH_PASSWORD_BYTES || memchr(message, '\0', n) != NULL) {
		verdict(s, AUTH_BAD);
		return;
	}
	memcpy(s->login->request.password, message, n);
	check(s);
}

static void response(struct smtp_session *s, struct text t)
{
	char message[AUTH_LINE];
	/* RFC 4954 section 4 wants the padding */
	int n = t.n % 4 == 0 ? base64_decode(t.at, t.n, (uint8_t *)message, sizeof(message)) : -1;

	if (n < 0) {
		explicit_bzero(message, sizeof(message));
		fail(s, REPLY_AUTH_NOT_BASE64);
		return;
	}
	switch (s->sasl) {
	case SASL_PLAIN:
		plain_response(s, message, (size_t)n);
		break;
	case SASL_LOGIN_USER:
		login_user(s, message, (size_t)n);
		break;
	case SASL_LOGIN_PASSWORD:
		login_password(s, message, (size_t)n);
		break;
	case SASL_NONE:
		break;
	}
	explicit_bzero(message, (size_t)n);
}

void sasl_line(struct smtp_session *s, struct text line)
{
	if (text_is(line, "*"))
		fail(s, REPLY_AUTH_CANCELLED);
	else
		response(s, line);
}

void sasl_begin(struct smtp_session *s, struct text arguments)
{
	const struct smtp_config *c = s->worker->config;
	struct text mechanism = text_word(&arguments);

	if (!conn_is_secure(&s->conn)) {
		session_error(s, REPLY_AUTH_NEEDS_TLS, NULL);
		return;
	}
	if (s->authenticated || !s->extended) {
		session_error(s, REPLY_SEQUENCE,
			      s->authenticated ? "authenticated already" : "send EHLO first");
		return;
	}
	bool plain = c->auth_plain && text_is(mechanism, "PLAIN");
	bool login = c->auth_login && text_is(mechanism, "LOGIN");
	if (!plain && !login) {
		session_error(s, REPLY_AUTH_UNKNOWN, NULL);
		return;
	}
	handle_t h;
	s->login = slab_alloc(s->worker->logins, &h);
	if (s->login == NULL) {
		smtp_count(s->worker, smtp_auth_overloaded);
		session_reply(s, REPLY_AUTH_LATER, NULL);
		return;
	}
	s->login->worker = s->worker;
	s->login->handle = h;
	s->sasl = plain ? SASL_PLAIN : SASL_LOGIN_USER;
	s->phase = PHASE_AUTH;
	if (arguments.n == 0) /* "VXNlcm5hbWU6" is "Username:" */
		session_reply(s, REPLY_AUTH_CONTINUE, plain ? "" : "VXNlcm5hbWU6");
	else if (text_is(arguments, "=")) /* an empty initial response */
		response(s, (struct text){arguments.at, 0});
	else
		response(s, arguments);
}
