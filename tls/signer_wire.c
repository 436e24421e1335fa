/* signer_wire.c - requests and answers of the signer as octets */
#include "tls/signer_wire.h"

#include <string.h>

enum {
	LENGTH = 2,
	ASK_FIXED = 2 + 8 + SIGNER_KEY,
	ANSWER_FIXED = 2 + 8,
	RANDOMS = 64,
	NAMED_CURVE = 3,
	GROUP_P256 = 23,
	GROUP_P384 = 24,
	GROUP_X25519 = 29,
};

static uint8_t *put(uint8_t *at, uint64_t value, unsigned octets)
{
	for (unsigned i = octets; i-- > 0;)
		*at++ = (uint8_t)(value >> 8 * i);
	return at;
}

static uint64_t get(const uint8_t *at, unsigned octets)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < octets; i++)
		value = value << 8 | at[i];
	return value;
}

size_t signer_put_ask(uint8_t *out, const struct signer_ask *a)
{
	uint8_t *at = put(out, ASK_FIXED + a->content_bytes, LENGTH);

	at = put(at, a->scheme, 2);
	at = put(at, a->tag, 8);
	memcpy(at, a->key, SIGNER_KEY);
	memcpy(at + SIGNER_KEY, a->content, a->content_bytes);
	return LENGTH + ASK_FIXED + a->content_bytes;
}

size_t signer_put_answer(uint8_t *out, const struct signer_answer *a)
{
	uint8_t *at = put(out, ANSWER_FIXED + a->signature_bytes, LENGTH);

	at = put(at, a->status, 2);
	at = put(at, a->tag, 8);
	if (a->signature_bytes > 0)
		memcpy(at, a->signature, a->signature_bytes);
	return LENGTH + ANSWER_FIXED + a->signature_bytes;
}

/* Octets of the frame; 0: not whole; -1: its length is out of bounds. */
static int frame(const uint8_t *p, size_t n, size_t fixed, size_t most)
{
	if (n < LENGTH)
		return 0;
	size_t body = get(p, LENGTH);
	if (body < fixed || body > fixed + most)
		return -1;
	return n < LENGTH + body ? 0 : (int)(LENGTH + body);
}

int signer_take_ask(const uint8_t *p, size_t n, struct signer_ask *a)
{
	int used = frame(p, n, ASK_FIXED, SIGNER_CONTENT);

	if (used <= 0)
		return used;
	*a = (struct signer_ask){
		.scheme = (uint16_t)get(p + 2, 2),
		.tag = get(p + 4, 8),
		.key = p + 12,
		.content = p + LENGTH + ASK_FIXED,
		.content_bytes = (size_t)used - LENGTH - ASK_FIXED,
	};
	return used;
}

int signer_take_answer(const uint8_t *p, size_t n, struct signer_answer *a)
{
	int used = frame(p, n, ANSWER_FIXED, SIGNER_SIGNATURE);

	if (used <= 0)
		return used;
	*a = (struct signer_answer){
		.status = (uint16_t)get(p + 2, 2),
		.tag = get(p + 4, 8),
		.signature = p + LENGTH + ANSWER_FIXED,
		.signature_bytes = (size_t)used - LENGTH - ANSWER_FIXED,
	};
	/* a signature comes with SIGNER_OK, and only with it */
	return (a->status == SIGNER_OK) == (a->signature_bytes > 0) ? used : -1;
}

static bool is_transcript(const uint8_t *p, size_t n)
{
	static const char label[] = "TLS 1.3, server CertificateVerify"; /* with its NUL */

	if (n != RANDOMS + sizeof(label) + 32 && n != RANDOMS + sizeof(label) + 48)
		return false;
	for (unsigned i = 0; i < RANDOMS; i++)
		if (p[i] != ' ')
			return false;
	return memcmp(p + RANDOMS, label, sizeof(label)) == 0;
}

static bool is_key_exchange(const uint8_t *p, size_t n)
{
	if (n < RANDOMS + 4 || p[RANDOMS] != NAMED_CURVE || p[RANDOMS + 1] != 0)
		return false;
	size_t point = p[RANDOMS + 2] == GROUP_X25519 ? 32
		       : p[RANDOMS + 2] == GROUP_P256 ? 65
		       : p[RANDOMS + 2] == GROUP_P384 ? 97
						      : 0;
	return point > 0 && p[RANDOMS + 3] == point && n == RANDOMS + 4 + point;
}

bool signer_is_handshake(const uint8_t *content, size_t n)
{
	return is_transcript(content, n) || is_key_exchange(content, n);
}
