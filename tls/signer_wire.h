/*
 * signer_wire.h - what the gateway and postern-signer say to each other over a UNIX stream socket.
 *
 * The gateway asks, the signer answers, in any order; both may write many at a time.  Numbers are
 * big-endian.
 *
 *	request: u16 octets that follow (42 + content), u16 scheme, u64 tag, 32 octets key, content
 *	answer:  u16 octets that follow (10 + signature), u16 status, u64 tag, signature
 *
 * scheme is a SignatureScheme (RFC 8446 section 4.2.3).  key is the SHA-256 of the public key as
 * SubjectPublicKeyInfo.  content is what TLS signs, before it is hashed: the signer looks at it and
 * signs nothing else.  A connection on which anything else comes is closed.
 *
 * Owner: nothing is allocated; what is taken points into the input.  Runs on: any thread.
 * Errors: see each function.  Source: RFC 8446 section 4.4.3, RFC 8422 section 5.4.
 */
#ifndef TLS_SIGNER_WIRE_H
#define TLS_SIGNER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SIGNER_KEY = 32,
	SIGNER_CONTENT = 256,   /* most; the longest that TLS has is 165 */
	SIGNER_SIGNATURE = 512, /* most: RSA of 4096 bits */
	SIGNER_REQUEST = 2 + 2 + 8 + SIGNER_KEY + SIGNER_CONTENT,
	SIGNER_ANSWER = 2 + 2 + 8 + SIGNER_SIGNATURE,
};

enum signer_status {
	SIGNER_OK,
	SIGNER_NO_KEY,  /* there is none with this hash */
	SIGNER_REFUSED, /* not for this key, or not what a TLS server signs */
	SIGNER_FAILED,
};

struct signer_ask {
	uint64_t tag;
	uint16_t scheme;
	const uint8_t *key; /* SIGNER_KEY octets */
	const uint8_t *content;
	size_t content_bytes;
};

struct signer_answer {
	uint64_t tag;
	uint16_t status;
	const uint8_t *signature;
	size_t signature_bytes; /* 0 unless status is SIGNER_OK */
};

/* Writes one, at most SIGNER_REQUEST or SIGNER_ANSWER octets; how many. */
size_t signer_put_ask(uint8_t *out, const struct signer_ask *a);
size_t signer_put_answer(uint8_t *out, const struct signer_answer *a);
/* Reads the first one of n octets: how many it takes; 0: it is not whole; -1: it is none. */
int signer_take_ask(const uint8_t *p, size_t n, struct signer_ask *a);
int signer_take_answer(const uint8_t *p, size_t n, struct signer_answer *a);

/* Whether a TLS server signs such a thing: the transcript of a TLS 1.3 handshake under the server's
 * label, or both randoms and an ephemeral key of X25519, P-256 or P-384 under TLS 1.2. */
bool signer_is_handshake(const uint8_t *content, size_t n);

#endif
