/* flow_table.c - linear probing with backward-shift deletion */
#include "dataplane/tcp/flow_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int flow_table_init(struct flow_table *f, uint32_t entries, const struct siphash_key *key)
{
	uint64_t want = (uint64_t)entries + entries / 2 + 8, size = 16;

	while (size < want)
		size *= 2;
	f->slots = calloc(size, sizeof(*f->slots));
	if (f->slots == NULL)
		return -ENOMEM;
	f->mask = (uint32_t)(size - 1);
	f->used = 0;
	f->key = *key;
	return 0;
}

void flow_table_free(struct flow_table *f)
{
	free(f->slots);
	f->slots = NULL;
}

uint32_t flow_hash(const struct flow_table *f, const struct flow_key *key)
{
	uint8_t ip4[12];

	if (!flow_is_ip4(key->peer) || !flow_is_ip4(key->local))
		return (uint32_t)siphash(&f->key, key, sizeof(*key));
	/* the prefix that all of IPv4 shares costs time and tells nothing */
	memcpy(ip4, key->peer + 12, 4);
	memcpy(ip4 + 4, key->local + 12, 4);
	memcpy(ip4 + 8, &key->peer_port, 4);
	return (uint32_t)siphash(&f->key, ip4, sizeof(ip4));
}

uint32_t flow_find(const struct flow_table *f, const struct flow_key *key, uint32_t hash,
		   flow_key_of *key_of, const void *arg)
{
	for (uint32_t i = hash & f->mask; f->slots[i].reference != 0; i = (i + 1) & f->mask) {
		uint32_t ref = f->slots[i].reference - 1;

		if (f->slots[i].tag == hash && memcmp(key_of(arg, ref), key, sizeof(*key)) == 0)
			return ref;
	}
	return FLOW_NONE;
}

uint32_t flow_guess(const struct flow_table *f, uint32_t hash)
{
	for (uint32_t i = hash & f->mask; f->slots[i].reference != 0; i = (i + 1) & f->mask) {
		if (f->slots[i].tag == hash)
			return f->slots[i].reference - 1;
	}
	return FLOW_NONE;
}

void flow_insert(struct flow_table *f, uint32_t hash, uint32_t reference)
{
	uint32_t i = hash & f->mask;

	assert(f->used < f->mask);
	while (f->slots[i].reference != 0)
		i = (i + 1) & f->mask;
	f->slots[i] = (struct flow_slot){hash, reference + 1};
	f->used++;
}

static uint32_t slot_of(const struct flow_table *f, uint32_t hash, uint32_t reference)
{
	uint32_t i = hash & f->mask;

	while (f->slots[i].reference != reference + 1) {
		assert(f->slots[i].reference != 0);
		i = (i + 1) & f->mask;
	}
	return i;
}

void flow_remove(struct flow_table *f, uint32_t hash, uint32_t reference)
{
	uint32_t hole = slot_of(f, hash, reference);

	for (uint32_t i = (hole + 1) & f->mask; f->slots[i].reference != 0; i = (i + 1) & f->mask) {
		uint32_t home = f->slots[i].tag & f->mask;

		/* It may move into the hole unless its home lies behind the hole. */
		if (((i - home) & f->mask) >= ((i - hole) & f->mask)) {
			f->slots[hole] = f->slots[i];
			hole = i;
		}
	}
	f->slots[hole] = (struct flow_slot){0, 0};
	f->used--;
}

void flow_replace(struct flow_table *f, uint32_t hash, uint32_t old, uint32_t reference)
{
	f->slots[slot_of(f, hash, old)].reference = reference + 1;
}

struct ip_addr flow_ip(const uint8_t address[16])
{
	struct ip_addr a = {.family = 6};

	if (flow_is_ip4(address))
		return addr_ip4(address + 12);
	memcpy(a.byte, address, 16);
	return a;
}
