/* tickets.c - keys by epoch, and OpenSSL's callbacks that use them */
#include "tls/tickets.h"

#include "tls/internal.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

static int derive(const struct ticket_secret *s, struct ticket_key *k)
{
	static_assert(sizeof(struct ticket_key) == 80, "the parts follow each other");
	return ticket_derive(s->key, "postern ticket keys", (uint8_t *)k, sizeof(*k));
}

struct tickets *tickets_create(struct ticket_secret *s, uint64_t lifetime_s, int64_t now_s)
{
	uint64_t oldest = ticket_secret_oldest(s, lifetime_s, now_s);
	uint64_t now = (uint64_t)now_s / s->epoch_s;

	if (now < oldest) /* a secret that begins with the next epoch */
		now = oldest;
	uint64_t n = now - oldest + 2;
	if (n > TICKET_EPOCHS || ticket_secret_ratchet(s, oldest) < 0)
		return NULL;
	struct tickets *t = calloc(1, sizeof(*t) + n * sizeof(t->key[0]));
	if (t == NULL)
		return NULL;
	struct ticket_secret each = *s;
	t->first = oldest;
	t->n = (unsigned)n;
	t->current = t->n - 2;
	t->references = 1;
	for (unsigned i = 0; i < t->n; i++) {
		if (derive(&each, &t->key[i]) < 0 ||
		    ticket_secret_ratchet(&each, each.epoch + 1) < 0) {
			tickets_free(t);
			t = NULL;
			break;
		}
	}
	ticket_secret_wipe(&each);
	return t;
}

void tickets_free(struct tickets *t)
{
	if (t == NULL || --t->references > 0)
		return;
	OPENSSL_cleanse(t->key, t->n * sizeof(t->key[0]));
	free(t);
}

const struct ticket_key *tickets_find(const struct tickets *t, const uint8_t *name)
{
	/* the newest are the likeliest */
	for (unsigned i = t->n; i-- > 0;)
		if (memcmp(t->key[i].name, name, TICKET_NAME_BYTES) == 0)
			return &t->key[i];
	return NULL;
}

static bool set_mac(EVP_MAC_CTX *mac, const struct ticket_key *k)
{
	OSSL_PARAM p[] = {
		OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->mac,
					sizeof(k->mac)),
		OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_END,
	};

	return EVP_MAC_CTX_set_params(mac, p) == 1;
}

static int ticket_keys(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		       EVP_MAC_CTX *mac, int sealing)
{
	struct tls_session *s = SSL_get_app_data(ssl);
	const struct tls_thread *t = session_thread(s);
	const struct tickets *tickets = t->state->tickets;
	const struct ticket_key *k =
		sealing ? &tickets->key[tickets->current] : tickets_find(tickets, name);

	if (k == NULL) {
		s->notes |= NOTE_TICKET_FOREIGN;
		return 0;
	}
	if (sealing) {
		if (RAND_bytes_ex(t->lib, iv, 16, 0) != 1 ||
		    EVP_EncryptInit_ex2(cipher, t->ticket_cipher, k->cipher, iv, NULL) != 1 ||
		    !set_mac(mac, k))
			return -1;
		memcpy(name, k->name, TICKET_NAME_BYTES);
		return 1;
	}
	if (EVP_DecryptInit_ex2(cipher, t->ticket_cipher, k->cipher, iv, NULL) != 1 ||
	    !set_mac(mac, k))
		return -1;
	/* clients use a TLS 1.3 ticket once (RFC 8446 appendix C.4): each resumption brings the
	 * next; under TLS 1.2 one serves for its epoch */
	bool old = k < &tickets->key[tickets->current];
	if (old)
		s->notes |= NOTE_TICKET_OLD;
	return SSL_version(ssl) == TLS1_3_VERSION || old ? 2 : 1;
}

/* A certificate that was good when the ticket was made may have expired, or its CA have been
 * taken away; what fails here makes a full handshake. */
static SSL_TICKET_RETURN ticket_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
				       size_t name_bytes, SSL_TICKET_STATUS status, void *arg)
{
	struct tls_session *s = SSL_get_app_data(ssl);

	if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	X509 *peer = SSL_SESSION_get0_peer(session);
	if (peer != NULL && !context_verifies(s->contexts, peer)) {
		s->notes |= NOTE_TICKET_CERTIFICATE;
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	}
	return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

bool tickets_install(SSL_CTX *x)
{
	return SSL_CTX_set_tlsext_ticket_key_evp_cb(x, ticket_keys) == 1 &&
	       SSL_CTX_set_session_ticket_cb(x, NULL, ticket_opened, NULL) == 1;
}
