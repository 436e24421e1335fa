/* cache.c - a circular array in the order of insertion, with a hash index over it */
#include "smtp/auth/cache.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	uint8_t key[CACHE_KEY_BYTES];
	void *value;         /* NULL: none */
	uint64_t expires_us; /* 0: free */
	uint32_t next;       /* in the bucket: index + 1 */
};

struct cache {
	uint32_t entries, mask, oldest;
	void (*release)(void *value);
	struct entry *entry;
	uint32_t *bucket; /* index + 1 */
};

struct cache *cache_create(uint32_t entries, void (*release)(void *value))
{
	struct cache *c = calloc(1, sizeof(*c));
	uint32_t buckets = 1;

	if (c == NULL)
		return NULL;
	while (buckets < entries)
		buckets *= 2;
	c->entries = entries;
	c->mask = buckets - 1;
	c->release = release;
	c->entry = calloc(entries, sizeof(*c->entry));
	c->bucket = calloc(buckets, sizeof(*c->bucket));
	if (c->entry == NULL || c->bucket == NULL) {
		cache_destroy(c);
		return NULL;
	}
	return c;
}

static void drop_value(struct cache *c, struct entry *e)
{
	if (e->value != NULL)
		c->release(e->value);
	e->value = NULL;
}

void cache_destroy(struct cache *c)
{
	if (c == NULL)
		return;
	for (uint32_t i = 0; c->entry != NULL && i < c->entries; i++)
		drop_value(c, &c->entry[i]);
	free(c->entry);
	free(c->bucket);
	free(c);
}

/* The key is the output of an HMAC: any of its bits will do. */
static uint32_t *bucket_of(const struct cache *c, const uint8_t *key)
{
	uint32_t h;

	memcpy(&h, key, sizeof(h));
	return &c->bucket[h & c->mask];
}

static struct entry *find(const struct cache *c, const uint8_t *key)
{
	for (uint32_t i = *bucket_of(c, key); i != 0; i = c->entry[i - 1].next)
		if (CRYPTO_memcmp(c->entry[i - 1].key, key, CACHE_KEY_BYTES) == 0)
			return &c->entry[i - 1];
	return NULL;
}

bool cache_has(const struct cache *c, const uint8_t *key, uint64_t now_us, void **value)
{
	const struct entry *e = find(c, key);
	bool has = e != NULL && now_us < e->expires_us;

	if (value != NULL)
		*value = has ? e->value : NULL;
	return has;
}

static void unlink_entry(struct cache *c, uint32_t index)
{
	uint32_t *link = bucket_of(c, c->entry[index].key);

	while (*link != index + 1)
		link = &c->entry[*link - 1].next;
	*link = c->entry[index].next;
}

bool cache_put(struct cache *c, const uint8_t *key, void *value, uint64_t ttl_us, uint64_t now_us)
{
	struct entry *e = &c->entry[c->oldest];
	bool evicted = false;

	if (cache_has(c, key, now_us, NULL)) {
		if (value != NULL)
			c->release(value);
		return false;
	}
	if (e->expires_us != 0) {
		evicted = now_us < e->expires_us;
		unlink_entry(c, c->oldest);
		drop_value(c, e);
	}
	uint32_t *bucket = bucket_of(c, key);
	memcpy(e->key, key, CACHE_KEY_BYTES);
	e->value = value;
	e->expires_us = now_us + ttl_us;
	e->next = *bucket;
	*bucket = c->oldest + 1;
	c->oldest = (c->oldest + 1) % c->entries;
	return evicted;
}
