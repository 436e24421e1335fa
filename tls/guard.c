/* guard.c - messages that cost us more than their sender: key updates (an exchange makes 273
 * allocations), renegotiation, warning alerts (CVE-2016-8610), empty records */
#include "tls/internal.h"

#include <openssl/err.h>

enum {
	KEY_UPDATES = 32,        /* a session */
	KEY_UPDATE_US = 1000000, /* between two */
	RENEGOTIATIONS = 3,      /* hellos refused under TLS 1.2 (CVE-2011-1473) */
};

void guard_key_update(struct tls_session *s)
{
	uint64_t now_us = s->worker->shard->now_us;

	if (++s->key_updates > KEY_UPDATES ||
	    (s->key_updates > 1 && now_us - s->key_update_us < KEY_UPDATE_US)) {
		s->notes |= NOTE_KEY_UPDATES;
		s->hostile = true;
	}
	s->key_update_us = now_us;
}

void guard_renegotiation(struct tls_session *s)
{
	if (++s->renegotiations < RENEGOTIATIONS)
		return;
	s->notes |= NOTE_RENEGOTIATION;
	s->hostile = true;
}

/* Both happen after the handshake only, on the worker, inside SSL_read: the BIO gives nothing
 * more to a hostile peer, so that a row of them ends at the limit. */
static void on_message(int sent, int version, int type, const void *data, size_t n, SSL *ssl,
		       void *arg)
{
	struct tls_session *s = arg;
	const unsigned char *message = data;

	if (type == SSL3_RT_HEADER && n >= RECORD_HEADER)
		takeover_header(s, sent, message);
	if (type == SSL3_RT_HANDSHAKE && n > 0 && message[0] == SSL3_MT_FINISHED)
		takeover_listen(s, true);
	if (sent || type != SSL3_RT_HANDSHAKE || n == 0 || s->step != STEP_DONE)
		return;
	if (message[0] == SSL3_MT_KEY_UPDATE)
		guard_key_update(s);
	else if (message[0] == SSL3_MT_CLIENT_HELLO || message[0] == SSL3_MT_HELLO_REQUEST)
		guard_renegotiation(s);
}

void guard_install(SSL *ssl, struct tls_session *s)
{
	SSL_set_msg_callback(ssl, on_message);
	SSL_set_msg_callback_arg(ssl, s);
}

uint32_t session_flood_note(unsigned long error)
{
	switch (ERR_GET_REASON(error)) {
	case SSL_R_TOO_MANY_WARN_ALERTS:
		return NOTE_ALERTS;
	case SSL_R_RECORD_TOO_SMALL: /* more than 32 empty ones in a row */
		return NOTE_EMPTY_RECORDS;
	default:
		return 0;
	}
}
