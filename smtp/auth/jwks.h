/* jwks.h - a set of public keys; what jwks.c and jwt.c share, not for other layers */
#ifndef SMTP_AUTH_JWKS_H
#define SMTP_AUTH_JWKS_H

#include "smtp/auth/jwt.h"

#include <openssl/evp.h>
#include <stdatomic.h>

enum { JWKS_KEYS = 64, JWKS_ID_BYTES = 128, JWKS_SIGNATURE_MOST = 1024 };

struct jwk {
	char id[JWKS_ID_BYTES]; /* kid; "": none */
	bool ec;                /* ES256; else RS256 */
	EVP_PKEY *key;
};

struct jwks {
	atomic_uint references;
	unsigned count;
	struct jwk key[JWKS_KEYS];
};

/* The unpadded alphabet of RFC 4648 section 5.  Octets, or -1. */
int base64url_decode(const char *text, size_t n, uint8_t *out, size_t limit);

#endif
