/* fuzz_xtext.c - xtext: what is encoded decodes to itself, what decodes has only one strict form,
 * and what passes for printable breaks no line */
#include "base/xtext.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *in = (const char *)data;
	char *coded = malloc(3 * n + 1), *back = malloc(3 * n + 1);

	CLAIM(coded != NULL && back != NULL);
	size_t coded_n = xtext_encode(in, n, coded);
	CLAIM(coded_n <= 3 * n);
	CLAIM(xtext_decode(coded, coded_n, NULL) == (ptrdiff_t)n);
	CLAIM(xtext_decode(coded, coded_n, back) == (ptrdiff_t)n);
	CLAIM(memcmp(back, in, n) == 0);
	ptrdiff_t decoded = xtext_decode(in, n, back);
	CLAIM(decoded == xtext_decode(in, n, NULL));
	CLAIM(decoded <= (ptrdiff_t)n);
	if (xtext_is_printable(in, n)) {
		CLAIM(decoded >= 0);
		for (ptrdiff_t i = 0; i < decoded; i++)
			CLAIM(back[i] >= ' ' && back[i] <= '~');
	}
	free(coded);
	free(back);
	return 0;
}
