/* ids.c - a set of 64-bit hashes, open addressing: 16 octets an entry at most */
#include "perf/bench/engine.h"

#include "base/siphash.h"

#include <stdlib.h>

struct id_set {
	uint64_t *slot; /* 0: empty */
	size_t slots, used;
};

struct id_set *id_set_create(void)
{
	struct id_set *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->slots = 1 << 16;
	s->slot = calloc(s->slots, sizeof(*s->slot));
	if (s->slot != NULL)
		return s;
	free(s);
	return NULL;
}

void id_set_destroy(struct id_set *s)
{
	if (s == NULL)
		return;
	free(s->slot);
	free(s);
}

static bool put(uint64_t *slot, size_t slots, uint64_t h)
{
	size_t i = (size_t)h & (slots - 1);

	while (slot[i] != 0 && slot[i] != h)
		i = (i + 1) & (slots - 1);
	bool fresh = slot[i] == 0;
	slot[i] = h;
	return fresh;
}

static void grow(struct id_set *s)
{
	uint64_t *wider = calloc(s->slots * 2, sizeof(*wider));

	if (wider == NULL) {
		memset(s->slot, 0, s->slots * sizeof(*s->slot));
		s->used = 0;
		return;
	}
	for (size_t i = 0; i < s->slots; i++)
		if (s->slot[i] != 0)
			put(wider, s->slots * 2, s->slot[i]);
	free(s->slot);
	s->slot = wider;
	s->slots *= 2;
}

bool id_set_add(struct id_set *s, const void *data, size_t n)
{
	static const struct siphash_key key = {{0x706f737465726e21, 0x62656e6368206964}};
	uint64_t h = siphash(&key, data, n);

	if (s->used * 4 > s->slots * 3)
		grow(s);
	bool fresh = put(s->slot, s->slots, h != 0 ? h : 1);
	s->used += fresh;
	return fresh;
}
