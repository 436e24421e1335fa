/*
 * ring.h - bounded queue of pointers between threads.
 *
 * Any number of producers and consumers; C11 atomics only, so ThreadSanitizer follows it.
 * No system call and no lock: a consumer that finds nothing naps by its own rule (nap.h).
 *
 * Owner: whoever called ring_create(); the pointers inside belong to the consumer once popped.
 * Runs on: any thread.
 * Errors: ring_push() is false when the ring is full; nothing is ever overwritten.
 */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring;

/* capacity is rounded up to a power of two; NULL when memory is short. */
struct ring *ring_create(size_t capacity);
void ring_destroy(struct ring *r);
bool ring_push(struct ring *r, void *p);
void *ring_pop(struct ring *r);
/* A snapshot, exact only while nobody else touches the ring. */
size_t ring_count(const struct ring *r);

#endif
