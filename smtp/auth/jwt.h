/*
 * jwt.h - bearer tokens: JSON Web Tokens checked locally against a file of public keys.
 *
 * Signatures RS256 and ES256 only; a token without signature, with an HMAC, with unknown
 * critical headers, without expiry or for another audience is refused.
 *
 * Owner: jwks_load() gives one reference; a set of keys is immutable.
 * Runs on: auth threads (jwt_check(): some hundred microseconds), the control thread
 *          (jwks_load()).
 * Errors: jwks_load() 0 or -errno with a text; the peer's are an enum jwt_verdict.
 * Source: RFC 7519, 7515, 7517, 7518, 8725.
 */
#ifndef SMTP_AUTH_JWT_H
#define SMTP_AUTH_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JWT_TOKEN_MOST = 12288, JWT_TEXT_BYTES = 256 };

struct jwks;

/* Keys of use "sig" or none, kty RSA (2048 bits at least) or EC P-256; others are passed over. */
int jwks_load(struct jwks **k, const char *file, char *error, size_t error_bytes);
struct jwks *jwks_ref(struct jwks *k);
void jwks_unref(struct jwks *k);
unsigned jwks_count(const struct jwks *k);

struct jwt_policy {
	char issuer[JWT_TEXT_BYTES];     /* iss must be this */
	char audience[JWT_TEXT_BYTES];   /* aud must be or contain this */
	char user_claim[JWT_TEXT_BYTES]; /* names the user: "email", "sub", ... */
	int64_t skew_s;                  /* clocks may differ by so much */
};

enum jwt_verdict {
	JWT_GOOD,
	JWT_MALFORMED, /* not three parts of base64url with JSON objects, or an unknown "crit" */
	JWT_KEY,       /* no key of that id and algorithm */
	JWT_SIGNATURE,
	JWT_TIME,   /* expired, not yet valid, or without expiry */
	JWT_CLAIMS, /* issuer, audience or user not as demanded */
	JWT_NO_MEMORY,
};

/* user: room for the name that the token proves, NUL-terminated on JWT_GOOD. */
enum jwt_verdict jwt_check(const struct jwks *k, const struct jwt_policy *p, const char *token,
			   size_t n, int64_t now_s, char *user, size_t room);

#endif
