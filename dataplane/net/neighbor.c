/* neighbor.c - one writer, lock-free readers */
#include "dataplane/net/neighbor.h"

#include <stdatomic.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct key {
	uint64_t w[2];
};

static struct key key_of(const struct ip_addr *ip)
{
	uint8_t b[16];
	struct key k;

	if (ip->family == 6) {
		memcpy(b, ip->byte, 16);
	} else {
		memcpy(b, mapped, 12);
		memcpy(b + 12, ip->byte, 4);
	}
	memcpy(k.w, b, 16);
	return k;
}

static unsigned slot_of(const struct neighbor_table *t, const struct key *k, unsigned probe)
{
	uint64_t h = (k->w[0] ^ t->hash_key) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 29 ^ k->w[1]) * 0xbf58476d1ce4e5b9ULL;
	return (unsigned)((h >> 40) + probe) & (NEIGHBOR_SLOTS - 1);
}

static uint64_t load(const _Atomic uint64_t *p)
{
	return atomic_load_explicit((_Atomic uint64_t *)p, memory_order_acquire);
}

enum neighbor_state neighbor_get(struct neighbor_table *t, const struct ip_addr *ip, uint8_t mac[6])
{
	struct key k = key_of(ip);

	for (unsigned p = 0; p < NEIGHBOR_PROBES; p++) {
		struct neighbor *n = &t->slots[slot_of(t, &k, p)];
		uint32_t version = atomic_load_explicit(&n->version, memory_order_acquire);
		if (load(&n->key[0]) != k.w[0] || load(&n->key[1]) != k.w[1])
			continue;
		uint64_t w = load(&n->word);
		atomic_thread_fence(memory_order_acquire);
		if ((version & 1) != 0 ||
		    atomic_load_explicit(&n->version, memory_order_relaxed) != version)
			return NEIGHBOR_NONE;
		memcpy(mac, &w, 6);
		return (enum neighbor_state)(w >> 48);
	}
	return NEIGHBOR_NONE;
}

static bool is_free(const struct neighbor *n)
{
	return load(&n->key[0]) == 0 && load(&n->key[1]) == 0;
}

static void take_over(struct neighbor *n, const struct key *k)
{
	atomic_fetch_add_explicit(&n->version, 1, memory_order_acq_rel);
	atomic_store_explicit(&n->key[0], k->w[0], memory_order_release);
	atomic_store_explicit(&n->key[1], k->w[1], memory_order_release);
	neighbor_set(n, NEIGHBOR_NONE, NULL);
	n->requests = 0;
	n->changed_us = 0;
	atomic_fetch_add_explicit(&n->version, 1, memory_order_release);
}

struct neighbor *neighbor_entry(struct neighbor_table *t, const struct ip_addr *ip, bool create)
{
	struct key k = key_of(ip);
	struct neighbor *stalest = NULL;

	for (unsigned p = 0; p < NEIGHBOR_PROBES; p++) {
		struct neighbor *n = &t->slots[slot_of(t, &k, p)];
		if (load(&n->key[0]) == k.w[0] && load(&n->key[1]) == k.w[1])
			return n;
		if (stalest == NULL || (is_free(n) && !is_free(stalest)) ||
		    (!is_free(stalest) && n->changed_us < stalest->changed_us))
			stalest = n;
	}
	if (!create)
		return NULL;
	take_over(stalest, &k);
	return stalest;
}

void neighbor_set(struct neighbor *n, enum neighbor_state state, const uint8_t mac[6])
{
	uint64_t w = 0;

	if (mac != NULL)
		memcpy(&w, mac, 6);
	atomic_store_explicit(&n->word, (w & 0xffffffffffffULL) | (uint64_t)state << 48,
			      memory_order_release);
}

enum neighbor_state neighbor_state(struct neighbor *n)
{
	return (enum neighbor_state)(load(&n->word) >> 48);
}

bool neighbor_address(struct neighbor *n, struct ip_addr *ip)
{
	uint64_t w[2] = {load(&n->key[0]), load(&n->key[1])};

	*ip = (struct ip_addr){.family = 6};
	memcpy(ip->byte, w, 16);
	if (memcmp(ip->byte, mapped, 12) == 0)
		*ip = addr_ip4((const uint8_t *)w + 12);
	return w[0] != 0 || w[1] != 0;
}
