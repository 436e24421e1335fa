/*
 * signer.h - the gateway's side of postern-signer: keys that are elsewhere, and signatures asked
 * for by a handshake that pauses until they come.
 *
 * A key is an EVP_PKEY of a provider of our own, in a library context of its own, that has only the
 * public half.  When OpenSSL signs with it, the handshake, which runs as an asynchronous job of its
 * thread (SSL_MODE_ASYNC), is paused; SSL_do_handshake() returns with SSL_ERROR_WANT_ASYNC, and is
 * called again when signer_ready() names the session.
 *
 * Owner: struct signer one a handshake thread.  Runs on: that thread (signer_lib_create() and
 * signer_key() on the one that loads certificates).  Nothing waits: the socket never blocks.
 * Errors: a signature that does not come within SIGNER_PATIENCE_MS fails, as all do at once when
 * the connection is lost; the next request connects again, at most ten times a second.
 */
#ifndef TLS_SIGNER_H
#define TLS_SIGNER_H

#include "tls/signer_wire.h"

#include <openssl/ssl.h>

struct signer;
struct tls_session;

enum {
	SIGNER_SLOTS = 768, /* signatures asked for at a time, a thread: those of 64 workers */
	SIGNER_PATIENCE_MS = 2000,
};

OSSL_LIB_CTX *signer_lib_create(void);
void signer_lib_free(OSSL_LIB_CTX *lib); /* after its keys */
/* The key of a certificate, by its public half; NULL: neither RSA nor ECDSA, or no memory. */
EVP_PKEY *signer_key(OSSL_LIB_CTX *lib, X509 *leaf);

/* SHA-256 of a public key, SIGNER_KEY octets. */
bool signer_identity(const EVP_PKEY *key, uint8_t *identity);

struct signer *signer_create(const char *socket);
void signer_destroy(struct signer *s);
/* Around SSL_do_handshake(): signatures of the session are asked for here.  NULL: none are. */
void signer_enter(struct signer *s, struct tls_session *session);
void signer_leave(void);
/* Sends and receives what there is; how many answers came. */
unsigned signer_poll(struct signer *s);
/* A session whose handshake can go on; NULL: none. */
struct tls_session *signer_ready(struct signer *s);
/* All that waits fails, and what comes after it. */
void signer_stop(struct signer *s);
unsigned signer_waiting(const struct signer *s);

/* For the provider: pauses the job of the session that was entered until the answer comes.
 * *n: room at signature, then its octets.  false: there is no signature. */
bool signer_sign(const struct signer_ask *ask, uint8_t *signature, size_t *n);

#endif
