/* digest.c - the library's SHA-256 behind three calls */
#include "smtp/auth/digest.h"

#include <openssl/evp.h>

/* An EVP_MD_CTX by another name: nobody else needs to know the library. */
struct digest *digest_begin(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (c == NULL || EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1)
		return (struct digest *)c;
	EVP_MD_CTX_free(c);
	return NULL;
}

void digest_add(struct digest *d, const void *data, size_t n)
{
	EVP_DigestUpdate((EVP_MD_CTX *)d, data, n);
}

bool digest_end(struct digest *d, uint8_t *out)
{
	unsigned n = DIGEST_BYTES;
	bool good = d != NULL && out != NULL && EVP_DigestFinal_ex((EVP_MD_CTX *)d, out, &n) == 1;

	EVP_MD_CTX_free((EVP_MD_CTX *)d);
	return good;
}
