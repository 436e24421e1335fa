/* test_quota.c - token buckets and counts that workers share */
#include "smtp/quota.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SECOND = 1000000, START = 5 * SECOND };

static const struct quota_rate ten_a_minute = {10, 60ull * SECOND};

static uint64_t key(const struct quota_table *t, unsigned i)
{
	return quota_key(t, 'u', &i, sizeof(i));
}

static bool take(struct quota_table *t, uint64_t k, const struct quota_rate *r, uint64_t cost,
		 uint64_t now)
{
	uint64_t wait;

	return quota_take(t, k, r, cost, now, &wait) == QUOTA_TAKEN;
}

static void a_full_bucket_gives_its_count_at_once_and_then_by_time(void **state)
{
	struct quota_table *t = quota_create(1024);
	uint64_t k = key(t, 1), wait = 0;

	for (unsigned i = 0; i < 10; i++)
		assert_true(take(t, k, &ten_a_minute, 1, START));
	assert_int_equal(quota_take(t, k, &ten_a_minute, 1, START, &wait), QUOTA_EXHAUSTED);
	assert_int_equal(wait, 6 * SECOND);
	assert_int_equal(quota_used(t, k, &ten_a_minute, START), 10);
	assert_false(take(t, k, &ten_a_minute, 1, START + 6 * SECOND - 1));
	assert_true(take(t, k, &ten_a_minute, 1, START + 6 * SECOND));
	assert_false(take(t, k, &ten_a_minute, 1, START + 6 * SECOND));
	/* idle for a period: full, and no fuller */
	for (unsigned i = 0; i < 10; i++)
		assert_true(take(t, k, &ten_a_minute, 1, START + 1000ull * SECOND));
	assert_false(take(t, k, &ten_a_minute, 1, START + 1000ull * SECOND));
	quota_destroy(t);
}

static void more_than_the_bucket_holds_is_never_there(void **state)
{
	struct quota_table *t = quota_create(1024);
	uint64_t wait = 0;

	assert_int_equal(quota_take(t, key(t, 1), &ten_a_minute, 11, START, &wait),
			 QUOTA_EXHAUSTED);
	assert_true(wait == UINT64_MAX);
	assert_true(take(t, key(t, 1), &ten_a_minute, 10, START));
	quota_destroy(t);
}

static void what_is_given_back_can_be_taken_again(void **state)
{
	struct quota_table *t = quota_create(1024);
	uint64_t k = key(t, 1);

	assert_true(take(t, k, &ten_a_minute, 10, START));
	quota_give_back(t, k, &ten_a_minute, 4, START);
	assert_int_equal(quota_used(t, k, &ten_a_minute, START), 6);
	assert_true(take(t, k, &ten_a_minute, 4, START));
	assert_false(take(t, k, &ten_a_minute, 1, START));
	/* giving back more than was taken does not fill it beyond its count */
	quota_give_back(t, k, &ten_a_minute, 1000, START);
	assert_true(take(t, k, &ten_a_minute, 10, START));
	assert_false(take(t, k, &ten_a_minute, 1, START));
	quota_destroy(t);
}

static void what_is_owed_is_paid_back_by_time(void **state)
{
	struct quota_table *t = quota_create(1024);
	uint64_t k = key(t, 1), wait;

	quota_owe(t, k, &ten_a_minute, 30, START);
	assert_int_equal(quota_used(t, k, &ten_a_minute, START), 30);
	assert_int_equal(quota_take(t, k, &ten_a_minute, 1, START, &wait), QUOTA_EXHAUSTED);
	assert_int_equal(wait, 126 * SECOND);
	assert_true(take(t, k, &ten_a_minute, 1, START + 126ull * SECOND));
	quota_destroy(t);
}

static void no_rate_limits_nothing(void **state)
{
	struct quota_table *t = quota_create(8);
	const struct quota_rate none = {0, 0};

	for (unsigned i = 0; i < 1000; i++)
		assert_true(take(t, key(t, 1), &none, 1000000, START));
	assert_int_equal(quota_used(t, key(t, 1), &none, START), 0);
	quota_destroy(t);
}

static void keys_and_kinds_have_buckets_of_their_own(void **state)
{
	struct quota_table *t = quota_create(65536);
	const struct quota_rate one = {1, 3600ull * SECOND};

	for (unsigned i = 0; i < 4000; i++) {
		assert_true(take(t, key(t, i), &one, 1, START));
		assert_true(take(t, quota_key(t, 'r', &i, sizeof(i)), &one, 1, START));
		assert_int_equal(quota_enter(t, key(t, i), 1), QUOTA_TAKEN);
	}
	for (unsigned i = 0; i < 4000; i++) {
		assert_false(take(t, key(t, i), &one, 1, START));
		assert_int_equal(quota_enter(t, key(t, i), 1), QUOTA_EXHAUSTED);
	}
	quota_destroy(t);
}

static void full_buckets_make_room_and_a_full_table_limits_nothing(void **state)
{
	struct quota_table *t = quota_create(16);
	const struct quota_rate one = {1, SECOND};
	unsigned no_cell = 0;
	uint64_t wait;

	for (unsigned i = 0; i < 1000; i++)
		no_cell += quota_take(t, key(t, i), &one, 1, START, &wait) == QUOTA_NO_CELL;
	assert_true(no_cell >= 1000 - 16);
	/* a second later all of them are full, so none is remembered */
	for (unsigned i = 2000; i < 2004; i++)
		assert_int_equal(quota_take(t, key(t, i), &one, 1, START + 2 * SECOND, &wait),
				 QUOTA_TAKEN);
	quota_destroy(t);
}

/* The clock's units wrap round after twenty days. */
static void buckets_work_across_the_wrap_and_old_ones_are_swept(void **state)
{
	struct quota_table *t = quota_create(1024);
	const uint64_t wrap = (UINT64_C(1) << 34) * 100;

	for (uint64_t start = wrap - 30ull * SECOND; start < 5 * wrap; start += wrap) {
		uint64_t k = key(t, (unsigned)(start / wrap));
		assert_true(take(t, k, &ten_a_minute, 10, start));
		assert_int_equal(quota_used(t, k, &ten_a_minute, start + 31ull * SECOND), 5);
		assert_false(take(t, k, &ten_a_minute, 6, start + 31ull * SECOND));
		for (unsigned hour = 1; hour < 600; hour++) {
			quota_sweep(t, start + hour * 3600ull * SECOND);
			assert_int_equal(
				quota_used(t, k, &ten_a_minute, start + hour * 3600ull * SECOND),
				0);
		}
	}
	quota_destroy(t);
}

static void a_count_goes_up_to_its_limit_and_down_again(void **state)
{
	struct quota_table *t = quota_create(1024);
	uint64_t k = key(t, 9);

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(quota_enter(t, k, 3), QUOTA_TAKEN);
	assert_int_equal(quota_enter(t, k, 3), QUOTA_EXHAUSTED);
	assert_int_equal(quota_inside(t, k), 3);
	quota_leave(t, k);
	assert_int_equal(quota_enter(t, k, 3), QUOTA_TAKEN);
	for (unsigned i = 0; i < 5; i++)
		quota_leave(t, k);
	assert_int_equal(quota_inside(t, k), 0);
	quota_destroy(t);
}

/* Every window of the period sees twice the count at most, and the count on average. */
static void no_pattern_of_asking_gets_more_than_the_rate(void **state)
{
	struct quota_table *t = quota_create(64);
	const struct quota_rate r = {100, 10ull * SECOND};
	uint64_t now = START, random = 88172645463325252ull, *times = calloc(100000, 8);
	unsigned n = 0, first = 0;

	while (now < START + 1000ull * SECOND) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		now += random % (random % 3 == 0 ? 3000000 : 20000);
		if (!take(t, key(t, 1), &r, 1, now))
			continue;
		times[n++] = now;
		while (times[first] + r.per_us < now)
			first++;
		assert_true(n - first <= 2 * r.count + 1);
	}
	assert_true(n <= 100 + 100 * 100);
	free(times);
	quota_destroy(t);
}

enum { THREADS = 4, TRIES = 200000 };

struct racer {
	struct quota_table *t;
	uint64_t key, taken, entered;
	_Atomic int64_t *inside;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	const struct quota_rate rate = {100000, 3600ull * SECOND};

	for (unsigned i = 0; i < TRIES; i++) {
		r->taken += take(r->t, r->key, &rate, 1, START);
		if (quota_enter(r->t, r->key, 2) != QUOTA_TAKEN)
			continue;
		r->entered++;
		if (atomic_fetch_add(r->inside, 1) >= 2)
			abort();
		atomic_fetch_sub(r->inside, 1);
		quota_leave(r->t, r->key);
	}
	return NULL;
}

static void workers_together_take_exactly_the_count(void **state)
{
	struct quota_table *t = quota_create(1024);
	_Atomic int64_t inside = 0;
	struct racer racers[THREADS];
	pthread_t thread[THREADS];
	uint64_t taken = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		racers[i] = (struct racer){.t = t, .key = key(t, 5), .inside = &inside};
		assert_int_equal(pthread_create(&thread[i], NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		taken += racers[i].taken;
	}
	assert_int_equal(taken, 100000);
	assert_int_equal(quota_inside(t, key(t, 5)), 0);
	quota_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_bucket_gives_its_count_at_once_and_then_by_time),
		cmocka_unit_test(more_than_the_bucket_holds_is_never_there),
		cmocka_unit_test(what_is_given_back_can_be_taken_again),
		cmocka_unit_test(what_is_owed_is_paid_back_by_time),
		cmocka_unit_test(no_rate_limits_nothing),
		cmocka_unit_test(keys_and_kinds_have_buckets_of_their_own),
		cmocka_unit_test(full_buckets_make_room_and_a_full_table_limits_nothing),
		cmocka_unit_test(buckets_work_across_the_wrap_and_old_ones_are_swept),
		cmocka_unit_test(a_count_goes_up_to_its_limit_and_down_again),
		cmocka_unit_test(no_pattern_of_asking_gets_more_than_the_rate),
		cmocka_unit_test(workers_together_take_exactly_the_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
