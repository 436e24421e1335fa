/* steer.c - Toeplitz hash by byte tables */
#include "dataplane/net/steer.h"

/* 32 bits of the key from bit position at. */
static uint32_t key_window(const uint8_t *key, unsigned at)
{
	uint64_t w = 0;

	for (unsigned i = 0; i < 5; i++)
		w = w << 8 | key[at / 8 + i];
	return (uint32_t)(w >> (8 - at % 8));
}

void steer_init(struct steer *s, const uint8_t key[STEER_KEY_BYTES], unsigned n_workers)
{
	s->n_workers = n_workers;
	memcpy(s->key, key, STEER_KEY_BYTES);
	for (unsigned byte = 0; byte < STEER_TUPLE_BYTES; byte++) {
		for (unsigned value = 0; value < 256; value++) {
			uint32_t h = 0;
			for (unsigned bit = 0; bit < 8; bit++) {
				if (value & 0x80u >> bit)
					h ^= key_window(key, byte * 8 + bit);
			}
			s->table[byte][value] = h;
		}
	}
}

uint32_t steer_hash(const struct steer *s, const uint8_t *source, const uint8_t *destination,
		    unsigned n, const uint8_t *ports)
{
	uint32_t h = 0;

	for (unsigned i = 0; i < n; i++) {
		h ^= s->table[i][source[i]];
		h ^= s->table[n + i][destination[i]];
	}
	for (unsigned i = 0; i < 4; i++)
		h ^= s->table[2 * n + i][ports[i]];
	return h;
}

unsigned steer_bucket_owner(const struct steer *s, uint32_t hash)
{
	return hash % STEER_BUCKETS % s->n_workers;
}

unsigned steer_owner(const struct steer *s, const uint8_t *source, const uint8_t *destination,
		     unsigned n, const uint8_t *ports)
{
	if (s->n_workers == 1)
		return 0;
	return steer_bucket_owner(s, steer_hash(s, source, destination, n, ports));
}
