/*
 * timer.c - four levels of 512 slots: 1 ms, 256 ms, 65.5 s and 4.66 h a slot.
 *
 * Invariant: a timer with tick T sits no lower than in the lowest level whose span from the
 * wheel's tick reaches T.  A level spans two slots of the level above, so the next slot of that
 * one may be emptied into it at any time: timer_advance() moves a few timers each time, and
 * nothing is left when the wheel's tick enters the slot, unless they are too many or time has
 * jumped; then the rest moves at once.  Timers past the last level wait in its farthest slot and
 * are placed again when it comes round.
 */
#include "base/timer.h"

#include "base/shard.h"

#include <stdlib.h>

enum {
	LEVELS = 4,
	SLOT_BITS = 8, /* so many slots of a level make one of the next */
	SLOTS = 2 << SLOT_BITS,
	SLOT_MASK = SLOTS - 1,
	SPREAD = 64, /* timers moved in advance, a level and call */
};

struct timer_wheel {
	uint64_t tick;     /* ms; the slot being run or run last */
	struct list ready; /* due in the current tick or before, in order of due time */
	struct list slots[LEVELS][SLOTS];
	uint64_t full[LEVELS][SLOTS / 64]; /* bit set: slot may hold timers */
};

struct timer_wheel *timer_wheel_create(uint64_t now_us)
{
	struct timer_wheel *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->tick = now_us / 1000;
	list_init(&w->ready);
	for (unsigned l = 0; l < LEVELS; l++) {
		for (unsigned s = 0; s < SLOTS; s++)
			list_init(&w->slots[l][s]);
	}
	return w;
}

void timer_wheel_destroy(struct timer_wheel *w)
{
	free(w);
}

static struct timer *timer_of(struct list *l)
{
	return container_of(l, struct timer, link);
}

/* Ties keep the order of arming. */
static void ready_insert(struct timer_wheel *w, struct timer *t)
{
	struct list *at = &w->ready;

	while (at->prev != &w->ready && timer_of(at->prev)->due_us > t->due_us)
		at = at->prev;
	list_insert_before(at, &t->link);
}

static void place(struct timer_wheel *w, struct timer *t)
{
	uint64_t tick = t->due_us / 1000;

	if (tick <= w->tick) {
		ready_insert(w, t);
		return;
	}
	for (unsigned l = 0; l < LEVELS; l++) {
		unsigned shift = l * SLOT_BITS;
		uint64_t ahead = (tick >> shift) - (w->tick >> shift);

		if (ahead >= SLOTS && l < LEVELS - 1)
			continue;
		if (ahead >= SLOTS)
			ahead = SLOTS - 1;
		unsigned s = (unsigned)((w->tick >> shift) + ahead) & SLOT_MASK;
		list_push_back(&w->slots[l][s], &t->link);
		w->full[l][s / 64] |= 1ULL << (s % 64);
		return;
	}
}

void timer_arm(struct timer_wheel *w, struct timer *t, uint64_t due_us)
{
	list_del(&t->link);
	t->due_us = due_us;
	place(w, t);
}

void timer_cancel(struct timer_wheel *w, struct timer *t)
{
	(void)w;
	list_del(&t->link);
}

static struct list *merge(struct list *a, struct list *b)
{
	struct list head, *tail = &head;

	while (a != NULL && b != NULL) {
		struct list **first = timer_of(b)->due_us < timer_of(a)->due_us ? &b : &a;
		tail->next = *first;
		tail = *first;
		*first = (*first)->next;
	}
	tail->next = a != NULL ? a : b;
	return head.next;
}

/* Bottom-up merge sort over the next pointers: a slot flooded with timers stays n log n. */
static struct list *sorted(struct list *first)
{
	struct list *bins[64] = {NULL};
	unsigned i;

	while (first != NULL) {
		struct list *one = first;
		first = first->next;
		one->next = NULL;
		for (i = 0; bins[i] != NULL; i++) {
			one = merge(bins[i], one);
			bins[i] = NULL;
		}
		bins[i] = one;
	}
	struct list *all = NULL;
	for (i = 0; i < 64; i++)
		all = merge(bins[i], all);
	return all;
}

static void slot_to_ready(struct timer_wheel *w, struct list *slot)
{
	if (list_empty(slot))
		return;
	struct list *first = slot->next;
	slot->prev->next = NULL;
	list_init(slot);
	first = sorted(first);
	while (first != NULL) {
		struct list *next = first->next;
		list_init(first);
		ready_insert(w, timer_of(first));
		first = next;
	}
}

/* A few of those in the next slots of the upper levels. */
static void spread(struct timer_wheel *w)
{
	for (unsigned l = 1; l < LEVELS; l++) {
		unsigned s = (unsigned)((w->tick >> (l * SLOT_BITS)) + 1) & SLOT_MASK;
		struct list *it;

		if ((w->full[l][s / 64] & 1ULL << (s % 64)) == 0)
			continue;
		for (unsigned i = 0; i < SPREAD && (it = list_pop_front(&w->slots[l][s])) != NULL;
		     i++)
			place(w, timer_of(it));
		if (list_empty(&w->slots[l][s]))
			w->full[l][s / 64] &= ~(1ULL << (s % 64));
	}
}

/* Enters tick w->tick: slots of upper levels that begin here are spread over the lower ones. */
static void enter_tick(struct timer_wheel *w)
{
	for (unsigned l = LEVELS - 1; l > 0; l--) {
		unsigned shift = l * SLOT_BITS;
		unsigned s = (unsigned)(w->tick >> shift) & SLOT_MASK;

		if ((w->tick & ((1ULL << shift) - 1)) != 0)
			continue;
		struct list moved;
		list_init(&moved);
		list_splice_back(&moved, &w->slots[l][s]);
		w->full[l][s / 64] &= ~(1ULL << (s % 64));
		for (struct list *it; (it = list_pop_front(&moved)) != NULL;)
			place(w, timer_of(it));
	}
	unsigned s = (unsigned)w->tick & SLOT_MASK;
	slot_to_ready(w, &w->slots[0][s]);
	w->full[0][s / 64] &= ~(1ULL << (s % 64));
}

/* How many slots of the level ahead the first one with timers is; SLOTS if none. */
static unsigned first_full(const struct timer_wheel *w, unsigned level)
{
	unsigned from = (unsigned)(w->tick >> (level * SLOT_BITS));

	for (unsigned ahead = 1; ahead < SLOTS; ahead++) {
		unsigned s = (from + ahead) & SLOT_MASK;
		uint64_t word = w->full[level][s / 64] >> (s % 64);
		if (word == 0) {
			ahead += 63 - s % 64;
			continue;
		}
		ahead += (unsigned)__builtin_ctzll(word);
		s = (from + ahead) & SLOT_MASK;
		if (ahead < SLOTS && !list_empty(&w->slots[level][s]))
			return ahead;
	}
	return SLOTS;
}

/* The next tick at which anything can happen, at most target. */
static uint64_t next_stop(const struct timer_wheel *w, uint64_t target)
{
	uint64_t stop = target;

	for (unsigned l = 0; l < LEVELS; l++) {
		unsigned shift = l * SLOT_BITS;
		unsigned ahead = first_full(w, l);
		if (ahead == SLOTS)
			continue;
		uint64_t tick = ((w->tick >> shift) + ahead) << shift;
		if (tick < stop)
			stop = tick;
	}
	return stop;
}

static unsigned run_ready(struct shard *shard, uint64_t now_us)
{
	struct timer_wheel *w = shard->timers;
	unsigned fired = 0;

	while (!list_empty(&w->ready)) {
		struct timer *t = timer_of(w->ready.next);
		if (t->due_us > now_us)
			break;
		list_del(&t->link);
		if (t->due_us > shard->now_us)
			shard->now_us = t->due_us;
		t->fire(t);
		fired++;
	}
	return fired;
}

unsigned timer_advance(struct shard *shard, uint64_t now_us)
{
	struct timer_wheel *w = shard->timers;
	uint64_t target = now_us / 1000;
	unsigned fired = run_ready(shard, now_us);

	spread(w);
	while (w->tick < target) {
		w->tick = next_stop(w, target);
		enter_tick(w);
		fired += run_ready(shard, now_us);
	}
	if (now_us > shard->now_us)
		shard->now_us = now_us;
	return fired;
}

static uint64_t earliest(const struct list *slot)
{
	uint64_t due = UINT64_MAX;

	list_each (it, slot) {
		if (timer_of(it)->due_us < due)
			due = timer_of(it)->due_us;
	}
	return due;
}

/* Of upper levels: exactly, or only when the slot begins. */
static uint64_t next_due(const struct timer_wheel *w, bool exactly)
{
	uint64_t due = UINT64_MAX;

	if (!list_empty(&w->ready))
		return timer_of(w->ready.next)->due_us;
	for (unsigned l = 0; l < LEVELS; l++) {
		unsigned ahead = first_full(w, l);
		if (ahead == SLOTS)
			continue;
		uint64_t slot = (w->tick >> (l * SLOT_BITS)) + ahead;
		uint64_t at = exactly || l == 0 ? earliest(&w->slots[l][slot & SLOT_MASK])
						: (slot << (l * SLOT_BITS)) * 1000;
		due = at < due ? at : due;
	}
	return due;
}

uint64_t timer_next(const struct timer_wheel *w)
{
	return next_due(w, true);
}

uint64_t timer_not_before(const struct timer_wheel *w)
{
	return next_due(w, false);
}
