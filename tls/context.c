/* context.c - the contexts of one thread: versions, suites, certificate, tickets */
#include "tls/internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

/* RFC 9325 section 4.2: forward secrecy and AEAD only. */
static const char suites_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char groups[] = "X25519:P-256";
static const unsigned char session_context[] = "postern";

static const uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
static const uint64_t modes = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;

static int fail(char *error, size_t error_bytes, const char *what, const char *file,
		const char *remedy)
{
	unsigned long e = ERR_get_error();
	char reason[160] = "unknown reason";

	if (e != 0)
		ERR_error_string_n(e, reason, sizeof(reason));
	ERR_clear_error();
	snprintf(error, error_bytes, "tls.certificates: %s %s: %s; %s", what, file, reason, remedy);
	return -EINVAL;
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

static int load_certificate(SSL_CTX *x, const struct tls_config *c, char *error, size_t error_bytes)
{
	if (SSL_CTX_use_certificate_chain_file(x, c->chain) != 1)
		return fail(error, error_bytes, "cannot load chain", c->chain,
			    "a PEM file, the server's certificate first, is needed");
	if (SSL_CTX_use_PrivateKey_file(x, c->key, SSL_FILETYPE_PEM) != 1)
		return fail(error, error_bytes, "cannot load key", c->key,
			    "a PEM private key without pass phrase is needed");
	if (SSL_CTX_check_private_key(x) != 1)
		return fail(error, error_bytes, "key does not belong to the chain:", c->key,
			    "check that chain and key are of the same certificate");
	return 0;
}

int context_load(struct tls_thread *t, const struct tls_config *c, const uint8_t *ticket_keys,
		 size_t ticket_key_bytes, char *error, size_t error_bytes)
{
	t->lib = OSSL_LIB_CTX_new();
	if (t->lib != NULL) {
		t->server = context_base(t, TLS_server_method(),
					 c->minimum_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
		t->client = context_base(t, TLS_client_method(), TLS1_2_VERSION);
	}
	if (t->server == NULL || t->client == NULL)
		return fail(error, error_bytes, "cannot create a context for", c->chain,
			    "check the OpenSSL installation");
	int rc = load_certificate(t->server, c, error, error_bytes);
	if (rc < 0)
		return rc;
	/* every thread resumes what another issued */
	SSL_CTX_set_session_id_context(t->server, session_context, sizeof(session_context) - 1);
	SSL_CTX_set_tlsext_ticket_keys(t->server, (void *)(uintptr_t)ticket_keys, ticket_key_bytes);
	SSL_CTX_set_num_tickets(t->server, 1);
	if (c->ca_file != NULL ? SSL_CTX_load_verify_file(t->client, c->ca_file) != 1
			       : SSL_CTX_set_default_verify_paths(t->client) != 1)
		return fail(error, error_bytes, "cannot load the trust anchors",
			    c->ca_file != NULL ? c->ca_file : "of the system",
			    "next hops with tls: required need them");
	return 0;
}

void context_free(struct tls_thread *t)
{
	SSL_CTX_free(t->server);
	SSL_CTX_free(t->client);
	OSSL_LIB_CTX_free(t->lib);
	t->server = t->client = NULL;
	t->lib = NULL;
}
