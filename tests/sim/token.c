/* token.c - keys, their JSON form, and signatures by them */
#include "tests/sim/token.h"

#include "base/base64.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { HALF = 32, NUMBER = 512 };

/* Unpadded base64url; free() it. */
static char *encode(const uint8_t *data, size_t n)
{
	char *text = malloc((n + 2) / 3 * 4 + 1);

	base64_encode(data, n, text);
	for (char *s = text; *s != '\0'; s++)
		*s = *s == '+' ? '-' : *s == '/' ? '_' : *s;
	text[strcspn(text, "=")] = '\0';
	return text;
}

static char *number(const EVP_PKEY *key, const char *name, int width)
{
	uint8_t data[NUMBER];
	BIGNUM *b = NULL;

	assert_int_equal(EVP_PKEY_get_bn_param(key, name, &b), 1);
	int n = width > 0 ? BN_bn2binpad(b, data, width) : BN_bn2bin(b, data);
	BN_free(b);
	return encode(data, (size_t)n);
}

char *token_keys_file(const char *json)
{
	char *file = strdup("/tmp/keys.XXXXXX");
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, json, strlen(json)), (int)strlen(json));
	close(fd);
	return file;
}

struct jwks *token_keys(const char *json)
{
	char *file = token_keys_file(json), error[512] = "";
	struct jwks *k;

	if (jwks_load(&k, file, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	unlink(file);
	free(file);
	return k;
}

struct token_maker *token_maker_create(void)
{
	struct token_maker *m = calloc(1, sizeof(*m));
	char json[2048], error[512] = "";

	m->rsa = EVP_RSA_gen(2048);
	m->ec = EVP_EC_gen("P-256");
	char *n = number(m->rsa, OSSL_PKEY_PARAM_RSA_N, 0),
	     *e = number(m->rsa, OSSL_PKEY_PARAM_RSA_E, 0),
	     *x = number(m->ec, OSSL_PKEY_PARAM_EC_PUB_X, HALF),
	     *y = number(m->ec, OSSL_PKEY_PARAM_EC_PUB_Y, HALF);
	snprintf(json, sizeof(json),
		 "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"passed over\",\"k\":\"AAAA\"},"
		 "{\"kty\":\"RSA\",\"kid\":\"r\",\"use\":\"sig\",\"n\":\"%s\",\"e\":\"%s\"},"
		 "{\"kty\":\"EC\",\"kid\":\"e\",\"crv\":\"P-256\",\"alg\":\"ES256\",\"x\":\"%s\","
		 "\"y\":\"%s\"}]}",
		 n, e, x, y);
	m->file = token_keys_file(json);
	if (jwks_load(&m->keys, m->file, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	assert_int_equal(jwks_count(m->keys), 2);
	free(n);
	free(e);
	free(x);
	free(y);
	return m;
}

void token_maker_free(struct token_maker *m)
{
	EVP_PKEY_free(m->rsa);
	EVP_PKEY_free(m->ec);
	jwks_unref(m->keys);
	unlink(m->file);
	free(m->file);
	free(m);
}

static char *sign(const struct token_maker *m, bool ec, const char *text)
{
	uint8_t signature[NUMBER], raw[2 * HALF];
	size_t n = sizeof(signature);
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	assert_int_equal(EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, ec ? m->ec : m->rsa), 1);
	assert_int_equal(EVP_DigestSign(c, signature, &n, (const uint8_t *)text, strlen(text)), 1);
	EVP_MD_CTX_free(c);
	if (!ec)
		return encode(signature, n);
	const uint8_t *at = signature;
	ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &at, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(s), raw, HALF);
	BN_bn2binpad(ECDSA_SIG_get0_s(s), raw + HALF, HALF);
	ECDSA_SIG_free(s);
	return encode(raw, sizeof(raw));
}

char *token_make(const struct token_maker *m, const struct token_spec *s)
{
	const char *header = s->header != NULL ? s->header
			     : s->ec           ? "{\"alg\":\"ES256\",\"kid\":\"e\"}"
					       : "{\"alg\":\"RS256\",\"kid\":\"r\"}";
	char *h = encode((const uint8_t *)header, strlen(header));
	char *c = encode((const uint8_t *)s->claims, strlen(s->claims));
	size_t room = strlen(h) + strlen(c) + 1024;
	char *token = malloc(room);

	snprintf(token, room, "%s.%s", h, c);
	char *signature = sign(m, s->ec, token);
	strcat(token, ".");
	strcat(token, signature);
	free(h);
	free(c);
	free(signature);
	return token;
}
