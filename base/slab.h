/*
 * slab.h - fixed-size objects with handles {index, generation}.
 *
 * A handle crosses threads in place of a pointer: when the object has gone meanwhile,
 * slab_get() returns NULL, and a recycled slot carries another generation.
 *
 * Owner: one worker (or one thread); memory is taken lazily in blocks, never given back.
 * Runs on: the owner.
 * Errors: slab_alloc() returns NULL at the limit or when memory is short.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

struct slab;

typedef uint64_t handle_t; /* generation << 32 | index; 0 is never valid */

struct slab *slab_create(size_t object_bytes, uint32_t limit);
/* For very many small objects: without padding, at 8 bytes, and each knows its slab's owner and
 * its handle by its address.  object_bytes: at most SLAB_DENSE_BYTES. */
enum { SLAB_DENSE_BYTES = 1024 };
struct slab *slab_create_dense(size_t object_bytes, uint32_t limit, void *owner);
void *slab_dense_owner(const void *object);
handle_t slab_dense_handle(const void *object);
void slab_destroy(struct slab *s);
/* A zeroed object; *h (may be NULL) is its handle. */
void *slab_alloc(struct slab *s, handle_t *h);
void slab_free(struct slab *s, handle_t h);
void *slab_get(const struct slab *s, handle_t h);
/* The object with index i if it is in use, else NULL; for walks: 0 <= i < slab_extent(). */
void *slab_at(const struct slab *s, uint32_t i, handle_t *h);
/* The object with index i, known to be in use: nothing else is read on the way to it. */
void *slab_object(const struct slab *s, uint32_t i);
uint32_t slab_extent(const struct slab *s);
uint32_t slab_used(const struct slab *s);
uint32_t slab_limit(const struct slab *s);

#endif
