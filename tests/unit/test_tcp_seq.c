/* test_tcp_seq.c - sequence arithmetic, exhaustively where it can go wrong */
#include "dataplane/tcp/seq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SPAN = 600 };

/* Bases around which every pair within SPAN is tried */
static const uint32_t bases[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffe00, 0xffffffff};
enum { BASES = sizeof(bases) / sizeof(bases[0]) };

static void order_is_that_of_the_signed_distance(void **state)
{
	for (unsigned b = 0; b < BASES; b++) {
		for (int i = -SPAN; i <= SPAN; i++) {
			uint32_t x = bases[b], y = x + (uint32_t)i;
			assert_int_equal(seq_lt(x, y), i > 0);
			assert_int_equal(seq_le(x, y), i >= 0);
			assert_int_equal(seq_gt(x, y), i < 0);
			assert_int_equal(seq_ge(x, y), i <= 0);
			assert_int_equal(seq_max(x, y), i > 0 ? y : x);
			assert_int_equal(seq_min(x, y), i < 0 ? y : x);
		}
	}
}

static void order_holds_up_to_half_of_the_space(void **state)
{
	for (unsigned b = 0; b < BASES; b++) {
		uint32_t x = bases[b];
		assert_true(seq_lt(x, x + 0x7fffffff));
		assert_true(seq_gt(x, x - 0x7fffffff));
		assert_false(seq_gt(x, x + 0x7fffffff));
	}
}

static void membership_is_that_of_the_walked_range(void **state)
{
	enum { RANGE = 40 };

	for (unsigned b = 0; b < BASES; b++) {
		for (uint32_t n = 0; n <= RANGE; n++) {
			uint32_t from = bases[b] - RANGE / 2;
			for (uint32_t i = 0; i < 2 * RANGE; i++) {
				uint32_t x = from - RANGE / 2 + i;
				bool inside = false;
				for (uint32_t k = 0; k < n; k++)
					inside |= from + k == x;
				assert_int_equal(seq_in(x, from, from + n), inside);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_is_that_of_the_signed_distance),
		cmocka_unit_test(order_holds_up_to_half_of_the_space),
		cmocka_unit_test(membership_is_that_of_the_walked_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
