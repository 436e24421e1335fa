/* limits.c - how many sessions there may be: in all, and from one address, over all workers */
#include "smtp/internal.h"

#include <stdlib.h>
#include <sys/random.h>

enum {
	ADDRESS_SLOTS = 1 << 16,
	QUOTA_CELLS = 1 << 18,
	DUPLICATES = 1 << 16,
	MEMORY_PERCENT = 90,
	SYN_PERCENT = 95
};

struct smtp_shared *smtp_shared_create(const struct smtp_config *c)
{
	struct smtp_shared *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->config = *c;
	s->by_address = calloc(ADDRESS_SLOTS, sizeof(*s->by_address));
	s->quotas = quota_create(QUOTA_CELLS);
	if (c->duplicates)
		s->duplicates = duplicates_create(DUPLICATES);
	if (s->by_address == NULL || s->quotas == NULL ||
	    (c->duplicates && s->duplicates == NULL) ||
	    getrandom(&s->key, sizeof(s->key), 0) != sizeof(s->key)) {
		smtp_shared_destroy(s);
		return NULL;
	}
	return s;
}

void smtp_shared_destroy(struct smtp_shared *s)
{
	if (s == NULL)
		return;
	free(s->by_address);
	quota_destroy(s->quotas);
	duplicates_destroy(s->duplicates);
	free(s);
}

static bool exempt(const struct smtp_config *c, const struct ip_addr *peer)
{
	for (unsigned i = 0; i < c->n_exempt; i++) {
		if (addr_same_network(&c->exempt[i].addr, peer, c->exempt[i].bits))
			return true;
	}
	return false;
}

/* The two counters of a peer; for IPv6 the /64 counts. */
static void address_slots(struct smtp_shared *s, const struct ip_addr *peer,
			  _Atomic uint32_t *slot[2])
{
	uint64_t h = siphash(&s->key, peer->byte, peer->family == 6 ? 8 : 4);

	slot[0] = &s->by_address[h & (ADDRESS_SLOTS - 1)];
	slot[1] = &s->by_address[h >> 32 & (ADDRESS_SLOTS - 1)];
	/* never the same one twice: its owner would count double */
	if (slot[1] == slot[0])
		slot[1] = &s->by_address[(h & (ADDRESS_SLOTS - 1)) ^ 1];
}

static bool memory_short(struct smtp_worker *w, unsigned percent)
{
	return chunk_pool_percent(w->shard->chunks) >= percent ||
	       (w->config->tls_memory > 0 &&
		tls_memory_used() >= w->config->tls_memory * percent / 100);
}

enum admission limits_enter(struct smtp_worker *w, const struct ip_addr *peer)
{
	struct smtp_shared *s = w->shared;
	uint32_t most = w->config->sessions_per_address;
	_Atomic uint32_t *slot[2];

	if (memory_short(w, MEMORY_PERCENT)) {
		smtp_count(w, smtp_sessions_refused_memory);
		return ADMIT_MEMORY;
	}
	address_slots(s, peer, slot);
	if (most > 0 && !exempt(w->config, peer) && atomic_load(slot[0]) >= most &&
	    atomic_load(slot[1]) >= most) {
		smtp_count(w, smtp_sessions_refused_address);
		return ADMIT_ADDRESS;
	}
	if (atomic_fetch_add(&s->sessions, 1) >= w->config->sessions) {
		atomic_fetch_sub(&s->sessions, 1);
		smtp_count(w, smtp_sessions_refused);
		return ADMIT_TOO_MANY;
	}
	atomic_fetch_add(slot[0], 1);
	atomic_fetch_add(slot[1], 1);
	return ADMIT;
}

void limits_leave(struct smtp_worker *w, const struct ip_addr *peer)
{
	_Atomic uint32_t *slot[2];

	address_slots(w->shared, peer, slot);
	atomic_fetch_sub(slot[0], 1);
	atomic_fetch_sub(slot[1], 1);
	atomic_fetch_sub(&w->shared->sessions, 1);
}

bool smtp_admit(void *listener, const struct ip_addr *peer)
{
	const struct smtp_listener *l = listener;

	return !l->worker->draining && !memory_short(l->worker, SYN_PERCENT);
}
