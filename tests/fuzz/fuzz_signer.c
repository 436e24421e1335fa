/* fuzz_signer.c - octets of the signer's socket, as requests or as answers: what is read lies in
 * the input, reads again as it was written, and is the same however it is cut */
#include "tests/fuzz/fuzz.h"
#include "tls/signer_wire.h"

static uint8_t again[SIGNER_REQUEST + SIGNER_ANSWER];

static int ask(const uint8_t *p, size_t n)
{
	struct signer_ask a, b;
	int used = signer_take_ask(p, n, &a);

	if (used <= 0)
		return used;
	CLAIM((size_t)used <= n && used <= SIGNER_REQUEST && a.content_bytes <= SIGNER_CONTENT);
	CLAIM(within(a.key, SIGNER_KEY, p, (size_t)used));
	CLAIM(within(a.content, a.content_bytes, p, (size_t)used));
	CLAIM(signer_put_ask(again, &a) == (size_t)used && memcmp(again, p, (size_t)used) == 0);
	CLAIM(signer_take_ask(again, (size_t)used, &b) == used && b.tag == a.tag);
	CLAIM(!signer_is_handshake(a.content, a.content_bytes) ||
	      (a.content_bytes >= 100 && a.content_bytes <= 165));
	return used;
}

static int answer(const uint8_t *p, size_t n)
{
	struct signer_answer a;
	int used = signer_take_answer(p, n, &a);

	if (used <= 0)
		return used;
	CLAIM((size_t)used <= n && used <= SIGNER_ANSWER);
	CLAIM(a.signature_bytes <= SIGNER_SIGNATURE &&
	      (a.signature_bytes > 0) == (a.status == SIGNER_OK));
	CLAIM(within(a.signature, a.signature_bytes, p, (size_t)used));
	CLAIM(signer_put_answer(again, &a) == (size_t)used && memcmp(again, p, (size_t)used) == 0);
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	int (*take_one)(const uint8_t *, size_t) = n > 0 && data[0] & 1 ? answer : ask;

	for (size_t at = 1; at < n;) {
		int used = take_one(data + at, n - at);
		/* one octet less is never more */
		for (size_t k = 0; used > 0 && k < (size_t)used; k++)
			CLAIM(take_one(data + at, k) == 0);
		if (used <= 0)
			break;
		at += (size_t)used;
	}
	return 0;
}
