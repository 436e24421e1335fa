/*
 * cache.h - keys of credentials that have been verified lately.
 *
 * A key is an HMAC over user, password and stored record, so the cache holds nothing from which
 * a password could be tried, and a changed record simply never matches again.  The oldest entry
 * makes room.  With a key goes a value, of which the cache has a reference of its own.
 *
 * Owner: one worker.
 * Runs on: that worker; memory is taken at creation, touched as it fills.
 * Units: microseconds of shard.now_us.
 */
#ifndef SMTP_AUTH_CACHE_H
#define SMTP_AUTH_CACHE_H

#include <stdbool.h>
#include <stdint.h>

enum { CACHE_KEY_BYTES = 32 };

struct cache;

/* release: of a value; NULL when memory is short. */
struct cache *cache_create(uint32_t entries, void (*release)(void *value));
void cache_destroy(struct cache *c);
/* value: borrowed until the next cache_put(); NULL there: not wanted. */
bool cache_has(const struct cache *c, const uint8_t *key, uint64_t now_us, void **value);
/* Takes the value over, NULL or not.  true: an entry that was still valid made room. */
bool cache_put(struct cache *c, const uint8_t *key, void *value, uint64_t ttl_us, uint64_t now_us);

#endif
