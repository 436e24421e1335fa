/*
 * session.c - one session: greeting, EHLO, STARTTLS, login, messages, QUIT.
 *
 * Source: RFC 5321 (client), 3207, 4954, 4616, 2920, 3030.
 * A function that may end the session returns false when it has.
 */
#include "perf/bench/session.h"

#include "base/base64.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE_MOST = 8192 };

static void forget(struct session *s)
{
	free(s->line);
	free(s->unsent);
	scram_client_destroy(s->scram);
	s->line = s->unsent = NULL;
	s->scram = NULL;
}

/* The session is over by our own doing. */
void session_leave(struct session *s, bool polite)
{
	s->engine->link->close(s, polite);
	forget(s);
	engine_session_over(s);
}

void session_fail(struct session *s, enum bench_counter why, const char *text)
{
	struct engine *e = s->engine;

	bench_count(e, why);
	engine_error(e, text);
	if (s->state == SESSION_ENVELOPE || s->state == SESSION_CONTENT)
		bench_count(e, bench_unknown);
	if (s->working)
		engine_unit_over(s, false);
	session_leave(s, false);
}

void session_ended(struct session *s, enum session_end why)
{
	struct engine *e = s->engine;
	static const struct {
		enum bench_counter counter;
		const char *text;
	} ends[] = {
		[SESSION_END_REFUSED] = {bench_refused, "connection refused or unreachable"},
		[SESSION_END_BROKEN] = {bench_broken, "connection broken off"},
		[SESSION_END_TLS] = {bench_tls_failed, "TLS handshake failed"},
	};

	if (s->state == SESSION_QUIT) {
		bench_count(e, bench_ended);
	} else {
		bench_count(e, ends[why].counter);
		engine_error(e, ends[why].text);
	}
	if (s->state == SESSION_ENVELOPE || s->state == SESSION_CONTENT)
		bench_count(e, bench_unknown);
	if (s->working)
		engine_unit_over(s, s->state == SESSION_QUIT);
	forget(s);
	engine_session_over(s);
}

void session_wait(struct session *s, enum session_state state)
{
	s->state = (uint8_t)state;
	s->step_us = s->engine->shard->now_us;
}

/* false: no memory, the session is over. */
bool session_send(struct session *s, const char *text, size_t n)
{
	size_t took = s->unsent == NULL ? s->engine->link->write(s, text, n) : 0;

	if (took == n)
		return true;
	char *more = realloc(s->unsent, s->unsent_bytes + n - took);
	if (more == NULL) {
		session_fail(s, bench_no_resources, "out of memory");
		return false;
	}
	memcpy(more + s->unsent_bytes, text + took, n - took);
	s->unsent = more;
	s->unsent_bytes += (uint32_t)(n - took);
	return true;
}

/* What did not fit; false: some of it still does not. */
bool session_send_rest(struct session *s)
{
	if (s->unsent == NULL)
		return true;
	size_t took = s->engine->link->write(s, s->unsent, s->unsent_bytes);
	s->unsent_bytes -= (uint32_t)took;
	memmove(s->unsent, s->unsent + took, s->unsent_bytes);
	if (s->unsent_bytes > 0)
		return false;
	free(s->unsent);
	s->unsent = NULL;
	return true;
}

static bool send_ehlo(struct session *s)
{
	static const char line[] = "EHLO bench.example.net\r\n";

	session_wait(s, SESSION_EHLO);
	return session_send(s, line, sizeof(line) - 1);
}

static void session_timer(struct timer *t)
{
	struct session *s = container_of(t, struct session, timer);
	struct engine *e = s->engine;
	const struct bench_options *o = e->options;
	uint64_t now = e->shard->now_us;

	if (s->state == SESSION_READY && o->mode == BENCH_HOLD && !e->stopping) {
		session_wait(s, SESSION_NOOP);
		list_del(&s->ready);
		timer_arm(e->shard->timers, t, now + o->timeout_us);
		session_send(s, "NOOP\r\n", 6);
		return;
	}
	if (s->state != SESSION_READY && now - s->step_us >= o->timeout_us) {
		session_fail(s, bench_timeouts, "no reply in time");
		return;
	}
	timer_arm(e->shard->timers, t,
		  (s->state == SESSION_READY ? now : s->step_us) + o->timeout_us);
}

void session_begin(struct session *s)
{
	struct engine *e = s->engine;

	timer_init(&s->timer, session_timer);
	list_init(&s->ready);
	s->opening = true;
	s->begun_us = e->shard->now_us;
	session_wait(s, SESSION_OPENING);
	bench_count(e, bench_opened);
	e->opening++;
	timer_arm(e->shard->timers, &s->timer, s->step_us + e->options->timeout_us);
	int rc = e->link->open(s);
	if (rc == 0)
		return;
	bench_count(e, bench_no_resources);
	engine_error(e, strerror(-rc));
	if (s->working)
		engine_unit_over(s, false);
	forget(s);
	engine_session_over(s);
}

static bool secure(struct session *s)
{
	struct engine *e = s->engine;
	bool resume = e->ticket.bytes > 0 && bench_draw(e->shard) < e->options->resume;

	session_wait(s, SESSION_SECURING);
	if (resume)
		bench_count(e, bench_offered_ticket);
	if (e->link->secure(s, resume ? &e->ticket : NULL))
		return true;
	session_fail(s, bench_no_resources, "TLS not possible now");
	return false;
}

void session_opened(struct session *s)
{
	struct engine *e = s->engine;

	bench_count(e, bench_connected);
	engine_time(e, TIME_CONNECT, s->step_us);
	if (e->options->mode == BENCH_CONNECT) {
		s->state = SESSION_QUIT;
		bench_count(e, bench_ended);
		engine_unit_over(s, true);
		session_leave(s, true);
		return;
	}
	if (e->options->implicit)
		secure(s);
	else
		session_wait(s, SESSION_GREETING);
}

void session_secured(struct session *s)
{
	struct engine *e = s->engine;

	s->secured = true;
	bench_count(e, bench_secured);
	engine_time(e, TIME_TLS, s->step_us);
	if (e->options->mode == BENCH_HANDSHAKE &&
	    (e->options->resume == 0 || e->ticket.bytes > 0)) {
		s->state = SESSION_QUIT;
		bench_count(e, bench_ended);
		engine_unit_over(s, true);
		session_leave(s, true);
		return;
	}
	if (e->options->starttls && !send_ehlo(s))
		return;
	if (!e->options->starttls)
		session_wait(s, SESSION_GREETING);
	session_readable(s);
}

/* Logged in, or as far as this run goes. */
static bool ready(struct session *s)
{
	struct engine *e = s->engine;

	scram_client_destroy(s->scram);
	s->scram = NULL;
	s->opening = false;
	e->opening--;
	bench_count(e, bench_logged_in);
	engine_time(e, TIME_LOGIN, s->begun_us);
	if (e->options->resume > 0 && e->ticket.bytes == 0)
		e->link->ticket(s, &e->ticket);
	s->messages = e->options->messages > 0 ? e->options->messages : UINT64_MAX;
	if (e->options->mode == BENCH_LOGIN || e->options->mode == BENCH_HANDSHAKE) {
		session_quit(s);
		return false;
	}
	if (e->options->mode == BENCH_HOLD) {
		uint64_t us = e->options->noop_us;

		session_wait(s, SESSION_READY);
		if (s->working)
			engine_unit_over(s, true);
		/* the first one anywhere in the interval, or all would come together */
		timer_arm(e->shard->timers, &s->timer,
			  e->shard->now_us + shard_random(e->shard) % us);
		list_push_back(&e->ready, &s->ready);
		return true;
	}
	return session_next(s);
}

static bool log_in(struct session *s)
{
	const struct bench_options *o = s->engine->options;
	char plain[2 * BENCH_NAME + 2], text[SCRAM_TEXT + 64];

	if (o->auth == BENCH_AUTH_NONE)
		return ready(s);
	s->state = SESSION_LOGIN;
	if (o->auth == BENCH_AUTH_SCRAM) {
		char first[SCRAM_TEXT];
		s->scram = scram_client_create(o->user, o->password, shard_random(s->engine->shard),
					       shard_random(s->engine->shard));
		if (s->scram == NULL) {
			session_fail(s, bench_no_resources, "out of memory");
			return false;
		}
		scram_client_first(s->scram, first);
		int n = snprintf(text, sizeof(text), "AUTH SCRAM-SHA-256 %s\r\n", first);
		return session_send(s, text, (size_t)n);
	}
	size_t user = strlen(o->user), password = strlen(o->password);
	plain[0] = '\0';
	memcpy(plain + 1, o->user, user + 1);
	memcpy(plain + user + 2, o->password, password);
	size_t n = (size_t)sprintf(text, "AUTH PLAIN ");
	base64_encode((const uint8_t *)plain, user + password + 2, text + n);
	strcat(text, "\r\n");
	return session_send(s, text, strlen(text));
}

static bool login_reply(struct session *s, unsigned code, const char *text, size_t n)
{
	char next[SCRAM_TEXT + 4];

	if (code == 235)
		return ready(s);
	if (code == 334 && s->scram != NULL && scram_client_next(s->scram, text, n, next)) {
		strcat(next, "\r\n");
		return session_send(s, next, strlen(next));
	}
	session_fail(s, bench_login_failed, text - 4);
	return false;
}

void session_quit(struct session *s)
{
	session_wait(s, SESSION_QUIT);
	session_send(s, "QUIT\r\n", 6);
}

/* Takes the next unit if there is one for this session.  false: the session may be over. */
bool session_next(struct session *s)
{
	session_wait(s, SESSION_READY);
	engine_ready(s);
	return false;
}

static bool ehlo_reply(struct session *s, unsigned code, const char *line)
{
	if (code != 250) {
		session_fail(s, bench_login_failed, line);
		return false;
	}
	if (!s->engine->options->starttls || s->secured)
		return log_in(s);
	session_wait(s, SESSION_STARTTLS);
	return session_send(s, "STARTTLS\r\n", 10);
}

/* The last line of a reply.  false: the session may be over, or reads on by itself. */
static bool reply(struct session *s, unsigned code, const char *line, size_t n)
{
	bench_count(s->engine, bench_replies);
	switch (s->state) {
	case SESSION_GREETING:
		if (code == 220)
			return send_ehlo(s);
		session_fail(s, bench_login_failed, line);
		return false;
	case SESSION_EHLO:
		return ehlo_reply(s, code, line);
	case SESSION_STARTTLS:
		if (code == 220)
			secure(s);
		else
			session_fail(s, bench_login_failed, line);
		return false;
	case SESSION_LOGIN:
		return login_reply(s, code, line + 4, n > 4 ? n - 4 : 0);
	case SESSION_ENVELOPE:
		return work_envelope_reply(s, code, line, n);
	case SESSION_CONTENT:
		if (!s->content_due)
			return work_verdict(s, code, line, n);
		break;
	case SESSION_RSET:
		return work_reset_reply(s, code);
	case SESSION_NOOP:
		return work_noop_reply(s, code, line);
	case SESSION_QUIT:
		bench_count(s->engine, bench_ended);
		if (s->working)
			engine_unit_over(s, true);
		session_leave(s, true);
		return false;
	default:
		break;
	}
	session_fail(s, bench_bad_replies, line);
	return false;
}

/* A line without its end.  false: as of reply(). */
static bool line_in(struct session *s, char *line, size_t n)
{
	if (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = '\0';
	if (n < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' ||
	    line[2] < '0' || line[2] > '9' || (n > 3 && line[3] != ' ' && line[3] != '-')) {
		session_fail(s, bench_bad_replies, line);
		return false;
	}
	if (n > 3 && line[3] == '-')
		return true;
	unsigned code = (unsigned)(line[0] - '0') * 100 + (unsigned)(line[1] - '0') * 10 +
			(unsigned)(line[2] - '0');
	/* reply() may look at the text behind the code */
	if (n == 3)
		memcpy(line + 3, " ", 2);
	return reply(s, code, line, n);
}

/* Keeps the begin of a line until its end comes. */
static bool keep(struct session *s, const char *data, size_t n)
{
	char *wider =
		s->line_bytes + n <= LINE_MOST ? realloc(s->line, s->line_bytes + n + 3) : NULL;

	if (wider == NULL) {
		session_fail(s, bench_bad_replies, "a reply's line without end");
		return false;
	}
	memcpy(wider + s->line_bytes, data, n);
	s->line = wider;
	s->line_bytes += (uint32_t)n;
	return true;
}

/* The lines in data.  false: the session may be over. */
static bool lines_in(struct session *s, char *data, size_t n)
{
	handle_t h = s->handle;
	struct slab *sessions = s->engine->sessions;

	while (n > 0) {
		char *end = memchr(data, '\n', n);
		size_t take = end != NULL ? (size_t)(end - data) + 1 : n;
		char line[LINE_MOST + 4];

		if (end == NULL || s->line != NULL) {
			if (!keep(s, data, take))
				return false;
		}
		data += take;
		n -= take;
		if (end == NULL)
			return true;
		size_t bytes = take - 1;
		if (s->line != NULL) {
			bytes = s->line_bytes - 1;
			memcpy(line, s->line, bytes);
			free(s->line);
			s->line = NULL;
			s->line_bytes = 0;
		} else {
			if (bytes > LINE_MOST)
				bytes = LINE_MOST;
			memcpy(line, data - take, bytes);
		}
		line_in(s, line, bytes);
		if (slab_get(sessions, h) == NULL)
			return false;
	}
	return true;
}

void session_readable(struct session *s)
{
	struct engine *e = s->engine;
	struct slab *sessions = e->sessions;
	handle_t h = s->handle;
	char data[4096];

	for (;;) {
		if (s->state == SESSION_SECURING || s->state == SESSION_OPENING)
			return;
		size_t n = e->link->read(s, data, sizeof(data));
		if (n == 0)
			break;
		if (!lines_in(s, data, n))
			return;
	}
	if (slab_get(sessions, h) != NULL && e->link->eof(s)) {
		e->link->close(s, true);
		session_ended(s, SESSION_END_BROKEN);
	}
}

void session_writable(struct session *s)
{
	if (s->state == SESSION_SECURING || s->state == SESSION_OPENING)
		return;
	work_send_content(s);
}
