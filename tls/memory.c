/* memory.c - OpenSSL's allocations, counted: `memory` bounds TLS too */
#include "tls/tls.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SLOTS = 64, SLOT_BYTES = 64 };

/* Threads add to different cache lines; what one allocates another may free, so a slot alone
 * can be negative and only the sum means anything.  OpenSSL's hook carries no argument, hence
 * the one piece of process state. */
static struct {
	_Alignas(SLOT_BYTES) _Atomic int64_t bytes;
} slots[SLOTS];
static _Atomic unsigned next_slot;
static _Thread_local unsigned my_slot;

static void account(int64_t bytes)
{
	if (my_slot == 0)
		my_slot = 1 + atomic_fetch_add(&next_slot, 1) % SLOTS;
	atomic_fetch_add_explicit(&slots[my_slot - 1].bytes, bytes, memory_order_relaxed);
}

static void *count_malloc(size_t n, const char *file, int line)
{
	void *p = malloc(n);

	if (p != NULL)
		account((int64_t)malloc_usable_size(p));
	return p;
}

static void count_free(void *p, const char *file, int line)
{
	if (p != NULL)
		account(-(int64_t)malloc_usable_size(p));
	free(p);
}

static void *count_realloc(void *p, size_t n, const char *file, int line)
{
	int64_t before = p != NULL ? (int64_t)malloc_usable_size(p) : 0;
	void *q = realloc(p, n);

	if (q != NULL)
		account((int64_t)malloc_usable_size(q) - before);
	return q;
}

bool tls_memory_init(void)
{
	return CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) == 1;
}

uint64_t tls_memory_used(void)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		sum += atomic_load_explicit(&slots[i].bytes, memory_order_relaxed);
	return sum > 0 ? (uint64_t)sum : 0;
}
