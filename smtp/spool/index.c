/* index.c - chained hash of live messages, doubled when it fills */
#include "smtp/spool/index.h"

#include "smtp/spool/record.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_BUCKETS = 1024 };

/* Ids are handed out by this spool in rising order, so one multiplication spreads them. */
static size_t slot_of(const struct spool_index *x, uint64_t id)
{
	return (size_t)(id * 0x9e3779b97f4a7c15ull >> 20) & (x->buckets - 1);
}

int index_init(struct spool_index *x)
{
	x->bucket = calloc(FIRST_BUCKETS, sizeof(*x->bucket));
	if (x->bucket == NULL)
		return -ENOMEM;
	x->buckets = FIRST_BUCKETS;
	x->used = 0;
	return -pthread_mutex_init(&x->lock, NULL);
}

bool entry_holds(uint64_t body_bytes, uint32_t recipients, uint32_t envelope_bytes,
		 uint32_t prefix_bytes)
{
	return body_bytes < 1ull << 38 && recipients < 1u << 20 && envelope_bytes < 1u << 21 &&
	       prefix_bytes < 1u << 16;
}

uint32_t entry_record_bytes(const struct spool_entry *e)
{
	uint64_t parts = (uint64_t)MESSAGE_HEAD_BYTES + e->envelope_bytes + e->prefix_bytes;

	return (uint32_t)record_bytes((uint32_t)(parts + (e->large ? 0 : e->body_bytes)));
}

uint64_t entry_offset(const struct spool_entry *e)
{
	return (uint64_t)e->units * RECORD_ALIGN;
}

void entry_move(struct spool_entry *e, uint64_t offset)
{
	assert(offset / RECORD_ALIGN < 1u << 27 && offset % RECORD_ALIGN == 0);
	e->units = offset / RECORD_ALIGN;
}

void entry_free(struct spool_entry *e)
{
	if (e != NULL)
		free(e->state);
	free(e);
}

void index_free(struct spool_index *x)
{
	for (size_t i = 0; i < x->buckets; i++) {
		for (struct spool_entry *e = x->bucket[i], *next; e != NULL; e = next) {
			next = e->next;
			entry_free(e);
		}
	}
	free(x->bucket);
	pthread_mutex_destroy(&x->lock);
}

struct spool_entry *index_find(const struct spool_index *x, uint64_t id)
{
	struct spool_entry *e = x->bucket[slot_of(x, id)];

	while (e != NULL && e->id != id)
		e = e->next;
	return e;
}

void index_widen(struct spool_index *x, struct spool_index *wider)
{
	if (wider->buckets <= x->buckets) {
		free(wider->bucket);
		wider->bucket = NULL;
		return;
	}
	for (size_t i = 0; i < x->buckets; i++) {
		for (struct spool_entry *e = x->bucket[i], *next; e != NULL; e = next) {
			struct spool_entry **to = &wider->bucket[slot_of(wider, e->id)];

			next = e->next;
			e->next = *to;
			*to = e;
		}
	}
	free(x->bucket);
	x->bucket = wider->bucket;
	x->buckets = wider->buckets;
	wider->bucket = NULL;
}

static void grow(struct spool_index *x)
{
	struct spool_index wider = {.buckets = x->buckets * 2};

	wider.bucket = calloc(wider.buckets, sizeof(*wider.bucket));
	if (wider.bucket != NULL)
		index_widen(x, &wider);
}

void index_insert(struct spool_index *x, struct spool_entry *e)
{
	if (x->used >= x->buckets)
		grow(x);
	struct spool_entry **at = &x->bucket[slot_of(x, e->id)];
	e->next = *at;
	*at = e;
	x->used++;
}

void index_remove(struct spool_index *x, struct spool_entry *e)
{
	struct spool_entry **at = &x->bucket[slot_of(x, e->id)];

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	x->used--;
}

void index_mark_dying(struct spool_index *x, struct spool_entry *e, bool dying)
{
	pthread_mutex_lock(&x->lock);
	e->dying = dying;
	pthread_mutex_unlock(&x->lock);
}

struct spool_entry *index_pop(struct spool_index *x)
{
	while (x->popped < x->buckets && x->bucket[x->popped] == NULL)
		x->popped++;
	if (x->popped == x->buckets)
		return NULL;
	struct spool_entry *e = x->bucket[x->popped];
	x->bucket[x->popped] = e->next;
	x->used--;
	return e;
}

struct spool_entry *index_next(const struct spool_index *x, const struct spool_entry *e)
{
	size_t i = 0;

	if (e != NULL) {
		if (e->next != NULL)
			return e->next;
		i = slot_of(x, e->id) + 1;
	}
	for (; i < x->buckets; i++) {
		if (x->bucket[i] != NULL)
			return x->bucket[i];
	}
	return NULL;
}

struct spool_state *entry_state(struct spool_entry *e)
{
	if (e->state == NULL) {
		/* One byte at least, so that done[0] may be looked at. */
		e->state = calloc(1, offsetof(struct spool_state, done) +
					     bitmap_bytes(e->recipients) + 1);
	}
	return e->state;
}
