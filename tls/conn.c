/* conn.c - a connection: records read and written on the worker, its end */
#include "tls/conn.h"

#include "base/log.h"
#include "tls/native.h"

#include <assert.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LARGEST_RECORD = 16384,
};

/* The connection is over by our verdict; tells the protocol. */
void conn_over(struct conn *c, enum conn_end why)
{
	struct stream *s = c->stream;

	c->stream = NULL;
	if (c->tls != NULL)
		session_dispose(c->tls);
	c->tls = NULL;
	if (s != NULL)
		stream_abort(s);
	c->events->ended(c, why);
}

void conn_init(struct conn *c, struct tls_worker *w, struct stream *s,
	       const struct conn_events *events)
{
	*c = (struct conn){.stream = s, .worker = w, .events = events};
	stream_set_user(s, c);
}

void conn_stream_readable(struct stream *stream, void *user)
{
	struct conn *c = user;

	if (c->securing)
		handshake_input(c);
	else
		c->events->readable(c);
}

/* A record of ours that waited goes first; and who waits to write a session that has failed
 * meanwhile finds that out by reading. */
static void record_writable(struct conn *c)
{
	struct tls_session *s = c->tls;

	if (s != NULL && s->records != NULL) {
		if (s->records->failed) {
			c->events->readable(c);
			return;
		}
		if (!native_flush(s))
			return;
	}
	c->events->writable(c);
}

void conn_stream_writable(struct stream *stream, void *user)
{
	struct conn *c = user;

	if (!c->securing)
		record_writable(c);
	else if (!c->tls->in_flight)
		handshake_output(c->tls);
}

void conn_stream_closed(struct stream *stream, void *user, enum stream_end why)
{
	struct conn *c = user;

	c->stream = NULL;
	c->stream_end = why;
	if (c->tls != NULL)
		session_dispose(c->tls);
	c->tls = NULL;
	c->events->ended(c, CONN_END_STREAM);
}

static void count_fault(struct tls_session *s, bool eof)
{
	uint32_t flood = s->notes | session_flood_note(ERR_peek_error());

	/* a FIN without close_notify is truncation: nothing that was cut off may count */
	if (flood == 0)
		tls_count(s->worker, eof ? tls_truncated : tls_record_errors);
	s->notes = flood;
	session_count_notes(s);
}

static size_t tls_read(struct conn *c, void *buf, size_t cap)
{
	struct tls_session *s = c->tls;
	size_t got = 0;

	ERR_clear_error();
	int rc = SSL_read_ex(s->ssl, buf, cap, &got);
	if (s->in != NULL && s->in->start == s->in->end)
		session_free_in(s);
	if (rc == 1)
		return got;
	int why = SSL_get_error(s->ssl, rc);
	if (why == SSL_ERROR_ZERO_RETURN) {
		c->tls_eof = true;
	} else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
		count_fault(s, stream_eof(c->stream));
		ERR_clear_error();
		c->tls_eof = true;
	}
	return 0;
}

size_t conn_read(struct conn *c, void *buf, size_t cap)
{
	if (c->stream == NULL || c->securing || c->tls_eof)
		return 0;
	if (c->tls == NULL)
		return stream_read(c->stream, buf, cap);
	return c->tls->records != NULL ? native_read(c, buf, cap) : tls_read(c, buf, cap);
}

bool conn_eof(const struct conn *c)
{
	if (c->stream == NULL || c->tls_eof)
		return true;
	return c->tls == NULL && stream_eof(c->stream);
}

static size_t tls_write(struct conn *c, const uint8_t *data, size_t n)
{
	size_t took = 0;

	while (took < n) {
		size_t room = stream_room(c->stream), piece = n - took, wrote = 0;

		if (room <= RECORD_OVERHEAD)
			break;
		if (piece > LARGEST_RECORD)
			piece = LARGEST_RECORD;
		if (piece > room - RECORD_OVERHEAD)
			piece = room - RECORD_OVERHEAD;
		/* a record that OpenSSL has sealed already must be offered as it was */
		if (c->tls->blocked)
			piece = n - took;
		ERR_clear_error();
		int rc = SSL_write_ex(c->tls->ssl, data + took, piece, &wrote);
		c->tls->blocked = rc != 1 && SSL_get_error(c->tls->ssl, rc) == SSL_ERROR_WANT_WRITE;
		if (rc != 1)
			break;
		took += wrote;
	}
	/* the stream took every record whole and does not know that more waits */
	if (took < n && !c->tls->blocked)
		stream_want_room(c->stream);
	return took;
}

size_t conn_write(struct conn *c, const void *data, size_t n, bool more)
{
	if (c->stream == NULL || c->securing)
		return 0;
	if (c->tls == NULL)
		return stream_write(c->stream, data, n, more ? STREAM_MORE : 0);
	return c->tls->records != NULL ? native_write(c, data, n) : tls_write(c, data, n);
}

bool conn_drained(const struct conn *c)
{
	if (c->stream == NULL)
		return true;
	return stream_unacked(c->stream) == 0 &&
	       (c->tls == NULL || c->tls->records == NULL || c->tls->records->parked == NULL);
}

void conn_close(struct conn *c)
{
	struct stream *s = c->stream;

	if (s == NULL)
		return;
	if (c->tls != NULL) {
		if (c->securing) {
			/* nothing to take leave of */
		} else if (c->tls->records != NULL) {
			native_close(c);
		} else {
			ERR_clear_error();
			SSL_shutdown(c->tls->ssl);
		}
		session_dispose(c->tls);
	}
	c->tls = NULL;
	c->stream = NULL;
	stream_close(s);
}

void conn_abort(struct conn *c)
{
	struct stream *s = c->stream;

	if (s == NULL)
		return;
	if (c->tls != NULL)
		session_dispose(c->tls);
	c->tls = NULL;
	c->stream = NULL;
	stream_abort(s);
}

bool conn_ticket(const struct conn *c, struct tls_ticket *t)
{
	SSL_SESSION *x =
		conn_is_secure(c) && c->tls->ssl != NULL ? SSL_get0_session(c->tls->ssl) : NULL;
	uint8_t *p = t->session;
	int n = x != NULL && SSL_SESSION_is_resumable(x) ? i2d_SSL_SESSION(x, NULL) : 0;

	if (n <= 0 || n > TLS_TICKET_BYTES)
		return false;
	t->bytes = (size_t)i2d_SSL_SESSION(x, &p);
	return true;
}

bool conn_is_secure(const struct conn *c)
{
	return c->tls != NULL && !c->securing;
}
