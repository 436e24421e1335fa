/* slab.c - blocks of objects behind a table of block pointers; odd generations are in use */
#include "base/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_OBJECTS = 256, HEAD_BYTES = 64, DENSE_BLOCK = 32768 /* and its alignment */ };

struct tag {
	uint32_t generation; /* odd: in use */
	uint32_t next_free;  /* index + 1 */
};

/* In front of a dense block. */
struct head {
	struct slab *slab;
	uint32_t first; /* index */
};
static_assert(sizeof(struct head) <= HEAD_BYTES, "in front of the objects");

struct slab {
	size_t object_bytes;
	size_t head_bytes;   /* 0: not dense */
	uint32_t in_a_block; /* objects, of a dense slab */
	void *owner;
	uint32_t limit, used, extent;
	uint32_t first_free; /* index + 1; 0: none */
	struct tag *tags;    /* by index */
	uint8_t **blocks;
};

/* The division of all others is by a constant. */
static uint32_t block_of(const struct slab *s, uint32_t i)
{
	return s->head_bytes > 0 ? i / s->in_a_block : i / BLOCK_OBJECTS;
}

static uint32_t place_of(const struct slab *s, uint32_t i)
{
	return s->head_bytes > 0 ? i % s->in_a_block : i % BLOCK_OBJECTS;
}

static struct slab *create(size_t object_bytes, size_t head_bytes, uint32_t limit)
{
	struct slab *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->object_bytes = object_bytes;
	s->head_bytes = head_bytes;
	s->limit = limit;
	s->in_a_block = (uint32_t)((DENSE_BLOCK - HEAD_BYTES) / object_bytes);
	s->blocks = calloc((size_t)block_of(s, limit) + 1, sizeof(*s->blocks));
	s->tags = calloc((size_t)limit + 1, sizeof(*s->tags));
	if (s->blocks == NULL || s->tags == NULL) {
		slab_destroy(s);
		return NULL;
	}
	return s;
}

struct slab *slab_create(size_t object_bytes, uint32_t limit)
{
	return create((object_bytes + 63) & ~(size_t)63, 0, limit);
}

struct slab *slab_create_dense(size_t object_bytes, uint32_t limit, void *owner)
{
	assert(object_bytes <= SLAB_DENSE_BYTES);
	struct slab *s = create((object_bytes + 7) & ~(size_t)7, HEAD_BYTES, limit);

	if (s != NULL)
		s->owner = owner;
	return s;
}

static const struct head *head_of(const void *object)
{
	return (const struct head *)((uintptr_t)object & ~(uintptr_t)(DENSE_BLOCK - 1));
}

void *slab_dense_owner(const void *object)
{
	return head_of(object)->slab->owner;
}

handle_t slab_dense_handle(const void *object)
{
	const struct head *h = head_of(object);
	size_t at = (size_t)((const uint8_t *)object - (const uint8_t *)h) - HEAD_BYTES;
	uint32_t i = h->first + (uint32_t)(at / h->slab->object_bytes);

	return (uint64_t)h->slab->tags[i].generation << 32 | i;
}

void slab_destroy(struct slab *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; s->blocks != NULL && i <= block_of(s, s->limit); i++)
		free(s->blocks[i]);
	free(s->blocks);
	free(s->tags);
	free(s);
}

static void *object(const struct slab *s, uint32_t i)
{
	return s->blocks[block_of(s, i)] + s->head_bytes + s->object_bytes * place_of(s, i);
}

void *slab_alloc(struct slab *s, handle_t *h)
{
	uint32_t i;

	if (s->first_free != 0) {
		i = s->first_free - 1;
		s->first_free = s->tags[i].next_free;
	} else {
		if (s->extent == s->limit)
			return NULL;
		i = s->extent;
		if (place_of(s, i) == 0) {
			uint8_t *b = s->head_bytes > 0
					     ? aligned_alloc(DENSE_BLOCK, DENSE_BLOCK)
					     : aligned_alloc(64, s->object_bytes * BLOCK_OBJECTS);
			if (b == NULL)
				return NULL;
			if (s->head_bytes > 0)
				*(struct head *)b = (struct head){s, i};
			s->blocks[block_of(s, i)] = b;
		}
		s->extent++;
	}
	s->tags[i].generation++;
	s->used++;
	if (h != NULL)
		*h = (uint64_t)s->tags[i].generation << 32 | i;
	return memset(object(s, i), 0, s->object_bytes);
}

void slab_free(struct slab *s, handle_t h)
{
	uint32_t i = (uint32_t)h;

	assert(slab_get(s, h) != NULL);
	s->tags[i].generation++;
	s->tags[i].next_free = s->first_free;
	s->first_free = i + 1;
	s->used--;
}

void *slab_get(const struct slab *s, handle_t h)
{
	uint32_t i = (uint32_t)h, generation = (uint32_t)(h >> 32);

	if (i >= s->extent || (generation & 1) == 0 || s->tags[i].generation != generation)
		return NULL;
	return object(s, i);
}

void *slab_at(const struct slab *s, uint32_t i, handle_t *h)
{
	if (i >= s->extent || (s->tags[i].generation & 1) == 0)
		return NULL;
	if (h != NULL)
		*h = (uint64_t)s->tags[i].generation << 32 | i;
	return object(s, i);
}

void *slab_object(const struct slab *s, uint32_t i)
{
	return object(s, i);
}

uint32_t slab_extent(const struct slab *s)
{
	return s->extent;
}

uint32_t slab_used(const struct slab *s)
{
	return s->used;
}

uint32_t slab_limit(const struct slab *s)
{
	return s->limit;
}
