/* work.c - units of work of a session that has logged in: messages, NOOPs */
#include "perf/bench/session.h"

#include <inttypes.h>
#include <stdio.h>

enum { COMMANDS = ENGINE_BUFFER };

static size_t put_recipient(const struct session *s, unsigned i, char *out, size_t room)
{
	const char *to = s->engine->options->to, *mark = strchr(to, '%');

	if (mark == NULL)
		return (size_t)snprintf(out, room, "RCPT TO:<%s>\r\n", to);
	return (size_t)snprintf(out, room, "RCPT TO:<%.*s%" PRIu64 "%s>\r\n", (int)(mark - to), to,
				s->number * 256 + i, mark + 1);
}

/* Commands of the envelope from number `from` to before `to`: MAIL, RCPTs, DATA or BDAT. */
static bool send_envelope(struct session *s, unsigned from, unsigned to)
{
	const struct bench_options *o = s->engine->options;
	char *text = (char *)s->engine->buffer;
	size_t n = 0;

	for (unsigned i = from; i < to; i++) {
		if (n > COMMANDS - 1024) {
			if (!session_send(s, text, n))
				return false;
			n = 0;
		}
		if (i == 0)
			n += (size_t)snprintf(text + n, COMMANDS - n, "MAIL FROM:<%s>\r\n",
					      o->from);
		else if (i <= o->recipients)
			n += put_recipient(s, i - 1, text + n, COMMANDS - n);
		else if (o->bdat)
			n += (size_t)snprintf(text + n, COMMANDS - n, "BDAT %u LAST\r\n", s->size);
		else
			n += (size_t)snprintf(text + n, COMMANDS - n, "DATA\r\n");
	}
	return session_send(s, text, n);
}

/* As much of the content as there is room for.  false: the session is over. */
bool work_send_content(struct session *s)
{
	struct engine *e = s->engine;

	if (!session_send_rest(s))
		return true;
	while (s->content_due) {
		size_t n = content_fill(e->content, s->number, s->size, s->written, e->buffer,
					ENGINE_BUFFER);
		if (n == 0) {
			s->content_due = false;
			s->step_us = e->shard->now_us;
			break;
		}
		size_t took = e->link->write(s, e->buffer, n);
		s->written += (uint32_t)took;
		if (took > 0)
			s->step_us = e->shard->now_us;
		if (took < n)
			break;
	}
	return true;
}

static bool begin_content(struct session *s)
{
	engine_time(s->engine, TIME_ENVELOPE, s->begun_us);
	session_wait(s, SESSION_CONTENT);
	s->written = 0;
	s->content_due = true;
	return work_send_content(s);
}

void session_work(struct session *s, uint64_t arrival_us)
{
	struct engine *e = s->engine;
	const struct bench_options *o = e->options;

	s->working = true;
	s->arrival_us = arrival_us;
	s->begun_us = e->shard->now_us;
	if (o->mode == BENCH_NOOP) {
		session_wait(s, SESSION_NOOP);
		session_send(s, "NOOP\r\n", 6);
		return;
	}
	s->number = ++e->numbers;
	s->size = content_draw_size(o, e->shard);
	if (o->bdat)
		s->size = (uint32_t)content_bytes(e->content, s->number, s->size);
	s->replies = 0;
	s->failure = 0;
	session_wait(s, SESSION_ENVELOPE);
	unsigned commands = o->recipients + 2;
	if (o->bdat && o->pipelining) {
		if (!send_envelope(s, 0, commands))
			return;
		s->written = 0;
		s->content_due = true;
		work_send_content(s);
	} else {
		send_envelope(s, 0, o->pipelining ? commands : 1);
	}
}

/* The message has its verdict. */
bool work_verdict(struct session *s, unsigned code, const char *line, size_t n)
{
	struct engine *e = s->engine;

	if (s->state == SESSION_CONTENT)
		engine_time(e, TIME_CONTENT, s->step_us);
	if (code / 100 == 2) {
		engine_accepted(s, line, n);
	} else {
		bench_count(e, code / 100 == 4 ? bench_deferred : bench_rejected);
		engine_error(e, line);
	}
	if (s->messages != UINT64_MAX)
		s->messages--;
	engine_unit_over(s, code / 100 == 2);
	if (code == 421) {
		session_leave(s, true);
		return false;
	}
	if (s->messages > 0)
		return session_next(s);
	session_quit(s);
	return false;
}

static bool give_up_message(struct session *s)
{
	session_wait(s, SESSION_RSET);
	return session_send(s, "RSET\r\n", 6);
}

/* One reply to MAIL, RCPT, DATA or BDAT. */
bool work_envelope_reply(struct session *s, unsigned code, const char *line, size_t n)
{
	const struct bench_options *o = s->engine->options;
	unsigned at = s->replies++, last = o->recipients + 1;
	bool good = at < last || o->bdat ? code / 100 == 2 : code == 354;

	if (!good && s->failure == 0) {
		s->failure = (uint16_t)code;
		if (at < last)
			engine_error(s->engine, line);
	}
	if (at == last && o->bdat) {
		if (s->content_due || s->failure == 0 || s->failure == code)
			return work_verdict(s, code, line, n);
		return work_verdict(s, s->failure, line, n);
	}
	if (at == last) {
		/* an empty transaction that was opened all the same must be closed */
		if (good)
			return begin_content(s);
		if (s->failure == code)
			engine_error(s->engine, line);
	} else if (good || o->pipelining) {
		if (o->pipelining)
			return true;
		if (at + 1 == last && o->bdat) {
			if (!send_envelope(s, last, last + 1))
				return false;
			s->written = 0;
			s->content_due = true;
			return work_send_content(s);
		}
		return send_envelope(s, at + 1, at + 2);
	}
	return give_up_message(s);
}

bool work_reset_reply(struct session *s, unsigned code)
{
	struct engine *e = s->engine;

	bench_count(e, s->failure / 100 == 4 ? bench_deferred : bench_rejected);
	if (s->messages != UINT64_MAX)
		s->messages--;
	engine_unit_over(s, false);
	if (code != 250) {
		session_leave(s, true);
		return false;
	}
	if (s->messages > 0)
		return session_next(s);
	session_quit(s);
	return false;
}

bool work_noop_reply(struct session *s, unsigned code, const char *line)
{
	struct engine *e = s->engine;

	if (code != 250) {
		session_fail(s, bench_bad_replies, line);
		return false;
	}
	bench_count(e, bench_noops);
	engine_time(e, TIME_NOOP, s->step_us);
	if (e->options->mode != BENCH_HOLD) {
		if (s->messages != UINT64_MAX)
			s->messages--;
		engine_unit_over(s, true);
		if (s->messages > 0)
			return session_next(s);
		session_quit(s);
		return false;
	}
	session_wait(s, SESSION_READY);
	timer_arm(e->shard->timers, &s->timer, e->shard->now_us + e->options->noop_us);
	list_push_back(&e->ready, &s->ready);
	return true;
}
