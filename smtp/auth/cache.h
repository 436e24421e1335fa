/*
 * cache.h - keys of credentials that have been verified lately.
 *
 * A key is an HMAC over user, password and stored record, so the cache holds nothing from which
 * a password could be tried, and a changed record simply never matches again.  All entries
 * live equally long; hence the oldest is also the first to expire, and it makes room.
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

/* NULL when memory is short. */
struct cache *cache_create(uint32_t entries, uint64_t ttl_us);
void cache_destroy(struct cache *c);
bool cache_has(const struct cache *c, const uint8_t *key, uint64_t now_us);
/* true: an entry that was still valid made room. */
bool cache_put(struct cache *c, const uint8_t *key, uint64_t now_us);

#endif
