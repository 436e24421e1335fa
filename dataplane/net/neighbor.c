/* neighbor.c - one writer, lock-free readers */
#include "dataplane/net/neighbor.h"

#include <stdatomic.h>
#include <string.h>

static unsigned slot_of(const struct neighbor_table *t, uint32_t ip, unsigned probe)
{
	uint32_t h = (ip ^ t->hash_key) * 0x9e3779b1u;

	return ((h >> 16 ^ h) + probe) & (NEIGHBOR_SLOTS - 1);
}

static uint64_t word_of(enum neighbor_state state, const uint8_t mac[6])
{
	uint64_t w = 0;

	if (mac != NULL)
		memcpy(&w, mac, 6);
	return (w & 0xffffffffffffULL) | (uint64_t)state << 48;
}

enum neighbor_state neighbor_get(struct neighbor_table *t, uint32_t ip, uint8_t mac[6])
{
	for (unsigned p = 0; p < NEIGHBOR_PROBES; p++) {
		struct neighbor *n = &t->slots[slot_of(t, ip, p)];
		if (atomic_load_explicit(&n->ip, memory_order_acquire) != ip)
			continue;
		uint64_t w = atomic_load_explicit(&n->word, memory_order_acquire);
		if (atomic_load_explicit(&n->ip, memory_order_relaxed) != ip)
			return NEIGHBOR_NONE;
		memcpy(mac, &w, 6);
		return (enum neighbor_state)(w >> 48);
	}
	return NEIGHBOR_NONE;
}

struct neighbor *neighbor_entry(struct neighbor_table *t, uint32_t ip, bool create)
{
	struct neighbor *stalest = NULL;

	for (unsigned p = 0; p < NEIGHBOR_PROBES; p++) {
		struct neighbor *n = &t->slots[slot_of(t, ip, p)];
		uint32_t have = atomic_load_explicit(&n->ip, memory_order_relaxed);
		if (have == ip)
			return n;
		if (stalest == NULL || (have == 0 && stalest->ip != 0) ||
		    (stalest->ip != 0 && n->changed_us < stalest->changed_us))
			stalest = n;
	}
	if (!create)
		return NULL;
	atomic_store_explicit(&stalest->ip, 0, memory_order_release);
	neighbor_set(stalest, NEIGHBOR_NONE, NULL);
	stalest->requests = 0;
	stalest->changed_us = 0;
	atomic_store_explicit(&stalest->ip, ip, memory_order_release);
	return stalest;
}

void neighbor_set(struct neighbor *n, enum neighbor_state state, const uint8_t mac[6])
{
	atomic_store_explicit(&n->word, word_of(state, mac), memory_order_release);
}

enum neighbor_state neighbor_state(struct neighbor *n)
{
	return (enum neighbor_state)(atomic_load_explicit(&n->word, memory_order_relaxed) >> 48);
}
