/*
 * timer.h - hierarchical timer wheel, 1 ms slots, exact due times.
 *
 * timer_advance() fires every timer due on the way in the order of its own due time, and each
 * one sees shard.now_us == its due time.  Arming is O(1).  How many timers wait for later makes
 * no turn longer: they come nearer a few at a time.
 *
 * Owner: the struct timer is embedded in its user's object and must be cancelled before that
 *        object goes.
 * Runs on: the worker of the wheel.
 * Units: microseconds of shard.now_us.
 */
#ifndef BASE_TIMER_H
#define BASE_TIMER_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct shard;
struct timer_wheel;

struct timer {
	struct list link;
	uint64_t due_us;
	void (*fire)(struct timer *t); /* the timer is disarmed before the call */
};

struct timer_wheel *timer_wheel_create(uint64_t now_us);
void timer_wheel_destroy(struct timer_wheel *w);

static inline void timer_init(struct timer *t, void (*fire)(struct timer *t))
{
	list_init(&t->link);
	t->fire = fire;
}

static inline bool timer_armed(const struct timer *t)
{
	return !list_empty(&t->link);
}

/* (Re-)arms; a due time in the past fires at the next timer_advance(). */
void timer_arm(struct timer_wheel *w, struct timer *t, uint64_t due_us);
void timer_cancel(struct timer_wheel *w, struct timer *t);

/* Moves shard->now_us to now_us (>= current) and fires what is due; the number fired. */
unsigned timer_advance(struct shard *shard, uint64_t now_us);
/* Exact due time of the earliest armed timer; UINT64_MAX if none.  As long as the timers of a
 * slot are many. */
uint64_t timer_next(const struct timer_wheel *w);
/* No timer is due before; UINT64_MAX if none is armed.  Exact for what is due soon, and cheap
 * whatever waits for later. */
uint64_t timer_not_before(const struct timer_wheel *w);

#endif
