/* test_tcp_sim.c - connections over bad networks, in virtual time, many seeds.
 *
 * TCP_SIM_SEEDS=n: seeds a condition (default 300).  TCP_SIM_FIRST=n: the first seed.
 * A failure prints its seed; TCP_SIM_FIRST=seed TCP_SIM_SEEDS=1 NET_TRACE=1 replays it with every
 * packet. */
#include "tests/sim/flows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct net_conditions perfect = {.delay_us = 100};
static const struct net_conditions far = {.delay_us = 60000};
static const struct net_conditions loss_1 = {.delay_us = 10000, .loss = 100};
static const struct net_conditions loss_5 = {.delay_us = 5000, .loss = 500};
static const struct net_conditions loss_20 = {.delay_us = 1000, .loss = 2000};
static const struct net_conditions bursts = {
	.delay_us = 5000, .burst_start = 100, .burst_packets = 8};
static const struct net_conditions reorder = {
	.delay_us = 5000, .reorder = 1500, .reorder_us = 8000};
static const struct net_conditions duplicate = {.delay_us = 5000, .duplicate = 1000};
static const struct net_conditions corrupt = {.delay_us = 2000, .corrupt = 300};
static const struct net_conditions jitter = {.delay_us = 5000, .jitter_us = 60000};
static const struct net_conditions narrow = {
	.delay_us = 20000, .bits_per_s = 2000000, .queue_packets = 12};
static const struct net_conditions no_buffers = {
	.delay_us = 3000, .no_buffer = 2000, .hold_burst = 5000};
static const struct net_conditions held = {.delay_us = 1000, .loss = 100, .hold_burst = 8000};
static const struct net_conditions marking = {.delay_us = 8000, .loss = 50, .mark = 1000};
static const struct net_conditions shrinking = {
	.delay_us = 5000, .loss = 50, .path_mtu = 1300, .path_mtu_from_us = 150000};
static const struct net_conditions black_hole = {
	.delay_us = 5000, .path_mtu = 1300, .path_mtu_from_us = 150000, .path_mtu_silent = true};
static const struct net_conditions everything = {.delay_us = 8000,
						 .jitter_us = 3000,
						 .loss = 300,
						 .mark = 200,
						 .duplicate = 300,
						 .reorder = 300,
						 .reorder_us = 20000,
						 .corrupt = 100,
						 .burst_start = 30,
						 .burst_packets = 6,
						 .no_buffer = 100,
						 .hold_burst = 2000};

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoul(text, NULL, 10) : otherwise;
}

static void run(const struct net_conditions *conditions)
{
	unsigned long first = from_environment("TCP_SIM_FIRST", 1);
	unsigned long seeds = from_environment("TCP_SIM_SEEDS", 300);
	struct flows_result r = {0};

	for (unsigned long seed = first; seed < first + seeds; seed++)
		flows_run(seed, conditions, &r);
	print_message("# %lu seeds: %llu packets, %llu retransmitted, %llu bytes; flows: %u plain, "
		      "%u aborted, %u closed early, %u opened by both\n",
		      seeds, (unsigned long long)r.packets, (unsigned long long)r.retransmits,
		      (unsigned long long)r.bytes, r.plain, r.aborted, r.closed_early,
		      r.simultaneous);
	assert_true(r.packets > 0 && r.bytes > 0);
}

#define CONDITION_TEST(condition)                                 \
	static void connections_survive_##condition(void **state) \
	{                                                         \
		run(&condition);                                  \
	}

CONDITION_TEST(perfect)
CONDITION_TEST(far)
CONDITION_TEST(loss_1)
CONDITION_TEST(loss_5)
CONDITION_TEST(loss_20)
CONDITION_TEST(bursts)
CONDITION_TEST(reorder)
CONDITION_TEST(duplicate)
CONDITION_TEST(corrupt)
CONDITION_TEST(jitter)
CONDITION_TEST(narrow)
CONDITION_TEST(no_buffers)
CONDITION_TEST(held)
CONDITION_TEST(marking)
CONDITION_TEST(shrinking)
CONDITION_TEST(black_hole)
CONDITION_TEST(everything)

static void a_seed_replays_byte_by_byte(void **state)
{
	uint64_t digest[60];

	/* Everything in between leaves other garbage in memory: none of it may show. */
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 60; i++) {
			unsigned seed = round == 0 ? i : 59 - i;
			struct flows_result r = {0};
			flows_run(seed, &everything, &r);
			if (round == 0)
				digest[seed] = r.digest;
			assert_int_equal(digest[seed], r.digest);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_survive_perfect),
		cmocka_unit_test(connections_survive_far),
		cmocka_unit_test(connections_survive_loss_1),
		cmocka_unit_test(connections_survive_loss_5),
		cmocka_unit_test(connections_survive_loss_20),
		cmocka_unit_test(connections_survive_bursts),
		cmocka_unit_test(connections_survive_reorder),
		cmocka_unit_test(connections_survive_duplicate),
		cmocka_unit_test(connections_survive_corrupt),
		cmocka_unit_test(connections_survive_jitter),
		cmocka_unit_test(connections_survive_narrow),
		cmocka_unit_test(connections_survive_no_buffers),
		cmocka_unit_test(connections_survive_held),
		cmocka_unit_test(connections_survive_marking),
		cmocka_unit_test(connections_survive_shrinking),
		cmocka_unit_test(connections_survive_black_hole),
		cmocka_unit_test(connections_survive_everything),
		cmocka_unit_test(a_seed_replays_byte_by_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
