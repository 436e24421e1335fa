/* keys.c - keys found by the hash of their public half, and the few signatures that TLS needs */
#include "tls/signer/keys.h"

#include "tls/signer.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 1024 };

struct key {
	uint8_t identity[SIGNER_KEY];
	EVP_PKEY *key;
};

struct keys {
	_Atomic unsigned references;
	struct key *key; /* sorted */
	unsigned n;
};

static int by_identity(const void *a, const void *b)
{
	return memcmp(((const struct key *)a)->identity, ((const struct key *)b)->identity,
		      SIGNER_KEY);
}

static int no_pass_phrase(char *buf, int bytes, int writing, void *arg)
{
	return 0;
}

static bool add(struct keys *k, const char *file, char *error, size_t error_bytes)
{
	BIO *in = BIO_new_file(file, "r");
	EVP_PKEY *key = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, no_pass_phrase, NULL) : NULL;
	struct key *grown = key != NULL ? reallocarray(k->key, k->n + 1, sizeof(*grown)) : NULL;

	BIO_free(in);
	if (grown != NULL)
		k->key = grown;
	if (grown == NULL || !signer_identity(key, grown[k->n].identity)) {
		char reason[160] = "";
		ERR_error_string_n(ERR_peek_error(), reason, sizeof(reason));
		snprintf(error, error_bytes,
			 "%s: %s; a PEM private key without pass phrase is needed", file, reason);
		ERR_clear_error();
		EVP_PKEY_free(key);
		return false;
	}
	grown[k->n++].key = key;
	return true;
}

static bool add_directory(struct keys *k, const char *path, char *error, size_t error_bytes)
{
	char file[PATH_BYTES];
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(path);

	if (d == NULL) {
		snprintf(error, error_bytes, "%s: cannot be read", path);
		return false;
	}
	while ((e = readdir(d)) != NULL) {
		int n = snprintf(file, sizeof(file), "%s/%s/key.pem", path, e->d_name);
		if (e->d_name[0] == '.' || n >= (int)sizeof(file) || stat(file, &st) != 0)
			continue;
		if (!add(k, file, error, error_bytes))
			fprintf(stderr, "postern-signer: %s\n", error);
	}
	closedir(d);
	return true;
}

struct keys *keys_load(const char *const *paths, unsigned n, char *error, size_t error_bytes)
{
	struct keys *k = calloc(1, sizeof(*k));
	bool good = k != NULL;
	struct stat st;

	snprintf(error, error_bytes, "out of memory");
	if (k != NULL)
		k->references = 1;
	for (unsigned i = 0; good && i < n; i++)
		good = stat(paths[i], &st) == 0 && S_ISDIR(st.st_mode)
			       ? add_directory(k, paths[i], error, error_bytes)
			       : add(k, paths[i], error, error_bytes);
	if (good) {
		if (k->n > 0)
			qsort(k->key, k->n, sizeof(k->key[0]), by_identity);
		return k;
	}
	keys_unref(k);
	return NULL;
}

struct keys *keys_ref(struct keys *k)
{
	atomic_fetch_add(&k->references, 1);
	return k;
}

void keys_unref(struct keys *k)
{
	if (k == NULL || atomic_fetch_sub(&k->references, 1) > 1)
		return;
	for (unsigned i = 0; i < k->n; i++)
		EVP_PKEY_free(k->key[i].key);
	free(k->key);
	free(k);
}

unsigned keys_count(const struct keys *k)
{
	return k->n;
}

static const struct scheme {
	uint16_t number;
	const char *family, *digest;
	int padding; /* RSA */
} schemes[] = {
	{0x0403, "EC", "SHA256", 0},
	{0x0503, "EC", "SHA384", 0},
	{0x0603, "EC", "SHA512", 0},
	{0x0804, "RSA", "SHA256", RSA_PKCS1_PSS_PADDING},
	{0x0805, "RSA", "SHA384", RSA_PKCS1_PSS_PADDING},
	{0x0806, "RSA", "SHA512", RSA_PKCS1_PSS_PADDING},
	{0x0401, "RSA", "SHA256", RSA_PKCS1_PADDING},
	{0x0501, "RSA", "SHA384", RSA_PKCS1_PADDING},
	{0x0601, "RSA", "SHA512", RSA_PKCS1_PADDING},
};

static const struct scheme *find_scheme(uint16_t number)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (schemes[i].number == number)
			return &schemes[i];
	return NULL;
}

static bool sign(EVP_PKEY *key, const struct scheme *s, const struct signer_ask *a,
		 uint8_t *signature, size_t *n)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *x = NULL;
	bool good =
		md != NULL && EVP_DigestSignInit_ex(md, &x, s->digest, NULL, NULL, key, NULL) == 1;

	if (good && s->padding != 0)
		good = EVP_PKEY_CTX_set_rsa_padding(x, s->padding) == 1;
	if (good && s->padding == RSA_PKCS1_PSS_PADDING)
		good = EVP_PKEY_CTX_set_rsa_pss_saltlen(x, RSA_PSS_SALTLEN_DIGEST) == 1;
	*n = SIGNER_SIGNATURE;
	good = good && EVP_DigestSign(md, signature, n, a->content, a->content_bytes) == 1;
	EVP_MD_CTX_free(md);
	ERR_clear_error();
	return good;
}

enum signer_status keys_sign(const struct keys *k, const struct signer_ask *a, uint8_t *signature,
			     size_t *n)
{
	const struct scheme *s = find_scheme(a->scheme);
	struct key wanted;

	memcpy(wanted.identity, a->key, SIGNER_KEY);
	const struct key *found =
		k->n > 0 ? bsearch(&wanted, k->key, k->n, sizeof(wanted), by_identity) : NULL;
	*n = 0;
	if (found == NULL)
		return SIGNER_NO_KEY;
	if (s == NULL || !EVP_PKEY_is_a(found->key, s->family) ||
	    EVP_PKEY_get_size(found->key) > SIGNER_SIGNATURE ||
	    !signer_is_handshake(a->content, a->content_bytes))
		return SIGNER_REFUSED;
	if (sign(found->key, s, a, signature, n))
		return SIGNER_OK;
	*n = 0;
	return SIGNER_FAILED;
}
