/* test_tcp_hystart.c - the end of slow start before the loss: RFC 9406 */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/net.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MS = 1000, SECOND = 1000000, MSS = 1460, ROUNDS = 5 };

static void with_sack(struct tcp_config *c)
{
	c->sack = c->window_scaling = true;
	c->send_limit = 1000000;
}

static void without(struct tcp_config *c)
{
	with_sack(c);
	c->hystart = false;
}

static struct script *established(void (*configure)(struct tcp_config *c), uint64_t rtt_us)
{
	static const struct tcp_options o = {
		.has_mss = true, .mss = MSS, .has_scale = true, .scale = 7, .sack_permitted = true};
	uint8_t options[OPTIONS_MAX_BYTES];
	size_t n = options_write_syn(options, &o, TCP_OPTIONS_LINUX);
	struct script *x = script_create(configure);

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, options, (unsigned)n, 0);
	script_flush(x);
	script_advance(x, rtt_us);
	script_in(x, S_ACK, 1, 1, 0);
	x->taken = x->n_out;
	return x;
}

/* All that is out is acknowledged segment by segment, so long after it was sent; how many
 * segments cwnd grew by. */
static uint32_t round_trip(struct script *x, uint64_t us)
{
	static const uint8_t data[1 << 16];
	struct stream *s = script_tcb(x);
	uint32_t before = s->cwnd;

	while (stream_unacked(x->stream) < 4u * s->cwnd)
		assert_true(stream_write(x->stream, data, sizeof(data), 0) > 0);
	script_flush(x);
	uint32_t una = s->snd_una - x->iss, end = s->snd_max - x->iss;
	script_advance(x, us);
	while (una != end) {
		una = end - una < MSS ? end : una + MSS;
		script_in(x, S_ACK, 1, una, 0);
	}
	return (s->cwnd - before) / MSS;
}

static void steady_round_trip_doubles_every_time(void **state)
{
	struct script *x = established(with_sack, 20 * MS);

	assert_int_equal(round_trip(x, 20 * MS), 10);
	assert_int_equal(round_trip(x, 20 * MS), 20);
	assert_int_equal(round_trip(x, 23 * MS), 40); /* less than 4 ms more: jitter */
	assert_int_equal(script_tcb(x)->ssthresh, UINT32_MAX);
	script_destroy(x);
}

static void grown_round_trip_slows_slow_start_to_a_quarter(void **state)
{
	struct script *x = established(with_sack, 20 * MS);

	round_trip(x, 20 * MS);
	round_trip(x, 20 * MS);
	/* A round in the sense of RFC 9406 begins a few segments before one of ours: some of the
	 * first 40 that are late belong to a round with others that were not. */
	assert_int_equal(round_trip(x, 24 * MS), 40);
	/* 80 segments: a few before the eighth sample, a quarter of the rest */
	assert_in_range(round_trip(x, 24 * MS), 80 / 4, 80 / 4 + 6);
	assert_in_range(round_trip(x, 24 * MS), 100 / 4, 100 / 4 + 2);
	assert_int_equal(script_tcb(x)->ssthresh, UINT32_MAX);
	script_destroy(x);
}

static void five_conservative_rounds_end_slow_start(void **state)
{
	struct script *x = established(with_sack, 20 * MS);

	round_trip(x, 20 * MS);
	for (unsigned i = 0; i < ROUNDS; i++) {
		assert_int_equal(script_tcb(x)->ssthresh, UINT32_MAX);
		round_trip(x, 24 * MS);
	}
	assert_true(script_tcb(x)->ssthresh <= script_tcb(x)->cwnd);
	assert_int_equal(script_count(x, tcp_slow_start_exits), 1);
	assert_in_range(round_trip(x, 24 * MS), 0, 2);
	script_destroy(x);
}

static void round_trip_that_falls_back_resumes_slow_start(void **state)
{
	struct script *x = established(with_sack, 20 * MS);

	round_trip(x, 20 * MS);
	round_trip(x, 24 * MS);
	assert_true(round_trip(x, 24 * MS) < 30);
	uint32_t cwnd = script_tcb(x)->cwnd / MSS;
	assert_true(round_trip(x, 20 * MS) > cwnd / 2);
	cwnd = script_tcb(x)->cwnd / MSS;
	assert_int_equal(round_trip(x, 20 * MS), cwnd);
	script_destroy(x);
}

static void long_paths_take_an_eighth_up_to_16_ms(void **state)
{
	static const struct {
		uint64_t before_ms, after_ms;
		bool slows;
	} cases[] = {{80, 89, false}, {80, 90, true}, {400, 415, false}, {400, 416, true}};

	for (unsigned i = 0; i < 4; i++) {
		struct script *x = established(with_sack, cases[i].before_ms * MS);

		round_trip(x, cases[i].before_ms * MS);
		round_trip(x, cases[i].after_ms * MS);
		assert_int_equal(round_trip(x, cases[i].after_ms * MS) < 30, cases[i].slows);
		script_destroy(x);
	}
}

static void switched_off_it_changes_nothing(void **state)
{
	struct script *x = established(without, 20 * MS);

	round_trip(x, 20 * MS);
	round_trip(x, 20 * MS);
	assert_int_equal(round_trip(x, 60 * MS), 40);
	script_destroy(x);
}

struct transfer {
	uint32_t to_write, received;
};

static void pump(struct stream *s, void *user)
{
	static const uint8_t data[4096];
	struct transfer *f = user;
	size_t n;

	do {
		n = f->to_write < sizeof(data) ? f->to_write : sizeof(data);
		n = stream_write(s, data, n, 0);
		f->to_write -= (uint32_t)n;
	} while (n > 0);
}

static void ignore(struct stream *s, void *user)
{
}

static void take(struct stream *s, void *user)
{
	((struct transfer *)user)->received += (uint32_t)stream_readable(s);
	stream_consume(s, stream_readable(s));
}

static void ended(struct stream *s, void *user, enum stream_end why)
{
	fail_msg("connection lost");
}

/* Segments sent again by a transfer over a link of 20 Mbit/s, 40 ms and a queue of 400 packets. */
static uint64_t resent(bool hystart)
{
	static const struct stream_events client = {pump, take, pump, ended};
	static const struct stream_events server = {ignore, take, ignore, ended};
	struct transfer f = {.to_write = 1500000};
	struct net_options o;
	int err;

	net_options_default(&o);
	o.conditions = (struct net_conditions){
		.delay_us = 20000, .bits_per_s = 20000000, .queue_packets = 400};
	o.config[0].hystart = hystart;
	o.config[0].send_limit = o.config[1].receive_limit = 1000000;
	struct net *n = net_create(&o);
	struct ip_addr from = net_addr(n, 0), to = net_addr(n, 1);
	tcp_listen(net_tcp(n, 1), &(struct tcp_listen){.port = 25, .events = &server, .user = &f});
	assert_non_null(stream_connect(net_tcp(n, 0), &from, &to, 25, &client, &f, &err));
	net_run(n, 3 * SECOND);
	assert_int_equal(f.received, 1500000);
	uint64_t again = tcp_counters(net_tcp(n, 0))[tcp_retransmits];
	net_destroy(n);
	return again;
}

static void queue_of_the_path_does_not_overflow(void **state)
{
	assert_int_equal(resent(true), 0);
	assert_true(resent(false) > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steady_round_trip_doubles_every_time),
		cmocka_unit_test(grown_round_trip_slows_slow_start_to_a_quarter),
		cmocka_unit_test(five_conservative_rounds_end_slow_start),
		cmocka_unit_test(round_trip_that_falls_back_resumes_slow_start),
		cmocka_unit_test(long_paths_take_an_eighth_up_to_16_ms),
		cmocka_unit_test(switched_off_it_changes_nothing),
		cmocka_unit_test(queue_of_the_path_does_not_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
