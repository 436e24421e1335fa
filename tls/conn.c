/* conn.c - the worker's side: frames handshake records, lends sessions, reads and writes records */
#include "tls/conn.h"

#include "base/log.h"
#include "tls/internal.h"

#include <assert.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TLS_RECORD_HANDSHAKE = 22,
	RECORD_OVERHEAD = 64, /* header, tag, content type, explicit nonce */
	LARGEST_RECORD = 16384,
};

struct tls_worker *tls_worker_create(struct tls *t, struct shard *shard)
{
	struct tls_worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->tls = t;
	w->shard = shard;
	w->sessions = slab_create(sizeof(struct tls_session), t->max_sessions);
	w->back = ring_create(t->max_sessions);
	for (unsigned i = 0; i < MAX_WORKERS && w->slot == NULL; i++)
		if (t->workers[i] == NULL)
			w->slot = &t->workers[i];
	if (w->sessions == NULL || w->back == NULL || w->slot == NULL) {
		w->slot = NULL;
		tls_worker_destroy(w);
		return NULL;
	}
	*w->slot = w;
	w->state = state_adopt(t, &w->seen);
	return w;
}

/* After tls_stop(): what was in flight is nobody else's any more. */
void tls_worker_destroy(struct tls_worker *w)
{
	if (w == NULL)
		return;
	for (uint32_t i = 0; w->sessions != NULL && i < slab_extent(w->sessions); i++) {
		struct tls_session *s = slab_at(w->sessions, i, NULL);
		if (s == NULL)
			continue;
		session_free_ssl(s);
		session_drop_facts(s);
	}
	if (w->slot != NULL)
		*w->slot = NULL;
	slab_destroy(w->sessions);
	ring_destroy(w->back);
	free(w);
}

const uint64_t *tls_counters(const struct tls_worker *w)
{
	return w->counters;
}

unsigned tls_poll(struct tls_worker *w)
{
	struct tls_session *s;
	unsigned n = 0;

	w->state = state_adopt(w->tls, &w->seen);
	while ((s = ring_pop(w->back)) != NULL) {
		session_returned(s);
		n++;
	}
	return n;
}

static void session_release(struct tls_session *s)
{
	struct tls_worker *w = s->worker;

	chunk_free_list(w->shard->chunks, s->in);
	chunk_free_list(w->shard->chunks, s->out);
	session_drop_facts(s);
	slab_free(w->sessions, s->handle);
	counter_set(&w->counters[tls_sessions], slab_used(w->sessions));
}

/* The object goes back to its thread to be freed: 14 us that the worker does not spend. */
void session_dispose(struct tls_session *s)
{
	s->conn = NULL;
	if (s->in_flight)
		return;
	s->job = JOB_FREE;
	s->detached = true;
	if (s->ssl != NULL && ring_push(s->worker->tls->threads[s->thread].queue, s)) {
		s->in_flight = true;
		return;
	}
	session_free_ssl(s);
	session_release(s);
}

/* The connection is over by our verdict; tells the protocol. */
static void end(struct conn *c, enum conn_end why)
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

static bool session_submit(struct tls_session *s)
{
	struct tls_worker *w = s->worker;

	/* room for the answer only while there can be one: a peer that says nothing holds none */
	if (s->out == NULL)
		s->out = chunk_alloc(w->shard->chunks, CHUNK_16K, false);
	if (s->out == NULL) {
		tls_count(w, tls_no_memory);
		return false;
	}
	s->detached = true;
	if (!ring_push(w->tls->threads[s->thread].queue, s)) {
		tls_count(w, tls_queue_full);
		return false;
	}
	s->in_flight = true;
	tls_count(w, tls_jobs);
	return true;
}

/* Makes `in` hold at least bytes; false: no chunk. */
static bool grow_in(struct tls_session *s, uint32_t bytes)
{
	enum chunk_size size = bytes <= chunk_capacity(CHUNK_4K)    ? CHUNK_4K
			       : bytes <= chunk_capacity(CHUNK_16K) ? CHUNK_16K
								    : CHUNK_64K;
	struct chunk *old = s->in;

	if (old != NULL && old->size >= bytes)
		return true;
	struct chunk *c = chunk_alloc(s->worker->shard->chunks, size, false);
	if (c == NULL) {
		tls_count(s->worker, tls_no_memory);
		return false;
	}
	if (old != NULL) {
		c->end = old->end - old->start;
		memcpy(c->data, old->data + old->start, c->end);
		chunk_free(s->worker->shard->chunks, old);
	}
	s->in = c;
	return true;
}

/* Moves bytes of one record from the stream into `in`.  1: it is whole; 0: bytes are missing;
 * -1: hopeless (counted). */
static int gather_record(struct tls_session *s, uint32_t at)
{
	struct stream *stream = s->conn->stream;

	for (;;) {
		uint32_t have = s->in->end - at, need = RECORD_HEADER;
		const uint8_t *p = s->in->data + at;

		if (have > 0 && (p[0] < 20 || p[0] > 23)) {
			tls_count(s->worker, tls_not_tls);
			return -1;
		}
		if (have >= RECORD_HEADER)
			need += (uint32_t)(p[3] << 8 | p[4]);
		if (at + need > HANDSHAKE_BYTES) {
			tls_count(s->worker, tls_oversized_record);
			return -1;
		}
		if (have >= need)
			return 1;
		if (!grow_in(s, at + need))
			return -1;
		size_t n = stream_read(stream, s->in->data + s->in->end, need - have);
		if (n == 0)
			return 0;
		s->in->end += (uint32_t)n;
	}
}

/* Whether the stream shows another whole record that can go along. */
static bool another_record(struct stream *s, uint32_t room)
{
	const uint8_t *p;

	if (stream_peek(s, &p) < RECORD_HEADER)
		return false;
	size_t bytes = (size_t)RECORD_HEADER + (size_t)(p[3] << 8 | p[4]);
	return bytes <= room && stream_readable(s) >= bytes;
}

/* 1: whole records wait in `in`; 0: not yet; -1: hopeless. */
static int gather(struct tls_session *s)
{
	int rc;

	if (!grow_in(s, RECORD_HEADER))
		return -1;
	if (s->in->start == s->in->end)
		s->in->start = s->in->end = 0;
	uint32_t begin = s->in->start, at = begin;
	while ((rc = gather_record(s, at)) == 1 && s->in->end < HANDSHAKE_BYTES / 2 &&
	       another_record(s->conn->stream, HANDSHAKE_BYTES - s->in->end))
		at = s->in->end;
	rc = rc == 0 && at > begin ? 1 : rc;
	/* OpenSSL gathers a message out of many records: what it holds is bounded here */
	if (rc == 1)
		s->gathered += s->in->end - begin;
	if (s->gathered > (s->job == JOB_ACCEPT ? HANDSHAKE_BYTES : SERVER_HANDSHAKE_BYTES)) {
		tls_count(s->worker, tls_oversized_record);
		return -1;
	}
	return rc;
}

bool conn_may_secure(const struct conn *c)
{
	struct tls_worker *w = c->worker;
	struct chunk *probe;

	if (slab_used(w->sessions) < slab_limit(w->sessions) &&
	    (probe = chunk_alloc(w->shard->chunks, CHUNK_16K, false)) != NULL) {
		chunk_free(w->shard->chunks, probe);
		return true;
	}
	tls_count(w, tls_no_memory);
	return false;
}

bool conn_secure(struct conn *c, const struct conn_tls *how)
{
	struct tls_worker *w = c->worker;
	handle_t h;
	struct tls_session *s = slab_alloc(w->sessions, &h);

	if (s == NULL) {
		tls_count(w, tls_no_memory);
		return false;
	}
	s->worker = w;
	s->handle = h;
	s->conn = c;
	s->thread = w->next_thread++ % w->tls->n_threads;
	s->job = how->client ? JOB_CONNECT : JOB_ACCEPT;
	s->verify = how->verify;
	if (how->name != NULL)
		snprintf(s->name, sizeof(s->name), "%s", how->name);
	c->tls = s;
	c->securing = true;
	counter_set(&w->counters[tls_sessions], slab_used(w->sessions));
	if (!how->client)
		return true;
	/* the client speaks first */
	if (session_submit(s))
		return true;
	c->tls = NULL;
	c->securing = false;
	session_dispose(s);
	return false;
}

static void handshake_input(struct conn *c)
{
	struct tls_session *s = c->tls;

	/* done: its last octets wait for room, and what comes now is the protocol's */
	if (s->in_flight || s->step == STEP_DONE)
		return;
	int rc = gather(s);
	if (rc < 0) {
		end(c, CONN_END_TLS);
	} else if (rc > 0 && !session_submit(s)) {
		end(c, CONN_END_BUSY);
	} else if (rc == 0 && stream_eof(c->stream)) {
		tls_count(s->worker,
			  s->job == JOB_CONNECT ? tls_client_failed : tls_handshakes_failed);
		end(c, CONN_END_TLS);
	}
}

/* The handshake's answer into the stream; false while some of it waits for room. */
static bool flush_out(struct tls_session *s)
{
	struct chunk *c = s->out;

	if (c == NULL)
		return true;
	c->start += (uint32_t)stream_write(s->conn->stream, c->data + c->start, c->end - c->start,
					   STREAM_MORE);
	if (c->start < c->end)
		return false;
	chunk_free(s->worker->shard->chunks, c);
	s->out = NULL;
	return true;
}

static void handshake_done(struct tls_session *s)
{
	struct conn *c = s->conn;
	struct tls_worker *w = s->worker;

	c->securing = false;
	if (s->job == JOB_CONNECT) {
		tls_count(w, tls_client_handshakes);
	} else {
		tls_count(w, tls_handshakes);
		if (s->resumed)
			tls_count(w, tls_handshakes_resumed);
		if (s->version == TLS1_2_VERSION)
			tls_count(w, tls_handshakes_1_2);
	}
	c->events->secured(c);
}

static void handshake_failed(struct tls_session *s)
{
	struct conn *c = s->conn;
	struct ip_addr peer;
	uint16_t port;
	char text[ADDR_TEXT_BYTES];

	stream_peer(c->stream, &peer, &port);
	log_debug("tls", "%s [%s]:%u: handshake failed: %s",
		  s->job == JOB_CONNECT ? "next hop" : "client", addr_text(&peer, text), port,
		  s->failure);
	tls_count(s->worker, s->job == JOB_CONNECT ? tls_client_failed : tls_handshakes_failed);
	/* the alert goes out before the connection is closed */
	struct stream *stream = c->stream;
	flush_out(s);
	c->stream = NULL;
	c->tls = NULL;
	session_dispose(s);
	stream_close(stream);
	c->events->ended(c, CONN_END_TLS);
}

/* After a step, and again when there is room for the rest of its output. */
static void handshake_output(struct tls_session *s)
{
	if (s->step == STEP_FAILED) {
		handshake_failed(s);
		return;
	}
	if (!flush_out(s))
		return;
	/* OpenSSL stopped because `out` was full: it has more to say before it listens */
	if (s->step == STEP_MORE && SSL_want_write(s->ssl)) {
		if (!session_submit(s))
			end(s->conn, CONN_END_BUSY);
		return;
	}
	if (s->step == STEP_DONE) {
		s->detached = false;
		handshake_done(s);
		return;
	}
	handshake_input(s->conn);
}

static void count_notes(struct tls_session *s)
{
	static const struct {
		uint32_t note;
		enum tls_counter counter;
	} rows[] = {
		{NOTE_TICKET_FOREIGN, tls_tickets_foreign},
		{NOTE_TICKET_OLD, tls_tickets_old},
		{NOTE_TICKET_CERTIFICATE, tls_tickets_certificate},
		{NOTE_NAME_UNKNOWN, tls_names_unknown},
		{NOTE_NAME_MALFORMED, tls_names_malformed},
		{NOTE_OCSP_EXPIRED, tls_ocsp_expired},
		{NOTE_CERTIFICATE_BAD, tls_client_certificates_bad},
	};

	for (size_t i = 0; s->notes != 0 && i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((s->notes & rows[i].note) != 0)
			tls_count(s->worker, rows[i].counter);
	s->notes = 0;
}

void session_returned(struct tls_session *s)
{
	s->in_flight = false;
	count_notes(s);
	if (s->job == JOB_FREE)
		session_release(s);
	else if (s->conn == NULL)
		session_dispose(s);
	else
		handshake_output(s);
}

void conn_stream_readable(struct stream *stream, void *user)
{
	struct conn *c = user;

	if (c->securing)
		handshake_input(c);
	else
		c->events->readable(c);
}

void conn_stream_writable(struct stream *stream, void *user)
{
	struct conn *c = user;

	if (!c->securing)
		c->events->writable(c);
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

static size_t tls_read(struct conn *c, void *buf, size_t cap)
{
	struct tls_session *s = c->tls;
	size_t got = 0;

	ERR_clear_error();
	int rc = SSL_read_ex(s->ssl, buf, cap, &got);
	if (s->in != NULL && s->in->start == s->in->end) {
		chunk_free(s->worker->shard->chunks, s->in);
		s->in = NULL;
	}
	if (rc == 1)
		return got;
	int why = SSL_get_error(s->ssl, rc);
	if (why == SSL_ERROR_ZERO_RETURN) {
		c->tls_eof = true;
	} else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
		/* a FIN without close_notify is truncation: nothing that was cut off may count */
		tls_count(s->worker, stream_eof(c->stream) ? tls_truncated : tls_record_errors);
		ERR_clear_error();
		c->tls_eof = true;
	}
	return 0;
}

size_t conn_read(struct conn *c, void *buf, size_t cap)
{
	if (c->stream == NULL || c->securing || c->tls_eof)
		return 0;
	return c->tls != NULL ? tls_read(c, buf, cap) : stream_read(c->stream, buf, cap);
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
	return tls_write(c, data, n);
}

bool conn_drained(const struct conn *c)
{
	return c->stream == NULL || stream_unacked(c->stream) == 0;
}

void conn_close(struct conn *c)
{
	struct stream *s = c->stream;

	if (s == NULL)
		return;
	if (c->tls != NULL) {
		if (!c->securing) {
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

bool conn_is_secure(const struct conn *c)
{
	return c->tls != NULL && !c->securing;
}
