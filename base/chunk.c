/* chunk.c - three sizes out of 64 KiB blocks; the block of a chunk is found by its address */
#include "base/chunk.h"

#include "base/list.h"

#include <assert.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 65536, RESERVE_SHARE = 16 };

static uint32_t gross(enum chunk_size size)
{
	return chunk_capacity(size) + (uint32_t)sizeof(struct chunk);
}

struct block {
	struct list link;   /* in free_blocks, or in partial[size] while it has a free chunk */
	struct chunk *free; /* free chunks of this block */
	uint16_t used;      /* chunks handed out */
	uint8_t size;       /* enum chunk_size while in use */
};

struct chunk_pool {
	uint8_t *memory;
	size_t n_blocks, free_count;
	unsigned percent; /* of the blocks, in use */
	struct list free_blocks;
	struct list partial[CHUNK_SIZES];
	struct block blocks[];
};

/* Blocks come and go seldom, and the share is asked for with every segment. */
static void note_percent(struct chunk_pool *p)
{
	p->percent = p->n_blocks == 0
			     ? 100
			     : (unsigned)((p->n_blocks - p->free_count) * 100 / p->n_blocks);
}

struct chunk_pool *chunk_pool_create(void *memory, size_t bytes)
{
	size_t n = bytes / BLOCK_BYTES;
	struct chunk_pool *p = calloc(1, sizeof(*p) + n * sizeof(struct block));

	if (p == NULL)
		return NULL;
	p->memory = memory;
	p->n_blocks = p->free_count = n;
	note_percent(p);
	list_init(&p->free_blocks);
	for (unsigned i = 0; i < CHUNK_SIZES; i++)
		list_init(&p->partial[i]);
	for (size_t i = 0; i < n; i++)
		list_push_back(&p->free_blocks, &p->blocks[i].link);
	return p;
}

void chunk_pool_destroy(struct chunk_pool *p)
{
	free(p);
}

/* Carves a fresh block into chunks of one size. */
static struct block *block_begin(struct chunk_pool *p, enum chunk_size size, bool urgent)
{
	if (!urgent && p->free_count <= p->n_blocks / RESERVE_SHARE)
		return NULL;
	struct list *l = list_pop_front(&p->free_blocks);
	if (l == NULL)
		return NULL;
	struct block *b = container_of(l, struct block, link);
	uint8_t *base = p->memory + (size_t)(b - p->blocks) * BLOCK_BYTES;
	p->free_count--;
	note_percent(p);
	b->used = 0;
	b->size = (uint8_t)size;
	b->free = NULL;
	for (size_t at = BLOCK_BYTES; at > 0; at -= gross(size)) {
		struct chunk *c = (struct chunk *)(base + at - gross(size));
		c->next = b->free;
		b->free = c;
	}
	list_push_front(&p->partial[size], &b->link);
	return b;
}

struct chunk *chunk_alloc(struct chunk_pool *p, enum chunk_size size, bool urgent)
{
	struct block *b;

	if (list_empty(&p->partial[size])) {
		b = block_begin(p, size, urgent);
		if (b == NULL)
			return NULL;
	} else {
		b = container_of(p->partial[size].next, struct block, link);
	}
	struct chunk *c = b->free;
	b->free = c->next;
	b->used++;
	if (b->free == NULL)
		list_del(&b->link);
	*c = (struct chunk){.size = chunk_capacity(size)};
	return c;
}

void chunk_free(struct chunk_pool *p, struct chunk *c)
{
	size_t i = (size_t)((uint8_t *)c - p->memory) / BLOCK_BYTES;
	struct block *b = &p->blocks[i];

	assert(i < p->n_blocks && b->used > 0);
	if (b->free == NULL)
		list_push_front(&p->partial[b->size], &b->link);
	c->next = b->free;
	b->free = c;
	if (--b->used == 0) {
		list_del(&b->link);
		list_push_front(&p->free_blocks, &b->link);
		p->free_count++;
		note_percent(p);
	}
}

void chunk_free_list(struct chunk_pool *p, struct chunk *c)
{
	while (c != NULL) {
		struct chunk *next = c->next;
		chunk_free(p, c);
		c = next;
	}
}

size_t chunk_pool_used(const struct chunk_pool *p)
{
	return (p->n_blocks - p->free_count) * BLOCK_BYTES;
}

size_t chunk_pool_bytes(const struct chunk_pool *p)
{
	return p->n_blocks * BLOCK_BYTES;
}

unsigned chunk_pool_percent(const struct chunk_pool *p)
{
	return p->percent;
}
