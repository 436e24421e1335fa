/* ring.c - bounded multi-producer multi-consumer queue: a sequence number a slot says whose turn
 * it is, so producers and consumers meet only on the slot they both want. */
#include "base/ring.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

struct slot {
	_Atomic size_t turn; /* position p: free for the producer of p; p + 1: full */
	void *p;
};

struct ring {
	_Alignas(64) _Atomic size_t head; /* next position to push */
	_Alignas(64) _Atomic size_t tail; /* next position to pop */
	_Alignas(64) size_t mask;
	struct slot slots[];
};

struct ring *ring_create(size_t capacity)
{
	size_t n = 2;
	while (n < capacity)
		n <<= 1;
	size_t bytes = (sizeof(struct ring) + n * sizeof(struct slot) + 63) & ~(size_t)63;
	struct ring *r = aligned_alloc(64, bytes);
	if (r == NULL)
		return NULL;
	atomic_init(&r->head, 0);
	atomic_init(&r->tail, 0);
	r->mask = n - 1;
	for (size_t i = 0; i < n; i++) {
		atomic_init(&r->slots[i].turn, i);
		r->slots[i].p = NULL;
	}
	return r;
}

void ring_destroy(struct ring *r)
{
	free(r);
}

bool ring_push(struct ring *r, void *p)
{
	size_t pos = atomic_load_explicit(&r->head, memory_order_relaxed);

	for (;;) {
		struct slot *s = &r->slots[pos & r->mask];
		size_t turn = atomic_load_explicit(&s->turn, memory_order_acquire);
		intptr_t ahead = (intptr_t)(turn - pos);

		if (ahead < 0)
			return false;
		if (ahead == 0 && atomic_compare_exchange_weak_explicit(&r->head, &pos, pos + 1,
									memory_order_relaxed,
									memory_order_relaxed)) {
			s->p = p;
			atomic_store_explicit(&s->turn, pos + 1, memory_order_release);
			return true;
		}
		if (ahead > 0)
			pos = atomic_load_explicit(&r->head, memory_order_relaxed);
	}
}

void *ring_pop(struct ring *r)
{
	size_t pos = atomic_load_explicit(&r->tail, memory_order_relaxed);

	for (;;) {
		struct slot *s = &r->slots[pos & r->mask];
		size_t turn = atomic_load_explicit(&s->turn, memory_order_acquire);
		intptr_t ahead = (intptr_t)(turn - (pos + 1));

		if (ahead < 0)
			return NULL;
		if (ahead == 0 && atomic_compare_exchange_weak_explicit(&r->tail, &pos, pos + 1,
									memory_order_relaxed,
									memory_order_relaxed)) {
			void *p = s->p;
			atomic_store_explicit(&s->turn, pos + r->mask + 1, memory_order_release);
			return p;
		}
		if (ahead > 0)
			pos = atomic_load_explicit(&r->tail, memory_order_relaxed);
	}
}

size_t ring_count(const struct ring *r)
{
	size_t tail = atomic_load_explicit(&((struct ring *)r)->tail, memory_order_relaxed);
	size_t head = atomic_load_explicit(&((struct ring *)r)->head, memory_order_relaxed);

	return head > tail ? head - tail : 0;
}
