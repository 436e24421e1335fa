/* ranges.c - n is a few, at most some hundreds */
#include "dataplane/tcp/ranges.h"

#include "dataplane/tcp/seq.h"

#include <string.h>

bool ranges_grow(struct chunk_pool *p, struct range **r, unsigned n, struct chunk **chunk)
{
	struct chunk *c = *chunk == NULL ? chunk_alloc(p, CHUNK_4K, false) : NULL;

	if (c == NULL)
		return false;
	memcpy(c->data, *r, n * sizeof(**r));
	*chunk = c;
	*r = (struct range *)c->data;
	return true;
}

bool ranges_fit(const struct range *r, unsigned n, unsigned room, uint32_t from, uint32_t to)
{
	if (n < room)
		return true;
	for (unsigned i = 0; i < n; i++) {
		if (seq_le(r[i].from, to) && seq_ge(r[i].to, from))
			return true;
	}
	return false;
}

unsigned ranges_add(struct range *r, unsigned n, uint32_t from, uint32_t to)
{
	unsigned i = 0, j;

	while (i < n && seq_lt(r[i].to, from))
		i++;
	for (j = i; j < n && seq_le(r[j].from, to); j++) {
		from = seq_min(from, r[j].from);
		to = seq_max(to, r[j].to);
	}
	memmove(&r[i + 1], &r[j], (n - j) * sizeof(r[0]));
	r[i] = (struct range){from, to};
	return n - (j - i) + 1;
}

unsigned ranges_cut(struct range *r, unsigned n, uint32_t edge)
{
	unsigned i = 0;

	while (i < n && seq_le(r[i].to, edge))
		i++;
	memmove(&r[0], &r[i], (n - i) * sizeof(r[0]));
	n -= i;
	if (n > 0)
		r[0].from = seq_max(r[0].from, edge);
	return n;
}

uint32_t ranges_covered(const struct range *r, unsigned n, uint32_t from, uint32_t to)
{
	uint32_t sum = 0;

	for (unsigned i = ranges_after(r, n, from); i < n && seq_lt(r[i].from, to); i++) {
		uint32_t a = seq_max(r[i].from, from), b = seq_min(r[i].to, to);
		if (seq_lt(a, b))
			sum += b - a;
	}
	return sum;
}

unsigned ranges_after(const struct range *r, unsigned n, uint32_t seq)
{
	unsigned low = 0;

	while (low < n) {
		unsigned middle = low + (n - low) / 2;
		if (seq_le(r[middle].to, seq))
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}
