/*
 * shard.h - what all layers of one worker share: time, timers, chunk memory, randomness.
 *
 * No layer reads a clock or draws randomness by itself: the daemon's worker loop, or a test in
 * virtual time, sets now_us and random64.  Hence a failing seed replays exactly.
 *
 * Owner: the worker loop (or the test), for as long as any layer on it lives.
 * Runs on: its worker only.
 */
#ifndef BASE_SHARD_H
#define BASE_SHARD_H

#include "base/chunk.h"
#include "base/timer.h"

#include <stdint.h>

struct shard {
	uint64_t now_us;        /* monotone; read once a loop; inside a timer: its due time */
	int64_t wall_offset_us; /* wall clock (UNIX epoch, microseconds) = now_us + this */
	unsigned index;         /* worker number, from 0 */
	struct chunk_pool *chunks;
	struct timer_wheel *timers;
	uint64_t (*random64)(void *arg);
	void *random_arg;
};

static inline uint64_t shard_random(struct shard *s)
{
	return s->random64(s->random_arg);
}

/* Seconds since the UNIX epoch. */
static inline int64_t shard_wall_s(const struct shard *s)
{
	return ((int64_t)s->now_us + s->wall_offset_us) / 1000000;
}

#endif
