/*
 * session.c - the life of one SMTP session: events of its connection, replies into its output,
 * deadlines.
 *
 * Reading stops whenever something is awaited (a verdict, a password check, room for replies,
 * a chunk), and what has not been read stays in the stream: the receive window is the
 * back-pressure.
 */
#include "base/log.h"
#include "smtp/internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLY_LINE = 600 };

static void session_free(struct smtp_session *s)
{
	struct smtp_worker *w = s->worker;
	struct chunk_pool *p = w->shard->chunks;

	timer_cancel(w->shard->timers, &s->deadline);
	timer_cancel(w->shard->timers, &s->resume);
	fair_end(s);
	policy_leave(s);
	if (s->tx != NULL) {
		if (s->tx->started_data)
			smtp_count(w, smtp_message_aborted);
		transaction_abandon(s->tx);
	}
	sasl_end(s);
	auth_identity_drop(s->identity);
	if (s->in != NULL)
		chunk_free(p, s->in);
	if (s->out != NULL)
		chunk_free(p, s->out);
	if (s->counted)
		limits_leave(w, &s->peer);
	if (!s->quitting)
		smtp_count(w, smtp_sessions_reset);
	follow_event(s, "closed after %u messages%s", s->messages,
		     s->quitting ? "" : ", without QUIT");
	log_debug("smtp", "%s: closed, %u messages", s->tag, s->messages);
	explicit_bzero(s->user, sizeof(s->user));
	slab_free(w->sessions, s->handle);
	counter_set(&w->counters[smtp_sessions_now], slab_used(w->sessions));
}

static void session_close(struct smtp_session *s)
{
	conn_close(&s->conn);
	session_free(s);
}

static void session_abort(struct smtp_session *s)
{
	conn_abort(&s->conn);
	session_free(s);
}

/* Writes what waits; true: all of it. */
static bool flush_replies(struct smtp_session *s)
{
	struct chunk *c = s->out;

	if (c == NULL)
		return true;
	c->start += (uint32_t)conn_write(&s->conn, c->data + c->start, c->end - c->start, false);
	if (c->start < c->end)
		return false;
	/* during DATA it stays: the verdict's reply must not depend on memory then */
	if (s->phase == PHASE_DATA || s->phase == PHASE_CHUNK || s->phase == PHASE_COMMIT) {
		c->start = c->end = 0;
		return true;
	}
	chunk_free(s->worker->shard->chunks, c);
	s->out = NULL;
	return true;
}

/* Room for the reply to one more command. */
static bool reply_room(struct smtp_session *s)
{
	if (s->out == NULL)
		s->out = chunk_alloc(s->worker->shard->chunks, CHUNK_4K, true);
	if (s->out == NULL) {
		session_pause(s, RETRY_US);
		return false;
	}
	if (s->out->size - s->out->end >= REPLY_ROOM)
		return true;
	return flush_replies(s) && reply_room(s);
}

void session_reply_raw(struct smtp_session *s, const char *text, size_t n)
{
	if (s->out == NULL)
		s->out = chunk_alloc(s->worker->shard->chunks, CHUNK_4K, true);
	if (s->out == NULL || s->out->size - s->out->end < n) {
		/* replies in order or none at all: this session cannot go on */
		s->quitting = true;
		s->phase = PHASE_CLOSING;
		return;
	}
	memcpy(s->out->data + s->out->end, text, n);
	s->out->end += (uint32_t)n;
	if (s->worker->follow != NULL)
		follow_reply_note(s, text, n);
}

/* tag: what a customer reads out to the operator finds the log lines; NULL: none */
static size_t format_reply(char *line, size_t room, enum smtp_reply r, const char *arg,
			   const char *tag)
{
	const struct smtp_reply_row *row = &smtp_reply_table[r];
	const char *hole = strstr(row->text, "%s");
	int n = snprintf(line, room, "%d ", row->code);

	if (row->enhanced[0] != '\0')
		n += snprintf(line + n, room - (size_t)n, "%s ", row->enhanced);
	if (hole != NULL)
		n += snprintf(line + n, room - (size_t)n, "%.*s%.300s%s", (int)(hole - row->text),
			      row->text, arg != NULL ? arg : "", hole + 2);
	else
		n += snprintf(line + n, room - (size_t)n, "%s", row->text);
	if (tag != NULL)
		n += snprintf(line + n, room - (size_t)n, " [%s]", tag);
	n += snprintf(line + n, room - (size_t)n, "\r\n");
	return (size_t)n;
}

void session_reply(struct smtp_session *s, enum smtp_reply r, const char *arg)
{
	char line[REPLY_LINE];
	const struct smtp_reply_row *row = &smtp_reply_table[r];
	size_t n = format_reply(line, sizeof(line), r, arg, row->code >= 400 ? s->tag : NULL);

	if (row->code >= 400 && s->worker->env.records != NULL)
		records_rejection(s, r, line, n);
	session_reply_raw(s, line, n);
}

void session_finish(struct smtp_session *s, enum smtp_reply r)
{
	session_reply(s, r, s->worker->config->hostname);
	s->phase = PHASE_CLOSING;
	s->quitting = true;
}

bool session_error(struct smtp_session *s, enum smtp_reply r, const char *arg)
{
	int code = smtp_reply_table[r].code;

	smtp_count(s->worker, code == 503 ? smtp_errors_sequence : smtp_errors_syntax);
	if (++s->errors > ERROR_BUDGET) {
		smtp_count(s->worker, smtp_error_budget);
		session_finish(s, REPLY_TOO_MANY_ERRORS);
		return true;
	}
	session_reply(s, r, arg);
	return false;
}

/* A deadline belongs to the command, not to its octets: dripping does not extend it. */
void session_arm_deadline(struct smtp_session *s)
{
	const struct smtp_config *c = s->worker->config;
	uint64_t now = s->worker->shard->now_us, due = now + c->command_us;

	if (!s->authenticated) {
		uint64_t last = s->opened_us + c->unauthenticated_us * UNAUTHENTICATED_ROUNDS;
		due = now + c->unauthenticated_us;
		if (due > last)
			due = last;
	}
	if (s->phase == PHASE_DATA || (s->phase == PHASE_CHUNK && s->authenticated))
		due = now + c->data_us;
	if (s->phase == PHASE_CLOSING)
		due = now + CLOSE_GRACE_US;
	timer_arm(s->worker->shard->timers, &s->deadline, due);
}

static void deadline_passed(struct timer *t)
{
	struct smtp_session *s = container_of(t, struct smtp_session, deadline);
	struct smtp_worker *w = s->worker;

	/* a long body may take longer, at a rate that no dripping client keeps up */
	if (s->phase == PHASE_DATA || (s->phase == PHASE_CHUNK && s->authenticated)) {
		uint64_t allowed = s->data_started_us + w->config->data_us +
				   s->data_bytes / 1024 * DATA_US_PER_KIB;
		if (allowed > w->shard->now_us) {
			timer_arm(w->shard->timers, t, allowed);
			return;
		}
	}
	/* ours to finish: the spool or the auth threads have it.  Not by session_arm_deadline(),
	 * whose due time may lie in the past before authentication. */
	if (s->phase == PHASE_COMMIT || s->phase == PHASE_CHECKING) {
		timer_arm(w->shard->timers, t, w->shard->now_us + w->config->command_us);
		return;
	}
	smtp_count(w, smtp_timeouts);
	if (s->phase == PHASE_SECURING || s->phase == PHASE_CLOSING) {
		session_abort(s);
		return;
	}
	session_finish(s, REPLY_TIMEOUT);
	session_run(s);
}

void session_pause(struct smtp_session *s, uint64_t us)
{
	timer_arm(s->worker->shard->timers, &s->resume, s->worker->shard->now_us + us);
}

static void pause_over(struct timer *t)
{
	struct smtp_session *s = container_of(t, struct smtp_session, resume);

	if (s->auth_refused)
		sasl_refuse(s);
	session_run(s);
}

static void begin_starttls(struct smtp_session *s)
{
	static const struct conn_tls server;

	if (s->in != NULL) {
		chunk_free(s->worker->shard->chunks, s->in);
		s->in = NULL;
	}
	s->data_started_us = s->worker->shard->now_us;
	if (!conn_secure(&s->conn, &server))
		session_abort(s);
	else
		session_arm_deadline(s);
}

void session_run(struct smtp_session *s)
{
	bool flushed;

	while (s->phase != PHASE_CLOSING && reply_room(s) && input_step(s))
		;
	flushed = flush_replies(s);
	if (s->phase == PHASE_CLOSING) {
		if (flushed) {
			session_close(s);
			return;
		}
		if (!s->grace) /* once: a peer that reads drop by drop does not prolong it */
			session_arm_deadline(s);
		s->grace = true;
		return;
	}
	if (s->phase == PHASE_SECURING && !conn_is_secure(&s->conn)) {
		if (!s->conn.securing && flushed)
			begin_starttls(s);
		else if (!flushed)
			session_abort(s);
		return;
	}
	if (s->in != NULL && s->in->start == s->in->end) {
		chunk_free(s->worker->shard->chunks, s->in);
		s->in = NULL;
	}
	/* half-closed: what it asked before is still answered */
	if (conn_eof(&s->conn) && flushed && s->phase != PHASE_COMMIT &&
	    s->phase != PHASE_CHECKING && !timer_armed(&s->resume))
		session_close(s);
	else if (s->worker->draining && s->phase == PHASE_COMMAND && s->tx == NULL) {
		session_finish(s, REPLY_SHUTDOWN);
		session_run(s);
	}
}

static struct smtp_session *session_of(struct conn *c)
{
	return container_of(c, struct smtp_session, conn);
}

static void note_secured(struct smtp_session *s)
{
	struct conn_tls_facts t;

	if (conn_tls_facts(&s->conn, &t))
		follow_event(s, "secured by %s, %s, %s%s, name \"%s\"", t.protocol, t.cipher,
			     t.group, t.resumed ? ", resumed" : "", t.server_name);
}

static void on_secured(struct conn *c)
{
	struct smtp_session *s = session_of(c);

	s->phase = PHASE_COMMAND;
	s->handshake_us = (uint32_t)(s->worker->shard->now_us - s->data_started_us);
	if (s->worker->follow != NULL)
		note_secured(s);
	if (s->listener->implicit_tls)
		session_reply(s, REPLY_GREETING, s->worker->config->hostname);
	session_arm_deadline(s);
	session_run(s);
}

static void on_ready(struct conn *c)
{
	session_run(session_of(c));
}

static void on_ended(struct conn *c, enum conn_end why)
{
	session_free(session_of(c));
}

static const struct conn_events session_events = {
	.secured = on_secured,
	.readable = on_ready,
	.writable = on_ready,
	.ended = on_ended,
};

/* 32 letters without vowels that would spell words, and without 0/O and 1/l. */
static void make_tag(struct smtp_session *s)
{
	static const char letters[] = "23456789bcdfghjkmnpqrstvwxzBCDFG";
	uint64_t r = shard_random(s->worker->shard);

	for (unsigned i = 0; i < TAG_BYTES - 2; i++, r >>= 5)
		s->tag[i] = letters[r & 31];
}

static void refuse(struct smtp_worker *w, struct stream *stream, bool implicit)
{
	enum smtp_reply r = w->draining ? REPLY_SHUTDOWN : REPLY_TOO_MANY_SESSIONS;
	char line[REPLY_LINE];

	/* under implicit TLS a reply would cost the handshake that the limit is there to save */
	if (implicit) {
		stream_abort(stream);
		return;
	}
	size_t n = format_reply(line, sizeof(line), r, w->config->hostname, NULL);
	stream_write(stream, line, n, 0);
	stream_close(stream);
}

static void on_opened(struct stream *stream, void *user)
{
	const struct smtp_listener *l = user;
	static const struct conn_tls server;
	struct smtp_worker *w = l->worker;
	struct ip_addr peer;
	uint16_t port;
	handle_t h;

	stream_peer(stream, &peer, &port);
	enum admission a = w->draining ? ADMIT_TOO_MANY : limits_enter(w, &peer);
	struct smtp_session *s = a == ADMIT ? slab_alloc(w->sessions, &h) : NULL;
	if (s == NULL) {
		if (a == ADMIT)
			limits_leave(w, &peer);
		refuse(w, stream, l->implicit_tls);
		return;
	}
	s->worker = w;
	s->listener = l;
	s->handle = h;
	s->counted = true;
	s->peer = peer;
	s->peer_port = port;
	s->opened_us = s->data_started_us = w->shard->now_us;
	timer_init(&s->deadline, deadline_passed);
	timer_init(&s->resume, pause_over);
	list_init(&s->sending);
	make_tag(s);
	conn_init(&s->conn, w->env.tls, stream, &session_events);
	stream_set_receive_limit(stream, RECEIVE_WINDOW);
	smtp_count(w, smtp_sessions_opened);
	counter_set(&w->counters[smtp_sessions_now], slab_used(w->sessions));
	s->phase = l->implicit_tls ? PHASE_SECURING : PHASE_COMMAND;
	if (w->follow != NULL)
		follow_event(s, "connected from [%s] port %u",
			     addr_text(&s->peer, (char[ADDR_TEXT_BYTES]){0}), s->peer_port);
	session_arm_deadline(s);
	if (l->implicit_tls) {
		if (!conn_secure(&s->conn, &server))
			session_abort(s);
		return;
	}
	session_reply(s, REPLY_GREETING, w->config->hostname);
	session_run(s);
}

const struct stream_events smtp_stream_events = {
	.opened = on_opened,
	.readable = conn_stream_readable,
	.writable = conn_stream_writable,
	.closed = conn_stream_closed,
};
