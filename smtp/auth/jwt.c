/* jwt.c - a token taken apart, its signature, then its claims */
#include "smtp/auth/jwt.h"

#include "base/base64.h"
#include "smtp/auth/jwks.h"

#include <jansson.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { ES256_HALF = 32, ES256_DER_MOST = 80 };

struct part {
	const char *at;
	size_t n;
};

int base64url_decode(const char *text, size_t n, uint8_t *out, size_t limit)
{
	char *plain = malloc(n + 1);
	int got = -1;

	if (plain == NULL)
		return -1;
	size_t i = 0;
	for (; i < n; i++) {
		char c = text[i];
		/* the characters of the other alphabet, and padding, are not base64url */
		if (c == '+' || c == '/' || c == '=')
			break;
		plain[i] = c == '-' ? '+' : c == '_' ? '/' : c;
	}
	if (i == n)
		got = base64_decode(plain, n, out, limit);
	free(plain);
	return got;
}

/* Three parts with two dots between them. */
static bool split(const char *token, size_t n, struct part part[3])
{
	const char *at = token, *end = token + n;

	for (unsigned i = 0; i < 3; i++) {
		const char *dot = memchr(at, '.', (size_t)(end - at));
		if ((dot == NULL) != (i == 2))
			return false;
		part[i] = (struct part){at, (size_t)((dot != NULL ? dot : end) - at)};
		if (part[i].n == 0)
			return false;
		if (dot != NULL)
			at = dot + 1;
	}
	return true;
}

static json_t *object_of(const struct part *p)
{
	uint8_t *text = malloc(p->n);
	json_t *object = NULL;
	int n = text != NULL ? base64url_decode(p->at, p->n, text, p->n) : -1;

	if (n > 0)
		object = json_loadb((const char *)text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	if (object != NULL && !json_is_object(object)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

/* r and s of 32 octets each become the DER form that the library wants (RFC 7518 section 3.4). */
static int der_of(const uint8_t *raw, size_t n, uint8_t *der)
{
	uint8_t *at = der;

	if (n != 2 * ES256_HALF)
		return -1;
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(raw, ES256_HALF, NULL),
	       *s = BN_bin2bn(raw + ES256_HALF, ES256_HALF, NULL);
	if (sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1) {
		BN_free(r);
		BN_free(s);
		ECDSA_SIG_free(sig);
		return -1;
	}
	int bytes = i2d_ECDSA_SIG(sig, &at);
	ECDSA_SIG_free(sig);
	return bytes;
}

static enum jwt_verdict verify(EVP_PKEY *key, bool ec, const struct part part[3])
{
	uint8_t raw[JWKS_SIGNATURE_MOST], der[ES256_DER_MOST], *signature = raw;
	int n = base64url_decode(part[2].at, part[2].n, raw, sizeof(raw));
	size_t signed_bytes = (size_t)(part[1].at + part[1].n - part[0].at);

	if (n <= 0)
		return JWT_SIGNATURE;
	if (ec) {
		n = der_of(raw, (size_t)n, der);
		signature = der;
		if (n <= 0)
			return JWT_SIGNATURE;
	}
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	if (c == NULL)
		return JWT_NO_MEMORY;
	bool good = EVP_DigestVerifyInit(c, NULL, EVP_sha256(), NULL, key) == 1 &&
		    EVP_DigestVerify(c, signature, (size_t)n, (const uint8_t *)part[0].at,
				     signed_bytes) == 1;
	EVP_MD_CTX_free(c);
	return good ? JWT_GOOD : JWT_SIGNATURE;
}

static enum jwt_verdict check_signature(const struct jwks *k, const json_t *header,
					const struct part part[3])
{
	const char *algorithm = json_string_value(json_object_get(header, "alg"));
	const char *id = json_string_value(json_object_get(header, "kid"));
	enum jwt_verdict v = JWT_KEY;

	/* extensions that must be understood are not (RFC 7515 section 4.1.11) */
	if (json_object_get(header, "crit") != NULL || algorithm == NULL)
		return JWT_MALFORMED;
	bool ec = strcmp(algorithm, "ES256") == 0;
	if (!ec && strcmp(algorithm, "RS256") != 0)
		return JWT_KEY;
	/* without an id every key of the kind is tried; the sets are small */
	for (unsigned i = 0; i < k->count && v != JWT_GOOD && v != JWT_NO_MEMORY; i++) {
		const struct jwk *key = &k->key[i];
		if (key->ec == ec && (id == NULL || strcmp(id, key->id) == 0))
			v = verify(key->key, ec, part);
	}
	return v;
}

/* NumericDate: a JSON number, fractions cut off; false: absent or no number. */
static bool date_of(const json_t *claims, const char *name, int64_t *out)
{
	const json_t *v = json_object_get(claims, name);

	if (!json_is_number(v))
		return false;
	double d = json_number_value(v);
	if (!(d > -1e12 && d < 1e12))
		return false;
	*out = (int64_t)d;
	return true;
}

static bool times_good(const json_t *claims, const struct jwt_policy *p, int64_t now_s)
{
	int64_t expires, from;

	if (!date_of(claims, "exp", &expires) || now_s >= expires + p->skew_s)
		return false;
	if (json_object_get(claims, "nbf") == NULL)
		return true;
	return date_of(claims, "nbf", &from) && now_s >= from - p->skew_s;
}

static bool text_equals(const json_t *v, const char *text)
{
	const char *s = json_string_value(v);

	return s != NULL && strlen(s) == json_string_length(v) && strcmp(s, text) == 0;
}

static bool audience_good(const json_t *aud, const char *wanted)
{
	if (!json_is_array(aud))
		return text_equals(aud, wanted);
	for (size_t i = 0; i < json_array_size(aud); i++) {
		if (text_equals(json_array_get(aud, i), wanted))
			return true;
	}
	return false;
}

static enum jwt_verdict check_claims(const json_t *claims, const struct jwt_policy *p,
				     int64_t now_s, char *user, size_t room)
{
	const json_t *name = json_object_get(claims, p->user_claim);

	if (!times_good(claims, p, now_s))
		return JWT_TIME;
	if (!text_equals(json_object_get(claims, "iss"), p->issuer) ||
	    !audience_good(json_object_get(claims, "aud"), p->audience) || !json_is_string(name))
		return JWT_CLAIMS;
	size_t n = json_string_length(name);
	const char *text = json_string_value(name);
	if (n == 0 || n >= room || strlen(text) != n)
		return JWT_CLAIMS;
	memcpy(user, text, n + 1);
	return JWT_GOOD;
}

enum jwt_verdict jwt_check(const struct jwks *k, const struct jwt_policy *p, const char *token,
			   size_t n, int64_t now_s, char *user, size_t room)
{
	struct part part[3];

	if (n > JWT_TOKEN_MOST || !split(token, n, part))
		return JWT_MALFORMED;
	json_t *header = object_of(&part[0]);
	if (header == NULL)
		return JWT_MALFORMED;
	enum jwt_verdict v = check_signature(k, header, part);
	json_decref(header);
	if (v != JWT_GOOD)
		return v;
	/* nothing of the claims is looked at before the signature holds */
	json_t *claims = object_of(&part[1]);
	if (claims == NULL)
		return JWT_MALFORMED;
	v = check_claims(claims, p, now_s, user, room);
	json_decref(claims);
	return v;
}
