/* test_smtp_content.c - end of data, transparency, line ends and header facts, cut at any place */
#include "smtp/content.h"
#include "tests/sim/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 65536 };

static bool bad_line_end(const struct content *c)
{
	return c->lone_cr || c->lone_lf || c->nul;
}

static unsigned fields(const struct content *c, enum header_field f)
{
	return c->header.count[f];
}

struct result {
	struct content c;
	uint8_t out[MOST];
	size_t n, used; /* of the input */
};

/* Feeds n octets at the end of a block of their own into one of exactly n + 1. */
static void feed(struct result *r, const uint8_t *in, size_t n)
{
	uint8_t *copy = malloc(n > 0 ? n : 1), *out = malloc(n + CONTENT_SLACK);
	size_t used = 0;

	memcpy(copy, in, n);
	size_t made = content_feed(&r->c, copy, n, out, &used);
	assert_true(made <= n + CONTENT_SLACK);
	assert_true(used <= n);
	assert_true(used == n || r->c.state == CONTENT_END);
	memcpy(r->out + r->n, out, made);
	r->n += made;
	r->used += used;
	free(copy);
	free(out);
}

static void begin(struct result *r)
{
	content_begin(&r->c, &(struct content_rules){.dots = true});
	r->n = r->used = 0;
}

static struct result *whole(const void *in, size_t n)
{
	static struct result r;

	begin(&r);
	feed(&r, in, n);
	return &r;
}

static struct result *of(const char *s)
{
	return whole(s, strlen(s));
}

static void same(const struct result *a, const struct result *b)
{
	assert_int_equal(a->c.state, b->c.state);
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->out, b->out, a->n);
	assert_int_equal(a->used, b->used);
	assert_int_equal(a->c.lone_cr, b->c.lone_cr);
	assert_int_equal(a->c.lone_lf, b->c.lone_lf);
	assert_int_equal(a->c.nul, b->c.nul);
	assert_int_equal(a->c.long_line, b->c.long_line);
	assert_int_equal(a->c.header.open, b->c.header.open);
	assert_int_equal(a->c.header.absent, b->c.header.absent);
	assert_int_equal(a->c.header.non_ascii, b->c.header.non_ascii);
	assert_int_equal(a->c.header.bad_utf8, b->c.header.bad_utf8);
	assert_int_equal(a->c.header.bytes, b->c.header.bytes);
	assert_int_equal(a->c.header.lines, b->c.header.lines);
	assert_int_equal(a->c.header.signed_mime, b->c.header.signed_mime);
	assert_int_equal(a->c.header.bcc_removed, b->c.header.bcc_removed);
	assert_memory_equal(a->c.header.count, b->c.header.count, sizeof(a->c.header.count));
	assert_int_equal(a->c.header.from_bytes, b->c.header.from_bytes);
	assert_memory_equal(a->c.header.from, b->c.header.from, a->c.header.from_bytes);
}

static const char *const samples[] = {
	".\r\n",
	"\r\n.\r\n",
	"hello\r\n.\r\nQUIT\r\n",
	"Subject: x\r\n\r\nbody\r\n.\r\n",
	"..\r\n...\r\n..x\r\n.y\r\n.\r\n",
	"Date: a\r\n b\r\nMessage-ID: <x>\r\n\r\n..\r\n.\r\n",
	"received: 1\r\nRECEIVED : 2\r\nReceived-SPF: no\r\n\r\nReceived: body\r\n.\r\n",
	"a\n.\nb\r.\rc\r\n.\nd\r\n.\re\r\r\n.\r\r\nf\n.\r\n.\r\n",
	"Dear customer: hello\r\n.\r\n",
	" folded first\r\nDate: x\r\n\r\n.\r\n",
	"a\r\n.\r.\r\n.\r\n",
	"a\r\n..\rb\r\n.\r\r\n.\r\n",
};
enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static void the_same_input_cut_at_every_place_gives_the_same_result(void **state)
{
	static struct result cut, expected;

	for (size_t i = 0; i < SAMPLES; i++) {
		const uint8_t *in = (const uint8_t *)samples[i];
		size_t n = strlen(samples[i]);
		expected = *whole(in, n);
		for (size_t at = 0; at <= n; at++) {
			begin(&cut);
			feed(&cut, in, at);
			if (cut.c.state != CONTENT_END)
				feed(&cut, in + at, n - at);
			same(&cut, &expected);
		}
	}
}

static void octet_by_octet_gives_the_same_result(void **state)
{
	static struct result cut, expected;

	for (size_t i = 0; i < SAMPLES; i++) {
		size_t n = strlen(samples[i]);
		expected = *of(samples[i]);
		begin(&cut);
		for (size_t at = 0; at < n && cut.c.state != CONTENT_END; at++)
			feed(&cut, (const uint8_t *)samples[i] + at, 1);
		same(&cut, &expected);
	}
}

static size_t random_input(uint64_t *r, uint8_t *out, size_t most)
{
	static const char *const parts[] = {"\r",         "\n",    ".",     "\r\n",     "\r\n.",
					    "a",          ":",     " ",     "\t",       "Date",
					    "Message-ID", "From",  "text ", "Received", "\r\n\r\n",
					    "\x80",       ".\r\n", "Date:"};
	size_t n = 0;

	while (n + 16 < most && random_below(r, 40) != 0) {
		const char *p = parts[random_below(r, sizeof(parts) / sizeof(parts[0]))];
		memcpy(out + n, p, strlen(p));
		n += strlen(p);
		if (random_below(r, 100) == 0)
			out[n++] = '\0';
	}
	return n;
}

static void random_input_in_random_pieces_gives_the_same_result(void **state)
{
	static struct result cut, expected;
	uint8_t in[1024];

	for (uint64_t seed = 1; seed <= 20000; seed++) {
		uint64_t r = seed;
		size_t n = random_input(&r, in, sizeof(in)), at = 0;
		expected = *whole(in, n);
		begin(&cut);
		while (at < n && cut.c.state != CONTENT_END) {
			size_t piece = 1 + random_below(&r, 12);
			piece = piece < n - at ? piece : n - at;
			feed(&cut, in + at, piece);
			at += piece;
		}
		if (cut.n != expected.n || cut.used != expected.used)
			print_message("seed %llu\n", (unsigned long long)seed);
		same(&cut, &expected);
	}
}

/* A decoder that knows nothing but the RFC: lines by CR LF, one dot off, "." ends. */
static bool naive(const uint8_t *in, size_t n, uint8_t *out, size_t *out_n, size_t *used)
{
	size_t at = 0;

	*out_n = 0;
	while (at < n) {
		const uint8_t *end = memmem(in + at, n - at, "\r\n", 2);
		if (end == NULL)
			return false;
		size_t line = (size_t)(end - in) - at;
		if (line == 1 && in[at] == '.') {
			*used = at + 3;
			return true;
		}
		size_t skip = line > 0 && in[at] == '.';
		memcpy(out + *out_n, in + at + skip, line + 2 - skip);
		*out_n += line + 2 - skip;
		at += line + 2;
	}
	return false;
}

static void clean_random_input_is_decoded_as_the_rfc_says(void **state)
{
	static uint8_t in[1100], out[1100];
	unsigned compared = 0;

	for (uint64_t seed = 1; seed <= 20000; seed++) {
		uint64_t r = seed;
		size_t n = random_input(&r, in, 1024), out_n, used = 0;
		memcpy(in + n, "\r\n.\r\n", 5);
		n += 5;
		bool ended = naive(in, n, out, &out_n, &used);
		assert_true(ended);
		struct result *got = whole(in, n);
		if (bad_line_end(&got->c))
			continue;
		compared++;
		assert_int_equal(got->c.state, CONTENT_END);
		assert_int_equal(got->used, used);
		assert_int_equal(got->n, out_n);
		assert_memory_equal(got->out, out, out_n);
	}
	assert_true(compared > 1000);
}

static void lone_cr_lf_and_nul_are_noted_exactly_where_they_are(void **state)
{
	static uint8_t in[1100];

	for (uint64_t seed = 1; seed <= 20000; seed++) {
		uint64_t r = seed;
		size_t n = random_input(&r, in, 1024), used;
		memcpy(in + n, "\r\n.\r\n", 5);
		used = whole(in, n + 5)->used;
		bool bad = false;
		for (size_t i = 0; i < used; i++)
			bad |= in[i] == '\0' || (in[i] == '\n' && (i == 0 || in[i - 1] != '\r')) ||
			       (in[i] == '\r' && in[i + 1] != '\n');
		if (bad_line_end(&whole(in, n + 5)->c) != bad)
			fail_msg("seed %llu", (unsigned long long)seed);
	}
}

static void nothing_but_crlf_dot_crlf_ends_the_data(void **state)
{
	static const char *const endings[] = {
		"\n.\n",       "\n.\r\n",   "\r\n.\n",    "\r.\r",         "\r\n.\r",
		"\r.\r\n",     "\n.\r",     "\r.\n",      "\r\r\n.\r\r\n", ".\n",
		"\r\n.\r\r\n", "\r\n.\v\n", "\r\n .\r\n", "\r\n. \r\n",    "\r\n..\r\n"};

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		char text[64];
		snprintf(text, sizeof(text), "a%sMAIL FROM:<b>\r\n.\r\n", endings[i]);
		struct result *r = of(text);
		assert_int_equal(r->c.state, CONTENT_END);
		if (r->used != strlen(text))
			fail_msg("ended early: sample %zu", i);
	}
	/* NUL cannot be in a C string */
	struct result *r = whole("a\r\n\0.\r\nb\r\n.\0\r\nc\r\n.\r\n", 20);
	assert_int_equal(r->used, 20);
	assert_true(bad_line_end(&r->c));
}

static void an_end_before_any_text_is_an_empty_message(void **state)
{
	struct result *r = of(".\r\n");

	assert_int_equal(r->c.state, CONTENT_END);
	assert_int_equal(r->n, 0);
	assert_false(r->c.header.absent);
	assert_false(bad_line_end(&r->c));
}

static void what_follows_the_end_is_left_alone(void **state)
{
	struct result *r = of("a\r\n.\r\nNOOP\r\n");

	assert_int_equal(r->used, 6);
	assert_int_equal(r->n, 3);
}

static void field_names_are_found_in_any_case(void **state)
{
	struct result *r = of("dATE: x\r\nMESSAGE-id: y\r\nfrom: z\r\nReceived: 1\r\n"
			      "RECEIVED: 2\r\n\r\n.\r\n");

	assert_true(fields(&r->c, HEADER_DATE));
	assert_true(fields(&r->c, HEADER_MESSAGE_ID));
	assert_true(fields(&r->c, HEADER_FROM));
	assert_int_equal(fields(&r->c, HEADER_RECEIVED), 2);
	assert_false(r->c.header.open);
}

static void similar_names_are_not_taken_for_the_field(void **state)
{
	struct result *r = of("Dates: x\r\nDat: x\r\nX-Date: x\r\nMessage-IDs: y\r\n"
			      "Resent-Message-ID: y\r\nReceived-SPF: z\r\nReceive: z\r\n\r\n.\r\n");

	assert_false(fields(&r->c, HEADER_DATE));
	assert_false(fields(&r->c, HEADER_MESSAGE_ID));
	assert_int_equal(fields(&r->c, HEADER_RECEIVED), 0);
}

static void a_folded_line_is_no_field_of_its_own(void **state)
{
	struct result *r = of("Subject: x\r\n Date: folded\r\n\tFrom: folded\r\n\r\n.\r\n");

	assert_false(fields(&r->c, HEADER_DATE));
	assert_false(fields(&r->c, HEADER_FROM));
	assert_int_equal(r->c.header.lines, 4);
}

static void white_space_before_the_colon_is_let_pass(void **state)
{
	struct result *r = of("Date : x\r\nFrom\t : y\r\n\r\n.\r\n");

	assert_true(fields(&r->c, HEADER_DATE));
	assert_true(fields(&r->c, HEADER_FROM));
	assert_false(r->c.header.absent);
}

static void white_space_inside_a_name_makes_it_text(void **state)
{
	struct result *r = of("Subject: x\r\nDa te: y\r\n\r\n.\r\n");

	assert_false(fields(&r->c, HEADER_DATE));
	r = of("Dear customer: here is text\r\n.\r\n");
	assert_true(r->c.header.absent);
	r = of("From alice Mon Jan 1 00:00:00\r\nDate: x\r\n\r\n.\r\n");
	assert_true(r->c.header.absent);
}

static void fields_in_the_body_do_not_count(void **state)
{
	struct result *r = of("Subject: x\r\n\r\nDate: y\r\nReceived: z\r\n.\r\n");

	assert_false(fields(&r->c, HEADER_DATE));
	assert_int_equal(fields(&r->c, HEADER_RECEIVED), 0);
	r = of("Subject: x\r\nthis ends the header\r\nDate: y\r\n.\r\n");
	assert_false(fields(&r->c, HEADER_DATE));
	assert_false(r->c.header.absent);
}

static void a_first_line_that_is_no_field_makes_all_of_it_body(void **state)
{
	static const char *const bodies[] = {"hello\r\n.\r\n",      " Date: x\r\n.\r\n",
					     " \r\n.\r\n",          "\t\r\nDate: x\r\n.\r\n",
					     ":x\r\n.\r\n",         "\x80: x\r\n.\r\n",
					     "..Date: x y\r\n.\r\n" /* name ".Date" */};

	for (size_t i = 0; i < 6; i++) {
		if (!of(bodies[i])->c.header.absent)
			fail_msg("sample %zu", i);
	}
	assert_false(of(bodies[6])->c.header.absent);
	assert_false(fields(&of(bodies[6])->c, HEADER_DATE));
}

static void an_empty_first_line_is_an_empty_header(void **state)
{
	struct result *r = of("\r\nDate: body\r\n.\r\n");

	assert_false(r->c.header.absent);
	assert_false(fields(&r->c, HEADER_DATE));
	assert_false(r->c.header.open);
}

static void a_header_without_body_is_a_header(void **state)
{
	struct result *r = of("Date: x\r\nSubject: y\r\n.\r\n");

	assert_true(fields(&r->c, HEADER_DATE));
	assert_false(r->c.header.absent);
	assert_true(r->c.header.open);
}

static void a_dot_stuffed_field_name_counts_without_its_dot(void **state)
{
	/* ".Date: x" on the wire is "Date: x" */
	assert_true(fields(&of(".Date: x\r\n\r\n.\r\n")->c, HEADER_DATE));
}

static void endless_names_and_many_fields_are_counted_without_growing(void **state)
{
	static uint8_t in[MOST];
	size_t n = 0;

	memset(in, 'x', 5000);
	memcpy(in + 5000, ": y\r\n", 5);
	n = 5005;
	while (n + 20 < 60000) {
		memcpy(in + n, "Received: z\r\n", 13);
		n += 13;
	}
	memcpy(in + n, ".\r\n", 3);
	struct result *r = whole(in, n + 3);
	assert_int_equal(fields(&r->c, HEADER_RECEIVED), (n - 5005) / 13);
	assert_false(r->c.header.absent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_input_cut_at_every_place_gives_the_same_result),
		cmocka_unit_test(octet_by_octet_gives_the_same_result),
		cmocka_unit_test(random_input_in_random_pieces_gives_the_same_result),
		cmocka_unit_test(clean_random_input_is_decoded_as_the_rfc_says),
		cmocka_unit_test(lone_cr_lf_and_nul_are_noted_exactly_where_they_are),
		cmocka_unit_test(nothing_but_crlf_dot_crlf_ends_the_data),
		cmocka_unit_test(an_end_before_any_text_is_an_empty_message),
		cmocka_unit_test(what_follows_the_end_is_left_alone),
		cmocka_unit_test(field_names_are_found_in_any_case),
		cmocka_unit_test(similar_names_are_not_taken_for_the_field),
		cmocka_unit_test(a_folded_line_is_no_field_of_its_own),
		cmocka_unit_test(white_space_before_the_colon_is_let_pass),
		cmocka_unit_test(white_space_inside_a_name_makes_it_text),
		cmocka_unit_test(fields_in_the_body_do_not_count),
		cmocka_unit_test(a_first_line_that_is_no_field_makes_all_of_it_body),
		cmocka_unit_test(an_empty_first_line_is_an_empty_header),
		cmocka_unit_test(a_header_without_body_is_a_header),
		cmocka_unit_test(a_dot_stuffed_field_name_counts_without_its_dot),
		cmocka_unit_test(endless_names_and_many_fields_are_counted_without_growing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
