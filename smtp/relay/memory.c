/*
 * memory.c - messages as they were accepted, kept for their first attempt: the spool has them, and
 * whatever goes wrong here, it is read.
 *
 * A copy is its envelope, prefix and body packed into as few chunks as hold them, what describes
 * it in front.  The oldest goes first: when the budget is spent, and when the pool's chunks run
 * short, before that costs a session anything.
 */
#include "smtp/relay/memory.h"

#include "base/list.h"

#include <stdlib.h>
#include <string.h>

enum {
	PRESSED_PERCENT = 60, /* of the pool; at 70 sessions give up what they hold */
	GIVE_UP_AT_ONCE = 64,
};

/* At data[] of its first chunk; the octets follow. */
struct copy {
	struct list link;  /* in memory->idle, or nowhere: attempts read it */
	struct copy *next; /* in its bucket */
	struct chunk *chunks;
	spool_id_t id;
	size_t bytes;   /* of the pool */
	unsigned users; /* attempts */
	bool known;     /* in its bucket */
	uint32_t envelope_bytes;
	uint64_t content_bytes;
};

struct memory {
	struct chunk_pool *chunks;
	uint64_t *counters;
	size_t budget, used;
	struct list idle; /* the oldest in front */
	unsigned bits;
	struct copy *bucket[]; /* 1 << bits */
};

struct memory *memory_create(struct chunk_pool *chunks, size_t budget, uint64_t *counters)
{
	unsigned bits = 6;

	while ((size_t)1 << bits < chunk_pool_bytes(chunks) / chunk_capacity(CHUNK_16K))
		bits++;
	struct memory *m = calloc(1, sizeof(*m) + sizeof(m->bucket[0]) * ((size_t)1 << bits));
	if (m == NULL)
		return NULL;
	m->chunks = chunks;
	m->counters = counters;
	m->bits = bits;
	m->budget = budget;
	list_init(&m->idle);
	return m;
}

static struct copy **bucket_of(struct memory *m, spool_id_t id)
{
	return &m->bucket[id * 0x9e3779b97f4a7c15u >> (64 - m->bits)];
}

static void copy_free(struct memory *m, struct copy *c)
{
	m->used -= c->bytes;
	counter_set(&m->counters[relay_memory_bytes], m->used);
	list_del(&c->link);
	/* it lies in the first of them */
	chunk_free_list(m->chunks, c->chunks);
}

/* No further attempt finds it. */
static void copy_forget(struct memory *m, struct copy *c)
{
	struct copy **at = bucket_of(m, c->id);

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->known = false;
	if (c->users == 0)
		copy_free(m, c);
}

static struct copy *copy_find(struct memory *m, spool_id_t id)
{
	struct copy *c = *bucket_of(m, id);

	while (c != NULL && c->id != id)
		c = c->next;
	return c;
}

/* false: attempts read all that are left. */
static bool give_up_oldest(struct memory *m)
{
	if (list_empty(&m->idle))
		return false;
	counter_inc(&m->counters[relay_memory_evictions]);
	copy_forget(m, container_of(m->idle.next, struct copy, link));
	return true;
}

void memory_destroy(struct memory *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < (size_t)1 << m->bits; i++) {
		while (m->bucket[i] != NULL) {
			m->bucket[i]->users = 0;
			copy_forget(m, m->bucket[i]);
		}
	}
	free(m);
}

void memory_limit(struct memory *m, size_t budget)
{
	m->budget = budget;
	while (m->used > budget && give_up_oldest(m))
		;
}

static bool pressed(const struct memory *m)
{
	return chunk_pool_percent(m->chunks) >= PRESSED_PERCENT;
}

unsigned memory_relieve(struct memory *m)
{
	unsigned n = 0;

	while (n < GIVE_UP_AT_ONCE && pressed(m) && give_up_oldest(m))
		n++;
	return n;
}

static enum chunk_size size_for(size_t left)
{
	return left <= 2 * chunk_capacity(CHUNK_4K)    ? CHUNK_4K
	       : left <= 3 * chunk_capacity(CHUNK_16K) ? CHUNK_16K
						       : CHUNK_64K;
}

/* Chunks with room for so many octets, linked, all empty; NULL: not now. */
static struct chunk *room_for(struct memory *m, size_t octets)
{
	struct chunk *first = NULL, **at = &first;

	while (octets > 0) {
		struct chunk *c = chunk_alloc(m->chunks, size_for(octets), false);
		if (c == NULL) {
			chunk_free_list(m->chunks, first);
			return NULL;
		}
		c->next = NULL;
		c->start = c->end = 0;
		octets -= octets < c->size ? octets : c->size;
		*at = c;
		at = &c->next;
	}
	return first;
}

static struct chunk *put(struct chunk *to, const uint8_t *from, size_t n)
{
	while (n > 0) {
		size_t room = to->size - to->end;
		size_t now = n < room ? n : room;
		memcpy(to->data + to->end, from, now);
		to->end += (uint32_t)now;
		from += now;
		n -= now;
		if (n > 0)
			to = to->next;
	}
	return to;
}

/* What the octets will take of the pool, before any of it is taken. */
static size_t cost_of(size_t octets)
{
	size_t bytes = 0;

	while (octets > 0) {
		size_t size = chunk_capacity(size_for(octets));
		bytes += size + sizeof(struct chunk);
		octets -= octets < size ? octets : size;
	}
	return bytes;
}

void memory_keep(struct memory *m, const struct spool_request *commit)
{
	uint64_t content = commit->prefix_bytes + commit->body_bytes;
	size_t octets = sizeof(struct copy) + commit->envelope_bytes + (size_t)content;
	size_t cost = cost_of(octets);

	if (commit->large || cost > m->budget || pressed(m))
		return;
	while (m->used + cost > m->budget)
		if (!give_up_oldest(m))
			return;
	struct chunk *chunks = room_for(m, octets), *to = chunks;
	if (chunks == NULL)
		return;
	struct copy *c = (struct copy *)chunks->data, **at = bucket_of(m, commit->id);
	*c = (struct copy){
		.next = *at,
		.chunks = chunks,
		.id = commit->id,
		.bytes = cost,
		.known = true,
		.envelope_bytes = commit->envelope_bytes,
		.content_bytes = content,
	};
	*at = c;
	chunks->start = chunks->end = sizeof(*c);
	to = put(to, commit->envelope, commit->envelope_bytes);
	to = put(to, commit->prefix, commit->prefix_bytes);
	for (const struct chunk *b = commit->chunks; b != NULL; b = b->next)
		to = put(to, b->data + b->start, b->end - b->start);
	list_push_back(&m->idle, &c->link);
	m->used += cost;
	counter_set(&m->counters[relay_memory_bytes], m->used);
}

struct copy *memory_take(struct memory *m, spool_id_t id)
{
	struct copy *c = copy_find(m, id);

	if (c == NULL)
		return NULL;
	if (c->users++ == 0)
		list_del(&c->link);
	return c;
}

void memory_give_back(struct memory *m, struct copy *c)
{
	if (--c->users > 0)
		return;
	if (c->known)
		list_push_front(&m->idle, &c->link);
	else
		copy_free(m, c);
}

void memory_forget(struct memory *m, spool_id_t id)
{
	struct copy *c = copy_find(m, id);

	if (c != NULL)
		copy_forget(m, c);
}

/* At octet `at` of all; those that follow in its chunk. */
static size_t octets_at(const struct copy *c, uint64_t at, const uint8_t **p)
{
	const struct chunk *k = c->chunks;

	while (k != NULL && at >= k->end - k->start) {
		at -= k->end - k->start;
		k = k->next;
	}
	if (k == NULL)
		return 0;
	*p = k->data + k->start + at;
	return k->end - k->start - (size_t)at;
}

size_t memory_content(const struct copy *c, uint64_t offset, const uint8_t **p)
{
	return octets_at(c, c->envelope_bytes + offset, p);
}

bool memory_envelope(const struct copy *c, struct chunk *to)
{
	const uint8_t *p = NULL;

	if (to->size < c->envelope_bytes)
		return false;
	for (to->end = 0; to->end < c->envelope_bytes;) {
		size_t n = octets_at(c, to->end, &p), left = c->envelope_bytes - to->end;
		n = n < left ? n : left;
		memcpy(to->data + to->end, p, n);
		to->end += (uint32_t)n;
	}
	return true;
}
