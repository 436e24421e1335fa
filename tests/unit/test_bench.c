/* test_bench.c - the load generator: what it counts, when it measures from, what it survives */
#include "tests/unit/bench_kit.h"

#include "perf/bench/values.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ARGUMENTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void histogram_keeps_every_value_within_a_64th(void **state)
{
	struct histogram *h = calloc(1, sizeof(*h));
	uint64_t top = 0;

	assert_non_null(h);
	for (uint64_t v = 0; v < 1ull << 40; v += v / 50 + 1) {
		unsigned i = histogram_index(v);
		assert_in_range(i, 0, HISTOGRAM_BUCKETS - 1);
		assert_true(histogram_top(i) >= v && histogram_top(i) - v <= v / 64);
		assert_true(histogram_top(i) >= top);
		top = histogram_top(i);
	}
	assert_int_equal(histogram_index(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	for (uint64_t v = 1; v <= 100; v++)
		histogram_record(h, v);
	assert_int_equal(histogram_at(h, 0.5), 50);
	assert_int_equal(histogram_at(h, 0.99), 99);
	assert_int_equal(histogram_at(h, 1), 100);
	assert_int_equal(histogram_at(h, 0), 1);
	free(h);
}

static void values_are_read_or_refused(void **state)
{
	struct bench_size z;
	uint64_t n;
	char text[32];

	assert_true(value_count("4K", 1 << 20, &n));
	assert_int_equal(n, 4096);
	assert_true(value_count("4k", 1 << 20, &n));
	assert_int_equal(n, 4000);
	assert_true(value_time("1.5ms", &n));
	assert_int_equal(n, 1500);
	assert_true(value_time("2m", &n));
	assert_int_equal(n, 120000000);
	static const char *const bad[] = {"", "x", "-1", "4Q", "4KK", "99999999999999999999"};
	for (unsigned i = 0; i < 6; i++)
		assert_false(value_count(bad[i], 1 << 20, &n));
	static const char *const bad_times[] = {"", "s", "5x", "-1s", "1e99", "nan"};
	for (unsigned i = 0; i < 6; i++)
		assert_false(value_time(bad_times[i], &n));
	strcpy(text, "30%4K-64K");
	assert_true(value_size(text, &z));
	assert_int_equal(z.from, 4096);
	assert_int_equal(z.to, 65536);
	strcpy(text, "~10K:1.2");
	assert_true(value_size(text, &z) && z.sigma > 1.1);
	static const char *const bad_sizes[] = {"64K-4K", "~10K", "%4K", "~:1", "4K-"};
	for (unsigned i = 0; i < 5; i++) {
		strcpy(text, bad_sizes[i]);
		assert_false(value_size(text, &z));
	}
}

static void options_that_contradict_each_other_are_refused(void **state)
{
	struct bench_options o;
	char *none[] = {"b", NULL}, *plain[] = {"b", "--user", "a", "plain://192.0.2.1", NULL},
	     *slo[] = {"b", "--slo", "p99>20ms", "smtp://192.0.2.1", NULL},
	     *scheme[] = {"b", "http://192.0.2.1", NULL},
	     *port[] = {"b", "smtp://192.0.2.1:70000", NULL},
	     *device[] = {"b", "--via", "net_tap0", "smtp://192.0.2.1", NULL};

	assert_int_not_equal(options_read(&o, 1, none), 0);
	assert_int_not_equal(options_read(&o, 4, plain), 0);
	assert_int_not_equal(options_read(&o, 4, slo), 0);
	assert_int_not_equal(options_read(&o, 2, scheme), 0);
	assert_int_not_equal(options_read(&o, 2, port), 0);
	assert_int_not_equal(options_read(&o, 4, device), 0);
	char *good[] = {"b", "--slo", "handshake:p99.9<50ms", "smtp://[2001:db8::1]:1587", NULL};
	assert_int_equal(options_read(&o, 4, good), 0);
	assert_true(o.slo.wanted && o.slo.metric == BENCH_HANDSHAKE_TIME && o.starttls);
	assert_int_equal(o.slo.below_us, 50000);
	assert_int_equal(o.port, 1587);
	assert_int_equal(o.target.family, 6);
}

/* Every message whole, whatever the pieces in which octets come and go. */
static void every_message_arrives_whole(void **state)
{
	static const size_t pieces[] = {0, 1, 7, 4096};
	static const char *const ways[][4] = {{"--pipelining", "on", "--bdat", "off"},
					      {"--pipelining", "off", "--bdat", "off"},
					      {"--pipelining", "on", "--bdat", "on"},
					      {"--pipelining", "off", "--bdat", "on"}};

	for (unsigned w = 0; w < 4; w++) {
		for (unsigned i = 0; i < 4; i++) {
			struct kit *k = kit_new(
				ARGUMENTS("--total", "30", "--messages", "4", "--sessions", "3",
					  "--size", "20K", "--recipients", "3", ways[w][0],
					  ways[w][1], ways[w][2], ways[w][3], "smtp://192.0.2.1"));
			k->cut = pieces[i];
			k->room = pieces[3 - i] != 0 ? pieces[3 - i] * 100 : 0;
			kit_begin(k);
			kit_run(k, 20000000);
			assert_int_equal(kit_count(k, bench_accepted), 30);
			assert_int_equal(kit_count(k, bench_done), 30);
			assert_int_equal(kit_count(k, bench_failed), 0);
			assert_int_equal(kit_count(k, bench_ids_repeated), 0);
			assert_int_equal(k->lone, 0);
			assert_int_equal(k->accepted, 30);
			assert_int_equal(k->content_bytes, kit_count(k, bench_accepted_bytes));
			assert_int_equal(k->content_bytes, 30 * 20480);
			assert_true(engine_idle(k->engine));
			kit_end(k);
		}
	}
}

/* Wherever a message ends, its last line is one. */
static void messages_of_every_size_are_lines(void **state)
{
	struct kit *k = kit_new(ARGUMENTS("--total", "400", "--messages", "0", "--sessions", "1",
					  "--size", "1-1000", "smtp://192.0.2.1"));

	kit_begin(k);
	for (uint32_t size = 0; size < 700; size++) {
		uint8_t whole[2048], part[2048];
		size_t n = content_fill(k->engine->content, size, size, 0, whole, sizeof(whole));
		assert_int_equal(n, content_bytes(k->engine->content, size, size));
		assert_memory_equal(whole + n - 5, "\r\n.\r\n", 5);
		for (size_t i = 1; i < n; i++)
			assert_true((whole[i] == '\n') == (whole[i - 1] == '\r'));
		/* the same in pieces */
		for (size_t at = 0; at < n; at += 37)
			content_fill(k->engine->content, size, size, at, part + at, 37);
		assert_memory_equal(whole, part, n);
	}
	kit_run(k, 3000000);
	assert_int_equal(kit_count(k, bench_accepted), 400);
	assert_int_equal(k->lone, 0);
	kit_end(k);
}

/* A server that stalls for a second is charged for what should have been sent meanwhile. */
static void open_loop_counts_from_the_arrival(void **state)
{
	struct kit *k = kit_new(ARGUMENTS("--rate", "100", "--arrivals", "even", "--messages", "0",
					  "--sessions", "1", "--size", "1K", "smtp://192.0.2.1"));

	kit_begin(k);
	kit_run(k, 2000000);
	uint64_t before = kit_count(k, bench_done);
	k->silent_until_us = k->shard.now_us + 1000000;
	kit_run(k, 3000000);
	assert_in_range(before, 190, 201);
	assert_in_range(kit_count(k, bench_done), 490, 501);
	const struct histogram *latency = &k->engine->times[TIME_LATENCY],
			       *service = &k->engine->times[TIME_SERVICE];
	/* a hundred of five hundred waited, half a second in the mean; only one was served late */
	assert_in_range(histogram_at(latency, 0.95), 600000, 850000);
	assert_in_range(histogram_at(latency, 1), 980000, 1020000);
	assert_in_range(histogram_at(service, 0.95), 0, 5000);
	kit_end(k);
}

static void poisson_arrivals_have_their_rate(void **state)
{
	struct kit *k = kit_new(ARGUMENTS("--rate", "2000", "--messages", "0", "--sessions", "20",
					  "--size", "1K", "smtp://192.0.2.1"));

	kit_begin(k);
	kit_run(k, 20000000);
	/* 40,000, five sigma */
	assert_in_range(kit_count(k, bench_arrived), 39000, 41000);
	kit_end(k);
}

struct refusal {
	const char *rcpt, *data, *verdict;
	enum bench_counter counter;
	bool reset;
};

static void refusals_are_counted_by_their_class(void **state)
{
	static const struct refusal refusals[] = {
		{"450 4.2.1 later", NULL, NULL, bench_deferred, true},
		{"550 5.1.1 nobody", NULL, NULL, bench_rejected, true},
		{NULL, "452 4.3.1 full", NULL, bench_deferred, true},
		{NULL, NULL, "552 5.3.4 too large", bench_rejected, false},
		{NULL, NULL, "451 4.3.0 disk", bench_deferred, false},
	};

	for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *f = &refusals[i];
		struct kit *k = kit_new(ARGUMENTS("--total", "6", "--messages", "3", "--sessions",
						  "1", "smtp://192.0.2.1"));
		k->refuse_rcpt = f->rcpt;
		k->refuse_data = f->data;
		k->verdict = f->verdict;
		kit_begin(k);
		kit_run(k, 1000000);
		assert_int_equal(kit_count(k, f->counter), 6);
		assert_int_equal(kit_count(k, bench_failed), 6);
		assert_int_equal(kit_count(k, bench_done), 0);
		assert_int_equal(k->rsets, f->reset ? 6 : 0);
		assert_int_equal(kit_count(k, bench_ended), 2);
		kit_end(k);
	}
}

static void a_broken_session_leaves_its_message_unknown(void **state)
{
	struct kit *k = kit_new(ARGUMENTS("--total", "5", "--messages", "0", "--sessions", "1",
					  "smtp://192.0.2.1"));

	k->drop_after = 2;
	kit_begin(k);
	kit_run(k, 1000000);
	/* two messages, then the connection breaks in the third, and so on */
	assert_int_equal(kit_count(k, bench_accepted) + kit_count(k, bench_unknown), 5);
	assert_int_equal(kit_count(k, bench_unknown), kit_count(k, bench_failed));
	assert_true(kit_count(k, bench_unknown) >= 1);
	assert_true(kit_count(k, bench_broken) >= 1);
	kit_end(k);
}

static void silence_ends_a_session(void **state)
{
	struct kit *k = kit_new(ARGUMENTS("--total", "1", "--timeout", "2s", "smtp://192.0.2.1"));

	kit_begin(k);
	k->silent_until_us = UINT64_MAX;
	kit_run(k, 1900000);
	assert_int_equal(kit_count(k, bench_timeouts), 0);
	kit_run(k, 2300000);
	assert_in_range(kit_count(k, bench_timeouts), 10, 20);
	assert_int_equal(kit_count(k, bench_done), 0);
	kit_end(k);
}

static void nonsense_in_place_of_replies_is_counted(void **state)
{
	static const char *const lines[] = {"hello",       "999 no",   "25x",
					    "250+strange", "\x01\xff", "199 low"};

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct kit *k = kit_new(ARGUMENTS("--total", "1", "--sessions", "1", "--ramp", "10",
						  "smtp://192.0.2.1"));
		k->greeting = lines[i];
		kit_begin(k);
		kit_run(k, 500000);
		assert_true(kit_count(k, bench_bad_replies) >= 1);
		assert_int_equal(kit_count(k, bench_logged_in), 0);
		kit_end(k);
	}
}

static void held_sessions_answer_their_noops(void **state)
{
	struct kit *k =
		kit_new(ARGUMENTS("--mode", "hold", "--noop", "1s", "--sessions", "20", "--resume",
				  "50%", "--opening", "2", "smtps://192.0.2.1"));

	kit_begin(k);
	kit_run(k, 10000000);
	assert_int_equal(engine_sessions(k->engine), 20);
	assert_int_equal(kit_count(k, bench_logged_in), 20);
	assert_in_range(kit_count(k, bench_noops), 180, 200);
	assert_true(k->resumptions > 0);
	engine_stop(k->engine);
	kit_run(k, 1000000);
	assert_true(engine_idle(k->engine));
	assert_int_equal(kit_count(k, bench_ended), 20);
	kit_end(k);
}

static void sessions_begin_at_the_ramp(void **state)
{
	struct kit *k = kit_new(ARGUMENTS("--mode", "hold", "--ramp", "10", "--sessions", "50",
					  "smtp://192.0.2.1"));

	kit_begin(k);
	kit_run(k, 2000000);
	assert_in_range(kit_count(k, bench_opened), 19, 22);
	kit_end(k);
}

static void scram_refuses_challenges_that_are_none(void **state)
{
	struct scram_client *x = scram_client_create("user", "pencil", 0, 0);
	char out[SCRAM_TEXT];

	assert_non_null(x);
	scram_client_first(x, out);
	/* n,,n=user,r=000... */
	assert_int_equal(strncmp(out, "biwsbj11c2VyLHI9MDAw", 20), 0);
	/* another's nonce, another form */
	assert_false(scram_client_next(x, "cj1mb28scz1ZUT09LGk9NDA5Ng==", 28, out));
	assert_false(scram_client_next(x, "????", 4, out));
	assert_false(scram_client_next(x, "", 0, out));
	scram_client_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histogram_keeps_every_value_within_a_64th),
		cmocka_unit_test(values_are_read_or_refused),
		cmocka_unit_test(options_that_contradict_each_other_are_refused),
		cmocka_unit_test(every_message_arrives_whole),
		cmocka_unit_test(messages_of_every_size_are_lines),
		cmocka_unit_test(open_loop_counts_from_the_arrival),
		cmocka_unit_test(poisson_arrivals_have_their_rate),
		cmocka_unit_test(refusals_are_counted_by_their_class),
		cmocka_unit_test(a_broken_session_leaves_its_message_unknown),
		cmocka_unit_test(silence_ends_a_session),
		cmocka_unit_test(nonsense_in_place_of_replies_is_counted),
		cmocka_unit_test(held_sessions_answer_their_noops),
		cmocka_unit_test(sessions_begin_at_the_ramp),
		cmocka_unit_test(scram_refuses_challenges_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
