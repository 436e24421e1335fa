/*
 * quota.c - a word a cell: 29 bits of name, a bit for its kind, 34 bits of value.
 *
 * The value of a bucket is the time at which it is full again, in units of 100 us, modulo 2^34:
 * twenty days.  A time up to ten days behind now is past; quota_sweep() forgets it before it
 * could look like the future.
 */
#include "smtp/quota.h"

#include "base/siphash.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

enum { PROBES = 16, STEP_SHIFT = 20, VALUE_BITS = 34, NAME_SHIFT = VALUE_BITS + 1, UNIT_US = 100 };

#define COUNT_BIT  (UINT64_C(1) << VALUE_BITS)
#define VALUE_MASK (COUNT_BIT - 1)
#define AHEAD_MOST (COUNT_BIT / 2 - 1) /* units */

struct quota_table {
	struct siphash_key key;
	uint64_t mask;
	_Atomic uint64_t cell[];
};

struct quota_table *quota_create(unsigned cells)
{
	struct quota_table *t = calloc(1, sizeof(*t) + cells * sizeof(t->cell[0]));

	if (t == NULL)
		return NULL;
	t->mask = cells - 1;
	if (getrandom(&t->key, sizeof(t->key), 0) == sizeof(t->key))
		return t;
	free(t);
	return NULL;
}

void quota_destroy(struct quota_table *t)
{
	free(t);
}

uint64_t quota_key(const struct quota_table *t, char kind, const void *name, size_t n)
{
	struct siphash_key key = t->key;

	key.k[0] ^= (uint64_t)(uint8_t)kind;
	return siphash(&key, name, n);
}

/* What names a cell of the key besides its place; never zero, because an empty cell is. */
static uint64_t name_of(uint64_t key, uint64_t kind)
{
	return (key >> NAME_SHIFT | 1) << NAME_SHIFT | kind;
}

/* Units from now until the time in the word; 0: past. */
static uint64_t ahead(uint64_t word, uint64_t now)
{
	uint64_t d = (word - now) & VALUE_MASK;

	return d <= AHEAD_MOST ? d : 0;
}

/* Nothing is lost when another key takes the cell. */
static bool idle(uint64_t word, uint64_t now)
{
	if (word == 0)
		return true;
	return (word & COUNT_BIT) != 0 ? (word & VALUE_MASK) == 0 : ahead(word, now) == 0;
}

/* The key's cell, or an idle one, and what it holds; NULL: none.  A count knows no time: it takes
 * empty cells only. */
static _Atomic uint64_t *find(struct quota_table *t, uint64_t key, uint64_t kind, uint64_t now,
			      uint64_t *word)
{
	_Atomic uint64_t *free_cell = NULL;
	uint64_t free_word = 0, name = name_of(key, kind);

	for (unsigned i = 0; i < PROBES; i++) {
		_Atomic uint64_t *c = &t->cell[(key + i * (key >> STEP_SHIFT | 1)) & t->mask];
		uint64_t w = atomic_load_explicit(c, memory_order_relaxed);
		if ((w & ~VALUE_MASK) == name) {
			*word = w;
			return c;
		}
		bool free_now = kind == 0
					? idle(w, now)
					: w == 0 || ((w & COUNT_BIT) != 0 && (w & VALUE_MASK) == 0);
		if (free_cell == NULL && free_now) {
			free_cell = c;
			free_word = w;
		}
	}
	*word = free_word;
	return free_cell;
}

static bool is_of(uint64_t word, uint64_t key, uint64_t kind)
{
	return (word & ~VALUE_MASK) == name_of(key, kind);
}

static bool replace(_Atomic uint64_t *c, uint64_t old, uint64_t key, uint64_t kind, uint64_t value)
{
	return atomic_compare_exchange_strong_explicit(c, &old,
						       name_of(key, kind) | (value & VALUE_MASK),
						       memory_order_relaxed, memory_order_relaxed);
}

/* Units that the cost is worth, rounded up. */
static uint64_t units_of(const struct quota_rate *r, uint64_t cost)
{
	unsigned __int128 per = (unsigned __int128)r->count * UNIT_US;
	unsigned __int128 units = ((unsigned __int128)cost * r->per_us + per - 1) / per;

	return units < AHEAD_MOST ? (uint64_t)units : AHEAD_MOST;
}

/* most: units that the time of fullness may lie ahead. */
static enum quota_verdict advance(struct quota_table *t, uint64_t key, uint64_t cost, uint64_t most,
				  uint64_t now_us, uint64_t *wait_us)
{
	uint64_t now = now_us / UNIT_US, word;

	for (;;) {
		_Atomic uint64_t *c = find(t, key, 0, now, &word);
		if (c == NULL)
			return QUOTA_NO_CELL;
		uint64_t d = (is_of(word, key, 0) ? ahead(word, now) : 0) + cost;
		if (d > most && most < AHEAD_MOST) {
			*wait_us = cost > most ? UINT64_MAX : (d - most) * UNIT_US;
			return QUOTA_EXHAUSTED;
		}
		if (replace(c, word, key, 0, now + (d < AHEAD_MOST ? d : AHEAD_MOST)))
			return QUOTA_TAKEN;
	}
}

enum quota_verdict quota_take(struct quota_table *t, uint64_t key, const struct quota_rate *r,
			      uint64_t cost, uint64_t now_us, uint64_t *wait_us)
{
	if (r->count == 0)
		return QUOTA_TAKEN;
	return advance(t, key, units_of(r, cost), units_of(r, r->count), now_us, wait_us);
}

void quota_owe(struct quota_table *t, uint64_t key, const struct quota_rate *r, uint64_t cost,
	       uint64_t now_us)
{
	uint64_t wait_us;

	if (r->count != 0)
		advance(t, key, units_of(r, cost), AHEAD_MOST, now_us, &wait_us);
}

void quota_give_back(struct quota_table *t, uint64_t key, const struct quota_rate *r, uint64_t cost,
		     uint64_t now_us)
{
	uint64_t now = now_us / UNIT_US, word;

	while (r->count != 0) {
		_Atomic uint64_t *c = find(t, key, 0, now, &word);
		uint64_t d = c != NULL && is_of(word, key, 0) ? ahead(word, now) : 0;
		uint64_t back = units_of(r, cost);
		if (d == 0) /* full again meanwhile */
			return;
		if (replace(c, word, key, 0, now + (d > back ? d - back : 0)))
			return;
	}
}

uint64_t quota_used(const struct quota_table *t, uint64_t key, const struct quota_rate *r,
		    uint64_t now_us)
{
	uint64_t word, now = now_us / UNIT_US;
	/* looked at only */
	_Atomic uint64_t *c = find((struct quota_table *)t, key, 0, now, &word);

	if (r->count == 0 || c == NULL || !is_of(word, key, 0))
		return 0;
	return (uint64_t)(((unsigned __int128)ahead(word, now) * UNIT_US * r->count + r->per_us -
			   1) /
			  r->per_us);
}

void quota_sweep(struct quota_table *t, uint64_t now_us)
{
	uint64_t now = now_us / UNIT_US;

	for (uint64_t i = 0; i <= t->mask; i++) {
		uint64_t w = atomic_load_explicit(&t->cell[i], memory_order_relaxed);
		if (w != 0 && idle(w, now))
			atomic_compare_exchange_strong_explicit(
				&t->cell[i], &w, 0, memory_order_relaxed, memory_order_relaxed);
	}
}

enum quota_verdict quota_enter(struct quota_table *t, uint64_t key, uint64_t limit)
{
	uint64_t word;

	for (;;) {
		_Atomic uint64_t *c = find(t, key, COUNT_BIT, 0, &word);
		if (c == NULL)
			return QUOTA_NO_CELL;
		uint64_t inside = is_of(word, key, COUNT_BIT) ? word & VALUE_MASK : 0;
		if (inside >= limit)
			return QUOTA_EXHAUSTED;
		if (replace(c, word, key, COUNT_BIT, inside + 1))
			return QUOTA_TAKEN;
	}
}

uint64_t quota_inside(const struct quota_table *t, uint64_t key)
{
	uint64_t word;
	_Atomic uint64_t *c = find((struct quota_table *)t, key, COUNT_BIT, 0, &word);

	return c != NULL && is_of(word, key, COUNT_BIT) ? word & VALUE_MASK : 0;
}

void quota_leave(struct quota_table *t, uint64_t key)
{
	uint64_t word;
	_Atomic uint64_t *c;

	do {
		c = find(t, key, COUNT_BIT, 0, &word);
		if (c == NULL || !is_of(word, key, COUNT_BIT) || (word & VALUE_MASK) == 0)
			return;
	} while (!replace(c, word, key, COUNT_BIT, (word & VALUE_MASK) - 1));
}
