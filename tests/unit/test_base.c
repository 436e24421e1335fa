/* test_base.c - the parts that every layer stands on */
#include "base/addr.h"
#include "base/chunk.h"
#include "base/crc32c.h"
#include "base/date.h"
#include "base/ring.h"
#include "base/shard.h"
#include "base/siphash.h"
#include "base/slab.h"
#include "base/timer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static void siphash_gives_the_vectors_of_its_paper(void **state)
{
	struct siphash_key key;
	uint8_t in[15];

	for (unsigned i = 0; i < 16; i++)
		((uint8_t *)&key)[i] = (uint8_t)i;
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)i;
	assert_int_equal(siphash(&key, in, sizeof(in)), 0xa129ca6149be45e5ULL);
	assert_int_equal(siphash(&key, in, 0), 0x726fdb47dd0e0e31ULL);
}

static void crc32c_gives_the_vectors_of_rfc_3720(void **state)
{
	uint8_t zeros[32] = {0}, ones[32], rising[32];

	memset(ones, 0xff, sizeof(ones));
	for (unsigned i = 0; i < 32; i++)
		rising[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(crc32c(0, ones, 32), 0x62a8ab43);
	assert_int_equal(crc32c(0, rising, 32), 0x46dd794e);
	for (unsigned cut = 0; cut <= 32; cut++)
		assert_int_equal(crc32c(crc32c(0, rising, cut), rising + cut, 32 - cut),
				 0x46dd794e);
}

static void date_is_written_as_rfc_5322_wants(void **state)
{
	char text[DATE_TEXT_BYTES];

	assert_string_equal(date_text(0, text), "Thu, 1 Jan 1970 00:00:00 +0000");
	assert_string_equal(date_text(1795567002, text), "Wed, 25 Nov 2026 00:36:42 +0000");
}

static void slab_refuses_stale_handles(void **state)
{
	struct slab *s = slab_create(40, 300);
	handle_t h[300], again;

	for (unsigned i = 0; i < 300; i++)
		assert_non_null(slab_alloc(s, &h[i]));
	assert_null(slab_alloc(s, &again));
	slab_free(s, h[7]);
	assert_null(slab_get(s, h[7]));
	uint8_t *p = slab_alloc(s, &again);
	assert_non_null(p);
	assert_int_equal((uint32_t)again, (uint32_t)h[7]);
	assert_true(again != h[7]);
	assert_null(slab_get(s, h[7]));
	assert_ptr_equal(slab_get(s, again), p);
	assert_null(slab_get(s, 0));
	assert_null(slab_get(s, UINT64_MAX));
	assert_int_equal(slab_used(s), 300);
	slab_destroy(s);
}

static void chunks_of_all_sizes_come_from_one_pool_and_return_to_it(void **state)
{
	enum { BLOCKS = 32 };
	void *memory = aligned_alloc(65536, (size_t)BLOCKS * 65536);
	struct chunk_pool *p = chunk_pool_create(memory, (size_t)BLOCKS * 65536);
	struct chunk *list = NULL;
	unsigned n = 0;

	/* small ones until the reserve is reached */
	for (struct chunk *c; (c = chunk_alloc(p, CHUNK_4K, false)) != NULL; n++) {
		memset(c->data, 0xa5, c->size);
		c->next = list;
		list = c;
	}
	assert_int_equal(n, (BLOCKS - BLOCKS / 16) * 16);
	assert_null(chunk_alloc(p, CHUNK_64K, false));
	struct chunk *urgent = chunk_alloc(p, CHUNK_64K, true);
	assert_non_null(urgent);
	chunk_free(p, urgent);
	chunk_free_list(p, list);
	assert_int_equal(chunk_pool_used(p), 0);
	/* the same blocks serve the other sizes now */
	list = NULL;
	for (n = 0; n < BLOCKS - BLOCKS / 16; n++) {
		struct chunk *c = chunk_alloc(p, CHUNK_64K, false);
		assert_non_null(c);
		assert_int_equal(c->size, chunk_capacity(CHUNK_64K));
		c->next = list;
		list = c;
	}
	assert_null(chunk_alloc(p, CHUNK_16K, false));
	chunk_free_list(p, list);
	assert_int_equal(chunk_pool_percent(p), 0);
	chunk_pool_destroy(p);
	free(memory);
}

static void ring_keeps_order_and_refuses_when_full(void **state)
{
	struct ring *r = ring_create(8);

	assert_null(ring_pop(r));
	for (uintptr_t round = 0; round < 5; round++) {
		for (uintptr_t i = 1; i <= 8; i++)
			assert_true(ring_push(r, (void *)(round * 8 + i)));
		assert_false(ring_push(r, (void *)999));
		assert_int_equal(ring_count(r), 8);
		for (uintptr_t i = 1; i <= 8; i++)
			assert_int_equal((uintptr_t)ring_pop(r), round * 8 + i);
	}
	assert_null(ring_pop(r));
	ring_destroy(r);
}

enum { PRODUCERS = 3, ITEMS = 20000 };

struct producer {
	struct ring *ring;
	uintptr_t first;
};

static void *produce(void *arg)
{
	struct producer *p = arg;

	for (uintptr_t i = 0; i < ITEMS; i++) {
		while (!ring_push(p->ring, (void *)(p->first + i)))
			sched_yield();
	}
	return NULL;
}

static void ring_loses_and_doubles_nothing_between_threads(void **state)
{
	struct ring *r = ring_create(64);
	struct producer p[PRODUCERS];
	pthread_t t[PRODUCERS];
	uint8_t *seen = calloc(PRODUCERS, ITEMS);
	uintptr_t last[PRODUCERS] = {0};

	for (unsigned i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){r, 1 + (uintptr_t)i * ITEMS};
		assert_int_equal(pthread_create(&t[i], NULL, produce, &p[i]), 0);
	}
	for (unsigned got = 0; got < PRODUCERS * ITEMS;) {
		uintptr_t v = (uintptr_t)ring_pop(r);
		if (v == 0) {
			sched_yield();
			continue;
		}
		assert_int_equal(seen[v - 1]++, 0);
		assert_true(v > last[(v - 1) / ITEMS]);
		last[(v - 1) / ITEMS] = v;
		got++;
	}
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(t[i], NULL);
	free(seen);
	ring_destroy(r);
}

struct bell {
	struct timer timer;
	struct shard *shard;
	uint64_t due, fired_at;
	unsigned fired;
	struct bell *chain; /* armed by this one's firing, for the same instant */
};

static uint64_t last_fired;

static void ring_bell(struct timer *t)
{
	struct bell *b = container_of(t, struct bell, timer);

	b->fired++;
	b->fired_at = b->shard->now_us;
	assert_true(b->fired_at >= last_fired);
	last_fired = b->fired_at;
	if (b->chain != NULL)
		timer_arm(b->shard->timers, &b->chain->timer, b->chain->due);
}

static void timers_fire_in_order_each_at_its_own_time(void **state)
{
	enum { N = 4000 };
	static struct bell bells[N];
	struct shard shard = {.now_us = 123456789};
	uint64_t seed = 42;

	last_fired = 0;
	shard.timers = timer_wheel_create(shard.now_us);
	for (unsigned i = 0; i < N; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		/* from microseconds to weeks */
		uint64_t span = 1ULL << (8 + (seed >> 33) % 34);
		bells[i] =
			(struct bell){.shard = &shard, .due = shard.now_us + (seed >> 20) % span};
		timer_init(&bells[i].timer, ring_bell);
		timer_arm(shard.timers, &bells[i].timer, bells[i].due);
	}
	for (unsigned i = 0; i < N; i += 10)
		timer_cancel(shard.timers, &bells[i].timer);
	uint64_t next;
	unsigned fired = 0;
	while ((next = timer_next(shard.timers)) != UINT64_MAX) {
		uint64_t before = shard.now_us;
		assert_int_equal(timer_advance(&shard, next - 1), 0);
		assert_true(next >= before);
		fired += timer_advance(&shard, next);
	}
	assert_int_equal(fired, N - N / 10);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(bells[i].fired, i % 10 != 0);
		if (i % 10 != 0)
			assert_int_equal(bells[i].fired_at, bells[i].due);
	}
	timer_wheel_destroy(shard.timers);
}

static void timer_armed_by_a_timer_for_the_same_advance_fires_in_it(void **state)
{
	struct shard shard = {.now_us = 1000000};
	struct bell a = {.shard = &shard, .due = 1000500}, b = {.shard = &shard, .due = 1000700},
		    c = {.shard = &shard, .due = 1000600};

	last_fired = 0;
	shard.timers = timer_wheel_create(shard.now_us);
	timer_init(&a.timer, ring_bell);
	timer_init(&b.timer, ring_bell);
	timer_init(&c.timer, ring_bell);
	a.chain = &c;
	timer_arm(shard.timers, &a.timer, a.due);
	timer_arm(shard.timers, &b.timer, b.due);
	assert_int_equal(timer_advance(&shard, 1000700), 3);
	assert_int_equal(c.fired_at, 1000600);
	assert_int_equal(b.fired_at, 1000700);
	timer_wheel_destroy(shard.timers);
}

static void flood_of_timers_in_one_slot_is_sorted(void **state)
{
	enum { N = 50000 };
	struct bell *bells = calloc(N, sizeof(*bells));
	struct shard shard = {.now_us = 0};

	last_fired = 0;
	shard.timers = timer_wheel_create(0);
	for (unsigned i = 0; i < N; i++) {
		bells[i] = (struct bell){.shard = &shard, .due = 5000 + (N - i) % 1000};
		timer_init(&bells[i].timer, ring_bell);
		timer_arm(shard.timers, &bells[i].timer, bells[i].due);
	}
	assert_int_equal(timer_advance(&shard, 6000), N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(bells[i].fired_at, bells[i].due);
	timer_wheel_destroy(shard.timers);
	free(bells);
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Half a million timers over an hour that begins in a while: no turn moves a large part of them. */
static void many_timers_for_later_come_nearer_a_few_at_a_time(void **state)
{
	enum { N = 500000, BEGIN_MS = 1000000, SPAN_MS = 3600000 };
	struct bell *bells = calloc(N, sizeof(*bells));
	struct shard shard = {.now_us = 0};
	uint64_t seed = 7, fired = 0, longest = 0;

	last_fired = 0;
	shard.timers = timer_wheel_create(0);
	uint64_t begun = clock_ns();
	for (unsigned i = 0; i < N; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		bells[i] = (struct bell){.shard = &shard,
					 .due = BEGIN_MS * 1000ull +
						(seed >> 20) % (SPAN_MS * 1000ull)};
		timer_init(&bells[i].timer, ring_bell);
		timer_arm(shard.timers, &bells[i].timer, bells[i].due);
	}
	uint64_t armed = clock_ns() - begun;
	for (uint64_t ms = 1; ms <= BEGIN_MS + SPAN_MS; ms++) {
		uint64_t before = clock_ns(), bound = timer_not_before(shard.timers);
		unsigned now = timer_advance(&shard, ms * 1000);
		uint64_t took = clock_ns() - before;

		assert_true(now == 0 || bound <= ms * 1000);
		fired += now;
		longest = took > longest ? took : longest;
	}
	assert_int_equal(fired, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(bells[i].fired_at, bells[i].due);
	print_message("# arming all %llu us, longest turn %llu us\n",
		      (unsigned long long)armed / 1000, (unsigned long long)longest / 1000);
	assert_true(longest < armed / 10);
	timer_wheel_destroy(shard.timers);
	free(bells);
}

static void addresses_round_trip(void **state)
{
	char text[ADDR_TEXT_BYTES];
	struct ip_addr a;

	assert_true(addr_parse("192.0.2.10", &a));
	assert_string_equal(addr_text(&a, text), "192.0.2.10");
	assert_true(addr_parse("2001:db8::10", &a));
	assert_string_equal(addr_text(&a, text), "2001:db8::10");
	assert_false(addr_parse("192.0.2.256", &a));
}

static void networks_are_compared_bit_by_bit(void **state)
{
	struct ip_addr a, b, six;

	assert_true(addr_parse("10.1.128.0", &a));
	assert_true(addr_parse("10.1.255.9", &b));
	assert_true(addr_parse("2001:db8::1", &six));
	for (unsigned bits = 0; bits <= 32; bits++)
		assert_int_equal(addr_same_network(&a, &b, bits), bits <= 17);
	assert_true(addr_same_network(&a, &a, 32));
	assert_true(addr_same_network(&six, &six, 128));
	assert_false(addr_same_network(&a, &six, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(siphash_gives_the_vectors_of_its_paper),
		cmocka_unit_test(crc32c_gives_the_vectors_of_rfc_3720),
		cmocka_unit_test(date_is_written_as_rfc_5322_wants),
		cmocka_unit_test(slab_refuses_stale_handles),
		cmocka_unit_test(chunks_of_all_sizes_come_from_one_pool_and_return_to_it),
		cmocka_unit_test(ring_keeps_order_and_refuses_when_full),
		cmocka_unit_test(ring_loses_and_doubles_nothing_between_threads),
		cmocka_unit_test(timers_fire_in_order_each_at_its_own_time),
		cmocka_unit_test(timer_armed_by_a_timer_for_the_same_advance_fires_in_it),
		cmocka_unit_test(flood_of_timers_in_one_slot_is_sorted),
		cmocka_unit_test(many_timers_for_later_come_nearer_a_few_at_a_time),
		cmocka_unit_test(addresses_round_trip),
		cmocka_unit_test(networks_are_compared_bit_by_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
