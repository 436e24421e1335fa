/* guesses.c - theoretical arrival times in an eight-way associative table */
#include "smtp/auth/guesses.h"

#include <stdlib.h>

enum { WAYS = 8 };

struct slot {
	uint64_t tag;
	uint64_t arrival_us; /* theoretical arrival time of the next charge */
};

struct guesses {
	uint64_t mask;
	struct slot (*set)[WAYS];
};

struct guesses *guesses_create(uint32_t entries)
{
	struct guesses *l = calloc(1, sizeof(*l));
	uint32_t sets = 1;

	if (l == NULL)
		return NULL;
	while (sets * WAYS < entries)
		sets *= 2;
	l->mask = sets - 1;
	l->set = calloc(sets, sizeof(*l->set));
	if (l->set == NULL) {
		free(l);
		return NULL;
	}
	return l;
}

void guesses_destroy(struct guesses *l)
{
	if (l == NULL)
		return;
	free(l->set);
	free(l);
}

static struct slot *find(struct guesses *l, uint64_t tag)
{
	struct slot *set = l->set[tag & l->mask];

	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].tag == tag)
			return &set[i];
	return NULL;
}

static struct slot *claim(struct guesses *l, uint64_t tag)
{
	struct slot *set = l->set[tag & l->mask], *least = &set[0];

	for (unsigned i = 1; i < WAYS; i++)
		if (set[i].arrival_us < least->arrival_us)
			least = &set[i];
	*least = (struct slot){.tag = tag};
	return least;
}

static uint64_t burst(const struct auth_rate *r)
{
	return (r->count + 1) / 2;
}

static uint64_t interval_us(const struct auth_rate *r)
{
	uint64_t spread = r->count - burst(r);

	return spread > 0 ? (r->per_us + spread - 1) / spread : r->per_us;
}

bool guesses_charge(struct guesses *l, uint64_t tag, const struct auth_rate *rate, uint64_t now_us)
{
	if (rate->per_us == 0)
		return true;
	struct slot *s = find(l, tag);
	if (s == NULL)
		s = claim(l, tag);
	uint64_t arrival = s->arrival_us > now_us ? s->arrival_us : now_us;
	uint64_t step = interval_us(rate);
	if (arrival - now_us > (burst(rate) - 1) * step)
		return false;
	s->arrival_us = arrival + step;
	return true;
}

void guesses_refund(struct guesses *l, uint64_t tag, const struct auth_rate *rate)
{
	struct slot *s = rate->per_us != 0 ? find(l, tag) : NULL;
	uint64_t step = rate->per_us != 0 ? interval_us(rate) : 0;

	if (s != NULL && s->arrival_us >= step)
		s->arrival_us -= step;
}
