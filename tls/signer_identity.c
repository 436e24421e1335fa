/* signer_identity.c - the name under which gateway and signer know a key */
#include "tls/signer.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

bool signer_identity(const EVP_PKEY *key, uint8_t *identity)
{
	unsigned char *der = NULL;
	int n = i2d_PUBKEY(key, &der);
	bool good = n > 0 && EVP_Digest(der, (size_t)n, identity, NULL, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	return good;
}
