/* fuzz_envelope.c - stored envelopes: what decodes can be walked, holds no forged line, and is
 * encoded again to the same bytes */
#include "smtp/spool/envelope.h"
#include "tests/fuzz/fuzz.h"

static void check_text(const struct envelope_text *t, const uint8_t *data, size_t n)
{
	CLAIM(t->bytes == 0 || within(t->at, t->bytes, data, n));
	for (uint32_t i = 0; i < t->bytes; i++)
		CLAIM(t->at[i] != '\0' && t->at[i] != '\r' && t->at[i] != '\n');
}

static void check_again(const struct envelope *e, const uint8_t *data, size_t n)
{
	uint8_t *again = malloc(n);
	size_t cursor = 0;
	struct envelope_recipient r;

	CLAIM(again != NULL);
	ptrdiff_t begun = envelope_begin(again, n, e);
	CLAIM(begun > 0);
	size_t bytes = (size_t)begun;
	while (envelope_next_recipient(data, n, &cursor, &r))
		CLAIM(envelope_add_recipient(again, n, &bytes, &r) == 0);
	CLAIM(bytes == n && memcmp(again, data, n) == 0);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct envelope e;
	struct envelope_recipient r;
	size_t cursor = 0;
	uint32_t recipients = 0;

	if (envelope_decode(data, n, &e) != 0)
		return 0;
	check_text(&e.reverse_path, data, n);
	check_text(&e.user, data, n);
	check_text(&e.envid, data, n);
	check_text(&e.mechanism, data, n);
	check_text(&e.tls, data, n);
	while (envelope_next_recipient(data, n, &cursor, &r)) {
		check_text(&r.path, data, n);
		check_text(&r.orcpt, data, n);
		recipients++;
	}
	CLAIM(recipients == e.recipients);
	/* what is written is version 2 */
	if (data[0] == 2)
		check_again(&e, data, n);
	return 0;
}
