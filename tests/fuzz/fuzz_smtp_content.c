/* fuzz_smtp_content.c - the DATA stream: cut at any place it gives the same bytes, the same end and
 * the same findings */
#include "smtp/content.h"
#include "tests/fuzz/fuzz.h"

struct result {
	struct content c;
	uint8_t *out;
	size_t bytes, used;
};

/* step 0: all at once */
static struct result run(const uint8_t *data, size_t n, size_t step)
{
	struct result r = {.out = malloc(2 * n + 2)};

	CLAIM(r.out != NULL);
	content_begin(&r.c);
	while (r.used < n && r.c.state != CONTENT_END) {
		size_t piece = step == 0 || step > n - r.used ? n - r.used : step, used = 0;
		uint8_t *exact = malloc(piece), *out = malloc(piece + 1);
		CLAIM(exact != NULL && out != NULL);
		memcpy(exact, data + r.used, piece);
		size_t done = content_feed(&r.c, exact, piece, out, &used);
		CLAIM(used <= piece && done <= piece + 1);
		CLAIM(used == piece || r.c.state == CONTENT_END);
		memcpy(r.out + r.bytes, out, done);
		r.bytes += done;
		r.used += used;
		free(exact);
		free(out);
	}
	return r;
}

static bool same_findings(const struct content *a, const struct content *b)
{
	return a->state == b->state && a->bad_line_end == b->bad_line_end &&
	       a->in_header == b->in_header && a->no_header == b->no_header &&
	       a->has_date == b->has_date && a->has_message_id == b->has_message_id &&
	       a->has_from == b->has_from && a->received == b->received &&
	       a->header_lines == b->header_lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	struct result whole = run(data + 1, n - 1, 0),
		      cut = run(data + 1, n - 1, data[0] % 16u + 1);
	CLAIM(whole.used == cut.used && whole.bytes == cut.bytes);
	CLAIM(whole.bytes == 0 || memcmp(whole.out, cut.out, whole.bytes) == 0);
	CLAIM(same_findings(&whole.c, &cut.c));
	free(whole.out);
	free(cut.out);
	return 0;
}
