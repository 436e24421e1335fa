/*
 * native.h - a session whose records are ours: what it holds between two events.
 *
 * An idle session holds this and nothing else: no buffer, no keyed context.  Octets of a record
 * that has not come whole stay in the stream as long as its window has promised the rest.
 *
 * Owner: made by takeover.c on a handshake thread, then the worker's; freed by native_drop().
 * Source: RFC 8446 sections 4.6, 5 and 6; RFC 5246 sections 6 and 7.
 */
#ifndef TLS_NATIVE_H
#define TLS_NATIVE_H

#include "tls/internal.h"

struct records {
	struct aead_key key[2]; /* enum aead_direction */
	struct aead_suite suite;
	bool client;
	bool failed;  /* a fatal alert has come or gone, or the keys are worn: nothing more is sent
		       */
	bool owes;    /* a KeyUpdate goes out before the next data */
	bool asks;    /* it asks for the peer's */
	bool awaited; /* the peer has been asked for new keys */

	/* an opened record that has not been read to its end: it lies in front of what is unread */
	uint16_t plain; /* octets of it */
	uint16_t trail; /* behind them: content type, padding, tag */

	/* a handshake message, of which any part may have come */
	uint8_t head[4], head_bytes;
	uint8_t body; /* its last octet so far */
	uint32_t message_left;

	uint8_t empty_row, alert_row;

	/* a sealed record that the stream did not take whole */
	uint16_t parked_plain; /* octets of the protocol's in it, which count as taken once it has
				  gone */
	struct chunk *parked;
};

/* native.c.  The connection ends: by a fatal alert (0: none), for the reason in note (0: a bad
 * record). */
void native_fail(struct conn *c, uint8_t alert, uint32_t note);
/* A record of ours; false: there was no room, nothing has happened. */
bool native_send(struct conn *c, uint8_t type, const uint8_t *data, size_t n);

/* post.c: content that is not the protocol's.  last: the record ends with it. */
void post_alert(struct conn *c, const uint8_t *data, size_t n);
void post_handshake(struct conn *c, const uint8_t *data, size_t n, bool last);
/* Sends the KeyUpdate that is owed, if there is room; false: there was none. */
bool post_update(struct conn *c);

/* RFC 8446 section 6 */
enum {
	ALERT_WARNING = 1,
	ALERT_FATAL = 2,
	ALERT_CLOSE_NOTIFY = 0,
	ALERT_UNEXPECTED_MESSAGE = 10,
	ALERT_BAD_RECORD_MAC = 20,
	ALERT_RECORD_OVERFLOW = 22,
	ALERT_HANDSHAKE_FAILURE = 40,
	ALERT_ILLEGAL_PARAMETER = 47,
	ALERT_DECODE_ERROR = 50,
	ALERT_PROTOCOL_VERSION = 70,
	ALERT_INTERNAL_ERROR = 80,
	ALERT_USER_CANCELED = 90,
	ALERT_NO_RENEGOTIATION = 100,
};

#endif
