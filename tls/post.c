/* post.c - what comes after a handshake and is not the protocol's: alerts, key updates, tickets,
 * attempts to renegotiate */
#include "tls/native.h"

#include <string.h>

enum { WARNING_ROW = 5 }; /* as OpenSSL (CVE-2016-8610) */

/* Messages that may come, and how long they may be. */
static const struct expected {
	bool client, tls_1_3;
	uint8_t type;
	uint32_t most;
	uint8_t too_long; /* alert */
} expected[] = {
	{false, true, SSL3_MT_KEY_UPDATE, 1, ALERT_ILLEGAL_PARAMETER},
	{true, true, SSL3_MT_KEY_UPDATE, 1, ALERT_ILLEGAL_PARAMETER},
	{true, true, SSL3_MT_NEWSESSION_TICKET, 131338, ALERT_ILLEGAL_PARAMETER},
	{false, false, SSL3_MT_CLIENT_HELLO, 131396, ALERT_ILLEGAL_PARAMETER},
	{true, false, SSL3_MT_HELLO_REQUEST, 0, ALERT_DECODE_ERROR},
};

void post_alert(struct conn *c, const uint8_t *data, size_t n)
{
	struct records *r = c->tls->records;
	bool tls_1_3 = r->suite.tls_1_3;

	if (n != 2) {
		native_fail(c, ALERT_UNEXPECTED_MESSAGE, 0);
		return;
	}
	uint8_t level = data[0], what = data[1];
	bool ignored = what == ALERT_USER_CANCELED && tls_1_3;
	if ((level == ALERT_WARNING || ignored) && ++r->alert_row == WARNING_ROW) {
		native_fail(c, ALERT_UNEXPECTED_MESSAGE, NOTE_ALERTS);
	} else if (ignored) {
		return;
	} else if (what == ALERT_CLOSE_NOTIFY && (tls_1_3 || level == ALERT_WARNING)) {
		c->tls_eof = true;
	} else if (level == ALERT_FATAL || tls_1_3) {
		native_fail(c, 0, 0);
	} else if (level != ALERT_WARNING) {
		native_fail(c, ALERT_ILLEGAL_PARAMETER, 0);
	} else if (what == ALERT_NO_RENEGOTIATION) {
		native_fail(c, ALERT_HANDSHAKE_FAILURE, 0);
	}
}

bool post_update(struct conn *c)
{
	struct tls_session *s = c->tls;
	struct records *r = s->records;
	uint8_t message[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1, r->asks};

	if (!native_send(c, SSL3_RT_HANDSHAKE, message, sizeof(message)))
		return false;
	r->awaited |= r->asks;
	r->owes = r->asks = false;
	if (!r->failed && !aead_update(s->worker->engine, &r->suite, AEAD_OUT, &r->key[AEAD_OUT]))
		native_fail(c, 0, 0);
	return true;
}

/* RFC 8446 section 4.6.3.  The message must end its record: what follows has another key. */
static void key_update(struct conn *c, bool boundary)
{
	struct tls_session *s = c->tls;
	struct records *r = s->records;

	guard_key_update(s);
	if (s->hostile) {
		c->tls_eof = true;
		session_count_notes(s);
	} else if (!boundary) {
		native_fail(c, ALERT_UNEXPECTED_MESSAGE, 0);
	} else if (r->body > SSL_KEY_UPDATE_REQUESTED) {
		native_fail(c, ALERT_ILLEGAL_PARAMETER, 0);
	} else if (!aead_update(s->worker->engine, &r->suite, AEAD_IN, &r->key[AEAD_IN])) {
		native_fail(c, ALERT_INTERNAL_ERROR, 0);
	} else {
		r->awaited = false;
		r->owes |= r->body == SSL_KEY_UPDATE_REQUESTED;
		if (r->owes)
			post_update(c);
	}
}

static void renegotiation(struct conn *c)
{
	struct tls_session *s = c->tls;

	guard_renegotiation(s);
	if (s->hostile) {
		c->tls_eof = true;
		session_count_notes(s);
		return;
	}
	native_send(c, SSL3_RT_ALERT, (const uint8_t[]){ALERT_WARNING, ALERT_NO_RENEGOTIATION}, 2);
}

/* Its header has come. */
static bool may_come(struct conn *c)
{
	struct records *r = c->tls->records;

	r->message_left = (uint32_t)r->head[1] << 16 | (uint32_t)r->head[2] << 8 | r->head[3];
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		const struct expected *x = &expected[i];
		if (x->client != r->client || x->tls_1_3 != r->suite.tls_1_3 ||
		    x->type != r->head[0])
			continue;
		if (r->message_left > x->most)
			native_fail(c, x->too_long, 0);
		else if (x->type == SSL3_MT_KEY_UPDATE && r->message_left == 0)
			native_fail(c, ALERT_DECODE_ERROR, 0);
		return !c->tls_eof;
	}
	native_fail(c, ALERT_UNEXPECTED_MESSAGE, 0);
	return false;
}

static void message(struct conn *c, bool boundary)
{
	struct records *r = c->tls->records;

	r->head_bytes = 0;
	switch (r->head[0]) {
	case SSL3_MT_KEY_UPDATE:
		key_update(c, boundary);
		break;
	case SSL3_MT_CLIENT_HELLO:
	case SSL3_MT_HELLO_REQUEST:
		renegotiation(c);
		break;
	default: /* a ticket: a next hop's session is never resumed */
		break;
	}
}

void post_handshake(struct conn *c, const uint8_t *data, size_t n, bool last)
{
	struct records *r = c->tls->records;

	while (n > 0 && !c->tls_eof) {
		if (r->head_bytes < sizeof(r->head)) {
			r->head[r->head_bytes++] = *data++;
			n--;
			if (r->head_bytes == sizeof(r->head) && may_come(c) && r->message_left == 0)
				message(c, n == 0 && last);
			continue;
		}
		size_t k = n < r->message_left ? n : r->message_left;
		data += k;
		n -= k;
		r->body = data[-1];
		r->message_left -= (uint32_t)k;
		if (r->message_left == 0)
			message(c, n == 0 && last);
	}
}
