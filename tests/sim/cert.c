/* cert.c - keys and certificates valid from a day ago on */
#include "tests/sim/cert.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { DAY = 86400 };

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

struct cert cert_make(const struct cert_spec *spec)
{
	static long serial;
	struct cert c = {.x = X509_new(),
			 .key = spec->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256")};
	const struct cert *issuer = spec->issuer != NULL ? spec->issuer : &c;
	X509_NAME *name = X509_get_subject_name(c.x);

	assert(c.key != NULL);
	X509_set_version(c.x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(c.x), -DAY);
	X509_gmtime_adj(X509_getm_notAfter(c.x), spec->until_s != 0 ? spec->until_s : DAY);
	X509_set_pubkey(c.x, c.key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
				   (const unsigned char *)spec->common_name, -1, -1, 0);
	X509_set_issuer_name(c.x, X509_get_subject_name(issuer->x));
	add_extension(c.x, NID_basic_constraints,
		      spec->authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
	if (spec->alternative != NULL)
		add_extension(c.x, NID_subject_alt_name, spec->alternative);
	assert(X509_sign(c.x, issuer->key, EVP_sha256()) > 0);
	return c;
}

void cert_save(const struct cert *c, const char *chain_file, const char *key_file)
{
	FILE *chain = fopen(chain_file, "w"), *secret = fopen(key_file, "w");

	assert(chain != NULL && secret != NULL);
	assert(PEM_write_X509(chain, c->x) == 1);
	assert(PEM_write_PrivateKey(secret, c->key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(chain);
	fclose(secret);
}

void cert_free(struct cert *c)
{
	X509_free(c->x);
	EVP_PKEY_free(c->key);
}

void cert_save_ocsp(const struct cert *c, const struct cert *issuer, const char *file, int until_s)
{
	OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
	OCSP_CERTID *id = OCSP_cert_to_id(NULL, c->x, issuer->x);
	ASN1_TIME *this = X509_gmtime_adj(NULL, -DAY), *next = X509_gmtime_adj(NULL, until_s);
	FILE *f = fopen(file, "w");

	assert(f != NULL && OCSP_basic_add1_status(basic, id, V_OCSP_CERTSTATUS_GOOD, 0, NULL, this,
						   next) != NULL);
	assert(OCSP_basic_sign(basic, issuer->x, issuer->key, EVP_sha256(), NULL, 0) == 1);
	OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	unsigned char *der = NULL;
	int n = i2d_OCSP_RESPONSE(r, &der);
	assert(n > 0 && fwrite(der, 1, (size_t)n, f) == (size_t)n);
	OPENSSL_free(der);
	fclose(f);
	OCSP_RESPONSE_free(r);
	ASN1_TIME_free(this);
	ASN1_TIME_free(next);
	OCSP_CERTID_free(id);
	OCSP_BASICRESP_free(basic);
}

void cert_write(const char *chain_file, const char *key_file)
{
	struct cert c = cert_make(&(struct cert_spec){.common_name = "mx.test",
						      .alternative = "DNS:mx.test,IP:10.0.0.1",
						      .authority = true});

	cert_save(&c, chain_file, key_file);
	cert_free(&c);
}
