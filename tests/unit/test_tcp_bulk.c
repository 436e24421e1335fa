/* test_tcp_bulk.c - whole transfers over one bottleneck: how long they take, and what was sent
 * in vain.  20 Mbit/s, 10 ms one way, 2 MB: 0.8 s at least. */
#include "dataplane/tcp/tcp.h"
#include "tests/sim/pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SECOND = 1000000, SIZE = 2000000, WINDOW = 4 << 20, SEEDS = 20, FULL_RATE_MS = 850 };

struct bulk {
	struct pair *pair;
	struct stream *sender;
	size_t written, received;
	uint64_t began_us;
};

struct result {
	uint32_t ms, retransmits, timeouts;
};

static void pump(struct bulk *b)
{
	static const uint8_t zeros[65536];

	while (b->written < SIZE) {
		size_t n = SIZE - b->written < sizeof(zeros) ? SIZE - b->written : sizeof(zeros);
		size_t took = stream_write(b->sender, zeros, n, 0);
		b->written += took;
		if (took < n)
			return;
	}
}

static void opened(struct stream *s, void *user)
{
	struct bulk *b = user;

	stream_set_send_limit(s, WINDOW);
	b->sender = s;
	pump(b);
}

static void accepted(struct stream *s, void *user)
{
	stream_set_receive_limit(s, WINDOW);
	stream_set_user(s, user);
}

static void arrived(struct stream *s, void *user)
{
	struct bulk *b = user;
	const uint8_t *p;
	size_t n;

	while ((n = stream_peek(s, &p)) > 0) {
		stream_consume(s, n);
		b->received += n;
	}
}

static void nothing_read(struct stream *s, void *user)
{
}

static void writable(struct stream *s, void *user)
{
	pump(user);
}

static void closed(struct stream *s, void *user, enum stream_end why)
{
	fail_msg("the transfer was cut off");
}

static const struct stream_events sender_events = {opened, nothing_read, writable, closed};
static const struct stream_events receiver_events = {accepted, arrived, writable, closed};

static bool complete(void *arg)
{
	return ((struct bulk *)arg)->received == SIZE;
}

static struct result transfer(const struct net_conditions *c, bool hystart, uint64_t seed)
{
	struct net_options o;
	struct bulk b = {0};

	net_options_default(&o);
	o.seed = seed;
	o.conditions = *c;
	o.chunk_bytes = 16 << 20;
	for (unsigned i = 0; i < 2; i++) {
		o.config[i].hystart = hystart;
		o.config[i].receive_limit = 1 << 20;
		o.config[i].receive_limit_max = WINDOW;
	}
	b.pair = pair_create(&o);
	b.began_us = net_now(pair_net(b.pair));
	assert_int_equal(tcp_listen(pair_tcp(b.pair, 1),
				    &(struct tcp_listen){
					    .port = 25, .events = &receiver_events, .user = &b}),
			 0);
	assert_non_null(pair_connect(b.pair, 0, 25, &sender_events, &b));
	assert_true(pair_run_until(b.pair, complete, &b, 60ull * SECOND));
	const uint64_t *n = tcp_counters(pair_tcp(b.pair, 0));
	struct result r = {
		.ms = (uint32_t)((net_now(pair_net(b.pair)) - b.began_us) / 1000),
		.retransmits = (uint32_t)n[tcp_retransmits],
		.timeouts = (uint32_t)n[tcp_timeouts],
	};
	pair_destroy(b.pair);
	return r;
}

static struct result worst(const struct net_conditions *c, bool hystart)
{
	struct result most = {0};

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct result r = transfer(c, hystart, seed);
		print_message("# seed %llu: %u ms, %u retransmitted, %u timeouts\n",
			      (unsigned long long)seed, r.ms, r.retransmits, r.timeouts);
		most.ms = r.ms > most.ms ? r.ms : most.ms;
		most.retransmits =
			r.retransmits > most.retransmits ? r.retransmits : most.retransmits;
		most.timeouts = r.timeouts > most.timeouts ? r.timeouts : most.timeouts;
	}
	return most;
}

#define BOTTLENECK .delay_us = 10000, .bits_per_s = 20000000

static void train_of_acks_ends_slow_start_before_the_queue_is_full(void **state)
{
	static const struct net_conditions c = {BOTTLENECK, .queue_packets = 66};
	struct result r = worst(&c, true);

	assert_int_equal(r.retransmits, 0);
	assert_in_range(r.ms, 800, FULL_RATE_MS * 11 / 10);
}

/* Slow start overshoots by a whole window: every second segment is lost for a round trip, and
 * some of the retransmissions are. */
static void full_queue_costs_no_timeout(void **state)
{
	static const struct net_conditions c = {BOTTLENECK, .queue_packets = 66};
	struct result r = worst(&c, false);

	assert_int_equal(r.timeouts, 0);
	assert_in_range(r.ms, 800, FULL_RATE_MS * 11 / 10);
}

static void shallow_queue_costs_little(void **state)
{
	static const struct net_conditions c = {BOTTLENECK, .queue_packets = 10};
	struct result r = worst(&c, true);

	assert_int_equal(r.timeouts, 0);
	assert_in_range(r.ms, 800, FULL_RATE_MS * 14 / 10);
}

static void duplicates_cost_nothing(void **state)
{
	static const struct net_conditions c = {BOTTLENECK, .queue_packets = 133, .duplicate = 200};
	struct result r = worst(&c, true);

	assert_int_equal(r.timeouts, 0);
	assert_in_range(r.ms, 800, FULL_RATE_MS * 11 / 10);
}

static void reordering_costs_little(void **state)
{
	static const struct net_conditions c = {BOTTLENECK, .queue_packets = 133, .reorder = 200,
						.reorder_us = 4000};
	struct result r = worst(&c, true);

	assert_int_equal(r.timeouts, 0);
	assert_in_range(r.ms, 800, FULL_RATE_MS * 12 / 10);
}

static void bursts_of_losses_cost_no_timeout(void **state)
{
	static const struct net_conditions c = {BOTTLENECK, .queue_packets = 133, .burst_start = 15,
						.burst_packets = 4};
	struct result r = worst(&c, true);

	assert_in_range(r.timeouts, 0, 1);
	assert_in_range(r.ms, 800, FULL_RATE_MS * 20 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(train_of_acks_ends_slow_start_before_the_queue_is_full),
		cmocka_unit_test(full_queue_costs_no_timeout),
		cmocka_unit_test(shallow_queue_costs_little),
		cmocka_unit_test(duplicates_cost_nothing),
		cmocka_unit_test(reordering_costs_little),
		cmocka_unit_test(bursts_of_losses_cost_no_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
