/*
 * graveyard.h - objects whose last reference has gone on a thread that must not free.
 *
 * Owner: whoever frees; an object embeds a struct tomb and is the graveyard's from graveyard_add()
 * on. Runs on: graveyard_add() on any thread, without a lock; graveyard_take() on the owner's.
 */
#ifndef BASE_GRAVEYARD_H
#define BASE_GRAVEYARD_H

#include <stdatomic.h>
#include <stddef.h>

struct tomb {
	struct tomb *next;
};

/* Zeroed: empty. */
struct graveyard {
	_Atomic(struct tomb *) first;
};

static inline void graveyard_add(struct graveyard *g, struct tomb *t)
{
	struct tomb *first = atomic_load_explicit(&g->first, memory_order_relaxed);

	do {
		t->next = first;
	} while (!atomic_compare_exchange_weak_explicit(&g->first, &first, t, memory_order_release,
							memory_order_relaxed));
}

/* All that lie there, linked by next; the graveyard is empty. */
static inline struct tomb *graveyard_take(struct graveyard *g)
{
	return atomic_exchange_explicit(&g->first, NULL, memory_order_acquire);
}

#endif
