/*
 * pins.c - certificates of next hops by their keys: OpenSSL compares, as it does with TLSA records
 * of the form 3 1 1.
 *
 * Source: RFC 7671 section 5.1 (neither name nor issuer nor dates count), RFC 6698 section 2.1.
 */
#include "tls/internal.h"

#include <stdlib.h>
#include <string.h>

/* RFC 7218 */
enum { USAGE_DANE_EE = 3, SELECTOR_SPKI = 1, MATCHING_SHA2_256 = 1 };

struct pins {
	unsigned n;
	uint8_t pin[][TLS_PIN_BYTES];
};

bool pins_keep(struct tls_session *s, const struct conn_tls *how)
{
	struct pins *p = malloc(sizeof(*p) + how->n_pins * sizeof(p->pin[0]));

	if (p == NULL)
		return false;
	p->n = how->n_pins;
	memcpy(p->pin, how->pins, p->n * sizeof(p->pin[0]));
	s->pins = p;
	s->pinned = true;
	return true;
}

bool pins_use(struct tls_session *s)
{
	const struct pins *p = s->pins;

	SSL_set_verify(s->ssl, SSL_VERIFY_PEER, NULL);
	if (SSL_dane_enable(s->ssl, NULL) <= 0)
		return false;
	SSL_dane_set_flags(s->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	for (unsigned i = 0; i < p->n; i++) {
		if (SSL_dane_tlsa_add(s->ssl, USAGE_DANE_EE, SELECTOR_SPKI, MATCHING_SHA2_256,
				      p->pin[i], TLS_PIN_BYTES) != 1)
			return false;
	}
	pins_drop(s);
	return true;
}

void pins_drop(struct tls_session *s)
{
	if (!s->pinned)
		return;
	free(s->pins);
	s->pins = NULL;
}
