/*
 * histogram.h - a log-linear histogram: every value is kept within 1/64 of itself.
 *
 * A power of two is cut into 64 equal buckets, values below 128 have one each.  So a percentile of
 * microseconds and one of hours are equally exact, and recording costs a shift and an addition.
 *
 * Owner: one thread records; any thread may read or copy meanwhile (relaxed atomics).
 * Units: the caller's; values above 2^40 count as 2^40.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include "base/counter.h"

#include <string.h>

enum {
	HISTOGRAM_BITS = 6,
	HISTOGRAM_LARGEST = 40, /* power of two */
	HISTOGRAM_BUCKETS = (HISTOGRAM_LARGEST - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS,
};

struct histogram {
	uint64_t n, sum;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_index(uint64_t v)
{
	const uint64_t most = (1ull << HISTOGRAM_LARGEST) - 1;

	if (v > most)
		v = most;
	if (v < 2u << HISTOGRAM_BITS)
		return (unsigned)v;
	unsigned shift = 63u - (unsigned)__builtin_clzll(v) - HISTOGRAM_BITS;
	return (shift << HISTOGRAM_BITS) + (unsigned)(v >> shift);
}

/* The largest value that falls into the bucket. */
static inline uint64_t histogram_top(unsigned i)
{
	unsigned shift = i >> HISTOGRAM_BITS;

	if (shift < 2)
		return i;
	shift--;
	uint64_t first = (uint64_t)(i - (shift << HISTOGRAM_BITS)) << shift;
	return first + (1ull << shift) - 1;
}

static inline void histogram_record(struct histogram *h, uint64_t v)
{
	counter_inc(&h->bucket[histogram_index(v)]);
	counter_add(&h->sum, v);
	counter_inc(&h->n);
}

/* Adds what from holds now to the caller's own. */
static inline void histogram_add(struct histogram *to, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->bucket[i] += counter_read(&from->bucket[i]);
	to->sum += counter_read(&from->sum);
	to->n += counter_read(&from->n);
}

/* What was recorded between two copies of one histogram. */
static inline void histogram_since(struct histogram *now, const struct histogram *before)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		now->bucket[i] -= before->bucket[i];
	now->sum -= before->sum;
	now->n -= before->n;
}

/* The value that the fraction (0 to 1) of those recorded does not exceed; 0: there are none. */
static inline uint64_t histogram_at(const struct histogram *h, double fraction)
{
	uint64_t all = 0, seen = 0;

	/* the sum of the buckets, because n may be ahead of a copy made while it was written */
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		all += h->bucket[i];
	double want = fraction * (double)all;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen > 0 && (double)seen >= want)
			return histogram_top(i);
	}
	return 0;
}

#endif
