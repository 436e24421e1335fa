/*
 * chunk.h - the per-worker chunk pool: all payload memory of sessions.
 *
 * Three sizes (4, 16 and 64 KiB) carved from 64 KiB blocks of one region given at creation.
 * A block serves one size at a time and returns to the common pool when all of it is free, so
 * no size can starve another for ever.
 *
 * Owner: one worker.  A chunk may travel to another thread inside a request and comes back
 *        with the verdict; only the worker allocates and frees.
 * Runs on: the owning worker.
 * Errors: chunk_alloc() returns NULL when the pool is empty or when the call is not urgent and
 *         the reserve would be touched; the caller applies back-pressure.
 */
#ifndef BASE_CHUNK_H
#define BASE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chunk_size { CHUNK_4K, CHUNK_16K, CHUNK_64K, CHUNK_SIZES };

struct chunk_pool;

/* The header of a chunk; the bytes follow it. */
struct chunk {
	struct chunk *next; /* for the holder's own singly linked list */
	uint32_t size;      /* bytes of data[] */
	uint32_t start;     /* first byte in use, the holder's */
	uint32_t end;       /* one past the last byte in use, the holder's */
	uint32_t spare;     /* the holder's, free use */
	uint8_t data[];
};

/* Bytes of data[] in a chunk of the size. */
static inline uint32_t chunk_capacity(enum chunk_size size)
{
	return (4096u << 2 * size) - (uint32_t)sizeof(struct chunk);
}

/* memory: region of bytes, 64 KiB aligned, borrowed until chunk_pool_destroy(). */
struct chunk_pool *chunk_pool_create(void *memory, size_t bytes);
void chunk_pool_destroy(struct chunk_pool *p);

/* urgent: may use the last 1/16 of the pool (finishing what was begun, never new work). */
struct chunk *chunk_alloc(struct chunk_pool *p, enum chunk_size size, bool urgent);
void chunk_free(struct chunk_pool *p, struct chunk *c);
/* Frees a whole list linked by next. */
void chunk_free_list(struct chunk_pool *p, struct chunk *c);

/* Watermarks: bytes in blocks that hold at least one chunk, and the bytes of the pool. */
size_t chunk_pool_used(const struct chunk_pool *p);
size_t chunk_pool_bytes(const struct chunk_pool *p);
/* used * 100 / bytes */
unsigned chunk_pool_percent(const struct chunk_pool *p);

#endif
