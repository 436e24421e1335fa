/* memory.c - OpenSSL's allocations: counted, in an arena of their own that core dumps leave out */
#include "tls/tls.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum { SLOTS = 64, SLOT_BYTES = 64 };

/* Threads add to different cache lines; what one allocates another may free, so a slot alone
 * can be negative and only the sum means anything.  OpenSSL's hook carries no argument, hence
 * the pieces of process state. */
static struct {
	_Alignas(SLOT_BYTES) _Atomic int64_t bytes;
} slots[SLOTS];
static _Atomic unsigned next_slot;
static _Thread_local unsigned my_slot;

/* Tests: counts down to the allocation that fails, on the thread that asked for it. */
static _Thread_local uint64_t fail_in;
static _Thread_local bool has_failed;

void tls_memory_fail(uint64_t nth)
{
	fail_in = nth;
	has_failed = false;
}

bool tls_memory_failed(void)
{
	fail_in = 0;
	return has_failed;
}

static bool must_fail(void)
{
	if (__builtin_expect(fail_in == 0, 1) || --fail_in > 0)
		return false;
	has_failed = true;
	return true;
}

static void account(int64_t bytes)
{
	if (my_slot == 0)
		my_slot = 1 + atomic_fetch_add(&next_slot, 1) % SLOTS;
	atomic_fetch_add_explicit(&slots[my_slot - 1].bytes, bytes, memory_order_relaxed);
}

#ifdef HAVE_JEMALLOC
/* The arena's own hooks, after the default ones of this process. */
static extent_hooks_t hooks, *default_hooks;
static unsigned arena;
static bool has_arena;
static _Thread_local unsigned my_flags;

static void *secret_alloc(extent_hooks_t *h, void *at, size_t n, size_t alignment, bool *zero,
			  bool *commit, unsigned index)
{
	void *p = default_hooks->alloc(default_hooks, at, n, alignment, zero, commit, index);

	/* keys lie here: a core dump is no place for them */
	if (p != NULL)
		madvise(p, n, MADV_DONTDUMP);
	return p;
}

static bool create_arena(void)
{
	size_t n = sizeof(arena);
	char name[48];
	extent_hooks_t *ours = &hooks;

	if (mallctl("arenas.create", &arena, &n, NULL, 0) != 0)
		return false;
	snprintf(name, sizeof(name), "arena.%u.extent_hooks", arena);
	n = sizeof(default_hooks);
	if (mallctl(name, &default_hooks, &n, NULL, 0) != 0)
		return false;
	hooks = *default_hooks;
	hooks.alloc = secret_alloc;
	return mallctl(name, NULL, NULL, &ours, sizeof(ours)) == 0;
}

/* A thread's cache for the arena: without one every call would take its lock. */
static unsigned arena_flags(void)
{
	unsigned cache;
	size_t n = sizeof(cache);

	if (my_flags != 0)
		return my_flags;
	my_flags = (unsigned)MALLOCX_ARENA(arena);
	my_flags |= mallctl("tcache.create", &cache, &n, NULL, 0) == 0
			    ? (unsigned)MALLOCX_TCACHE(cache)
			    : (unsigned)MALLOCX_TCACHE_NONE;
	return my_flags;
}

static void *raw_malloc(size_t n)
{
	if (!has_arena)
		return malloc(n);
	return n > 0 ? mallocx(n, (int)arena_flags()) : NULL;
}

static void *raw_realloc(void *p, size_t n)
{
	if (!has_arena)
		return realloc(p, n);
	return p != NULL ? rallocx(p, n, (int)arena_flags()) : raw_malloc(n);
}

static void raw_free(void *p)
{
	if (!has_arena)
		free(p);
	else if (p != NULL)
		dallocx(p, (int)arena_flags());
}
#else
static void *raw_malloc(size_t n)
{
	return malloc(n);
}

static void *raw_realloc(void *p, size_t n)
{
	return realloc(p, n);
}

static void raw_free(void *p)
{
	free(p);
}
#endif

static void *count_malloc(size_t n, const char *file, int line)
{
	void *p = must_fail() ? NULL : raw_malloc(n);

	if (p != NULL)
		account((int64_t)malloc_usable_size(p));
	return p;
}

static void count_free(void *p, const char *file, int line)
{
	if (p != NULL)
		account(-(int64_t)malloc_usable_size(p));
	raw_free(p);
}

static void *count_realloc(void *p, size_t n, const char *file, int line)
{
	int64_t before = p != NULL ? (int64_t)malloc_usable_size(p) : 0;

	if (n == 0) { /* as free(), whatever the allocator makes of it */
		count_free(p, file, line);
		return NULL;
	}
	void *q = must_fail() ? NULL : raw_realloc(p, n);
	if (q != NULL)
		account((int64_t)malloc_usable_size(q) - before);
	return q;
}

bool tls_memory_init(void)
{
	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
		return false;
#ifdef HAVE_JEMALLOC
	has_arena = create_arena();
#endif
	return true;
}

/* An arena whose threads have come to rest gives nothing back by itself. */
void tls_memory_trim(void)
{
#ifdef HAVE_JEMALLOC
	char name[48];

	snprintf(name, sizeof(name), "arena.%u.decay", (unsigned)MALLCTL_ARENAS_ALL);
	mallctl(name, NULL, NULL, NULL, 0);
#endif
}

bool tls_memory_is_private(void)
{
#ifdef HAVE_JEMALLOC
	return has_arena;
#else
	return false;
#endif
}

uint64_t tls_memory_used(void)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		sum += atomic_load_explicit(&slots[i].bytes, memory_order_relaxed);
	return sum > 0 ? (uint64_t)sum : 0;
}

void tls_memory_thread_ends(void)
{
#ifdef HAVE_JEMALLOC
	unsigned cache = my_flags >> 8;
	/* MALLOCX_TCACHE() keeps the number, two higher, in bits 8 to 19 */
	if (my_flags != 0 && (cache & 0xfff) >= 2) {
		cache = (cache & 0xfff) - 2;
		mallctl("tcache.destroy", NULL, NULL, &cache, sizeof(cache));
	}
	my_flags = 0;
#endif
}
