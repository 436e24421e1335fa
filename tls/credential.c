/* credential.c - certificates from PEM files, checked before anything serves with them */
#include "tls/credential.h"

#include "tls/internal.h"
#include "tls/signer.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OCSP_FILE_BYTES = 65536, NAMES_MOST = 256 };

static bool fail(char *error, size_t error_bytes, const char *what, const char *file,
		 const char *remedy)
{
	char reason[160] = "";

	context_reason(reason, sizeof(reason));
	snprintf(error, error_bytes, "tls.certificates: %s %s%s%s; %s", what, file,
		 reason[0] != '\0' ? ": " : "", reason, remedy);
	return false;
}

bool name_normalise(const char *in, char *out)
{
	size_t n = 0, label = 0;

	for (; in[n] != '\0'; n++) {
		char c = in[n];
		if (n == NAME_BYTES - 1)
			return false;
		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
		if (c == '.' ? label == 0 : !letter && (c != '-' || label == 0))
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
		out[n] = c;
	}
	out[n] = '\0';
	return n > 0 && label > 0;
}

/* "*.example.net" too: one label, whole and first (RFC 6125 section 6.4.3). */
static bool pattern_normalise(const char *in, size_t bytes, char *out)
{
	char text[NAME_BYTES];

	if (bytes == 0 || bytes >= sizeof(text) || memchr(in, '\0', bytes) != NULL)
		return false;
	memcpy(text, in, bytes);
	text[bytes] = '\0';
	if (strncmp(text, "*.", 2) != 0)
		return name_normalise(text, out);
	memcpy(out, "*.", 2);
	return strlen(text) < NAME_BYTES - 2 && name_normalise(text + 2, out + 2);
}

static void add_name(struct credential *c, const char *s, size_t bytes)
{
	char name[NAME_BYTES];

	if (c->n_names == NAMES_MOST || !pattern_normalise(s, bytes, name))
		return;
	void *grown = reallocarray(c->name, c->n_names + 1, sizeof(c->name[0]));
	if (grown == NULL)
		return;
	c->name = grown;
	memcpy(c->name[c->n_names++], name, sizeof(name));
}

/* subjectAltName, else the common name. */
static void read_names(struct credential *c)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(c->leaf, NID_subject_alt_name, NULL, NULL);
	X509_NAME *subject = X509_get_subject_name(c->leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type == GEN_DNS)
			add_name(c, (const char *)ASN1_STRING_get0_data(g->d.dNSName),
				 (size_t)ASN1_STRING_length(g->d.dNSName));
	}
	if (names == NULL && at >= 0) {
		const ASN1_STRING *cn = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
		add_name(c, (const char *)ASN1_STRING_get0_data(cn),
			 (size_t)ASN1_STRING_length(cn));
	}
	GENERAL_NAMES_free(names);
}

static int no_pass_phrase(char *buf, int bytes, int writing, void *arg)
{
	return 0;
}

bool credential_reader_open(struct credential_reader *r, OSSL_LIB_CTX *lib, OSSL_LIB_CTX *remote)
{
	SSL_CTX *x = SSL_CTX_new_ex(lib, NULL, TLS_server_method());

	*r = (struct credential_reader){
		.lib = lib, .remote = remote, .judge = x != NULL ? SSL_new(x) : NULL};
	SSL_CTX_free(x);
	r->decoder = OSSL_DECODER_CTX_new_for_pkey(&r->key, "PEM", NULL, NULL, EVP_PKEY_KEYPAIR,
						   lib, NULL);
	if (r->judge != NULL && r->decoder != NULL &&
	    OSSL_DECODER_CTX_set_pem_password_cb(r->decoder, no_pass_phrase, NULL) == 1)
		return true;
	credential_reader_close(r);
	return false;
}

void credential_reader_close(struct credential_reader *r)
{
	SSL_free(r->judge);
	OSSL_DECODER_CTX_free(r->decoder);
	*r = (struct credential_reader){0};
}

/* NULL at the end of the file too: then no error is left. */
static X509 *next_certificate(OSSL_LIB_CTX *lib, BIO *file)
{
	X509 *x = X509_new_ex(lib, NULL);

	if (x != NULL && PEM_read_bio_X509(file, &x, no_pass_phrase, NULL) == NULL) {
		X509_free(x);
		x = NULL;
	}
	if (x == NULL && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
		ERR_clear_error();
	return x;
}

static bool read_chain(struct credential *c, OSSL_LIB_CTX *lib)
{
	BIO *file = BIO_new_file(c->path[0], "r");
	X509 *x;

	if (file != NULL)
		c->leaf = next_certificate(lib, file);
	while (c->leaf != NULL && (x = next_certificate(lib, file)) != NULL) {
		if (c->chain == NULL)
			c->chain = sk_X509_new_null();
		if (c->chain == NULL || sk_X509_push(c->chain, x) == 0) {
			X509_free(x);
			break;
		}
	}
	BIO_free(file);
	return c->leaf != NULL && ERR_peek_error() == 0;
}

static bool read_key(struct credential *c, struct credential_reader *r)
{
	if (r->remote != NULL) {
		c->key = signer_key(r->remote, c->leaf);
		return c->key != NULL;
	}
	BIO *file = BIO_new_file(c->path[1], "r");
	r->key = NULL;
	if (file != NULL && OSSL_DECODER_from_bio(r->decoder, file) == 1)
		c->key = r->key;
	r->key = NULL;
	BIO_free(file);
	return c->key != NULL;
}

static bool load_pem(struct credential *c, struct credential_reader *r, char *error,
		     size_t error_bytes)
{
	ERR_clear_error();
	if (!read_chain(c, r->lib))
		return fail(error, error_bytes, "cannot load chain", c->path[0],
			    "a PEM file, the server's certificate first, is needed");
	if (!read_key(c, r) && r->remote != NULL)
		return fail(error, error_bytes, "cannot serve with chain", c->path[0],
			    "postern-signer signs with RSA of up to 4096 bits, P-256 and P-384 "
			    "only");
	if (c->key == NULL)
		return fail(error, error_bytes, "cannot load key", c->path[1],
			    "a PEM private key without pass phrase, of this certificate, is "
			    "needed");
	ERR_clear_error(); /* of formats that the decoder has tried */
	if (r->remote == NULL && X509_check_private_key(c->leaf, c->key) != 1)
		return fail(error, error_bytes, "key does not belong to the chain:", c->path[1],
			    "check that chain and key are of the same certificate");
	bool good = SSL_use_cert_and_key(r->judge, c->leaf, c->key, c->chain, 1) == 1;
	SSL_certs_clear(r->judge);
	return good || fail(error, error_bytes, "cannot serve with chain", c->path[0],
			    "keys and signatures of today's strength are needed");
}

static int64_t seconds(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static bool read_file(const char *file, struct staple *s)
{
	FILE *f = fopen(file, "re");
	unsigned char *der = malloc(OCSP_FILE_BYTES);
	size_t n = 0;

	if (f != NULL && der != NULL)
		n = fread(der, 1, OCSP_FILE_BYTES, f);
	if (f != NULL)
		fclose(f);
	if (n == 0 || n == OCSP_FILE_BYTES) {
		free(der);
		return false;
	}
	s->der = der;
	s->bytes = n;
	return true;
}

/* Our certificate's entry in the response, with its nextUpdate; 0: it is not in there. */
static int64_t find_entry(const struct credential *c, OCSP_BASICRESP *basic)
{
	X509 *issuer = sk_X509_num(c->chain) > 0 ? sk_X509_value(c->chain, 0) : c->leaf;
	ASN1_GENERALIZEDTIME *next = NULL;

	for (int i = 0; i < OCSP_resp_count(basic); i++) {
		OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
		const OCSP_CERTID *theirs = OCSP_SINGLERESP_get0_id(one);
		ASN1_OBJECT *digest = NULL;
		OCSP_id_get0_info(NULL, &digest, NULL, NULL, (OCSP_CERTID *)(uintptr_t)theirs);
		const EVP_MD *md = digest != NULL ? EVP_get_digestbyobj(digest) : NULL;
		OCSP_CERTID *ours = OCSP_cert_to_id(md, c->leaf, issuer);
		bool same = ours != NULL && OCSP_id_cmp(ours, theirs) == 0;
		OCSP_CERTID_free(ours);
		if (!same)
			continue;
		OCSP_single_get0_status(one, NULL, NULL, NULL, &next);
		/* without nextUpdate newer information is available at all times (RFC 6960
		 * section 4.2.2.1): nothing to keep */
		return next != NULL ? seconds(next) : 1;
	}
	return 0;
}

static bool load_staple(struct credential *c, char *error, size_t error_bytes)
{
	struct staple *s = &c->staple;

	if (!read_file(c->path[2], s))
		return fail(error, error_bytes, "cannot read OCSP response", c->path[2],
			    "a DER file is needed");
	const unsigned char *at = s->der;
	OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &at, (long)s->bytes);
	OCSP_BASICRESP *basic = NULL;
	bool good = r != NULL && at == s->der + s->bytes &&
		    OCSP_response_status(r) == OCSP_RESPONSE_STATUS_SUCCESSFUL &&
		    (basic = OCSP_response_get1_basic(r)) != NULL;
	if (!good)
		fail(error, error_bytes, "not a successful OCSP response:", c->path[2],
		     "fetch it anew");
	else if ((s->until_s = find_entry(c, basic)) == 0)
		good = fail(error, error_bytes,
			    "the OCSP response is not about this certificate:", c->path[2],
			    "fetch the one for it");
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(r);
	return good;
}

static enum key_kind kind_of(const EVP_PKEY *key)
{
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_EC:
		return KEY_ECDSA;
	case EVP_PKEY_RSA:
		return KEY_RSA;
	default:
		return KEY_OTHER;
	}
}

static bool copy_paths(struct credential *c, const struct tls_certificate *from, bool remote)
{
	const char *const paths[CREDENTIAL_FILES] = {from->chain, remote ? NULL : from->key,
						     from->ocsp};

	for (unsigned i = 0; i < CREDENTIAL_FILES; i++) {
		if (paths[i] == NULL || paths[i][0] == '\0')
			continue;
		c->path[i] = strdup(paths[i]);
		if (c->path[i] == NULL)
			return false;
		/* taken before the content is read: a change in between is seen as one later */
		if (stat(c->path[i], &c->stamp[i]) != 0)
			memset(&c->stamp[i], 0, sizeof(c->stamp[i]));
	}
	return true;
}

struct credential *credential_load(struct credential_reader *r, const struct tls_certificate *from,
				   char *error, size_t error_bytes)
{
	struct credential *c = calloc(1, sizeof(*c));

	snprintf(error, error_bytes, "out of memory");
	if (c == NULL)
		return NULL;
	c->references = 1;
	c->named = from->n_names > 0;
	if (!copy_paths(c, from, r->remote != NULL) || !load_pem(c, r, error, error_bytes) ||
	    (c->path[2] != NULL && !load_staple(c, error, error_bytes))) {
		credential_unref(c);
		return NULL;
	}
	c->kind = kind_of(c->key);
	c->expires_s = seconds(X509_get0_notAfter(c->leaf));
	for (unsigned i = 0; i < from->n_names; i++)
		add_name(c, from->names[i], strlen(from->names[i]));
	if (from->n_names == 0)
		read_names(c);
	return c;
}

struct credential *credential_ref(struct credential *c)
{
	atomic_fetch_add(&c->references, 1);
	return c;
}

void credential_unref(struct credential *c)
{
	if (c == NULL || atomic_fetch_sub(&c->references, 1) > 1)
		return;
	X509_free(c->leaf);
	EVP_PKEY_free(c->key);
	sk_X509_pop_free(c->chain, X509_free);
	free(c->staple.der);
	free(c->name);
	for (unsigned i = 0; i < CREDENTIAL_FILES; i++)
		free(c->path[i]);
	free(c);
}

static bool same_stamp(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool credential_unchanged(const struct credential *c)
{
	struct stat now;

	for (unsigned i = 0; i < CREDENTIAL_FILES; i++)
		if (c->path[i] != NULL &&
		    (stat(c->path[i], &now) != 0 || !same_stamp(&now, &c->stamp[i])))
			return false;
	return true;
}

bool credential_is(const struct credential *c, const struct tls_certificate *other)
{
	const char *const paths[CREDENTIAL_FILES] = {other->chain, other->key, other->ocsp};

	for (unsigned i = 0; i < CREDENTIAL_FILES; i++)
		if (!(i == 1 && c->path[1] == NULL) && /* the signer's */
		    strcmp(c->path[i] != NULL ? c->path[i] : "",
			   paths[i] != NULL ? paths[i] : "") != 0)
			return false;
	/* names of the configuration take the place of the certificate's: loaded anew */
	return other->n_names == 0 && !c->named;
}

bool credential_covers(const struct credential *c, const char *name)
{
	const char *dot = strchr(name, '.');

	for (unsigned i = 0; i < c->n_names; i++) {
		const char *own = c->name[i];
		if (strcmp(own, name) == 0)
			return true;
		if (own[0] == '*' && dot != NULL && strcmp(own + 1, dot) == 0)
			return true;
	}
	return false;
}
