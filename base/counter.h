/*
 * counter.h - how everything is counted.
 *
 * A layer lists its counters once, in an X-macro table (name, unit, help); enum, names and
 * metrics come from it:
 *
 *	#define ARP_COUNTERS(X) \
 *		X(arp, requests_in, "packets", "ARP requests received") \
 *		X(arp, floods, "packets", "ARP replies nobody asked for, dropped")
 *	COUNTER_ENUM(arp, ARP_COUNTERS)            // enum arp_counter { arp_requests_in, ... }
 *	COUNTER_TABLE(arp, ARP_COUNTERS)           // in one .c: arp_counter_desc[]
 *
 * Owner: each instance (worker, thread) owns an array of uint64_t and is its only writer.
 * Runs on: written by its owner, read by any thread (relaxed atomics, no lock).
 */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include <stdint.h>

struct counter_desc {
	const char *name, *unit, *help;
};

#define COUNTER_ENUM_ROW(layer, name, unit, help)  layer##_##name,
#define COUNTER_TABLE_ROW(layer, name, unit, help) {#layer "_" #name, unit, help},
#define COUNTER_ENUM(layer, TABLE)                                           \
	enum layer##_counter{TABLE(COUNTER_ENUM_ROW) layer##_counter_count}; \
	extern const struct counter_desc layer##_counter_desc[];
#define COUNTER_TABLE(layer, TABLE) \
	const struct counter_desc layer##_counter_desc[] = {TABLE(COUNTER_TABLE_ROW)};

static inline void counter_add(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, __atomic_load_n(c, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline void counter_inc(uint64_t *c)
{
	counter_add(c, 1);
}

static inline void counter_set(uint64_t *c, uint64_t v)
{
	__atomic_store_n(c, v, __ATOMIC_RELAXED);
}

static inline uint64_t counter_read(const uint64_t *c)
{
	return __atomic_load_n(c, __ATOMIC_RELAXED);
}

#endif
