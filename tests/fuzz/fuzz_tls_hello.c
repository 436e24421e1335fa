/* fuzz_tls_hello.c - ClientHellos: what is found lies in the input or in the joined message, and
 * cutting the records anew changes nothing */
#include "tests/fuzz/fuzz.h"
#include "tls/hello.h"

static uint8_t scratch[2][HELLO_BYTES + 4];
static uint8_t pieces[6 * (HELLO_BYTES + 8)];

static bool inside(const uint8_t *p, size_t n, const uint8_t *data, size_t bytes, unsigned which)
{
	return (p >= data && p + n <= data + bytes) ||
	       (p >= scratch[which] && p + n <= scratch[which] + sizeof(scratch[which]));
}

/* One record in many of so few octets. */
static size_t cut(const uint8_t *record, size_t body, size_t piece)
{
	size_t used = 0;

	for (size_t at = 0; at < body; at += piece) {
		size_t k = body - at < piece ? body - at : piece;
		memcpy(pieces + used, record, 3);
		pieces[used + 3] = 0;
		pieces[used + 4] = (uint8_t)k;
		memcpy(pieces + used + 5, record + 5 + at, k);
		used += 5 + k;
	}
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hello h, again;
	enum hello_verdict v = hello_read(data, n, scratch[0], &h);

	CLAIM(h.n_tickets <= HELLO_TICKETS);
	CLAIM(h.name == NULL || inside(h.name, h.name_bytes, data, n, 0));
	CLAIM(h.name == NULL || (h.name_bytes > 0 && h.name_bytes <= 255));
	for (unsigned i = 0; i < h.n_tickets; i++)
		CLAIM(inside(h.ticket[i], HELLO_KEY_NAME, data, n, 0));
	CLAIM(v == HELLO_WHOLE || (h.name == NULL && h.n_tickets == 0));
	if (n < 10 || data[0] != 22)
		return 0;
	size_t body = (size_t)data[3] << 8 | data[4];
	if (body != n - 5 || body > HELLO_BYTES || v != HELLO_WHOLE)
		return 0;
	size_t k = cut(data, body, 1 + data[9] % 200);
	CLAIM(hello_read(pieces, k, scratch[1], &again) == v);
	CLAIM(again.name_bytes == h.name_bytes && again.n_tickets == h.n_tickets &&
	      again.tls_1_3 == h.tls_1_3);
	CLAIM(h.name == NULL || memcmp(h.name, again.name, h.name_bytes) == 0);
	return 0;
}
