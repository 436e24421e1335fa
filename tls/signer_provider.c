/* signer_provider.c - OpenSSL's view of keys that are elsewhere: a provider that knows public keys
 * and asks signer.c for signatures.
 *
 * Its library context has nothing else in it, so that no other algorithm is ever fetched from here:
 * OpenSSL tries its own signature first, finds that the key cannot be exported to it, and then asks
 * the provider of the key. */
#include "tls/signer.h"

#include "tls/internal.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/provider.h>
#include <stdlib.h>
#include <string.h>

#define PROVIDER       "postern-signer"
#define PARAM_IDENTITY "postern-identity"

enum { PUBLIC_BYTES = 512, EXPONENT_BYTES = 8, GROUP_BYTES = 16, DIGEST_BYTES = 16 };

enum family { FAMILY_EC, FAMILY_RSA };

/* A key: what makes two of them the same, and what OpenSSL asks of one. */
struct remote_key {
	_Atomic unsigned references;
	enum family family;
	uint8_t identity[SIGNER_KEY];
	uint8_t public[PUBLIC_BYTES]; /* the point, or the modulus */
	size_t n_public;
	uint8_t exponent[EXPONENT_BYTES];
	char group[GROUP_BYTES];
	int bits, security_bits, max_size;
};

static struct remote_key *key_new(enum family family)
{
	struct remote_key *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return NULL;
	k->references = 1;
	k->family = family;
	return k;
}

static void *new_ec(void *provider)
{
	return key_new(FAMILY_EC);
}

static void *new_rsa(void *provider)
{
	return key_new(FAMILY_RSA);
}

static void key_free(void *key)
{
	struct remote_key *k = key;

	if (k != NULL && atomic_fetch_sub(&k->references, 1) == 1)
		free(k);
}

/* The private half counts as there: the signer has it. */
static int key_has(const void *key, int selection)
{
	return key != NULL && ((const struct remote_key *)key)->n_public > 0;
}

static int key_match(const void *one, const void *other, int selection)
{
	const struct remote_key *a = one, *b = other;

	return a->family == b->family && a->n_public == b->n_public &&
	       memcmp(a->public, b->public, a->n_public) == 0 &&
	       memcmp(a->exponent, b->exponent, sizeof(a->exponent)) == 0 &&
	       strcmp(a->group, b->group) == 0;
}

static bool import_ec(struct remote_key *k, const OSSL_PARAM params[])
{
	const OSSL_PARAM *group = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);
	const OSSL_PARAM *point = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
	char *name = k->group;
	void *to = k->public;

	if (group == NULL || point == NULL ||
	    !OSSL_PARAM_get_utf8_string(group, &name, sizeof(k->group)) ||
	    !OSSL_PARAM_get_octet_string(point, &to, sizeof(k->public), &k->n_public))
		return false;
	k->bits = strcmp(name, "prime256v1") == 0 ? 256 : strcmp(name, "secp384r1") == 0 ? 384 : 0;
	k->security_bits = k->bits / 2;
	/* two numbers of so many octets as DER: 72 and 104 */
	k->max_size = k->bits / 4 + 8;
	return k->bits > 0;
}

static bool import_rsa(struct remote_key *k, const OSSL_PARAM params[])
{
	const OSSL_PARAM *modulus = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_N);
	const OSSL_PARAM *exponent = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_E);
	BIGNUM *n = NULL, *e = NULL;
	bool good = modulus != NULL && exponent != NULL && OSSL_PARAM_get_BN(modulus, &n) &&
		    OSSL_PARAM_get_BN(exponent, &e) && BN_num_bytes(n) <= SIGNER_SIGNATURE &&
		    BN_bn2binpad(e, k->exponent, EXPONENT_BYTES) > 0;

	if (good) {
		k->n_public = (size_t)BN_bn2bin(n, k->public);
		k->bits = BN_num_bits(n);
		k->security_bits = BN_security_bits(k->bits, -1);
		k->max_size = (int)k->n_public;
	}
	BN_free(n);
	BN_free(e);
	return good;
}

static int key_import(void *key, int selection, const OSSL_PARAM params[])
{
	struct remote_key *k = key;
	const OSSL_PARAM *identity = OSSL_PARAM_locate_const(params, PARAM_IDENTITY);
	void *to = k->identity;
	size_t n;

	/* without one, as when a certificate is compared with its key, it can sign nothing */
	if (identity != NULL &&
	    !OSSL_PARAM_get_octet_string(identity, &to, sizeof(k->identity), &n))
		return 0;
	return k->family == FAMILY_EC ? import_ec(k, params) : import_rsa(k, params);
}

static const OSSL_PARAM *key_import_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_octet_string(PARAM_IDENTITY, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
		OSSL_PARAM_END,
	};

	return types;
}

static int key_get_params(void *key, OSSL_PARAM params[])
{
	const struct remote_key *k = key;
	OSSL_PARAM *p;

	return ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_BITS)) == NULL ||
		OSSL_PARAM_set_int(p, k->bits)) &&
	       ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_SECURITY_BITS)) == NULL ||
		OSSL_PARAM_set_int(p, k->security_bits)) &&
	       ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MAX_SIZE)) == NULL ||
		OSSL_PARAM_set_int(p, k->max_size)) &&
	       (k->family != FAMILY_EC ||
		(p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_GROUP_NAME)) == NULL ||
		OSSL_PARAM_set_utf8_string(p, k->group));
}

static const OSSL_PARAM *key_gettable(void *provider)
{
	static const OSSL_PARAM names[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_END,
	};

	return names;
}

static const char *operation_ec(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

struct signing {
	struct remote_key *key;
	char digest[DIGEST_BYTES];
	bool pss;
};

static void *signing_new(void *provider, const char *properties)
{
	return calloc(1, sizeof(struct signing));
}

static void signing_free(void *context)
{
	struct signing *c = context;

	key_free(c->key);
	free(c);
}

static int set_padding(struct signing *c, const OSSL_PARAM *p)
{
	const char *name = NULL;
	int number = 0;

	if (p->data_type == OSSL_PARAM_UTF8_STRING) {
		if (!OSSL_PARAM_get_utf8_string_ptr(p, &name))
			return 0;
		c->pss = strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
		return c->pss || strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0;
	}
	if (!OSSL_PARAM_get_int(p, &number))
		return 0;
	c->pss = number == RSA_PKCS1_PSS_PADDING;
	return c->pss || number == RSA_PKCS1_PADDING;
}

/* The length of the salt is that of the digest, as TLS has it; the signer knows no other. */
static int signing_set(void *context, const OSSL_PARAM params[])
{
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);

	return p == NULL || set_padding(context, p);
}

static const OSSL_PARAM *signing_settable(void *context, void *provider)
{
	static const OSSL_PARAM names[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_END,
	};

	return names;
}

static int signing_init(void *context, const char *digest, void *key, const OSSL_PARAM params[])
{
	struct signing *c = context;
	struct remote_key *k = key;

	if (k != NULL) {
		atomic_fetch_add(&k->references, 1);
		key_free(c->key);
		c->key = k;
	}
	snprintf(c->digest, sizeof(c->digest), "%s", digest != NULL ? digest : "");
	return c->key != NULL && (params == NULL || signing_set(c, params));
}

/* SignatureScheme of key, padding and digest; 0: TLS has none that the signer knows. */
static uint16_t scheme_of(const struct signing *c)
{
	static const struct {
		const char *digest;
		uint16_t ecdsa, pss, pkcs1;
	} rows[] = {
		{"SHA256", 0x0403, 0x0804, 0x0401},   {"SHA384", 0x0503, 0x0805, 0x0501},
		{"SHA512", 0x0603, 0x0806, 0x0601},   {"SHA2-256", 0x0403, 0x0804, 0x0401},
		{"SHA2-384", 0x0503, 0x0805, 0x0501}, {"SHA2-512", 0x0603, 0x0806, 0x0601},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (OPENSSL_strcasecmp(rows[i].digest, c->digest) == 0)
			return c->key->family == FAMILY_EC ? rows[i].ecdsa
			       : c->pss                    ? rows[i].pss
							   : rows[i].pkcs1;
	return 0;
}

static int signing_sign(void *context, unsigned char *signature, size_t *n, size_t room,
			const unsigned char *content, size_t bytes)
{
	const struct signing *c = context;
	struct signer_ask ask = {.scheme = scheme_of(c),
				 .key = c->key->identity,
				 .content = content,
				 .content_bytes = bytes};

	if (signature == NULL) {
		*n = (size_t)c->key->max_size;
		return 1;
	}
	*n = room;
	return ask.scheme != 0 && signer_sign(&ask, signature, n);
}

#define ENTRY(id, f)                  \
	{                             \
		id, (void (*)(void))f \
	}

static const OSSL_DISPATCH ec_keys[] = {
	ENTRY(OSSL_FUNC_KEYMGMT_NEW, new_ec),
	ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free),
	ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has),
	ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match),
	ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, key_import),
	ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),
	ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),
	ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable),
	ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, operation_ec),
	{},
};

static const OSSL_DISPATCH rsa_keys[] = {
	ENTRY(OSSL_FUNC_KEYMGMT_NEW, new_rsa),
	ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free),
	ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has),
	ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match),
	ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, key_import),
	ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),
	ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),
	ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable),
	{},
};

static const OSSL_DISPATCH signing[] = {
	ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new),
	ENTRY(OSSL_FUNC_SIGNATURE_FREECTX, signing_free),
	ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init),
	ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signing_sign),
	ENTRY(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signing_set),
	ENTRY(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signing_settable),
	{},
};

static const OSSL_ALGORITHM keys[] = {
	{"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=" PROVIDER, ec_keys, ""},
	{"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=" PROVIDER, rsa_keys, ""},
	{},
};

static const OSSL_ALGORITHM signatures[] = {
	{"ECDSA", "provider=" PROVIDER, signing, ""},
	{"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=" PROVIDER, signing, ""},
	{},
};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
	*no_cache = 0;
	return operation == OSSL_OP_KEYMGMT     ? keys
	       : operation == OSSL_OP_SIGNATURE ? signatures
						: NULL;
}

static int start(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
		 void **provider)
{
	static const OSSL_DISPATCH functions[] = {
		ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query),
		{},
	};
	static const char no_state;

	*provider = (void *)(uintptr_t)&no_state;
	*out = functions;
	return 1;
}

OSSL_LIB_CTX *signer_lib_create(void)
{
	OSSL_LIB_CTX *lib = OSSL_LIB_CTX_new();

	if (lib != NULL && OSSL_PROVIDER_add_builtin(lib, PROVIDER, start) == 1 &&
	    OSSL_PROVIDER_load(lib, PROVIDER) != NULL)
		return lib;
	OSSL_LIB_CTX_free(lib);
	return NULL;
}

static int keep_it(OSSL_PROVIDER *p, void *out)
{
	*(OSSL_PROVIDER **)out = p;
	return 1;
}

/* A context does not let go what was loaded into it. */
void signer_lib_free(OSSL_LIB_CTX *lib)
{
	OSSL_PROVIDER *p = NULL;

	if (lib == NULL)
		return;
	OSSL_PROVIDER_do_all(lib, keep_it, &p);
	OSSL_PROVIDER_unload(p);
	OSSL_LIB_CTX_free(lib);
}

static EVP_PKEY *from_params(OSSL_LIB_CTX *lib, const char *family, OSSL_PARAM params[])
{
	EVP_PKEY_CTX *x = EVP_PKEY_CTX_new_from_name(lib, family, NULL);
	EVP_PKEY *key = NULL;

	if (x == NULL || EVP_PKEY_fromdata_init(x) != 1 ||
	    EVP_PKEY_fromdata(x, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(x);
	return key;
}

EVP_PKEY *signer_key(OSSL_LIB_CTX *lib, X509 *leaf)
{
	EVP_PKEY *public = X509_get0_pubkey(leaf), *key = NULL;
	const char *family = public == NULL                 ? NULL
			     : EVP_PKEY_is_a(public, "EC")  ? "EC"
			     : EVP_PKEY_is_a(public, "RSA") ? "RSA"
							    : NULL;
	uint8_t identity[SIGNER_KEY];
	OSSL_PARAM *params = NULL, *all = NULL,
		   own[2] = {
			   OSSL_PARAM_construct_octet_string(PARAM_IDENTITY, identity,
							     sizeof(identity)),
			   OSSL_PARAM_construct_end(),
		   };

	if (family != NULL && signer_identity(public, identity) &&
	    EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &params) == 1 &&
	    (all = OSSL_PARAM_merge(params, own)) != NULL)
		key = from_params(lib, family, all);
	OSSL_PARAM_free(all);
	OSSL_PARAM_free(params);
	return key;
}
