/*
 * sasl.c - AUTH (RFC 4954): only under TLS, one exchange at a time, the same refusal for every
 * reason that could tell an attacker something.
 *
 * The mechanisms are in sasl_*.c; the checks that cost are auth.h's.  A refusal is held back for
 * the configured delay, and is the same for unknown users and wrong passwords.
 */
#include "smtp/sasl.h"

#include "base/base64.h"
#include "base/log.h"

#include <string.h>

/* In the order of EHLO: what a client shall prefer comes first. */
static const struct sasl_mechanism *const mechanisms[] = {
	&sasl_scram_plus, &sasl_scram, &sasl_external, &sasl_oauthbearer,
	&sasl_xoauth2,    &sasl_plain, &sasl_login,
};
enum { MECHANISMS = sizeof(mechanisms) / sizeof(mechanisms[0]), CHALLENGE_MOST = 1024 };

static bool usable(const struct smtp_session *s, const struct sasl_mechanism *m)
{
	return (s->worker->config->mechanisms & 1u << m->id) != 0 &&
	       (m->usable == NULL || m->usable(s));
}

bool sasl_offers(const struct smtp_session *s, enum smtp_mechanism id)
{
	for (unsigned i = 0; i < MECHANISMS; i++) {
		if (mechanisms[i]->id == id)
			return usable(s, mechanisms[i]);
	}
	return false;
}

size_t sasl_list(const struct smtp_session *s, char *out, size_t room)
{
	size_t n = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < MECHANISMS; i++) {
		size_t name = strlen(mechanisms[i]->name);
		if (!usable(s, mechanisms[i]) || n + name + 2 > room)
			continue;
		out[n++] = ' ';
		memcpy(out + n, mechanisms[i]->name, name + 1);
		n += name;
	}
	return n;
}

static void login_free(struct smtp_worker *w, struct login *l)
{
	if (l->scratch != NULL) {
		explicit_bzero(l->scratch->data, l->scratch->size);
		chunk_free(w->shard->chunks, l->scratch);
	}
	auth_identity_drop(l->request.identity);
	explicit_bzero(&l->request, sizeof(l->request));
	slab_free(w->logins, l->handle);
}

void sasl_end(struct smtp_session *s)
{
	struct login *l = s->login;

	s->login = NULL;
	if (l != NULL && !l->checking)
		login_free(s->worker, l);
}

void *sasl_scratch(struct smtp_session *s, enum chunk_size size)
{
	struct login *l = s->login;

	if (l->scratch == NULL)
		l->scratch = chunk_alloc(s->worker->shard->chunks, size, false);
	if (l->scratch != NULL)
		return l->scratch->data;
	sasl_verdict(s, AUTH_OVERLOADED);
	return NULL;
}

bool sasl_set_user(struct smtp_session *s, const char *name, size_t n)
{
	char *user = s->login->request.user;

	if (n == 0 || n >= AUTH_USER_BYTES || memchr(name, '\0', n) != NULL)
		return false;
	memcpy(user, name, n);
	user[n] = '\0';
	return true;
}

void sasl_challenge(struct smtp_session *s, const char *text)
{
	char line[4 + (CHALLENGE_MOST + 2) / 3 * 4 + 3] = "334 ";
	size_t n = strlen(text);

	n = n < CHALLENGE_MOST ? n : CHALLENGE_MOST;
	base64_encode((const uint8_t *)text, n, line + 4);
	n = strlen(line);
	memcpy(line + n, "\r\n", 2);
	s->phase = PHASE_AUTH;
	session_reply_raw(s, line, n + 2);
}

void sasl_fail(struct smtp_session *s, enum smtp_reply r)
{
	sasl_end(s);
	s->phase = PHASE_COMMAND;
	session_error(s, r, NULL);
}

void sasl_succeed(struct smtp_session *s)
{
	smtp_count(s->worker, smtp_auth_ok);
	s->authenticated = true;
	s->auth_us = (uint32_t)(s->worker->shard->now_us - s->data_started_us);
	memcpy(s->user, s->login->request.user, sizeof(s->user));
	s->identity = s->login->request.identity;
	s->login->request.identity = NULL;
	sasl_end(s);
	s->phase = PHASE_COMMAND;
	conn_forget_peer(&s->conn);
	follow_event(s, "logged in as %s by %s", s->user, s->mechanism);
	if (!policy_enter(s))
		return;
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

/* Until a whole number of delays since the question: how long the judging took, here or at a back
 * end, for a known user or not, does not show. */
static uint64_t refusal_delay(const struct smtp_session *s)
{
	uint64_t delay = s->worker->config->auth_failure_delay_us;
	uint64_t asked = s->login->request.asked_us, now = s->worker->shard->now_us;

	return delay == 0 || asked == 0 ? delay : delay - (now - asked) % delay;
}

void sasl_verdict(struct smtp_session *s, enum auth_verdict v)
{
	struct smtp_worker *w = s->worker;
	char peer[ADDR_TEXT_BYTES];

	if (v == AUTH_OK) {
		sasl_succeed(s);
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
	log_info("smtp", "%s: %s refused for [%s]", s->tag, s->login->mechanism->name,
		 addr_text(&s->peer, peer));
	uint64_t pause_us = refusal_delay(s);
	sasl_end(s);
	s->phase = PHASE_CHECKING;
	s->auth_refused = true;
	session_pause(s, pause_us);
}

static void judged(struct smtp_session *s, enum auth_verdict v)
{
	const struct sasl_mechanism *m = s->login->mechanism;

	if (m->judged != NULL)
		m->judged(s, v);
	else
		sasl_verdict(s, v);
}

static void checked(struct auth_request *r)
{
	struct login *l = container_of(r, struct login, request);
	struct smtp_worker *w = l->worker;
	struct smtp_session *s = slab_get(w->sessions, r->handle);

	l->checking = false;
	if (s == NULL || s->login != l) {
		login_free(w, l);
		return;
	}
	judged(s, r->verdict);
	session_arm_deadline(s);
	session_run(s);
}

void sasl_ask(struct smtp_session *s, enum auth_kind kind)
{
	struct login *l = s->login;

	l->request.kind = kind;
	l->request.source = s->peer;
	l->request.listener = s->listener->name;
	l->request.handle = s->handle;
	l->request.done = checked;
	s->phase = PHASE_CHECKING;
	enum auth_verdict v = auth_check(s->worker->env.auth, &l->request);
	l->checking = v == AUTH_PENDING;
	if (v != AUTH_PENDING)
		judged(s, v);
}

static void response(struct smtp_session *s, struct text t)
{
	char message[AUTH_LINE];
	/* RFC 4954 section 4 wants the padding */
	int n = t.n % 4 == 0 ? base64_decode(t.at, t.n, (uint8_t *)message, sizeof(message) - 1)
			     : -1;

	if (n < 0) {
		explicit_bzero(message, sizeof(message));
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
		return;
	}
	message[n] = '\0';
	s->login->mechanism->step(s, message, (size_t)n);
	explicit_bzero(message, (size_t)n);
}

void sasl_line(struct smtp_session *s, struct text line)
{
	if (text_is(line, "*"))
		sasl_fail(s, REPLY_AUTH_CANCELLED);
	else
		response(s, line);
}

static const struct sasl_mechanism *find(const struct smtp_session *s, struct text name)
{
	for (unsigned i = 0; i < MECHANISMS; i++) {
		if (text_is(name, mechanisms[i]->name) && usable(s, mechanisms[i]))
			return mechanisms[i];
	}
	return NULL;
}

void sasl_begin(struct smtp_session *s, struct text arguments)
{
	struct text name = text_word(&arguments);
	handle_t h;

	if (!conn_is_secure(&s->conn)) {
		session_error(s, REPLY_AUTH_NEEDS_TLS, NULL);
		return;
	}
	if (s->authenticated || !s->extended) {
		session_error(s, REPLY_SEQUENCE,
			      s->authenticated ? "authenticated already" : "send EHLO first");
		return;
	}
	const struct sasl_mechanism *m = find(s, name);
	if (m == NULL) {
		session_error(s, REPLY_AUTH_UNKNOWN, NULL);
		return;
	}
	s->login = slab_alloc(s->worker->logins, &h);
	if (s->login == NULL) {
		smtp_count(s->worker, smtp_auth_overloaded);
		session_reply(s, REPLY_AUTH_LATER, NULL);
		return;
	}
	s->login->worker = s->worker;
	s->login->handle = h;
	s->login->mechanism = m;
	s->data_started_us = s->worker->shard->now_us;
	s->phase = PHASE_AUTH;
	if (arguments.n == 0)
		session_reply(s, REPLY_AUTH_CONTINUE, m->prompt != NULL ? m->prompt : "");
	else if (text_is(arguments, "=")) /* an empty initial response */
		response(s, (struct text){arguments.at, 0});
	else
		response(s, arguments);
}
