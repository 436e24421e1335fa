/*
 * hello.h - what a ClientHello shows before anybody spends time on it: name and tickets.
 *
 * A reader, not a judge: what is malformed goes to OpenSSL, which answers with the right alert;
 * here it only counts as a full handshake of nobody.  Bounded by the length of its input.
 *
 * Runs on: the worker.  Pure functions.
 * Source: RFC 8446 sections 4.1.2, 4.2, 5.1; RFC 6066 section 3; RFC 5077 section 3.2.
 */
#ifndef TLS_HELLO_H
#define TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hello_verdict {
	HELLO_WHOLE,
	HELLO_PART,      /* more records must come */
	HELLO_TOO_LARGE, /* announces more than HELLO_BYTES */
	HELLO_MALFORMED,
	HELLO_OTHER, /* not a ClientHello at all */
};

enum { HELLO_BYTES = 16384, HELLO_TICKETS = 4, HELLO_KEY_NAME = 16 };

struct hello {
	const uint8_t *name; /* SNI; NULL: none */
	size_t name_bytes;
	bool tls_1_3;
	/* the first octets of a session ticket or of PSK identities: names of ticket keys */
	const uint8_t *ticket[HELLO_TICKETS];
	unsigned n_tickets;
};

/* records: whole TLS records, from the first octet of the connection.  scratch: HELLO_BYTES + 4,
 * written when the message lies in more than one record.  *h points into one of the two. */
enum hello_verdict hello_read(const uint8_t *records, size_t n, uint8_t *scratch, struct hello *h);

#endif
