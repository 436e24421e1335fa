/* cert.c - one key, one certificate, valid for a day around now */
#include "tests/sim/cert.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static void add_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX context;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert(e != NULL);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -86400);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"mx.test", -1,
				   -1, 0);
	X509_set_issuer_name(x, name);
	add_extension(x, NID_basic_constraints, "critical,CA:TRUE");
	add_extension(x, NID_subject_alt_name, "DNS:mx.test,IP:10.0.0.1");
	X509_sign(x, key, EVP_sha256());
	return x;
}

void cert_write(const char *chain_file, const char *key_file)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	FILE *chain = fopen(chain_file, "w"), *secret = fopen(key_file, "w");

	assert(key != NULL && chain != NULL && secret != NULL);
	X509 *x = make_certificate(key);
	assert(PEM_write_X509(chain, x) == 1);
	assert(PEM_write_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(chain);
	fclose(secret);
	X509_free(x);
	EVP_PKEY_free(key);
}
