/* context.c - the server contexts of one thread: versions, suites, the choice of certificates */
#include "base/log.h"
#include "tls/internal.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* RFC 9325 section 4.2: forward secrecy and AEAD only. */
static const char suites_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char groups[] = "X25519:P-256";

static const uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
static const uint64_t modes = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;

enum {
	CLIENT_CHAIN_BYTES = 16384,
	CLIENT_CHAIN_DEPTH = 8,
	ALL_SUITES = (1 << TLS_SUITES) - 1,
	USUAL_GROUPS = 1 << TLS_GROUP_X25519 | 1 << TLS_GROUP_P256,
};

struct context_name {
	char name[NAME_BYTES];
	unsigned context;
};

void context_reason(char *reason, size_t bytes)
{
	unsigned long e = ERR_get_error();

	if (e != 0)
		ERR_error_string_n(e, reason, bytes);
	ERR_clear_error();
}

int context_fail(char *error, size_t error_bytes, const char *what, const char *file,
		 const char *remedy)
{
	char reason[160] = "unknown reason";

	context_reason(reason, sizeof(reason));
	snprintf(error, error_bytes, "tls: %s %s: %s; %s", what, file, reason, remedy);
	return -EINVAL;
}

static const struct {
	const char *tls_1_3, *tls_1_2;
} suite_names[TLS_SUITES] = {
	/* in order of preference */
	[TLS_SUITE_AES_256_GCM] = {"TLS_AES_256_GCM_SHA384", "ECDHE+AES256+AESGCM"},
	[TLS_SUITE_AES_128_GCM] = {"TLS_AES_128_GCM_SHA256", "ECDHE+AES128+AESGCM"},
	[TLS_SUITE_CHACHA20] = {"TLS_CHACHA20_POLY1305_SHA256", "ECDHE+CHACHA20"},
};

static const char *const group_names[TLS_GROUPS] = {
	[TLS_GROUP_X25519] = "X25519",
	[TLS_GROUP_P256] = "P-256",
	[TLS_GROUP_P384] = "P-384",
};

static void add_word(char *list, size_t bytes, const char *word)
{
	size_t n = strlen(list);

	snprintf(list + n, bytes - n, "%s%s", n > 0 ? ":" : "", word);
}

/* What the operator has left of suites and groups. */
static bool context_narrow(SSL_CTX *x, const struct context_set *s)
{
	char suites_1_3[128] = "", suites[128] = "", groups_left[64] = "";

	for (unsigned i = 0; i < TLS_SUITES; i++) {
		if ((s->suites & 1u << i) == 0)
			continue;
		add_word(suites_1_3, sizeof(suites_1_3), suite_names[i].tls_1_3);
		add_word(suites, sizeof(suites), suite_names[i].tls_1_2);
	}
	for (unsigned i = 0; i < TLS_GROUPS; i++)
		if ((s->groups & 1u << i) != 0)
			add_word(groups_left, sizeof(groups_left), group_names[i]);
	return SSL_CTX_set_ciphersuites(x, suites_1_3) == 1 &&
	       SSL_CTX_set_cipher_list(x, suites) == 1 &&
	       SSL_CTX_set1_groups_list(x, groups_left) == 1;
}

static SSL_CTX *context_base(struct tls_thread *t, const SSL_METHOD *method, int minimum)
{
	SSL_CTX *x = SSL_CTX_new_ex(t->lib, NULL, method);

	if (x == NULL)
		return NULL;
	SSL_CTX_set_options(x, options);
	SSL_CTX_set_mode(x, (long)modes);
	if (!SSL_CTX_set_min_proto_version(x, minimum) || !SSL_CTX_set_cipher_list(x, suites_1_2) ||
	    !SSL_CTX_set1_groups_list(x, groups)) {
		SSL_CTX_free(x);
		return NULL;
	}
	SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
	return x;
}

SSL_CTX *context_client(struct tls_thread *t, const char *ca_file, char *error, size_t error_bytes)
{
	SSL_CTX *x = context_base(t, TLS_client_method(), TLS1_2_VERSION);

	if (x == NULL) {
		context_fail(error, error_bytes, "cannot create a context for", "next hops",
			     "check the OpenSSL installation");
		return NULL;
	}
	if ((ca_file != NULL ? SSL_CTX_load_verify_file(x, ca_file) == 1
			     : SSL_CTX_set_default_verify_paths(x) == 1) &&
	    SSL_CTX_dane_enable(x) == 1) /* pins.c */
		return x;
	context_fail(error, error_bytes, "cannot load the trust anchors",
		     ca_file != NULL ? ca_file : "of the system",
		     "next hops with tls: required need them");
	SSL_CTX_free(x);
	return NULL;
}

/* In place of the default's certificates.  A context of its own would cost ten times as much. */
static bool use_alone(SSL *ssl, const struct credential *c)
{
	SSL_certs_clear(ssl);
	return SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1) == 1;
}

/* The client's choice of name.  An unknown one gets the default certificate: the client will
 * judge it, and an alert would tell it less (RFC 6066 section 3). */
static int choose_name(SSL *ssl, int *alert, void *arg)
{
	struct tls_session *s = SSL_get_app_data(ssl);
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	char name[NAME_BYTES];

	if (asked == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	if (!name_normalise(asked, name)) {
		s->notes |= NOTE_NAME_MALFORMED;
		return SSL_TLSEXT_ERR_NOACK;
	}
	SSL_CTX *x = context_find(s->contexts, name);
	if (x != NULL)
		return SSL_set_SSL_CTX(ssl, x) != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
	const struct credential *c = s->contexts->directory != NULL
					     ? directory_find(session_thread(s)->directory, s, name)
					     : NULL;
	if (c == NULL) {
		s->notes |= NOTE_NAME_UNKNOWN;
		return SSL_TLSEXT_ERR_NOACK;
	}
	return use_alone(ssl, c) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

struct identity {
	struct credential *credential[KEY_KINDS];
};

static int staple(SSL *ssl, void *arg)
{
	struct tls_session *s = SSL_get_app_data(ssl);
	const struct tls *t = s->worker->tls;
	const struct identity *id = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), t->context_index);
	const X509 *chosen = SSL_get_certificate(ssl);

	for (unsigned i = 0; i < KEY_KINDS; i++) {
		const struct credential *c = id->credential[i];
		if (c == NULL || c->leaf != chosen || c->staple.der == NULL)
			continue;
		if (c->staple.until_s <= atomic_load_explicit(&t->wall_s, memory_order_relaxed)) {
			s->notes |= NOTE_OCSP_EXPIRED;
			continue;
		}
		unsigned char *copy = OPENSSL_memdup(c->staple.der, c->staple.bytes);
		if (copy == NULL)
			continue;
		SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->staple.bytes);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

/* Clients may show a certificate; what it is worth is for the login to say. */
static int note_fault(int good, X509_STORE_CTX *x)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_session *s = SSL_get_app_data(ssl);

	if (!good)
		s->notes |= NOTE_CERTIFICATE_BAD;
	return 1;
}

static bool ask_for_certificate(const struct context_set *s, SSL_CTX *x)
{
	if (s->client_store == NULL)
		return true;
	STACK_OF(X509_NAME) *names = SSL_dup_CA_list(s->client_names);
	if (names == NULL || SSL_CTX_set1_verify_cert_store(x, s->client_store) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return false;
	}
	SSL_CTX_set_client_CA_list(x, names);
	SSL_CTX_set_verify(x, SSL_VERIFY_PEER, note_fault);
	SSL_CTX_set_verify_depth(x, CLIENT_CHAIN_DEPTH);
	SSL_CTX_set_max_cert_list(x, CLIENT_CHAIN_BYTES);
	return true;
}

static bool use_credentials(SSL_CTX *x, int index, struct credential *const *credentials)
{
	struct identity *id = calloc(1, sizeof(*id));

	/* the context frees it, from now on */
	if (id == NULL || SSL_CTX_set_ex_data(x, index, id) != 1) {
		free(id);
		return false;
	}
	for (unsigned i = 0; i < KEY_KINDS; i++) {
		struct credential *c = credentials[i];
		if (c == NULL)
			continue;
		id->credential[i] = credential_ref(c);
		if (SSL_CTX_use_cert_and_key(x, c->leaf, c->key, c->chain, 1) != 1)
			return false;
	}
	return true;
}

static void identity_free(void *parent, void *p, CRYPTO_EX_DATA *data, int index, long l, void *arg)
{
	struct identity *id = p;

	for (unsigned i = 0; id != NULL && i < KEY_KINDS; i++)
		credential_unref(id->credential[i]);
	free(id);
}

int context_new_index(void)
{
	return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, identity_free);
}

SSL_CTX *context_create(const struct context_set *s, struct credential *const *credentials)
{
	SSL_CTX *x = context_base(s->thread, TLS_server_method(), s->minimum);

	if (x == NULL)
		return NULL;
	if (!context_narrow(x, s) ||
	    !use_credentials(x, s->thread->tls->context_index, credentials) ||
	    !ask_for_certificate(s, x) || !tickets_install(x) ||
	    SSL_CTX_set_session_id_context(x, s->session_context, sizeof(s->session_context)) !=
		    1) {
		SSL_CTX_free(x);
		return NULL;
	}
	SSL_CTX_set_num_tickets(x, 1);
	SSL_CTX_set_timeout(x, (long)s->lifetime_s);
	SSL_CTX_set_tlsext_servername_callback(x, choose_name);
	SSL_CTX_set_tlsext_status_cb(x, staple);
	return x;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct context_name *)a)->name,
		      ((const struct context_name *)b)->name);
}

static SSL_CTX *look_up(const struct context_set *s, const char *name)
{
	struct context_name key;

	snprintf(key.name, sizeof(key.name), "%s", name);
	const struct context_name *n =
		bsearch(&key, s->name, s->n_names, sizeof(s->name[0]), compare_names);
	return n != NULL ? s->context[n->context] : NULL;
}

/* Exact before wildcard. */
SSL_CTX *context_find(const struct context_set *s, const char *name)
{
	const char *dot = strchr(name, '.');
	char wildcard[NAME_BYTES + 1];
	SSL_CTX *x = look_up(s, name);

	if (x != NULL || dot == NULL)
		return x;
	snprintf(wildcard, sizeof(wildcard), "*%s", dot);
	return look_up(s, wildcard);
}

bool context_verifies(const struct context_set *s, X509 *x)
{
	X509_STORE_CTX *v = X509_STORE_CTX_new_ex(s->thread->lib, NULL);
	bool good = v != NULL && s->client_store != NULL &&
		    X509_STORE_CTX_init(v, s->client_store, x, NULL) == 1 &&
		    X509_STORE_CTX_set_default(v, "ssl_client") == 1 && X509_verify_cert(v) == 1;

	X509_STORE_CTX_free(v);
	ERR_clear_error();
	return good;
}

/* One certificate of each kind that serves the name: one that has it, else a wildcard's. */
static void candidates(const struct context_set *s, const char *name, struct credential **out)
{
	memset(out, 0, sizeof(*out) * KEY_KINDS);
	for (unsigned exact = 2; exact-- > 0;) {
		for (unsigned i = 0; i < s->n_credentials; i++) {
			struct credential *c = s->credential[i];
			bool serves = false;
			for (unsigned k = 0; exact && k < c->n_names; k++)
				serves |= strcmp(c->name[k], name) == 0;
			if (!exact && name[0] != '*')
				serves = credential_covers(c, name);
			if (serves && out[c->kind] == NULL)
				out[c->kind] = c;
		}
	}
}

static bool has_credentials(const struct context_set *s, unsigned context,
			    struct credential *const *want)
{
	const struct identity *id =
		SSL_CTX_get_ex_data(s->context[context], s->thread->tls->context_index);

	return memcmp(id->credential, want, sizeof(id->credential)) == 0;
}

/* The context with these certificates, an existing one where there is; UINT_MAX: no memory. */
static unsigned context_for(struct context_set *s, struct credential *const *want)
{
	for (unsigned i = 0; i < s->n_contexts; i++)
		if (has_credentials(s, i, want))
			return i;
	SSL_CTX **grown = reallocarray(s->context, s->n_contexts + 1, sizeof(*grown));
	if (grown == NULL)
		return UINT32_MAX;
	s->context = grown;
	SSL_CTX *x = context_create(s, want);
	if (x == NULL)
		return UINT32_MAX;
	s->context[s->n_contexts] = x;
	return s->n_contexts++;
}

static bool index_name(struct context_set *s, const char *name)
{
	struct credential *want[KEY_KINDS];

	for (unsigned i = 0; i < s->n_names; i++)
		if (strcmp(s->name[i].name, name) == 0)
			return true;
	struct context_name *grown = reallocarray(s->name, s->n_names + 1, sizeof(*grown));
	if (grown == NULL)
		return false;
	s->name = grown;
	candidates(s, name, want);
	unsigned context = context_for(s, want);
	if (context == UINT32_MAX)
		return false;
	struct context_name *n = &s->name[s->n_names++];
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->context = context;
	return true;
}

/* The default is the first certificate, with those of other kinds for its first name. */
static bool index_all(struct context_set *s)
{
	struct credential *first = s->credential[0], *want[KEY_KINDS] = {0};

	if (first->n_names > 0)
		candidates(s, first->name[0], want);
	want[first->kind] = first;
	if (context_for(s, want) == UINT32_MAX)
		return false;
	for (unsigned i = 0; i < s->n_credentials; i++)
		for (unsigned k = 0; k < s->credential[i]->n_names; k++)
			if (!index_name(s, s->credential[i]->name[k]))
				return false;
	qsort(s->name, s->n_names, sizeof(s->name[0]), compare_names);
	return true;
}

/* What has not changed on disk is not read again. */
static bool add_credential(struct context_set *s, struct credential_reader *r,
			   const struct tls_certificate *c, const struct context_set *before,
			   char *error, size_t error_bytes)
{
	struct credential **grown =
		reallocarray(s->credential, s->n_credentials + 1, sizeof(*grown));
	struct credential *found = NULL;

	if (grown == NULL)
		return false;
	s->credential = grown;
	for (unsigned i = 0; before != NULL && found == NULL && i < before->n_credentials; i++)
		if (credential_is(before->credential[i], c) &&
		    credential_unchanged(before->credential[i]))
			found = credential_ref(before->credential[i]);
	if (found == NULL)
		found = credential_load(r, c, error, error_bytes);
	if (found == NULL)
		return false;
	s->credential[s->n_credentials++] = found;
	return true;
}

/* One bad entry among thousands is the entry's fault, not the configuration's. */
static void add_directory(struct context_set *s, struct credential_reader *r,
			  const struct context_set *before)
{
	char *names[DIRECTORY_EAGER], chain[CREDENTIAL_PATH], key[CREDENTIAL_PATH], error[512];
	unsigned n = directory_list(s->directory, names, DIRECTORY_EAGER);

	for (unsigned i = 0; i < n; i++) {
		directory_paths(s->directory, names[i], chain, key);
		struct tls_certificate c = {.chain = chain, .key = key};
		if (!add_credential(s, r, &c, before, error, sizeof(error)))
			log_warning("tls", "%s", error);
		free(names[i]);
	}
}

static int load_client_ca(struct context_set *s, const char *file, char *error, size_t error_bytes)
{
	s->client_store = X509_STORE_new();
	if (s->client_store == NULL ||
	    X509_STORE_load_file_ex(s->client_store, file, s->thread->lib, NULL) != 1 ||
	    (s->client_names = SSL_load_client_CA_file_ex(file, s->thread->lib, NULL)) == NULL)
		return context_fail(error, error_bytes, "cannot load client_ca", file,
				    "a PEM file of CA certificates is needed");
	return 0;
}

/* Everything whose change must end the resumption of older sessions: the set of client CAs, and
 * what the operator has left of suites.  The ticket keys themselves bind to the fleet. */
static bool make_session_context(struct context_set *s)
{
	STACK_OF(X509) *all =
		s->client_store != NULL ? X509_STORE_get1_all_certs(s->client_store) : NULL;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char one[EVP_MAX_MD_SIZE];
	unsigned n;
	bool good = (s->client_store == NULL || all != NULL) && md != NULL &&
		    EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
		    EVP_DigestUpdate(md, "postern", 7) == 1 &&
		    (s->suites == ALL_SUITES ||
		     EVP_DigestUpdate(md, &s->suites, sizeof(s->suites)) == 1);

	for (int i = 0; good && i < sk_X509_num(all); i++)
		good = X509_digest(sk_X509_value(all, i), EVP_sha256(), one, &n) == 1 &&
		       EVP_DigestUpdate(md, one, n) == 1;
	good = good && EVP_DigestFinal_ex(md, s->session_context, &n) == 1;
	EVP_MD_CTX_free(md);
	sk_X509_pop_free(all, X509_free);
	return good;
}

static int load_all(struct context_set *s, const struct tls_config *c, struct credential_reader *r,
		    const struct context_set *before, char *error, size_t error_bytes)
{
	int rc = 0;

	if (c->client_ca != NULL && c->client_ca[0] != '\0')
		rc = load_client_ca(s, c->client_ca, error, error_bytes);
	if (rc < 0)
		return rc;
	if (!make_session_context(s))
		return -ENOMEM;
	for (unsigned i = 0; i < c->n_certificates; i++)
		if (!add_credential(s, r, &c->certificates[i], before, error, error_bytes))
			return -EINVAL;
	if (s->directory != NULL)
		add_directory(s, r, before);
	if (s->n_credentials == 0 && c->client_only)
		return 0;
	if (s->n_credentials == 0) {
		snprintf(error, error_bytes, "tls.certificates: there is none");
		return -EINVAL;
	}
	if (!index_all(s))
		return context_fail(error, error_bytes, "cannot create a context for",
				    s->credential[0]->path[0], "check the OpenSSL installation");
	return 0;
}

struct context_set *context_set_create(struct tls_thread *t, const struct tls_config *c,
				       const struct context_set *before, char *error,
				       size_t error_bytes)
{
	struct context_set *s = calloc(1, sizeof(*s));
	struct credential_reader r;

	snprintf(error, error_bytes, "out of memory");
	if (s == NULL || !credential_reader_open(&r, t->lib, t->remote)) {
		free(s);
		return NULL;
	}
	s->thread = t;
	s->references = 1;
	s->suites = c->suites != 0 ? c->suites : ALL_SUITES;
	s->groups = c->groups != 0 ? c->groups : USUAL_GROUPS;
	s->minimum = c->minimum_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
	s->lifetime_s = c->ticket_lifetime_s;
	if (c->directory != NULL && c->directory[0] != '\0')
		s->directory = strdup(c->directory);
	int rc = load_all(s, c, &r, before, error, error_bytes);
	credential_reader_close(&r);
	if (rc == 0)
		return s;
	context_set_free(s);
	return NULL;
}

void context_set_free(struct context_set *s)
{
	for (unsigned i = 0; i < s->n_contexts; i++)
		SSL_CTX_free(s->context[i]);
	for (unsigned i = 0; i < s->n_credentials; i++)
		credential_unref(s->credential[i]);
	X509_STORE_free(s->client_store);
	sk_X509_NAME_pop_free(s->client_names, X509_NAME_free);
	free(s->context);
	free(s->credential);
	free(s->name);
	free(s->directory);
	free(s);
}
