/* fuzz_smtp_content.c - a message's octets by DATA or BDAT: cut at any place they give the same
 * bytes, the same end and the same findings; what a next hop would take for an end is not in them
 */
#include "smtp/content.h"
#include "tests/fuzz/fuzz.h"

struct result {
	struct content c;
	uint8_t *out;
	size_t bytes, used;
};

/* step 0: all at once */
static struct result run(const struct content_rules *rules, const uint8_t *data, size_t n,
			 size_t step)
{
	struct result r = {.out = malloc(2 * n + 2 * CONTENT_SLACK)};

	CLAIM(r.out != NULL);
	content_begin(&r.c, rules);
	while (r.used < n && r.c.state != CONTENT_END) {
		size_t piece = step == 0 || step > n - r.used ? n - r.used : step, used = 0;
		size_t most = content_bound(rules, piece);
		uint8_t *exact = malloc(piece), *out = malloc(most);
		CLAIM(exact != NULL && out != NULL);
		CLAIM(content_fits(rules, most) >= piece);
		memcpy(exact, data + r.used, piece);
		size_t done = content_feed(&r.c, exact, piece, out, &used);
		CLAIM(used <= piece && done <= most);
		CLAIM(used == piece || r.c.state == CONTENT_END);
		memcpy(r.out + r.bytes, out, done);
		r.bytes += done;
		r.used += used;
		free(exact);
		free(out);
	}
	r.bytes += content_finish(&r.c, r.out + r.bytes);
	return r;
}

static bool same_findings(const struct content *a, const struct content *b)
{
	const struct header *g = &a->header, *h = &b->header;

	return a->state == b->state && a->lone_cr == b->lone_cr && a->lone_lf == b->lone_lf &&
	       a->nul == b->nul && a->long_line == b->long_line && g->open == h->open &&
	       g->absent == h->absent && g->non_ascii == h->non_ascii &&
	       g->bad_utf8 == h->bad_utf8 && g->bytes == h->bytes && g->lines == h->lines &&
	       g->signed_mime == h->signed_mime && g->tls_optional == h->tls_optional &&
	       g->bcc_removed == h->bcc_removed &&
	       memcmp(g->count, h->count, sizeof(g->count)) == 0 &&
	       g->from_bytes == h->from_bytes && memcmp(g->from, h->from, g->from_bytes) == 0;
}

/* What would be taken is made of lines that end in CR LF and of nothing that looks like one. */
static void check_lines(const struct result *r)
{
	const struct content *c = &r->c;

	if (c->rules.binary || c->lone_cr || c->nul || (c->lone_lf && !c->rules.normalize))
		return;
	for (size_t i = 0; i < r->bytes; i++) {
		CLAIM(r->out[i] != '\0');
		CLAIM(r->out[i] != '\n' || (i > 0 && r->out[i - 1] == '\r'));
		CLAIM(r->out[i] != '\r' || i + 1 == r->bytes || r->out[i + 1] == '\n');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	struct content_rules rules = {.dots = (data[0] & 16) == 0,
				      .binary = (data[0] & 32) != 0,
				      .normalize = (data[0] & 64) != 0,
				      .remove_bcc = (data[0] & 128) != 0};
	rules.binary &= !rules.dots;
	rules.normalize &= rules.dots;
	struct result whole = run(&rules, data + 1, n - 1, 0),
		      cut = run(&rules, data + 1, n - 1, data[0] % 16u + 1);
	CLAIM(whole.used == cut.used && whole.bytes == cut.bytes);
	CLAIM(whole.bytes == 0 || memcmp(whole.out, cut.out, whole.bytes) == 0);
	CLAIM(same_findings(&whole.c, &cut.c));
	check_lines(&whole);
	free(whole.out);
	free(cut.out);
	return 0;
}
