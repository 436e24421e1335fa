/* test_tcp_congestion.c - how much may be in flight: RFC 5681, 6582, 3042, 3465, 6928, 9438 */
#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MS = 1000, SECOND = 1000000, MSS = SCRIPT_MSS };

static void plain(struct tcp_config *c)
{
	c->send_limit = 200000;
	c->congestion = TCP_CONGESTION_NEWRENO;
}

static void cubic(struct tcp_config *c)
{
	c->congestion = TCP_CONGESTION_CUBIC;
}

static void first_flight_is_ten_segments(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 100 * MSS);
	for (uint32_t i = 0; i < 10; i++)
		script_expect(x, S_ACK, 1 + i * MSS, 1, MSS);
	script_expect_nothing(x);
	script_destroy(x);
}

static void slow_start_adds_what_was_acknowledged_up_to_two_segments_an_ack(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 100 * MSS);
	script_take_all(x);
	script_in(x, S_ACK, 1, 1 + MSS, 0);
	assert_int_equal(script_take_all(x), 2);
	script_in(x, S_ACK, 1, 1 + 3 * MSS, 0);
	assert_int_equal(script_take_all(x), 4);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0); /* a stretch ACK: L = 2 (RFC 3465) */
	assert_int_equal(script_take_all(x), 9);
	script_destroy(x);
}

static void window_unused_is_window_not_grown(void **state)
{
	struct script *x = script_established(plain);
	uint32_t before = script_tcb(x)->cwnd;

	for (uint32_t i = 0; i < 20; i++) {
		script_write(x, 100);
		script_in(x, S_ACK, 1, 101 + i * 100, 0);
	}
	assert_int_equal(script_tcb(x)->cwnd, before);
	script_destroy(x);
}

static void third_duplicate_ack_sends_the_lost_segment_again(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 60 * MSS);
	script_take_all(x);
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_take_all(x), 1); /* limited transmit, RFC 3042 */
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_take_all(x), 1);
	script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_ACK, 1, 1, MSS);
	assert_int_equal(script_count(x, tcp_fast_retransmits), 1);
	script_destroy(x);
}

static void partial_ack_sends_the_next_hole_and_full_ack_ends_recovery(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 10 * MSS);
	script_take_all(x);
	for (unsigned i = 0; i < 3; i++)
		script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_ACK, 1, 1, MSS);
	script_in(x, S_ACK, 1, 1 + 4 * MSS, 0); /* segment 5 is lost too */
	script_expect(x, S_ACK, 1 + 4 * MSS, 1, MSS);
	assert_true((script_tcb(x)->flags & F_RECOVERY) != 0);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0);
	assert_true((script_tcb(x)->flags & F_RECOVERY) == 0);
	assert_true(script_tcb(x)->cwnd <= 5 * MSS);
	script_expect_nothing(x);
	script_destroy(x);
}

static void segment_sent_again_early_is_no_round_trip_sample(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 10 * MSS);
	uint32_t srtt = script_tcb(x)->srtt_us;
	script_advance(x, 50 * MS);
	for (unsigned i = 0; i < 3; i++)
		script_in(x, S_ACK, 1, 1, 0);
	script_advance(x, 50 * MS);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0);
	assert_int_equal(script_tcb(x)->srtt_us, srtt);
	script_destroy(x);
}

static void duplicate_acks_after_a_timeout_start_no_second_recovery(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 10 * MSS);
	script_take_all(x);
	script_advance(x, 200 * MS);
	script_expect(x, S_ACK, 1, 1, MSS);
	for (unsigned i = 0; i < 5; i++)
		script_in(x, S_ACK, 1, 1, 0);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_fast_retransmits), 0);
	script_destroy(x);
}

static void timeout_shrinks_to_one_segment_and_grows_again(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 10 * MSS);
	script_take_all(x);
	script_advance(x, 200 * MS);
	script_expect(x, S_ACK, 1, 1, MSS);
	script_in(x, S_ACK, 1, 1 + MSS, 0);
	script_expect(x, S_ACK, 1 + MSS, 1, MSS);
	script_expect(x, S_ACK, 1 + 2 * MSS, 1, MSS);
	script_expect_nothing(x);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0); /* the receiver had kept the rest */
	script_expect_nothing(x);
	assert_int_equal(stream_unacked(x->stream), 0);
	script_destroy(x);
}

static void long_silence_returns_cwnd_to_the_initial_window(void **state)
{
	struct script *x = script_established(plain);

	script_write(x, 40 * MSS);
	for (uint32_t acked = 0; acked < 40; acked += 2)
		script_in(x, S_ACK, 1, 1 + (acked + 2) * MSS, 0);
	assert_true(script_tcb(x)->cwnd > 20 * MSS);
	script_take_all(x);
	script_advance(x, 10 * SECOND);
	script_write(x, 40 * MSS);
	assert_int_equal(script_take_all(x), 10);
	script_destroy(x);
}

/* The window by RFC 9438 equation 1, in segments, t seconds after a loss at w_max segments */
static double cubic_window(double w_max, double after_loss, double t)
{
	double k = cbrt((w_max - after_loss) / 0.4);

	return 0.4 * pow(t - k, 3) + w_max;
}

/* One round trip of 100 ms: the whole window is acknowledged, two segments an ACK. */
static void round_trip(struct script *x, struct stream *s)
{
	uint32_t left = s->cwnd;

	x->shard.now_us += 100 * MS;
	while (left > 0) {
		uint32_t n = left < 2 * MSS ? left : 2 * MSS;
		x->tcp->congestion->grow(s, n);
		left -= n;
	}
}

static void cubic_grows_along_its_curve(void **state)
{
	struct script *x = script_established(cubic);
	struct stream *s = script_tcb(x);
	enum { W_MAX = 1000, AFTER = 700 };

	assert_non_null(stream_active(s));
	s->srtt_us = 100 * MS;
	s->cwnd = W_MAX * MSS;
	s->ssthresh = x->tcp->congestion->threshold(s, s->cwnd, false);
	assert_int_equal(s->ssthresh, AFTER * MSS);
	s->cwnd = s->ssthresh;
	for (unsigned rtt = 1; rtt <= 150; rtt++) {
		round_trip(x, s);
		/* the target is that of the next round trip; the epoch begins with the first ACK */
		double want = cubic_window(W_MAX, AFTER, (rtt - 1) * 0.1 + 0.1);
		double got = (double)s->cwnd / MSS;
		assert_true(fabs(got - want) < 0.02 * want);
	}
	script_destroy(x);
}

static void cubic_is_no_slower_than_reno_on_a_short_path(void **state)
{
	struct script *x = script_established(cubic);
	struct stream *s = script_tcb(x);

	assert_non_null(stream_active(s));
	s->srtt_us = 1 * MS;
	s->cwnd = 20 * MSS;
	s->ssthresh = s->cwnd = x->tcp->congestion->threshold(s, s->cwnd, false);
	for (unsigned rtt = 0; rtt < 40; rtt++) {
		x->shard.now_us += 1 * MS;
		x->tcp->congestion->grow(s, s->cwnd);
	}
	/* 14 + 9/17 a round trip up to 20, then 1 */
	assert_in_range(s->cwnd / MSS, 46, 49);
	script_destroy(x);
}

static void cubic_yields_when_it_loses_below_its_last_maximum(void **state)
{
	struct script *x = script_established(cubic);
	struct stream *s = script_tcb(x);

	assert_non_null(stream_active(s));
	s->cwnd = 100 * MSS;
	x->tcp->congestion->threshold(s, s->cwnd, false);
	assert_int_equal(s->active->cubic.w_max, 100 * MSS);
	s->cwnd = 80 * MSS;
	x->tcp->congestion->threshold(s, s->cwnd, false);
	assert_int_equal(s->active->cubic.w_max, 68 * MSS); /* 80 * (1 + 0.7) / 2 */
	x->tcp->congestion->threshold(s, s->cwnd, true);
	assert_int_equal(s->active->cubic.w_max, 0); /* a timeout: begin from where we are */
	script_destroy(x);
}

static void newreno_grows_by_one_segment_a_round_trip(void **state)
{
	struct script *x = script_established(plain);
	struct stream *s = script_tcb(x);

	assert_non_null(stream_active(s));
	s->ssthresh = s->cwnd = 20 * MSS;
	for (unsigned rtt = 0; rtt < 10; rtt++)
		round_trip(x, s);
	assert_in_range(s->cwnd / MSS, 29, 30);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_flight_is_ten_segments),
		cmocka_unit_test(slow_start_adds_what_was_acknowledged_up_to_two_segments_an_ack),
		cmocka_unit_test(window_unused_is_window_not_grown),
		cmocka_unit_test(third_duplicate_ack_sends_the_lost_segment_again),
		cmocka_unit_test(partial_ack_sends_the_next_hole_and_full_ack_ends_recovery),
		cmocka_unit_test(segment_sent_again_early_is_no_round_trip_sample),
		cmocka_unit_test(duplicate_acks_after_a_timeout_start_no_second_recovery),
		cmocka_unit_test(timeout_shrinks_to_one_segment_and_grows_again),
		cmocka_unit_test(long_silence_returns_cwnd_to_the_initial_window),
		cmocka_unit_test(newreno_grows_by_one_segment_a_round_trip),
		cmocka_unit_test(cubic_grows_along_its_curve),
		cmocka_unit_test(cubic_is_no_slower_than_reno_on_a_short_path),
		cmocka_unit_test(cubic_yields_when_it_loses_below_its_last_maximum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
