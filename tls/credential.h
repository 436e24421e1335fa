/*
 * credential.h - one certificate with chain, key, names and OCSP response, loaded and checked.
 *
 * Owner: counted references; contexts hold one, and whoever frees the last context frees it.
 * Runs on: loaded on the control thread (what the configuration names) or on a handshake thread
 *          (what lies in the directory); read on any.
 * Errors: NULL with a text that names file and remedy.
 * Source: RFC 5280, 6960 (OCSP), 6125 (which names count).
 */
#ifndef TLS_CREDENTIAL_H
#define TLS_CREDENTIAL_H

#include "tls/tls.h"

#include <openssl/decoder.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum key_kind { KEY_ECDSA, KEY_RSA, KEY_OTHER, KEY_KINDS };
enum { CREDENTIAL_FILES = 3, NAME_BYTES = 254 };

struct staple {
	unsigned char *der; /* NULL: none */
	size_t bytes;
	int64_t until_s; /* nextUpdate */
};

struct credential {
	_Atomic unsigned references;
	bool named; /* names come from the configuration */
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * chain;
	enum key_kind kind;
	int64_t expires_s;
	struct staple staple;
	char (*name)[NAME_BYTES]; /* lower case; may begin with "*." */
	unsigned n_names;
	char *path[CREDENTIAL_FILES]; /* chain, key, OCSP response or NULL */
	struct stat stamp[CREDENTIAL_FILES];
};

/* Reads files one after the other.  What OpenSSL sets up to find a key's format costs ten times as
 * much as reading the key, so a reader keeps it.  Owner: the caller; one thread at a time. */
struct credential_reader {
	OSSL_LIB_CTX *lib;
	OSSL_LIB_CTX
	*remote;    /* keys are the signer's and their files are not read; NULL: they are */
	SSL *judge; /* whether key and chain fit, and are strong enough */
	OSSL_DECODER_CTX *decoder;
	EVP_PKEY *key; /* where the decoder puts what it has found */
};
bool credential_reader_open(struct credential_reader *r, OSSL_LIB_CTX *lib, OSSL_LIB_CTX *remote);
void credential_reader_close(struct credential_reader *r);

struct credential *credential_load(struct credential_reader *r, const struct tls_certificate *c,
				   char *error, size_t error_bytes);
struct credential *credential_ref(struct credential *c);
void credential_unref(struct credential *c);
/* Whether the files still are what was loaded. */
bool credential_unchanged(const struct credential *c);
bool credential_is(const struct credential *c, const struct tls_certificate *other);
/* Whether one of its names, or wildcards, is this (normalised) name. */
bool credential_covers(const struct credential *c, const char *name);

/* A name as a client may send it in lower case; false: not a host name (RFC 6066 section 3:
 * A-labels, no final dot), and nothing else is made of it. */
bool name_normalise(const char *in, char *out);

#endif
