/*
 * keys.h - the private keys of postern-signer and what it does with them.
 *
 * Owner: counted references; one that serves holds one while it signs, so that a reload waits for
 * nobody.  Runs on: any thread.
 * Errors: NULL with a text that names the file; a signer_status.
 */
#ifndef TLS_SIGNER_KEYS_H
#define TLS_SIGNER_KEYS_H

#include "tls/signer_wire.h"

struct keys;

/* Paths are PEM files, or directories of NAME/key.pem, of which a bad one is told and left out. */
struct keys *keys_load(const char *const *paths, unsigned n, char *error, size_t error_bytes);
struct keys *keys_ref(struct keys *k);
void keys_unref(struct keys *k);
unsigned keys_count(const struct keys *k);

/* At most SIGNER_SIGNATURE octets into signature. */
enum signer_status keys_sign(const struct keys *k, const struct signer_ask *a, uint8_t *signature,
			     size_t *n);

#endif
