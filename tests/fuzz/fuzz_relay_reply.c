/* fuzz_relay_reply.c - a next hop's replies: bounded, and the same however they are cut */
#include "smtp/relay/reply_parser.h"
#include "tests/fuzz/fuzz.h"

static void check_line(const struct reply_parser *p)
{
	char status[12];

	CLAIM(p->code >= 200 && p->code <= 599);
	CLAIM(memchr(p->line, '\0', sizeof(p->line)) != NULL);
	const char *text = reply_text(p); /* in the line, or none */
	CLAIM(text[0] == '\0' || within(text, 1, p->line, sizeof(p->line)));
	reply_status(p, status);
	CLAIM(memchr(status, '\0', sizeof(status)) != NULL);
	CLAIM(status[0] >= '2' && status[0] <= '5');
}

/* Verdicts and codes, folded into one number. */
static uint64_t run(const uint8_t *data, size_t n, size_t step)
{
	struct reply_parser p;
	uint64_t sum = 1;
	enum reply_progress v = REPLY_MORE;

	reply_begin(&p);
	for (size_t at = 0; at < n && v != REPLY_BAD;) {
		size_t piece = step == 0 || step > n - at ? n - at : step, used = 0;
		v = reply_feed(&p, data + at, piece, &used);
		CLAIM(used <= piece && (used > 0 || v == REPLY_BAD));
		at += used;
		if (v == REPLY_MORE)
			continue;
		if (v != REPLY_BAD)
			check_line(&p);
		sum = sum * 1000003 + v * 1000 + (v == REPLY_BAD ? 0 : p.code);
		if (v == REPLY_WHOLE)
			reply_begin(&p);
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n > 0)
		CLAIM(run(data + 1, n - 1, 0) == run(data + 1, n - 1, data[0] % 16u + 1));
	return 0;
}
