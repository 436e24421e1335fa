/* native.c - records of our own on the worker: from the stream to the protocol and back.
 *
 * A record is opened when it lies whole in the stream.  If the reader has room for it, it is
 * decrypted from the stream's chunks straight into the reader's memory, otherwise in place, and
 * read from there.  A record that the window might not let come whole is gathered in memory of its
 * own instead, so that consuming it moves the window. */
#include "tls/native.h"

#include <assert.h>
#include <string.h>

enum {
	MOST_1_3 = AEAD_PLAIN + 256, /* RFC 8446 section 5.2 */
	MOST_1_2 = AEAD_PLAIN + 320, /* as OpenSSL; RFC 5246 section 6.2.3 admits 2,048 */
	EMPTY_ROW = 32,
	GATHER_LEAST = 512,
	LATE_RECORDS = 65536, /* of a peer that was asked for new keys */
};

/* --- what is unread: in `in`, or else in the stream --- */

static size_t unread_at(struct tls_session *s, size_t at, uint8_t **p)
{
	if (s->in == NULL)
		return stream_unread(s->conn->stream, at, p);
	size_t n = s->in->end - s->in->start;
	*p = s->in->data + s->in->start + at;
	return at < n ? n - at : 0;
}

static void copy_unread(struct tls_session *s, size_t at, uint8_t *out, size_t n)
{
	uint8_t *p;

	for (size_t done = 0, k; done < n; done += k) {
		k = unread_at(s, at + done, &p);
		if (k > n - done)
			k = n - done;
		memcpy(out + done, p, k);
	}
}

static void consume(struct tls_session *s, size_t n)
{
	if (s->in == NULL) {
		stream_consume(s->conn->stream, n);
		return;
	}
	s->in->start += (uint32_t)n;
	if (s->in->start == s->in->end)
		session_free_in(s);
}

/* `in` with room for so many octets; false: no memory. */
static bool grow(struct tls_session *s, size_t need)
{
	struct chunk *old = s->in;

	if (old != NULL && old->size - old->start >= need)
		return true;
	size_t size = need > GATHER_LEAST ? need : GATHER_LEAST;
	struct chunk *c = OPENSSL_malloc(sizeof(*c) + size);
	if (c == NULL) {
		tls_count(s->worker, tls_no_memory);
		native_fail(s->conn, ALERT_INTERNAL_ERROR, 0);
		return false;
	}
	*c = (struct chunk){.size = (uint32_t)size};
	if (old != NULL) {
		c->end = old->end - old->start;
		memcpy(c->data, old->data + old->start, c->end);
		session_free_in(s);
	}
	s->in = c;
	s->in_private = true;
	return true;
}

/* Whether so many octets can be read. */
static bool available(struct tls_session *s, size_t need)
{
	struct stream *stream = s->conn->stream;

	if (s->in == NULL) {
		size_t n = stream_readable(stream);
		if (n >= need || n == 0 || stream_promised(stream) >= need)
			return n >= need;
	}
	if (!grow(s, need))
		return false;
	size_t have = s->in->end - s->in->start;
	if (have < need)
		s->in->end += (uint32_t)stream_read(stream, s->in->data + s->in->end, need - have);
	return s->in->end - s->in->start >= need;
}

/* --- sending --- */

static bool park(struct tls_session *s, const uint8_t *data, size_t n)
{
	struct chunk *c = OPENSSL_malloc(sizeof(*c) + n);

	if (c == NULL)
		return false;
	*c = (struct chunk){.size = (uint32_t)n, .end = (uint32_t)n};
	memcpy(c->data, data, n);
	s->records->parked = c;
	return true;
}

bool native_flush(struct tls_session *s)
{
	struct chunk *c = s->records->parked;

	if (c == NULL)
		return true;
	if (!session_send_chunk(s, c))
		return false;
	OPENSSL_free(c);
	s->records->parked = NULL;
	return true;
}

bool native_send(struct conn *c, uint8_t type, const uint8_t *data, size_t n)
{
	struct tls_session *s = c->tls;
	struct tls_worker *w = s->worker;
	struct records *r = s->records;

	if (r->failed || !native_flush(s) || stream_room(c->stream) < n + AEAD_OVERHEAD)
		return false;
	size_t size = aead_seal(w->engine, &r->suite, &r->key[AEAD_OUT], type, data, n, w->sealed);
	size_t sent = stream_write(c->stream, w->sealed, size, STREAM_MORE);
	/* half a record: its rest goes before anything else, or nothing does */
	if (size == 0 || (sent < size && !park(s, w->sealed + sent, size - sent))) {
		tls_count(w, tls_no_memory);
		r->failed = true;
		c->tls_eof = true;
	}
	return true;
}

static void alert(struct conn *c, uint8_t level, uint8_t what)
{
	native_send(c, SSL3_RT_ALERT, (const uint8_t[]){level, what}, 2);
}

void native_fail(struct conn *c, uint8_t what, uint32_t note)
{
	struct tls_session *s = c->tls;

	if (what != 0)
		alert(c, ALERT_FATAL, what);
	s->records->failed = true;
	c->tls_eof = true;
	s->notes |= note;
	if (s->notes == 0)
		tls_count(s->worker, tls_record_errors);
	session_count_notes(s);
}

/* RFC 8446 section 5.5: AES-GCM keys are renewed, or under TLS 1.2, which cannot, the session ends
 * here.  false: it has. */
static bool keys_serve(struct conn *c, enum aead_direction d)
{
	struct tls_session *s = c->tls;
	struct records *r = s->records;
	uint64_t used = r->key[d].sequence, limit = s->worker->record_limit;

	if (used < limit || r->suite.cipher == AEAD_CHACHA20_POLY1305)
		return true;
	if (r->suite.tls_1_3 && (d == AEAD_OUT || used < limit + LATE_RECORDS)) {
		if (d == AEAD_OUT || !r->awaited) {
			if (!r->owes)
				tls_count(s->worker, tls_key_updates_sent);
			r->owes = true;
			r->asks |= d == AEAD_IN;
			post_update(c);
		}
		return true;
	}
	tls_count(s->worker, tls_keys_worn);
	alert(c, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
	r->failed = true;
	c->tls_eof = true;
	return false;
}

size_t native_write(struct conn *c, const uint8_t *data, size_t n)
{
	struct records *r = c->tls->records;
	size_t took = 0;

	if (r->failed || !native_flush(c->tls))
		return 0;
	took = r->parked_plain < n ? r->parked_plain : n;
	r->parked_plain = 0;
	while (took < n && keys_serve(c, AEAD_OUT)) {
		size_t room = stream_room(c->stream), piece = n - took;
		if (room <= RECORD_OVERHEAD || (r->owes && !post_update(c)))
			break;
		room = stream_room(c->stream);
		if (piece > AEAD_PLAIN)
			piece = AEAD_PLAIN;
		if (room <= RECORD_OVERHEAD)
			break;
		if (piece > room - RECORD_OVERHEAD)
			piece = room - RECORD_OVERHEAD;
		if (!native_send(c, SSL3_RT_APPLICATION_DATA, data + took, piece) || r->failed)
			break;
		if (r->parked != NULL) {
			/* must be offered again as it is: only then has it been taken */
			r->parked_plain = (uint16_t)piece;
			return took;
		}
		took += piece;
	}
	if (took < n)
		stream_want_room(c->stream);
	return took;
}

void native_close(struct conn *c)
{
	alert(c, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
}

void native_drop(struct tls_session *s)
{
	struct records *r = s->records;

	if (r == NULL)
		return;
	for (unsigned d = 0; d < 2; d++)
		aead_forget(s->worker->engine, &r->suite, d, &r->key[d]);
	OPENSSL_free(r->parked);
	OPENSSL_clear_free(r, sizeof(*r));
	s->records = NULL;
}

/* --- receiving --- */

/* What can be said of a record by its header. */
static uint8_t header_fault(const struct records *r, const uint8_t *h)
{
	size_t length = (size_t)h[3] << 8 | h[4];

	if (r->suite.tls_1_3) {
		if (h[1] != 3)
			return ALERT_PROTOCOL_VERSION;
		if (h[0] != SSL3_RT_APPLICATION_DATA)
			return ALERT_UNEXPECTED_MESSAGE;
		if (h[2] != 3)
			return ALERT_DECODE_ERROR;
	} else if (h[1] != 3 || h[2] != 3) {
		return ALERT_PROTOCOL_VERSION;
	}
	return length > (size_t)(r->suite.tls_1_3 ? MOST_1_3 : MOST_1_2) ? ALERT_RECORD_OVERFLOW
									 : 0;
}

/* An opened record: content lies at data (the reader's memory), or in place behind `from`. */
struct opened {
	uint8_t *data;
	size_t from, bytes; /* ciphertext without nonce and tag */
	size_t content;
	uint8_t type;
};

/* RFC 8446 section 5.4: the last octet that is not zero is the content type. */
static void find_type(struct opened *o, size_t at, const uint8_t *p, size_t n)
{
	while (n > 0 && p[n - 1] == 0)
		n--;
	if (n == 0)
		return;
	o->content = at + n - 1;
	o->type = p[n - 1];
}

static bool decrypt(struct tls_session *s, const uint8_t *header, struct opened *o)
{
	struct aead_engine *e = s->worker->engine;
	struct records *r = s->records;
	struct aead_key *k = &r->key[AEAD_IN];
	uint8_t nonce[AEAD_EXPLICIT], tag[AEAD_TAG], *p;

	copy_unread(s, AEAD_HEADER, nonce, aead_explicit(&r->suite));
	copy_unread(s, o->from + o->bytes, tag, AEAD_TAG);
	if (!aead_open_begin(e, &r->suite, k, header, nonce))
		return false;
	o->content = r->suite.tls_1_3 ? 0 : o->bytes;
	o->type = r->suite.tls_1_3 ? 0 : header[0];
	for (size_t at = 0, n; at < o->bytes; at += n) {
		n = unread_at(s, o->from + at, &p);
		if (n > o->bytes - at)
			n = o->bytes - at;
		uint8_t *to = o->data != NULL ? o->data + at : p;
		if (!aead_open_part(e, p, to, n))
			return false;
		if (r->suite.tls_1_3)
			find_type(o, at, to, n);
	}
	return aead_open_end(e, k, tag);
}

static uint8_t content_fault(struct records *r, const struct opened *o)
{
	bool data = o->type == SSL3_RT_APPLICATION_DATA;
	bool known = data || o->type == SSL3_RT_ALERT || o->type == SSL3_RT_HANDSHAKE;

	/* RFC 8446 section 5.1: no other record between two parts of a message, and none of them
	 * empty */
	if (!known || (r->suite.tls_1_3 && !data && o->content == 0) || (data && r->head_bytes > 0))
		return ALERT_UNEXPECTED_MESSAGE;
	return o->content > AEAD_PLAIN ? ALERT_RECORD_OVERFLOW : 0;
}

/* An alert or a part of handshake messages, wherever it lies. */
static void hand_over(struct conn *c, const struct opened *o)
{
	uint8_t two[3], *p;

	if (o->type == SSL3_RT_ALERT) {
		size_t n = o->content < sizeof(two) ? o->content : sizeof(two);
		if (o->data == NULL)
			copy_unread(c->tls, o->from, two, n);
		post_alert(c, o->data != NULL ? o->data : two, o->content);
		return;
	}
	for (size_t at = 0, n; at < o->content && !c->tls_eof; at += n) {
		n = unread_at(c->tls, o->from + at, &p);
		if (n > o->content - at || o->data != NULL)
			n = o->content - at;
		post_handshake(c, o->data != NULL ? o->data + at : p, n, at + n == o->content);
	}
}

/* Opens the record in front, which is there whole.  *got: octets in the reader's memory. */
static bool open_record(struct conn *c, const uint8_t *header, uint8_t *buf, size_t cap,
			size_t *got)
{
	struct tls_session *s = c->tls;
	struct records *r = s->records;
	size_t length = (size_t)header[3] << 8 | header[4], explicit = aead_explicit(&r->suite);
	struct opened o = {.from = AEAD_HEADER + explicit};
	bool good = length >= explicit + AEAD_TAG + r->suite.tls_1_3;

	if (good) {
		o.bytes = length - explicit - AEAD_TAG;
		o.data = o.bytes <= cap ? buf : NULL;
		good = decrypt(s, header, &o);
	}
	if (!good) {
		native_fail(c, ALERT_BAD_RECORD_MAC, 0);
		return false;
	}
	uint8_t fault = content_fault(r, &o);
	bool flood = fault == 0 && o.content == 0 && ++r->empty_row > EMPTY_ROW;
	if (fault != 0 || flood) {
		native_fail(c, flood ? ALERT_UNEXPECTED_MESSAGE : fault,
			    flood ? NOTE_EMPTY_RECORDS : 0);
		return false;
	}
	if (o.content > 0)
		r->empty_row = 0;
	if (o.content > 0 && o.type != SSL3_RT_ALERT)
		r->alert_row = 0;
	if (o.type != SSL3_RT_APPLICATION_DATA) {
		hand_over(c, &o);
	} else if (o.data == NULL && o.content > 0) {
		r->plain = (uint16_t)o.content;
		r->trail = (uint16_t)(AEAD_HEADER + length - o.from - o.content);
		consume(s, o.from);
		return true;
	} else {
		*got = o.content;
	}
	consume(s, AEAD_HEADER + length);
	return !c->tls_eof;
}

/* false: no more now, or for ever. */
static bool next_record(struct conn *c, uint8_t *buf, size_t cap, size_t *got)
{
	struct tls_session *s = c->tls;
	uint8_t header[AEAD_HEADER];
	size_t need = AEAD_HEADER;

	if (!keys_serve(c, AEAD_IN))
		return false;
	if (available(s, need)) {
		copy_unread(s, 0, header, AEAD_HEADER);
		uint8_t fault = header_fault(s->records, header);
		if (fault != 0) {
			native_fail(c, fault, 0);
			return false;
		}
		need += (size_t)header[3] << 8 | header[4];
		if (available(s, need))
			return open_record(c, header, buf, cap, got);
	}
	/* a FIN without close_notify is truncation: nothing that was cut off may count */
	if (!c->tls_eof && stream_eof(c->stream)) {
		tls_count(s->worker, tls_truncated);
		c->tls_eof = true;
	}
	return false;
}

/* Of the record in front, which has been opened in place. */
static size_t read_opened(struct tls_session *s, uint8_t *buf, size_t cap)
{
	struct records *r = s->records;
	size_t n = r->plain < cap ? r->plain : cap;

	copy_unread(s, 0, buf, n);
	r->plain = (uint16_t)(r->plain - n);
	consume(s, r->plain > 0 ? n : n + r->trail);
	return n;
}

size_t native_read(struct conn *c, void *buf, size_t cap)
{
	struct tls_session *s = c->tls;
	size_t got = 0;

	while (cap > 0 && got == 0) {
		if (s->records->plain > 0)
			return read_opened(s, buf, cap);
		if (!next_record(c, buf, cap, &got))
			return got;
	}
	return got;
}
