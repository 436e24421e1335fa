/*
 * flow_table.h - from the 4-tuple of a segment to its stream, TIME_WAIT or half-open entry.
 *
 * Open addressing over 8-byte slots {tag, reference}; the tag is the keyed 32-bit hash, so that
 * a look-up reads a stream only when the tag agrees, and deletion shifts back without reading
 * any.  SipHash keyed per boot: a peer cannot choose colliding ports.
 *
 * Owner: the stack.  Runs on: its worker.
 * Errors: the table is sized for all streams and entries at creation: never full.
 */
#ifndef DATAPLANE_TCP_FLOW_TABLE_H
#define DATAPLANE_TCP_FLOW_TABLE_H

#include "base/addr.h"
#include "base/siphash.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* IPv4 is kept as ::ffff:a.b.c.d; such addresses never arrive over IPv6 (segment.c). */
struct flow_key {
	uint8_t peer[16], local[16];
	uint16_t peer_port, local_port; /* host order */
};

/* What a slot refers to: the index of a stream; with one of the top bits, of a TIME_WAIT or a
 * half-open entry. */
#define FLOW_TIME_WAIT 0x80000000u
#define FLOW_SYN       0x40000000u
#define FLOW_TAGS      (FLOW_TIME_WAIT | FLOW_SYN)
#define FLOW_NONE      UINT32_MAX

struct flow_slot {
	uint32_t tag;
	uint32_t reference; /* + 1; 0: empty */
};

struct flow_table {
	struct flow_slot *slots;
	uint32_t mask, used;
	struct siphash_key key;
};

typedef const struct flow_key *flow_key_of(const void *arg, uint32_t reference);

int flow_table_init(struct flow_table *f, uint32_t entries, const struct siphash_key *key);
void flow_table_free(struct flow_table *f);

uint32_t flow_hash(const struct flow_table *f, const struct flow_key *key);
/* FLOW_NONE if there is none; key_of gives the key behind a reference. */
uint32_t flow_find(const struct flow_table *f, const struct flow_key *key, uint32_t hash,
		   flow_key_of *key_of, const void *arg);
/* The slot where a look-up begins is fetched; then the first reference there with that hash,
 * perhaps of another key: FLOW_NONE if there is none. */
static inline void flow_prefetch(const struct flow_table *f, uint32_t hash)
{
	__builtin_prefetch(&f->slots[hash & f->mask]);
}
uint32_t flow_guess(const struct flow_table *f, uint32_t hash);
void flow_insert(struct flow_table *f, uint32_t hash, uint32_t reference);
void flow_remove(struct flow_table *f, uint32_t hash, uint32_t reference);
/* The slot of old gets another reference: a stream that becomes a TIME_WAIT entry. */
void flow_replace(struct flow_table *f, uint32_t hash, uint32_t old, uint32_t reference);

static inline void flow_address(uint8_t to[16], const struct ip_addr *from)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (from->family == 6) {
		memcpy(to, from->byte, 16);
		return;
	}
	memcpy(to, mapped, 12);
	memcpy(to + 12, from->byte, 4);
}

static inline bool flow_is_ip4(const uint8_t address[16])
{
	uint64_t zeros;
	uint32_t ones;

	memcpy(&zeros, address, 8);
	memcpy(&ones, address + 8, 4);
	return zeros == 0 && ones == htonl(0xffff);
}

struct ip_addr flow_ip(const uint8_t address[16]);

#endif
