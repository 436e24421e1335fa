/* facts.c - what other layers may know of a handshake: taken on its thread at its end, small
 * enough to be kept, so that nobody asks the SSL object later */
#include "tls/internal.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cipher_name {
	uint16_t id;
	const char *name;
};

/* IANA names of what context.c admits */
static const struct cipher_name ciphers[] = {
	{0x1301, "TLS_AES_128_GCM_SHA256"},
	{0x1302, "TLS_AES_256_GCM_SHA384"},
	{0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
	{0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
	{0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
	{0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
	{0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
	{0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
	{0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
};

static const struct {
	int nid;
	const char *name;
} groups[] = {{NID_X25519, "X25519"}, {NID_X9_62_prime256v1, "P-256"}};

enum {
	EXPORTER_BYTES = 32,     /* RFC 9266 section 2 */
	CERTIFICATE_TEXT = 8192, /* of a client's names, all together */
};

/* What only a login needs; gone after it. */
struct tls_peer {
	uint8_t exporter[EXPORTER_BYTES];
	uint8_t end_point[EVP_MAX_MD_SIZE];
	uint8_t exporter_bytes, end_point_bytes;
	bool has_certificate;
	struct tls_peer_certificate certificate;
	size_t text_bytes;
	char text[]; /* the certificate's names */
};

/* RFC 5929 section 4.1: the hash of the certificate's signature, SHA-256 in place of MD5 and
 * SHA-1; undefined for signatures without a hash of their own (EdDSA). */
static uint8_t end_point(SSL *ssl, uint8_t *out)
{
	X509 *x = SSL_get_certificate(ssl);
	unsigned n = 0;
	int digest;

	if (x == NULL || !X509_get_signature_info(x, &digest, NULL, NULL, NULL) ||
	    digest == NID_undef)
		return 0;
	if (digest == NID_md5 || digest == NID_sha1)
		digest = NID_sha256;
	const EVP_MD *md = EVP_get_digestbynid(digest);
	return md != NULL && X509_digest(x, md, out, &n) == 1 ? (uint8_t)n : 0;
}

static void take_bindings(struct tls_peer *p, SSL *ssl)
{
	static const char label[] = "EXPORTER-Channel-Binding";

	if (SSL_version(ssl) == TLS1_3_VERSION &&
	    SSL_export_keying_material(ssl, p->exporter, EXPORTER_BYTES, label, sizeof(label) - 1,
				       (const unsigned char *)"", 0, 1) == 1)
		p->exporter_bytes = EXPORTER_BYTES;
	p->end_point_bytes = end_point(ssl, p->end_point);
}

/* Appends a name; NULL when it has a NUL inside or does not fit: such a name is nobody's. */
static const char *keep_text(struct tls_peer *p, const void *s, int n)
{
	if (n <= 0 || memchr(s, '\0', (size_t)n) != NULL ||
	    (size_t)n + 1 > CERTIFICATE_TEXT - p->text_bytes)
		return NULL;
	char *at = p->text + p->text_bytes;
	memcpy(at, s, (size_t)n);
	at[n] = '\0';
	p->text_bytes += (size_t)n + 1;
	return at;
}

static const char *common_name(struct tls_peer *p, X509 *x)
{
	X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *utf8 = NULL;
	const char *kept = NULL;

	/* two common names mean two things to two readers */
	if (at >= 0 && X509_NAME_get_index_by_NID(subject, NID_commonName, at) < 0) {
		int n = ASN1_STRING_to_UTF8(
			&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
		kept = keep_text(p, utf8, n);
		OPENSSL_free(utf8);
	}
	return kept != NULL ? kept : "";
}

static void alternative_names(struct tls_peer *p, X509 *x)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	struct tls_peer_certificate *c = &p->certificate;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		bool email = g->type == GEN_EMAIL;
		unsigned *n = email ? &c->n_emails : &c->n_dns;
		if ((!email && g->type != GEN_DNS) || *n == TLS_PEER_NAMES)
			continue;
		const char *kept =
			keep_text(p, ASN1_STRING_get0_data(g->d.ia5), ASN1_STRING_length(g->d.ia5));
		if (kept != NULL)
			(email ? c->emails : c->dns)[(*n)++] = kept;
	}
	GENERAL_NAMES_free(names);
}

static void take_certificate(struct tls_peer *p, SSL *ssl, X509 *x)
{
	struct tls_peer_certificate *c = &p->certificate;
	unsigned n = 0;

	p->has_certificate = true;
	const struct tls_session *s = SSL_get_app_data(ssl);
	c->verified =
		(s->notes & NOTE_CERTIFICATE_BAD) == 0 && SSL_get_verify_result(ssl) == X509_V_OK;
	X509_digest(x, EVP_sha256(), c->fingerprint, &n);
	c->common_name = common_name(p, x);
	alternative_names(p, x);
}

/* Pointers into the text move with it. */
static struct tls_peer *shrink(struct tls_peer *p)
{
	struct tls_peer *small = malloc(sizeof(*p) + p->text_bytes);

	if (small == NULL)
		return p;
	memcpy(small, p, sizeof(*p) + p->text_bytes);
	struct tls_peer_certificate *c = &small->certificate;
	if (p->has_certificate && c->common_name[0] != '\0')
		c->common_name = small->text + (c->common_name - p->text);
	for (unsigned i = 0; i < c->n_emails; i++)
		c->emails[i] = small->text + (c->emails[i] - p->text);
	for (unsigned i = 0; i < c->n_dns; i++)
		c->dns[i] = small->text + (c->dns[i] - p->text);
	OPENSSL_cleanse(p, sizeof(*p));
	free(p);
	return small;
}

static void take_peer(struct tls_session *s, bool bindings)
{
	X509 *x = SSL_get0_peer_certificate(s->ssl);
	struct tls_peer *p = NULL;

	if (x != NULL || bindings)
		p = calloc(1, sizeof(*p) + (x != NULL ? CERTIFICATE_TEXT : 0));
	if (p == NULL)
		return;
	if (bindings)
		take_bindings(p, s->ssl);
	if (x != NULL)
		take_certificate(p, s->ssl, x);
	s->peer = x != NULL ? shrink(p) : p;
}

static enum tls_kind kind_of(const struct tls_session *s)
{
	X509 *x = SSL_get_certificate(s->ssl);

	if (s->resumed)
		return s->version == TLS1_3_VERSION ? TLS_RESUMED_1_3 : TLS_RESUMED_1_2;
	return x != NULL && EVP_PKEY_get_base_id(X509_get0_pubkey(x)) == EVP_PKEY_RSA
		       ? TLS_FULL_RSA
		       : TLS_FULL_ECDSA;
}

void session_take_facts(struct tls_session *s, bool bindings)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(s->ssl);
	const char *name = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);

	s->version = (uint16_t)SSL_version(s->ssl);
	s->cipher = cipher != NULL ? SSL_CIPHER_get_protocol_id(cipher) : 0;
	s->group = (int)SSL_get_negotiated_group(s->ssl);
	s->resumed = SSL_session_reused(s->ssl);
	s->kind = (uint8_t)kind_of(s);
	if (s->job != JOB_ACCEPT)
		return;
	if (name != NULL && name[0] != '\0')
		s->server_name = strdup(name);
	take_peer(s, bindings);
	ERR_clear_error();
}

void session_drop_peer(struct tls_session *s)
{
	if (s->peer == NULL)
		return;
	OPENSSL_cleanse(s->peer, sizeof(*s->peer));
	free(s->peer);
	s->peer = NULL;
}

void session_drop_facts(struct tls_session *s)
{
	session_drop_peer(s);
	free(s->server_name);
	s->server_name = NULL;
}

int conn_channel_binding(const struct conn *c, enum tls_binding kind, uint8_t *out, size_t room)
{
	if (!conn_is_secure(c) || c->tls->peer == NULL)
		return 0;
	const struct tls_peer *p = c->tls->peer;
	const uint8_t *from = kind == TLS_BINDING_EXPORTER ? p->exporter : p->end_point;
	size_t n = kind == TLS_BINDING_EXPORTER ? p->exporter_bytes : p->end_point_bytes;
	if (n == 0 || n > room)
		return 0;
	memcpy(out, from, n);
	return (int)n;
}

const struct tls_peer_certificate *conn_peer_certificate(const struct conn *c)
{
	const struct tls_peer *p = conn_is_secure(c) ? c->tls->peer : NULL;

	return p != NULL && p->has_certificate ? &p->certificate : NULL;
}

void conn_forget_peer(struct conn *c)
{
	if (conn_is_secure(c))
		session_drop_peer(c->tls);
}

static const char *cipher_name(uint16_t id)
{
	for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++)
		if (ciphers[i].id == id)
			return ciphers[i].name;
	return "";
}

static const char *group_name(int nid)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (groups[i].nid == nid)
			return groups[i].name;
	return "";
}

bool conn_tls_facts(const struct conn *c, struct conn_tls_facts *out)
{
	const struct tls_session *s = c->tls;

	*out = (struct conn_tls_facts){"", "", "", "", false};
	if (!conn_is_secure(c))
		return false;
	*out = (struct conn_tls_facts){
		.protocol = s->version == TLS1_3_VERSION ? "TLS1.3" : "TLS1.2",
		.cipher = cipher_name(s->cipher),
		.group = group_name(s->group),
		.server_name = s->server_name != NULL ? s->server_name : "",
		.resumed = s->resumed,
	};
	return true;
}

const char *conn_tls_clause(const struct conn *c, char *out, size_t out_bytes)
{
	struct conn_tls_facts f;

	if (out_bytes > 0)
		out[0] = '\0';
	if (conn_tls_facts(c, &f))
		snprintf(out, out_bytes, "tls %s (%s)", f.cipher, f.protocol);
	return out;
}
