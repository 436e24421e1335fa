/* cert.h - certificates, keys and OCSP responses as files, made in place.  Test code. */
#ifndef TESTS_SIM_CERT_H
#define TESTS_SIM_CERT_H

#include <openssl/x509.h>
#include <stdbool.h>

struct cert {
	X509 *x;
	EVP_PKEY *key;
};

struct cert_spec {
	const char *common_name;
	const char *alternative; /* "DNS:a.test,email:b@c.test"; NULL: none */
	bool rsa;                /* RSA-2048 in place of P-256 */
	bool authority;
	int until_s;               /* from now; 0: a day */
	const struct cert *issuer; /* NULL: itself */
};

struct cert cert_make(const struct cert_spec *spec);
void cert_save(const struct cert *c, const char *chain_file, const char *key_file);
void cert_free(struct cert *c);
/* "good", until so many seconds from now. */
void cert_save_ocsp(const struct cert *c, const struct cert *issuer, const char *file, int until_s);

/* For mx.test, self-signed, P-256. */
void cert_write(const char *chain_file, const char *key_file);

#endif
