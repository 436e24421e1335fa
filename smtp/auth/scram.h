/*
 * scram.h - the server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, message by message.
 *
 * Pure functions on bytes: no clock, no randomness, no lock.  The order is client_first,
 * server_first, client_final (worker), check (auth thread), server_final (worker).
 *
 * Owner: struct scram belongs to whoever runs the exchange; it is wiped by scram_wipe().
 * Errors: the peer's are an enum scram_fault.
 * Source: RFC 5802, RFC 7677, RFC 9266 and RFC 5929 (channel bindings).
 */
#ifndef SMTP_AUTH_SCRAM_H
#define SMTP_AUTH_SCRAM_H

#include "smtp/auth/password.h"

enum {
	SCRAM_USER_BYTES = 256,
	SCRAM_NONCE_MOST = 256,     /* of the client */
	SCRAM_OWN_NONCE_BYTES = 24, /* of ours, in text, without NUL */
	SCRAM_GS2_BYTES = 600,
	SCRAM_FIRST_MOST = 1000, /* of the client, behind the header */
	SCRAM_TRANSCRIPT_BYTES = 3000,
	SCRAM_BINDING_BYTES = 64,
	SCRAM_SERVER_FIRST_BYTES = 512,
	SCRAM_SERVER_FINAL_BYTES = 64,
};

enum scram_fault {
	SCRAM_FINE,
	SCRAM_SYNTAX,  /* malformed: the exchange ends with 501 */
	SCRAM_REFUSED, /* downgrade seen, another's identity, wrong nonce or binding: as a wrong
			  password */
};

enum scram_binding {
	SCRAM_BINDING_NONE,
	SCRAM_BINDING_EXPORTER,         /* tls-exporter */
	SCRAM_BINDING_SERVER_END_POINT, /* tls-server-end-point */
};

struct scram {
	char user[SCRAM_USER_BYTES];
	enum scram_binding binding; /* the client's choice */
	char gs2[SCRAM_GS2_BYTES];
	size_t gs2_bytes;
	/* client-first-bare "," server-first "," client-final-without-proof */
	char transcript[SCRAM_TRANSCRIPT_BYTES];
	size_t transcript_bytes, nonce_at, nonce_bytes;
	uint8_t proof[SCRAM_KEY_BYTES], signature[SCRAM_KEY_BYTES];
};

/* plus: the mechanism is -PLUS; plus_offered: we offer -PLUS here, so that "y" is a lie. */
enum scram_fault scram_client_first(struct scram *x, const char *message, size_t n, bool plus,
				    bool plus_offered);
/* own_nonce: SCRAM_OWN_NONCE_BYTES printable characters.  out: SCRAM_SERVER_FIRST_BYTES. */
void scram_server_first(struct scram *x, const struct scram_verifier *v, const char *own_nonce,
			char *out);
/* binding: the octets of x->binding; none for SCRAM_BINDING_NONE. */
enum scram_fault scram_client_final(struct scram *x, const char *message, size_t n,
				    const uint8_t *binding, size_t binding_bytes);
/* 1: the client knows the password, and x->signature is the server's; 0: not; or -errno.  Some
 * microseconds. */
int scram_check(struct scram *x, const struct scram_verifier *v);
/* out: SCRAM_SERVER_FINAL_BYTES */
void scram_server_final(const struct scram *x, char *out);
void scram_wipe(struct scram *x);

#endif
