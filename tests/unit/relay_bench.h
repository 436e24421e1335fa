/* relay_bench.h - what every test of the relay begins with: a gateway, a hop, and waiting until
 * nothing is queued */
#ifndef TESTS_UNIT_RELAY_BENCH_H
#define TESTS_UNIT_RELAY_BENCH_H

#include "tests/sim/hop.h"

enum { MINUTE = 60 * MAIL_SECOND };
static const uint64_t hour_us = 60ull * MINUTE, day_us = 24 * 60ull * MINUTE;

struct bench {
	struct mail *m;
	struct next_hop *h;
};

static inline struct bench bench_with(const struct mail_options *o)
{
	struct bench b = {.m = mail_create(o)};

	b.h = hop_create(b.m, MAIL_HOP);
	return b;
}

static inline struct bench bench(void)
{
	return bench_with(NULL);
}

static inline void bench_end(struct bench *b)
{
	hop_free(b->h);
	mail_destroy(b->m);
}

static inline bool queue_empty(void *arg)
{
	return relay_queued(((struct mail *)arg)->relay) == 0;
}

static inline bool drained(struct bench *b, uint64_t us)
{
	if (us > hour_us)
		b->m->tick_us = MAIL_SECOND;
	return mail_run_until(b->m, queue_empty, b->m, us);
}

static inline uint64_t count(const struct bench *b, enum relay_counter c)
{
	return mail_relay_count(b->m, c);
}

#endif
