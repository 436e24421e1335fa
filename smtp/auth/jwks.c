/* jwks.c - reads a JSON Web Key Set (RFC 7517 section 5) */
#include "smtp/auth/jwks.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MOST = 1024, P256_HALF = 32, RSA_BITS_LEAST = 2048 };

/* The octets of a member in base64url, or -1. */
static int octets_of(const json_t *jwk, const char *name, uint8_t *out, size_t limit)
{
	const char *text = json_string_value(json_object_get(jwk, name));

	return text != NULL ? base64url_decode(text, strlen(text), out, limit) : -1;
}

static EVP_PKEY *key_from(const char *type, OSSL_PARAM_BLD *b)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *key = NULL;

	if (params == NULL || c == NULL || EVP_PKEY_fromdata_init(c) != 1 ||
	    EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(c);
	OSSL_PARAM_free(params);
	return key;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
	uint8_t modulus[NUMBER_MOST], exponent[NUMBER_MOST];
	int nn = octets_of(jwk, "n", modulus, sizeof(modulus));
	int ne = octets_of(jwk, "e", exponent, sizeof(exponent));
	EVP_PKEY *key = NULL;

	if (nn <= 0 || ne <= 0)
		return NULL;
	BIGNUM *n = BN_bin2bn(modulus, nn, NULL), *e = BN_bin2bn(exponent, ne, NULL);
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	if (n != NULL && e != NULL && b != NULL && BN_num_bits(n) >= RSA_BITS_LEAST &&
	    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		key = key_from("RSA", b);
	OSSL_PARAM_BLD_free(b);
	BN_free(n);
	BN_free(e);
	return key;
}

static EVP_PKEY *ec_key(const json_t *jwk)
{
	uint8_t point[1 + 2 * P256_HALF] = {4};
	const char *curve = json_string_value(json_object_get(jwk, "crv"));
	EVP_PKEY *key = NULL;

	if (curve == NULL || strcmp(curve, "P-256") != 0 ||
	    octets_of(jwk, "x", point + 1, P256_HALF) != P256_HALF ||
	    octets_of(jwk, "y", point + 1 + P256_HALF, P256_HALF) != P256_HALF)
		return NULL;
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	if (b != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)) == 1)
		key = key_from("EC", b);
	OSSL_PARAM_BLD_free(b);
	return key;
}

/* false: not a key for signatures of ours; it is passed over. */
static bool add_key(struct jwks *k, const json_t *jwk)
{
	const char *type = json_string_value(json_object_get(jwk, "kty"));
	const char *use = json_string_value(json_object_get(jwk, "use"));
	const char *id = json_string_value(json_object_get(jwk, "kid"));
	const char *algorithm = json_string_value(json_object_get(jwk, "alg"));
	struct jwk *to = &k->key[k->count];

	if (type == NULL || (use != NULL && strcmp(use, "sig") != 0) ||
	    (id != NULL && strlen(id) >= sizeof(to->id)))
		return false;
	to->ec = strcmp(type, "EC") == 0;
	if (algorithm != NULL && strcmp(algorithm, to->ec ? "ES256" : "RS256") != 0)
		return false;
	to->key = to->ec ? ec_key(jwk) : strcmp(type, "RSA") == 0 ? rsa_key(jwk) : NULL;
	if (to->key == NULL)
		return false;
	snprintf(to->id, sizeof(to->id), "%s", id != NULL ? id : "");
	k->count++;
	return true;
}

int jwks_load(struct jwks **out, const char *file, char *error, size_t error_bytes)
{
	json_error_t fault;
	json_t *set = json_load_file(file, JSON_REJECT_DUPLICATES, &fault);
	struct jwks *k = calloc(1, sizeof(*k));
	const json_t *keys = json_object_get(set, "keys");

	*out = NULL;
	if (k == NULL) {
		json_decref(set);
		snprintf(error, error_bytes, "%s: out of memory", file);
		return -ENOMEM;
	}
	atomic_init(&k->references, 1);
	for (size_t i = 0; i < json_array_size(keys) && k->count < JWKS_KEYS; i++)
		add_key(k, json_array_get(keys, i));
	bool is_set = json_is_array(keys);
	json_decref(set);
	if (k->count > 0) {
		*out = k;
		return 0;
	}
	if (set == NULL && fault.line < 1)
		snprintf(error, error_bytes, "%s: cannot be read: %s", file, fault.text);
	else if (set == NULL)
		snprintf(error, error_bytes, "%s:%d:%d: %s", file, fault.line, fault.column,
			 fault.text);
	else
		snprintf(error, error_bytes, "%s: %s", file,
			 is_set ? "holds no key for signatures: RSA of 2048 bits or more, or EC "
				  "P-256"
				: "is not a JSON Web Key Set: {\"keys\": [...]}");
	jwks_unref(k);
	return -EINVAL;
}

struct jwks *jwks_ref(struct jwks *k)
{
	atomic_fetch_add_explicit(&k->references, 1, memory_order_relaxed);
	return k;
}

void jwks_unref(struct jwks *k)
{
	if (k == NULL || atomic_fetch_sub_explicit(&k->references, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < k->count; i++)
		EVP_PKEY_free(k->key[i].key);
	free(k);
}

unsigned jwks_count(const struct jwks *k)
{
	return k->count;
}
