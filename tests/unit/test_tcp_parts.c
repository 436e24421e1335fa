/* test_tcp_parts.c - checksum, options and flow table against plain models */
#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/flow_table.h"
#include "dataplane/tcp/options.h"
#include "tests/sim/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* RFC 1071 section 4.1, word by word */
static uint16_t plain_checksum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (i & 1) != 0 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void checksum_equals_the_plain_sum_for_every_length(void **state)
{
	uint8_t data[300];
	uint64_t seed = 7;

	for (size_t n = 0; n <= sizeof(data); n++) {
		for (size_t i = 0; i < n; i++)
			data[i] = n % 3 == 0 ? 0xff : (uint8_t)random_next(&seed);
		assert_int_equal(checksum_finish(checksum_add(0, data, n)),
				 plain_checksum(data, n));
	}
}

static void checksum_may_be_split_at_even_places(void **state)
{
	uint8_t data[128];
	uint64_t seed = 9;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)random_next(&seed);
	for (size_t at = 0; at <= sizeof(data); at += 2) {
		uint64_t sum = checksum_add(0, data, at);
		assert_int_equal(checksum_finish(checksum_add(sum, data + at, sizeof(data) - at)),
				 plain_checksum(data, sizeof(data)));
	}
}

static void written_syn_options_read_back_in_every_combination(void **state)
{
	for (unsigned mask = 0; mask < 16; mask++) {
		struct tcp_options o = {.has_mss = true,
					.mss = 1460,
					.has_scale = mask & 1,
					.scale = mask & 1 ? 7 : 0,
					.sack_permitted = mask & 2,
					.has_timestamp = mask & 4,
					.ts_value = mask & 4 ? 0x01020304 : 0,
					.ts_echo = mask & 4 ? 0xfffefdfc : 0},
				   back;
		uint8_t bytes[OPTIONS_MAX_BYTES];
		enum tcp_option_layout layout = mask & 8 ? TCP_OPTIONS_FREEBSD : TCP_OPTIONS_LINUX;
		size_t n = options_write_syn(bytes, &o, layout);

		assert_true(n <= OPTIONS_MAX_BYTES && n % 4 == 0);
		assert_true(options_parse(&back, bytes, n));
		assert_int_equal(back.mss, o.mss);
		assert_int_equal(back.has_scale, o.has_scale);
		assert_int_equal(back.scale, o.scale);
		assert_int_equal(back.sack_permitted, o.sack_permitted);
		assert_int_equal(back.has_timestamp, o.has_timestamp);
		assert_int_equal(back.ts_value, o.ts_value);
		assert_int_equal(back.ts_echo, o.ts_echo);
	}
}

static void syn_options_have_the_layout_of_the_configuration(void **state)
{
	static const uint8_t linux_bytes[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0,
					      0, 1, 0, 0,    0, 2, 1, 3,  3, 7};
	static const uint8_t freebsd_bytes[] = {2, 4,  5, 0xb4, 1, 3, 3, 7, 4, 2,
						8, 10, 0, 0,    0, 1, 0, 0, 0, 2};
	struct tcp_options o = {.has_mss = true,
				.mss = 1460,
				.has_scale = true,
				.scale = 7,
				.sack_permitted = true,
				.has_timestamp = true,
				.ts_value = 1,
				.ts_echo = 2};
	uint8_t bytes[OPTIONS_MAX_BYTES];

	assert_int_equal(options_write_syn(bytes, &o, TCP_OPTIONS_LINUX), 20);
	assert_memory_equal(bytes, linux_bytes, 20);
	assert_int_equal(options_write_syn(bytes, &o, TCP_OPTIONS_FREEBSD), 20);
	assert_memory_equal(bytes, freebsd_bytes, 20);
}

static void impossible_option_lengths_end_the_parse(void **state)
{
	static const struct {
		uint8_t bytes[8];
		size_t n;
		bool good;
		uint16_t mss;
	} cases[] = {
		{{2, 0, 5, 5}, 4, false, 0},                /* length 0 */
		{{2, 1, 5, 5}, 4, false, 0},                /* length 1 */
		{{2, 9, 5, 5}, 4, false, 0},                /* over the end */
		{{2}, 1, false, 0},                         /* no length at all */
		{{2, 4, 1, 0, 8, 10, 0, 0}, 8, false, 256}, /* what came before counts */
		{{2, 3, 9, 2, 4, 1, 0}, 7, true, 256}, /* a known kind, another length: skipped */
		{{99, 2, 2, 4, 1, 0}, 6, true, 256},   /* unknown kind */
		{{0, 2, 4, 1, 0}, 5, true, 0},         /* nothing counts after the end */
		{{1, 1, 2, 4, 1, 0}, 6, true, 256},
		{{3, 3, 99}, 3, true, 0},
	};
	struct tcp_options o;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(options_parse(&o, cases[i].bytes, cases[i].n), cases[i].good);
		assert_int_equal(o.mss, cases[i].mss);
		assert_true(o.scale <= 14);
	}
}

static void random_options_never_lead_outside(void **state)
{
	uint64_t seed = 11;
	struct tcp_options o;

	for (unsigned i = 0; i < 20000; i++) {
		size_t n = random_below(&seed, OPTIONS_MAX_BYTES + 1);
		uint8_t *bytes = malloc(n + 1); /* exact, so that a sanitizer sees one byte over */
		for (size_t k = 0; k < n; k++)
			bytes[k] = (uint8_t)random_below(&seed, i % 2 != 0 ? 12 : 256);
		options_parse(&o, bytes, n);
		assert_true(o.scale <= 14);
		free(bytes);
	}
}

enum { FLOWS = 500 };

static const struct flow_key *model_key(const void *arg, uint32_t reference)
{
	return &((const struct flow_key *)arg)[reference];
}

static void flow_table_agrees_with_a_list_under_random_use(void **state)
{
	static struct flow_key keys[FLOWS];
	bool present[FLOWS] = {false};
	struct siphash_key secret = {{1, 2}};
	struct flow_table f;
	uint64_t seed = 5;

	memset(keys, 0, sizeof(keys));
	assert_int_equal(flow_table_init(&f, FLOWS, &secret), 0);
	for (uint32_t i = 0; i < FLOWS; i++)
		keys[i].peer_port = (uint16_t)(i + 1);
	for (unsigned round = 0; round < 40000; round++) {
		uint32_t i = random_below(&seed, FLOWS);
		/* Few distinct hashes: long runs, which deletion must close. */
		uint32_t hash = flow_hash(&f, &keys[i]) & (round < 20000 ? 0xf : 0xffffffff);
		if (round == 20000) {
			for (uint32_t k = 0; k < FLOWS; k++) {
				if (present[k])
					flow_remove(&f, flow_hash(&f, &keys[k]) & 0xf, k);
				present[k] = false;
			}
			assert_int_equal(f.used, 0);
		}
		assert_int_equal(flow_find(&f, &keys[i], hash, model_key, keys),
				 present[i] ? i : FLOW_NONE);
		if (present[i])
			flow_remove(&f, hash, i);
		else
			flow_insert(&f, hash, i);
		present[i] = !present[i];
	}
	flow_table_free(&f);
}

static void both_families_survive_the_way_through_a_key(void **state)
{
	static const char *const texts[] = {"192.0.2.7", "255.255.255.255", "2001:db8::7", "::1"};

	for (unsigned i = 0; i < 4; i++) {
		struct ip_addr a;
		uint8_t key[16];

		assert_true(addr_parse(texts[i], &a));
		flow_address(key, &a);
		struct ip_addr b = flow_ip(key);
		assert_true(addr_equal(&a, &b));
		assert_int_equal(flow_is_ip4(key), a.family == 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_equals_the_plain_sum_for_every_length),
		cmocka_unit_test(checksum_may_be_split_at_even_places),
		cmocka_unit_test(written_syn_options_read_back_in_every_combination),
		cmocka_unit_test(syn_options_have_the_layout_of_the_configuration),
		cmocka_unit_test(impossible_option_lengths_end_the_parse),
		cmocka_unit_test(random_options_never_lead_outside),
		cmocka_unit_test(flow_table_agrees_with_a_list_under_random_use),
		cmocka_unit_test(both_families_survive_the_way_through_a_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
