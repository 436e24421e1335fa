/* budget.c - each bucket is the time at which it is full again */
#include "tls/budget.h"

#include <stdlib.h>

enum { SETS = 1024, WAYS = 4 };

struct bucket {
	uint64_t tag, full_us;
};

struct budget {
	struct bucket bucket[SETS][WAYS];
};

struct budget *budget_create(void)
{
	return calloc(1, sizeof(struct budget));
}

void budget_destroy(struct budget *b)
{
	free(b);
}

static const struct bucket *find(const struct budget *b, uint64_t tag)
{
	const struct bucket *set = b->bucket[tag % SETS];

	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].tag == tag)
			return &set[i];
	return NULL;
}

static struct bucket *claim(struct budget *b, uint64_t tag)
{
	struct bucket *set = b->bucket[tag % SETS], *fullest = &set[0];

	for (unsigned i = 1; i < WAYS; i++)
		if (set[i].full_us < fullest->full_us)
			fullest = &set[i];
	*fullest = (struct bucket){.tag = tag};
	return fullest;
}

/* The time after the charge; 0: not allowed. */
static uint64_t after(const struct bucket *k, const struct tls_rate *rate, unsigned halves,
		      uint64_t now_us)
{
	uint64_t from = k != NULL && k->full_us > now_us ? k->full_us : now_us;
	uint64_t step = (rate->per_us * halves + 2 * rate->count - 1) / (2 * rate->count);

	return from + step - now_us <= rate->per_us || (k == NULL || k->full_us <= now_us)
		       ? from + step
		       : 0;
}

bool budget_allows(const struct budget *b, uint64_t tag, const struct tls_rate *rate,
		   unsigned halves, uint64_t now_us)
{
	return rate->per_us == 0 || after(find(b, tag), rate, halves, now_us) != 0;
}

bool budget_charge(struct budget *b, uint64_t tag, const struct tls_rate *rate, unsigned halves,
		   uint64_t now_us)
{
	if (rate->per_us == 0)
		return true;
	struct bucket *k = (struct bucket *)(uintptr_t)find(b, tag);
	uint64_t full_us = after(k, rate, halves, now_us);
	if (full_us == 0)
		return false;
	if (k == NULL)
		k = claim(b, tag);
	k->full_us = full_us;
	return true;
}
