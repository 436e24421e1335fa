/* content.c - messages: a header with a number of its own, then lines of text */
#include "perf/bench/engine.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE = 78, TEXT_BYTES = LINE * 832, HEADER_MOST = 1024 };

struct content {
	const struct bench_options *options;
	unsigned worker;
	char text[TEXT_BYTES]; /* lines of 76 octets and CRLF, none beginning with a dot */
};

struct content *content_create(const struct bench_options *o, unsigned index)
{
	static const char words[] = "the quick brown fox jumps over the lazy dog while bells ring ";
	struct content *c = malloc(sizeof(*c));

	if (c == NULL)
		return NULL;
	c->options = o;
	c->worker = index;
	for (size_t i = 0; i < TEXT_BYTES; i += LINE) {
		for (size_t k = 0; k < LINE - 2; k++)
			c->text[i + k] = words[(i / LINE * 7 + k) % (sizeof(words) - 1)];
		if (c->text[i] == ' ')
			c->text[i] = 'a';
		c->text[i + LINE - 2] = '\r';
		c->text[i + LINE - 1] = '\n';
	}
	return c;
}

void content_destroy(struct content *c)
{
	free(c);
}

uint32_t content_draw_size(const struct bench_options *o, struct shard *shard)
{
	const struct bench_size *s = &o->size[0];
	double at = o->n_sizes > 1 ? bench_draw(shard) : 0, bytes;

	while (at > s->weight && s < &o->size[o->n_sizes - 1])
		at -= s++->weight;
	if (s->sigma > 0) {
		double normal =
			sqrt(-2 * log(bench_draw(shard))) * cos(2 * M_PI * bench_draw(shard));
		bytes = (double)s->from * exp(s->sigma * normal);
	} else {
		bytes = (double)s->from;
		if (s->to > s->from)
			bytes += bench_draw(shard) * (double)(s->to - s->from + 1);
	}
	return bytes < 3e9 ? (uint32_t)bytes : 3000000000u;
}

static size_t header(const struct content *c, uint64_t number, char *out)
{
	const struct bench_options *o = c->options;

	return (size_t)snprintf(out, HEADER_MOST,
				"From: <%.250s>\r\n"
				"To: <bench-%" PRIu64 "@example.org>\r\n"
				"Subject: message %" PRIu64 " of postern-bench\r\n"
				"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
				"Message-ID: <%u.%" PRIu64 ".%.100s@bench.example.net>\r\n"
				"X-Bench-Number: %u-%" PRIu64 "\r\n"
				"\r\n",
				o->from, number, number, c->worker, number, o->label, c->worker,
				number);
}

/* Octet i of the text of n octets, whose last two are a line's end. */
static void copy_text(const struct content *c, uint64_t i, uint64_t n, uint8_t *out, size_t count)
{
	size_t at = (size_t)(i % TEXT_BYTES);

	for (size_t done = 0; done < count;) {
		size_t run = TEXT_BYTES - at < count - done ? TEXT_BYTES - at : count - done;
		memcpy(out + done, c->text + at, run);
		done += run;
		at = 0;
	}
	/* the last four are "xx" and a line's end; before them no CR may stand alone */
	for (uint64_t k = n > 5 ? n - 5 : 0; k < n; k++) {
		if (k < i || k >= i + count)
			continue;
		uint8_t *o = &out[k - i];
		if (k + 5 == n)
			*o = *o == '\r' ? 'x' : *o;
		else
			*o = k == n - 1 ? '\n' : k == n - 2 ? '\r' : 'x';
	}
}

static uint64_t text_bytes(size_t header_bytes, uint32_t size)
{
	return size > header_bytes + 4 ? size - header_bytes : 4;
}

static size_t ending(const struct content *c)
{
	return c->options->bdat ? 0 : 3;
}

uint64_t content_bytes(const struct content *c, uint64_t number, uint32_t size)
{
	char h[HEADER_MOST];
	size_t n = header(c, number, h);

	return n + text_bytes(n, size) + ending(c);
}

size_t content_fill(const struct content *c, uint64_t number, uint32_t size, uint64_t at,
		    uint8_t *out, size_t room)
{
	char h[HEADER_MOST];
	size_t n = header(c, number, h), done = 0;
	uint64_t text = text_bytes(n, size), all = n + text + ending(c);

	while (done < room && at < all) {
		size_t run;
		if (at < n) {
			run = n - at < room - done ? (size_t)(n - at) : room - done;
			memcpy(out + done, h + at, run);
		} else if (at < n + text) {
			uint64_t left = n + text - at;
			run = left < room - done ? (size_t)left : room - done;
			copy_text(c, at - n, text, out + done, run);
		} else {
			run = all - at < room - done ? (size_t)(all - at) : room - done;
			memcpy(out + done, ".\r\n" + (at - n - text), run);
		}
		done += run;
		at += run;
	}
	return done;
}
