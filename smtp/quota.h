/*
 * quota.h - token buckets and counts that all workers share: one 8-byte cell a bucket, changed by
 * compare-and-swap, so that a limit is exact whatever worker a session is on.
 *
 * A bucket holds rate.count tokens when it is full and fills at rate.count per rate.per_us: in no
 * window of that length more than twice the count passes, and the count on average.  A cell keeps
 * the time at which its bucket will be full (GCRA); one that is full says nothing, so its cell
 * is free for another key.  The table is bounded: where the 16 cells of a key are all in use by
 * others, it finds none, nothing is limited, and the caller counts it.
 *
 * Cells are named by 29 bits of a keyed hash besides their place: among 100,000 keys in 262,144
 * cells one pair in a thousand such tables shares a bucket, and nobody can aim at one.  Time is
 * kept in tenths of a millisecond: rates over 5,000 a second are rounded down.
 *
 * Owner: one table a process, made by the main thread.
 * Runs on: any worker, and the control thread for reports.
 * Units: microseconds of one clock for all callers; periods of a day at most.
 */
#ifndef SMTP_QUOTA_H
#define SMTP_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct quota_table;

struct quota_rate {
	uint64_t count, per_us; /* count 0: no limit */
};

enum quota_verdict {
	QUOTA_TAKEN,
	QUOTA_EXHAUSTED,
	QUOTA_NO_CELL, /* nothing is limited */
};

/* cells: a power of two; NULL when memory is short. */
struct quota_table *quota_create(unsigned cells);
void quota_destroy(struct quota_table *t);

/* What a bucket is about ('u' messages of a user, ...) and whose it is. */
uint64_t quota_key(const struct quota_table *t, char kind, const void *name, size_t n);

/* Takes cost tokens.  QUOTA_EXHAUSTED: none are taken, and *wait_us is the time until they are
 * there (UINT64_MAX: never, the cost is more than the bucket). */
enum quota_verdict quota_take(struct quota_table *t, uint64_t key, const struct quota_rate *r,
			      uint64_t cost, uint64_t now_us, uint64_t *wait_us);
/* Takes them though they are not there: the bucket is empty for longer. */
void quota_owe(struct quota_table *t, uint64_t key, const struct quota_rate *r, uint64_t cost,
	       uint64_t now_us);
void quota_give_back(struct quota_table *t, uint64_t key, const struct quota_rate *r, uint64_t cost,
		     uint64_t now_us);
/* Tokens that are out at this moment; more than the count where they are owed. */
uint64_t quota_used(const struct quota_table *t, uint64_t key, const struct quota_rate *r,
		    uint64_t now_us);

/* Forgets full buckets.  At least once a day: times wrap round after ten days. */
void quota_sweep(struct quota_table *t, uint64_t now_us);

/* A count of what is there now (sessions): up to limit. */
enum quota_verdict quota_enter(struct quota_table *t, uint64_t key, uint64_t limit);
/* Only after QUOTA_TAKEN. */
void quota_leave(struct quota_table *t, uint64_t key);
uint64_t quota_inside(const struct quota_table *t, uint64_t key);

#endif
